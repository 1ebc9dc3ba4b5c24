"""Numbers at their limits: a finite result or one clear error, and never a NaN that silently stays in the weights."""

from __future__ import annotations

import copy
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from clipedu import CLIP, Callback, ImageEncoder, ImageTextDataset, TrainConfig, contrastive_loss, load_model, train
from clipedu.data.pictures import IMAGE_SIZES, find_pictures, load_pixels
from clipedu.data.records import write_records
from clipedu.embedding import embed_images
from clipedu.ground.errors import DatasetError, TrainingError
from clipedu.model import MAX_LOGIT_SCALE
from clipedu.runs.features import frozen_features
from clipedu.runs.history import StepRecord
from clipedu.search import ImageIndex
from clipedu.training import fitting_batch_size
from tests.conftest import small_model, tokenizer_of
from tests.test_loss import unit

QUICK = TrainConfig(epochs=1, batch_size=8, image_size=32, device="cpu", precision="fp32")


def is_finite(model: CLIP) -> bool:
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())


def steps_of(
    data_dir: Path, model: CLIP | None = None, config: TrainConfig = QUICK, run_dir: Path | None = None
) -> list[StepRecord]:
    """Train, check that the weights are finite, and return the record of each step."""
    tokenizer = tokenizer_of(data_dir)
    model = model or small_model(tokenizer)
    steps: list[StepRecord] = []
    train(model, tokenizer, ImageTextDataset(data_dir, "train"), None, config, run_dir, [Callback(steps.append)])
    assert is_finite(model)
    return steps


# ------------------------------------------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_non_finite_number_in_a_picture_stops_training(
    data_dir: Path, tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float pictures are used unchanged; no checkpoint keeps the weights that they spoil."""
    pictures = torch.randn(24, 3, 32, 32)
    pictures[5, 1, 2, 3] = value
    monkeypatch.setattr("clipedu.training.model_inputs", lambda *_: pictures)
    with pytest.raises(TrainingError, match=r"损失是 nan.*\| the loss is nan at step 1"):
        steps_of(data_dir, config=replace(QUICK, batch_size=24), run_dir=tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.pt"))


@pytest.mark.parametrize("value", [1e25, 3e38])
def test_a_picture_whose_variance_overflows_stops_training(
    data_dir: Path, tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss stays finite (batch norm divides by infinity), but the running variance does not."""
    pictures = torch.randn(24, 3, 32, 32)
    pictures[5, 1, 2, 3] = value
    monkeypatch.setattr("clipedu.training.model_inputs", lambda *_: pictures)
    with pytest.raises(TrainingError, match="weights after epoch 1"):
        steps_of(data_dir, config=replace(QUICK, batch_size=24), run_dir=tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.pt"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_gradient_is_found_before_the_checkpoint(data_dir: Path, tmp_path: Path, value: float) -> None:
    """After the last step of an epoch, no further loss would reveal it."""
    model = small_model(tokenizer_of(data_dir))
    steps = 0

    def corrupt(gradient: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        return gradient.fill_(value) if steps == 6 else gradient

    model.text_projection.weight.register_hook(corrupt)
    with pytest.raises(TrainingError, match="after epoch 2"):
        steps_of(data_dir, model, replace(QUICK, epochs=2), tmp_path / "run")  # 3 steps per epoch
    kept, _ = load_model(tmp_path / "run")
    assert is_finite(kept)
    assert [path.name for path in (tmp_path / "run/checkpoints").glob("epoch_*")] == ["epoch_1.pt"]


def test_the_largest_learning_rate_is_reported_as_the_cause(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--lr"):
        steps_of(data_dir, config=replace(QUICK, lr=1e6), run_dir=tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.pt"))


def test_non_finite_features_on_disk_are_computed_again(data_dir: Path, tmp_path: Path) -> None:
    model = small_model(tokenizer_of(data_dir))
    model.image_encoder.freeze()
    paths = ImageTextDataset(data_dir, "val").image_paths()
    right = frozen_features(model.image_encoder, paths, 32)
    (file,) = (tmp_path / "cache").glob("*.npz")
    content = dict(np.load(file))
    content["features"][3, 7] = math.nan
    np.savez(file, **content)
    assert torch.equal(frozen_features(model.image_encoder, paths, 32), right)


def test_a_second_index_of_a_folder_decodes_nothing(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer)
    (data_dir / "images/broken.png").write_bytes(b"<html>")
    (data_dir / "images/circle.png").symlink_to("circle.png")
    first = ImageIndex(model, tokenizer, data_dir)
    names = [path.name for path in first.paths]
    assert len(names) == 40
    assert [Path(name).name for names in first.left_out.values() for name in names] == [
        "broken.png", "circle.png",
    ]  # fmt: skip
    alone = ImageTextDataset(data_dir).records[7].image_path
    features = frozen_features(model.image_encoder, [alone], 32)
    right = embed_images(model, features)[0]
    torch.testing.assert_close(first.embedding[names.index(alone.name)], right, atol=1e-5, rtol=0)
    monkeypatch.setattr("clipedu.data.pictures._use", lambda *_: pytest.fail("decoded again"))
    second = ImageIndex(model, tokenizer, data_dir)
    assert torch.equal(second.embedding, first.embedding)
    assert (second.paths, second.left_out) == (first.paths, first.left_out)
    monkeypatch.undo()
    with pytest.raises(DatasetError, match=r"broken\.png"):  # training does not take NaN for features
        frozen_features(model.image_encoder, find_pictures(data_dir), 32)


def test_pictures_known_from_another_set_are_not_decoded_again(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = small_model(tokenizer_of(data_dir)).image_encoder
    paths = ImageTextDataset(data_dir).image_paths()
    some, decoded = frozen_features(encoder, paths[3:7], 32), []

    def load(path: Path, size: int) -> torch.Tensor:
        decoded.append(path)
        return load_pixels(path, size)

    monkeypatch.setattr("clipedu.data.loading.load_pixels", load)
    features = frozen_features(encoder, paths[::-1], 32)
    assert sorted(decoded) == sorted({*paths} - {*paths[3:7]})
    assert torch.equal(features.flip(0)[3:7], some)
    monkeypatch.setattr("clipedu.data.loading.load_pixels", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(frozen_features(encoder, paths[:9], 32), features.flip(0)[:9])


def test_two_at_once_compute_features_once(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = small_model(tokenizer_of(data_dir)).image_encoder
    paths = ImageTextDataset(data_dir).image_paths()
    computed: list[int] = []

    def compute(encoder: ImageEncoder, paths: list[Path], *_: Any) -> torch.Tensor:
        computed.append(len(paths))
        time.sleep(0.3)
        return torch.ones(len(paths), encoder.output_dim)

    monkeypatch.setattr("clipedu.runs.features._compute_features", compute)
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda _: frozen_features(encoder, paths, 32), range(3)))
    assert computed == [40]
    assert all(torch.equal(result, torch.ones(40, 64)) for result in results)


def test_the_cache_forgets_what_was_used_least_recently(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = small_model(tokenizer_of(data_dir)).image_encoder
    paths = ImageTextDataset(data_dir, "val").image_paths()

    def files() -> set[Path]:
        return {*(tmp_path / "cache").glob("*.npz")}

    made: list[Path] = []
    for size in (32, 40, 48):
        before = files()
        frozen_features(encoder, paths, size)
        made += files() - before
        monkeypatch.setattr("clipedu.runs.features.CACHE_LIMIT", 3.5 * made[0].stat().st_size)  # three of these files
        os.utime(made[-1], (size, size))  # seconds since 1970
    frozen_features(encoder, paths, 32)  # used again
    frozen_features(encoder, paths, 56)
    assert made[0] in files()
    assert made[1] not in files()
    monkeypatch.setattr("clipedu.runs.features.DECODING", 2)
    before = files()
    frozen_features(encoder, paths, 32)
    assert files() - before, "another way of decoding has features of its own"


# ----------------------------------------------------------------------------------------------- nothing to tell apart


@pytest.mark.parametrize("sides", [("image",), ("text",), ("image", "text")])
def test_embeddings_of_length_0(data_dir: Path, sides: tuple[str, ...]) -> None:
    """With a projection of zeros there is nothing to normalise. The loss is that of a guess, and training continues."""
    model = small_model(tokenizer_of(data_dir))
    for side in sides:
        getattr(model, f"{side}_projection").weight.data.zero_()
    assert steps_of(data_dir, model)[0]["loss"] == pytest.approx(math.log(8), abs=1e-5)


def test_pictures_and_captions_that_are_all_equal(tmp_path: Path) -> None:
    """The same grey picture and caption 24 times: no variance in any channel, no wrong answer in any batch."""
    (tmp_path / "images").mkdir()
    records: list[dict[str, object]] = []
    for number in range(24):
        Image.new("RGB", (32, 32), "grey").save(tmp_path / f"images/{number}.png")
        records.append({"image_path": f"images/{number}.png", "text": ["a grey wall"], "text_zh": ["灰墙"]})
    write_records(tmp_path, records)
    assert {step["loss"] for step in steps_of(tmp_path)} == {0.0}


@pytest.mark.parametrize(("processes", "batch_size", "share"), [(2, 2, None), (3, 2, None), (2, 4, 4), (3, 8, 6)])
def test_no_process_trains_on_a_batch_of_one(processes: int, batch_size: int, share: int | None) -> None:
    if share is None:
        with pytest.raises(TrainingError, match=f"batches of {batch_size}"):
            fitting_batch_size(100, batch_size, processes)
    else:
        assert fitting_batch_size(100, batch_size, processes) == share


# ----------------------------------------------------------------------------------------------------- temperature


def test_the_worst_case_at_the_clamp() -> None:
    """Each image is opposite to its own text and equal to half of the others: the loss is 200 + ln 8, no overflow."""
    half = unit(1, 16).expand(8, 16)
    images = torch.cat([half, -half])
    scale = torch.tensor(MAX_LOGIT_SCALE, requires_grad=True)
    inputs = [images.clone().requires_grad_(), (-images).requires_grad_(), scale]
    loss = contrastive_loss(*inputs)
    assert loss.item() == pytest.approx(200 + math.log(8), rel=1e-5)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, inputs))


@pytest.mark.parametrize(("limit", "push"), [(100.0, -1.0), (1.0, 1.0)])
def test_training_continues_at_the_clamp(data_dir: Path, limit: float, push: float) -> None:
    model = small_model(tokenizer_of(data_dir))
    model.logit_scale.data.fill_(math.log(limit))
    model.logit_scale.register_hook(lambda gradient: torch.full_like(gradient, push))  # outwards, in every step
    steps = steps_of(data_dir, model, replace(QUICK, epochs=2, lr=0.01))
    assert [step["logit_scale"] for step in steps] == pytest.approx([limit] * 6, rel=1e-6)


@pytest.mark.slow
def test_ten_thousand_equal_captions() -> None:
    """Every answer is right, so loss and gradients are 0; computed in chunks, as all pairs at once would take 2 GB."""
    images = unit(10_000, 16).requires_grad_()
    texts = unit(1, 16, seed=1).expand(10_000, 16)
    scale = torch.tensor(2.66, requires_grad=True)
    ids = torch.zeros(10_000, dtype=torch.int64)
    loss = contrastive_loss(images, texts, scale, caption_ids=ids, chunk_size=250)
    assert abs(loss.item()) < 1e-5
    assert all(gradient.abs().max() < 1e-6 for gradient in torch.autograd.grad(loss, (images, scale)))


# -------------------------------------------------------------------------------------------------- other precisions


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_model_under_autocast(data_dir: Path, dtype: torch.dtype) -> None:
    """Rows stay float32 with length 1, and within 32 eps of the dtype of the same model's rows in 64 bits."""
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer).eval()
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    inputs = images, *tokenizer(ImageTextDataset(data_dir, "test").all_captions()[0][:8], padding="longest").values()
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(*inputs)
        with torch.autocast("cpu", dtype):
            autocast = model(*inputs)
    for expected, rows in zip(exact, autocast, strict=True):
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(8))
        assert (rows - expected).norm(dim=1).max() < 32 * torch.finfo(dtype).eps


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_in_half_precision(data_dir: Path, precision: str) -> None:
    losses = [step["loss"] for step in steps_of(data_dir, config=replace(QUICK, epochs=2, precision=precision))]
    assert sum(losses[3:]) < sum(losses[:3])


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_the_smallest_pictures_have_no_uninitialised_gradients(name: str) -> None:
    """For a stride-2 convolution on a 1 x 1 feature map, oneDNN leaves bf16 gradients uninitialised."""
    images = torch.randn(8, 3, IMAGE_SIZES[0], IMAGE_SIZES[0])
    encoder = ImageEncoder(name, pretrained=False)
    gradients = []
    for _ in range(3):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            features = encoder(images)
        leave_nan_in_memory()
        features.square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters() if parameter.grad is not None])
    for first, second, third in zip(*gradients, strict=True):
        assert first.isfinite().all()
        assert torch.equal(first, second)
        assert torch.equal(first, third)


def leave_nan_in_memory() -> None:
    """Free blocks of many sizes filled with NaN, which the next tensors are likely to reuse."""
    blocks = [torch.full((size,), math.nan) for size in (1_000, 10_000, 100_000, 300_000, 1_200_000) for _ in range(6)]
    del blocks
