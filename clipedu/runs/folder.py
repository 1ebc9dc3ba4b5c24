"""A run's folder: where its checkpoints are, which one to use, and who may write to it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from clipedu.ground.errors import CheckpointError
from clipedu.ground.files import cannot_write, whole_file

LOCK_PATIENCE = 10.0  # seconds: loader processes of a killed run keep its lock until they notice


def checkpoint_folder(run_dir: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run_dir / "checkpoints"


def newest_epoch(run_dir: Path) -> Path | None:
    """The `epoch_N.pt` with the highest N, from which a run resumes."""
    epochs = [
        (int(match[1]), path)
        for path in checkpoint_folder(run_dir).glob("epoch_*.pt")
        if (match := re.fullmatch(r"epoch_(\d+)\.pt", path.name))
    ]
    return max(epochs)[1] if epochs else None


def find_checkpoint(run_dir: Path) -> Path:
    """The checkpoint to use: `run_dir` itself if it is a file, else the best, the final or the newest epoch's.

    Raises:
        CheckpointError: the run has no checkpoint.
    """
    folder = checkpoint_folder(run_dir)
    candidates = [run_dir, folder / "best_model.pt", folder / "final_model.pt", newest_epoch(run_dir)]
    for path in candidates:
        if path is not None and path.is_file():
            return path
    raise CheckpointError(
        f"{run_dir} 里没有检查点；请先训练：python -m clipedu train --run-dir {run_dir}",
        f"no checkpoint in {run_dir}; train first: python -m clipedu train --run-dir {run_dir}",
    )


def publish(checkpoint: Path, name: str) -> None:
    """Give `checkpoint` a second name in its folder, without writing 150 MB again if the disk supports links."""
    with whole_file(checkpoint.with_name(name)) as temporary:
        try:
            os.link(checkpoint, temporary)
        except OSError:  # a disk without hard links
            shutil.copyfile(checkpoint, temporary)


@contextmanager
def only_writer(run_dir: Path) -> Iterator[None]:
    """Keep other processes from writing to this run until the block or the process ends.

    Raises:
        CheckpointError: another process is writing to it.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run_dir / ".lock")
        lock.acquire(timeout=LOCK_PATIENCE)
    except Timeout as error:
        raise CheckpointError(
            f"另一个进程正在 {run_dir} 里训练；请等它结束，或换一个 --run-dir",
            f"another process is training in {run_dir}; wait for it to end, or choose another --run-dir",
        ) from error
    except OSError as error:
        raise cannot_write(run_dir, error) from error
    try:
        for leftover in checkpoint_folder(run_dir).glob(".*.tmp"):  # the process that was writing it is gone
            leftover.unlink()
        yield
    finally:
        lock.release()


def clear_run(run_dir: Path) -> None:
    """Delete a run's checkpoints, history and curve."""
    with only_writer(run_dir):
        paths = [*checkpoint_folder(run_dir).glob("*.pt"), run_dir / "history.json", run_dir / "training_curve.png"]
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(run_dir, error) from error
