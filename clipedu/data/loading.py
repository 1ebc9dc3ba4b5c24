"""Pictures in batches: held in memory if they fit, otherwise decoded by worker processes while training runs."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipedu.data.pictures import load_pixels
from clipedu.ground.environment import usable_cpus
from clipedu.ground.errors import ClipEduError, DatasetError, fault_report

MEMORY_LIMIT = 2**30  # bytes: decoded pictures up to this size are held in memory
MAX_WORKERS = 8


class Pictures:
    """Pictures of one size, decoded batch by batch while training runs.

    Args:
        paths: their files.
        size: of the decoded squares, in pixels.
        workers: how many processes decode; 0 decodes in this one, None takes one for each usable CPU, at most 8.
    """

    def __init__(self, paths: Sequence[Path], size: int, workers: int | None = None) -> None:
        self.paths, self.size = list(paths), size
        self.workers = min(MAX_WORKERS, usable_cpus()) if workers is None else workers
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, not {workers}")
        self._idle: list[_Worker] = []

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, order: list[list[int]]) -> Iterator[Tensor]:
        """See `image_batches`. The workers stay for the next epoch, unless this one ends midway: then they end too."""
        if self.workers == 0:
            for indices in order:
                yield torch.from_numpy(_decode([self.paths[index] for index in indices], self.size))
            return
        crew = self._idle or [_Worker(self.paths, self.size) for _ in range(self.workers)]
        self._idle = []
        remaining, busy = iter(order), deque[_Worker]()
        for worker, indices in zip(crew, remaining, strict=False):
            worker.ask(indices)
            busy.append(worker)
        while busy:
            worker = busy.popleft()
            batch = torch.from_numpy(worker.answer())
            if next_indices := next(remaining, []):
                worker.ask(next_indices)
                busy.append(worker)
            yield batch
        self._idle = crew


_our_ends: WeakSet[Connection] = WeakSet()  # of the pipes to all workers


class _Worker:
    """A process that decodes one batch at a time.

    Each has a pipe of its own for its whole batches. With a DataLoader, the batches of all workers go through shared
    memory and one queue: containers have little of the first, and a worker that is killed can leave the second locked.
    """

    def __init__(self, paths: list[Path], size: int) -> None:
        try:
            self._pipe, far_end = Pipe()
            _our_ends.add(self._pipe)
            self._process = Process(target=_serve, args=(far_end, paths, size), daemon=True)
            self._process.start()
            far_end.close()
        except OSError as error:
            raise ClipEduError(
                f"无法启动解码图片的进程（{error}）；请减小 --workers（0 表示不另开进程）",
                f"a process to decode pictures cannot start ({error}); lower --workers (0 starts none)",
            ) from error

    def ask(self, indices: list[int]) -> None:
        with suppress(OSError):  # if the process has ended, `answer` says so
            self._pipe.send(indices)

    def answer(self) -> NDArray[np.uint8]:
        """The batch that was asked for.

        Raises:
            DatasetError: damaged pictures.
            ClipEduError: the process has ended.
        """
        try:
            answer: NDArray[np.uint8] | DatasetError = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(timeout=1)
            raise ClipEduError(
                f"解码图片的进程意外结束（退出码 {self._process.exitcode}），多半因为内存不足；"
                "请减小 --workers（0 表示不另开进程），或给容器更多内存",
                f"a process that decodes pictures has ended (exit code {self._process.exitcode}), most likely for "
                "lack of memory; lower --workers (0 starts none) or give the container more memory",
            ) from error
        if isinstance(answer, DatasetError):
            raise answer
        return answer


def _serve(pipe: Connection, paths: list[Path], size: int) -> None:
    """Decode what is asked for until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for inherited in list(_our_ends):  # a copy of the other end that stays open here would hide that it is closed
        inherited.close()
    with suppress(EOFError, OSError):
        while True:
            indices = pipe.recv()
            try:
                pipe.send(_decode([paths[index] for index in indices], size, threads=1))
            except DatasetError as error:
                pipe.send(error)


def _decode(paths: Sequence[Path], size: int, threads: int | None = None) -> NDArray[np.uint8]:
    """The pictures, `[N, 3, size, size]`; DatasetError with all damaged ones in one report."""
    decoded = np.empty((len(paths), 3, size, size), dtype=np.uint8)

    def decode(index: int) -> DatasetError | None:
        try:
            decoded[index] = load_pixels(paths[index], size).numpy()
        except DatasetError as error:
            return error
        return None

    with ThreadPoolExecutor(threads) as pool:  # decoding releases the GIL
        faults = [str(fault) for fault in pool.map(decode, range(len(paths))) if fault]
    if faults:
        raise fault_report(Path("images"), faults)
    return decoded


def open_pictures(paths: Sequence[Path], size: int, workers: int | None = None) -> Tensor | Pictures:
    """Pictures as uint8 `[N, 3, size, size]` in memory if that fits into MEMORY_LIMIT, else streamed from disk.

    Raises:
        DatasetError: all damaged pictures in one report (if held in memory; streamed ones are found batch by batch).
    """
    if len(paths) * 3 * size * size > MEMORY_LIMIT:
        return Pictures(paths, size, workers)
    return torch.from_numpy(_decode(paths, size))


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
