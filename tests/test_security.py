"""No stranger's code is run, nobody but the reader reaches JupyterLab, and what is drawn is text, not instructions.

That HTML in a caption is shown and not obeyed is tested where it counts, in the browser: see test_browser.py.
"""

from __future__ import annotations

import ast
import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from clipedu.classroom import plots
from clipedu.classroom.view import View
from clipedu.commands.reports import draw_hits
from clipedu.ground.environment import figure_style
from clipedu.search import Hit
from tests.conftest import ROOT
from tests.lessons import NOTEBOOKS, Lesson

pytestmark = pytest.mark.slow

# -------------------------------------------------------------------------------- nothing that runs a stranger's code

FORBIDDEN = re.compile(
    r"(builtins\.)?(eval|exec|compile|__import__)"
    r"|os\.(system|popen)|subprocess\.(getoutput|getstatusoutput)"
    r"|(_?pickle|dill|cloudpickle|joblib|marshal|shelve)\.(loads?|open|Unpickler)|(pandas|pd)\.read_pickle"
    r"|torch\.hub\.load|yaml\.(?!safe_)\w*load\w*"
)
ONLY = {"weights_only": "True", "shell": "False", "allow_pickle": "False", "trust_remote_code": "False"}


def dangers(source: str) -> Iterator[str]:
    """Whatever can run code that lies in data, by the name under which it was imported."""
    nodes = list(ast.walk(ast.parse(source)))
    imported: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            imported |= {one.asname: one.name for one in node.names if one.asname}
        elif isinstance(node, ast.ImportFrom):
            imported |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    names = [*imported.values()]
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            names.append(imported.get(first, first) + dot + rest)
        elif isinstance(node, ast.Call):
            given = {one.arg: ast.unparse(one.value) for one in node.keywords}
            yield from (f"{one}={given[one]}" for one, only in ONLY.items() if given.get(one, only) != only)
            if ast.unparse(node.func) == "torch.load" and "weights_only" not in given:
                yield "torch.load without weights_only"  # until torch 2.6 that meant False
    yield from (name for name in names if FORBIDDEN.fullmatch(name))


def programs() -> Iterator[tuple[str, str]]:
    """All code of the project: its files, and the code cells of its notebooks."""
    for folder in ("clipedu", "benchmarks", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        yield from ((f"{path.name}, {where}", cell.source) for where, cell in Lesson.read(path).code)


def test_nothing_runs_a_strangers_code() -> None:
    found = {where: list(dangers(source)) for where, source in programs()}
    assert len(found) > 200
    assert {where: names for where, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("eval('1 + 1')", "eval"),
        ("list(map(eval, sys.argv))", "eval"),
        ("exec(source, {})", "exec"),
        ("__import__(name)", "__import__"),
        ("code = compile(source, '', 'exec')", "compile"),
        ("import builtins\nbuiltins.exec(source)", "builtins.exec"),
        ("from builtins import eval as judge\njudge(source)", "builtins.eval"),
        ("import pickle\npickle.load(file)", "pickle.load"),
        ("import pickle as p\np.loads(data)", "pickle.loads"),
        ("from pickle import Unpickler", "pickle.Unpickler"),
        ("import joblib\njoblib.load(path)", "joblib.load"),
        ("import shelve\nshelve.open(path)", "shelve.open"),
        ("import os\nos.system('ls')", "os.system"),
        ("class Trap:\n    def __reduce__(self):\n        return os.system, ('ls',)", "os.system"),
        ("from os import popen as run\nrun('ls')", "os.popen"),
        ("subprocess.getoutput('ls')", "subprocess.getoutput"),
        ("subprocess.run('ls', shell=True)", "shell=True"),
        ("subprocess.run('ls', shell=quick)", "shell=quick"),
        ("torch.load(path, weights_only=False)", "weights_only=False"),
        ("load = torch.load(path, weights_only=not safe)", "weights_only=not safe"),
        ("torch.load(path)", "torch.load without weights_only"),
        ("numpy.load(path, allow_pickle=True)", "allow_pickle=True"),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", "trust_remote_code=True"),
        ("torch.hub.load('a/b', 'c')", "torch.hub.load"),
        ("yaml.load(text)", "yaml.load"),
        ("yaml.unsafe_load(text)", "yaml.unsafe_load"),
    ],
)
def test_the_dangerous_is_refused(source: str, name: str) -> None:
    assert name in list(dangers(source))


def test_the_harmless_is_not() -> None:
    harmless = """
import pickle, pickletools, re, yaml
model.eval()
re.compile("x")
fast = torch.compile(model)
try:
    torch.load(path, map_location="cpu", weights_only=True)
except pickle.UnpicklingError:
    pickletools.genops(data)
numpy.load(path, allow_pickle=False)
subprocess.run(["ls"], shell=False)
yaml.safe_load(text)
"eval('1 + 1'), weights_only=False"
"""
    assert list(dangers(harmless)) == []


# ------------------------------------------------------------------------------------------------------- make lab


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    token: str

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        """The status of the answer, and where it sends the reader."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Location", "")
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab, started by the very command of `make lab`, with no settings of the user's."""
    home = tmp_path_factory.mktemp("home")
    runtime = home / "JUPYTER_RUNTIME_DIR"
    folders = "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "JUPYTER"))}
    environment |= {name: str(home / name) for name in folders}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        flags = f"--no-browser --ServerApp.port={free.getsockname()[1]}" + " --allow-root" * (os.geteuid() == 0)
    plan = ["make", "--dry-run", "--silent", "lab", f"VENV={sys.prefix}", f"LAB_FLAGS={flags}"]
    said = subprocess.run(plan, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    command = shlex.split(said.splitlines()[-1])
    assert command[:2] == [f"{sys.prefix}/bin/jupyter", "lab"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield _answering(process, runtime)
    finally:
        process.terminate()
        process.wait(30)


def _answering(process: subprocess.Popen[bytes], runtime: Path) -> Server:
    """The server once it answers; it writes its port and its token into a file that only its user may read."""
    for _ in range(240):
        assert process.poll() is None, "JupyterLab did not start"
        try:
            file = next(runtime.glob("jpserver-*.json"))
            said = json.loads(file.read_text(encoding="utf-8"))
            server = Server(process, said["port"], said["token"])
            if file.stat().st_mode & 0o077 == 0 and server.ask("/api")[0] == 200:
                return server
        except (OSError, StopIteration, ValueError):
            pass
        time.sleep(0.25)
    raise AssertionError("JupyterLab does not answer")


def test_lab_listens_on_this_computer_only(server: Server) -> None:
    connections = psutil.Process(server.process.pid).net_connections("inet")
    listening = {(one.laddr.ip, one.laddr.port) for one in connections if one.status == psutil.CONN_LISTEN}
    assert ("127.0.0.1", server.port) in listening
    assert {address for address, _ in listening} == {"127.0.0.1"}


def test_lab_answers_nobody_without_its_token(server: Server) -> None:
    for path in ("/api/contents", "/api/kernels", "/api/sessions", "/api/terminals"):
        assert server.ask(path)[0] == 403, path
        assert server.ask(path, Authorization="token 0123")[0] == 403, path
        assert server.ask(f"{path}?token=")[0] == 403, path
    assert server.ask("/api/kernels", "POST")[0] == 403, "nobody else starts a kernel"
    for path in ("/lab", "/files/README.md", "/"):
        status, place = server.ask(path)
        assert status == 302, path
        assert "/login" in place or server.ask(place)[1].startswith("/login"), path


def test_lab_answers_its_reader(server: Server) -> None:
    assert len(server.token) >= 32
    assert server.ask("/api/contents", Authorization=f"token {server.token}")[0] == 200
    assert server.ask(f"/lab?token={server.token}")[0] == 200
    assert server.token not in " ".join(psutil.Process(server.process.pid).cmdline()), "other users see command lines"


def test_lab_answers_no_other_site(server: Server) -> None:
    """A page of the web whose name leads to 127.0.0.1 (DNS rebinding) asks under its own name."""
    assert server.ask("/api/contents", Host="evil.example", Authorization=f"token {server.token}")[0] == 403


# ------------------------------------------------------------------------------------------ words that are drawn

FORMULA = r"$\frac$"  # matplotlib would read a formula here, and fail
DRAWN: dict[str, Callable[[str], View]] = {
    "similarity": lambda words: plots.similarity(torch.eye(2), (), [words, "b"], words, [words, "b"]),
    "heat_map": lambda words: plots.heat_map(torch.eye(2), [words, "b"], [words, "b"], words),
    "grids": lambda words: plots.grids({words: torch.eye(2)}),
    "curves": lambda words: plots.curves({words: ([1, 2], [3, 4])}, "x", "y", {f"{words} level": 1.0}),
    "bars": lambda words: plots.bars({words: {words: 1.0, "b": 2.0}}, "y", {f"{words} level": 1.0}),
    "dots": lambda words: plots.dots({words: [1.0, 2.0]}, "x", band=words),
    "histogram": lambda words: plots.histogram({words: torch.arange(9.0)}, "x"),
    "feature_maps": lambda words: plots.feature_maps({words: torch.rand(2, 4, 4)}, channels=2),
    "filters": lambda words: plots.filters({words: torch.rand(2, 3, 3, 3)}),
    "gradient_map": lambda words: plots.gradient_map(Image.new("RGB", (8, 8)), torch.ones(8, 8), words),
    "on_the_circle": lambda words: plots.on_the_circle(torch.eye(2), torch.eye(2), words),
    "on_the_sphere": lambda words: plots.on_the_sphere(torch.eye(3), torch.eye(3), words, (words, "texts")),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_dollar_sign_is_no_formula(name: str) -> None:
    assert FORMULA in DRAWN[name](FORMULA).text


def test_a_sentence_to_search_for_is_no_formula(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    draw_hits({FORMULA: [Hit(tmp_path / "a.png", 0.5)], f"{FORMULA} 红": []}, tmp_path / "hits.png")
    assert (tmp_path / "hits.png").is_file()


@pytest.mark.parametrize("words", ["from $5 to $9", r"\$5, $6 and $7", "$", r"\\$", r"C:\$x$", "no dollar"])
def test_plain_words_are_drawn_as_they_stand(words: str) -> None:
    def drawn(**options: bool) -> bytes:
        canvas = FigureCanvasAgg(Figure((3, 0.5)))
        canvas.figure.text(0, 0.5, words, **options)  # type: ignore[arg-type]
        canvas.draw()
        return bytes(canvas.buffer_rgba())

    plainly = drawn(parse_math=False)
    with figure_style():
        assert drawn() == plainly
