"""The drawn datasets: captions match their pictures, splits are disjoint, the same seed gives the same pictures."""

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from clipedu.data.emoji import create_emoji, draw_emoji, emoji_names, find_emoji_font
from clipedu.data.records import Record, read_records
from clipedu.data.scenes import (
    COLOURS,
    NOVEL_PAIRS,
    RELATIONS,
    SHAPES,
    SIZES,
    SPLIT_SIZES,
    draw_scene,
    random_scenes,
)
from clipedu.ground.errors import ClipEduError

SCENES = list(random_scenes(0))
ENGLISH = re.compile(
    rf"({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?: ({'|'.join(RELATIONS)}) (?:a|one) "
    rf"({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}))?$"
)


@pytest.fixture(scope="module")
def records(request: pytest.FixtureRequest) -> list[Record]:
    return read_records(request.getfixturevalue("sample_data"))


def test_committed_dataset_matches_seed_0(records: list[Record], sample_data: Path) -> None:
    committed = json.loads((sample_data / "dataset.json").read_text(encoding="utf-8"))
    assert len(SCENES) == len(committed) == sum(SPLIT_SIZES.values())
    for (split, scene), record in zip(SCENES, committed, strict=True):
        assert record == scene.record(record["image_path"], split)
    for index in range(0, 3300, 150):
        drawn, kept = draw_scene(SCENES[index][1]), Image.open(records[index].image_path)
        assert drawn.tobytes() == kept.tobytes()


def test_other_seeds_draw_other_scenes() -> None:
    assert [scene for _, scene in random_scenes(0)] == [scene for _, scene in SCENES]
    assert [scene for _, scene in random_scenes(1)] != [scene for _, scene in SCENES]


def test_english_captions_are_true() -> None:
    """Both captions are parsed and compared with where and how the objects were drawn."""
    for _, scene in SCENES:
        drawn = {thing.kind: thing for thing in scene.objects}
        for caption in scene.captions()[0]:
            match = ENGLISH.search(caption)
            assert match, caption
            size, colour, shape, relation, *second = match.groups()
            subject = drawn[(size, colour, shape)]
            assert (relation is None) == (len(drawn) == 1)
            if relation:
                anchor = drawn[(second[0], second[1], second[2])]
                dx, dy = subject.x - anchor.x, subject.y - anchor.y
                distance = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}
                assert distance[relation] == max(distance.values()), caption
                assert distance[relation] > 2 * min(abs(dx), abs(dy)), f"ambiguous: {caption}"


def test_chinese_captions_say_the_same() -> None:
    chinese = {place: english for english, (_, place, _) in RELATIONS.items()}
    things = {thing.chinese(): thing.kind for _, scene in SCENES for thing in scene.objects}
    names = "|".join(sorted(things, key=len, reverse=True))
    for _, scene in SCENES:
        for caption in scene.captions()[1]:
            kinds = [things[name] for name in re.findall(names, caption)]
            assert set(kinds) == {thing.kind for thing in scene.objects}, caption
            if scene.relation:
                first = f"一个({names})在一个({names})的(..)$"
                second = f"在?({names})的(..)(?:是|有)一个({names})$"
                if match := re.fullmatch(first, caption):
                    subject, anchor, place = match.groups()
                else:
                    match = re.fullmatch(second, caption)
                    assert match, caption
                    anchor, place, subject = match.groups()
                meaning = (things[subject], chinese[place], things[anchor])
                assert meaning in scene.meaning, caption


def test_colours_are_where_the_scene_says() -> None:
    """The pixel in the middle of every solid shape has its colour."""
    for _, scene in SCENES[::40]:
        picture = draw_scene(scene)
        for thing in scene.objects:
            if thing.shape != "ring":
                assert picture.getpixel((round(thing.x), round(thing.y))) == pytest.approx(thing.rgb(), abs=3)


def test_shapes_are_inside_the_picture_and_do_not_overlap() -> None:
    for _, scene in SCENES[::8]:
        picture = torch.frombuffer(bytearray(draw_scene(scene).tobytes()), dtype=torch.uint8).view(96, 96, 3).int()
        border = torch.cat([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert (border - torch.tensor(scene.background)).abs().max() <= 40, scene
        if scene.relation:
            first, second = scene.objects
            radii = SIZES[first.size][1] + SIZES[second.size][1]
            assert ((first.x - second.x) ** 2 + (first.y - second.y) ** 2) ** 0.5 > radii


def test_splits() -> None:
    meanings = defaultdict(list)
    for split, scene in SCENES:
        meanings[split].append(scene.meaning)
        novel = [(thing.colour, thing.shape) in NOVEL_PAIRS for thing in scene.objects]
        assert all(novel) if split == "novel" else not any(novel)
    assert {split: len(scenes) for split, scenes in meanings.items()} == SPLIT_SIZES
    for split in ("val", "test", "novel"):
        assert len(set(meanings[split])) == len(meanings[split]), "recall would not be well defined"
    pairs = {split: {meaning for meaning in scenes if len(meaning) == 2} for split, scenes in meanings.items()}
    assert not pairs["train"] & (pairs["val"] | pairs["test"])
    assert not pairs["val"] & pairs["test"]
    assert len(NOVEL_PAIRS) == 12
    assert {colour for colour, _ in NOVEL_PAIRS} == set(COLOURS)
    assert {shape for _, shape in NOVEL_PAIRS} == set(SHAPES)


def test_no_caption_twice_in_a_split_and_no_picture_twice(records: list[Record]) -> None:
    for split in ("val", "test", "novel"):
        for language in ("en", "zh"):
            texts = [text for record in records if record.split == split for text in record.captions[language]]
            owners = defaultdict(set)
            for index, text in enumerate(texts):
                owners[text].add(index // 2)
            assert all(len(indices) == 1 for indices in owners.values()), split
    assert len({record.image_path.read_bytes() for record in records}) == len(records)


# ---------------------------------------------------------------------------------------------------- emoji


@pytest.fixture(scope="module")
def _emoji_font() -> None:
    try:
        find_emoji_font()
    except ClipEduError:
        pytest.skip("needs a colour emoji font (CI installs fonts-noto-color-emoji)")


def test_names_are_official_and_in_both_languages() -> None:
    names = {symbol: (english, chinese) for symbol, english, chinese in emoji_names()}
    assert len(names) > 3500
    assert names["🍎"] == ("red apple", "红苹果")
    assert not any(":" in english or "_" in english for english, _ in names.values())


def test_a_missing_font_gives_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("clipedu.data.emoji._FONTS", ())
    with pytest.raises(ClipEduError, match="apt install fonts-noto-color-emoji"):
        create_emoji(tmp_path / "emoji")
    assert not list(tmp_path.glob("*emoji*"))


@pytest.mark.usefixtures("_emoji_font")
def test_drawn_emoji(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    font = find_emoji_font().load()
    apple = draw_emoji("🍎", font)
    assert apple is not None
    pixel = apple.getpixel((48, 60))
    assert isinstance(pixel, tuple)
    assert pixel[0] > 150 > pixel[1]
    assert draw_emoji("🍎🍎🍎", font) is None
    some = [name for name in emoji_names() if "cat" in name[1]]
    monkeypatch.setattr("clipedu.data.emoji.emoji_names", lambda: some)
    monkeypatch.setattr("clipedu.data.emoji.HELD_OUT", {"val": 2, "test": 3})
    create_emoji(tmp_path / "one")
    create_emoji(tmp_path / "two")
    first, second = read_records(tmp_path / "one"), read_records(tmp_path / "two")
    assert [record.split for record in first].count("test") == 3
    assert [(r.captions, r.split) for r in first] == [(r.captions, r.split) for r in second]
    assert len({record.image_path.read_bytes() for record in first}) == len(first)
    with pytest.raises(ClipEduError, match="not empty"):
        create_emoji(tmp_path / "one")
