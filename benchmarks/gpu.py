"""Training a ResNet-18 on a GPU: pictures per second, peak of memory, and how long the GPU waits for pictures.

python -m benchmarks.gpu                                                                        # under 8 minutes
python -m benchmarks.gpu --device cpu --pictures 8 --batch-size 2 --image-size 32 --repeats 1   # to try it out

It runs tests/test_gpu.py, draws photos (JPEG, 500 x 375 px), and trains with `train_epoch` as `train` does: with
pictures held on the GPU, then with pictures streamed from disk. What was measured so far is on disk at any time.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.harness import read_options, small_model, write_result
from clipedu import ImageTextDataset, TrainConfig
from clipedu.data.dataset import Batch
from clipedu.data.loading import Pictures
from clipedu.data.records import write_records
from clipedu.ground.environment import choose_device, usable_cpus, use_fast_arithmetic
from clipedu.optimization import OptimizationState
from clipedu.training import train_epoch

DIFFERENT_PHOTOS = 512  # the others are links to these
LAST_START = 400  # seconds after which nothing more is begun


class Contiguous(nn.Module):
    """The network in PyTorch's default layout, which `ImageEncoder` does not use."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.contiguous_format)

    def forward(self, images: Tensor) -> Tensor:
        """The network's output."""
        return self.network(images.contiguous())


class Arm(NamedTuple):
    """One way to train; `change` is applied to the network inside the image encoder."""

    precision: str
    tf32: bool = True
    change: Callable[[nn.Module], Any] | None = None


ARMS = {
    "fp32": Arm("fp32", tf32=False),
    "TF32": Arm("fp32"),
    "bf16": Arm("bf16"),
    "bf16, contiguous": Arm("bf16", change=Contiguous),
    "bf16, compiled": Arm("bf16", change=torch.compile),
}
ON_CUDA_ONLY = {"TF32", "bf16, compiled"}  # elsewhere, torch.compile needs a C++ compiler


def draw_photos(folder: Path, count: int) -> ImageTextDataset:
    """A dataset of JPEGs as large as a photo of Flickr, with soft shapes and grain, so that they decode as slowly."""
    (folder / "images").mkdir()

    def draw(number: int) -> None:
        rng = np.random.default_rng(number)
        shapes = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
        grain = rng.normal(0, 8, (375, 500, 3))
        photo = Image.fromarray((np.asarray(shapes) + grain).clip(0, 255).astype(np.uint8))
        photo.save(folder / f"images/{number}.jpg", quality=90)

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, range(min(count, DIFFERENT_PHOTOS))))
    for number in range(DIFFERENT_PHOTOS, count):
        os.link(folder / f"images/{number % DIFFERENT_PHOTOS}.jpg", folder / f"images/{number}.jpg")
    captions = (f"photo {' '.join(str(number))} of soft shapes in many colours" for number in range(count))
    write_records(
        folder, [{"image_path": f"images/{number}.jpg", "text": text} for number, text in enumerate(captions)]
    )
    return ImageTextDataset(folder, "train")


def measure(
    arm: Arm, train_set: ImageTextDataset, images: Tensor | Pictures, config: TrainConfig, device: torch.device
) -> dict[str, Any]:
    """The median over the epochs but the first, in which cuDNN tries its algorithms and the network is compiled."""
    use_fast_arithmetic()
    if not arm.tf32:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
    model, tokenizer = small_model(train_set, config.seed)
    model.to(device)
    if arm.change is not None:
        model.image_encoder.model = arm.change(model.image_encoder.model)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    captions = train_set.tokenized(tokenizer, device)
    images = images.to(device) if isinstance(images, Tensor) else images
    steps = len(train_set) // config.batch_size
    state = OptimizationState.start(model, config, config.epochs * steps)
    seconds, waits = [], []
    for epoch in range(1, config.epochs + 1):
        gaps: list[tuple[Any, Any]] = []
        batches = train_set.batches(images, captions, config.batch_size, epoch=epoch)
        start = time.perf_counter()
        train_epoch(model, state, watched(batches, device, gaps), epoch=epoch, steps_per_epoch=steps)
        seconds.append(time.perf_counter() - start)  # the last thing in an epoch is to wait for the GPU
        waits.append(sum(seconds_between(*gap) for gap in gaps))
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {
        "images_per_second": round(steps * config.batch_size / statistics.median(seconds[1:])),
        "waiting_share": round(sum(waits[1:]) / sum(seconds[1:]), 4),
        "peak_gib": peak and round(peak, 2),
        "first_epoch_seconds": round(seconds[0], 1),
    }


def watched(batches: Iterable[Batch], device: torch.device, gaps: list[tuple[Any, Any]]) -> Iterator[Batch]:
    """The batches; `gaps` receives when the device was done with one, and when it could have begun the next."""
    done = now(device)
    for batch in batches:
        gaps.append((done, now(device)))
        yield batch
        done = now(device)


def now(device: torch.device) -> Any:
    """A moment on the device's own clock: a GPU is behind the program, and may have work while that waits."""
    if device.type != "cuda":
        return time.perf_counter()
    moment = torch.cuda.Event(enable_timing=True)
    moment.record()
    return moment


def seconds_between(start: Any, end: Any) -> float:
    """The time between two moments; a GPU must have reached the second."""
    return end - start if isinstance(start, float) else start.elapsed_time(end) / 1000


def run_tests() -> str:
    """What pytest says in its last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "tests/test_gpu.py"]
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=150)
    except subprocess.TimeoutExpired:
        return "not finished after 150 s"
    print(result.stdout, flush=True)
    return result.stdout.strip().rpartition("\n")[2]


def main() -> None:
    """Test, then measure every arm with both kinds of pictures, and record the results after each."""
    start = time.perf_counter()
    options = read_options(__doc__, device="auto", pictures=6400, batch_size=256, image_size=224, repeats=3, name="")
    device = choose_device(options.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    name = options.name or "gpu_" + re.sub(r"\W+", "_", card.removeprefix("NVIDIA ")).lower()
    results: dict[str, Any] = {"tests": run_tests() if device.type == "cuda" else None, "usable_cpus": usable_cpus()}
    results |= {"batch_size": options.batch_size, "image_size": options.image_size, "runs": []}
    with TemporaryDirectory() as folder:
        train_set = draw_photos(Path(folder), options.pictures)
        streamed = Pictures(train_set.image_paths(), options.image_size)
        ways = {"held": train_set.pictures(options.image_size), "streamed": streamed}
        for arm, way in product(ARMS, ways):
            if (device.type != "cuda" and arm in ON_CUDA_ONLY) or time.perf_counter() - start > LAST_START:
                continue
            config = TrainConfig(options.repeats + 1, options.batch_size, precision=ARMS[arm].precision)
            try:
                measured = measure(ARMS[arm], train_set, ways[way], config, device)
            except torch.cuda.OutOfMemoryError:
                measured = {"images_per_second": None}
            results["runs"].append({"arm": arm, "pictures": way, **measured})
            print(results["runs"][-1], flush=True)
            write_result(name, results)


if __name__ == "__main__":
    main()
