"""Properties: for any input, the output is right or there is one clear error. Hypothesis generates the examples.

Thousands of examples and more properties: `python -m studies.fuzzing`.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from clipedu import ImageTextDataset, SimpleTokenizer, contrastive_loss, recall_at_k
from clipedu.data.captions import read_captions
from clipedu.data.records import read_records
from clipedu.ground.errors import ClipEduError, DatasetError, MissingSplitError
from clipedu.ground.files import inside
from clipedu.loss import sigmoid_loss

# ------------------------------------------------------------------------------------------------------ tokenizer

# Every character, including halves of emoji; and characters that are hard for tokenizers, next to each other.
LETTERS = st.characters(exclude_categories=())
HARD = [
    *"'\u2019\uff07- \u3000\t\n\0_$<[]aZ5ＡéİẞΣςǅﬀ①²½㎏Ⅷ〇圆가ア\uf900\U00020000\u1100\u1161\u11a8",
    *"\u0301\u200d\ufe0f\u202e\ufeff\ufffd\ud83d\ude80\udcff",
    *("[UNK]", "[PAD]", "unk", "e\u0301", "H\u0331", "ﾊ\uff9e", "か\u3099", "👩\u200d🚀", "🇨🇳"),
]
TEXTS = st.text(LETTERS) | st.lists(st.sampled_from(HARD) | LETTERS).map("".join)


@given(TEXTS, st.lists(TEXTS, max_size=3), st.integers(5, 12) | st.just(5000), st.booleans())
@example("\u1100'\u1161", [], 5000, True)  # two letters that combine when the apostrophe between them is removed
@example("unk zebra", [], 5, True)  # an unknown word is shown as [UNK]
def test_any_text_is_encoded_and_decoding_is_stable(text: str, corpus: list[str], size: int, known: bool) -> None:
    tokenizer = SimpleTokenizer.from_texts([*corpus, *[text] * known], size)
    words = tokenizer.tokenize_text(text)
    assert all(tokenizer.tokenize_text(word) == [word] for word in words), "a word is not split again"
    ids = tokenizer.encode(text)
    assert (ids[0], ids[-1], len(ids)) == (2, 3, len(words) + 2)
    assert all(0 <= index < len(tokenizer) for index in ids)
    assert not {0, 2, 3} & set(ids[1:-1]), "no text can forge a special token"
    decoded = tokenizer.decode(ids)
    assert isinstance(decoded.encode(), bytes), "no half characters"
    assert tokenizer.encode(decoded) == ids
    assert tokenizer.decode(tokenizer.encode(decoded)) == decoded


@given(st.lists(TEXTS, max_size=4), st.integers(5, 30))
def test_any_vocabulary_survives_the_disk(texts: list[str], size: int) -> None:
    tokenizer = SimpleTokenizer.from_texts(texts, size)
    again = SimpleTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict(), ensure_ascii=False).encode()))
    assert again.__dict__ == tokenizer.__dict__


# ----------------------------------------------------------------------------------------------------------- files

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = ["a.png", "images/a.png", "b.jpg", "dataset.json", "out", "in", "loop", "images", "gone.png", "\udcff.png"]
STEPS = [
    *NAMES,
    *("..", ".", "", "/", "//", "~", "C:", "\\", "\0", "\ud800", " ", "%2e%2e", "x" * 300, "*", "CON", "etc/passwd"),
]
PATHS = st.lists(st.sampled_from(STEPS) | TEXTS, max_size=6).flatmap(
    lambda steps: st.sampled_from(["/", "\\", ""]).map(lambda separator: separator.join(steps))
)


def is_bilingual(error: ClipEduError) -> bool:
    """Whether the message is in both languages, and can be shown on a page and in a terminal."""
    is_chinese = any("\u4e00" <= letter <= "\u9fff" for letter in error.zh)
    return is_chinese and bool(error.en) and bool(str(error).encode(errors="surrogateescape"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, and links: to another folder, to a folder inside, and to itself."""
    outside = tmp_path_factory.mktemp("outside")
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    for place in (folder / "images/a.png", folder / "a.png", folder / "images/b.jpg", outside / "a.png"):
        Image.new("RGB", (8, 8), "red").save(place)
    (folder / "out").symlink_to(outside)
    (folder / "images/out").symlink_to(outside / "a.png")
    (folder / "in").symlink_to("images")
    (folder / "loop").symlink_to("loop")
    return folder


@given(PATHS)
@example("loop/a.png")
@example("in/../../a.png")
@example("out/a.png")
@example("\0")
def test_no_path_leaves_its_folder(folder: Path, path: str) -> None:
    try:
        resolved = inside(folder, path)
    except DatasetError as error:
        assert is_bilingual(error)
    else:
        assert os.path.realpath(resolved) == str(resolved)
        assert resolved.is_relative_to(folder.resolve())


def mostly(valid: list[str], anything: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly valid values, so that faults in other fields are reached as well."""
    return st.sampled_from(valid) | st.sampled_from(valid) | anything


RECORDS = st.fixed_dictionaries(
    {"image_path": mostly(["images/a.png", "in/b.jpg"], PATHS | JSON), "text": mostly(["a red square", "圆"], JSON)},
    optional={
        "text_zh": mostly(["红色的圆"], st.lists(TEXTS, max_size=3) | JSON),
        "split": mostly(["train", "val", ""], TEXTS | JSON),
        "label": mostly(["red"], JSON),
        "label_zh": mostly(["红"], JSON),
        "more": JSON,
    },
)
DATASETS = st.lists(RECORDS, min_size=1, max_size=3) | st.lists(RECORDS | JSON, max_size=3) | JSON


@given(DATASETS)
@example([{"image_path": "images/a.png", "text": "cut in the middle of an emoji \ud83d"}])
@example([{"image_path": "loop", "text": "a"}, {"image_path": "\udcff\ud800", "text": "a", "split": "\ud800"}])
def test_any_json_is_a_dataset_or_one_report(folder: Path, content: Any) -> None:
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    try:
        records = read_records(folder)
    except DatasetError as error:
        assert is_bilingual(error)
        return
    assert len(records) == len(content) > 0
    for record, given_record in zip(records, content, strict=True):
        assert record.image_path.is_relative_to(folder.resolve())
        assert record.split == (given_record.get("split") or "train")
        for name, texts in (("text", record.captions["en"]), ("text_zh", record.captions["zh"])):
            value = given_record.get(name, [])
            assert texts == ([value] if isinstance(value, str) else value)
            assert all(SimpleTokenizer.tokenize_text(text) for text in texts)
        assert all(record.labels.values())
    for language in ("en", "zh", "both"):
        try:
            dataset = ImageTextDataset(folder, "train", language)
        except MissingSplitError:
            assert not any(record.split == "train" for record in records)
        except DatasetError as error:
            assert is_bilingual(error)
        else:
            assert all(dataset.caption(index) in dataset.all_captions()[0] for index in range(len(dataset)))


COCO = st.fixed_dictionaries(
    {
        "images": st.lists(st.fixed_dictionaries({"id": mostly(["1"], JSON), "file_name": mostly(["a.jpg"], JSON)})),
        "annotations": st.lists(
            st.fixed_dictionaries({"image_id": mostly(["1"], JSON), "caption": mostly(["a dog"], JSON)}), max_size=3
        ),
    }
)
CAPTION_LINES = ["image,caption", "a.jpg,a dog, a cat", "a.jpg#0\ta dog", "a.jpg#zhc#0 狗", "a.jpg| 0| a", "|,#", 'a,"']
LINES = st.lists(st.sampled_from(CAPTION_LINES) | st.text()).map("\n".join)


@given((COCO | JSON).map(json.dumps).map(str.encode) | LINES.map(str.encode))
def test_any_caption_file_is_read_or_refused(folder: Path, content: bytes) -> None:
    (folder / "captions.txt").write_bytes(content)
    try:
        file = read_captions(folder / "captions.txt")
    except DatasetError as error:
        assert is_bilingual(error)
    else:
        for row in file.rows:
            assert row.captions
            assert all(text == text.strip() for text in row.captions)


# ---------------------------------------------------------------------------------------------------------- recall

VALUES = st.sampled_from([0.0, -0.0, 0.5, 0.5, 1.0, -1.0, 1e-45, 3e38, -3e38, math.inf, -math.inf, math.nan])
FLOATS = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])


def naive_recall(similarity: list[list[float]], images_of: list[int], k: int) -> tuple[float, float]:
    """Query by query: a hit if fewer than k wrong answers are not clearly worse; NaN is never clearly worse."""
    found_texts = found_images = 0
    for image, row in enumerate(similarity):
        own = [value for value, of in zip(row, images_of, strict=True) if of == image]
        best = math.nan if any(map(math.isnan, own)) else max(own)
        wrong = [value for value, of in zip(row, images_of, strict=True) if of != image]
        found_texts += sum(not value < best for value in wrong) < k
    for text, image in enumerate(images_of):
        right = similarity[image][text]
        wrong = [row[text] for number, row in enumerate(similarity) if number != image]
        found_images += sum(not value < right for value in wrong) < k
    return found_texts / len(similarity), found_images / len(images_of)


@given(st.data(), st.integers(1, 6), st.lists(st.integers(0, 5), max_size=8), st.integers(0, 9), FLOATS)
def test_recall_equals_the_naive_loop(
    data: st.DataObject, images: int, more: list[int], k: int, dtype: torch.dtype
) -> None:
    images_of = data.draw(st.permutations([*range(images), *(text % images for text in more)]))
    numbers = VALUES | st.floats(-1, 1, width=16)
    rows = st.lists(numbers, min_size=len(images_of), max_size=len(images_of))
    similarity = torch.tensor(data.draw(st.lists(rows, min_size=images, max_size=images))).to(dtype)
    scores = recall_at_k(similarity, torch.tensor(images_of), ks=(k,))
    expected = naive_recall(similarity.tolist(), images_of, k)
    assert (scores[f"i2t_R@{k}"], scores[f"t2i_R@{k}"]) == pytest.approx(expected)


# ------------------------------------------------------------------------------------------------------------ loss


@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([math.nan, math.inf, -math.inf]), st.data())
def test_nan_or_infinity_makes_the_loss_nan(pairs: int, width: int, value: float, data: st.DataObject) -> None:
    """A single NaN or infinity among the rows makes the loss NaN, in chunks too, so that training can stop."""
    rows = [*F.normalize(torch.randn(2, pairs, width), dim=-1)]
    side, row, column = (data.draw(st.integers(0, limit - 1)) for limit in (2, pairs, width))
    rows[side] = F.normalize(
        rows[side].index_put((torch.tensor(row), torch.tensor(column)), torch.tensor(value)), dim=-1
    )
    choices: list[dict[str, Any]] = [{}, {"chunk_size": 2}, {"caption_ids": torch.zeros(pairs)}]
    for options in choices:
        assert contrastive_loss(rows[0], rows[1], torch.tensor(1.0), **options).isnan()
    assert sigmoid_loss(rows[0], rows[1], torch.tensor(1.0), torch.tensor(-10.0)).isnan()
