"""Notebook 06 with and without ImageNet weights for ResNet-18: it runs only if they are there, with no substitute."""

from __future__ import annotations

from pathlib import Path
from symtable import symtable
from typing import Any

import pytest
import torch
from torchvision import models

from clipedu.classroom.view import Card
from tests.lessons import FOLDER, Lesson, executed

pytestmark = pytest.mark.slow


def prepared(torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names defined by the cells that the race needs, with `torch_home` as the folder for downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    needed = {"SEED", "build", "weights_file", "fourth_runner", "LOOKS", "race"}
    sources = [cell.source for _, cell in Lesson.read(FOLDER / "06_pretrained_vs_scratch.ipynb").code]
    symbols = {source: symtable(source, "cell", "exec").get_symbols() for source in sources}
    return executed(
        *(source for source in sources if needed & {name.get_name() for name in symbols[source] if name.is_assigned()}),
        display=lambda *_: None,
    )


def test_three_runners_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = prepared(tmp_path, monkeypatch)
    assert sorted(cells["STARTS"]) == ["fine-tuned", "frozen", "random"]
    assert isinstance(cells["fourth_runner"], Card)
    assert cells["fourth_runner"].passed is None
    assert cells["download"] in cells["fourth_runner"].text
    assert list(tmp_path.rglob("*")) == [], "nothing was downloaded"


def test_four_runners_with_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With made-up weights under the right file name, a run that starts from them must have loaded the file."""
    file = tmp_path / "hub" / "checkpoints" / Path(models.ResNet18_Weights.DEFAULT.url).name
    file.parent.mkdir(parents=True)
    weights = models.resnet18().state_dict()
    torch.save(weights, file)
    cells = prepared(tmp_path, monkeypatch)
    assert cells["fourth_runner"].passed is True
    (fourth,) = cells["STARTS"].keys() - {"fine-tuned", "frozen", "random"}
    run = cells["race"](fourth, cells["train_set"].subset(64), cells["test_set"].subset(8), looks=(1,))
    assert torch.equal(run["start"]["model.conv1.weight"], weights["conv1.weight"])
    assert not torch.equal(run["model"].image_encoder.model.conv1.weight, weights["conv1.weight"]), "it was trained"
    assert len(run["losses"]) == len(run["recall"]) == 1
