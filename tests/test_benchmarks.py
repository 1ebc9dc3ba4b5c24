"""The recorded results that notebooks show: whole, with their origin, and the same story for each seed.

The commands that make them are run here at a tiny size, to see that they work.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import choices, record, starts
from clipedu import ImageTextDataset, TrainConfig
from clipedu.classroom import recorded
from clipedu.errors import ConfigError
from tests.conftest import ROOT, draw_dataset, tokenizer_of

RESULTS = ROOT / "benchmarks" / "results"
SEEDS = 0, 1


def content(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_recording_says_where_it_comes_from(path: Path) -> None:
    found = content(path.stem)
    assert re.match(r"python -m benchmarks\.\w+", found["command"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])
    assert found["device"].strip()
    assert {"python", "torch"} <= set(found["versions"])
    assert not re.search(r"/(?:root|home|work|tmp|Users)\b", path.read_text(encoding="utf-8"))
    assert set(recorded(path.stem).origin) == {"command", "date", "device", "with"}


# ------------------------------------------------------------------------- pretrained or from scratch (notebook 06)


def recall(
    seed: int, arm: str, share: float = 1.0, scale: float = 1.0, name: str = "i2t_R@1", file: str = "starts"
) -> float:
    wanted = seed, arm, share, scale
    found = [
        run["scores"][name]
        for run in content(file)["results"]
        if (run["seed"], run["arm"], run["share"], run["image_lr_scale"]) == wanted
    ]
    assert len(found) == 1, f"{wanted} was run {len(found)} times"
    return float(found[0])


def test_every_run_of_the_starts_is_there() -> None:
    for seed in SEEDS:
        for arm in starts.ARMS:
            assert 0 <= recall(seed, arm) <= 1
        for share in starts.SHARES:
            for arm in ("fine-tuned", "frozen", "random"):
                assert 0 <= recall(seed, arm, share) <= 1
        for scale in starts.IMAGE_LR_SCALES:
            assert 0 <= recall(seed, "fine-tuned", scale=scale) <= 1
    for run in content("starts")["results"]:
        assert len(run["losses"]) == run["steps"] >= 111
        assert len(run["recall_by_step"]) == (run["steps"] // starts.READ_EVERY if run["share"] == 1 else 0)


@pytest.mark.parametrize("seed", SEEDS)
class TestStarts:
    """What notebook 06 says, for each seed by itself."""

    def test_the_order_of_the_arms(self, seed: int) -> None:
        tuned, frozen, scratch, resnet = (recall(seed, arm) for arm in starts.ARMS)
        assert 0.85 < tuned < 0.97
        assert 0.65 < frozen < tuned - 0.1
        assert scratch < 0.2 < 0.4 < resnet < frozen + 0.1

    def test_frozen_sets_off_faster(self, seed: int) -> None:
        first = {
            run["arm"]: run["recall_by_step"][0]
            for run in content("starts")["results"]
            if run["seed"] == seed and run["share"] == 1 and run["image_lr_scale"] == 1
        }
        assert first["frozen"][0] == first["fine-tuned"][0] == starts.READ_EVERY
        assert first["frozen"][1] > first["fine-tuned"][1] + 0.05


# ------------------------------------------------------------------------------------------ the commands themselves


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One batch of pictures, and a few to test with."""
    return draw_dataset(tmp_path_factory.mktemp("few") / "data", {"train": 64, "val": 6, "test": 6})


def run_main(module: Any, folder: Path, patch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    patch.setattr(module, "FOLDER", folder)
    patch.setattr(sys, "argv", [str(module.__file__), *arguments, "--epochs", "1", "--name", "small"])
    module.main()
    written: dict[str, Any] = json.loads((folder / "small.json").read_text(encoding="utf-8"))
    assert written["command"].startswith(f"python -m {module.__name__} ")
    assert str(folder) not in written["command"]
    return written


def test_starts_runs(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = "--data-dir", str(few), "--split", "val", "--whole-only", "--seeds", "3"
    written = run_main(starts, tmp_path, monkeypatch, *options)
    assert [(run["arm"], run["seed"], run["steps"]) for run in written["results"]] == [(a, 3, 1) for a in starts.ARMS]
    assert all(len(run["losses"]) == 1 and 0 <= run["scores"]["i2t_R@1"] <= 1 for run in written["results"])


def test_a_share_has_fewer_pictures_and_as_many_steps(few: Path) -> None:
    train_set, test_set = (ImageTextDataset(few, split, "en") for split in ("train", "test"))
    run = starts.run("frozen", train_set, test_set, 0.25, 3, TrainConfig(seed=1, image_size=32))
    assert (run["share"], run["steps"], len(run["losses"])) == (0.25, 3, 3)
    assert len(train_set) == 64, "the pictures are back for the next run"


def test_the_arms_of_a_network_begin_alike(few: Path) -> None:
    tokenizer = tokenizer_of(few)
    models = [starts.build(arm, tokenizer, 5) for arm in ("fine-tuned", "frozen", "random")]
    for name in ("text_encoder.token_embedding.weight", "text_projection.weight", "image_projection.weight"):
        first, *others = (model.state_dict()[name] for model in models)
        assert all(torch.equal(first, other) for other in others), name
    assert [model.image_encoder.frozen for model in models] == [False, True, False]


def test_choices_run(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = "as it is", "weight decay 5, on everything", "both languages"
    small = {name: choices.CHOICES[name] | {"image_size": 32} for name in names}
    monkeypatch.setattr(choices, "CHOICES", small)
    written = run_main(choices, tmp_path, monkeypatch, "--data-dir", str(few), "--seeds", "0")
    assert [run["choice"] for run in written["results"]] == list(names)
    assert [set(run["scores"]) for run in written["results"]] == [{"en"}, {"en"}, {"en", "zh"}]
    assert all(len(run["losses"]) == len(run["logit_scales"]) == 1 for run in written["results"])


def test_a_recording_of_nothing_is_told() -> None:
    with pytest.raises(ConfigError, match="nothing_such"):
        recorded("nothing_such")
    assert record.FOLDER == RESULTS
