"""Pretrained or from scratch? The same network from three starting points, with the same budget (notebook 06).

python -m benchmarks.starts                           # sample_data, all amounts of data, 2 seeds
python -m benchmarks.starts --data-dir flickr8k --split val --name starts_flickr8k --whole-only  # other pictures

`--epochs` is the budget in passes over all pictures. `--read-every` is the number of steps between two measurements of
recall on `--split`, each of which takes seconds. `--whole-only` trains on all pictures only, at one learning rate.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import read_options, small_model, write_result
from clipedu import ImageTextDataset, TrainConfig, evaluate
from clipedu.runs.history import StepRecord
from clipedu.training import Callback, fitting_batch_size, train

ARMS = {  # name -> network, ImageNet weights, frozen
    "fine-tuned": ("efficientnet_lite0", True, False),
    "frozen": ("efficientnet_lite0", True, True),
    "random": ("efficientnet_lite0", False, False),
    "random ResNet-18": ("resnet18", False, False),
}
WHOLE = [(arm, 1.0, 1.0) for arm in ("fine-tuned", "frozen", "random")]  # arm, share of the pictures, image_lr_scale
OTHERS = [
    ("random ResNet-18", 1.0, 1.0),
    *((arm, share, 1.0) for share in (0.05, 0.25) for arm in ("fine-tuned", "frozen", "random")),
    *(("fine-tuned", 1.0, scale) for scale in (0.1, 3.0)),
]


def run(
    arm: str,
    share: float,
    train_set: ImageTextDataset,
    test_set: ImageTextDataset,
    steps: int,
    read_every: int,
    config: TrainConfig,
) -> dict[str, Any]:
    """Train one arm on a share of the pictures for `steps` steps; return losses, and recall on the way and after."""
    part = train_set.subset(round(share * len(train_set)))
    model, tokenizer = small_model(part, config.seed, *ARMS[arm])
    per_epoch = len(part) // fitting_batch_size(len(part), config.batch_size)
    losses: list[float] = []
    curve: list[tuple[int, float]] = []

    def log_step(record: StepRecord) -> None:
        losses.append(round(record["loss"], 4))
        if share == 1 and record["step"] % read_every == 0:
            curve.append((record["step"], evaluate(model, tokenizer, test_set)["en"]["i2t_R@1"]))

    config = replace(config, epochs=math.ceil(steps / per_epoch))
    train(model, tokenizer, part, config=config, callbacks=[Callback(on_step=log_step)], quiet=True)
    scores = {name: round(value, 4) for name, value in evaluate(model, tokenizer, test_set)["en"].items()}
    result = {"arm": arm, "share": share, "seed": config.seed, "image_lr_scale": config.image_lr_scale}
    return result | {"steps": len(losses), "losses": losses, "recall_by_step": curve, "scores": scores}


def main() -> None:
    """Run every arm and record the results after each."""
    options = read_options(
        __doc__, data_dir=Path("sample_data"), split="test", name="starts", epochs=2, seeds=[0, 1],
        read_every=18, whole_only=False,
    )  # fmt: skip
    train_set, test_set = (ImageTextDataset(options.data_dir, split, "en") for split in ("train", options.split))
    results = []
    for seed in options.seeds:
        for arm, share, scale in WHOLE if options.whole_only else WHOLE + OTHERS:
            config = TrainConfig(seed=seed, image_lr_scale=scale)
            steps = options.epochs * (len(train_set) // config.batch_size)
            results.append(run(arm, share, train_set, test_set, steps, options.read_every, config))
            print(seed, arm, share, scale, results[-1]["scores"], flush=True)
            write_result(options.name, results)


if __name__ == "__main__":
    main()
