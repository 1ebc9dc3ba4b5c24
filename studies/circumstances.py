"""Where readers run the notebooks: every notebook in every circumstance, each time in a fresh copy of the project.

python -m studies.circumstances                                          # everything: an hour or two on two cores
python -m studies.circumstances --only twice no_data --notebooks 01 03
python -m studies.circumstances --only oldest --oldest-in FOLDER         # installs the oldest versions there: 6 GB

What comes out is kept in studies/results/circumstances.json, newest last, and shown in circumstances.md beside it.
Before each notebook the kernel proves that the circumstance is there; one that a computer cannot have is "not tried",
never "fine".
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
FINE, CARD, FELL, NOT_TRIED = "fine", "card", "fell", "not tried"
HEAD = "# studies.circumstances\n\n```bash\npython -m studies.circumstances --oldest-in FOLDER\n```\n\n"
SHOWN = {FINE: "通过 fine", CARD: "卡片 card", FELL: "**失败 fell**", NOT_TRIED: "未试 not tried"}
PACKAGES = ("torch", "torchvision", "jupyterlab", "ipywidgets", "numpy", "pillow", "matplotlib", "timm", "emoji")


@dataclass
class Place:
    """Where and how a notebook is run."""

    root: Path  # a copy of the project
    home: Path  # its reader's home: empty, nothing in any cache
    folder: Path | None = None  # where the kernel begins, if not in the copy's notebooks/
    trained: bool = True  # with the small model that notebook 00 trains
    times: int = 1
    variables: dict[str, str] = field(default_factory=dict)
    around: list[str] = field(default_factory=list)  # a command that runs the command after it
    python: str = sys.executable
    proof: str = ""  # Python that fails where the circumstance is not there; it knows `root`


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
    place.around = [*_apart("--mount"), "sh", "-c", mount, str(place.root)]
    place.proof = """
        try:
            (root / "new").touch()
        except OSError:
            return
        raise AssertionError("the checkout can be written to")
    """


def no_network(place: Place) -> None:
    place.around = [*_apart("--net"), "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]  # the kernel talks through lo
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
    """Needs `--oldest-in`: main() puts its Python into the place."""
    place.proof = f"""
        import re
        from importlib.metadata import version
        for name, promised in {promised_versions()}.items():
            assert version(name).startswith(promised), (name, version(name), promised)
    """


def _apart(what: str) -> list[str]:
    """A namespace of its own; who is not root becomes root in it."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ["unshare", what] if is_root else ["unshare", "--map-root-user", what]


@dataclass(frozen=True)
class Circumstance:
    zh: str
    en: str
    arrange: Callable[[Place], None]
    expected: str = FINE


CIRCUMSTANCES = {
    "alone": Circumstance("从 06 到 00 逐本单独运行，没有训练过", "06 to 00, each alone, nothing trained yet", alone),
    "twice": Circumstance("同一内核里运行两遍", "twice in one kernel", twice),
    "elsewhere": Circumstance("从别的工作目录", "from another working directory", elsewhere),
    "chinese_folder": Circumstance(
        "项目和主目录的路径里有汉字和空格", "Chinese and a space in the paths of project and home", chinese_folder
    ),
    "read_only": Circumstance("项目文件夹只读", "read-only checkout", read_only),
    "no_network": Circumstance("没有网络", "no network", no_network),
    "c_locale": Circumstance("LANG=C、LC_ALL=C、PYTHONUTF8=0", "LANG=C, LC_ALL=C, PYTHONUTF8=0", c_locale),
    "no_data": Circumstance("没有 sample_data", "without sample_data", no_data, CARD),
    "oldest": Circumstance("最旧的版本", "the oldest versions", oldest),
}


def check_the_proofs() -> None:
    """In an ordinary place each proof must fail, else it proves nothing; the others depend on the machine."""
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


def promised_versions() -> dict[str, str]:
    """The lowest version of each package that pyproject.toml allows."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert needed
    return dict(re.findall(r'"([\w-]+)>=([\d.]+)"', needed[1]))


def oldest_python(folder: Path) -> str:
    """The Python of a virtual environment in which every package has its lowest version; made if it is not there."""
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
    """Run a notebook in a circumstance, in a new copy of `root` below the empty folder `work`.

    `model` is the folder of the small model, for the circumstances that begin with one.
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
    verdict, note = _run_apart(path, saved, place)
    date = datetime.date.today().isoformat()
    return Result(notebook.stem, name, verdict, note, round(time.monotonic() - start), date, versions(python))


def prepared(saved: Any, place: Place) -> Any:
    """The notebook with the proof before it, as many times as it shall run."""
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


def _run_apart(path: Path, saved: Any, place: Place) -> tuple[str, str]:
    foreign = ("CLIPEDU_", "HF_", "IPYTHON", "JUPYTER", "LC_", "MPL", "PYTHON", "TORCH_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own = {"HOME": str(place.home), "USERPROFILE": str(place.home), "PYTHONPATH": str(place.root)}
    environment = kept | own | place.variables
    if place.around and (missing := _cannot_be_had(place.around)):
        return NOT_TRIED, missing
    begin = place.folder or place.root / "notebooks"
    command = [*place.around, place.python, __file__, "--execute", str(path), str(begin)]
    result = subprocess.run(command, capture_output=True, env=environment)
    if result.returncode:
        return FELL, result.stderr.decode(errors="replace").strip().splitlines()[-1]
    return judge(nbformat.read(path, as_version=4), saved, place.times)


def _cannot_be_had(around: Sequence[str]) -> str:
    """What the computer says where it refuses such a circumstance."""
    try:
        result = subprocess.run([*around, "true"], capture_output=True, text=True)
    except FileNotFoundError as error:
        return f"{error.filename}: not found"
    return (result.stderr.strip() or str(result.returncode)) if result.returncode else ""


def execute(path: Path, folder: Path) -> None:
    """Run a notebook where this process is, and write what it showed, up to the cell that failed."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=3600, kernel_name="python3", record_timing=False, resources=resources)
    try:
        client.execute()
    except CellExecutionError as error:
        notebook.metadata["stopped"] = f"{error.ename}: {error.evalue}"
    nbformat.write(notebook, path)


def judge(notebook: Any, saved: Any, times: int = 1) -> tuple[str, str]:
    """FINE: every cell ran and said what is saved. CARD: it stopped at a card. Else FELL, and why."""
    done = [(number, cell) for number, cell in enumerate(notebook.cells) if cell.get("execution_count")]
    number, last = done[-1]
    if stopped := notebook.metadata.get("stopped"):
        if any(output.output_type == "error" for _, cell in done for output in cell.outputs) or not _cards(last):
            return FELL, f"cell {(number - 1) % len(saved.cells) if number else 'proof'}: {stopped.splitlines()[0]}"
        return CARD, _cards(last)[-1]
    for number, (cell, before) in enumerate(zip(notebook.cells[1:], times * saved.cells, strict=True)):
        ignored = "nbval-ignore-output" in cell.metadata.get("tags", [])
        if cell.cell_type == "code" and not ignored and said(cell) != said(before):
            return FELL, f"cell {number % len(saved.cells)} says something else than is saved"
    outputs = [output for _, cell in done for output in cell.outputs]
    return FINE, "; ".join(one.text.splitlines()[0] for one in outputs if one.get("name") == "stderr")


def _cards(cell: Any) -> list[str]:
    """The text of the cards that it shows, each in both languages."""
    shown = [output.data for output in cell.outputs if output.output_type == "display_data"]
    both = '<div lang="zh">[FAIL] ', '<div lang="en">[FAIL] '
    return [data["text/plain"] for data in shown if all(mark in data.get("text/html", "") for mark in both)]


def said(cell: Any) -> str:
    """What its outputs say in plain text; of a picture its description."""
    return "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def versions(python: str) -> str:
    program = "import sys; from importlib.metadata import version; print(sys.version.split()[0], *map(version, {}))"
    answer = subprocess.run([python, "-c", program.format(PACKAGES)], capture_output=True, text=True, check=True)
    return ", ".join(map(" ".join, zip(("Python", *PACKAGES), answer.stdout.split(), strict=True)))


# --------------------------------------------------------------------------------------------------- the page


def recorded(folder: Path = RESULTS) -> list[Result]:
    """What was found before, oldest first."""
    path = folder / "circumstances.json"
    return [Result(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def record(result: Result, folder: Path = RESULTS) -> None:
    """Keep it in place of an earlier one of its kind, and write the page anew."""
    key = result.notebook, result.circumstance
    results = [old for old in recorded(folder) if (old.notebook, old.circumstance) != key] + [result]
    lines = ",\n".join(json.dumps(asdict(row), ensure_ascii=False) for row in results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "circumstances.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    (folder / "circumstances.md").write_text(f"{HEAD}{tables(results)}", encoding="utf-8")


def tables(results: Sequence[Result]) -> str:
    """The notebooks down, the circumstances across; then what there is to say, and with which versions."""
    found = {(one.notebook, one.circumstance): one for one in results}
    rows = [
        f"| {path.stem} | {' | '.join(_cell(found.get((path.stem, name))) for name in CIRCUMSTANCES)} |"
        for path in NOTEBOOKS
    ]
    header = "| | " + " | ".join(f"{one.zh} · {one.en}" for one in CIRCUMSTANCES.values()) + " |"
    table = "\n".join([header, "|---" * (len(CIRCUMSTANCES) + 1) + "|", *rows])
    notes, with_versions = "\n".join(_notes(results)), "\n".join(_versions(results))
    return f"{table}\n\n## 备注 · Notes\n\n{notes}\n\n## 版本 · Versions\n\n{with_versions}\n"


def _cell(result: Result | None) -> str:
    if result is None or result.verdict == NOT_TRIED:
        return SHOWN[NOT_TRIED]
    return f"{SHOWN[result.verdict]} {result.seconds} s"


def _notes(results: Sequence[Result]) -> Iterator[str]:
    for one in sorted(results, key=lambda one: (one.notebook, one.circumstance)):
        if one.note and one.verdict != CARD:
            yield f"- {one.notebook}, {CIRCUMSTANCES[one.circumstance].en}: {SHOWN[one.verdict]}: `{one.note}`"
    for card in sorted({one.note for one in results if one.verdict == CARD}):
        yield f"- {SHOWN[CARD]}:\n\n```\n{card}\n```"


def _versions(results: Sequence[Result]) -> Iterator[str]:
    for said in sorted({one.versions for one in results}):
        dates = sorted({one.date for one in results if one.versions == said})
        names = sorted({one.circumstance for one in results if one.versions == said})
        yield f"- {' – '.join(sorted({dates[0], dates[-1]}))}, {', '.join(names)}: {said}"


# ------------------------------------------------------------------------------------------------ command line


def small_model(work: Path) -> Path:
    """The small model of notebook 00: the project's, or trained in a copy."""
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
    bad = 0
    check_the_proofs()
    with tempfile.TemporaryDirectory() as work:
        model = small_model(Path(work))
        for name in names:
            python = oldest_python(options.oldest_in) if name == "oldest" else sys.executable
            for path in chosen:
                with tempfile.TemporaryDirectory(dir=work) as folder:
                    result = attempt(name, path, Path(folder), model, python)
                record(result, options.results)
                bad += result.verdict not in (CIRCUMSTANCES[name].expected, NOT_TRIED)
                print(f"{name:15}{path.stem:35}{result.verdict} {result.seconds} s {result.note[:100]}", flush=True)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
