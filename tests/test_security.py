"""Only the reader can access JupyterLab.

For pickles that run code and paths out of the data folder, see test_faults.py; for HTML in captions, test_browser.py.
Ruff's rules S102 to S605 forbid calls that would execute data (eval, pickle, a shell).
"""

from __future__ import annotations

import http.client
import json
import os
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


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    token: str

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        """The status of the response, and where it redirects to."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, headers=headers)
        with connection.getresponse() as answer:
            return answer.status, answer.headers.get("Location", "")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab, started by the same command as `make lab`, without the user's settings."""
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
    """Wait until the server answers; it writes its port and token to a file that only its user may read."""
    while process.poll() is None:
        time.sleep(0.25)
        with suppress(OSError, StopIteration, ValueError):
            file = next(runtime.glob("jpserver-*.json"))
            info = json.loads(file.read_text(encoding="utf-8"))
            server = Server(process, info["port"], info["token"])
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
def test_lab_answers_only_its_reader(server: Server) -> None:
    token = f"token {server.token}"
    assert server.ask("/api/contents", Authorization=token)[0] == 200
    for path in ("/api/contents", "/api/kernels", "/api/sessions", "/api/terminals"):
        assert server.ask(path)[0] == server.ask(path, Authorization="token 0123")[0] == 403, path
    assert server.ask("/api/kernels", "POST")[0] == 403, "nobody else can start a kernel"
    for path in ("/lab", "/files/README.md"):
        assert "/login" in server.ask(path)[1], path
    # A web page whose host name resolves to 127.0.0.1 (DNS rebinding) sends its own host name.
    assert server.ask("/api/contents", Host="evil.example", Authorization=token)[0] == 403
    assert server.token not in " ".join(psutil.Process(server.process.pid).cmdline()), "command lines are public"
