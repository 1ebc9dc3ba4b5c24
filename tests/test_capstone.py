"""The capstone on folders as people have them: each that cannot be used ends in a card with the remedy."""

from __future__ import annotations

import csv
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from clipedu import SimpleTokenizer
from clipedu.classroom import photos
from clipedu.classroom.view import Card, View
from clipedu.data.importing import import_captions
from clipedu.ground.errors import ClipEduError

WORDS = ("red", "green", "blue"), ("红色", "绿色", "蓝色")


def folder_of(path: Path, count: int = 12, prefix: str = "photo") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        colour = [0, 0, 0]
        colour[number % 3] = 60 + 15 * number
        Image.new("RGB", (40, 40), (colour[0], colour[1], colour[2])).save(path / f"{prefix}{number}.png")
    return path


def with_captions(folder: Path, languages: str = "en zh", prefix: str = "photo", encoding: str = "utf-8") -> Path:
    names = [f"{prefix}{number}.png" for number in range(12)]
    columns = {code: [f"{word} {number}" for number, word in enumerate(4 * words)] for code, words in zip(
        ("en", "zh"), WORDS, strict=True
    )}  # fmt: skip
    used = languages.split()
    rows = [["photo", *(f"caption_{code}" for code in used)]]
    rows += [[name, *(columns[code][number] for code in used)] for number, name in enumerate(names)]
    with (folder / "captions.csv").open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)
    return folder


def refusal(path: Path) -> ClipEduError:
    """The error, which a notebook shows as a card; the folder is as it was."""
    before = sorted(path.rglob("*")) if path.is_dir() else []
    with pytest.raises(ClipEduError) as caught:
        photos.open_folder(path)
    assert (sorted(path.rglob("*")) if path.is_dir() else []) == before, "nothing is left half-made"
    assert caught.value.zh and caught.value.en
    return caught.value


def test_a_folder_is_read_and_left_as_it_was(tmp_path: Path) -> None:
    folder = with_captions(folder_of(tmp_path))
    before = sorted(folder.rglob("*"))
    mine = photos.open_folder(folder)
    assert (len(mine), mine.languages, mine.has_splits, mine.is_practice) == (12, ("en", "zh"), False, False)
    assert sorted(folder.rglob("*")) == before
    assert "photos used / 12" in mine.report().text
    assert str(tmp_path) not in mine.report().html


def test_several_readers_at_once_see_the_same_folder(tmp_path: Path) -> None:
    """What one of them writes for a moment is nobody else's dataset.json."""
    folder = with_captions(folder_of(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(photos.open_folder, [folder] * 12))
    assert {(len(mine), mine.has_splits, mine.report().text) for mine in opened} == {
        (12, False, opened[0].report().text)
    }
    assert not (folder / "dataset.json").exists()


def test_the_split_that_an_import_makes_up_is_no_split(tmp_path: Path) -> None:
    """Every tenth picture: bursts would be on both sides."""
    folder = with_captions(folder_of(tmp_path))
    import_captions(folder, [folder / "captions.csv"])
    mine = photos.open_folder(folder)
    assert (len(mine), mine.has_splits) == (12, False)
    assert (folder / "dataset.json").is_file(), "it is the reader's own"


def test_no_such_folder(tmp_path: Path) -> None:
    assert "set PHOTOS" in refusal(tmp_path / "nowhere").en


def test_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("photo,caption\na.png,red\n", encoding="utf-8")
    assert "there are no photos" in refusal(tmp_path).en


def test_without_captions(tmp_path: Path) -> None:
    assert "captions.csv" in refusal(folder_of(tmp_path)).en


def test_captions_for_none_of_them(tmp_path: Path) -> None:
    folder = with_captions(folder_of(tmp_path), prefix="holiday")
    assert "no picture" in refusal(folder).en


def test_one_picture(tmp_path: Path) -> None:
    folder = with_captions(folder_of(tmp_path, 1))
    assert "only 1 of the photos" in refusal(folder).en


def test_not_a_caption_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "notes.csv").write_text("1,2\n3,4\n", encoding="utf-8")
    assert "notes.csv" in refusal(folder).en


@pytest.mark.parametrize("language", ["en", "zh"])
def test_one_language(tmp_path: Path, language: str) -> None:
    mine = photos.open_folder(with_captions(folder_of(tmp_path), language))
    assert mine.languages == (language,)
    boxes = photos.sentences(mine)
    assert boxes["zh"] == boxes["en"] == mine.captions(language)[0]


def test_a_plain_caption_column_is_read_in_its_own_language(tmp_path: Path) -> None:
    folder = with_captions(folder_of(tmp_path), "zh")
    text = (folder / "captions.csv").read_text(encoding="utf-8").replace("caption_zh", "caption")
    (folder / "captions.csv").write_text(text, encoding="utf-8")
    assert photos.open_folder(folder).languages == ("zh",)


def test_written_by_windows(tmp_path: Path) -> None:
    mine = photos.open_folder(with_captions(folder_of(tmp_path), encoding="gb18030"))
    assert mine.languages == ("en", "zh")
    assert "GB18030" in mine.report().text


def test_chinese_file_names(tmp_path: Path) -> None:
    mine = photos.open_folder(with_captions(folder_of(tmp_path, prefix="海边"), prefix="海边"))
    assert len(mine) == 12


def test_a_dataset_that_is_there_already_is_used(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    rows = ",\n".join(
        f'{{"image_path": "photo{n}.png", "text": "red {n}", "split": "{"val" if n > 8 else "train"}"}}'
        for n in range(12)
    )
    (folder / "dataset.json").write_text(f"[{rows}]", encoding="utf-8")
    mine = photos.open_folder(folder)
    assert (mine.has_splits, (folder / "dataset.json").is_file()) == (True, True)
    assert mine.official() is None, "nine training photos are too few"


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    folder = with_captions(folder_of(tmp_path))
    (folder / "photo3.png").write_bytes(b"\x89PNG broken")
    mine = photos.open_folder(folder)
    assert len(mine) == 11
    assert "photo3.png" in mine.report().text


def test_series_are_chained() -> None:
    angles = torch.tensor([0.0, 10.0, 20.0, 90.0, 180.0, 180.0]).deg2rad()
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert photos.series(vectors, math.cos(math.radians(12))) == [0, 0, 0, 1, 2, 2]
    assert photos.series(vectors, 1.1) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("share", [0.001, 0.2, 0.999])
def test_no_group_is_on_both_sides(share: float) -> None:
    groups = [0, 0, 1, 2, 2, 2, 3, 4]
    kept, held = photos.split_by_group(groups, share, 1)
    assert sorted(kept + held) == list(range(8)) and kept and held
    assert not {groups[n] for n in kept} & {groups[n] for n in held}
    assert (kept, held) == photos.split_by_group(groups, share, 1)


def test_intervals_and_failures() -> None:
    assert photos.recall_interval(15, 30) == pytest.approx((0.3315, 0.6685), abs=1e-3)  # statsmodels' "wilson"
    assert photos.recall_interval(0, 10)[0] == pytest.approx(0, abs=1e-9)
    cosines = torch.tensor([[0.9, 0.1, 0.2], [0.3, 0.3, 0.1], [0.8, 0.7, 0.6]])
    assert photos.failures(cosines, 3) == [(3, 2), (2, 1), (1, 0)]
    assert (photos.hits(cosines), photos.hits(cosines, 2)) == (1, 2)


def test_pairs_are_compared_on_the_same_sentences() -> None:
    right = torch.eye(10)
    swapped = right.clone()
    swapped[[0, 1]] = right[[1, 0]]  # the first two sentences find each other's pictures
    row = photos.compared({"en": right}, {"en": swapped}).text.splitlines()[1]
    assert row.split(" / ")[1:4] == ["8", "2", "0"]
    assert "0.00 … 1.00" in photos.compared({"en": right}, {"en": right}).text, "no difference says nothing"


def test_boxes_answer_whatever_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without training: what is shown depends on the words alone."""
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))
    mine = photos.open_folder(with_captions(folder_of(tmp_path / "photos"), "en"))
    mine.image_size = 32
    tokenizer = SimpleTokenizer.from_texts(mine.captions("en"))
    model = photos.frozen_clip(tokenizer, members=1)
    model.image_size = 32
    search = photos.Search(model, tokenizer, mine)
    assert "zebra" in search.find("zebra").text
    for nothing in ("?!", "🎉"):
        assert isinstance(search.find(nothing), Card)
    assert "zebra" in search.find("red zebra").text and "<img" in search.find("red zebra").html
    assert "red 0" in search.find("red", top=12).text, "with its caption"
    assert "photos held out" not in search.classify("red, blue", range(12)).text
    assert "8 / " in search.classify("red, blue", range(12)).text
    for words in ("red", "", "red, zebra", "红色, 蓝色"):
        assert isinstance(search.classify(words, range(12)), View)
    by_words = photos.similarity_by_words(mine, range(9), range(9, 12), "en")
    assert by_words.shape == (3, 3)


def test_the_practice_folder(tmp_path: Path) -> None:
    try:
        folder = photos.practice_folder(tmp_path / "practice_photos")
    except ClipEduError as error:
        pytest.skip(error.en)
    names = {path.name for path in folder.iterdir()}
    assert names >= {"captions.csv", "IMG_0299.png", "IMG_broken.png", "IMG_silent.png"}
    assert (folder / "IMG_0298.png").read_bytes() == (folder / "IMG_0299.png").read_bytes()
    stamp = (folder / "captions.csv").stat().st_mtime_ns
    assert photos.practice_folder(folder) == folder
    assert (folder / "captions.csv").stat().st_mtime_ns == stamp, "drawn once"


def test_several_draw_the_practice_folder_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "_EMOJI", 6)
    try:
        with ThreadPoolExecutor(4) as pool:
            folders = set(pool.map(photos.practice_folder, [tmp_path / "practice_photos"] * 4))
    except ClipEduError as error:
        if "font" not in error.en:
            raise
        pytest.skip(error.en)
    assert folders == {tmp_path / "practice_photos"}
    assert [path.name for path in tmp_path.iterdir()] == ["practice_photos"]


def test_no_emoji_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipedu.data.emoji._FONTS", ())
    with pytest.raises(ClipEduError) as caught:
        photos.practice_folder(tmp_path / "practice_photos")
    assert "font" in caught.value.en
    assert list(tmp_path.iterdir()) == []
