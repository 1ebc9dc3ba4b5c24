"""Run every notebook in every environment that readers may have, each time in a fresh copy of the project.

python -m studies.circumstances                                          # all: an hour or two on two cores
python -m studies.circumstances --only twice no_data --notebooks 01 03
python -m studies.circumstances --only oldest --oldest-in FOLDER         # installs the oldest versions there: 6 GB

The results are kept in studies/results/circumstances.json, newest last, and shown in circumstances.md next to it.
Before each notebook, a proof runs in the kernel to check that the circumstance really applies; one that cannot be set
up on this computer is recorded as "not tried", never as "passed".
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RESULTS = Path(__file__).parent / "results"
LEFT_OUT = (".git", ".venv", ".*_cache", ".hypothesis", ".ipynb_checkpoints", "__pycache__", "*.egg-info", "artifacts")
FINE, CARD, FAILED, NOT_TRIED = "fine", "card", "failed", "not tried"
HEAD = "# studies.circumstances\n\n```bash\npython -m studies.circumstances --oldest-in FOLDER\n```\n\n"
LABELS = {FINE: "通过 passed", CARD: "卡片 card", FAILED: "**失败 failed**", NOT_TRIED: "未试 not tried"}
PACKAGES = ("torch", "torchvision", "jupyterlab", "ipywidgets", "numpy", "pillow", "matplotlib", "timm", "emoji")


@dataclass
class Place:
    """Where and how a notebook is run."""

    root: Path  # a copy of the project
    home: Path  # the reader's home folder: empty, so nothing is cached
    folder: Path | None = None  # where the kernel starts, if not in the copy's notebooks/
    trained: bool = True  # whether the small model that notebook 00 trains is available
    times: int = 1
    variables: dict[str, str] = field(default_factory=dict)
    wrapper: list[str] = field(default_factory=list)  # a command that runs the command appended to it
    python: str = sys.executable
    proof: str = ""  # Python code that fails unless the circumstance applies; it can use `root`


# ------------------------------------------------------------------------------------------- the circumstances


def twice(place: Place) -> None:
    place.times = 2


def alone(place: Place) -> None:
    place.trained = False
    place.proof = "assert not (root / 'runs').exists()"


def elsewhere(place: Place) -> None:
    place.folder = place.home / "elsewhere"
    place.folder.mkdir()
    place.proof = "assert not Path.cwd().is_relative_to(root)"


def chinese_folder(place: Place) -> None:
    parent = place.root.parent / "我的 课程"
    parent.mkdir()
    place.root, place.home = place.root.rename(parent / "clipedu"), place.home.rename(parent / "张三")
    place.proof = "assert not str(root).isascii() and ' ' in str(root)"


def read_only(place: Place) -> None:
    place.trained = False
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    place.wrapper = [*_own_namespace("--mount"), "sh", "-c", mount, str(place.root)]
    place.proof = """
        try:
            (root / "new").touch()
        except OSError:
            return
        raise AssertionError("the checkout can be written to")
    """


def no_network(place: Place) -> None:
    # Jupyter talks to the kernel through lo.
    place.wrapper = [*_own_namespace("--net"), "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    place.proof = """
        import socket
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
    """


def c_locale(place: Place) -> None:
    place.variables = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    place.proof = """
        import locale
        assert "utf" not in locale.getpreferredencoding(False).lower()
    """


def no_data(place: Place) -> None:
    shutil.rmtree(place.root / "sample_data")
    place.proof = "assert not (root / 'sample_data').exists()"


def oldest(place: Place) -> None:
    """Needs `--oldest-in`: main() sets the Python of the place."""
    place.proof = f"""
        import re
        from importlib.metadata import version
        for name, lowest in {lowest_versions()}.items():
            assert version(name).startswith(lowest), (name, version(name), lowest)
    """


def _own_namespace(kind: str) -> list[str]:
    """The command that runs another in a new namespace; a user who is not root becomes root in it."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ["unshare", kind] if is_root else ["unshare", "--map-root-user", kind]


@dataclass(frozen=True)
class Circumstance:
    zh: str
    en: str
    arrange: Callable[[Place], None]
    expected: str = FINE


CIRCUMSTANCES = {
    "alone": Circumstance(
        "从 06 到 00 逐本单独运行，没有训练过", "06 to 00, each on its own, nothing trained yet", alone
    ),
    "twice": Circumstance("同一内核里运行两遍", "twice in the same kernel", twice),
    "elsewhere": Circumstance("从别的工作目录", "from another working directory", elsewhere),
    "chinese_folder": Circumstance(
        "项目和主目录的路径里有汉字和空格", "Chinese and spaces in project and home paths", chinese_folder
    ),
    "read_only": Circumstance("项目文件夹只读", "read-only checkout", read_only),
    "no_network": Circumstance("没有网络", "no network", no_network),
    "c_locale": Circumstance("LANG=C、LC_ALL=C、PYTHONUTF8=0", "LANG=C, LC_ALL=C, PYTHONUTF8=0", c_locale),
    "no_data": Circumstance("没有 sample_data", "without sample_data", no_data, CARD),
    "oldest": Circumstance("最旧的版本", "the oldest versions", oldest),
}


def check_the_proofs() -> None:
    """Check that each proof fails in an ordinary place; the proofs left out here depend on the machine."""
    for name in ("alone", "elsewhere", "chinese_folder", "read_only", "no_data"):
        with tempfile.TemporaryDirectory() as work:
            arranged, usual = (Place(Path(work, kind, "clipedu"), Path(work, kind, "home")) for kind in "ab")
            for place in (arranged, usual):
                for folder in (place.home, place.root / "clipedu", place.root / "sample_data", place.root / "runs"):
                    folder.mkdir(parents=True)
                (place.root / "clipedu" / "__init__.py").touch()
            CIRCUMSTANCES[name].arrange(arranged)
            for proof, error in (("", ""), (arranged.proof, "AssertionError")):
                source = prepared(nbformat.v4.new_notebook(), replace(usual, proof=proof)).cells[0].source
                environment = os.environ | {"PYTHONPATH": str(usual.root)}
                command = [sys.executable, "-c", source]
                result = subprocess.run(command, cwd=usual.root, env=environment, capture_output=True, text=True)
                assert error in result.stderr and bool(error) == bool(result.stderr), (name, result.stderr)


def lowest_versions() -> dict[str, str]:
    """The lowest version of each package that pyproject.toml allows."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    dependencies = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert dependencies
    return dict(re.findall(r'"([\w-]+)>=([\d.]+)"', dependencies[1]))


def oldest_python(folder: Path) -> str:
    """The Python of a virtual environment with the lowest version of every package; created if it does not exist."""
    python = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
        lowest = ["--resolution", "lowest-direct", "--requirements", str(ROOT / "pyproject.toml")]
        subprocess.run([python, "-m", "uv", "pip", "install", "--quiet", "--python", python, *lowest], check=True)
        (folder / "complete").touch()
    return str(python)


# ---------------------------------------------------------------------------------------- running and judging


@dataclass(frozen=True)
class Result:
    notebook: str
    circumstance: str
    verdict: str
    note: str = ""
    seconds: int = 0
    date: str = ""
    versions: str = ""


def attempt(
    name: str, notebook: Path, work: Path, model: Path | None, python: str = sys.executable, root: Path = ROOT
) -> Result:
    """Run a notebook in a circumstance, in a new copy of `root` inside the empty folder `work`.

    `model` is the folder of the small model, for circumstances in which it has been trained.
    """
    place = Place(work / "clipedu", work / "home", python=python)
    place.home.mkdir()
    shutil.copytree(root, place.root, ignore=shutil.ignore_patterns("runs", *LEFT_OUT))
    CIRCUMSTANCES[name].arrange(place)
    if place.trained and model:
        shutil.copytree(model, place.root / "runs" / "classroom")
    saved = nbformat.read(notebook, as_version=4)
    path = work / notebook.name
    nbformat.write(prepared(saved, place), path)
    start = time.monotonic()
    verdict, note = _run_in_process(path, saved, place)
    date = datetime.date.today().isoformat()
    return Result(notebook.stem, name, verdict, note, round(time.monotonic() - start), date, versions(python))


def prepared(saved: Any, place: Place) -> Any:
    """The proof, followed by the notebook's cells, repeated as often as it is to run."""
    lines = [
        "def _proof(root):",
        "    assert Path(clipedu.__file__).parent.parent.samefile(root), clipedu.__file__",
        textwrap.indent(textwrap.dedent(place.proof), "    "),
        "from pathlib import Path",
        "import clipedu",
        f"_proof(Path({str(place.root)!r}))",
        "del _proof, Path, clipedu",
    ]
    proof = nbformat.v4.new_code_cell("\n".join(lines), id="proof")
    notebook = nbformat.v4.new_notebook(cells=[proof], metadata=saved.metadata)
    for number in range(place.times):
        for cell in copy.deepcopy(saved.cells):
            notebook.cells.append(cell)
            cell.id = f"{cell.id[:60]}-{number}"
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
    return notebook


def _run_in_process(path: Path, saved: Any, place: Place) -> tuple[str, str]:
    removed = ("CLIPEDU_", "HF_", "IPYTHON", "JUPYTER", "LC_", "MPL", "PYTHON", "TORCH_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(removed)}
    own = {"HOME": str(place.home), "USERPROFILE": str(place.home), "PYTHONPATH": str(place.root)}
    environment = kept | own | place.variables
    if place.wrapper and (refusal := _refusal(place.wrapper)):
        return NOT_TRIED, refusal
    start_in = place.folder or place.root / "notebooks"
    command = [*place.wrapper, place.python, __file__, "--execute", str(path), str(start_in)]
    result = subprocess.run(command, capture_output=True, env=environment)
    if result.returncode:
        return FAILED, result.stderr.decode(errors="replace").strip().splitlines()[-1]
    return judge(nbformat.read(path, as_version=4), saved, place.times)


def _refusal(wrapper: Sequence[str]) -> str:
    """The system's error message if the wrapper cannot run here, else an empty string."""
    try:
        result = subprocess.run([*wrapper, "true"], capture_output=True, text=True)
    except FileNotFoundError as error:
        return f"{error.filename}: not found"
    return (result.stderr.strip() or str(result.returncode)) if result.returncode else ""


def execute(path: Path, folder: Path) -> None:
    """Run a notebook in this process's environment and save its outputs, up to the cell that failed."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=3600, kernel_name="python3", record_timing=False, resources=resources)
    try:
        client.execute()
    except CellExecutionError as error:
        notebook.metadata["stopped"] = f"{error.ename}: {error.evalue}"
    nbformat.write(notebook, path)


def judge(notebook: Any, saved: Any, times: int = 1) -> tuple[str, str]:
    """FINE: every cell ran with the saved output. CARD: it stopped at a card. Otherwise FAILED and the reason."""
    done = [(number, cell) for number, cell in enumerate(notebook.cells) if cell.get("execution_count")]
    number, last = done[-1]
    if stopped := notebook.metadata.get("stopped"):
        if any(output.output_type == "error" for _, cell in done for output in cell.outputs) or not _cards(last):
            return FAILED, f"cell {(number - 1) % len(saved.cells) if number else 'proof'}: {stopped.splitlines()[0]}"
        return CARD, _cards(last)[-1]
    for number, (cell, saved_cell) in enumerate(zip(notebook.cells[1:], times * saved.cells, strict=True)):
        ignored = "nbval-ignore-output" in cell.metadata.get("tags", [])
        if cell.cell_type == "code" and not ignored and output_text(cell) != output_text(saved_cell):
            return FAILED, f"the output of cell {number % len(saved.cells)} differs from the saved one"
    outputs = [output for _, cell in done for output in cell.outputs]
    return FINE, "; ".join(output.text.splitlines()[0] for output in outputs if output.get("name") == "stderr")


def _cards(cell: Any) -> list[str]:
    """The texts of the failure cards in its output; a card is in both languages."""
    displayed = [output.data for output in cell.outputs if output.output_type == "display_data"]
    both = '<div lang="zh">[FAIL] ', '<div lang="en">[FAIL] '
    return [data["text/plain"] for data in displayed if all(mark in data.get("text/html", "") for mark in both)]


def output_text(cell: Any) -> str:
    """The plain text of its outputs; for a picture, its description."""
    return "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def versions(python: str) -> str:
    program = "import sys; from importlib.metadata import version; print(sys.version.split()[0], *map(version, {}))"
    answer = subprocess.run([python, "-c", program.format(PACKAGES)], capture_output=True, text=True, check=True)
    return ", ".join(map(" ".join, zip(("Python", *PACKAGES), answer.stdout.split(), strict=True)))


# --------------------------------------------------------------------------------------------------- the page


def recorded(folder: Path = RESULTS) -> list[Result]:
    """The results recorded so far, oldest first."""
    path = folder / "circumstances.json"
    return [Result(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def record(result: Result, folder: Path = RESULTS) -> None:
    """Record a result, replacing an earlier one for the same notebook and circumstance, and rewrite the page."""
    key = result.notebook, result.circumstance
    results = [old for old in recorded(folder) if (old.notebook, old.circumstance) != key] + [result]
    lines = ",\n".join(json.dumps(asdict(row), ensure_ascii=False) for row in results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "circumstances.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    (folder / "circumstances.md").write_text(f"{HEAD}{tables(results)}", encoding="utf-8")


def tables(results: Sequence[Result]) -> str:
    """A table with a row per notebook and a column per circumstance, then the notes and the versions used."""
    by_key = {(result.notebook, result.circumstance): result for result in results}
    rows = [
        f"| {path.stem} | {' | '.join(_cell(by_key.get((path.stem, name))) for name in CIRCUMSTANCES)} |"
        for path in NOTEBOOKS
    ]
    header = "| | " + " | ".join(f"{each.zh} · {each.en}" for each in CIRCUMSTANCES.values()) + " |"
    table = "\n".join([header, "|---" * (len(CIRCUMSTANCES) + 1) + "|", *rows])
    notes, with_versions = "\n".join(_notes(results)), "\n".join(_versions(results))
    return f"{table}\n\n## 备注 · Notes\n\n{notes}\n\n## 版本 · Versions\n\n{with_versions}\n"


def _cell(result: Result | None) -> str:
    if result is None or result.verdict == NOT_TRIED:
        return LABELS[NOT_TRIED]
    return f"{LABELS[result.verdict]} {result.seconds} s"


def _notes(results: Sequence[Result]) -> Iterator[str]:
    for result in sorted(results, key=lambda result: (result.notebook, result.circumstance)):
        if result.note and result.verdict != CARD:
            circumstance = CIRCUMSTANCES[result.circumstance].en
            yield f"- {result.notebook}, {circumstance}: {LABELS[result.verdict]}: `{result.note}`"
    for card in sorted({result.note for result in results if result.verdict == CARD}):
        yield f"- {LABELS[CARD]}:\n\n```\n{card}\n```"


def _versions(results: Sequence[Result]) -> Iterator[str]:
    for used in sorted({result.versions for result in results}):
        dates = sorted({result.date for result in results if result.versions == used})
        names = sorted({result.circumstance for result in results if result.versions == used})
        yield f"- {' – '.join(sorted({dates[0], dates[-1]}))}, {', '.join(names)}: {used}"


# ------------------------------------------------------------------------------------------------ command line


def small_model(work: Path) -> Path:
    """The folder of notebook 00's small model: the project's own, or one trained in `work`."""
    trained = ROOT / "runs" / "classroom"
    if not (trained / "losses.json").is_file():
        trained = work / "trained"
        program = "import sys, pathlib, clipedu.classroom as c; c.trained_model(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", program, trained], cwd=ROOT, check=True, capture_output=True)
    return trained


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CIRCUMSTANCES, metavar="NAME", default=list(CIRCUMSTANCES))
    parser.add_argument("--notebooks", nargs="+", metavar="01", default=[path.name[:2] for path in NOTEBOOKS])
    parser.add_argument("--oldest-in", type=Path, help="folder for the oldest versions; without it they are not tried")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--execute", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.execute:
        execute(*options.execute)
        return 0
    chosen = [path for path in reversed(NOTEBOOKS) if path.name[:2] in options.notebooks]
    names = [name for name in options.only if name != "oldest" or options.oldest_in]
    failures = 0
    check_the_proofs()
    with tempfile.TemporaryDirectory() as work:
        model = small_model(Path(work))
        for name in names:
            python = oldest_python(options.oldest_in) if name == "oldest" else sys.executable
            for path in chosen:
                with tempfile.TemporaryDirectory(dir=work) as folder:
                    result = attempt(name, path, Path(folder), model, python)
                record(result, options.results)
                failures += result.verdict not in (CIRCUMSTANCES[name].expected, NOT_TRIED)
                print(f"{name:15}{path.stem:35}{result.verdict} {result.seconds} s {result.note[:100]}", flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
