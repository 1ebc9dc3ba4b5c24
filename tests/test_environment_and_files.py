"""Device selection, and files and folders that are written completely or not at all."""

import os
import time
from pathlib import Path

import pytest
import torch

from clipedu.ground.environment import choose_device, clear_gpu_cache, gpu_memory
from clipedu.ground.errors import ClipEduError, ConfigError, DatasetError
from clipedu.ground.files import inside, whole_file, whole_folder


def test_device() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device() in (torch.device("cpu"), torch.device("cuda"), torch.device("mps"))
    with pytest.raises(ConfigError, match="abacus"):
        choose_device("abacus")


def test_gpu_report_without_a_gpu_is_zero() -> None:
    clear_gpu_cache()
    assert set(gpu_memory()) == {"allocated", "reserved", "peak"}
    if not torch.cuda.is_available():
        assert set(gpu_memory().values()) == {0.0}


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep/file.txt"
    with whole_file(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half of the sec")
        raise RuntimeError
    assert path.read_text() == "first"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_folder_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "set") as temporary:
        (temporary / "one").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "set") as temporary:
        (temporary / "one").touch()
    assert [entry.name for entry in (tmp_path / "set").iterdir()] == ["one"]


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    """Our own process id may have belonged to another process, as in containers; recent files may still be in use."""
    old = time.time() - 48 * 3600
    for name in ("set", "file.txt", "other.txt"):
        for number, age in ((1, old), (os.getpid(), time.time()), (2, time.time())):
            (tmp_path / f".{name}.{number}.tmp").mkdir()
            os.utime(tmp_path / f".{name}.{number}.tmp", (age, age))
    with whole_folder(tmp_path / "set") as folder:
        (folder / "two").touch()
    with whole_file(tmp_path / "file.txt") as temporary:
        temporary.write_text("whole")
    kept = {".set.2.tmp", ".file.txt.2.tmp", *(f".other.txt.{number}.tmp" for number in (1, 2, os.getpid()))}
    assert {path.name for path in tmp_path.iterdir()} == {"set", "file.txt"} | kept
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["two"]


def test_a_failed_write_gives_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ClipEduError, match="cannot write"), whole_file(tmp_path / "file/below"):
        pass
    with pytest.raises(ClipEduError, match="cannot write"), whole_folder(tmp_path / "file/below"):
        pass


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd"])
def test_paths_stay_inside(tmp_path: Path, path: str) -> None:
    with pytest.raises(DatasetError, match="out of the data folder"):
        inside(tmp_path, path)
    assert inside(tmp_path, "a/../b") == tmp_path.resolve() / "b"
