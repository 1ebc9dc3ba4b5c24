"""Reading dataset.json and pictures: valid input, and all errors in one bilingual report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipedu import ImageTextDataset, SimpleTokenizer
from clipedu.data.dataset import caption_ids
from clipedu.data.loading import Pictures, epoch_batches, image_batches, in_order, open_pictures
from clipedu.data.pictures import load_image, load_pixels
from clipedu.data.records import read_records, unused_fields
from clipedu.ground.errors import DatasetError, MissingSplitError


def write(folder: Path, records: Any) -> Path:
    text = records if isinstance(records, str) else json.dumps(records, ensure_ascii=False)
    (folder / "dataset.json").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"images/{name}.png")
    return tmp_path


def report(folder: Path, records: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        read_records(write(folder, records))
    assert "|" in str(caught.value), "one line in each language"
    return str(caught.value)


GOOD = {"image_path": "images/a.png", "text": "a red square"}


def test_fields_of_a_record(folder: Path) -> None:
    records = read_records(
        write(
            folder,
            [
                GOOD,
                {"image_path": "images/b.png", "text": ["one", "two"], "text_zh": "红", "split": "val", "label": "x"},
            ],
        )
    )
    assert records[0].captions == {"en": ["a red square"], "zh": []}
    assert records[1].captions == {"en": ["one", "two"], "zh": ["红"]}
    assert records[1].texts("both") == ["one", "two", "红"]
    assert (records[0].split, records[1].split, records[1].labels) == ("train", "val", {"en": "x"})


def test_absolute_path_of_another_machine_is_found_by_its_name(folder: Path) -> None:
    for path in ("/home/someone/else/images/a.png", "C:\\photos\\a.png", "images\\a.png"):
        assert read_records(write(folder, [GOOD | {"image_path": path}]))[0].image_path.name == "a.png"


def test_other_machines_paths_keep_their_folders(folder: Path) -> None:
    for name in ("cats", "dogs"):
        (folder / "images" / name).mkdir()
        Image.new("RGB", (8, 8)).save(folder / f"images/{name}/0.png")
    paths = [f"D:\\photos\\{name}\\0.png" for name in ("cats", "dogs")]
    records = read_records(write(folder, [GOOD | {"image_path": path, "text": path} for path in paths]))
    assert [record.image_path.parent.name for record in records] == ["cats", "dogs"]
    text = report(folder, [GOOD | {"image_path": f"/home/me/{name}/a.png"} for name in ("cats", "dogs")])
    assert "both lead to a.png" in text


def test_a_record_per_caption_is_a_picture_with_several_captions(folder: Path) -> None:
    other = {"image_path": "images/b.png", "text": "blue", "label": "x"}
    records = [
        GOOD | {"text_zh": "红"},
        other,
        {"image_path": "./images/../images/a.png", "text": ["second", "a red square"], "text_zh": "红"},
        {"image_path": "images\\a.png", "text": "third", "text_zh": None},
        GOOD | {"split": "test"},
    ]
    first, second, third = read_records(write(folder, records))
    assert first.captions == {"en": ["a red square", "second", "third"], "zh": ["红"]}
    assert (first.split, second.labels, third.split) == ("train", {"en": "x"}, "test")
    assert "label 'x'" in report(folder, [other, other | {"label": "y"}])


def test_usual_names_of_splits_and_fields(folder: Path) -> None:
    names = ("Train", "validation", "valid", "dev", "VAL", "test ", "novel", "training")
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / f"images/{name.strip()}.png")
    records = [
        {"Image_Path": f"images/{name.strip()}.png", "TEXT": name, "Split": name, "text_cn": ""} for name in names
    ]
    splits = [record.split for record in read_records(write(folder, records))]
    assert splits == ["train", "val", "val", "val", "val", "test", "novel", "train"]
    assert len(ImageTextDataset(folder, "validation")) == 4
    assert unused_fields(folder) == ["text_cn"]


def test_an_exact_field_name_goes_before_one_in_capitals(folder: Path) -> None:
    (record,) = read_records(write(folder, [{"Text": None, **GOOD, "TEXT": ["x"], "Split": "val"}]))
    assert (record.captions["en"], record.split) == (["a red square"], "val")


def test_labels_that_read_the_same_are_one_class(folder: Path) -> None:
    write(folder, [GOOD | {"label": "Dog"}, GOOD | {"image_path": "images/b.png", "label": "dog!"}])
    dataset = ImageTextDataset(folder)
    assert dataset.classes["en"] == ["Dog"]
    assert dataset.labels("en") == {0: "Dog", 1: "Dog"}


def test_a_picture_in_two_splits_is_known_to_both(folder: Path) -> None:
    write(folder, [GOOD, GOOD | {"split": "test"}, GOOD | {"image_path": "images/b.png"}])
    assert ImageTextDataset(folder, "train").overlap == {"test": ["a.png"]}
    assert ImageTextDataset(folder, "test").overlap == {"train": ["a.png"]}


def test_captions_in_one_language_for_a_part(folder: Path) -> None:
    write(folder, [GOOD, {"image_path": "images/b.png", "text_zh": ["蓝", "蓝色"]}])
    both, english = ImageTextDataset(folder, language="both"), ImageTextDataset(folder)
    assert {both.caption(0), both.caption(1)} <= {"a red square", "蓝", "蓝色"}
    assert [path.name for path in english.image_paths()] == ["a.png"]
    assert list(english.left_out.values()) == [["b.png"]]
    write(folder, [GOOD, {"image_path": "images/b.png", "text_zh": "蓝", "split": "val"}])
    assert ImageTextDataset(folder, "val", "both").all_captions("en")[0] == []
    with pytest.raises(MissingSplitError, match="no picture of split='val' has text"):
        ImageTextDataset(folder, "val")


def test_broken_pictures_can_be_left_out(folder: Path) -> None:
    (folder / "images/cut.png").write_bytes((folder / "images/b.png").read_bytes()[:-30])
    (folder / "images/page.jpg").write_text("<html>")
    names = ("a", "b", "cut", "page", "gone")
    records = [GOOD | {"image_path": f"images/{name}.{'jpg' if name == 'page' else 'png'}"} for name in names]
    text = report(folder, [*records, GOOD | {"image_path": "../a.png"}])
    for name in ("cut.png", "page.jpg", "gone.png", "../a.png", "--skip-broken"):
        assert name in text
    dataset = ImageTextDataset(write(folder, records), skip_broken=True)
    assert [path.name for path in dataset.image_paths()] == ["a.png", "b.png"]
    assert sorted(name for names in dataset.left_out.values() for name in names) == [
        "cut.png", "images/gone.png", "images/page.jpg",
    ]  # fmt: skip
    write(folder, [*records, GOOD | {"image_path": "../a.png"}])
    with pytest.raises(DatasetError, match="out of the data folder"):
        ImageTextDataset(folder, skip_broken=True)


def test_faults_of_one_kind_are_one_line(folder: Path) -> None:
    error = report(folder, [{"file_name": "a.png", "caption": "red"}] * 30)
    assert "1 fault" in error
    assert "'text' occurs twice" in report(folder, '[{"image_path": "images/a.png", "text": "one", "text": "two"}]')
    assert "records 0, 1, 2 … (30 in all), image_path" in error
    assert "file_name, caption" in error


def test_byte_order_mark_is_accepted(folder: Path) -> None:
    (folder / "dataset.json").write_text(json.dumps([GOOD]), encoding="utf-8-sig")
    assert len(read_records(folder)) == 1


def test_link_out_of_the_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    Image.new("RGB", (8, 8)).save(outside)
    (folder / "images/link.png").symlink_to(outside)
    assert f"is a symbolic link to {outside}, outside" in report(folder, [GOOD | {"image_path": "images/link.png"}])
    (folder / "store").symlink_to(outside.parent)
    records = [GOOD | {"image_path": f"store/{number}.png"} for number in range(40)]
    assert "1 fault" in report(folder, records), "one line for all pictures behind the link"


def test_all_faults_in_one_report(folder: Path) -> None:
    (folder / "images/html.jpg").write_text("<html>not found</html>")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "images/cut.png")
    (folder / "images/cut.png").write_bytes((folder / "images/cut.png").read_bytes()[:3000])
    text = report(
        folder,
        [
            GOOD | {"image_path": "images/gone.png"},
            GOOD | {"text": 7},
            GOOD | {"image_path": "images/html.jpg"},
            GOOD | {"image_path": "images/cut.png"},
            "nonsense",
        ],
    )
    for words in ("5 faults", "gone.png", "record 1, text", "html.jpg", "cut.png", "record 4"):
        assert words in text


def test_truncated_picture_is_reported_before_training(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "images/cut.jpg")
    (folder / "images/cut.jpg").write_bytes((folder / "images/cut.jpg").read_bytes()[:1500])
    with pytest.raises(DatasetError, match=r"cut\.jpg"):
        open_pictures([folder / "images/a.png", folder / "images/cut.jpg"], 32)


def test_splits_and_languages(folder: Path) -> None:
    write(folder, [GOOD | {"split": "train"}, GOOD | {"split": "val", "text_zh": "红"}])
    assert len(ImageTextDataset(folder)) == 2
    assert len(ImageTextDataset(folder, "val", "both")) == 1
    with pytest.raises(DatasetError, match="test"):
        ImageTextDataset(folder, "test")
    with pytest.raises(DatasetError, match="text_zh"):
        ImageTextDataset(folder, "train", "zh")
    with pytest.raises(ValueError, match="'fr'"):
        ImageTextDataset(folder, language="fr")


def test_one_caption_per_epoch_seeded(sample_data: Path) -> None:
    dataset = ImageTextDataset(sample_data, "val", "both")
    first = [dataset.caption(index) for index in range(50)]
    assert first == [dataset.caption(index) for index in range(50)]
    for index, caption in enumerate(first):
        assert caption in dataset.records[index].texts("both")
    dataset.set_epoch(1)
    assert first != [dataset.caption(index) for index in range(50)]
    other_seed = ImageTextDataset(sample_data, "val", "both", seed=1)
    assert first != [other_seed.caption(index) for index in range(50)]


def test_items(sample_data: Path) -> None:
    item = ImageTextDataset(sample_data, "val")[3]
    assert isinstance(item["image"], Image.Image)
    assert item["text"] in ImageTextDataset(sample_data, "val").records[3].captions["en"]
    assert ImageTextDataset(sample_data, "val", transform=lambda image: image.size)[0]["image"] == (96, 96)


def test_all_captions_know_their_picture(sample_data: Path) -> None:
    dataset = ImageTextDataset(sample_data, "val", "both")
    texts, text_to_image = dataset.all_captions()
    assert len(texts) == len(text_to_image) == 4 * len(dataset)
    assert all(text in dataset.records[i].texts("both") for text, i in zip(texts, text_to_image.tolist(), strict=True))


def test_batches_for_training(data_dir: Path) -> None:
    dataset = ImageTextDataset(data_dir, "train", "both", seed=3)
    tokenizer = SimpleTokenizer.from_texts(dataset.all_captions()[0])
    pixels, tokens = dataset.pictures(32), dataset.tokenized(tokenizer, torch.device("cpu"))
    assert isinstance(pixels, torch.Tensor)
    batches = list(dataset.batches(pixels, tokens, 5, epoch=2, seed=7))
    order = epoch_batches(24, 5, seed=7, epoch=2)
    for batch, indices in zip(batches, order, strict=True):
        captions = [dataset.caption(index) for index in indices]
        for found, expected in zip(batch[1:3], tokenizer(captions, padding="longest").values(), strict=True):
            assert torch.equal(found, expected)
        assert torch.equal(batch.images, pixels[indices])
        assert torch.equal(batch.caption_ids, caption_ids(captions))
        assert len(batch.caption_ids.unique()) == 5  # no two scenes of the fixture share a caption
    halves = [list(dataset.batches(pixels, tokens, 4, epoch=1, rank=rank, processes=2)) for rank in range(2)]
    whole = list(dataset.batches(pixels, tokens, 4, epoch=1))
    for first, second, both in zip(*halves, whole, strict=True):
        assert torch.equal(torch.cat([first.caption_ids, second.caption_ids]), both.caption_ids)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("A red ball.", "a red ball", True),
        ("红色的球", "红色的球。", True),
        ("Ｔ恤", "t恤", True),  # full-width
        ("a red ball", "a ball red", False),
        ("zebra", "yak", False),  # whether or not a vocabulary has them
    ],
)
def test_captions_are_equal_if_the_tokenizer_reads_them_equally(one: str, other: str, equal: bool) -> None:
    first, second = caption_ids([one, other]).tolist()
    assert (first == second) == equal


def test_subset_and_fingerprint(sample_data: Path) -> None:
    dataset = ImageTextDataset(sample_data, "val")
    few = dataset.subset(5)
    assert (len(few), len(dataset)) == (5, 300)
    assert few.image_paths() == dataset.image_paths()[:5]
    assert few.fingerprint() == ImageTextDataset(sample_data, "val").subset(5).fingerprint()
    assert few.fingerprint() != dataset.subset(6).fingerprint()
    assert few.fingerprint() != ImageTextDataset(sample_data, "val", "zh").subset(5).fingerprint()


# ------------------------------------------------------------------------------------------------- pictures


def corner(path: Path) -> tuple[int, ...]:
    pixel = load_image(path).getpixel((1, 1))
    assert isinstance(pixel, tuple)
    return tuple(int(value) for value in pixel)


def test_modes_are_shown_as_a_viewer_would(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    Image.new("L", (8, 8), 100).save(tmp_path / "grey.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("LA", (8, 8), (0, 0)).save(tmp_path / "la.png")
    red.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    red.quantize(4).save(tmp_path / "palette.png")
    Image.fromarray(np.full((8, 8), 32896, dtype=np.uint16)).save(tmp_path / "deep.png")
    red.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    assert corner(tmp_path / "grey.png") == (100, 100, 100)
    assert corner(tmp_path / "clear.png") == (255, 255, 255)
    assert corner(tmp_path / "la.png") == (255, 255, 255)
    assert corner(tmp_path / "deep.png") == (128, 128, 128)
    for name in ("cmyk.jpg", "palette.png", "moving.gif"):
        r, g, b = corner(tmp_path / name)
        assert (r > 230, g < 25, b < 25) == (True, True, True), name


def test_pixels_are_scaled_and_cropped_in_the_middle(tmp_path: Path) -> None:
    wide = Image.new("RGB", (300, 100), "white")
    wide.paste("black", (100, 0, 200, 100))
    wide.save(tmp_path / "wide.png")
    pixels = load_pixels(tmp_path / "wide.png", 32)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == torch.uint8
    assert pixels[:, :, 2:-2].max() < 30
    large = Image.new("RGB", (1000, 1000), (10, 200, 30))
    large.save(tmp_path / "large.jpg")
    assert load_pixels(tmp_path / "large.jpg", 32).float().mean((1, 2)).tolist() == pytest.approx([10, 200, 30], abs=3)


def test_streamed_and_held_pictures_are_the_same(sample_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ImageTextDataset(sample_data, "val").image_paths()[:20]
    held = open_pictures(paths, 32)
    assert isinstance(held, torch.Tensor)
    with torch.inference_mode():  # which does not apply to the decoding threads
        again = open_pictures(paths, 32)
    assert isinstance(again, torch.Tensor)
    assert torch.equal(again, held)
    monkeypatch.setattr("clipedu.data.loading.MEMORY_LIMIT", 1000)
    streamed = open_pictures(paths, 32)
    assert isinstance(streamed, Pictures)
    batches = epoch_batches(20, 6, seed=0, epoch=1)
    before = torch.get_rng_state()
    for expected, batch in zip(image_batches(held, batches), image_batches(streamed, batches), strict=True):
        assert torch.equal(batch, expected)
    assert torch.equal(before, torch.get_rng_state()), "streaming must not touch training's random numbers"


def test_damaged_picture_in_a_loading_process_still_gives_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff garbage")
    with pytest.raises(DatasetError, match=r"bad\.jpg"):
        list(image_batches(Pictures([tmp_path / "bad.jpg"] * 4, 32), [[0, 1], [2, 3]]))


def test_batches_of_an_epoch() -> None:
    batches = epoch_batches(23, 5, seed=0, epoch=3)
    assert [len(batch) for batch in batches] == [5] * 4
    assert len({index for batch in batches for index in batch}) == 20
    assert batches == epoch_batches(23, 5, seed=0, epoch=3)
    assert batches != epoch_batches(23, 5, seed=0, epoch=4)
    assert batches != epoch_batches(23, 5, seed=1, epoch=3)
    assert in_order(5, 2) == [[0, 1], [2, 3], [4]]
