"""What does each choice of the training loop bring? One change at a time, two seeds (notebook 05).

python -m benchmarks.choices
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch.optim import AdamW, Optimizer

from benchmarks.record import FOLDER, write_result
from benchmarks.scratch import from_scratch
from clipedu import CLIP, ImageTextDataset, TrainConfig, evaluate, train

NO_LIMIT = 1e9
CHOICES: dict[str, dict[str, Any]] = {  # a change of the config, or of what is named here
    "as it is": {},
    "no warm-up": {"warmup": 0.0},
    "no gradient clipping": {"clip_norm": NO_LIMIT},
    "weight decay 5, on matrices": {"weight_decay": 5.0},
    "weight decay 5, on everything": {"weight_decay": 5.0, "decay_everything": True},
    "both languages": {"language": "both"},
    "pictures of 32 px": {"image_size": 32},
    "learning rate 1e-4": {"lr": 1e-4},
    "learning rate 4e-3": {"lr": 4e-3},
}


def decay_everything(model: CLIP, config: TrainConfig) -> Optimizer:
    """What happens without groups: biases, norms, positions and the temperature are pulled to 0 as well."""
    return AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)


def run(name: str, data_dir: Path, config: TrainConfig) -> dict[str, Any]:
    """Train with one change, and read recall on `test` in the language(s) of training."""
    changes = dict(CHOICES[name])
    language = changes.pop("language", "en")
    everything = changes.pop("decay_everything", False)
    config = replace(config, **changes)
    train_set = ImageTextDataset(data_dir, "train", language, seed=config.seed)
    model, tokenizer = from_scratch(train_set, config.seed)
    losses: list[float] = []
    scales: list[float] = []

    def keep(record: dict[str, Any]) -> None:
        if "val" not in record:
            losses.append(round(record["loss"], 4))
            scales.append(round(record["logit_scale"], 3))

    with patch("clipedu.training.make_optimizer", decay_everything) if everything else nullcontext():
        train(model, tokenizer, train_set, config=config, callbacks=[keep])
    scores = evaluate(model, tokenizer, ImageTextDataset(data_dir, "test", language))
    return {"choice": name, "seed": config.seed, "losses": losses, "logit_scales": scales, "scores": scores}


def main() -> None:
    """Run every choice and write the results down after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("sample_data"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--name", default="choices", help="of the file in benchmarks/results")
    options = parser.parse_args()
    results = []
    for seed in options.seeds:
        for name in CHOICES:
            result = run(name, options.data_dir, TrainConfig(epochs=options.epochs, seed=seed))
            recalls = {language: round(scores["i2t_R@1"], 3) for language, scores in result["scores"].items()}
            print(seed, name, result["losses"][-1], recalls, flush=True)
            results.append(result)
            write_result(FOLDER / f"{options.name}.json", results)


if __name__ == "__main__":
    main()
