"""Caption files as people have them: each form, encoding and way to name pictures gives right records or is refused.

Pictures are empty files here: importing looks at their names only.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipedu.commands.main import main
from clipedu.data.captions import read_captions
from clipedu.data.importing import ImportReport, import_captions
from clipedu.ground.errors import ClipEduError, DatasetError

Content = str | bytes


def write(folder: Path, contents: dict[str, Content]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def with_pictures(folder: Path, *names: str) -> Path:
    return write(folder, dict.fromkeys(names, b""))


def records(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))


RED = ["A ball , red .", 'A "red" ball']
BLUE = ["A blue ball"]
ITEMS = [{"image": "1.jpg", "caption": RED}, {"image": "2.jpg", "caption": BLUE[0]}]
COCO = {
    "images": [{"id": 7, "file_name": "1.jpg"}, {"id": 9, "file_name": "2.jpg"}],
    "annotations": [
        {"image_id": 7, "id": 1, "caption": RED[0]},
        {"image_id": 9, "id": 2, "caption": f"{BLUE[0]}\n"},
        {"image_id": 7, "id": 3, "caption": RED[1]},
    ],
}
KARPATHY = {
    "images": [
        {"filename": "1.jpg", "filepath": "val2014", "sentences": [{"raw": text} for text in RED], "split": "restval"},
        {"filename": "2.jpg", "sentences": [{"raw": BLUE[0], "tokens": []}], "split": "train"},
    ]
}
FORMS: dict[str, Content] = {
    "Flickr8k": 'image,caption\n1.jpg,"A ball , red ."\n1.jpg,"A ""red"" ball"\n2.jpg,A blue ball\n',
    "not quoted": 'image,caption\n1.jpg,A ball , red .\n1.jpg,A "red" ball\n2.jpg,A blue ball,\n',
    "no heading": '1.jpg,A ball , red .\n1.jpg,A "red" ball\n2.jpg,A blue ball\n',
    "token": '1.jpg#0\tA ball , red .\n1.jpg#1\tA "red" ball\n2.jpg#0\tA blue ball\n',
    "token without endings": '1#zhc#0 A ball , red .\n1#zhc#1\tA "red" ball\n2#zhm#0 A blue ball\n',
    "Flickr30k": "image_name| comment_number| comment\n1.jpg| 0| A ball , red .\n"
    '1.jpg| 1| A "red" ball\n2.jpg| 4   A blue ball\n',  # the published file has such a line
    "Flickr30k with commas": "image_name,comment_number,comment\n1.jpg,0, A ball , red .\n"
    '1.jpg,1,"A ""red"" ball"\n2.jpg,4   A blue ball\n',
    "number and id": 'image,caption_number,caption,id\n1.jpg,0,A ball , red .,0\n1.jpg,1,A "red" ball,0\n'
    "2.jpg,0,A blue ball,1\n",
    "pandas index": ',image,caption\n0,1.jpg,"A ball , red ."\n1,1.jpg,"A ""red"" ball"\n2,2.jpg,A blue ball\n',
    "open_clip": 'title\tfilepath\nA ball , red .\t1.jpg\n"A ""red"" ball"\t1.jpg\nA blue ball\t2.jpg\n',
    "Excel": '\ufeffFile Name ;Caption\r\n1.jpg;A ball , red .\r\n1.jpg;"A ""red"" ball"\r\n2.jpg;"A blue\r\nball"\r\n',
    "wide": 'file_name,caption_0,caption_1\n1.jpg,"A ball , red .","A ""red"" ball"\n2.jpg,A blue ball\n',
    "two languages": '图片,说明_zh,caption_en\n1.jpg,,"A ball , red ."\n1.jpg,球,A "red" ball\n2.jpg,球,A blue ball\n',
    "list in a cell": '图片名|文本\n1.jpg|"[\'A ball , red .\', \'A ""red"" ball\']"\n2.jpg|[\'A blue ball\']\n',
    "records": json.dumps(ITEMS),
    "JSON lines": "\n".join(map(json.dumps, ITEMS)),
    "mapping": json.dumps({"1.jpg": RED, "2.jpg": BLUE[0]}),
    "dataset.json": json.dumps(
        [{"image_path": "images/1.jpg", "text": RED, "text_zh": "球"}, {"image_path": "images/2.jpg", "text": BLUE}]
    ),
    "COCO": json.dumps(COCO),
    "Karpathy": json.dumps(KARPATHY),
    "UTF-16": 'image,caption\n1.jpg,"A ball , red ."\n1.jpg,A "red" ball\n2.jpg,A blue ball\n'.encode("utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_records(tmp_path: Path, content: Content) -> None:
    write(with_pictures(tmp_path, "images/1.jpg", "images/2.jpg"), {"captions": content})
    import_captions(tmp_path, [tmp_path / "captions"])
    assert records(tmp_path) == [
        {"image_path": "images/1.jpg", "text": RED, "split": "train"},
        {"image_path": "images/2.jpg", "text": BLUE, "split": "train"},
    ]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("image,number,id\n1.jpg,0,1\n", "'number', 'id'"),
        ("1.jpg,0,A ball\n", "heading"),
        ('image,caption\n1.jpg,A ball\n2.jpg,"A ball\n3.jpg,A ball\n', "line 3"),
        ('image,caption\n1.jpg,"A ball\n2.jpg,"A ball"\n3.jpg,A ball\n', "line 2"),
        ('image,caption\n1.jpg,"A ball\n2.jpg,A 5"\n', "line 2"),
        (
            '{"text_id": 1, "text": "球", "image_ids": [0]}\n{"text_id": 2, "text": "球", "image_ids": [1]}',
            "Chinese-CLIP",
        ),
        (json.dumps({**COCO, "annotations": [{"image_id": 7, "bbox": []}]}), "has no captions"),
        ('[{"image": "1.jpg", "conversations": []}]', "'conversations'"),
        ('[{"image": "1.jpg", "caption": 5}]', "record 0"),
        ('{"image": "1.jpg", "text": "ball"}\n{"image": "2.j', "line 2"),
        ("image,caption\n1.jpg,赤い玉\n".encode("shift_jis"), "save it as UTF-8"),
        ("image,caption\n1.jpg,café\n2.jpg,piñata".encode() + b"\n3.jpg,\xe9t", "line 4 .* save it as UTF-8"),
        ("", "empty"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, content: Content, word: str) -> None:
    write(with_pictures(tmp_path, "1.jpg", "2.jpg", "3.jpg"), {"captions": content})
    with pytest.raises(DatasetError, match=word):
        import_captions(tmp_path, [tmp_path / "captions"])
    assert not (tmp_path / "dataset.json").exists()


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        ("一只棕色的狗在草地上奔跑。", "gbk", "GB18030"),
        ("两只狗", "gbk", "GB18030"),
        ("Élève à la fenêtre, déjà âgée", "cp1252", "Windows-1252"),
        ("Ein Mädchen fährt über die Straße", "cp1252", "Windows-1252"),
    ],
)
def test_other_encodings_are_read_and_named(tmp_path: Path, text: str, encoding: str, name: str) -> None:
    write(tmp_path, {"captions": f"image;caption\n1.jpg;{text}\n".encode(encoding)})
    file = read_captions(tmp_path / "captions")
    assert (file.rows[0].captions, file.encoding) == ([text], name)


@given(st.lists(st.tuples(st.text("ab,|;\t \"'\n\r球é", min_size=1).map(lambda text: f"{text}a")), min_size=1),
       st.sampled_from(",;\t|"), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))  # fmt: skip
def test_what_csv_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, captions: list[tuple[str]], delimiter: str, quoting: Any
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)
    writer.writerows([("image", "caption", "id"), *((f"{i}.jpg", text, i) for i, (text,) in enumerate(captions))])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(stream.getvalue().encode())
    words = [row.captions[0].split() for row in read_captions(path).rows]
    assert words == [text.split() for (text,) in captions]


@pytest.mark.parametrize(
    ("name", "pictures", "found"),
    [
        ("1.jpg", ["Images/1.jpg"], "Images/1.jpg"),
        ("1", ["images/1.png"], "images/1.png"),
        ("1.a", ["images/1.a.png"], "images/1.a.png"),
        ("1.JPEG", ["images/1.jpg"], "images/1.jpg"),
        ("1.png", ["images/1.jpg"], None),
        ("C:\\me\\Photos\\1.jpg", ["images/1.jpg"], "images/1.jpg"),
        ("/home/me/cats/1.jpg", ["images/cats/1.jpg", "images/dogs/1.jpg"], "images/cats/1.jpg"),
        ("./1.jpg", ["images/1.jpg", "images/thumbs/1.jpg"], "images/1.jpg"),
        ("a.jpg", ["images/a.jpg", "images/A.jpg"], "images/a.jpg"),
        ("1.jpg", ["cats/1.jpg", "dogs/1.jpg"], None),
        ("dogs/1.jpg", ["cats/1.jpg", "dogs/2.jpg"], None),
    ],
)
def test_names_of_pictures(tmp_path: Path, name: str, pictures: list[str], found: str | None) -> None:
    write(
        with_pictures(tmp_path, *pictures, "z/sure.jpg"), {"captions.csv": f"image,caption\n{name},ball\nsure,ball\n"}
    )
    report = import_captions(tmp_path, [tmp_path / "captions.csv"])
    assert [record["image_path"] for record in records(tmp_path)] == [*([found] if found else []), "z/sure.jpg"]
    assert found or name in {name for names in report.left_out.values() for name in names}


def test_everything_is_used_or_left_out_by_reason(tmp_path: Path) -> None:
    with_pictures(tmp_path, "images/1.jpg", "images/2.jpg", "images/cats/3.jpg", "images/dogs/3.jpg", "images/5.jpg")
    rows = [
        "1.jpg,A ball,x",
        "IMAGES\\1.JPG,A box,x",
        "a/2.jpg,A cat,x",
        "b/2.jpg,A dog,x",
        "3.jpg,ball,x",
        "4.jpg,b,x",
    ]
    rows += ["5.jpg,nan,x", "5.jpg,🎉,x", "5.jpg", ",ball,x"]
    write(tmp_path, {"captions.csv": "\n".join(["image,caption,source", *rows])})
    report = import_captions(tmp_path, [tmp_path / "captions.csv"])
    assert records(tmp_path) == [{"image_path": "images/1.jpg", "text": ["A ball", "A box"], "split": "train"}]
    of_pictures = {reason: names for reason, names in report.left_out.items() if "pictures without" in reason}
    assert sum(map(len, of_pictures.values())) == 4
    assert report.captions + sum(map(len, report.left_out.values())) - 4 == len(rows)
    assert "source" in report.notes[0]


def splits(folder: Path) -> str:
    return " ".join(record["split"] for record in records(folder))


def imported(folder: Path, *files: str, **lists: str) -> ImportReport:
    return import_captions(folder, [folder / name for name in files], (), [(k, folder / v) for k, v in lists.items()])


def test_splits(tmp_path: Path) -> None:
    with_pictures(tmp_path, *(f"images/{number}.jpg" for number in range(20)))
    tokens = [f"{number}.jpg#0\ta ball\n" for number in range(20)]
    files = {"t_train2017.txt": tokens[0], "t_val2017.txt": tokens[1], "all.txt": "".join(tokens), "one": "1.jpg\n0\n"}
    write(tmp_path, {**files, "s.csv": "image,text,Split\n0.jpg,ball,Dev\n1.jpg,ball,\n", "two": "images/1.jpg"})
    for names, lists, expected in [
        (["all.txt"], {}, " ".join([*["train"] * 9, "val"] * 2)),
        (["t_val2017.txt"], {}, "train"),
        (["t_train2017.txt", "t_val2017.txt"], {}, "train val"),
        (["s.csv"], {}, "val train"),
        (["s.csv"], {"test": "two"}, "test"),
    ]:
        imported(tmp_path, *names, **lists)
        assert splits(tmp_path) == expected
        with pytest.raises(ClipEduError, match="exists"):
            imported(tmp_path, *names, **lists)
        (tmp_path / "dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"1\.jpg is in both train and val"):
        imported(tmp_path, "all.txt", train="one", val="two")


def test_texts_beside_pictures_in_both_languages(tmp_path: Path) -> None:
    with_pictures(tmp_path, "images/a/1.jpg", "images/2.png")
    write(tmp_path, {"images/a/1.txt": "A ball\n\nA box\n", "images/2.txt": "A cat", "zh/1.txt": "球".encode("gbk")})
    report = import_captions(tmp_path, [tmp_path / "images"], [tmp_path / "zh"])
    assert [record.get("text_zh") for record in records(tmp_path)] == [None, ["球"]]
    assert records(tmp_path)[1]["text"] == ["A ball", "A box"]
    assert "GB18030" in report.notes[0]


def test_class_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_pictures(tmp_path, "images/train/T-shirt_red/1.jpg", "images/val/猫/1.jpg", "images/train/1.jpg", "2.jpg")
    assert main(["import-captions", "--out", str(tmp_path), "--class-folders"]) == 0
    shirt, cat = records(tmp_path)
    assert (shirt["label"], shirt["text"], shirt["split"]) == (
        "T shirt red", ["T shirt red", "a photo of a T shirt red"], "train"
    )  # fmt: skip
    assert (cat["label_zh"], cat["text_zh"], cat["split"]) == ("猫", ["猫", "一张猫的照片"], "val")
    assert "left out: 2  不在类别文件夹里" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [
        (("data/train/cat/1.jpg", "data/验证集/dog/1.jpg"), [("cat", "train"), ("dog", "val")]),
        (("animals/cat/1.jpg", "animals/dog/1.jpg"), [("cat", "train"), ("dog", "train")]),
        (("train/1.jpg", "car/1.jpg"), [("car", "train"), ("train", "train")]),  # vehicles
    ],
)
def test_folders_around_classes(tmp_path: Path, pictures: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    with_pictures(tmp_path, *pictures)
    import_captions(tmp_path, class_folders=True)
    assert [(record["label"], record["split"]) for record in records(tmp_path)] == expected


@pytest.mark.parametrize(
    ("pictures", "table", "expected"),
    [
        # A folder that is not here, in a table that gives others as they are here, means another picture.
        (
            ("dogs/0.jpg", "dogs/1.jpg"),
            "image,caption\ncats/0.jpg,a cat\ndogs/1.jpg,a dog\n",
            {"dogs/1.jpg": ["a dog"]},
        ),
        (
            ("a.jpg", "b.jpg"),
            "image,caption,split,label\na.jpg,a dog, brown,,\nb.jpg,a cat,val,\n",
            {"b.jpg": ["a cat"]},
        ),
        (("a.jpg", "b.jpg"), "image,caption\nb,2.jpg,y dog\nb.jpg,a cat\n", {"b.jpg": ["a cat"]}),
        (("a.jpg",), "image,captions\na.jpg,\"['A dog' 'A cat', nan]\"\n", {"a.jpg": ["A dog", "A cat"]}),
        (("a.jpg",), "sep=;\nimage;caption\na.jpg;A dog\n", {"a.jpg": ["A dog"]}),
        (
            ("x/0.jpg", "x/1.jpg"),
            "image,caption\nx/0.jpg,one\n/home/me/x/1.jpg,two\n",
            {"x/0.jpg": ["one"], "x/1.jpg": ["two"]},
        ),
    ],
)
def test_what_is_not_certain_is_left_out_and_named(
    tmp_path: Path, pictures: tuple[str, ...], table: str, expected: dict[str, list[str]]
) -> None:
    with_pictures(tmp_path, *pictures)
    write(tmp_path, {"captions.csv": table})
    report = import_captions(tmp_path, [tmp_path / "captions.csv"])
    assert {record["image_path"]: record["text"] for record in records(tmp_path)} == expected
    lines = len(table.replace("sep=;\n", "").splitlines()) - 1
    empty = sum("nan" in line for line in table.splitlines())
    named = [name for reason, names in report.left_out.items() if "without a caption" not in reason for name in names]
    assert len(named) == lines - len(expected) + empty


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('image,caption\na,"a dog\nb,a cat\nc,the 5" ruler\n', "line 2"),  # a quote that swallows rows without endings
        ("a.jpg,a dog,train\nb.jpg,a cat,val\na.jpg,x\n", "heading is missing"),
        ('{"a.jpg": "one dog", "a.jpg": "two dogs"}', "occurs twice"),
        ("image,caption\na.jpg,a dog\n".encode("utf-16-le"), "save it as UTF-8"),
    ],
)
def test_files_that_would_lose_rows_are_refused(tmp_path: Path, content: str | bytes, words: str) -> None:
    with_pictures(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path, {"captions": content})
    with pytest.raises(DatasetError, match=words):
        import_captions(tmp_path, [tmp_path / "captions"])


def test_two_languages_never_meet_in_a_picture_of_neither(tmp_path: Path) -> None:
    with_pictures(tmp_path, "images/0.jpg", "images/1.jpg")
    write(
        tmp_path, {"en.csv": "image,caption\ncats/0.jpg,a cat\n1.jpg,one\n", "zh.csv": "image,caption\ndogs/0.jpg,狗\n"}
    )
    import_captions(tmp_path, [tmp_path / "en.csv"], [tmp_path / "zh.csv"])
    assert [record["image_path"] for record in records(tmp_path)] == ["images/1.jpg"]
    write(tmp_path / "two", {"both.csv": "image,caption,说明\n0.jpg,a dog,一只狗\n"})
    with_pictures(tmp_path / "two", "0.jpg")
    import_captions(tmp_path / "two", [tmp_path / "two/both.csv"], [tmp_path / "two/both.csv"])
    (record,) = records(tmp_path / "two")
    assert (record["text"], record["text_zh"]) == (["a dog"], ["一只狗"])


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    with_pictures(tmp_path, "store/1.jpg", "data/2.jpg")
    write(tmp_path, {"captions.csv": "image,caption,class\n1.jpg,ball,ball\n2.jpg,box,box\n"})
    (tmp_path / "data/images").symlink_to(tmp_path / "store")
    with pytest.raises(DatasetError, match="link to"):
        import_captions(tmp_path / "data", [tmp_path / "captions.csv"])
    import_captions(tmp_path, [tmp_path / "captions.csv"])
    assert [record["label"] for record in records(tmp_path)] == ["ball", "box"]
