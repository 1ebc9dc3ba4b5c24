"""The commands in benchmarks/ at a tiny size, and the assumptions behind their numbers."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import (
    against_open_clip,
    choices,
    flickr8k,
    harness,
    languages,
    loading,
    loss_memory,
    note_loop,
    page,
    scaling,
    search_scale,
    starts,
    steps,
    temperature,
    time_to_recall,
    word_order,
    zero_shot,
)
from clipedu import ImageTextDataset, TrainConfig, contrastive_loss
from clipedu.classroom.searching import IS_SEEN, calibration, right_among_seen
from tests.conftest import ROOT, draw_dataset, tokenizer_of

pytestmark = pytest.mark.slow

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One batch of training pictures, and a few for testing."""
    return draw_dataset(tmp_path_factory.mktemp("few") / "data", {"train": 64, "val": 6, "test": 6})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Returns a function that runs a command with these arguments and returns the results it wrote."""

    def run_command(module: Any, *words: object) -> Any:
        monkeypatch.setattr(harness, "FOLDER", tmp_path)
        monkeypatch.setattr(sys, "argv", [module.__file__, "--name", "small", *map(str, words)])
        module.main()
        recording = json.loads((tmp_path / "small.json").read_text(encoding="utf-8"))
        assert recording["command"].startswith(f"python -m {module.__name__} --name small")
        assert str(tmp_path) not in recording["command"]
        assert recording["device"] and recording["versions"].keys() >= {"python", "torch"}
        return recording["results"]

    return run_command


@pytest.fixture
def short_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pictures per step, with recall measured after each step."""
    monkeypatch.setattr(time_to_recall, "NOTE", replace(note_loop.NOTE, epochs=1, batch_size=16, image_size=32))
    settings = time_to_recall.Settings(TrainConfig(epochs=1, batch_size=16), sizes=(32,))
    monkeypatch.setitem(time_to_recall.SIDES, "ours", partial(time_to_recall.our_side, settings=settings))
    monkeypatch.setattr(time_to_recall, "READ_EVERY", 1)


def test_languages(run: Run, few: Path) -> None:
    """What each arm trains on and which languages it is measured in; a recording goes on."""
    words = "--data-dir", few, "--seeds", 3, "--epochs", 2
    results = run(languages, *words, "--arms", "halves", "en, half as long")
    results = run(languages, *words, "--resume", "--arms", "halves", "en, half as long", "swapped", "two encoders")
    by_arm = {result["arm"]: result for result in results}
    assert [result["epochs"] for result in results] == [2, 1, 2, 2]
    assert sum(by_arm["halves"]["captions"].values()) == sum(by_arm["swapped"]["captions"].values()) / 2
    assert by_arm["en, half as long"]["test"].keys() == {"en"} != by_arm["halves"]["test"].keys() == {"en", "zh"}
    assert "matching" not in by_arm["en, half as long"]
    assert by_arm["swapped"]["follows"].keys() == {"translation", "same picture"}
    for arm in ("halves", "swapped", "two encoders"):
        groups = by_arm[arm]["matching"]["zh2en"]
        assert groups["all"]["count"] == groups["known"]["count"] + groups.get("unknown", {"count": 0})["count"] == 6


def test_languages_arms(few: Path) -> None:
    """No picture has both names; no one keeps their own; and no token is in both languages."""
    train_set = ImageTextDataset(few, "train", "both")
    halves = languages.edited(train_set, "halves", 1).records
    assert all(bool(record.captions["en"]) != bool(record.captions["zh"]) for record in halves)
    order = languages.swapped_order(len(train_set), 1)
    assert sorted(order) == list(range(len(train_set)))
    assert all(own != other for own, other in enumerate(order))
    swapped = languages.edited(train_set, "swapped", 1).records
    assert [record.captions["zh"] for record in swapped] == [train_set.records[i].captions["zh"] for i in order]
    assert languages._mark("OK手势 T恤") == "zhok 手 势 zht 恤"
    names = ["man biking dark skin tone", "woman biking", "person biking medium-light skin tone", "biking skin tone"]
    assert {languages.concept(name) for name in names} == {"biking"}
    assert languages.concept("man") == "man"
    first, second = torch.eye(3), torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert languages.ranks(first, second).tolist() == [2, 3, 3]
    assert languages.ranks(first, first).tolist() == [1, 1, 1]
    assert languages.summary(torch.tensor([1, 2, 6, 9])) == {"count": 4, "R@1": 0.25, "R@5": 0.5, "median": 4.0}


@pytest.mark.again
def test_starts(run: Run, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one rate: which of its steps each arm takes frozen, and what is measured; a recording goes on."""
    monkeypatch.setattr(starts, "SHARES", (0.25,))
    monkeypatch.setattr(starts, "RATES", (3.0,))
    words = "--data-dir", few, "--seeds", 3, "--epochs", 3, "--trial-epochs", 1, "--long-epochs", 4
    results = run(starts, *words)
    race = {result["arm"]: result for result in results if result["purpose"] == "race"}
    assert race.keys() == starts.ARMS.keys()
    assert {arm: result["frozen_steps"] for arm, result in race.items() if result["frozen_steps"]} == {
        "frozen": 3,
        "unfrozen": 1,
    }
    for arm, result in race.items():
        assert (arm, result["rate"]) == (arm, 3)
        assert [reading["step"] for reading in result["val"]] == [1, 2, 3]
    assert {result["steps"] for result in results if result["purpose"] == "long"} == {4}
    assert [result["pictures"] for result in results if result["purpose"] == "share"] == [16] * 3
    assert all(bool(result["test"]) == (result["purpose"] != "rate") for result in results)
    harness.write_result("small", results[:-1])
    assert run(starts, *words, "--resume")[:-1] == results[:-1]


def test_the_lower_of_two_equal_rates_is_chosen() -> None:
    trials = [("frozen", 1.0, 0.5), ("frozen", 3.0, 0.7), ("frozen", 10.0, 0.7), ("random", 1.0, 0.9)]
    results = [
        {"purpose": "rate", "arm": arm, "rate": rate, "val": [{"i2t_R@1": 0.8}, {"i2t_R@1": end}]}
        for arm, rate, end in trials
    ]
    assert starts.chosen_rate(results, "frozen") == 3


def test_choices(run: Run, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = {name: choices.CHOICES[name] | {"image_size": 32} for name in ("as it is", "weight decay 5, on everything")}
    monkeypatch.setattr(choices, "CHOICES", arms)
    plain, decayed = run(choices, "--data-dir", few, "--seeds", 0, "--epochs", 2)
    assert len(plain["losses"]) == len(plain["logit_scales"]) == 2
    assert decayed["logit_scales"][-1] < plain["logit_scales"][-1], "decay applies to the temperature too"


def test_steps(run: Run) -> None:
    measured = run(steps, "--batch-sizes", 2, "--image-size", 32, "--repeats", 1, "--device", "cpu")
    arms = [(step["precision"], step["layout"]) for step in measured]
    assert arms == list(product(("fp32", "bf16"), ("channels first", "channels last")))
    assert all(step["images_per_second"] > 0 and step["kept_bytes"] > 0 for step in measured)


def test_loading(run: Run, few: Path) -> None:
    held, streamed = run(loading, "--data-dir", few, "--image-size", 32, "--batch-size", 32)["runs"]
    for measured in (held, streamed):
        assert 0 <= measured["waiting_seconds"] < measured["seconds"]
        assert measured["images_per_second"] == pytest.approx(64 / measured["seconds"], rel=0.01)


def test_scaling(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the two steps of the second epoch take 4 seconds in one process and 2 in two."""

    def pretend(words: list[str], **_: Any) -> None:
        elapsed = 2.0 if "torch.distributed.run" in words else 4.0
        records = [{"step": 2, "train_seconds": 9.0}, {"step": 4, "train_seconds": 9.0 + elapsed}]
        run_dir = Path(words[words.index("--run-dir") + 1])
        (run_dir / "history.json").write_text(json.dumps(records), encoding="utf-8")

    monkeypatch.setattr("subprocess.run", pretend)
    measured = run(scaling, "--threads", 1, "--rounds", 2, "--batch-size", 32)
    assert list(measured["pictures_per_second"].values()) == [[16, 16], [32, 32], [16, 16]]
    assert list(measured["ratios"].values()) == [2, 2]


def test_against_open_clip(run: Run, few: Path) -> None:
    sizes = "--batch-size", 4, "--image-size", 32, "--text-layers", 1, "--warm-up", 0, "--rounds", 1
    measured = run(against_open_clip, "--data-dir", few, *sizes)
    for name, (theirs, ours) in against_open_clip.PAIRS.items():
        ratio = measured["seconds"][theirs][0] / measured["seconds"][ours][0]
        assert measured["ratios"][name] == pytest.approx(ratio, abs=1e-3)


def test_search_scale(run: Run) -> None:
    pytest.importorskip("faiss")
    for size in run(search_scale, "--sizes", 100, 400, "--queries", 5, "--rounds", 2)["sizes"]:
        assert list(size["ways"]) == ["exact", *search_scale.INDEXES]
        assert size["ways"]["exact"]["index_bytes"] == size["embeddings"] * 256 * 4
        assert size["ways"]["exact"]["recall_at_10"] == 1
        assert all(way["recall_at_10"] > 0.7 for way in size["ways"].values())


@pytest.mark.usefixtures("short_loops")
def test_time_to_recall(run: Run, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = "--data-dir", few, "--seeds", 3, "--threshold"
    reached = run(time_to_recall, *options, 0)
    assert [(side["side"], side["steps"]) for side in reached["runs"]] == [("note", 1), ("ours", 1)]
    assert all(0 < side["seconds_to_recall"] == side["curve"][-1]["seconds"] for side in reached["runs"])
    assert reached["ratio"] > 0
    trial = time_to_recall.Settings(TrainConfig(epochs=1), (32, 48), change=time_to_recall.without_pooling)
    monkeypatch.setattr(time_to_recall, "TRIALS", {"low, then high": trial})
    (missed,) = run(time_to_recall, *options, 2, "--trials")["runs"]
    assert missed["seconds_to_recall"] is None
    assert [point["step"] for point in missed["curve"]] == [1, 2]


def test_flickr8k(run: Run, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On drawn scenes: two seeds in both languages, and each step of the recipe."""
    options = ["--data-dir", few, "--language", "both", "--image-size", 64, "--epochs", 1, "--seeds", 0]
    runs = run(flickr8k, *options, 1)["runs"]
    assert [(result["seed"], set(result["scores"])) for result in runs] == [(0, {"en", "zh"}), (1, {"en", "zh"})]
    assert [step["label"] for step in run(flickr8k, *options, "--changes")["runs"]] == list(flickr8k.CHANGES)


def test_temperature(run: Run, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed temperature stays, and a learned one moves."""
    monkeypatch.setattr(temperature, "ARMS", [(0.07, 0.0), (1.0, 10.0)])
    fixed, learned = run(temperature, "--data-dir", few, "--steps", 4, "--read-every", 2, "--seeds", 0)
    assert [reading["temperature"] for reading in fixed["readings"]] == [0.07, 0.07]
    assert [reading["step"] for reading in learned["readings"]] == [2, 4]
    assert 0.9 < learned["readings"][-1]["temperature"] < 1
    assert {*learned["readings"][-1]} == {"step", "temperature", "i2t", "t2i"}


def test_word_order(few: Path) -> None:
    """Each arm's hard negatives, and what is measured on the way and at the end."""
    result = word_order.run("swap", "en", seed=3, data_dir=few, steps=2, every=1)
    assert [reading["step"] for reading in result["readings"]] == [1, 2]
    assert result["kinds"].keys() == word_order.KINDS.keys()
    assert all(0 <= share <= 1 for share in result["kinds"].values())
    assert result["test"].keys() >= {"i2t_R@1", "t2i_R@5"}
    above, chinese = "a big red ring above a big blue star", "一个红色的大圆在一个蓝色的小圆的左边"
    made = {
        arm: [negative and negative(text) for text in (above, chinese)] for arm, negative in word_order.ARMS.items()
    }
    swapped = ["a big blue star above a big red ring", "一个蓝色的小圆在一个红色的大圆的左边"]
    assert made["swap"] == swapped
    assert made["plain"] == [None, None]
    assert made["left and right only"] == [None, swapped[1]]


def test_zero_shot(run: Run, few: Path) -> None:
    """What is measured with every template and at every temperature, which changes no answer."""
    (result,) = run(zero_shot, "--data-dir", few, "--seeds", 3, "--epochs", 1, "--each", 1)
    assert {"en {}", "en six", "zh 一个{}", "zh four"} <= result["templates"].keys()
    assert all(0 <= share <= 1 for shares in result["templates"].values() for share in shares.values())
    assert result["temperatures"][0]["temperature"] == pytest.approx(0.07, abs=0.01)
    assert len({row["seen_accuracy"] for row in result["temperatures"]}) == 1
    by_temperature = sorted(result["temperatures"], key=lambda row: row["temperature"])
    confidences = [row["seen_confidence"] for row in by_temperature]
    assert confidences == sorted(confidences, reverse=True)


def test_calibration() -> None:
    """A bin's mean confidence against its accuracy, and the mean gap by the number of answers."""
    confidence, is_right = torch.tensor([0.1, 0.12, 0.95, 1.0]), torch.tensor([False, True, True, True])
    sure, right, counts, error = calibration(confidence, is_right)
    assert (counts, right) == ([2, 2], [0.5, 1.0])
    assert sure == pytest.approx([0.11, 0.975])
    assert error == pytest.approx((0.39 + 0.025) / 2)


def test_right_among_seen() -> None:
    """One rival of its shape: a model that knows only shapes is right half of the time, one that knows all, always."""
    unseen = (~IS_SEEN).nonzero()[:, 0].repeat(50)
    assert right_among_seen(torch.eye(48)[unseen], unseen) == 1
    shape_only = (unseen[:, None] % 6 == torch.arange(48) % 6) + 0.1 * torch.rand(len(unseen), 48)
    assert right_among_seen(shape_only, unseen) == pytest.approx(0.5, abs=0.05)


def test_the_page_matches_the_recordings(tmp_path: Path) -> None:
    page.write_page(tmp_path / "README.md")
    assert (tmp_path / "README.md").read_bytes() == (ROOT / "benchmarks/README.md").read_bytes()


def test_arms_take_turns() -> None:
    counter = iter(range(100))
    arms = {"A": lambda: next(counter), "B": lambda: -next(counter)}
    assert list(harness.in_turn(arms, rounds=2)) == [("A", 0), ("B", -1), ("A", 2), ("B", -3)]
    assert harness.ratio_of_medians([3, 9, 6], [2, 2, 5]) == 3


def test_the_notes_model_matches_the_note(few: Path) -> None:
    pairs = note_loop.NotePairs(ImageTextDataset(few, "train", "en"), tokenizer_of(few), 32)
    rows = [pairs[index] for index in range(3)]
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    assert [tuple(tensor.shape) for tensor in batch.values()] == [(3, 3, 32, 32), (3, 77), (3, 77)]
    model = note_loop.NoteCLIP()
    words = model.text_encoder.embedding.weight
    assert words.shape == (5000, 256)
    assert words[1:].std().item() == pytest.approx(1, abs=0.01), "PyTorch's default initialisation"
    assert [type(layer) for layer in model.image_projection] == [nn.Linear, nn.LayerNorm]
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    image_embedding, text_embedding = model(*batch.values())
    for embedding in (image_embedding, text_embedding):
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
    loss = note_loop.note_loss(image_embedding, text_embedding, model.logit_scale)
    torch.testing.assert_close(loss, contrastive_loss(image_embedding, text_embedding, model.logit_scale))


@pytest.mark.usefixtures("short_loops")
@pytest.mark.parametrize("side", ["note", "ours"])
def test_measuring_recall_does_not_affect_training(few: Path, side: str) -> None:
    """Training gives the same weights whether or not recall is measured after every step."""
    train_set, test_set = (ImageTextDataset(few, split, "en").subset(32) for split in ("train", "test"))
    weights = []
    for reads in (False, True):
        fresh = time_to_recall.SIDES[side](train_set, test_set, 0)
        fresh.train(fresh.read if reads else lambda: None)
        weights.append(fresh.model.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def test_no_ratio_if_a_side_did_not_reach_the_threshold() -> None:
    reached = [{"side": side, "seconds_to_recall": t} for side, t in (("note", 90.0), ("ours", 3.0), ("ours", None))]
    assert time_to_recall.ratio([*reached, {"side": "ours", "seconds_to_recall": 4.5}]) == 20
    assert time_to_recall.ratio(reached) is None


def test_both_models_have_the_same_size(few: Path) -> None:
    batch = against_open_clip.read_batch(few, 4, 32, torch.device("cpu"))
    assert batch.tokens(None)["input_ids"].shape[1] <= against_open_clip.SHORT, "no caption is cut"
    ours = against_open_clip.our_model(batch, 2, 0.0, channels_last=True)
    theirs = against_open_clip.open_clip_model(batch, 2, 77)
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (ours, theirs)]
    assert counts[0] == counts[1]


def test_memory_of_the_loss(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that a number takes 16 bytes, chunking a fifth more time, and that 1,000,000 bytes are free."""

    def pretend(pairs: int, chunk_size: int | None, device_name: str, repeats: int) -> tuple[float, int]:
        return (1.0, 16 * pairs**2) if chunk_size is None else (1.2, 16 * pairs * chunk_size)

    monkeypatch.setattr(loss_memory, "measure_apart", pretend)
    monkeypatch.setattr(loss_memory, "free_bytes", lambda device: 1_000_000)
    options = "--pairs", 256, 128, "--chunk-size", 32, "--rounds", 2, "--device", "cpu"
    fits, too_large = run(loss_memory, *options)["batches"]
    assert fits["whole"] == {"computed": False, "seconds": [1, 1], "peak_bytes": [16 * 128**2] * 2}
    assert (fits["pairs"], fits["time_ratio"], fits["memory_ratio"]) == (128, 1.2, 4)
    assert too_large["whole"] == {"computed": True, "seconds": None, "peak_bytes": [16 * 256**2]}
    assert (too_large["pairs"], too_large["time_ratio"], too_large["memory_ratio"]) == (256, None, 8)


@pytest.mark.slow
def test_a_fresh_process_measures_the_peak() -> None:
    """With 1,024 pairs a logit matrix takes 4 MiB, and several are needed at once."""
    elapsed, peak = loss_memory.measure_apart(1024, None, "cpu", 1)
    assert elapsed > 0
    assert 2 * 2**22 < peak < 20 * 2**22


def test_recall_by_hand() -> None:
    assert search_scale.recall(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2, 9], [4, 3]])) == 0.75
    scores = {"i2t_R@1": 0.302, "i2t_R@5": 0.627, "i2t_R@10": 0.7364}
    assert page.recalls(scores, "i2t") == "30.2/62.7/73.6"
