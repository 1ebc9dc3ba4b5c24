"""Pictures in batches: held in memory if they fit, otherwise decoded by worker processes while training runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clipedu.data.pictures import load_pixels
from clipedu.ground.errors import DatasetError, fault_report

MEMORY_LIMIT = 2**30  # bytes: decoded pictures up to this size are held in memory


class Pictures(Dataset["Tensor | DatasetError"]):
    """Pictures of one size, decoded on demand."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.paths, self.size = list(paths), size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor | DatasetError:
        try:
            return load_pixels(self.paths[index], self.size)
        except DatasetError as error:
            return error  # raised in a worker process, it would reach the user as a traceback


def open_pictures(paths: Sequence[Path], size: int) -> Tensor | Pictures:
    """Pictures as uint8 `[N, 3, size, size]` in memory if that fits into MEMORY_LIMIT, else streamed from disk.

    Raises:
        DatasetError: all damaged pictures in one report (if held in memory; streamed ones are found batch by batch).
    """
    pictures = Pictures(paths, size)
    if len(paths) * 3 * size * size > MEMORY_LIMIT:
        return pictures
    with torch.inference_mode(False):  # in a caller's inference mode the threads could not write to it
        decoded = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)

    def decode(index: int) -> DatasetError | None:
        picture = pictures[index]
        if isinstance(picture, DatasetError):
            return picture
        decoded[index] = picture
        return None

    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        faults = [str(fault) for fault in pool.map(decode, range(len(paths))) if fault]
    if faults:
        raise fault_report(Path("images"), faults)
    return decoded


def image_batches(pictures: Tensor | Pictures, batches: list[list[int]]) -> Iterator[Tensor]:
    """The pictures `[B, 3, S, S]` (or features `[B, D]`) of each batch of indices, in that order."""
    if isinstance(pictures, Tensor):
        for indices in batches:
            yield pictures[torch.as_tensor(indices)]
        return
    workers = min(8, os.cpu_count() or 1)
    # With its own generator, the loader does not consume the random numbers that training uses.
    loader = DataLoader(
        pictures, batch_sampler=batches, num_workers=workers, collate_fn=list, generator=torch.Generator()
    )
    for batch in loader:
        yield _stack(batch)


def _stack(pictures: list[Tensor | DatasetError]) -> Tensor:
    faults = [str(picture) for picture in pictures if isinstance(picture, DatasetError)]
    if faults:
        raise fault_report(Path("images"), faults)
    return torch.stack([picture for picture in pictures if isinstance(picture, Tensor)])


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """0..count-1 in a new random order per epoch, cut into full batches; those left over come up in another epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator)[: count - count % batch_size]
    return order.view(-1, batch_size).tolist()


def in_order(count: int, batch_size: int) -> list[list[int]]:
    """0..count-1 in batches; the last one may be smaller."""
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
