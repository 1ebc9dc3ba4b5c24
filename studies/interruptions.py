"""Interrupt work at random moments, by signals and disk errors: nothing may be lost, half-written or left behind.

    python -m studies.interruptions                       # 200 interruptions: an hour
    python -m studies.interruptions --count 8

Every task runs in a child forked from this process, which has already imported everything. Each task is first measured
without interruption; interruptions are then drawn at random over its duration, or over the time it spends writing. If
the child has already ended, or if a training run stopped to test two processes at once has already released its folder,
the trial does not count and another moment is drawn. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from unittest.mock import patch

import matplotlib.figure  # noqa: F401 (so that the children need not import it)
import torch
from filelock import FileLock, Timeout
from PIL import Image

from clipedu import ImageEncoder, load_checkpoint
from clipedu.commands.main import INTERRUPTED, USER_ERROR, main
from clipedu.ground.errors import ClipEduError
from clipedu.ground.files import whole_file
from clipedu.runs.features import frozen_features
from studies.report import RESULTS, write_result
from tests.conftest import draw_dataset

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
FAULTS = "磁盘已满 · disk full", "只读挂载 · read-only mount", "没有写权限 · no permission", "文件过大 · file too large"
FULL, READ_ONLY, NO_PERMISSION, TOO_LARGE = FAULTS
TWO = "两个进程 · two at once"
PATIENCE = 120.0  # seconds, after which a child counts as hanging
PAGE = 4096  # bytes: a tmpfs allocates whole pages
SMALL = ["--pretrained", "none", "--image-size", "32", "--epochs", "2", "--batch-size", "8", "--embedding-dim", "16"]
Kind = TypeVar("Kind")
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Task:
    """Work in its own folder: `work(folder)` returns an exit code; `writers` are the `whole_file`s it writes with.

    With `while_writing`, it is interrupted while it writes, otherwise at any time. A task that `refuses` will not start
    if its result already exists. With `images`, the folder contains a link to these pictures.
    """

    name: str
    work: Callable[[Path], int]
    writers: tuple[str, ...] = ()
    while_writing: bool = False
    trains: bool = False
    refuses: bool = False
    images: Path | None = None


@dataclass
class Measured:
    """Uninterrupted work: where its result is, how long it took, and the duration of each write."""

    folder: Path
    seconds: float
    writing: list[float]


@dataclass
class Tally:
    """A row of the table."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


# --------------------------------------------------------------------------------------------------- the work


def tasks(root: Path) -> dict[str, Task]:
    """All kinds of work that write files, on tiny data in `root`."""
    data = draw_dataset(root / "data", {"train": 16, "val": 4, "test": 4})
    pictures = sorted((data / "images").iterdir())
    captions = root / "captions.txt"
    lines = [f"{picture.name},a picture, described in {n} words\n" for picture in pictures for n in range(1500)]
    captions.write_text("image,caption\n" + "".join(lines), encoding="utf-8")
    torch.manual_seed(0)
    encoder = ImageEncoder("resnet18", pretrained=False)

    def training(folder: Path) -> int:
        return main(["train", "--data-dir", str(data), "--run-dir", str(folder / "run"), *SMALL])

    def streamed(folder: Path) -> int:
        with patch("clipedu.data.loading.MEMORY_LIMIT", 0):
            return training(folder)

    def features(folder: Path) -> int:
        with patch.dict(os.environ, {"CLIPEDU_CACHE": str(folder / "cache")}):
            frozen_features(encoder, pictures * 10, 16)
        return 0

    def many_features(folder: Path) -> int:
        """Enough features that writing them takes a while; they are made up rather than computed."""
        made_up = torch.arange(400.0 * len(pictures) * encoder.output_dim).view(-1, encoder.output_dim)
        with (
            patch.dict(os.environ, {"CLIPEDU_CACHE": str(folder / "cache")}),
            patch("clipedu.runs.features._compute_features", lambda *_: made_up),
        ):
            frozen_features(encoder, pictures * 400, 16)
        return 0

    def index(folder: Path) -> int:
        trained = root / "training" / "run"  # trained when the task `training` was measured
        with patch.dict(os.environ, {"CLIPEDU_CACHE": str(folder / "cache")}):
            return main(["search", "--run-dir", str(trained), "--images", str(data / "images"), "a red circle"])

    def dataset(folder: Path) -> int:
        with patch("clipedu.data.scenes.SPLIT_SIZES", {"val": 8, "test": 8, "novel": 8, "train": 40}):
            return main(["create-dataset", "--out", str(folder / "set")])

    def imported(folder: Path) -> int:
        return main(["import-captions", "--out", str(folder), "--english", str(captions)])

    training_writes = tuple(f"clipedu.runs.{module}.whole_file" for module in ("checkpoint", "folder", "resume"))
    cache_writes = ("clipedu.embedding.whole_file",)
    return {
        "training": Task("训练 · training", training, training_writes, trains=True),
        "checkpoint": Task("写检查点 · checkpoint writing", training, training_writes, while_writing=True, trains=True),
        "streamed": Task("训练，图片不留在内存 · training, pictures streamed", streamed, trains=True),
        "features": Task("计算特征 · feature caching", features, cache_writes),
        "cache": Task("写特征 · feature writing", many_features, cache_writes, while_writing=True),
        "index": Task("建立索引 · index building", index),
        "dataset": Task("生成数据集 · create-dataset", dataset, refuses=True),
        "captions": Task("导入说明 · import-captions", imported, refuses=True, images=data / "images"),
    }


def is_free(run_dir: Path) -> bool:
    """Whether no process is training in `run_dir`; this takes the run's lock for a moment."""
    try:
        with FileLock(run_dir / ".lock", timeout=0):
            return True
    except Timeout:
        return False


def a_day_later(folder: Path) -> None:
    """Make the temporary files of a killed process look old: only then may the next process remove them."""
    for path in folder.rglob(".*.tmp"):
        os.utime(path, (0, 0))


def half_written(folder: Path) -> list[str]:
    """Temporary files and folders inside the folder."""
    return sorted(path.name for path in folder.rglob(".*.tmp"))


def visible(folder: Path) -> dict[str, bytes]:
    """All files of a result, except hidden ones and those in hidden folders; images/ is what a task started from."""
    names = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        str(name): path.read_bytes()
        for name, path in names.items()
        if name.parts[0] != "images" and not any(part.startswith(".") for part in name.parts)
    }


def sizes_and_times(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of everything in the folder; a difference shows that something was written."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def is_whole(task: Task, folder: Path, reference: Path) -> bool:
    """Whether no file is half-written: a run's files can be read; any other result is complete or missing."""
    if not task.trains:
        return visible(folder) in ({}, visible(reference))
    try:
        paths = {path.stat().st_ino: path for path in (folder / "run").rglob("[!.]*.*")}  # some files have two names
        for path in paths.values():
            if path.suffix == ".pt":
                load_checkpoint(path)
            elif path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            else:
                Image.open(path).load()
    except (ClipEduError, ValueError, OSError):
        return False
    return True


def is_same(task: Task, folder: Path, reference: Path) -> bool:
    """Whether the result equals that of the uninterrupted work bit for bit; only recorded seconds may differ."""
    if not task.trains:
        return visible(folder) == visible(reference)
    names = [{str(path.relative_to(root)) for path in root.rglob("*")} for root in (folder, reference)]
    return names[0] == names[1] and equal(last_state(folder), reference_state(reference))


def last_state(folder: Path) -> dict[str, Any]:
    """The content of a finished run's checkpoint, without its seconds."""
    state = load_checkpoint(folder / "run/checkpoints/final_model.pt")
    for record in state["training"]["history"]:
        del record["train_seconds"]
    return state


reference_state = cache(last_state)


def equal(left: Any, right: Any) -> bool:
    """Equality that also works for tensors."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


# -------------------------------------------------------------------------------------------------- the child


class Child:
    """A forked process at work. It reports when it starts, when it starts and finishes each write, and when it ends."""

    def __init__(self, task: Task, folder: Path, log: Path, setup: Callable[[], object] | None = None) -> None:
        self.log = log
        self.events, sender = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=_work, args=(task, folder, log, sender, setup))
        self.process.start()
        sender.close()
        self.started = self.next_event()

    def next_event(self) -> float:
        """The time of the next event it reports; EOFError when it has ended."""
        if not self.events.poll(PATIENCE):
            raise TimeoutError(f"the child has not reported anything for {PATIENCE} s:\n{self.printed()}")
        return float(self.events.recv())

    def wait(self) -> int:
        """Wait for it to end; return the exit code, negative for a signal."""
        end = time.monotonic() + PATIENCE
        while self.process.exitcode is None:  # join() would also wait for the loading processes
            if time.monotonic() > end:
                self.process.kill()
                raise TimeoutError(f"the child did not end within {PATIENCE} s:\n{self.printed()}")
            time.sleep(0.002)
        self.events.close()
        return self.process.exitcode

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.process.pid or 0, number)

    def stops(self) -> bool:
        """Wait until SIGSTOP has stopped it; False if it ended first."""
        state = os.waitid(os.P_PID, self.process.pid or 0, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return state is not None and state.si_code == os.CLD_STOPPED

    def printed(self) -> str:
        """Everything it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")


def _work(task: Task, folder: Path, log: Path, sender: Connection, setup: Callable[[], object] | None) -> None:
    """Do the task in the child process, after calling `setup`."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs with SIGINT ignored

    @contextmanager
    def reporting_whole_file(path: Path) -> Iterator[Path]:
        sender.send(time.monotonic())
        with whole_file(path) as temporary:
            yield temporary
        sender.send(time.monotonic())

    with ExitStack() as stack:
        for name in task.writers:
            stack.enter_context(patch(name, reporting_whole_file))
        try:
            sender.send(time.monotonic())
            if setup:
                setup()
            code = task.work(folder)
            sender.send(time.monotonic())
        except KeyboardInterrupt:
            code = INTERRUPTED
        except ClipEduError as error:
            print(f"错误 | error: {error}")
            code = USER_ERROR
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # too late
    sys.exit(code)


def without_privileges() -> None:
    """Drop root's capabilities, so that file permissions apply to it too; other users have none to drop."""
    if os.geteuid() == 0:
        header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(header, none):
            raise OSError(ctypes.get_errno(), "capset")


# ------------------------------------------------------------------------------------------------- the trials


class Trials:
    """All trials of one seed, in a temporary folder."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, Random(seed)
        self.tasks = tasks(root)
        self.measured: dict[Callable[[Path], int], Measured] = {}
        for task in self.tasks.values():
            if task.work not in self.measured:
                self.measured[task.work] = self._measure(task)
        # The same work must give the same result; otherwise the comparisons below would mean nothing.
        training, streamed = self.tasks["training"], self.tasks["streamed"]
        assert is_same(training, self.measured[streamed.work].folder, self.measured[training.work].folder)
        self.rows: dict[tuple[str, str], Tally] = {}

    def _measure(self, task: Task) -> Measured:
        folder = self._fresh(task.work.__name__)
        child = self._start(task, folder)
        times = []
        try:
            while True:
                times.append(child.next_event())
        except EOFError:
            assert child.wait() == 0, child.printed()
        writing = [after - before for before, after in zip(times[:-1:2], times[1:-1:2], strict=True)]
        return Measured(folder, times[-1] - child.started, writing)

    def _fresh(self, name: str = "trial") -> Path:
        shutil.rmtree(self.root / name, ignore_errors=True)
        (self.root / name).mkdir()
        return self.root / name

    def _start(self, task: Task, folder: Path, setup: Callable[[], object] | None = None) -> Child:
        if task.images and not (folder / "images").exists():
            shutil.copytree(task.images, folder / "images")
        return Child(task, folder, self.root / f"{time.monotonic_ns()}.log", setup)

    def _row(self, task: Task, kind: str) -> Tally:
        return self.rows.setdefault((task.name, kind), Tally())

    def _hit(self, task: Task, child: Child, number: int) -> bool:
        """Send the signal at a random moment; False if the child ended before that."""
        measured = self.measured[task.work]
        if task.while_writing:
            index = self.random.choices(range(len(measured.writing)), measured.writing)[0]
            delay = self.random.uniform(0, measured.writing[index])
            try:
                for _ in range(2 * index + 1):
                    start = child.next_event()
            except EOFError:
                return False
        else:
            delay, start = self.random.uniform(0, measured.seconds), child.started
        time.sleep(max(0.0, start + delay - time.monotonic()))
        if child.process.exitcode is not None:
            return False
        child.send(number)
        return True

    def interrupt(self, task: Task, number: signal.Signals) -> None:
        """Interrupt the work, inspect the files, repeat the work to the end, and compare."""
        row = self._row(task, number.name)
        while True:
            folder = self._fresh()
            child = self._start(task, folder)
            hit = self._hit(task, child, number)
            code = child.wait()
            if hit and code != 0:
                break
            row.counts["late"] += 1
        expected = INTERRUPTED if number == signal.SIGINT else -number
        if code != expected:
            row.problems.append(f"exit code {code} after {number.name}:\n{child.printed()}")
        row.counts["while writing"] += bool(half_written(folder))
        self._inspect(row, task, folder)

    def _inspect(self, row: Tally, task: Task, folder: Path) -> None:
        """Count a trial: are the files it left whole, and does repeating the work give the uninterrupted result?"""
        reference = self.measured[task.work].folder
        row.counts["tried"] += 1
        whole = is_whole(task, folder, reference)
        row.counts["whole"] += whole
        if not (task.refuses and visible(folder)):
            a_day_later(folder)
            child = self._start(task, folder)
            code = child.wait()
            if code != 0:
                row.problems.append(f"exit code {code} when the work was repeated:\n{child.printed()}")
        same, clean = is_same(task, folder, reference), not half_written(folder)
        row.counts["exact"] += same
        row.counts["clean"] += clean
        if not (whole and same and clean):
            row.problems.append(f"whole {whole}, exact {same}, left behind: {half_written(folder)}")

    def fault(self, task: Task, kind: str) -> None:
        """Make writing fail, check what was printed and left behind, and repeat the work on a working disk."""
        row = self._row(task, kind)
        reference = self.measured[task.work].folder
        sizes = [len(content) for content in visible(reference).values()]
        # Two checkpoints are on the disk before the older one is removed.
        needed = 2 * max(sizes) if task.trains else sum(-(-size // PAGE) * PAGE for size in sizes)
        size = self.random.randrange(PAGE, max(sizes) if kind == TOO_LARGE else needed)
        if kind == FULL and task.images:
            size += sum(-(-path.stat().st_size // PAGE) * PAGE for path in task.images.iterdir())
        folder = self._fresh()
        with ExitStack() as stack:
            if kind in (FULL, READ_ONLY):
                stack.enter_context(tmpfs(folder, f"size={size if kind == FULL else '1g'}"))
            while kind in (READ_ONLY, NO_PERMISSION) and not self._kill_midway(task, folder):
                row.counts["late"] += 1
            before = sizes_and_times(folder)
            setup: Callable[[], object] | None = None
            if kind == READ_ONLY:
                remount(folder, "ro")
            elif kind == NO_PERMISSION:
                set_modes(folder, 0o555)
                setup = without_privileges
            elif kind == TOO_LARGE:
                setup = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
            child = self._start(task, folder, setup)
            code, printed = child.wait(), child.printed()
            if kind == READ_ONLY:
                remount(folder, "rw")
            elif kind == NO_PERMISSION:
                set_modes(folder, 0o755)
            elif kind == FULL:
                remount(folder, "size=1g")
            if code == 0:  # it needed less space than the limit
                row.counts["late"] += 1
                stack.close()
                return self.fault(task, kind)
            if (
                code != USER_ERROR
                or "无法写入" not in printed
                or "cannot write" not in printed
                or "Traceback" in printed
            ):
                row.problems.append(f"exit code {code}:\n{printed}")
            if kind in (FULL, TOO_LARGE) and half_written(folder):
                row.problems.append(f"left behind: {half_written(folder)}")
            if kind == READ_ONLY and sizes_and_times(folder) != before:
                row.problems.append("a read-only folder has changed")
            self._inspect(row, task, folder)
        return None

    def _kill_midway(self, task: Task, folder: Path) -> bool:
        """Kill the work midway, so that continuing it is what fails."""
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        child = self._start(task, folder)
        hit = self._hit(task, child, signal.SIGKILL)
        child.wait()
        return hit and not is_same(task, folder, self.measured[task.work].folder)

    def two_at_once(self, task: Task) -> None:
        """Pause the work at a random moment, do the same work in a second process, then let the first continue."""
        row = self._row(task, TWO)
        while True:
            folder = self._fresh()
            first = self._start(task, folder)
            if self._hit(task, first, signal.SIGSTOP):
                if first.stops() and not (task.trains and is_free(folder / "run")):
                    break
                first.send(signal.SIGCONT)
            first.wait()
            row.counts["late"] += 1
        second = self._start(task, folder)
        codes = [second.wait()]
        first.send(signal.SIGCONT)
        codes.append(first.wait())
        printed = second.printed() + first.printed()
        if task.trains:
            fine = codes == [USER_ERROR, 0] and "另一个进程" in printed and "another process" in printed
        else:  # the same features may be written twice, but only one process can create a dataset
            fine = codes == [0, 0] or (task.refuses and sorted(codes) == [0, USER_ERROR])
        if not fine or "Traceback" in printed:
            row.problems.append(f"exit codes {codes}:\n{printed}")
        if half_written(folder):
            row.problems.append(f"left behind: {half_written(folder)}")
        self._inspect(row, task, folder)


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[None]:
    """Mount a separate disk on a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Remount the disk with other options."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def set_modes(folder: Path, mode: int) -> None:
    """Give a folder and all folders in it the same permissions."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(mode)


def can_mount(root: Path) -> bool:
    """Whether this process may mount a disk: root can, except in most containers."""
    (root / "mount").mkdir()
    try:
        with tmpfs(root / "mount", "size=1m"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def assignments(count: int, tasks: Sequence[Task], kinds: Sequence[Kind]) -> Iterator[tuple[Task, Kind]]:
    """`count` pairs of a task and a kind: each round covers every task, each time with the next kind."""
    for number in range(count):
        turn, place = divmod(number, len(tasks))
        yield tasks[place], kinds[(place + turn) % len(kinds)]


def run(root: Path, count: int, seed: int, kinds: Sequence[str]) -> Trials:
    """`count` interruptions, a quarter as many disk errors, and a tenth as many trials with two processes at once."""
    trials = Trials(root, seed)
    cheap_first = sorted(trials.tasks.values(), key=lambda task: task.trains)
    for task, number in assignments(count, cheap_first, SIGNALS):
        trials.interrupt(task, number)
    with_faults = [trials.tasks[name] for name in ("training", "features", "index", "dataset", "captions")]
    for task, kind in assignments(max(count // 4, len(kinds)), with_faults, kinds):
        trials.fault(task, kind)
    shared = [trials.tasks[name] for name in ("checkpoint", "cache", "dataset", "captions")]
    for task, _ in assignments(max(count // 10, len(shared)), shared, [""]):
        trials.two_at_once(task)
    return trials


# -------------------------------------------------------------------------------------------------- the report

COLUMNS = {
    "tried": "试了 · tried",
    "while writing": "写到一半 · hit while writing",
    "whole": "文件完整 · whole",
    "exact": "结果一致 · exact",
    "clean": "没有残留 · clean",
    "late": "太晚，重抽 · too late, drawn again",
}


def _in_short(problem: str) -> str:
    """The first and the last line: a traceback between them would name the folders of this machine."""
    lines = problem.strip().splitlines()
    return " … ".join(dict.fromkeys((lines[0], lines[-1])))


def table(trials: Trials, kinds: Sequence[str]) -> str:
    """Markdown: a row for every task and kind of interruption, then what was not tried and what went wrong."""
    lines = [f"| 任务 · task | 中断 · interruption | {' | '.join(COLUMNS.values())} |"]
    lines.append(f"|{'---|' * (2 + len(COLUMNS))}")
    for (task, kind), row in sorted(trials.rows.items()):
        lines.append(f"| {task} | {kind} | {' | '.join(str(row.counts[name]) for name in COLUMNS)} |")
    total = sum((row.counts for row in trials.rows.values()), Counter[str]())
    lines.append(f"| **合计 · total** | | {' | '.join(str(total[name]) for name in COLUMNS)} |\n")
    lines += [f"- 未试，此处不能挂载 · not tried, cannot mount here: {kind}" for kind in FAULTS if kind not in kinds]
    for (task, kind), row in trials.rows.items():
        lines += [f"- **{task}, {kind}**: `{_in_short(problem)}`" for problem in row.problems]
    problems = sum(len(row.problems) for row in trials.rows.values())
    return "\n".join([*lines, f"- 问题 · problems: {problems}"])


def command_line() -> int:
    """Run all trials and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="clipedu_interruptions_") as name, ExitStack() as stack:
        root = Path(name)
        mounts = can_mount(root)
        if mounts:  # in memory: nothing waits for the disk, and the space used is limited
            stack.enter_context(tmpfs(root, "size=3g"))
        kinds = FAULTS if mounts else (NO_PERMISSION, TOO_LARGE)
        trials = run(root, options.count, options.seed, kinds)
    result = table(trials, kinds)
    print(f"{result}\n{time.monotonic() - start:.0f} s")
    write_result("interruptions", f"--count {options.count} --seed {options.seed}", result, options.results)
    return int(any(row.problems for row in trials.rows.values()))


if __name__ == "__main__":
    sys.exit(command_line())
