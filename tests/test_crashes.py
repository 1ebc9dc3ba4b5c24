"""Nothing is lost if a run is killed, the disk is full or two runs share a folder. More in studies.interruptions."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from clipedu import load_checkpoint, load_model
from tests.conftest import ROOT, draw_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX's signals and limits"),
]


Run = tuple[Path, list[Any]]  # a dataset, and the state of an uninterrupted run on it
MAIN = """
import resource, signal, sys
import tests.conftest
from clipedu.commands.main import main
from clipedu.runs import checkpoint, folder
{}
sys.exit(main(sys.argv[1:]))
"""
KILLED_IN_SECOND_EPOCH = """
from clipedu import training
step, steps = training.train_step, []
def killed(*arguments, **options):
    steps.append(1)
    if len(steps) == 5:  # of 6, three per epoch
        signal.raise_signal(signal.SIGKILL)
    return step(*arguments, **options)
training.train_step = killed
"""
KILLED_WHILE_SAVING = """
save, saved = checkpoint.torch.save, []
def killed(content, path):
    saved.append(1)
    save(content, path)
    if len(saved) == 2:
        path.write_bytes(path.read_bytes()[:999])
        signal.raise_signal(signal.SIGKILL)
checkpoint.torch.save = killed
"""
STOPPED_WHILE_SAVING = """
save = checkpoint.torch.save
def stopped(content, path):
    print("saving", flush=True)
    sys.stdin.readline()
    save(content, path)
checkpoint.torch.save = stopped
"""
IMPATIENT = "folder.LOCK_PATIENCE = 0.1"
SMALL_FILES_ONLY = (
    "resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
)


def start(data_dir: Path, run_dir: Path, changes: str = "") -> subprocess.Popen[str]:
    """Train for two epochs of three steps in a separate process."""
    words = f"train --data-dir {data_dir} --run-dir {run_dir} --image-encoder tiny --pretrained none --image-size 32"
    words += " --epochs 2 --batch-size 8 --embedding-dim 16 --precision fp32"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", MAIN.format(changes), *words.split()],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and everything that was printed."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


def state(run_dir: Path) -> list[Any]:
    """The weights, the optimizer and the history of a finished run, without its seconds."""
    content = load_checkpoint(run_dir / "checkpoints/final_model.pt")
    history = [record | {"train_seconds": 0} for record in content["training"]["history"]]
    return [content["weights"], content["training"]["optimizer"]["state"], history]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("undisturbed")
    data_dir = draw_dataset(folder / "data", {"train": 24, "val": 8})
    code, printed = finish(start(data_dir, folder / "run"))
    assert code == 0, printed
    return data_dir, state(folder / "run")


@pytest.mark.again
@pytest.mark.parametrize("changes", [KILLED_IN_SECOND_EPOCH, KILLED_WHILE_SAVING], ids=["training", "saving"])
def test_a_killed_run_resumes_to_the_same_result(undisturbed: Run, tmp_path: Path, changes: str) -> None:
    data_dir, expected = undisturbed
    code, printed = finish(start(data_dir, tmp_path / "run", changes))
    assert code == -signal.SIGKILL, printed
    load_model(tmp_path / "run")
    code, printed = finish(start(data_dir, tmp_path / "run"))
    assert code == 0, printed
    assert "resuming after epoch 1" in printed
    torch.testing.assert_close(state(tmp_path / "run"), expected, rtol=0, atol=0)
    assert not list((tmp_path / "run").rglob(".*.tmp"))


def test_a_second_process_is_refused_and_the_first_continues(undisturbed: Run, tmp_path: Path) -> None:
    data_dir, expected = undisturbed
    first = start(data_dir, tmp_path / "run", STOPPED_WHILE_SAVING)
    while first.stdout and "saving" not in first.stdout.readline():
        assert first.poll() is None
    code, printed = finish(start(data_dir, tmp_path / "run", IMPATIENT))
    assert code == 2
    assert re.search(r"错误.*另一个进程.* \| .*another process", printed)
    assert finish(first)[0] == 0
    torch.testing.assert_close(state(tmp_path / "run"), expected, rtol=0, atol=0)


def test_a_full_disk_gives_one_clear_line_and_leaves_nothing(undisturbed: Run, tmp_path: Path) -> None:
    code, printed = finish(start(undisturbed[0], tmp_path / "run", SMALL_FILES_ONLY))
    assert code == 2
    assert re.search(r"错误.*无法写入.* \| .*cannot write", printed)
    assert "Traceback" not in printed
    assert [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()] in ([], [".lock"])
