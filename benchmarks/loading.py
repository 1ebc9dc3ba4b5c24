"""Does training wait for its pictures? Seconds spent waiting for batches, with pictures held in memory or streamed.

python -m benchmarks.loading
python -m benchmarks.loading --data-dir flickr8k --image-size 224 --batch-size 256     # on a GPU

Small sets are decoded once and held in memory; larger ones are streamed by loading processes (clipedu/data/loading.py).
Both are measured in `clipedu.training.train_epoch` itself, in the second of two epochs. A step ends when its loss is
known, so the device is idle while training waits for the next batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import in_turn, read_options, small_model, write_result
from clipedu import ImageTextDataset, TrainConfig
from clipedu.data.dataset import Batch
from clipedu.data.loading import Pictures
from clipedu.ground.environment import choose_device
from clipedu.optimization import OptimizationState
from clipedu.training import fitting_batch_size, train_epoch


def measure(way: str, data_dir: Path, config: TrainConfig) -> dict[str, Any]:
    """Duration of the second epoch in seconds, and how many of them were spent waiting."""
    train_set = ImageTextDataset(data_dir, "train", "en", seed=config.seed)
    model, tokenizer = small_model(train_set, config.seed)
    model.to(choose_device(config.device))
    size = config.image_size
    images = train_set.pictures(size) if way == "held" else Pictures(train_set.image_paths(), size)
    batch_size = fitting_batch_size(len(train_set), config.batch_size)
    captions = train_set.tokenized(tokenizer, model.logit_scale.device)
    steps = len(train_set) // batch_size
    state = OptimizationState.start(model, config, config.epochs * steps)
    for epoch in range(1, config.epochs + 1):
        waits: list[float] = []
        batches = train_set.batches(images, captions, batch_size, epoch=epoch, seed=config.seed)
        start = time.perf_counter()
        train_epoch(model, state, timed(batches, waits), epoch=epoch, steps_per_epoch=steps)
        seconds = time.perf_counter() - start
    return {
        "pictures": way,
        "seconds": round(seconds, 3),
        "waiting_seconds": round(sum(waits), 3),
        "waiting_share": round(sum(waits) / seconds, 4),
        "images_per_second": round(steps * batch_size / seconds, 1),
    }


def timed(batches: Iterable[Batch], waits: list[float]) -> Iterator[Batch]:
    """Yield the batches; append to `waits` how many seconds it took to get each one."""
    start = time.perf_counter()
    for batch in batches:
        waits.append(time.perf_counter() - start)
        yield batch
        start = time.perf_counter()


def main() -> None:
    """Measure both ways in turn and record the results."""
    options = read_options(
        __doc__, data_dir=Path("sample_data"), image_size=64, batch_size=64, rounds=1, name="loading"
    )
    config = TrainConfig(epochs=2, batch_size=options.batch_size, image_size=options.image_size)
    arms = {way: partial(measure, way, options.data_dir, config) for way in ("held", "streamed")}
    runs = []
    for _, run in in_turn(arms, options.rounds):
        print(run, flush=True)
        runs.append(run)
        settings = {"image_size": options.image_size, "batch_size": options.batch_size}
        write_result(options.name, settings | {"runs": runs})


if __name__ == "__main__":
    main()
