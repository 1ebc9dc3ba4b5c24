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


def whole_runs(seed: int) -> list[dict[str, Any]]:
    """The runs with all pictures and one learning rate."""
    runs = content("starts")["results"]
    return [run for run in runs if (run["seed"], run["share"], run["image_lr_scale"]) == (seed, 1, 1)]


def last_loss(seed: int, arm: str, share: float) -> float:
    runs = [run for run in content("starts")["results"] if run["image_lr_scale"] == 1]
    (found,) = [run for run in runs if (run["seed"], run["arm"], run["share"]) == (seed, arm, share)]
    return float(sum(found["losses"][-5:]) / 5)


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
        assert len(run["losses"]) == run["steps"] >= 74
        assert len(run["recall_by_step"]) == (run["steps"] // starts.READ_EVERY if run["share"] == 1 else 0)


@pytest.mark.parametrize("seed", SEEDS)
class TestStarts:
    """What notebook 06 says, for each seed by itself."""

    def test_the_order_of_the_arms(self, seed: int) -> None:
        tuned, frozen, scratch, resnet = (recall(seed, arm) for arm in starts.ARMS)
        assert 0.8 < tuned < 0.95
        assert 0.6 < frozen < min(0.75, tuned - 0.1)
        assert scratch < 0.1 < 0.45 < resnet < tuned - 0.1

    def test_frozen_sets_off_faster(self, seed: int) -> None:
        first = {run["arm"]: run["recall_by_step"][0] for run in whole_runs(seed)}
        assert first["frozen"][0] == first["fine-tuned"][0] == starts.READ_EVERY
        assert first["frozen"][1] > first["fine-tuned"][1] + 0.02
        assert max(first["random"][1], first["random ResNet-18"][1]) < 0.1

    def test_with_little_data_frozen_is_better(self, seed: int) -> None:
        shares = starts.SHARES
        tuned, frozen, scratch = ([recall(seed, arm, share) for share in shares] for arm in list(starts.ARMS)[:3])
        assert tuned == sorted(tuned)
        assert frozen[0] > tuned[0] + 0.05
        assert frozen[-1] < tuned[-1] - 0.1
        assert max(scratch) < 0.15

    def test_a_slow_image_encoder_does_not_pay(self, seed: int) -> None:
        slow, equal, fast = (recall(seed, "fine-tuned", scale=scale) for scale in (0.1, 1.0, 3.0))
        assert slow + 0.15 < equal < fast
        assert slow < recall(seed, "frozen")

    def test_the_random_one_memorizes_or_has_no_time(self, seed: int) -> None:
        assert last_loss(seed, "random", starts.SHARES[0]) < 0.4
        assert last_loss(seed, "random", 1.0) > 2
        assert last_loss(seed, "fine-tuned", starts.SHARES[0]) < last_loss(seed, "frozen", starts.SHARES[0])


def test_on_photos_both_pretrained_arms_are_ahead() -> None:
    frozen, tuned, scratch = (
        recall(0, arm, name="i2t_R@10", file="starts_flickr8k") for arm in ("frozen", "fine-tuned", "random")
    )
    assert 0.08 < frozen < 0.12
    assert 0.04 < tuned < 0.07
    assert 0.01 <= scratch < 0.02


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
    arms = [(arm, 3, 1) for arm, (network, *_) in starts.ARMS.items() if network == "efficientnet_lite0"]
    assert [(run["arm"], run["seed"], run["steps"]) for run in written["results"]] == arms
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
