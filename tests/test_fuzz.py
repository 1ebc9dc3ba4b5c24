"""Whatever comes in, what goes out is right, or one clear error: examples that a machine invents (hypothesis).

A few hundred examples of each property here, always the same ones. Ten thousand, other ones each time (some minutes):
`python -m pytest tests -m hypothesis --hypothesis-profile=nightly --timeout=0`.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from clipedu import ImageTextDataset, SimpleTokenizer, compute_similarity, contrastive_loss, recall_at_k
from clipedu.data.captions import read_captions
from clipedu.data.pictures import load_image
from clipedu.data.records import read_records
from clipedu.ground.errors import ClipEduError, ConfigError, DatasetError, MissingSplitError, TokenizerError
from clipedu.ground.files import inside
from clipedu.loss import sigmoid_loss
from tests.test_loss import loop_loss, rounding

# ------------------------------------------------------------------------------------------------------ tokenizer

# Every character there is, halves of an emoji included; and those on which tokenizers stumble, side by side.
LETTERS = st.characters(exclude_categories=())
HARD = [
    *("'", "\u2019", "\uff07", "-", " ", "\u3000", "\t", "\n", "\0", "_", "$", "<", "[UNK]", "[PAD]", "unk", "[", "]"),
    *(
        "a",
        "Z",
        "5",
        "Ａ",
        "é",
        "e\u0301",
        "H\u0331",
        "İ",
        "ẞ",
        "Σ",
        "ς",
        "ǅ",
        "ﬀ",
        "①",
        "²",
        "½",
        "㎏",
        "Ⅷ",
        "〇",
        "圆",
    ),
    *("\uf900", "\U00020000", "\u1100", "\u1161", "\u11a8", "가", "ア", "ﾊ\uff9e", "か\u3099", "\u0301", "\u200d"),
    *("\ufe0f", "\u202e", "\ufeff", "\ufffd", "👩\u200d🚀", "🇨🇳", "\ud83d", "\ude80", "\udcff"),
]
TEXTS = st.text(LETTERS) | st.lists(st.sampled_from(HARD) | LETTERS).map("".join)


def fitted(texts: list[str], vocab_size: int = 5000) -> SimpleTokenizer:
    tokenizer = SimpleTokenizer(vocab_size)
    tokenizer.build_vocab(texts)
    return tokenizer


@given(TEXTS, st.lists(TEXTS, max_size=3), st.integers(5, 12) | st.just(5000), st.booleans())
@example("\u1100'\u1161", [], 5000, True)  # two letters that become one when the apostrophe between them goes
@example("unk zebra", [], 5, True)  # an unknown word is shown as [UNK]
def test_any_text_is_encoded_and_decoding_is_stable(text: str, others: list[str], size: int, knows_it: bool) -> None:
    tokenizer = fitted([*others, *[text] * knows_it], size)
    words = tokenizer.tokenize_text(text)
    assert all(tokenizer.tokenize_text(word) == [word] for word in words), "a word is a word"
    ids = tokenizer.encode(text)
    assert (ids[0], ids[-1], len(ids)) == (2, 3, len(words) + 2)
    assert all(0 <= index < len(tokenizer) for index in ids)
    assert not {0, 2, 3} & set(ids[1:-1]), "no text can forge a special token"
    once = tokenizer.decode(ids)
    assert isinstance(once.encode(), bytes), "no half characters"
    assert tokenizer.encode(once) == ids
    assert tokenizer.decode(tokenizer.encode(once)) == once


@given(
    st.lists(TEXTS, max_size=4),
    st.booleans(),
    st.sampled_from(["max_length", "longest", False, True, "shortest"]),
    st.integers(-1, 90),
    st.sampled_from(["pt", None, "np"]),
)
def test_any_batch_has_its_shape_or_one_error(
    texts: list[str], truncation: bool, padding: Any, max_length: int, return_tensors: str | None
) -> None:
    tokenizer = fitted(texts[:2])
    try:
        batch = tokenizer(texts, truncation, padding, max_length, return_tensors)
    except ConfigError:
        assert max_length < 2 or padding in (True, "shortest") or return_tensors == "np"
        return
    except TokenizerError:
        assert return_tensors == "pt"
        assert padding is False or not truncation
        return
    rows = [tokenizer.encode(text) for text in texts]
    if truncation:
        rows = [[*row[: max_length - 1], 3] if len(row) > max_length else row for row in rows]
    width = {"max_length": max_length, "longest": max(map(len, rows), default=0), False: 0}[padding]
    if return_tensors == "pt":
        for tensor in batch.values():
            assert tensor.dtype == torch.int64
            assert tensor.shape == (len(texts), max([width, *map(len, rows)]))
        batch = {name: tensor.tolist() for name, tensor in batch.items()}
    for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
        filled = [0] * (width - len(row))
        assert ids == row + filled
        assert mask == [1] * len(row) + filled


@given(st.lists(TEXTS, max_size=4), st.integers(5, 30))
def test_any_vocabulary_survives_the_disk(texts: list[str], size: int) -> None:
    tokenizer = fitted(texts, size)
    again = SimpleTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict(), ensure_ascii=False).encode()))
    assert (again.id_to_token, again.token_to_id, again.vocab_size) == (
        tokenizer.id_to_token,
        tokenizer.token_to_id,
        tokenizer.vocab_size,
    )


@given(st.lists(st.integers()) | st.lists(st.integers(-3, 12)))
def test_any_ids_are_decoded_or_refused(ids: list[int]) -> None:
    tokenizer = fitted(["a red circle", "圆"])  # 8 ids
    try:
        text = tokenizer.decode(ids)
    except TokenizerError as error:
        assert not all(0 <= index < 8 for index in ids)
        assert speaks_both(error)
    else:
        assert all(0 <= index < 8 for index in ids)
        assert set(text.replace("[UNK]", " ").replace("圆", " ").split()) <= {"a", "red", "circle"}


# ----------------------------------------------------------------------------------------------------------- files

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = ["a.png", "images/a.png", "b.jpg", "dataset.json", "out", "in", "loop", "images", "gone.png", "\udcff.png"]
STEPS = [
    *NAMES,
    "..",
    ".",
    "",
    "/",
    "//",
    "~",
    "C:",
    "\\",
    "\0",
    "\ud800",
    " ",
    "%2e%2e",
    "x" * 300,
    "*",
    "CON",
    "etc/passwd",
]
PATHS = st.lists(st.sampled_from(STEPS) | TEXTS, max_size=6).flatmap(
    lambda steps: st.sampled_from(["/", "\\", ""]).map(lambda separator: separator.join(steps))
)


def speaks_both(error: ClipEduError) -> bool:
    """A line in each language, which a page and a terminal can show."""
    is_chinese = any("\u4e00" <= letter <= "\u9fff" for letter in error.zh)
    return is_chinese and bool(error.en) and bool(str(error).encode(errors="surrogateescape"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, and links: to another folder, to a picture inside, in a circle."""
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
        found = inside(folder, path)
    except DatasetError as error:
        assert speaks_both(error)
    else:
        assert os.path.realpath(found) == str(found)
        assert found.is_relative_to(folder.resolve())


def one_of(names: list[str], others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what is right, so that other faults are reached as well."""
    return st.sampled_from(names) | st.sampled_from(names) | others


RECORDS = st.fixed_dictionaries(
    {"image_path": one_of(["images/a.png", "in/b.jpg"], PATHS | JSON), "text": one_of(["a red square", "圆"], JSON)},
    optional={
        "text_zh": one_of(["红色的圆"], st.lists(TEXTS, max_size=3) | JSON),
        "split": one_of(["train", "val", ""], TEXTS | JSON),
        "label": one_of(["red"], JSON),
        "label_zh": one_of(["红"], JSON),
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
        assert speaks_both(error)
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
            assert speaks_both(error)
        else:
            assert all(dataset.caption(index) in dataset.all_captions()[0] for index in range(len(dataset)))


DEEP = st.integers(0, 3000).map(lambda depth: '[{"text": ' + "[" * depth + "]" * depth + "}]")
BYTES = st.binary() | (st.text() | DEEP | DATASETS.map(json.dumps)).map(lambda text: text.encode(errors="replace"))


@given(BYTES, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]))
def test_any_bytes_are_a_dataset_or_one_report(folder: Path, content: bytes, encoding: str) -> None:
    (folder / "dataset.json").write_bytes(content.decode(errors="replace").encode(encoding))
    try:
        assert read_records(folder)
    except DatasetError as error:
        assert speaks_both(error)


COCO = st.fixed_dictionaries(
    {
        "images": st.lists(st.fixed_dictionaries({"id": one_of(["1"], JSON), "file_name": one_of(["a.jpg"], JSON)})),
        "annotations": st.lists(
            st.fixed_dictionaries({"image_id": one_of(["1"], JSON), "caption": one_of(["a dog"], JSON)}), max_size=3
        ),
    }
)
LINES = st.lists(
    st.sampled_from(
        ["image,caption", "a.jpg,a dog, a cat", "a.jpg#0\ta dog", "a.jpg#zhc#0 狗", "a.jpg| 0| a", "|", ",", "#"]
    )
    | st.text()
).map("\n".join)


@given((COCO | JSON).map(json.dumps).map(str.encode) | LINES.map(str.encode) | BYTES)
def test_any_caption_file_is_read_or_refused(folder: Path, content: bytes) -> None:
    (folder / "captions.txt").write_bytes(content)
    try:
        captions = read_captions(folder / "captions.txt")
    except DatasetError as error:
        assert speaks_both(error)
    else:
        for texts in captions.values():
            assert texts
            assert all(text == text.strip() for text in texts)


@given(st.binary() | DEEP.map(str.encode) | JSON.map(json.dumps).map(str.encode))
def test_any_vocabulary_file_is_read_or_refused(folder: Path, content: bytes) -> None:
    (folder / "vocabulary.json").write_bytes(content)
    try:
        SimpleTokenizer.load(folder / "vocabulary.json")
    except ClipEduError as error:
        assert speaks_both(error)


def whole_pictures() -> list[tuple[str, bytes]]:
    """Small ones of each kind, with a palette, transparency, 16 bits, frames and an EXIF tag."""
    generator = np.random.default_rng(0)
    noise = Image.fromarray(generator.integers(0, 255, (16, 24, 3), dtype=np.uint8))
    exif = noise.getexif()
    exif[0x0112] = 6
    kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("png", noise, {}),
        ("png", noise.quantize(8), {"transparency": 0}),
        ("png", Image.fromarray(generator.integers(0, 65535, (16, 24), dtype=np.uint16)), {}),
        ("png", noise.convert("RGBA"), {}),
        ("jpeg", noise, {"exif": exif}),
        ("jpeg", noise.convert("CMYK"), {"progressive": True}),
        ("gif", noise, {"save_all": True, "append_images": [noise.rotate(90)]}),
        ("tiff", noise, {"compression": "tiff_lzw"}),
        ("tiff", noise.convert("F"), {}),
        ("bmp", noise, {}),
        ("webp", noise.convert("RGBA"), {}),
    ]
    found = []
    for kind, image, options in kinds:
        stream = BytesIO()
        image.save(stream, kind, **options)
        found.append((kind, stream.getvalue()))
    return found


PICTURES = whole_pictures()
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6)


@given(st.sampled_from(PICTURES), CHANGES, st.floats(0, 1))
def test_any_picture_is_decoded_or_refused(
    folder: Path, picture: tuple[str, bytes], changes: list[tuple[float, int]], kept: float
) -> None:
    """A few bytes are others, most of them in the head; now and then the end is missing."""
    kind, whole = picture
    content = bytearray(whole)
    for place, value in changes:
        content[int(place**3 * (len(content) - 1))] = value
    (folder / f"changed.{kind}").write_bytes(content[: max(1, int(2 * kept * len(content)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what it mends
        try:
            image = load_image(folder / f"changed.{kind}", 32)
        except DatasetError as error:
            assert speaks_both(error)
        else:
            assert image.mode == "RGB"


# ---------------------------------------------------------------------------------------------------------- recall

VALUES = st.sampled_from([0.0, -0.0, 0.5, 0.5, 1.0, -1.0, 1e-45, 3e38, -3e38, math.inf, -math.inf, math.nan])
FLOATS = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])


def naive_recall(similarity: list[list[float]], images_of: list[int], k: int) -> tuple[float, float]:
    """Query by query: an answer counts if fewer than k wrong ones are not clearly worse; NaN never is."""
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
    wanted = naive_recall(similarity.tolist(), images_of, k)
    assert (scores[f"i2t_R@{k}"], scores[f"t2i_R@{k}"]) == pytest.approx(wanted)


SHAPES = st.lists(st.integers(0, 3), max_size=3)
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.float64, torch.int64, torch.int32, torch.bool])


@given(SHAPES, DTYPES, st.lists(st.integers(-1, 3), max_size=4), DTYPES, st.booleans())
def test_any_table_has_a_recall_or_one_error(
    shape: list[int], dtype: torch.dtype, images_of: list[int], ids_dtype: torch.dtype, nested: bool
) -> None:
    ids = torch.tensor([images_of] if nested else images_of).to(ids_dtype)
    try:
        scores = recall_at_k(torch.zeros(shape, dtype=dtype), ids)
    except ConfigError as error:
        assert speaks_both(error)
        return
    assert dtype.is_floating_point
    assert ids_dtype == torch.int64
    assert shape == [len(set(images_of)), len(images_of)]
    assert all(0 <= value <= 1 for value in scores.values())


# ------------------------------------------------------------------------------------------------------------ loss


def rows_of(kind: str, pairs: int, width: int, seed: int) -> Tensor:
    """Rows of length 1, or 0, as `F.normalize` gives them whatever it is given."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(pairs, width, generator=generator)
    if kind == "equal":
        rows = rows[:1].expand(pairs, width)
    elif kind == "zero":
        rows[::2] = 0
    elif kind == "huge":
        rows = rows * 1e37
    elif kind == "tiny":
        rows = rows * 1e-42
    elif kind == "corners":
        rows = F.one_hot(torch.arange(pairs) % width, width).float()
    elif kind == "opposite":
        rows = -rows
    return F.normalize(rows, dim=-1)


KINDS = st.sampled_from(["random", "random", "equal", "zero", "huge", "tiny", "corners", "opposite"])
Loss = Callable[..., Tensor]


@given(
    st.tuples(KINDS, KINDS),
    st.integers(1, 9),
    st.integers(1, 12),
    st.floats(0, math.log(100)),
    st.lists(st.integers(0, 3), min_size=9, max_size=9) | st.none(),
    st.integers(1, 4) | st.none(),
    st.integers(1, 10),
    FLOATS,
    st.integers(0, 1000),
)
def test_loss_in_float64_and_in_chunks(
    kinds: tuple[str, str],
    pairs: int,
    width: int,
    scale: float,
    ids: list[int] | None,
    extra: int | None,
    chunk_size: int,
    dtype: torch.dtype,
    seed: int,
) -> None:
    images, texts = (rows_of(kind, pairs, width, seed + place).to(dtype) for place, kind in enumerate(kinds))
    options: dict[str, Any] = {}
    if ids is not None:
        options["caption_ids"] = torch.tensor(ids[:pairs])
    if extra is not None:
        options["hard_negatives"] = rows_of("random", extra, width, seed + 2).to(dtype)
    found = []
    for size in (None, chunk_size):
        inputs = [tensor.clone().requires_grad_() for tensor in (images, texts, torch.tensor(scale))]
        loss = contrastive_loss(*inputs, chunk_size=size, **options)
        assert loss.dtype == torch.float32
        assert loss.shape == ()
        found.append([loss.detach(), *torch.autograd.grad(loss, inputs)])
    bound = rounding(scale, width)
    for plain, chunked in zip(*found, strict=True):
        assert plain.isfinite().all()
        # A gradient multiplies what the softmax is off by with the factor; it is added up in the input's own precision.
        sums = torch.finfo(plain.dtype).eps * math.exp(scale) * (pairs + 1)
        torch.testing.assert_close(chunked, plain, atol=math.exp(scale) * bound + sums, rtol=0)
    loss = found[0][0]
    wanted = loop_loss(images, texts, torch.tensor(scale), ids or range(pairs), options.get("hard_negatives"))
    assert loss.item() == pytest.approx(wanted, abs=bound)
    assert loss >= -bound
    if ids is None and extra is None:
        logits = math.exp(scale) * images.float() @ texts.float().T
        right = torch.arange(pairs)
        theirs = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        torch.testing.assert_close(loss, theirs, atol=2 * bound, rtol=0)


@given(st.data(), st.sampled_from([contrastive_loss, sigmoid_loss]), DTYPES)
def test_any_shapes_have_a_loss_or_one_error(data: st.DataObject, loss_of: Loss, dtype: torch.dtype) -> None:
    def drawn(usual: list[int], dtype: torch.dtype = dtype) -> Tensor:
        return torch.zeros(data.draw(st.just(usual) | st.just(usual) | SHAPES), dtype=dtype)

    images, texts, scale = drawn([2, 3]), drawn([2, 3]), drawn([], torch.float32)
    options: dict[str, Any] = {"logit_bias": torch.tensor(-10.0)}
    if loss_of is contrastive_loss:
        options = {
            "caption_ids": drawn([2]) if data.draw(st.booleans()) else None,
            "hard_negatives": drawn([1, 3]) if data.draw(st.booleans()) else None,
            "chunk_size": data.draw(st.none() | st.integers(-1, 3)),
        }
    try:
        loss = loss_of(images, texts, scale, **options)
    except ConfigError as error:
        assert speaks_both(error)
    else:
        assert loss.shape == ()
        assert loss.isfinite()


@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([math.nan, math.inf, -math.inf]), st.data())
def test_what_is_no_number_is_never_hidden(pairs: int, width: int, value: float, data: st.DataObject) -> None:
    """One NaN or infinity among the rows makes the loss NaN, in chunks as well: nobody trains on it unawares."""
    rows = [rows_of("random", pairs, width, seed) for seed in (0, 1)]
    side, row, column = (data.draw(st.integers(0, limit - 1)) for limit in (2, pairs, width))
    rows[side] = F.normalize(
        rows[side].index_put((torch.tensor(row), torch.tensor(column)), torch.tensor(value)), dim=-1
    )
    choices: list[dict[str, Any]] = [{}, {"chunk_size": 2}, {"caption_ids": torch.zeros(pairs)}]
    for options in choices:
        assert contrastive_loss(rows[0], rows[1], torch.tensor(1.0), **options).isnan()
    assert sigmoid_loss(rows[0], rows[1], torch.tensor(1.0), torch.tensor(-10.0)).isnan()


@given(KINDS, KINDS, st.integers(1, 5), st.integers(1, 8), st.floats(1e-30, 1e30), FLOATS)
def test_cosines_lie_between_minus_1_and_1(
    kind: str, other: str, count: int, width: int, size: float, dtype: torch.dtype
) -> None:
    most = min(1e30, torch.finfo(dtype).max)
    images, texts = (rows_of(kind, count, width, 0) * size).clamp(-most, most), rows_of(other, count, width, 1)
    cosines = compute_similarity(images.to(dtype), texts.to(dtype))
    assert cosines.dtype == torch.float32
    assert cosines.abs().nan_to_num(9).max() <= 1 + (width + 4) * torch.finfo(torch.float32).eps
