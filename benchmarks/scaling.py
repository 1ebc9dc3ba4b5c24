"""Training speed in pictures per second with one process and with two, at the same total batch size.

python -m benchmarks.scaling

This times the command itself, `python -m clipedu train`, alone and under torchrun: ResNet-18 at 64 px for two epochs,
of which the second counts, from the seconds in history.json. Each process gets half of the processor's threads;
"one process, all threads" has as many threads as both together and is the fair comparison for two processes. If there
is a GPU for each process, they communicate through NCCL; otherwise all run on the CPU, with Gloo.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.harness import in_turn, ratio_of_medians, read_options, write_result

TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


def pictures_per_second(processes: int, threads: int, data_dir: Path, batch_size: int, image_size: int) -> float:
    """Train for two epochs in a temporary folder; return the speed of the second, summed over all processes."""
    device = "auto" if torch.cuda.device_count() >= 2 else "cpu"
    with TemporaryDirectory() as folder:
        settings = {"data-dir": data_dir, "run-dir": folder, "batch-size": batch_size, "image-size": image_size}
        settings |= {"device": device, "pretrained": "none", "epochs": 2}
        flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        subprocess.run(
            [sys.executable, "-m", *(TORCHRUN if processes == 2 else []), "clipedu", "train", *flags],
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        first, second = json.loads((Path(folder) / "history.json").read_text(encoding="utf-8"))
    pictures = batch_size * (second["step"] - first["step"])
    return round(pictures / (second["train_seconds"] - first["train_seconds"]), 2)


def main() -> None:
    """Run the arms in turn and record the results after each."""
    options = read_options(
        __doc__, data_dir=Path("sample_data"), batch_size=64, image_size=64,
        threads=max(1, (os.cpu_count() or 1) // 2), rounds=3, name="scaling",
    )  # fmt: skip
    settings = options.data_dir, options.batch_size, options.image_size
    arms = {"one process": (1, options.threads), "two processes": (2, options.threads)}
    arms["one process, all threads"] = (1, 2 * options.threads)
    speeds: dict[str, list[float]] = {name: [] for name in arms}
    results: dict[str, Any] = {"batch_size": options.batch_size, "image_size": options.image_size}
    results |= {"threads_per_process": options.threads, "pictures_per_second": speeds}
    calls = {name: partial(pictures_per_second, *arm, *settings) for name, arm in arms.items()}
    for name, speed in in_turn(calls, options.rounds):
        speeds[name].append(speed)
        print(f"{name}: {speed:.1f} pictures per second", flush=True)
        write_result(options.name, results)
    results["median_pictures_per_second"] = {name: statistics.median(values) for name, values in speeds.items()}
    one_process, two_processes, all_threads = speeds.values()
    results["ratios"] = {
        "two processes over one": ratio_of_medians(two_processes, one_process),
        "two processes over one with all threads": ratio_of_medians(two_processes, all_threads),
    }
    write_result(options.name, results)


if __name__ == "__main__":
    main()
