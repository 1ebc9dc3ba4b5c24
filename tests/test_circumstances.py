"""Readers without the sample data or without write access to the project. For the rest: studies.circumstances."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

import pytest
from IPython.display import display

from clipedu.classroom import lessons, photos
from clipedu.classroom.site.needed import executed
from clipedu.data import emoji
from clipedu.ground.errors import ClipEduError
from tests.lessons import NOTEBOOKS, Lesson


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_asks_for_missing_data(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first cell that reads the scenes, or draws the emoji, raises an error, which a kernel shows as a card."""
    monkeypatch.setattr(lessons, "SCENES", tmp_path / "sample_data")
    monkeypatch.setattr(lessons, "EMOJI", tmp_path / "emoji")
    monkeypatch.setattr(photos, "ROOT", tmp_path)
    monkeypatch.setattr(emoji, "_FONTS", ())
    with pytest.raises(ClipEduError, match=r"create-dataset .*create-dataset|apt install .*apt install"):
        executed(*[cell.source for _, cell in Lesson.read(path).code], display=display)


def test_runs_are_kept_at_home_if_the_project_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_dir() -> Any:
        return runpy.run_path(str(lessons.__file__))["RUN_DIR"]

    def record(origin: str) -> None:
        (in_project / "losses.json").write_text(json.dumps({"origin": origin, "losses": [4.2]}))

    in_project, cache = tmp_path / "runs" / "classroom", tmp_path / "cache" / "classroom"
    monkeypatch.setenv("CLIPEDU_CACHE", str(cache.parent))
    monkeypatch.setattr("clipedu.classroom.source.ROOT", tmp_path)
    assert run_dir() == in_project
    monkeypatch.setattr(os, "access", lambda folder, _: not Path(folder).is_relative_to(tmp_path))
    assert run_dir() == cache
    in_project.mkdir(parents=True)
    record(runpy.run_path(str(lessons.__file__))["_origin"](tmp_path / "sample_data"))
    assert run_dir() == in_project, "a model that a teacher has trained there is used"
    record("older code")
    assert run_dir() == cache
