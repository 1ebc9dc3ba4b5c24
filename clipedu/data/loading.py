"""Pictures in batches: held in memory if they fit, otherwise decoded by worker processes while training runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clipedu.data.pictures import load_pixels
from clipedu.ground.environment import usable_cpus
from clipedu.ground.errors import ClipEduError, DatasetError, fault_report

MEMORY_LIMIT = 2**30  # bytes: decoded pictures up to this size are held in memory
MAX_WORKERS = 8


class _Decoded(Dataset["Tensor | DatasetError"]):
    """Pictures of one size; an error is an item as well, since raised in a worker it would become a traceback."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.paths, self.size = list(paths), size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor | DatasetError:
        try:
            return load_pixels(self.paths[index], self.size)
        except DatasetError as error:
            return error


class Pictures:
    """Pictures of one size, decoded batch by batch while training runs.

    Args:
        paths: their files.
        size: of the decoded squares, in px.
        workers: how many processes decode; 0 decodes in this one, None takes one for each usable CPU, at most 8.
    """

    def __init__(self, paths: Sequence[Path], size: int, workers: int | None = None) -> None:
        self._pictures = _Decoded(paths, size)
        workers = min(MAX_WORKERS, usable_cpus()) if workers is None else workers
        self._order: list[list[int]] = []  # of one epoch; the loader reads it anew in each, so that its workers stay
        self._loader = DataLoader(
            self._pictures,
            batch_sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_stack,
            generator=torch.Generator(),  # its own, to leave the random numbers of training alone
        )

    def __len__(self) -> int:
        return len(self._pictures)

    def batches(self, order: list[list[int]]) -> Iterator[Tensor]:
        """See `image_batches`."""
        self._order[:] = order
        try:
            for batch in self._loader:
                if isinstance(batch, DatasetError):
                    raise batch
                yield torch.from_numpy(batch)
        except (OSError, RuntimeError) as error:  # a process cannot start, or has ended
            raise worker_failed(error) from error


def worker_failed(error: Exception) -> ClipEduError:
    """The error for a process that decodes pictures and cannot start or was killed, mostly for lack of memory."""
    why = str(error).partition("\n")[0]
    return ClipEduError(
        f"读取图片的进程出了问题（{why}）：请减小 --workers（0 表示不另开进程），或给容器更多内存",
        f"a process that decodes pictures failed ({why}): lower --workers (0 starts none), or give the container more "
        "memory",
    )


def _stack(pictures: Sequence[Tensor | DatasetError]) -> NDArray[np.uint8] | DatasetError:
    """A batch `[B, 3, S, S]`, as an array: arrays reach the main process through a pipe, tensors in shared memory, of
    which a container has little."""
    faults = [str(picture) for picture in pictures if isinstance(picture, DatasetError)]
    if faults:
        return fault_report(Path("images"), faults)
    return np.stack([picture.numpy() for picture in pictures if isinstance(picture, Tensor)])


def open_pictures(paths: Sequence[Path], size: int, workers: int | None = None) -> Tensor | Pictures:
    """Pictures as uint8 `[N, 3, size, size]` in memory if that fits into MEMORY_LIMIT, else streamed from disk.

    Raises:
        DatasetError: all damaged pictures in one report (if held in memory; streamed ones are found batch by batch).
    """
    if len(paths) * 3 * size * size > MEMORY_LIMIT:
        return Pictures(paths, size, workers)
    pictures, decoded = _Decoded(paths, size), np.empty((len(paths), 3, size, size), dtype=np.uint8)

    def decode(index: int) -> DatasetError | None:
        picture = pictures[index]
        if isinstance(picture, DatasetError):
            return picture
        decoded[index] = picture.numpy()
        return None

    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        faults = [str(fault) for fault in pool.map(decode, range(len(paths))) if fault]
    if faults:
        raise fault_report(Path("images"), faults)
    return torch.from_numpy(decoded)


def image_batches(pictures: Tensor | Pictures, batches: list[list[int]]) -> Iterator[Tensor]:
    """The pictures `[B, 3, S, S]` (or features `[B, D]`) of each batch of indices, in that order.

    Raises:
        DatasetError: the damaged pictures of a batch in one report.
        ClipEduError: a worker process cannot start, or has ended.
    """
    if isinstance(pictures, Pictures):
        for batch in pictures.batches(batches):
            # From pinned memory, the GPU copies a batch while it computes.
            yield batch.pin_memory() if torch.cuda.is_initialized() else batch
    else:
        for indices in batches:
            yield pictures[torch.as_tensor(indices)]


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """0..count-1 in a new random order per epoch, cut into full batches; those left over come up in another epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator)[: count - count % batch_size]
    return order.view(-1, batch_size).tolist()


def in_order(count: int, batch_size: int) -> list[list[int]]:
    """0..count-1 in batches; the last one may be smaller."""
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
