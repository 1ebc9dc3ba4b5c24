"""Pretrained or from scratch? Five starts of the image side, each at the learning rate that suits it (notebook 06).

python -m benchmarks.starts             # all of it: about an hour on one core
python -m benchmarks.starts --resume    # goes on behind the last run that results/starts.json holds

The text side is the same in all arms: one layer from random weights, learning rate 5e-4, dropout 0.1. There is no
dropout behind any image encoder. What differs is chosen by one rule, `chosen_rate`. Nothing is chosen on `test`: each
run is measured there once, at its end.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness
from benchmarks.harness import read_options, small_model, write_result
from clipedu import (
    CLIP,
    Callback,
    ImageTextDataset,
    SimpleTokenizer,
    TrainConfig,
    compute_similarity,
    contrastive_loss,
    evaluate,
    recall_at_k,
    train,
)
from clipedu.data.dataset import caption_ids
from clipedu.data.loading import Pictures, in_order
from clipedu.embedding import embed_images, embed_texts, model_inputs
from clipedu.runs.history import StepRecord
from clipedu.training import fitting_batch_size


@dataclass(frozen=True)
class Arm:
    """An image encoder's start; `frozen` is the fraction of the steps in which it does not change."""

    network: str
    pretrained: bool
    frozen: float = 0.0


ARMS = {
    "frozen": Arm("efficientnet_lite0", True, 1.0),
    "fine-tuned": Arm("efficientnet_lite0", True),
    "random ResNet-18": Arm("resnet18", False),
    "unfrozen": Arm("efficientnet_lite0", True, 1 / 3),
    "random": Arm("efficientnet_lite0", False),
}
RATES = (1.0, 3.0, 10.0)
SHARES = (0.25, 0.05)


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        purpose: `rate` (choosing one), `race` (the comparison), `long` (the same with more steps) or `share` (with
            fewer pictures).
        arm: a key of ARMS.
        rate: the image side's learning rate relative to 5e-4: of all that learns while the encoder is frozen, and of
            the encoder once it learns. None for the chosen one.
        steps: those of whole epochs may be a few more.
        share: fraction of the training pictures.
    """

    purpose: str
    arm: str
    seed: int
    steps: int
    rate: float | None = None
    share: float = 1.0


def plans(seeds: list[int], epoch: int, epochs: int, trial_epochs: int, long_epochs: int) -> Iterator[Plan]:
    """All runs: what others depend on comes before them, what matters most first; an epoch has `epoch` steps."""
    steps = epochs * epoch

    def trials(*arms: str) -> list[Plan]:
        return [Plan("rate", arm, seeds[0], trial_epochs * epoch, rate) for arm in arms for rate in RATES]

    def races(*arms: str) -> list[Plan]:
        return [Plan("race", arm, seed, steps) for seed in seeds for arm in arms]

    def shares(*arms: str) -> list[Plan]:
        return [Plan("share", arm, seed, steps, share=share) for share in SHARES for seed in seeds for arm in arms]

    def longer(*arms: str) -> list[Plan]:
        return [Plan("long", arm, seed, long_epochs * epoch) for seed in seeds for arm in arms]

    # The features of a frozen encoder are computed once, so that its steps cost next to nothing.
    yield from [*trials("frozen"), *races("frozen"), *shares("frozen"), *longer("frozen")]
    # "unfrozen" takes the rates of "frozen" and "fine-tuned".
    yield from [*trials("fine-tuned", "random ResNet-18"), *races("fine-tuned", "random ResNet-18", "unfrozen")]
    yield from [*longer("random ResNet-18"), *shares("fine-tuned", "random ResNet-18")]
    yield from [*trials("random"), *races("random")]


def chosen_rate(results: list[dict[str, Any]], arm: str) -> float:
    """The rate whose trial ended with the best recall on `val`; the lower one of two that are equal."""
    trials = [run for run in results if run["purpose"] == "rate" and run["arm"] == arm]
    best: float = max(trials, key=lambda run: run["val"][-1]["i2t_R@1"])["rate"]
    return best


def run(
    plan: Plan, rates: dict[str, float], train_set: ImageTextDataset, val_set: ImageTextDataset
) -> tuple[CLIP, SimpleTokenizer, dict[str, Any]]:
    """Train as planned, at the rates of `frozen` and of the arm; returns also what was seen on the way."""
    arm, part = ARMS[plan.arm], train_set.subset(round(plan.share * len(train_set)))
    model, tokenizer = small_model(part, plan.seed, arm.network, arm.pretrained)
    config = TrainConfig(seed=plan.seed)
    model.image_size = config.image_size
    per_epoch = len(part) // fitting_batch_size(len(part), config.batch_size)
    epochs = math.ceil(plan.steps / per_epoch)
    frozen_epochs = round(arm.frozen * epochs)
    read_every = len(train_set) // config.batch_size
    losses: list[float] = []
    readings: list[dict[str, float]] = []
    start = time.process_time()
    for frozen, count in ((True, frozen_epochs), (False, epochs - frozen_epochs)):
        if count:
            model.image_encoder.requires_grad_(not frozen)
            model.image_encoder.frozen = frozen
            images = model_inputs(model, val_set, quiet=True)

            def on_step(record: StepRecord, images: torch.Tensor | Pictures = images) -> None:
                losses.append(round(record["loss"], 4))
                if len(losses) % read_every == 0:
                    readings.append({"step": len(losses)} | read(model, tokenizer, val_set, images))

            lr, scale = (config.lr * rates["frozen"], 1.0) if frozen else (config.lr, rates[plan.arm])
            phase = replace(config, epochs=count, lr=lr, image_lr_scale=scale)
            train(model, tokenizer, part, config=phase, callbacks=[Callback(on_step=on_step)], quiet=True)
    frozen_steps = frozen_epochs * per_epoch
    seen = {"steps": len(losses), "frozen_steps": frozen_steps, "pictures": len(part), "losses": losses}
    return model, tokenizer, seen | {"val": readings, "cpu_seconds": round(time.process_time() - start, 1)}


def read(
    model: CLIP, tokenizer: SimpleTokenizer, val_set: ImageTextDataset, images: torch.Tensor | Pictures
) -> dict[str, float]:
    """Recall among all of `val`, and the loss on it in batches of 64 pairs, each picture with its first caption."""
    texts, text_to_image = val_set.all_captions()
    image, text = embed_images(model, images), embed_texts(model, tokenizer, texts)
    recall = recall_at_k(compute_similarity(image, text), text_to_image, ks=(1,), caption_ids=caption_ids(texts))
    first = text[torch.searchsorted(text_to_image, torch.arange(len(image)))]
    size = fitting_batch_size(len(image), TrainConfig().batch_size)
    batches = [batch for batch in in_order(len(image), size) if len(batch) == size]
    scale = model.logit_scale.detach()
    losses = [contrastive_loss(image[batch], first[batch], scale).item() for batch in batches]
    return {name: round(value, 4) for name, value in recall.items()} | {"loss": round(sum(losses) / len(losses), 4)}


def main() -> None:
    """Make every run and record the results after each."""
    options = read_options(
        __doc__, data_dir=Path("sample_data"), name="starts", epochs=6, trial_epochs=2, long_epochs=27, seeds=[0, 1],
        resume=False,
    )  # fmt: skip
    train_set, val_set, test_set = (
        ImageTextDataset(options.data_dir, split, "en") for split in ("train", "val", "test")
    )
    file = harness.FOLDER / f"{options.name}.json"
    results = json.loads(file.read_text(encoding="utf-8"))["results"] if options.resume else []
    epoch = len(train_set) // fitting_batch_size(len(train_set), TrainConfig().batch_size)
    todo = list(plans(options.seeds, epoch, options.epochs, options.trial_epochs, options.long_epochs))
    for plan in todo[len(results) :]:
        same = "fine-tuned" if plan.arm == "unfrozen" else plan.arm
        rates = {arm: chosen_rate(results, arm) if plan.rate is None else plan.rate for arm in ("frozen", same)}
        rates[plan.arm] = rates[same]
        model, tokenizer, seen = run(plan, rates, train_set, val_set)
        test = {} if plan.purpose == "rate" else evaluate(model, tokenizer, test_set)["en"]
        rounded = {name: round(value, 4) for name, value in test.items()}
        results.append(asdict(plan) | {"rate": rates[plan.arm]} | seen | {"test": rounded})
        print({name: value for name, value in results[-1].items() if name not in ("losses", "val")}, flush=True)
        print(results[-1]["val"][-1], flush=True)
        write_result(options.name, results)


if __name__ == "__main__":
    main()
