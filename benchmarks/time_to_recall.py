"""Seconds of training until R@5 is 0.90 in both directions: the note's loop against `clipedu.train`.

python -m benchmarks.time_to_recall
python -m benchmarks.time_to_recall --trials      # our side only, with other settings

The clock starts with the training call, so it includes the pictures that our loop decodes at the start and those that
the note decodes at every step. It is paused while recall is measured on `test` (English), with each side's own picture
size; the note's two loading processes may work ahead during that time, which is to its advantage. Each side runs for at
most its own number of epochs; if that is not enough, its `seconds_to_recall` is null.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models.resnet import BasicBlock

from benchmarks.harness import in_turn, read_options, small_model, write_result
from benchmarks.note_loop import NOTE, NoteCLIP, NotePairs, note_transform, train_note
from clipedu import CLIP, Callback, ImageTextDataset, SimpleTokenizer, TrainConfig, evaluate, train
from clipedu.runs.history import StepRecord

READ_EVERY = 15  # steps between two measurements of recall


def no_change(model: CLIP) -> None:
    """Leave the model unchanged."""


def zero_residuals(model: CLIP) -> None:
    """Initialise each residual branch to 0 (Goyal et al. 2017, section 5.1)."""
    for module in model.image_encoder.modules():
        if isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)


def without_pooling(model: CLIP) -> None:
    """Remove max-pooling after the first convolution: a picture half as large then gives feature maps of equal size."""
    model.image_encoder.model.maxpool = nn.Identity()


@dataclass(frozen=True)
class Settings:
    """Everything that determines our side, except the seed."""

    config: TrainConfig
    sizes: tuple[int, ...] = (48,)  # px; with several sizes, train with `config` at each in turn
    dropout: float = 0.0  # three epochs leave no time to overfit
    momentum: float = 0.3  # of the batch norms' running averages: the default 0.1 adapts more slowly
    averaging: float = 0.9  # decay per step of the moving average of the weights, with which recall is measured
    change: Callable[[CLIP], None] = no_change


CONFIG = TrainConfig(epochs=3, batch_size=64, lr=1e-3)
OURS = Settings(CONFIG)
TRIALS = {  # other settings that were tried; each differs from OURS as named, "first 32 px" also in its epochs
    "as above": OURS,
    "two epochs": Settings(replace(CONFIG, epochs=2)),
    "32 px": Settings(CONFIG, sizes=(32,)),
    "64 px": Settings(CONFIG, sizes=(64,)),
    "first 32 px, then 64 px": Settings(replace(CONFIG, epochs=1), sizes=(32, 64)),
    "32 px, no max-pooling": Settings(CONFIG, sizes=(32,), change=without_pooling),
    "residual branches begin at 0": Settings(CONFIG, change=zero_residuals),
    "rate 5e-4": Settings(replace(CONFIG, lr=5e-4)),
    "rate 2e-3": Settings(replace(CONFIG, lr=2e-3)),
    "batch 32": Settings(replace(CONFIG, batch_size=32)),
    "dropout 0.1": Settings(CONFIG, dropout=0.1),
    "momentum 0.1": Settings(CONFIG, momentum=0.1),
    "weights not averaged": Settings(CONFIG, averaging=0.0),
}


@dataclass(frozen=True)
class Side:
    """A fresh model, how to train it, and how to measure its recall on the way, which must not affect training."""

    model: nn.Module
    train: Callable[[Callable[[], object]], object]  # takes a callback that runs after each step
    read: Callable[[], dict[str, float]]


class Enough(Exception):
    """Raised to end a training run."""


class Watch:
    """Counts training steps and seconds, and pauses the clock to measure recall every `READ_EVERY` steps."""

    def __init__(self, read: Callable[[], dict[str, float]], threshold: float) -> None:
        self.read, self.threshold = read, threshold
        self.steps, self.seconds, self.since = 0, 0.0, time.perf_counter()
        self.curve: list[dict[str, float]] = []

    def after_step(self) -> None:
        """Count a step; raise `Enough` once the threshold is reached."""
        self.steps += 1
        if self.steps % READ_EVERY == 0:
            self.read_recall()
            if self.curve[-1]["recall"] >= self.threshold:
                raise Enough

    def read_recall(self) -> None:
        """Record the lower R@5 of the two directions."""
        self.seconds += time.perf_counter() - self.since
        scores = self.read()
        recall = min(scores["i2t_R@5"], scores["t2i_R@5"])
        self.curve.append({"step": self.steps, "seconds": round(self.seconds, 3), "recall": round(recall, 4)})
        self.since = time.perf_counter()


def note_side(train_set: ImageTextDataset, test_set: ImageTextDataset, seed: int) -> Side:
    """The note's model and training loop."""
    tokenizer = SimpleTokenizer.from_texts(train_set.all_captions()[0])
    torch.manual_seed(seed)
    model = NoteCLIP()
    transform = note_transform(NOTE.image_size)
    pictures = torch.stack([transform(Image.open(path).convert("RGB")) for path in test_set.image_paths()])
    pairs = NotePairs(train_set, tokenizer, NOTE.image_size)

    def read() -> dict[str, float]:
        model.eval()
        with torch.no_grad():  # with `pictures` given, evaluate calls only methods that NoteCLIP has too
            scores = evaluate(cast(CLIP, model), tokenizer, test_set, pictures)["en"]
        model.train()
        return scores

    return Side(model, partial(train_note, model, pairs, NOTE), read)


def our_side(train_set: ImageTextDataset, test_set: ImageTextDataset, seed: int, settings: Settings = OURS) -> Side:
    """Our model and training loop."""
    model, tokenizer = small_model(train_set, seed, dropout=settings.dropout)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = settings.momentum
    settings.change(model)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging), use_buffers=True)
    pictures = {size: test_set.pictures(size) for size in settings.sizes}

    def run(after_step: Callable[[], object]) -> None:
        def on_step(_: StepRecord) -> None:
            averaged.update_parameters(model)
            after_step()

        for size in settings.sizes:
            config = replace(settings.config, image_size=size, seed=seed)
            train(model, tokenizer, train_set, config=config, callbacks=[Callback(on_step=on_step)], quiet=True)

    def read() -> dict[str, float]:
        return evaluate(cast(CLIP, averaged.module), tokenizer, test_set, pictures[model.image_size])["en"]

    return Side(model, run, read)


SIDES: dict[str, Callable[..., Side]] = {"note": note_side, "ours": our_side}


def run(name: str, seed: int, data_dir: Path, threshold: float) -> dict[str, Any]:
    """Train one side (or trial) until it reaches the threshold or its epochs are over."""
    train_set, test_set = (ImageTextDataset(data_dir, split, "en", seed=seed) for split in ("train", "test"))
    build = SIDES[name] if name in SIDES else partial(our_side, settings=TRIALS[name])
    side = build(train_set, test_set, seed)
    watch = Watch(side.read, threshold)
    with suppress(Enough):
        side.train(watch.after_step)
        if watch.steps % READ_EVERY:
            watch.read_recall()
    last = watch.curve[-1]
    to_recall = last["seconds"] if last["recall"] >= threshold else None
    return {"side": name, "seed": seed, "seconds_to_recall": to_recall, "steps": watch.steps, "curve": watch.curve}


def ratio(runs: list[dict[str, Any]]) -> float | None:
    """The note's median seconds over ours; None if at least half of a side's runs did not reach the threshold."""
    note, ours = (
        statistics.median(run["seconds_to_recall"] or math.inf for run in runs if run["side"] == name) for name in SIDES
    )
    return round(note / ours, 2) if max(note, ours) < math.inf else None


def main() -> None:
    """Run both sides (or all trials) in turn for each seed and record the results after each."""
    options = read_options(__doc__, data_dir=Path("sample_data"), seeds=[0, 1, 2], threshold=0.9, trials=False, name="")
    name = options.name or ("time_to_recall_trials" if options.trials else "time_to_recall")
    runs: list[dict[str, Any]] = []
    for seed in options.seeds:
        names = TRIALS if options.trials else SIDES
        arms = {arm: partial(run, arm, seed, options.data_dir, options.threshold) for arm in names}
        for _, result in in_turn(arms, rounds=1):
            print(seed, result["side"], result["curve"][-1], flush=True)
            runs.append(result)
            write_result(name, {"threshold": options.threshold, "runs": runs})
    if not options.trials:
        write_result(name, {"threshold": options.threshold, "runs": runs, "ratio": ratio(runs)})


if __name__ == "__main__":
    main()
