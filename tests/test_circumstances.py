"""Readers without the sample data, or who may only read the project. All else: studies.circumstances."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest
from IPython.display import display
from nbformat.v4 import new_code_cell, new_notebook, new_output

from clipedu.classroom import lessons
from clipedu.ground.errors import DatasetError
from studies.circumstances import CARD, FELL, FINE, judge
from tests.lessons import NOTEBOOKS, Lesson, executed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_asks_for_missing_data(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first cell that reads sample_data ends in the library's own error, which a kernel shows as a card."""
    monkeypatch.setattr(lessons, "ROOT", tmp_path)
    with pytest.raises(DatasetError, match=r"create-dataset .*create-dataset"):
        executed(*[cell.source for _, cell in Lesson.read(path).code], display=display)


def test_who_can_only_read_the_project_keeps_runs_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_dir() -> Any:
        return runpy.run_path(str(lessons.__file__))["RUN_DIR"]

    ours, cache = tmp_path / "runs" / "classroom", tmp_path / "cache" / "classroom"
    monkeypatch.setenv("CLIPEDU_CACHE", str(cache.parent))
    monkeypatch.setattr("clipedu.classroom.source.ROOT", tmp_path)
    assert run_dir() == ours
    monkeypatch.setattr(os, "access", lambda folder, _: folder != tmp_path)
    assert run_dir() == cache
    ours.mkdir(parents=True)
    (ours / "losses.json").touch()
    assert run_dir() == ours, "what a teacher has trained there is read"


def test_the_study_knows_a_card_from_a_failure() -> None:
    def verdict(*outputs: Any, stopped: bool = True) -> str:
        cells = [new_code_cell("proof"), new_code_cell("a", outputs=list(outputs))]
        for number, cell in enumerate(cells):
            cell.execution_count = number + 1
        return judge(new_notebook(cells=cells, metadata={"stopped": "none"} if stopped else {}), saved)[0]

    saved = new_notebook(cells=[new_code_cell("a", outputs=[new_output("stream", text="1")])])
    html = {"text/html": '<div lang="zh">[FAIL] 没有</div><div lang="en">[FAIL] none</div>', "text/plain": "[FAIL]"}
    card, error = new_output("display_data", data=html), new_output("error", ename="E", evalue="", traceback=[])
    assert verdict(new_output("stream", text="1"), stopped=False) == FINE
    assert verdict(new_output("stream", text="2"), stopped=False) == FELL
    assert verdict(card) == CARD
    assert verdict(card, error) == verdict(error) == verdict() == FELL
