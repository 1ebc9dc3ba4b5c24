"""On a real GPU: python -m pytest -m gpu tests/test_gpu.py (also the first thing that `benchmarks.gpu` does there)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clipedu import (
    CLIP,
    Callback,
    ImageTextDataset,
    TrainConfig,
    load_checkpoint,
    load_model,
    train,
    train_step,
)
from clipedu.commands.main import main
from clipedu.optimization import OptimizationState
from clipedu.runs.folder import newest_epoch
from clipedu.runs.history import EpochRecord
from clipedu.runs.resume import save_epoch
from tests.conftest import draw_dataset, small_model, tokenizer_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
CONFIG = TrainConfig(epochs=3, batch_size=16, lr=2e-3, image_size=32, device="cuda", precision="fp32")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return draw_dataset(tmp_path / "data", {"train": 64, "val": 16, "test": 16})


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Without TF32, and with no settings left behind."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = False
    yield
    torch.cuda.set_sync_debug_mode("default")
    torch.cuda.set_per_process_memory_fraction(1.0)


def one_step(data_dir: Path, device: str, precision: str = "fp32") -> tuple[CLIP, Any]:
    """A model ready to train, and what `train_step` needs for its first step."""
    tokenizer, train_set, place = tokenizer_of(data_dir), ImageTextDataset(data_dir, "train"), torch.device(device)
    model = small_model(tokenizer, dropout=0.0).to(place)
    state = OptimizationState.start(model, replace(CONFIG, precision=precision), steps=10)
    captions = train_set.tokenized(tokenizer, place)
    batch = next(train_set.batches(train_set.pictures(32), captions, 16, epoch=1))
    return model, (model, state, *(tensor.to(place) for tensor in batch))


def run(data_dir: Path, config: TrainConfig = CONFIG, run_dir: Path | None = None, **kwargs: Any) -> list[EpochRecord]:
    tokenizer = tokenizer_of(data_dir)
    sets = ImageTextDataset(data_dir, "train"), ImageTextDataset(data_dir, "val")
    return train(small_model(tokenizer), tokenizer, *sets, config, run_dir, quiet=True, **kwargs)


def test_a_step_is_the_same_as_on_the_cpu(data_dir: Path) -> None:
    results = {}
    for device in ("cpu", "cuda"):
        model, arguments = one_step(data_dir, device)
        loss = train_step(*arguments)
        results[device] = [loss.cpu(), *(p.grad.cpu() for p in model.parameters() if p.grad is not None)]
    torch.testing.assert_close(results["cuda"], results["cpu"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_never_waits(data_dir: Path, precision: str) -> None:
    _, arguments = one_step(data_dir, "cuda", precision)
    train_step(*arguments)  # the first one prepares the GPU
    torch.cuda.set_sync_debug_mode("error")
    for _ in range(3):
        loss = train_step(*arguments)
    with pytest.raises(RuntimeError, match="synchroniz"):
        loss.item()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_learns(data_dir: Path, precision: str) -> None:
    history = run(data_dir, replace(CONFIG, epochs=20, precision=precision))
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_resume_gives_the_same_history(data_dir: Path, tmp_path: Path) -> None:
    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    whole = run(data_dir)
    assert len(run(data_dir, run_dir=tmp_path / "run", callbacks=[Callback(on_epoch=stop)])) == 1
    resumed = run(data_dir, run_dir=tmp_path / "run")
    assert [record["loss"] for record in resumed] == pytest.approx([record["loss"] for record in whole], rel=1e-3)


def words(data_dir: Path, run_dir: Path, *more: str) -> list[str]:
    command = ["train", "--data-dir", str(data_dir), "--run-dir", str(run_dir), "--device", "cuda", "--epochs", "2"]
    return [*command, "--pretrained", "none", "--batch-size", "16", *more]


def test_command_line(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "run"
    assert main(words(data_dir, run_dir, "--image-encoder", "tiny", "--image-size", "32")) == 0
    common = ["--run-dir", str(run_dir), "--device", "cuda"]
    assert main(["evaluate", *common, "--data-dir", str(data_dir), "--split", "test"]) == 0
    capsys.readouterr()
    assert main(["search", *common, "--images", str(data_dir / "images"), "--top", "3", "a red circle"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_out_of_memory(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the first epoch, nothing more is to be had: one line, and the run goes on later from where it was."""
    run_dir = tmp_path / "run"

    def save_and_take_the_rest(*arguments: Any) -> None:
        save_epoch(*arguments)
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1e-6)

    command = words(data_dir, run_dir, "--image-encoder", "resnet18", "--image-size", "96")
    with monkeypatch.context() as patch:
        patch.setattr("clipedu.training.save_epoch", save_and_take_the_rest)
        assert main(command) == 2
    assert "--batch-size" in capsys.readouterr().err
    torch.cuda.set_per_process_memory_fraction(1.0)
    path = newest_epoch(run_dir)
    assert path is not None and len(load_checkpoint(path)["training"]["history"]) == 1
    assert main(command) == 0
    assert load_model(run_dir)
