"""Files that are written whole or not at all, and paths that stay inside their folder."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path

from clipedu.ground.errors import ClipEduError, DatasetError

_ABANDONED_AFTER = 24 * 3600  # seconds: a temporary file this old was left behind by a killed process


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; once written, it replaces `path` in one step, or not at all.

    Raises:
        ClipEduError: the file cannot be written.
    """
    check_writable(path)
    temporary = _temporary(path)
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
    """Raise ClipEduError if `path` cannot be written, before hours are spent on what should go there."""
    if path.exists() and not path.is_file():  # a folder, or a device: root could replace /dev/null
        raise ClipEduError(f"{path} 不是普通文件；请换一个文件名", f"{path} is not a regular file; choose another name")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise cannot_write(path, PermissionError(f"{nearest} is not a writable folder"))


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Like `whole_file` for a new folder: it appears complete under its name, or not at all."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ClipEduError(
            f"{path} 已存在且不为空；请换一个 --out，或先把它移走。",
            f"{path} exists and is not empty; choose another --out or move it away first",
        )
    if not path.name:
        raise ClipEduError(f"{path} 不能作为新文件夹；请给它起个名字", f"{path} cannot be a new folder; give it a name")
    temporary = _temporary(path)
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


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _clear_abandoned(path: Path) -> None:
    """Remove temporary files of `path` that killed processes left behind; a recent one may still be in use."""
    for leftover in path.parent.glob(".*.tmp"):
        is_ours = leftover.name.startswith(f".{path.name}.")
        with suppress(OSError):
            if leftover == _temporary(path) or (is_ours and time.time() - leftover.stat().st_mtime > _ABANDONED_AFTER):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def cannot_write(path: Path, error: Exception) -> ClipEduError:
    """The error for a failed write."""
    return ClipEduError(
        f"无法写入 {path}（{error}）；请检查磁盘空间和写权限",
        f"cannot write {path} ({error}); check free space and permissions",
    )


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark."""
    return path.read_text(encoding="utf-8-sig")


def inside(folder: Path, relative: str) -> Path:
    """`folder / relative` with links followed.

    Raises:
        DatasetError: the path is invalid, or leads out of the folder.
    """
    try:
        path = Path(os.path.realpath(folder / relative))  # unlike resolve(), realpath survives circular links
    except ValueError as error:  # a NUL or a lone surrogate
        raise DatasetError(f"路径 {relative!r} 无效（{error}）", f"path {relative!r} is invalid ({error})") from error
    root = os.path.realpath(folder)
    if path.is_relative_to(root):
        return path
    for step in accumulate(Path(relative).parts, Path.joinpath, initial=folder):
        target = Path(os.path.realpath(step))
        if step != folder and step.is_symlink() and not target.is_relative_to(root):
            real = target if target.is_dir() else target.parent
            raise DatasetError(
                f"{step} 是符号链接，指向数据文件夹之外的 {target}，而图片必须真的在数据文件夹里；"
                f"请改用 --out {real}，之后 --data-dir 也用它",
                f"{step} is a symbolic link to {target}, outside the data folder, which must really contain the "
                f"pictures: use --out {real}, and later the same --data-dir",
            )
    raise DatasetError(f"路径 {relative!r} 指向数据文件夹之外", f"path {relative!r} leads out of the data folder")
