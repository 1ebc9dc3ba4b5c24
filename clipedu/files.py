"""Writing that is either whole or not there, reading of ordinary files, and paths that stay inside their folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

from clipedu.errors import ClipEduError, DatasetError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place at once, or not at all."""
    check_writable(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(path)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Complain of a path that cannot be written, before the work is done whose result should stand there."""
    if path.exists() and not path.is_file():  # a folder; or a device: root could replace /dev/null
        raise ClipEduError(f"{path} 不是普通文件；请换一个文件名", f"{path} is no ordinary file; choose another name")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise cannot_write(path, PermissionError(f"{nearest} is no folder to write in"))


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Like `whole_file` for a new folder: it appears complete under its name, or not at all."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ClipEduError(
            f"{path} 已存在且不为空；请换一个 --out，或先把它移走。",
            f"{path} exists and is not empty; choose another --out or move it away first",
        )
    if not path.name:
        raise ClipEduError(f"{path} 不能作为新文件夹；请给它起个名字", f"{path} can be no new folder; give it a name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _clear_abandoned(path)
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            path.rmdir()
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _clear_abandoned(path: Path) -> None:
    """Remove what killed processes left of `path`; where one still runs, it may yet finish."""
    for left in path.parent.glob(".*.tmp"):
        match = re.fullmatch(rf"\.{re.escape(path.name)}\.(\d+)\.tmp", left.name)
        # In a container every process may have the same number: what bears ours was left by another.
        if match and (int(match[1]) == os.getpid() or not psutil.pid_exists(int(match[1]))):
            with suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def lock(file: IO[str]) -> bool:
    """Whether `file` now belongs to this process. It does until it is closed or the process ends, however it ends."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, not handed on to loading processes
    except (BlockingIOError, PermissionError):
        return False
    return True


def cannot_write(path: Path, error: Exception) -> ClipEduError:
    """What to tell the reader when the disk says no."""
    return ClipEduError(
        f"无法写入 {path}（{error}）；请检查磁盘空间和写权限",
        f"cannot write {path} ({error}); check free space and permissions",
    )


def read_text(path: Path) -> str:
    """The text of an ordinary file in UTF-8, with or without a mark at its start; OSError for all else."""
    if path.exists() and not path.is_file():
        raise OSError("no ordinary file")  # a named pipe would let its reader wait for ever
    return path.read_text(encoding="utf-8-sig")


def inside(folder: Path, relative: str) -> Path:
    """`folder / relative`, once links are followed; DatasetError where it would lead out of the folder."""
    try:
        path = Path(os.path.realpath(folder / relative))  # unlike resolve() it bears links that lead in a circle
    except ValueError as error:  # a NUL, half a character
        raise DatasetError(f"路径 {relative!r} 无效（{error}）", f"path {relative!r} is none ({error})") from error
    if not path.is_relative_to(os.path.realpath(folder)):
        raise DatasetError(f"路径 {relative!r} 指向数据文件夹之外", f"path {relative!r} leads out of the data folder")
    return path


def write_records(folder: Path, records: list[dict[str, object]]) -> None:
    """Write dataset.json with a line for each record: readable, and a small diff when one changes."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    with whole_file(folder / "dataset.json") as path:
        # Half a surrogate pair has no UTF-8; its backslash escape is JSON's as well.
        path.write_text(f"[\n{lines}\n]\n", encoding="utf-8", errors="backslashreplace")
