"""The quickest notebook in four circumstances; all others: `python -m tests.circumstances`."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.display import display
from nbformat.v4 import new_code_cell, new_notebook, new_output

from clipedu.classroom import lessons
from clipedu.ground.errors import DatasetError
from tests import circumstances
from tests.circumstances import CARD, CIRCUMSTANCES, FELL, FINE, NOT_TRIED, Place, attempt, judge, prepared
from tests.conftest import ROOT
from tests.lessons import NOTEBOOKS, Lesson, executed

pytestmark = pytest.mark.slow

FIRST = next(path for path in NOTEBOOKS if path.name.startswith("01"))
QUICK = [(FIRST, name) for name in ("twice", "read_only", "c_locale", "no_data")]  # 20 s each, the whole table hours


@pytest.fixture(scope="session")
def model() -> Path:
    """The folder of the small model, which notebook 00 trained, or this does."""
    lessons.trained_model()
    return lessons.RUN_DIR


@pytest.mark.parametrize(("notebook", "name"), QUICK, ids=[f"{path.stem}-{name}" for path, name in QUICK])
def test_quick_notebooks(notebook: Path, name: str, tmp_path: Path, model: Path) -> None:
    result = attempt(name, notebook, tmp_path, model)
    if result.verdict == NOT_TRIED:
        pytest.skip(f"{CIRCUMSTANCES[name].en} cannot be had here: {result.note}")
    assert result.verdict == CIRCUMSTANCES[name].expected, result.note
    if result.verdict == CARD:
        assert result.note.count("python -m clipedu create-dataset") == 2, "in both languages"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_asks_for_missing_data(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first cell that reads sample_data ends in the library's own error, which a kernel shows as a card."""
    monkeypatch.setattr(lessons, "ROOT", tmp_path)
    with pytest.raises(DatasetError) as caught:
        executed(*[cell.source for _, cell in Lesson.read(path).code], display=display)
    for said in (caught.value.zh, caught.value.en):
        assert "python -m clipedu create-dataset --kind scenes --out sample_data" in said


def test_who_can_only_read_the_project_keeps_runs_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "ROOT", tmp_path)
    ours, cache = tmp_path / "runs" / "classroom", tmp_path / "cache" / "classroom"
    monkeypatch.setenv("CLIPEDU_CACHE", str(cache.parent))
    assert lessons._run_dir() == ours
    monkeypatch.setattr("os.access", lambda folder, _: folder != tmp_path)
    assert lessons._run_dir() == cache
    ours.mkdir(parents=True)
    (ours / "losses.json").touch()
    assert lessons._run_dir() == ours, "what a teacher has trained there is read"


# ---------------------------------------------------------------------------------------------- it can say no


def notebook_of(*cells: Any) -> Any:
    """As it stands after a run: the proof, then these."""
    found = [new_code_cell("proof"), *map(copy.deepcopy, cells)]
    for number, one in enumerate(found):
        one.id, one.execution_count = f"cell-{number}", number + 1
    return new_notebook(cells=found)


def cell(source: str, *outputs: Any, **metadata: Any) -> Any:
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


def printed(text: str, name: str = "stdout") -> Any:
    return new_output("stream", name=name, text=text)


A_CARD = {
    "text/html": '<div lang="zh">[FAIL] 没有</div><div lang="en">[FAIL] none</div>',
    "text/plain": "[FAIL] 没有\n[FAIL] none",
}
SAVED = new_notebook(cells=[cell("a", printed("1\n")), cell("b", printed("0.3 s"), tags=["nbval-ignore-output"])])
ONE, TWO = SAVED.cells


def test_fine_is_what_runs_and_says_what_is_saved() -> None:
    assert judge(notebook_of(ONE, TWO), SAVED) == (FINE, "")
    assert judge(notebook_of(ONE, TWO, ONE, TWO), SAVED, times=2) == (FINE, "")
    assert judge(notebook_of(ONE, cell("b", tags=["nbval-ignore-output"])), SAVED) == (FINE, "")
    warned = cell("b", printed("careful\nin C", "stderr"), tags=["nbval-ignore-output"])
    assert judge(notebook_of(ONE, warned), SAVED) == (FINE, "careful")
    other = notebook_of(ONE, TWO, cell("a", printed("2\n")), TWO)
    assert judge(other, SAVED, times=2) == (FELL, "cell 0 says something else than is saved")


def test_a_traceback_is_no_card() -> None:
    def stopped(*outputs: Any) -> tuple[str, str]:
        notebook = notebook_of(ONE, cell("b", *outputs))
        notebook.metadata["stopped"] = "DatasetError: none"
        return judge(notebook, SAVED)

    card = new_output("display_data", data=A_CARD)
    in_one_language = new_output("display_data", data=A_CARD | {"text/html": '<div lang="en">[FAIL] none</div>'})
    error = new_output("error", ename="DatasetError", evalue="none", traceback=[])
    assert stopped(card) == (CARD, A_CARD["text/plain"])
    for outputs in ([], [in_one_language], [error], [card, error]):
        assert stopped(*outputs) == (FELL, "cell 1: DatasetError: none")


@pytest.mark.parametrize("name", ["alone", "elsewhere", "chinese_folder", "read_only", "no_data"])
def test_the_proof_fails_where_the_circumstance_is_not_there(name: str, tmp_path: Path) -> None:
    """In an ordinary place, with an empty package of our name; the other proofs depend on the machine."""
    arranged, usual = (Place(tmp_path / where / "clipedu", tmp_path / where / "home") for where in ("new", "usual"))
    for place in (arranged, usual):
        for folder in (place.home, place.root / "clipedu", place.root / "sample_data", place.root / "runs"):
            folder.mkdir(parents=True)
        (place.root / "clipedu" / "__init__.py").touch()
    CIRCUMSTANCES[name].arrange(arranged)

    def run(proof: str) -> str:
        source = prepared(new_notebook(), replace(usual, proof=proof)).cells[0].source
        environment = os.environ | {"PYTHONPATH": str(usual.root)}
        command = [sys.executable, "-c", source]
        return subprocess.run(command, cwd=usual.root, env=environment, capture_output=True, text=True).stderr

    assert run("") == ""
    assert "AssertionError" in run(arranged.proof)


def test_what_cannot_be_had_is_not_tried() -> None:
    assert circumstances._cannot_be_had(["no-such-program"]) == "no-such-program: not found"
    assert circumstances._cannot_be_had([sys.executable, "-c", "import sys; sys.exit('no')"]) == "no"
    assert circumstances._cannot_be_had([sys.executable, "-c", "pass"]) == ""


# ---------------------------------------------------------------------------------------------------- the page


def test_the_page_shows_what_was_recorded() -> None:
    results = circumstances.recorded()
    text = circumstances.PAGE.read_text(encoding="utf-8")
    assert text.endswith(circumstances.MARK + circumstances.tables(results))
    for one in results:
        assert (ROOT / "notebooks" / f"{one.notebook}.ipynb").is_file()
        assert one.verdict in (CIRCUMSTANCES[one.circumstance].expected, NOT_TRIED), one


def test_the_oldest_versions_are_those_of_pyproject() -> None:
    promised = circumstances.promised_versions()
    assert {"torch", "torchvision", "jupyterlab", "ipywidgets", "numpy"} <= set(promised)
    assert set(circumstances.PACKAGES) <= set(promised)
    assert not {"pytest", "faiss-cpu"} & set(promised)


def test_a_notebook_is_run_as_often_as_asked(tmp_path: Path) -> None:
    saved = nbformat.read(FIRST, as_version=4)
    notebook = prepared(saved, Place(tmp_path, tmp_path, times=2))
    assert len(notebook.cells) == 1 + 2 * len(saved.cells)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbformat.validate(notebook)
