"""Can a model be taught who is on the left, and what does that cost? (notebook 08)

python -m benchmarks.word_order

The picture side is that of the notebooks' `trained_model`, fixed, and read in the four quarters of the
picture. The text side starts from scratch on the
pictures with two objects, and the seed is that of the text side. The arms differ only in the wrong
sentences that they get as hard negatives. The probe is the share of captions with two objects that are nearer to their
picture than the same caption with its objects swapped; a tie counts as wrong.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.harness import read_options, write_result
from clipedu import CLIP, ImageTextDataset, SimpleTokenizer, evaluate
from clipedu.classroom.lessons import trained_model
from clipedu.classroom.word_order import (
    Negative,
    corner_model,
    features_of,
    only,
    probe,
    recolour,
    swap_objects,
    teach,
    with_two,
)

ARMS: dict[str, Negative | None] = {
    "swap": swap_objects,
    "plain": None,
    "left and right only": only(swap_objects, "left of", "right of", "左边", "右边"),
    "colour": recolour,
    "English only": only(swap_objects, " a ", " one "),
}
KINDS = {"left, right": ("left of", "right of", "左边", "右边"), "above, below": ("above", "below", "上面", "下面")}


def run(
    arm: str,
    trained: CLIP,
    tokenizer: SimpleTokenizer,
    train_set: ImageTextDataset,
    test_set: ImageTextDataset,
    seed: int,
    steps: int,
    every: int,
) -> dict[str, Any]:
    """Train one arm; return the probe on the way, and at the end by kind of relation, with recall."""
    model = corner_model(trained, tokenizer, seed=seed)
    features, test_features = features_of(model, train_set), features_of(model, test_set)
    readings: list[dict[str, float]] = []
    start = time.process_time()

    def look(step: int, loss: float) -> None:
        if step % every == 0:
            seen = {code: round(probe(model, tokenizer, test_set, test_features, code), 4) for code in ("en", "zh")}
            readings.append({"step": step, "loss": round(loss, 4), **seen})

    teach(model, tokenizer, train_set, features, steps, ARMS[arm], seed, on_step=look)
    scores = evaluate(model, tokenizer, test_set, test_features)
    recall = {code: {k: round(v, 4) for k, v in scores[code].items() if "R@" in k} for code in scores}
    kinds = {
        kind: {code: round(probe(model, tokenizer, test_set, test_features, code, words), 4) for code in ("en", "zh")}
        for kind, words in KINDS.items()
    }
    seconds = round(time.process_time() - start, 1)
    return {"arm": arm, "seed": seed, "readings": readings, "kinds": kinds, "test": recall, "cpu_seconds": seconds}


def main() -> None:
    """Run every arm with every seed, and record the results after each."""
    options = read_options(
        __doc__, data_dir=Path("sample_data"), name="word_order", steps=1200, read_every=200, seeds=[0, 1]
    )
    train_set, test_set = (ImageTextDataset(options.data_dir, split, "both") for split in ("train", "test"))
    train_set = with_two(train_set)
    trained, tokenizer = trained_model()
    results = []
    for arm in ARMS:
        for seed in options.seeds:
            results.append(run(arm, trained, tokenizer, train_set, test_set, seed, options.steps, options.read_every))
            print(seed, arm, results[-1]["readings"][-1], results[-1]["kinds"], flush=True)
            write_result(options.name, results)


if __name__ == "__main__":
    main()
