"""Small versions of published caption files: Flickr8k in both formats, Flickr30k, COCO, Flickr8k-CN."""

import json
from pathlib import Path

import pytest
from PIL import Image

from clipedu.data.captions import import_captions, read_captions
from clipedu.data.records import read_records
from clipedu.ground.errors import ClipEduError

NAMES = [f"100{k}_ab{k}" for k in range(1, 5)]
FILES = {
    "captions.txt": "image,caption\n"
    "1001_ab1.jpg,A child in a pink dress , climbing stairs .\n"
    '1001_ab1.jpg,"A girl, ""small"", on stairs ."\n'
    "1002_ab2.jpg,A black dog and a spotted dog .\n",
    "Flickr8k.token.txt": "1001_ab1.jpg#0\tA child in a pink dress , climbing stairs .\n"
    '1001_ab1.jpg#1\tA girl, "small", on stairs .\n'
    "1002_ab2.jpg#0\tA black dog and a spotted dog .\n",
    "results.csv": "image_name| comment_number| comment\n"
    "1001_ab1.jpg| 0| A child in a pink dress , climbing stairs .\n"
    '1001_ab1.jpg| 1| A girl, "small", on stairs .\n'
    "1002_ab2.jpg| 4   A black dog and a spotted dog .\n",  # the published file contains such a line
    "captions_val2017.json": json.dumps(
        {
            "images": [{"id": 7, "file_name": "1001_ab1.jpg"}, {"id": 9, "file_name": "1002_ab2.jpg"}],
            "annotations": [
                {"image_id": 7, "id": 1, "caption": "A child in a pink dress , climbing stairs ."},
                {"image_id": 9, "id": 2, "caption": "A black dog and a spotted dog .\n"},
                {"image_id": 7, "id": 3, "caption": 'A girl, "small", on stairs .'},
            ],
        }
    ),
}
CHINESE = "1001_ab1.jpg#zhc#0 一个穿粉色连衣裙的小女孩。\n1001_ab1.jpg#zhc#1\t女孩在爬楼梯\n1002_ab2.jpg#zhc#0 两只狗\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in NAMES:
        Image.new("RGB", (8, 8)).save(tmp_path / f"images/{name}.jpg")
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "zh.txt").write_text(CHINESE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_captions(folder: Path, name: str) -> None:
    assert read_captions(folder / name) == {
        "1001_ab1.jpg": ["A child in a pink dress , climbing stairs .", 'A girl, "small", on stairs .'],
        "1002_ab2.jpg": ["A black dog and a spotted dog ."],
    }


def test_chinese_format(folder: Path) -> None:
    assert read_captions(folder / "zh.txt") == {
        "1001_ab1.jpg": ["一个穿粉色连衣裙的小女孩。", "女孩在爬楼梯"],
        "1002_ab2.jpg": ["两只狗"],
    }
    (folder / "noext.txt").write_text("1001_ab1#zhc#0 两只狗\n", encoding="utf-8")
    assert read_captions(folder / "noext.txt") == {"1001_ab1.jpg": ["两只狗"]}


def test_import_makes_a_dataset(folder: Path) -> None:
    (folder / "val.txt").write_text("1002_ab2.jpg\n")
    (folder / "train.txt").write_text("1001_ab1.jpg\n")
    splits = [("train", folder / "train.txt"), ("val", folder / "val.txt")]
    assert import_captions(folder, folder / "captions.txt", folder / "zh.txt", splits) == (2, 0)
    records = read_records(folder)
    assert [record.split for record in records] == ["train", "val"]
    assert records[0].captions["zh"] == ["一个穿粉色连衣裙的小女孩。", "女孩在爬楼梯"]
    with pytest.raises(ClipEduError, match="exists"):
        import_captions(folder, folder / "captions.txt", None)


def test_without_splits_every_tenth_picture_is_for_validation(folder: Path) -> None:
    lines = "".join(f"p{k}.jpg#0\ta dog\n" for k in range(20))
    (folder / "many.txt").write_text(lines)
    for k in range(19):
        Image.new("RGB", (8, 8)).save(folder / f"images/p{k}.jpg")
    assert import_captions(folder, folder / "many.txt", None) == (19, 1)
    assert [record.split for record in read_records(folder)].count("val") == 1
