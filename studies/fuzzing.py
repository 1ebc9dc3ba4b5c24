"""Fuzzing: thousands of examples for every property in tests/test_fuzz.py and for the additional ones below.

python -m studies.fuzzing                   # 10,000 examples each, different every time: about an hour
python -m studies.fuzzing --examples 50
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from clipedu import SimpleTokenizer, compute_similarity, contrastive_loss, recall_at_k
from clipedu.data.captions import read_captions
from clipedu.data.pictures import load_image
from clipedu.data.records import read_records
from clipedu.ground.errors import ClipEduError, DatasetError
from clipedu.loss import sigmoid_loss
from studies.report import write_result
from tests.conftest import ROOT
from tests.test_fuzz import DATASETS, FLOATS, JSON, TEXTS, folder, is_bilingual
from tests.test_loss import loop_loss

__all__ = ["folder"]  # a fixture

# ------------------------------------------------------------------------------------------------------ tokenizer


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
    tokenizer = SimpleTokenizer.from_texts(texts[:2])
    try:
        batch = tokenizer(texts, truncation, padding, max_length, return_tensors)
    except ValueError:
        unequal = return_tensors == "pt" and (padding is False or not truncation)
        assert unequal or max_length < 2 or padding in (True, "shortest") or return_tensors == "np"
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


@given(st.lists(st.integers()) | st.lists(st.integers(-3, 12)))
def test_any_ids_are_decoded_or_refused(ids: list[int]) -> None:
    tokenizer = SimpleTokenizer.from_texts(["a red circle", "圆"])  # 8 ids
    try:
        text = tokenizer.decode(ids)
    except ValueError:
        assert not all(0 <= index < 8 for index in ids)
    else:
        assert all(0 <= index < 8 for index in ids)
        assert set(text.replace("[UNK]", " ").replace("圆", " ").split()) <= {"a", "red", "circle"}


# ----------------------------------------------------------------------------------------------------------- files

DEEP = st.integers(0, 3000).map(lambda depth: '[{"text": ' + "[" * depth + "]" * depth + "}]")
BYTES = st.binary() | (st.text() | DEEP | DATASETS.map(json.dumps)).map(lambda text: text.encode(errors="replace"))


@given(BYTES, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]))
def test_any_bytes_are_a_dataset_or_one_report(folder: Path, content: bytes, encoding: str) -> None:
    (folder / "dataset.json").write_bytes(content.decode(errors="replace").encode(encoding))
    try:
        assert read_records(folder)
    except DatasetError as error:
        assert is_bilingual(error)


@given(BYTES)
def test_any_bytes_are_captions_or_one_error(folder: Path, content: bytes) -> None:
    (folder / "captions.txt").write_bytes(content)
    try:
        read_captions(folder / "captions.txt")
    except DatasetError as error:
        assert is_bilingual(error)


@given(st.binary() | DEEP.map(str.encode) | JSON.map(json.dumps).map(str.encode))
def test_any_vocabulary_file_is_read_or_refused(folder: Path, content: bytes) -> None:
    (folder / "vocabulary.json").write_bytes(content)
    try:
        SimpleTokenizer.load(folder / "vocabulary.json")
    except ClipEduError as error:
        assert is_bilingual(error)


def whole_pictures() -> list[tuple[str, bytes]]:
    """Small pictures of each kind: with a palette, transparency, 16 bits, several frames and an EXIF tag."""
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
    pictures = []
    for kind, image, options in kinds:
        stream = BytesIO()
        image.save(stream, kind, **options)
        pictures.append((kind, stream.getvalue()))
    return pictures


PICTURES = whole_pictures()
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6)


@given(st.sampled_from(PICTURES), CHANGES, st.floats(0, 1))
def test_any_picture_is_decoded_or_refused(
    folder: Path, picture: tuple[str, bytes], changes: list[tuple[float, int]], kept: float
) -> None:
    """A few bytes are changed, most of them near the start; sometimes the end is missing."""
    kind, whole = picture
    content = bytearray(whole)
    for place, value in changes:
        content[int(place**3 * (len(content) - 1))] = value
    (folder / f"changed.{kind}").write_bytes(content[: max(1, int(2 * kept * len(content)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about what it repairs
        try:
            image = load_image(folder / f"changed.{kind}", 32)
        except DatasetError as error:
            assert is_bilingual(error)
        else:
            assert image.mode == "RGB"


# ---------------------------------------------------------------------------------------------------------- recall

SHAPES = st.lists(st.integers(0, 3), max_size=3)
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.float64, torch.int64, torch.int32, torch.bool])


@given(SHAPES, DTYPES, st.lists(st.integers(-1, 3), max_size=4), DTYPES, st.booleans())
def test_any_table_has_a_recall_or_one_error(
    shape: list[int], dtype: torch.dtype, images_of: list[int], ids_dtype: torch.dtype, nested: bool
) -> None:
    ids = torch.tensor([images_of] if nested else images_of).to(ids_dtype)
    fits = shape == [len(set(images_of)), len(images_of)] and set(images_of) == set(range(len(set(images_of))))
    fits = fits and bool(images_of) and not nested and dtype.is_floating_point and ids_dtype == torch.int64
    try:
        scores = recall_at_k(torch.zeros(shape, dtype=dtype), ids)
    except ValueError:
        assert not fits
    else:
        assert fits
        assert all(0 <= value <= 1 for value in scores.values())


# ------------------------------------------------------------------------------------------------------------ loss


def rows_of(kind: str, pairs: int, width: int, seed: int) -> Tensor:
    """Rows of length 1 or 0: the output of `F.normalize` for extreme inputs."""
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


def rounding(scale: float, width: int) -> float:
    """How far a loss in float32 may be from the one computed in 64 bits.

    With unit rows, no logit exceeds the factor exp(scale). A logit is the sum of `width` rounded products times that
    factor, which itself carries the rounding error of `scale`: together (width + scale + 2) eps factor. The logarithm
    and sum of the softmax and the mean over the rows add a few eps of numbers no larger than that. A loss is the
    difference of two such terms.
    """
    return 2 * torch.finfo(torch.float32).eps * (math.exp(scale) * (width + scale + 2 + 12) + 16)


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
    results = []
    for size in (None, chunk_size):
        inputs = [tensor.clone().requires_grad_() for tensor in (images, texts, torch.tensor(scale))]
        loss = contrastive_loss(*inputs, chunk_size=size, **options)
        assert loss.dtype == torch.float32
        assert loss.shape == ()
        results.append([loss.detach(), *torch.autograd.grad(loss, inputs)])
    bound = rounding(scale, width)
    for plain, chunked in zip(*results, strict=True):
        assert plain.isfinite().all()
        # A gradient multiplies the error of the softmax, and is summed in the precision of the input.
        sums = torch.finfo(plain.dtype).eps * math.exp(scale) * (pairs + 1)
        torch.testing.assert_close(chunked, plain, atol=math.exp(scale) * bound + sums, rtol=0)
    loss = results[0][0]
    expected = loop_loss(images, texts, torch.tensor(scale), ids or range(pairs), options.get("hard_negatives"))
    assert loss.item() == pytest.approx(expected, abs=bound)
    assert loss >= -bound
    if ids is None and extra is None:
        logits = math.exp(scale) * images.float() @ texts.float().T
        right = torch.arange(pairs)
        reference = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        torch.testing.assert_close(loss, reference, atol=2 * bound, rtol=0)


@given(st.data(), st.sampled_from([contrastive_loss, sigmoid_loss]), DTYPES)
def test_any_shapes_have_a_loss_or_one_error(
    data: st.DataObject, loss_of: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    fits = [dtype.is_floating_point]

    def draw_zeros(valid: list[int], dtype: torch.dtype = dtype) -> Tensor:
        shape = data.draw(st.just(valid) | st.just(valid) | SHAPES)
        fits.append(shape == valid)
        return torch.zeros(shape, dtype=dtype)

    images, texts, scale = draw_zeros([2, 3]), draw_zeros([2, 3]), draw_zeros([], torch.float32)
    options: dict[str, Any] = {"logit_bias": torch.tensor(-10.0)}
    if loss_of is contrastive_loss:
        options = {
            "caption_ids": draw_zeros([2]) if data.draw(st.booleans()) else None,
            "hard_negatives": draw_zeros([1, 3]) if data.draw(st.booleans()) else None,
            "chunk_size": data.draw(st.none() | st.integers(-1, 3)),
        }
        fits.append(options["chunk_size"] is None or options["chunk_size"] >= 1)
    try:
        loss = loss_of(images, texts, scale, **options)
    except ValueError:
        assert not all(fits)
    else:
        assert loss.shape == ()
        assert loss.isfinite()


@given(KINDS, KINDS, st.integers(1, 5), st.integers(1, 8), st.floats(1e-30, 1e30), FLOATS)
def test_cosines_lie_between_minus_1_and_1(
    image_kind: str, text_kind: str, count: int, width: int, size: float, dtype: torch.dtype
) -> None:
    limit = min(1e30, torch.finfo(dtype).max)
    images = (rows_of(image_kind, count, width, 0) * size).clamp(-limit, limit)
    texts = rows_of(text_kind, count, width, 1)
    cosines = compute_similarity(images.to(dtype), texts.to(dtype))
    assert cosines.dtype == torch.float32
    assert cosines.abs().nan_to_num(9).max() <= 1 + (width + 4) * torch.finfo(torch.float32).eps


# --------------------------------------------------------------------------------------------------- the study


class Recorder:
    """Keeps pytest's report for each property."""

    def __init__(self) -> None:
        self.reports: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.reports.append(report)


def main() -> int:
    """Try every property and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    options = parser.parse_args()
    settings.register_profile("study", max_examples=options.examples, deadline=None)
    recorder = Recorder()
    files = [str(ROOT / "tests/test_fuzz.py"), __file__]
    pytest.main([*files, "--hypothesis-profile=study", "--timeout=0", "-q", "-p", "no:cacheprovider"], [recorder])
    lines = ["| 性质 · property | 例子 · examples | 结果 · outcome | 秒 · seconds |", "|---|---|---|---|"]
    for report in recorder.reports:
        name = report.location[2].removeprefix("test_").replace("_", " ")
        lines.append(f"| {name} | {options.examples:,} | {report.outcome} | {report.duration:.0f} |")
    write_result("fuzzing", f"--examples {options.examples}", "\n".join(lines))
    return int(not recorder.reports or any(report.outcome != "passed" for report in recorder.reports))


if __name__ == "__main__":
    sys.exit(main())
