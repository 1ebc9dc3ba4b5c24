"""Time and memory of the loss, whole and in chunks of rows: forward and backward, batches of up to 32,768 pairs.

python -m benchmarks.loss_memory

Every measurement runs in a fresh process that holds only the embeddings and their gradients; the peak is the memory
that the loss needs in addition (on a CPU from the resident memory of the process, accurate to a few MB; on CUDA exact).
If the whole loss does not fit into free memory, its peak is extrapolated from the largest batch measured, since it
grows with the square of the batch size: `computed` is then true, and no time is recorded. `--rounds` is the number of
processes per measurement, `--repeats` the number of steps timed in each.
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
CHUNK = 512  # rows; as fast as 1,024 with half the memory, and faster than 64 to 256 (one core, 4,096 pairs)
MARGIN = 1.2  # memory that must be free, as a multiple of what is needed

Measurement = tuple[float, int]  # seconds, bytes


def measure(pairs: int, chunk_size: int | None, device_name: str, repeats: int) -> Measurement:
    """Median seconds of forward plus backward, and the peak memory in bytes besides embeddings and gradients."""
    device = torch.device(device_name)
    torch.manual_seed(0)
    images, texts = (F.normalize(torch.randn(pairs, WIDTH), dim=1).to(device).requires_grad_() for _ in range(2))
    logit_scale = torch.tensor(math.log(1 / 0.07), device=device, requires_grad=True)

    def step(rows: int) -> None:
        contrastive_loss(images[:rows], texts[:rows], logit_scale, chunk_size=chunk_size).backward()

    step(2)  # allocates the gradients, and lets PyTorch do its one-time initialization
    before = peak_bytes(device)
    elapsed = seconds(partial(step, pairs), device, repeats)
    return elapsed, peak_bytes(device) - before


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has ever used."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, where ru_maxrss starts at the parent's value
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS, in bytes


def measure_apart(pairs: int, chunk_size: int | None, device_name: str, repeats: int) -> Measurement:
    """`measure` in a fresh process, since a peak never falls."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, pairs, chunk_size, device_name, repeats).result()


def free_bytes(device: torch.device) -> int:
    """Memory that is currently free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def compare(
    pairs: int, chunk_size: int, expected: int, device: torch.device, rounds: int, repeats: int
) -> dict[str, Any]:
    """Measure whole and chunked in turn; `expected` is an estimate of the bytes that the whole loss needs."""
    fits = MARGIN * expected <= free_bytes(device)
    arms = {"whole": None, "chunked": chunk_size} if fits else {"chunked": chunk_size}
    measured: dict[str, list[Measurement]] = {name: [] for name in arms}
    calls = {name: partial(measure_apart, pairs, size, device.type, repeats) for name, size in arms.items()}
    for name, measurement in in_turn(calls, rounds):
        measured[name].append(measurement)
    results: dict[str, Any] = {"whole": {"computed": True, "seconds": None, "peak_bytes": [expected]}}
    for name, values in measured.items():
        times, peaks = zip(*values, strict=True)
        results[name] = {"computed": False, "seconds": [round(time, 5) for time in times], "peak_bytes": list(peaks)}
    whole, chunked = results["whole"], results["chunked"]
    ratios: dict[str, float | None] = {"time_ratio": None, "memory_ratio": None}
    if fits:
        ratios["time_ratio"] = ratio_of_medians(chunked["seconds"], whole["seconds"])
    if min(chunked["peak_bytes"]) > 0:  # a small batch may fit into memory already held
        ratios["memory_ratio"] = ratio_of_medians(whole["peak_bytes"], chunked["peak_bytes"])
    return {"pairs": pairs, **results, **ratios}


def main() -> None:
    """Measure every batch size, smallest first, and record the results after each."""
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
