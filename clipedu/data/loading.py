"""Pictures in batches: held in memory if they fit, otherwise decoded by worker processes while training runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clipedu.data.pictures import load_image, load_pixels
from clipedu.ground.environment import usable_cpus
from clipedu.ground.errors import ClipEduError, DatasetError, fault_report

MEMORY_LIMIT = 2**30  # bytes: decoded pictures up to this size are held in memory
MAX_WORKERS = 8
Transform = Callable[[Image.Image], Any]


class _WrongTransform(DatasetError):
    """Not a fault of the picture: the same for all of them."""


class _Decoded(Dataset["Tensor | DatasetError"]):
    """Pictures of one size; an error is an item as well, since raised in a worker it would become a traceback."""

    def __init__(self, paths: Sequence[Path], size: int, transform: Transform | None = None) -> None:
        self.paths, self.size, self.transform = list(paths), size, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index_and_epoch: tuple[int, int]) -> Tensor | DatasetError:
        index, epoch = index_and_epoch
        path = self.paths[index]
        try:
            if self.transform is None:
                return load_pixels(path, self.size)
            with torch.random.fork_rng(devices=[]):  # the same in every process, and in a resumed run
                torch.manual_seed(epoch * 1_000_003 + index)
                return self._checked(self.transform(load_image(path, self.size)), path)
        except DatasetError as error:
            return error

    def _checked(self, result: Any, path: Path) -> Tensor:
        shape = (3, self.size, self.size)
        if isinstance(result, Tensor) and result.shape == shape and result.dtype in (torch.uint8, torch.float32):
            return result
        found = f"{result.dtype} {list(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise _WrongTransform(
            f"transform 把 {path} 变成了 {found}；应为 {list(shape)} 的张量，uint8 或（已归一化的）float32",
            f"the transform made {found} of {path}; it must return a tensor {list(shape)}, uint8 or (already "
            "normalized) float32",
        )


class Pictures:
    """Pictures of one size, decoded batch by batch while training runs.

    Args:
        paths: their files.
        size: of the decoded squares, in px.
        workers: how many processes decode; 0 decodes in this one, None takes one for each usable CPU, at most 8.
        transform: makes a tensor `[3, size, size]` of each picture (PIL), uint8 or (already normalized) float32; it is
            called in every epoch. What it draws from torch's random numbers depends on the epoch and the picture alone.
    """

    def __init__(
        self, paths: Sequence[Path], size: int, workers: int | None = None, transform: Transform | None = None
    ) -> None:
        self._pictures = _Decoded(paths, size, transform)
        workers = min(MAX_WORKERS, usable_cpus()) if workers is None else workers
        # Index and epoch of each picture; the loader reads this in every epoch, so its workers can stay.
        self._order: list[list[tuple[int, int]]] = []
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

    def batches(self, order: list[list[int]], epoch: int = 0) -> Iterator[Tensor]:
        """See `image_batches`."""
        self._order[:] = [[(index, epoch) for index in indices] for indices in order]
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


def _stack(pictures: Sequence[Tensor | DatasetError]) -> NDArray[Any] | DatasetError:
    """A batch `[B, 3, S, S]`, as an array: arrays reach the main process through a pipe, tensors in shared memory, of
    which a container has little."""
    faults = [picture for picture in pictures if isinstance(picture, DatasetError)]
    if faults:
        is_transform = isinstance(faults[0], _WrongTransform)
        return faults[0] if is_transform else fault_report(Path("images"), [str(fault) for fault in faults])
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
        picture = pictures[index, 0]
        if isinstance(picture, DatasetError):
            return picture
        decoded[index] = picture.numpy()
        return None

    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        faults = [str(fault) for fault in pool.map(decode, range(len(paths))) if fault]
    if faults:
        raise fault_report(Path("images"), faults)
    return torch.from_numpy(decoded)


def image_batches(pictures: Tensor | Pictures, batches: list[list[int]], epoch: int = 0) -> Iterator[Tensor]:
    """The pictures `[B, 3, S, S]` (or features `[B, D]`) of each batch of indices, in that order.

    Raises:
        DatasetError: the damaged pictures of a batch in one report.
        ClipEduError: a worker process cannot start, or has ended.
    """
    if isinstance(pictures, Pictures):
        for batch in pictures.batches(batches, epoch):
            # From pinned memory, the GPU copies a batch while it computes.
            yield batch.pin_memory() if torch.cuda.is_initialized() else batch
    else:
        for indices in index_batches(batches, pictures.device):
            yield pictures[indices]


def index_batches(batches: list[list[int]], device: torch.device) -> tuple[Tensor, ...]:
    """The batches as tensors, moved to the device in a single copy."""
    indices = torch.tensor([index for batch in batches for index in batch], dtype=torch.int64)
    return indices.to(device).split([len(batch) for batch in batches])


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """0..count-1 in a new random order per epoch, cut into full batches; those left over come up in another epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator)[: count - count % batch_size]
    return order.view(-1, batch_size).tolist()


def in_order(count: int, batch_size: int) -> list[list[int]]:
    """0..count-1 in batches; the last one may be smaller."""
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
