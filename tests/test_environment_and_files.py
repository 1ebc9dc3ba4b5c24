"""Device selection, and files and folders that are written completely or not at all."""

import os
import re
import sys
import time
from pathlib import Path

import pytest
import torch

from clipedu.commands.check import check_environment
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


INDEX = "--index-url https://download.pytorch.org/whl/"


@pytest.mark.skipif(sys.platform == "win32", reason="the pretended nvidia-smi is a shell script")
@pytest.mark.parametrize(
    ("card", "system", "build", "remedy"),
    [
        ("GeForce RTX 3060, 580.95.05, 8.6", "Windows", None, f"run: pip install --force-reinstall .*{INDEX}cu130"),
        ("GeForce RTX 3060, 580.95.05, 8.6", "Linux", None, "run: pip install --force-reinstall torch torchvision$"),
        ("GeForce GTX 1080, 581.15, 6.1", "Windows", None, f"run: .*{INDEX}cu126"),
        ("GeForce RTX 3060, 535.183.01, 8.6", "Linux", "13.0", f"update the driver.* or install .*{INDEX}cu126"),
        ("GeForce RTX 5090, 575.57, 12.0", "Linux", "13.0", "update the driver: [^ ]*$"),
        ("Tesla K80, 470.256.02, Field compute_cap is not a valid field to query.", "Linux", None, "driver: [^ ]*$"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "Linux", "13.0", "driver: "),
        ("No devices were found", "Linux", "13.0", ""),
    ],
)  # fmt: skip
def test_check_finds_a_card_that_pytorch_does_not_use(
    card: str, system: str, build: str | None, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver and the card's compute capability decide which build of PyTorch is recommended."""
    description, _, capability = card.rpartition(", ") if card.count(", ") else (card, "", "")
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\ncase $1 in *=compute_cap) echo '{capability}';; *) echo \"{description}\";; esac\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", build)
    monkeypatch.setattr("platform.system", lambda: system)
    [device] = [finding for finding in check_environment(tmp_path) if finding.name == "device"]
    assert device.ok == (remedy == "")
    assert re.search(remedy, device.remedy_en)
    assert device.ok or description.split(",")[0] in device.found
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert all(finding.ok for finding in check_environment(tmp_path) if finding.name == "device")


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
