"""Time and memory of the loss, whole and in chunks of rows: forward and backward for batches up to 32,768 pairs.

python -m benchmarks.loss_memory

Every measurement is made in a process of its own, which begins with nothing but the embeddings and their gradients;
its peak is what the loss needs beside them (on a CPU the process's resident memory, to within some MB; on CUDA
exactly). Where the whole loss would not fit into free memory, its peak is computed from the largest batch measured,
as it grows with the square of the batch: then `computed` is true and there are no seconds.
"""

from __future__ import annotations

import argparse
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

from benchmarks.record import FOLDER, write_result
from benchmarks.turns import in_turn, ratio_of_medians
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
    """`measure` in a fresh process, for a peak never falls."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, pairs, chunk_size, device_name, repeats).result()


def free_bytes(device: torch.device) -> int:
    """Memory that nobody uses now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def summary(measured: list[Measurement]) -> dict[str, Any]:
    """What was measured, as it is written down."""
    return {
        "computed": False,
        "seconds": [round(took, 5) for took, _ in measured],
        "peak_bytes": [peak for _, peak in measured],
    }


def compare(
    pairs: int, chunk_size: int, bytes_a_square: float, device: torch.device, rounds: int, repeats: int
) -> dict[str, Any]:
    """Whole and chunked in turn; `bytes_a_square` times pairs * pairs is what the whole loss is thought to need."""
    needed = round(bytes_a_square * pairs**2)
    arms = {"whole": None, "chunked": chunk_size}
    if MARGIN * needed > free_bytes(device):
        del arms["whole"]
    measured: dict[str, list[Measurement]] = {name: [] for name in arms}
    calls = {name: partial(measure_apart, pairs, size, device.type, repeats) for name, size in arms.items()}
    for name, value in in_turn(calls, rounds):
        measured[name].append(value)
    found: dict[str, Any] = {"pairs": pairs, **{name: summary(values) for name, values in measured.items()}}
    if "whole" not in found:
        found["whole"] = {"computed": True, "seconds": None, "peak_bytes": [needed]}
    whole, chunked = found["whole"], found["chunked"]
    timed = not whole["computed"]
    found["time_ratio"] = ratio_of_medians(chunked["seconds"], whole["seconds"]) if timed else None
    enough = min(chunked["peak_bytes"]) > 0  # a small batch may fit into memory that the process held already
    found["memory_ratio"] = ratio_of_medians(whole["peak_bytes"], chunked["peak_bytes"]) if enough else None
    return found


def describe(found: dict[str, Any]) -> str:
    """The result of one batch size in one line."""
    parts = [f"{found['pairs']} pairs"]
    for name in ("whole", "chunked"):
        arm = found[name]
        took = "does not fit" if arm["computed"] else f"{statistics.median(arm['seconds']):.3f} s"
        parts.append(f"{name}: {took}, {statistics.median(arm['peak_bytes']) / 2**20:.1f} MiB")
    return "  ".join(parts)


def main() -> None:
    """Measure every batch size, the small ones first, and write the results down after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[256, 1024, 4096, 8192, 32768])
    parser.add_argument("--chunk-size", type=int, default=CHUNK, help="rows at a time")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each measurement")
    parser.add_argument("--repeats", type=int, default=3, help="steps timed in each process; the median counts")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", help="of the file in benchmarks/results; loss_memory_cpu or the like by itself")
    options = parser.parse_args()
    device = choose_device(options.device)
    batches: list[dict[str, Any]] = []
    bytes_a_square = 0.0
    for pairs in sorted(options.pairs):
        found = compare(pairs, options.chunk_size, bytes_a_square, device, options.rounds, options.repeats)
        bytes_a_square = statistics.median(found["whole"]["peak_bytes"]) / pairs**2
        print(describe(found), flush=True)
        batches.append(found)
        results = {"chunk_size": options.chunk_size, "width": WIDTH, "batches": batches}
        write_result(FOLDER / f"{options.name or f'loss_memory_{device.type}'}.json", results)
    timed = [batch for batch in batches if batch["time_ratio"] is not None]
    print(
        f"ratio of medians: the whole loss takes {batches[-1]['memory_ratio']} times the memory of the chunked one at "
        f"{batches[-1]['pairs']} pairs; chunked takes {timed[-1]['time_ratio']} times its time at {timed[-1]['pairs']}"
    )


if __name__ == "__main__":
    main()
