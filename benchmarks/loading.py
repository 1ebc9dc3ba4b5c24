"""Does training wait for its pictures? Seconds in data loading against seconds in the steps, held and streamed.

python -m benchmarks.loading
python -m benchmarks.loading --data-dir flickr8k --image-size 224 --batch-size 256     # on a GPU

Small sets are held in memory, decoded once; larger ones are streamed by loading processes (clipedu/data/pictures.py).
Both are measured in `clipedu.train` itself, in the second of two epochs. A step ends when its loss is known, so while
training waits for the next batch the device has nothing to do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch import Tensor

from benchmarks.record import FOLDER, write_result
from benchmarks.scratch import from_scratch
from benchmarks.turns import in_turn
from clipedu import ImageTextDataset, TrainConfig, train
from clipedu.data import pictures as pictures_module
from clipedu.data.loading import Pictures, image_batches

LIMITS = {"held": pictures_module.MEMORY_LIMIT, "streamed": 0}  # bytes up to which pictures are held


def measure(way: str, data_dir: Path, config: TrainConfig) -> dict[str, Any]:
    """Seconds of the second epoch, and how many of them were spent waiting for pictures."""
    train_set = ImageTextDataset(data_dir, "train", "en", seed=config.seed)
    model, tokenizer = from_scratch(train_set, config.seed)
    waits: list[float] = []

    def timed(pictures: Tensor | Pictures, batches: list[list[int]]) -> Iterator[Tensor]:
        waits.clear()  # an epoch begins
        loaded = image_batches(pictures, batches)
        for _ in batches:
            start = time.perf_counter()
            batch = next(loaded)
            waits.append(time.perf_counter() - start)
            yield batch

    with patch.object(pictures_module, "MEMORY_LIMIT", LIMITS[way]), patch("clipedu.training.image_batches", timed):
        first, second = train(model, tokenizer, train_set, config=config)
    took = second["train_seconds"] - first["train_seconds"]
    return {
        "pictures": way,
        "seconds": round(took, 3),
        "waiting_seconds": round(sum(waits), 3),
        "waiting_share": round(sum(waits) / took, 4),
        "images_per_second": round(len(waits) * config.batch_size / took, 1),
    }


def main() -> None:
    """Measure both ways in turn and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("sample_data"))
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--name", default="loading", help="of the file in benchmarks/results")
    options = parser.parse_args()
    config = TrainConfig(epochs=2, batch_size=options.batch_size, image_size=options.image_size)
    runs = []
    for _, one in in_turn({way: partial(measure, way, options.data_dir, config) for way in LIMITS}, options.rounds):
        print(f"{one['pictures']}: {one['waiting_share']:.1%} of {one['seconds']} s waiting for pictures", flush=True)
        runs.append(one)
        settings = {"image_size": options.image_size, "batch_size": options.batch_size}
        write_result(FOLDER / f"{options.name}.json", settings | {"runs": runs})


if __name__ == "__main__":
    main()
