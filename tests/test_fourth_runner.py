"""Notebook 06 with and without a ResNet-18 of ImageNet: it runs where its weights lie, and is never replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models

from clipedu.classroom.view import Card
from tests.lessons import FOLDER, Lesson, executed

NEEDED = "SEED = 0", "STARTS = {", "weights_file =", 'STARTS["ResNet-18 fine-tuned"] =', "LOOKS =", "def race("
NAME = "ResNet-18 fine-tuned"


def prepared(torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The cells that lead to the race, with another place for downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    cells = [cell.source for _, cell in Lesson.read(FOLDER / "06_pretrained_vs_scratch.ipynb").code]
    needed = [source for source in cells if any(word in source for word in NEEDED)]
    namespace = executed(*needed, display=lambda *_: None)
    namespace["train_set"].records = namespace["train_set"].records[:64]
    namespace["test_set"].records = namespace["test_set"].records[:8]
    return namespace


def test_without_its_weights_three_runners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = prepared(tmp_path, monkeypatch)
    assert sorted(namespace["STARTS"]) == ["fine-tuned", "frozen", "random"]
    said = namespace["said"]
    assert isinstance(said, Card)
    assert said.passed is None
    assert namespace["download"] in said.text
    assert list(tmp_path.rglob("*")) == [], "nothing was downloaded"


def test_with_its_weights_a_fourth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up weights under the right name: whoever runs with them has taken them from the file."""
    file = tmp_path / "hub" / "checkpoints" / Path(models.ResNet18_Weights.DEFAULT.url).name
    file.parent.mkdir(parents=True)
    weights = models.resnet18().state_dict()
    torch.save(weights, file)
    namespace = prepared(tmp_path, monkeypatch)
    assert namespace["said"].passed is True
    run = namespace["race"](NAME, namespace["train_set"], namespace["test_set"], looks=(1,))
    assert torch.equal(run["start"]["model.conv1.weight"], weights["conv1.weight"])
    assert not torch.equal(run["model"].image_encoder.model.conv1.weight, weights["conv1.weight"]), "it is trained"
    assert len(run["losses"]) == len(run["recall"]) == 1
