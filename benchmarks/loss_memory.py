"""Time and memory of the loss, whole and in chunks of rows: forward and backward for batches up to 32,768 pairs.

python -m benchmarks.loss_memory

Every measurement is made in a process of its own, which begins with nothing but the embeddings and their gradients;
its peak is what the loss needs beside them (on a CPU the process's resident memory, to within some MB; on CUDA
exactly). Where the whole loss would not fit into free memory, its peak is computed from the largest batch measured,
as it grows with the square of the batch: then `computed` is true and there are no seconds. `--rounds` is the number of
processes for each measurement, `--repeats` that of the steps timed in each.
"""

from __future__ import annotations

import math
import os
import resource
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.harness import in_turn, ratio_of_medians, read_options, write_result
from clipedu import contrastive_loss
from clipedu.classroom.measure import seconds
from clipedu.ground.environment import choose_device

WIDTH = 256  # numbers in an embedding
CHUNK = 512  # rows; as quick as 1,024 with half its memory, and quicker than 64 to 256 (one core, 4,096 pairs)
MARGIN = 1.2  # what has to be free, as a multiple of what is needed

Measurement = tuple[float, int]  # seconds, bytes


def measure(pairs: int, chunk_size: int | None, device_name: str, repeats: int) -> Measurement:
    """Seconds of forward and backward (a median), and the peak of memory beyond embeddings and gradients in bytes."""
    device = torch.device(device_name)
    torch.manual_seed(0)
    images, texts = (F.normalize(torch.randn(pairs, WIDTH), dim=1).to(device).requires_grad_() for _ in range(2))
    logit_scale = torch.tensor(math.log(1 / 0.07), device=device, requires_grad=True)

    def step(rows: int) -> None:
        contrastive_loss(images[:rows], texts[:rows], logit_scale, chunk_size=chunk_size).backward()

    step(2)  # makes room for the gradients, and lets PyTorch load what it loads once
    before = peak_bytes(device)
    took = seconds(partial(step, pairs), device, repeats)
    return took, peak_bytes(device) - before


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process ever held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, whose ru_maxrss begins with what the parent process held
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS, in bytes


def measure_apart(pairs: int, chunk_size: int | None, device_name: str, repeats: int) -> Measurement:
    """`measure` in a fresh process, since a peak never falls."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, pairs, chunk_size, device_name, repeats).result()


def free_bytes(device: torch.device) -> int:
    """Memory that nobody uses now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def compare(
    pairs: int, chunk_size: int, expected: int, device: torch.device, rounds: int, repeats: int
) -> dict[str, Any]:
    """Whole and chunked in turn; `expected` bytes are what the whole loss is thought to need."""
    fits = MARGIN * expected <= free_bytes(device)
    arms = {"whole": None, "chunked": chunk_size} if fits else {"chunked": chunk_size}
    measured: dict[str, list[Measurement]] = {name: [] for name in arms}
    calls = {name: partial(measure_apart, pairs, size, device.type, repeats) for name, size in arms.items()}
    for name, measurement in in_turn(calls, rounds):
        measured[name].append(measurement)
    found: dict[str, Any] = {"whole": {"computed": True, "seconds": None, "peak_bytes": [expected]}}
    for name, values in measured.items():
        times, peaks = zip(*values, strict=True)
        found[name] = {"computed": False, "seconds": [round(took, 5) for took in times], "peak_bytes": list(peaks)}
    whole, chunked = found["whole"], found["chunked"]
    ratios: dict[str, float | None] = {"time_ratio": None, "memory_ratio": None}
    if fits:
        ratios["time_ratio"] = ratio_of_medians(chunked["seconds"], whole["seconds"])
    if min(chunked["peak_bytes"]) > 0:  # a small batch may fit into memory that the process held already
        ratios["memory_ratio"] = ratio_of_medians(whole["peak_bytes"], chunked["peak_bytes"])
    return {"pairs": pairs, **found, **ratios}


def main() -> None:
    """Measure every batch size, the small ones first, and write the results down after each."""
    options = read_options(
        __doc__, pairs=[256, 1024, 4096, 8192, 32768], chunk_size=CHUNK, rounds=3, repeats=3, device="auto", name=""
    )
    device = choose_device(options.device)
    batches: list[dict[str, Any]] = []
    bytes_per_square = 0.0
    for pairs in sorted(options.pairs):
        expected = round(bytes_per_square * pairs**2)
        batches.append(compare(pairs, options.chunk_size, expected, device, options.rounds, options.repeats))
        bytes_per_square = statistics.median(batches[-1]["whole"]["peak_bytes"]) / pairs**2
        print(batches[-1], flush=True)
        results = {"chunk_size": options.chunk_size, "width": WIDTH, "batches": batches}
        write_result(options.name or f"loss_memory_{device.type}", results)


if __name__ == "__main__":
    main()
