"""Notebooks whose cells are all run, with short trainings on small data."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import clipedu
from clipedu import CLIP, ImageTextDataset, SimpleTokenizer, train
from clipedu.classroom import lessons, races
from tests.lessons import Lesson


class _Shortened(ast.NodeTransformer):
    """A notebook's own long training takes 3 steps, and no assertion expects a lesson's results."""

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        is_long = node.arg == "steps" and not isinstance(node.value, ast.Constant)  # a pass over all pictures
        return ast.keyword(node.arg, ast.Constant(3)) if is_long else node

    def visit_Assert(self, node: ast.Assert) -> ast.Pass:
        return ast.Pass()


def an_eighth(folder: Path, out: Path) -> Path:
    """A copy of a dataset with one in eight of its training pictures."""
    records = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    training = [record for record in records if record["split"] == "train"]
    kept = training[::8] + [record for record in records if record["split"] != "train"]
    for record in kept:
        path = out / record["image_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / record["image_path"], path)
    (out / "dataset.json").write_text(json.dumps(kept), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def small_classroom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with small data, for the models that one notebook trains and the others load."""
    folder = tmp_path_factory.mktemp("classroom")
    an_eighth(lessons.sample_data(), folder / "sample_data")
    an_eighth(lessons.emoji_data(), folder / "emoji")
    return folder


def shorten_trainings(patch: pytest.MonkeyPatch, classroom: Path) -> None:
    """Let a training take at most 16 steps, or one per epoch, and use the data and models in `classroom`."""

    def train_small(model: CLIP, tokenizer: SimpleTokenizer, train_set: ImageTextDataset, **settings: Any) -> Any:
        config = settings.pop("config")
        config = replace(config, batch_size=max(2, config.batch_size // 8), image_size=32, precision="fp32")
        pairs = min(len(train_set), config.batch_size * max(1, 16 // config.epochs))
        return train(model, tokenizer, train_set.subset(pairs), config=config, **settings)

    for module in (clipedu, lessons, races):
        patch.setattr(module, "train", train_small)
    for load in (lessons.trained_model, lessons.training_moments):
        patch.setattr(load, "__defaults__", (classroom / "runs/scenes",))
    patch.setattr(lessons.emoji_model, "__defaults__", (classroom / "runs/emoji",))
    patch.setattr(lessons, "SCENES", classroom / "sample_data")
    patch.setattr(lessons, "EMOJI", classroom / "emoji")


def run_cells(lesson: Lesson) -> Iterator[tuple[str, BaseException | None, Any]]:
    """Run every code cell; after each, its place, its error (a lesson's own assertions aside), and what it shows."""
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    try:
        for where, cell in lesson.code:
            result = shell.run_cell(ast.unparse(_Shortened().visit(ast.parse(cell.source))))
            error = result.error_before_exec or result.error_in_exec
            yield where, None if isinstance(error, AssertionError) else error, result.result
    finally:
        InteractiveShell.clear_instance()
