"""Train on real photos and their captions, on two cores, with no pretraining on the text side.

python -m benchmarks.flickr8k --data-dir flickr8k --language en
python -m benchmarks.flickr8k --data-dir flickr8k --changes

The recipe is what `python -m clipedu train --image-encoder efficientnet_lite0 --freeze-image-encoder` does, once for
each of `--seeds`; `--changes` trains one model for each step towards it, to show what the step brings. It was chosen by
recall on `val`, so the results are slightly optimistic.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.harness import read_options, write_result
from clipedu import CLIP, ImageEncoder, ImageTextDataset, SimpleTokenizer, TextEncoder, TrainConfig, evaluate, train
from clipedu.commands.arguments import FROZEN_DEFAULTS
from clipedu.encoders import WordAverage
from clipedu.model import Ensemble
from clipedu.runs.features import frozen_features


@dataclass(frozen=True)
class Recipe:
    """What determines a model besides its seed; the rest is the command line's default for a frozen encoder."""

    deep: bool = True
    standardised: bool = True
    words: bool = True
    feature_dropout: float = FROZEN_DEFAULTS["feature_dropout"]
    members: int = FROZEN_DEFAULTS["members"]


CHANGES: dict[str, Recipe] = {  # from a plain model to the whole recipe, one step at a time; and without one part
    "average of the last layer, one Transformer layer": Recipe(deep=False, words=False, members=1),
    "words instead of the Transformer": Recipe(deep=False, members=1),
    "and several depths of photo and mirror image": Recipe(standardised=False, members=1),
    "and standardised": Recipe(members=1),
    "and four members": Recipe(),
    "the same without feature dropout": Recipe(feature_dropout=0.0),
}


def build(recipe: Recipe, tokenizer: SimpleTokenizer, seed: int) -> CLIP:
    """A model with a frozen EfficientNet-Lite0 and random weights for the rest."""
    torch.manual_seed(seed)
    image_encoder = ImageEncoder("efficientnet_lite0", deep=recipe.deep).freeze()
    size, dropout = len(tokenizer), FROZEN_DEFAULTS["dropout"]

    def member() -> CLIP:
        text_encoder = (
            WordAverage(size, dropout=dropout)
            if recipe.words
            else TextEncoder(size, num_layers=1, dropout=dropout, pooling="mean")
        )
        dimension = FROZEN_DEFAULTS["embedding_dim"]
        model = CLIP(image_encoder, text_encoder, dimension, feature_dropout=recipe.feature_dropout)
        if not recipe.standardised:
            model.feature_norm = nn.Identity()
        return model

    return member() if recipe.members == 1 else Ensemble([member() for _ in range(recipe.members)])


def run(recipe: Recipe, train_set: ImageTextDataset, val_set: ImageTextDataset, config: TrainConfig) -> dict[str, Any]:
    """Train one model; the seconds of its training, and its recall on `val`."""
    train_set.seed = config.seed
    tokenizer = SimpleTokenizer.from_texts(train_set.all_captions()[0], FROZEN_DEFAULTS["vocab_size"])
    model = build(recipe, tokenizer, config.seed)
    history = train(model, tokenizer, train_set, config=config, quiet=True)
    scores = {
        language: {name: round(value, 4) for name, value in values.items()}
        for language, values in evaluate(model, tokenizer, val_set).items()
    }
    seconds = round(history[-1]["train_seconds"], 1)
    return {"seed": config.seed, "recipe": asdict(recipe), "seconds": seconds, "scores": scores}


def main() -> None:
    """Compute features, train, measure recall on `val`, and record it after each model."""
    options = read_options(
        __doc__, data_dir=Path("flickr8k"), language="en", seeds=[0, 1], epochs=FROZEN_DEFAULTS["epochs"],
        image_size=FROZEN_DEFAULTS["image_size"], changes=False, name="",
    )  # fmt: skip
    config = TrainConfig(**{field.name: FROZEN_DEFAULTS[field.name] for field in fields(TrainConfig)})
    config = replace(config, epochs=options.epochs, image_size=options.image_size)
    train_set, val_set = (ImageTextDataset(options.data_dir, split, options.language) for split in ("train", "val"))
    start = time.perf_counter()
    for dataset in (train_set, val_set):
        frozen_features(
            ImageEncoder("efficientnet_lite0", deep=True).freeze(), dataset.image_paths(), options.image_size
        )
    feature_seconds = round(time.perf_counter() - start, 1)
    print(f"features: {feature_seconds} s (only a few if cached)", flush=True)
    plan = CHANGES if options.changes else {"the whole recipe": Recipe()}
    name = options.name or f"flickr8k_{options.language}{'_changes' if options.changes else ''}"
    results: list[dict[str, Any]] = []
    for seed in options.seeds[:1] if options.changes else options.seeds:
        for label, recipe in plan.items():
            results.append({"label": label} | run(recipe, train_set, val_set, replace(config, seed=seed)))
            print(label, results[-1]["seconds"], results[-1]["scores"], flush=True)
            write_result(name, {"feature_seconds": feature_seconds, "runs": results})


if __name__ == "__main__":
    main()
