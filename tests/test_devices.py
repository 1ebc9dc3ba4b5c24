"""What runs on a CPU runs on a GPU: tests/pretend_gpu.py refuses what a real one would."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import gpu as benchmark
from benchmarks import harness
from clipedu import (
    ImageTextDataset,
    TrainConfig,
    evaluate,
    load_model,
    recall_at_k,
    train,
    zero_shot_classify,
)
from clipedu.commands.main import main
from clipedu.data.loading import Pictures, open_pictures
from clipedu.embedding import embed_images, embed_texts, model_inputs
from clipedu.ground.environment import choose_device
from clipedu.optimization import OptimizationState
from clipedu.search import ImageIndex
from clipedu.training import train_epoch, train_step
from tests.conftest import draw_dataset, small_model, tokenizer_of
from tests.lessons import NOTEBOOKS, Lesson
from tests.pretend_gpu import GPU, MixedDevices, PretendGPU, Waited, pretend_gpu
from tests.shortened import run_cells, shorten_trainings, small_classroom  # noqa: F401
from tests.test_cli import arguments

CONFIG = TrainConfig(epochs=2, batch_size=8, image_size=32)


@pytest.fixture
def gpu() -> Iterator[PretendGPU]:
    with pretend_gpu() as device:
        yield device
        assert device.refused == [], "an exception that somebody caught"


REFUSED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "add": lambda gpu, cpu: gpu + cpu,
    "cat": lambda gpu, cpu: torch.cat([cpu, gpu]),
    "stack of scalars": lambda gpu, cpu: torch.stack([cpu[0], gpu[0]]),
    "a layer": lambda gpu, cpu: nn.Linear(3, 3)(gpu),
    "a view": lambda gpu, cpu: gpu.view(3, 1) * cpu,
    "what a module computed": lambda gpu, cpu: nn.Linear(3, 3).to("cuda")(gpu) + cpu,
    "a gradient": lambda gpu, cpu: _gradient(gpu) + cpu,
    "a GPU's indices": lambda gpu, cpu: cpu[gpu.long()],
    "scatter": lambda gpu, cpu: gpu.index_add(0, cpu.long(), gpu),
    "assigned by index": lambda gpu, cpu: _assign(gpu, gpu.long(), cpu),
    "assigned by mask": lambda gpu, cpu: _assign(cpu, cpu > 0, gpu),
    "loss": lambda gpu, cpu: nn.functional.mse_loss(gpu, cpu),
    "random numbers": lambda gpu, cpu: torch.rand(3, device="cuda", generator=torch.Generator()),
    "pinned": lambda gpu, cpu: gpu.pin_memory(),
    "numpy": lambda gpu, cpu: gpu.numpy(),
    "array": lambda gpu, cpu: np.asarray(gpu),
}


def _gradient(gpu: Tensor) -> Tensor:
    weights = gpu.clone().requires_grad_()
    weights.square().sum().backward()
    assert weights.grad is not None
    return weights.grad


def _assign(tensor: Tensor, rows: Any, values: Tensor) -> Tensor:
    tensor[rows] = values
    return tensor


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pretend_gpu() as device, pytest.raises((MixedDevices, TypeError, RuntimeError)):
        cpu = torch.tensor([0.0, 1.0, 2.0])
        REFUSED[name](cpu.to("cuda"), cpu)
    assert len(device.refused) == 1, "the pretended GPU, and not the CPU, refused it"


# What may be done with a GPU's tensor and a CPU's, where the result is, how often it waits, and for how many uploads.
ALLOWED: dict[str, tuple[Callable[[Tensor, Tensor], Any], str, int, int]] = {
    "a scalar": (lambda gpu, cpu: gpu * cpu[1], "cuda", 0, 0),
    "indices": (lambda gpu, cpu: gpu[cpu.long()], "cuda", 0, 1),
    "a list": (lambda gpu, cpu: gpu[[0, 1]], "cuda", 0, 1),
    "its own indices": (lambda gpu, cpu: gpu[gpu.long()], "cuda", 0, 0),
    "mask": (lambda gpu, cpu: gpu[gpu > 0], "cuda", 1, 0),
    "copy_": (lambda gpu, cpu: gpu.copy_(cpu), "cuda", 0, 1),
    "a slice": (lambda gpu, cpu: _assign(cpu, slice(2), gpu[:2]), "cpu", 1, 0),
    "cpu": (lambda gpu, cpu: gpu.cpu() + cpu, "cpu", 1, 0),
    "to": (lambda gpu, cpu: cpu.to(gpu, non_blocking=True), "cuda", 0, 1),
    "pinned": (lambda gpu, cpu: cpu.pin_memory().to("cuda", torch.float64, non_blocking=True), "cuda", 0, 0),
    "tensor": (lambda gpu, cpu: torch.tensor([1.0], device="cuda") + gpu, "cuda", 0, 1),
    "like": (lambda gpu, cpu: torch.zeros_like(gpu) + torch.ones(3, device=gpu.device), "cuda", 0, 0),
    "deepcopy": (lambda gpu, cpu: copy.deepcopy([cpu, gpu])[1], "cuda", 0, 0),
    "item": (lambda gpu, cpu: torch.tensor(gpu.max().item()), "cpu", 1, 0),
    "unique": (lambda gpu, cpu: torch.unique(gpu), "cuda", 1, 0),
    "format": (lambda gpu, cpu: torch.tensor(float(f"{gpu[0]:.1f}")), "cpu", 1, 0),
    "bool": (lambda gpu, cpu: torch.tensor(bool(gpu.isfinite().all())), "cpu", 1, 0),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name: str, gpu: PretendGPU) -> None:
    operation, device, waits, uploads = ALLOWED[name]
    cpu, on_gpu = torch.tensor([0.0, 1.0, 2.0]), torch.arange(3.0, device="cuda")
    result: Tensor = operation(on_gpu, cpu)
    assert (result.device.type, gpu.waits, gpu.uploads) == (device, waits, uploads)
    assert (cpu.device.type, on_gpu.device) == ("cpu", GPU)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return draw_dataset(tmp_path / "data", {"train": 240, "val": 8, "test": 8})


def trained(data_dir: Path, frozen: bool = False, **settings: Any) -> tuple[Any, Any, Any]:
    tokenizer, train_set = tokenizer_of(data_dir), ImageTextDataset(data_dir, "train", "both")
    model = small_model(tokenizer)
    if frozen:
        model.image_encoder.freeze()
    val_set = ImageTextDataset(data_dir, "val", "both")
    return model, tokenizer, train(model, tokenizer, train_set, val_set, replace(CONFIG, **settings), quiet=True)


@pytest.mark.parametrize(("precision", "frozen"), [("fp32", False), ("fp16", False), ("bf16", True)])
def test_training_gives_the_same_numbers(data_dir: Path, precision: str, frozen: bool) -> None:
    """Up to rounding, where a GPU computes frozen features in bf16."""
    _, _, on_cpu = trained(data_dir, frozen, precision=precision, device="cpu")
    with pretend_gpu() as gpu:
        model, _, on_gpu = trained(data_dir, frozen, precision=precision)
        assert choose_device() == torch.device("cuda")
        assert {tensor.device for tensor in model.state_dict().values()} == {GPU}
    assert gpu.refused == []
    for ours, theirs in zip(on_gpu, on_cpu, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-3 if frozen else 1e-6)
        assert frozen or ours["val"] == theirs["val"]


def test_what_comes_after_training(data_dir: Path, gpu: PretendGPU) -> None:
    model, tokenizer, _ = trained(data_dir, epochs=1)
    val_set = ImageTextDataset(data_dir, "val", "both")
    images, (texts, text_to_image) = model_inputs(model, val_set), val_set.all_captions()
    assert evaluate(model, tokenizer, val_set) == evaluate(model.cpu(), tokenizer, val_set)
    model.to(choose_device())
    assert zero_shot_classify(model, tokenizer, images, ["circle", "ring"]).argmax(dim=1).numpy().shape == (8,)
    similarity = embed_images(model, images) @ embed_texts(model, tokenizer, texts).T
    assert recall_at_k(similarity.to("cuda"), text_to_image) == recall_at_k(similarity, text_to_image)
    assert len(ImageIndex(model, tokenizer, data_dir / "images").search(texts[0], top=3)) == 3


def test_command_line(data_dir: Path, tmp_path: Path, gpu: PretendGPU) -> None:
    run_dir = str(tmp_path / "run")
    assert main([*arguments(data_dir, tmp_path / "run"), "--augment"]) == 0
    assert main(["evaluate", "--run-dir", run_dir, "--data-dir", str(data_dir)]) == 0
    assert main(["search", "--run-dir", run_dir, "--images", str(data_dir / "images"), "a red circle"]) == 0
    assert load_model(run_dir)[0].to("cuda").logit_scale.device == GPU


def prepared(data_dir: Path, batch_size: int, streamed: bool = False, **settings: Any) -> Any:
    """A model on the GPU, its optimizer, and the batches of an epoch."""
    tokenizer, train_set = tokenizer_of(data_dir), ImageTextDataset(data_dir, "train")
    model = small_model(tokenizer).to("cuda")
    paths = train_set.image_paths()
    images = Pictures(paths, 32, workers=0) if streamed else open_pictures(paths, 32)
    images = images.to("cuda") if isinstance(images, Tensor) else images
    batches = train_set.batches(images, train_set.tokenized(tokenizer, GPU), batch_size, epoch=1)
    return model, OptimizationState.start(model, replace(CONFIG, **settings), 100), batches


@pytest.mark.parametrize("streamed", [False, True])
def test_training_seldom_waits(data_dir: Path, gpu: PretendGPU, streamed: bool) -> None:
    """60 steps read their losses three times; held pictures are on the GPU, streamed ones in pinned memory."""
    model, state, batches = prepared(data_dir, 4, streamed)
    gpu.waits = gpu.uploads = 0
    train_epoch(model, state, batches, epoch=1, steps_per_epoch=60)
    assert gpu.waits <= 60 / 20 + 1, "the losses, and whether the weights are finite"
    assert gpu.uploads <= 2, "which pictures and captions are in each batch"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_never_waits(data_dir: Path, gpu: PretendGPU, precision: str) -> None:
    model, state, batches = prepared(data_dir, 8, precision=precision)
    for batch in batches:
        with gpu.no_waiting():
            loss = train_step(model, state, *batch)
    with pytest.raises(Waited), gpu.no_waiting():
        loss.item()
    gpu.refused.clear()


@pytest.mark.slow
def test_the_benchmark(tmp_path: Path, gpu: PretendGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real GPU, it also compiles, and runs tests/test_gpu.py."""
    moment = SimpleNamespace(record=lambda: None, elapsed_time=lambda end: 1.0)
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: moment)
    monkeypatch.setattr(harness, "FOLDER", tmp_path)
    monkeypatch.setattr(benchmark, "run_tests", lambda: "passed")
    monkeypatch.delitem(benchmark.ARMS, "bf16, compiled")
    words = "--pictures 4 --batch-size 2 --image-size 32 --repeats 1"
    monkeypatch.setattr(sys, "argv", [benchmark.__file__, *words.split()])
    benchmark.main()
    results = json.loads((tmp_path / "gpu_a_pretended_gpu.json").read_text())["results"]
    assert results["tests"] == "passed"
    assert [(run["arm"], run["pictures"]) for run in results["runs"]] == [
        *product(benchmark.ARMS, ("held", "streamed"))
    ]


@pytest.mark.slow
@pytest.mark.again
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(
    path: Path,
    small_classroom: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    gpu: PretendGPU,
) -> None:
    """Every code cell; a training takes at most 16 steps, or one per epoch."""
    shorten_trainings(monkeypatch, small_classroom)
    monkeypatch.chdir(path.parent)
    failed = []
    for where, error, _ in run_cells(Lesson.read(path)):
        if error:
            failed.append(f"{path.name}, {where}: {error!r}")
        if gpu.refused:
            failed.append(f"{path.name}, {where}: {gpu.refused}")
            gpu.refused.clear()
    assert not failed, "\n".join(failed)
