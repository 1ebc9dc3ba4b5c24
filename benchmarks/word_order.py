"""Can a model be taught who is on the left, what does that cost, and what does it not teach? (notebook 08)

python -m benchmarks.word_order
python -m benchmarks.word_order --only "swap en" --steps 666 --name word_order_longer
python -m benchmarks.word_order --only "swap zh" --steps 888 --name word_order_chinese
python -m benchmarks.word_order --only "both orders zh" --steps 888 --name word_order_both_orders

The notebooks' small CLIP (EfficientNet-Lite0 with ImageNet weights, all of it trained, one Transformer layer), in one
language, with the library's default learning rate. The arms differ only in the wrong sentences that they get as hard
negatives. The probe is the share of test captions with two objects that are nearer to their picture than the same
caption with its objects swapped; a tie counts as wrong. The number of steps was tried on the validation set, with
seed 0. Both Chinese captions of a picture begin with the same object, in two constructions (在……的左边 and
……的右边是); its two English ones begin with one object each, in one construction. "both orders" says the second Chinese
caption in the construction of the first, beginning with the other object. Two processes share the runs, one thread
each.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import read_options, write_result
from clipedu import ImageTextDataset, SimpleTokenizer, TrainConfig, evaluate
from clipedu.classroom.lessons import small_clip
from clipedu.classroom.word_order import Negative, named_last, only, probe, swap_objects, teach

LEFT_RIGHT, ABOVE_BELOW = ("left of", "right of", "左边", "右边"), ("above", "below", "上面", "下面")
KINDS = {"left, right": LEFT_RIGHT, "above, below": ABOVE_BELOW}
ARMS: dict[str, Negative | None] = {
    "plain": None,
    "swap": swap_objects,
    "left and right only": only(swap_objects, *LEFT_RIGHT),
    "both orders": swap_objects,
}
RUNS = ["swap en", "plain en", "left and right only en", "swap zh"]  # arm and language


def reworded(dataset: ImageTextDataset, arm: str) -> ImageTextDataset:
    """The dataset with the captions that this arm uses."""
    if arm == "both orders":
        for index, record in enumerate(dataset.records):
            captions = {**record.captions, "zh": [named_last(text) for text in record.captions["zh"]]}
            dataset.records[index] = replace(record, captions=captions)
    return dataset


def run(arm: str, language: str, seed: int, data_dir: Path, steps: int, every: int) -> dict[str, Any]:
    """Train one arm; return the probe on the way, and at the end by kind of relation, with recall."""
    torch.set_num_threads(1)
    train_set, test_set = (
        reworded(ImageTextDataset(data_dir, split, language, seed=seed), arm) for split in ("train", "test")
    )
    tokenizer = SimpleTokenizer.from_texts(train_set.all_captions()[0])
    model, pictures = small_clip(tokenizer, seed=seed), test_set.pictures(64)
    train_pictures = train_set.pictures(64)
    assert isinstance(train_pictures, Tensor)  # few enough to be held in memory
    readings: list[dict[str, float]] = []
    start = time.process_time()

    def look(step: int, loss: float) -> None:
        if step % every == 0:
            seen = probe(model, tokenizer, test_set, pictures, language)
            recall = evaluate(model, tokenizer, test_set, pictures)[language]["i2t_R@5"]
            readings.append(
                {"step": step, "loss": round(loss, 4), "probe": round(seen, 4), "i2t_R@5": round(recall, 4)}
            )

    lr = TrainConfig().lr
    teach(model, tokenizer, train_set, train_pictures, steps, ARMS[arm], seed, lr, on_step=look)
    scores = evaluate(model, tokenizer, test_set, pictures)[language]
    kinds = {
        kind: round(probe(model, tokenizer, test_set, pictures, language, words), 4) for kind, words in KINDS.items()
    }
    seconds = round(time.process_time() - start, 1)
    recall = {name: round(value, 4) for name, value in scores.items() if "R@" in name}
    return {
        **{"arm": arm, "language": language, "seed": seed, "readings": readings, "kinds": kinds, "test": recall},
        "cpu_seconds": seconds,
    }


def main() -> None:
    """Run every arm with every seed, and record the results after each."""
    options = read_options(
        __doc__, data_dir=Path("sample_data"), name="word_order", steps=444, read_every=74, seeds=[0, 1], only=RUNS
    )
    jobs = [
        (*name.rsplit(" ", 1), seed, options.data_dir, options.steps, options.read_every)
        for name in options.only
        for seed in options.seeds
    ]
    results = []
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        for result in processes.map(run, *zip(*jobs, strict=True)):
            results.append(result)
            print(
                result["arm"], result["language"], result["seed"], result["readings"][-1], result["kinds"], flush=True
            )
            write_result(options.name, results)


if __name__ == "__main__":
    main()
