"""The short form of tests/interruptions.py, and what its long form has shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

if sys.platform != "linux":
    pytest.skip("forks its children, mounts disks: Linux only", allow_module_level=True)

from tests.interruptions import COLUMNS, FAULTS, SIGNALS, TWO

pytestmark = pytest.mark.slow


def rows(page: Path) -> list[tuple[str, dict[str, int]]]:
    """The kind of each interruption in the page's table, and its counts."""
    found = []
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 2 + len(COLUMNS) and cells[-1].isdecimal() and cells[1]:
            found.append((cells[1], dict(zip(COLUMNS, map(int, cells[2:]), strict=True))))
    return found


def nothing_is_lost(page: Path) -> None:
    assert rows(page)
    for kind, counts in rows(page):
        assert counts["tried"] == counts["whole"] == counts["exact"] == counts["clean"] > 0, kind


@pytest.fixture(scope="module")
def short_form(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("interruptions") / "page.md"
    command = [sys.executable, "-m", "tests.interruptions", "--count", "12", "--seed", "0", "--page", str(page)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return page


def test_nothing_is_lost_and_nothing_is_left(short_form: Path) -> None:
    nothing_is_lost(short_form)
    kinds = {kind for kind, _ in rows(short_form)}
    assert kinds >= {number.name for number in SIGNALS} | {TWO}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_disk_that_refuses(short_form: Path, kind: str) -> None:
    if f"**{kind}**" in short_form.read_text(encoding="utf-8"):
        pytest.skip("not tried: this process may not mount a disk")
    assert kind in {found for found, _ in rows(short_form)}


def test_the_page_shows_the_long_form() -> None:
    page = ROOT / "docs" / "interruptions.md"
    nothing_is_lost(page)
    tried = {kind: 0 for kind, _ in rows(page)}
    for kind, counts in rows(page):
        tried[kind] += counts["tried"]
    assert sum(tried.get(number.name, 0) for number in SIGNALS) >= 200
    assert set(FAULTS) | {TWO} <= set(tried)
