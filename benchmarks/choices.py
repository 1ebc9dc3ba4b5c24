"""What does each choice in the training loop contribute? One change at a time, two seeds (notebook 05).

python -m benchmarks.choices
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import read_options, small_model, write_result
from clipedu import Callback, ImageTextDataset, TrainConfig, evaluate
from clipedu.ground.environment import choose_device
from clipedu.optimization import OptimizationState
from clipedu.runs.history import StepRecord
from clipedu.training import fitting_batch_size, train_epoch

NO_LIMIT = 1e6
CHOICES: dict[str, dict[str, Any]] = {  # changes to the config, or ones that `run` makes
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


def run(name: str, data_dir: Path, config: TrainConfig) -> dict[str, Any]:
    """Train with one change, and measure recall on `test` in the language(s) of training."""
    changes = dict(CHOICES[name])
    language, decay_everything = changes.pop("language", "en"), changes.pop("decay_everything", False)
    config = replace(config, **changes)
    train_set = ImageTextDataset(data_dir, "train", language, seed=config.seed)
    model, tokenizer = small_model(train_set, config.seed)
    model.to(choose_device(config.device))
    model.image_size = config.image_size
    images, batch_size = train_set.pictures(config.image_size), fitting_batch_size(len(train_set), config.batch_size)
    captions = train_set.tokenized(tokenizer, model.logit_scale.device)
    steps = len(train_set) // batch_size
    state = OptimizationState.start(model, config, config.epochs * steps)
    if decay_everything:  # also pull biases, norms, positions and the temperature towards 0
        for group in state.optimizer.param_groups:
            group["weight_decay"] = config.weight_decay
    losses: list[float] = []
    scales: list[float] = []

    def log_step(record: StepRecord) -> None:
        losses.append(round(record["loss"], 4))
        scales.append(round(record["logit_scale"], 3))

    for epoch in range(1, config.epochs + 1):
        batches = train_set.batches(images, captions, batch_size, epoch=epoch, seed=config.seed)
        train_epoch(
            model, state, batches,
            epoch=epoch, steps_per_epoch=steps, clip_norm=config.clip_norm, callbacks=[Callback(on_step=log_step)],
        )  # fmt: skip
    scores = evaluate(model, tokenizer, ImageTextDataset(data_dir, "test", language))
    return {"choice": name, "seed": config.seed, "losses": losses, "logit_scales": scales, "scores": scores}


def main() -> None:
    """Run every choice and record the results after each."""
    options = read_options(__doc__, data_dir=Path("sample_data"), epochs=2, seeds=[0, 1], name="choices")
    results = []
    for seed in options.seeds:
        for name in CHOICES:
            results.append(run(name, options.data_dir, TrainConfig(epochs=options.epochs, seed=seed)))
            print(seed, name, results[-1]["losses"][-1], results[-1]["scores"], flush=True)
            write_result(options.name, results)


if __name__ == "__main__":
    main()
