"""Pretrained or from scratch? The same network from three starts, with the same budget (notebook 06).

python -m benchmarks.starts                           # sample_data, all amounts of data, 2 seeds
python -m benchmarks.starts --data-dir flickr8k --split val --name starts_flickr8k --whole-only  # other pictures
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import FOLDER, write_result
from clipedu import CLIP, ImageEncoder, ImageTextDataset, SimpleTokenizer, TextEncoder, TrainConfig, evaluate, train

ARMS = {  # name -> network, ImageNet weights, frozen
    "fine-tuned": ("efficientnet_lite0", True, False),
    "frozen": ("efficientnet_lite0", True, True),
    "random": ("efficientnet_lite0", False, False),
    "random ResNet-18": ("resnet18", False, False),
}
SHARES = (0.05, 0.25, 1.0)
IMAGE_LR_SCALES = (0.1, 3.0)
READ_EVERY = 18  # steps between two looks at the recall, each of which costs seconds


def build(arm: str, tokenizer: SimpleTokenizer, seed: int) -> CLIP:
    """A fresh model of one arm; the text side begins the same in all of them."""
    network, pretrained, frozen = ARMS[arm]
    torch.manual_seed(seed)
    text_encoder = TextEncoder(len(tokenizer), num_layers=1, pooling="mean")
    image_encoder = ImageEncoder(network, pretrained)
    return CLIP(image_encoder.freeze() if frozen else image_encoder, text_encoder)


def run(
    arm: str,
    train_set: ImageTextDataset,
    test_set: ImageTextDataset,
    share: float,
    steps: int,
    config: TrainConfig,
    read_every: int = READ_EVERY,
) -> dict[str, Any]:
    """Train one arm on a share of the pictures for so many steps; its losses, its recall on the way and at the end."""
    records = train_set.records
    train_set.records = records[: round(share * len(records))]
    tokenizer = SimpleTokenizer()
    tokenizer.build_vocab(train_set.all_captions()[0])
    model = build(arm, tokenizer, config.seed)
    per_epoch = len(train_set) // min(config.batch_size, len(train_set))
    config = replace(config, epochs=math.ceil(steps / per_epoch))
    losses: list[float] = []
    curve: list[tuple[int, float]] = []

    def look(record: dict[str, Any]) -> None:
        if "val" not in record:
            losses.append(round(record["loss"], 4))
            if share == 1 and record["step"] % read_every == 0:
                curve.append((record["step"], evaluate(model, tokenizer, test_set)["en"]["i2t_R@1"]))

    try:
        train(model, tokenizer, train_set, config=config, callbacks=[look])
    finally:
        train_set.records = records
    scores = {name: round(value, 4) for name, value in evaluate(model, tokenizer, test_set)["en"].items()}
    return {
        "arm": arm,
        "share": share,
        "seed": config.seed,
        "image_lr_scale": config.image_lr_scale,
        "steps": len(losses),
        "losses": losses,
        "recall_by_step": curve,
        "scores": scores,
    }


def main() -> None:
    """Run every arm and write the results down after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("sample_data"))
    parser.add_argument("--split", default="test", help="the pictures that recall is read on")
    parser.add_argument("--name", default="starts", help="of the file in benchmarks/results")
    parser.add_argument("--epochs", type=int, default=2, help="the budget: so many passes over all pictures")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--read-every", type=int, default=READ_EVERY, help="steps between two looks at the recall")
    parser.add_argument("--whole-only", action="store_true", help="all pictures, one learning rate")
    options = parser.parse_args()
    train_set = ImageTextDataset(options.data_dir, "train", "en")
    test_set = ImageTextDataset(options.data_dir, options.split, "en")
    results = []
    for seed in options.seeds:
        config = TrainConfig(seed=seed)
        steps = options.epochs * (len(train_set) // config.batch_size)
        plan = [(arm, 1.0, 1.0) for arm in ("fine-tuned", "frozen", "random")]
        if not options.whole_only:
            plan += [("random ResNet-18", 1.0, 1.0)]
            plan += [(arm, share, 1.0) for share in SHARES[:-1] for arm in ("fine-tuned", "frozen", "random")]
            plan += [("fine-tuned", 1.0, scale) for scale in IMAGE_LR_SCALES]
        for arm, share, scale in plan:
            scaled = replace(config, image_lr_scale=scale)
            result = run(arm, train_set, test_set, share, steps, scaled, options.read_every)
            print(seed, arm, share, scale, result["scores"], flush=True)
            results.append(result)
            write_result(FOLDER / f"{options.name}.json", results)


if __name__ == "__main__":
    main()
