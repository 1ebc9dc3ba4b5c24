"""Data runs no code, and nobody but the reader reaches JupyterLab.

Paths out of the data folder and pickles that run code: test_faults.py. HTML in a caption: test_browser.py.
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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.lessons import NOTEBOOKS, Lesson

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
            imported |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    names = [*imported.values()]
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            names.append(imported.get(first, first) + dot + rest)
        elif isinstance(node, ast.Call):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            yield from (f"{name}={given[name]}" for name, only in ONLY.items() if given.get(name, only) != only)
            if ast.unparse(node.func) == "torch.load" and "weights_only" not in given:
                yield "torch.load without weights_only"  # until torch 2.6 that meant False
    yield from (name for name in names if FORBIDDEN.fullmatch(name))


def test_no_data_runs_code() -> None:
    folders = [ROOT / name for name in ("clipedu", "benchmarks", "studies", "tests")]
    programs = {str(path): path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py")}
    for path in NOTEBOOKS:
        programs |= {f"{path.name}, {where}": cell.source for where, cell in Lesson.read(path).code}
    found = {where: list(dangers(source)) for where, source in programs.items()}
    assert {where: names for where, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("list(map(eval, sys.argv))", "eval"),
        ("from builtins import exec as run\nrun(source)", "builtins.exec"),
        ("import pickle as p\np.loads(data)", "pickle.loads"),
        ("subprocess.run('ls', shell=quick)", "shell=quick"),
        ("torch.load(path, weights_only=not safe)", "weights_only=not safe"),
        ("torch.load(path)", "torch.load without weights_only"),
        ("model.eval(); torch.load(path, weights_only=True); yaml.safe_load(text); run('ls', shell=False)", None),
    ],
)
def test_the_dangerous_is_found_and_the_harmless_is_not(source: str, name: str | None) -> None:
    assert set(dangers(source)) == ({name} if name else set())


# ------------------------------------------------------------------------------------------------------- make lab


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    token: str

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        """The status of the answer, and where it sends the reader."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, headers=headers)
        with connection.getresponse() as answer:
            return answer.status, answer.headers.get("Location", "")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab, started by the very command of `make lab`, with no settings of the user's."""
    home = tmp_path_factory.mktemp("home")
    folders = "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "JUPYTER"))}
    environment |= {name: str(home / name) for name in folders}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        flags = f"--no-browser --ServerApp.port={free.getsockname()[1]}" + " --allow-root" * (os.geteuid() == 0)
    plan = ["make", "--dry-run", "--silent", "lab", f"VENV={sys.prefix}", f"LAB_FLAGS={flags}"]
    printed = subprocess.run(plan, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    command = shlex.split(printed.splitlines()[-1])
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        yield _answering(process, home / "JUPYTER_RUNTIME_DIR")
        process.terminate()


def _answering(process: subprocess.Popen[bytes], runtime: Path) -> Server:
    """The server once it answers; it writes its port and its token into a file that only its user may read."""
    while process.poll() is None:
        time.sleep(0.25)
        with suppress(OSError, StopIteration, ValueError):
            file = next(runtime.glob("jpserver-*.json"))
            known = json.loads(file.read_text(encoding="utf-8"))
            server = Server(process, known["port"], known["token"])
            if file.stat().st_mode & 0o077 == 0 and server.ask("/api")[0] == 200:
                return server
    raise AssertionError("JupyterLab did not start")


@pytest.mark.slow
def test_lab_listens_on_this_computer_only(server: Server) -> None:
    connections = psutil.Process(server.process.pid).net_connections("inet")
    listening = {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}
    assert ("127.0.0.1", server.port) in listening
    assert {address for address, _ in listening} == {"127.0.0.1"}


@pytest.mark.slow
def test_lab_answers_its_reader_and_nobody_else(server: Server) -> None:
    token = f"token {server.token}"
    assert server.ask("/api/contents", Authorization=token)[0] == 200
    for path in ("/api/contents", "/api/kernels", "/api/sessions", "/api/terminals"):
        assert server.ask(path)[0] == server.ask(path, Authorization="token 0123")[0] == 403, path
    assert server.ask("/api/kernels", "POST")[0] == 403, "nobody else starts a kernel"
    for path in ("/lab", "/files/README.md"):
        assert "/login" in server.ask(path)[1], path
    # A page of the web whose name leads to 127.0.0.1 (DNS rebinding) asks under its own name.
    assert server.ask("/api/contents", Host="evil.example", Authorization=token)[0] == 403
    assert server.token not in " ".join(psutil.Process(server.process.pid).cmdline()), "other users see command lines"
