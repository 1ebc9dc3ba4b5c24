"""The recorded results that notebooks show: whole, with their origin, and the same story for each seed.

The commands that make them are run here at a tiny size, to see that they work.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from benchmarks import (
    against_open_clip,
    choices,
    flickr8k,
    loading,
    loss_memory,
    note_loop,
    record,
    scaling,
    search_scale,
    starts,
    time_to_recall,
    turns,
)
from clipedu import CLIP, ImageEncoder, ImageTextDataset, TextEncoder, TrainConfig, contrastive_loss
from clipedu.classroom import recorded
from clipedu.commands.arguments import build_parser
from clipedu.ground.errors import ConfigError
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
    patch.setattr(sys, "argv", [str(module.__file__), *arguments, "--name", "small"])
    module.main()
    written: dict[str, Any] = json.loads((folder / "small.json").read_text(encoding="utf-8"))
    assert written["command"].startswith(f"python -m {module.__name__} ")
    assert str(folder) not in written["command"]
    return written


def test_starts_runs(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = "--data-dir", str(few), "--split", "val", "--whole-only", "--seeds", "3", "--epochs", "1"
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
    written = run_main(choices, tmp_path, monkeypatch, "--data-dir", str(few), "--seeds", "0", "--epochs", "1")
    assert [run["choice"] for run in written["results"]] == list(names)
    assert [set(run["scores"]) for run in written["results"]] == [{"en"}, {"en"}, {"en", "zh"}]
    assert all(len(run["losses"]) == len(run["logit_scales"]) == 1 for run in written["results"])


def test_a_recording_of_nothing_is_told() -> None:
    with pytest.raises(ConfigError, match="nothing_such"):
        recorded("nothing_such")
    assert record.FOLDER == RESULTS


def test_arms_take_turns() -> None:
    counter = iter(range(100))
    arms = {"A": lambda: next(counter), "B": lambda: -next(counter)}
    assert list(turns.in_turn(arms, rounds=2)) == [("A", 0), ("B", -1), ("A", 2), ("B", -3)]
    assert turns.ratio_of_medians([3, 9, 6], [2, 2, 5]) == 3


# -------------------------------------------------------------------------------------- the note's loop against ours


def test_the_notes_model_begins_as_pytorch_leaves_it() -> None:
    model = note_loop.NoteCLIP()
    words, positions = model.text_encoder.embedding.weight, model.text_encoder.positional_encoding.weight
    assert (words.shape, positions.shape) == ((5000, 256), (77, 256))
    assert words[1:].std().item() == pytest.approx(1, abs=0.01)
    assert positions.std().item() == pytest.approx(1, abs=0.03)
    assert not words[0].any()
    block = model.text_encoder.transformer.layers[0]
    assert not block.norm_first
    assert block.linear1.weight.shape == (512, 256)
    assert block.linear1.weight.abs().max().item() == pytest.approx(256**-0.5, rel=0.01)  # nn.Linear's own bound
    assert len(model.text_encoder.transformer.layers) == 2
    for projection in (model.image_projection, model.text_projection):
        assert [type(layer) for layer in projection] == [nn.Linear, nn.LayerNorm]
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_the_notes_model_embeds_its_pairs(few: Path) -> None:
    pairs = note_loop.NotePairs(ImageTextDataset(few, "train", "en"), tokenizer_of(few), 32)
    rows = [pairs[index] for index in range(3)]
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    assert batch["image"].shape == (3, 3, 32, 32)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 77)
    assert batch["attention_mask"].sum(dim=1).max() < 20
    model = note_loop.NoteCLIP()
    image_embedding, text_embedding = model(*batch.values())
    for embedding in (image_embedding, text_embedding):
        assert embedding.shape == (3, 256)
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
    loss = note_loop.note_loss(image_embedding, text_embedding, model.logit_scale)
    torch.testing.assert_close(loss, contrastive_loss(image_embedding, text_embedding, model.logit_scale))


@pytest.fixture
def small_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps on either side, each followed by a look at the recall."""
    config = TrainConfig(epochs=1, batch_size=32)
    monkeypatch.setattr(time_to_recall, "NOTE", replace(note_loop.NOTE, epochs=1, batch_size=32, image_size=32))
    monkeypatch.setattr(time_to_recall, "OURS", replace(time_to_recall.OURS, config=config, sizes=(32,)))
    monkeypatch.setattr(time_to_recall, "READ_EVERY", 1)


@pytest.mark.usefixtures("small_loops")
def test_time_to_recall_runs(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = "--data-dir", str(few), "--seeds", "3"
    reached = run_main(time_to_recall, tmp_path, monkeypatch, *options, "--threshold", "0")["results"]
    assert [(run["side"], run["seed"], run["steps"]) for run in reached["runs"]] == [("note", 3, 1), ("ours", 3, 1)]
    for run in reached["runs"]:
        assert 0 < run["seconds_to_recall"] == run["curve"][-1]["seconds"]
    assert reached["ratio"] == reached["ratio_at_least"] > 0
    missed = run_main(time_to_recall, tmp_path, monkeypatch, *options, "--threshold", "2")["results"]
    assert [run["seconds_to_recall"] for run in missed["runs"]] == [None, None]
    assert [[point["step"] for point in run["curve"]] for run in missed["runs"]] == [[1, 2], [1, 2]]
    assert missed["ratio"] is missed["ratio_at_least"] is missed["our_median_seconds"] is None


def test_trials_run(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = time_to_recall.Settings(TrainConfig(epochs=1, batch_size=32), sizes=(32,))
    trials = {"one": tiny, "low, then high": replace(tiny, sizes=(32, 48), change=time_to_recall.without_pooling)}
    arms = {name: partial(time_to_recall.our_side, settings=settings) for name, settings in trials.items()}
    monkeypatch.setattr(time_to_recall, "SIDES_OF_TRIALS", arms)
    options = "--trials", "--data-dir", str(few), "--seeds", "0", "--threshold", "2"
    found = run_main(time_to_recall, tmp_path, monkeypatch, *options)["results"]
    assert [(run["side"], run["steps"]) for run in found["runs"]] == [("one", 2), ("low, then high", 4)]


def test_residual_branches_begin_at_zero() -> None:
    model = CLIP(ImageEncoder("resnet18", pretrained=False), TextEncoder(10))
    time_to_recall.zero_residuals(model)
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock)]
    assert len(blocks) == 8
    pictures = torch.rand(2, 64, 8, 8)
    torch.testing.assert_close(blocks[0](pictures), pictures)  # nothing but the shortcut


def test_a_loop_that_did_not_get_there_has_no_ratio() -> None:
    def one(side: str, to_recall: float | None, trained: float) -> dict[str, Any]:
        return {"side": side, "seconds_to_recall": to_recall, "curve": [{"seconds": trained}]}

    runs = [one("note", None, 90.0), one("ours", 3.0, 3.0), one("note", 80.0, 80.0), one("ours", 3.0, 3.0)]
    found = time_to_recall.compare([*runs, one("note", None, 100.0), one("ours", None, 9.0)])
    assert found == {"note_median_seconds": None, "our_median_seconds": 3.0, "ratio": None, "ratio_at_least": 30.0}


@pytest.mark.usefixtures("small_loops")
@pytest.mark.parametrize("side", time_to_recall.SIDES)
def test_reading_the_recall_disturbs_nothing(few: Path, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where recall is read after every step, training goes the way that it goes where it is not."""
    train_set, test_set = (ImageTextDataset(few, split, "en") for split in ("train", "test"))
    weights = []
    for reads in (False, True):
        run = time_to_recall.SIDES[side](train_set, test_set, tokenizer_of(few), 0)
        run.train(run.read if reads else lambda: None)
        weights.append(run.model.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


# ----------------------------------------------------------------------------------------------- the other commands


def test_against_open_clip_runs(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = "--batch-size", "4", "--image-size", "32", "--text-layers", "1", "--warm-up", "0", "--rounds", "1"
    written = run_main(against_open_clip, tmp_path, monkeypatch, "--data-dir", str(few), *sizes)
    found = written["results"]
    assert {"open_clip_torch", "timm"} <= set(written["versions"])
    assert all(len(times) == 1 and times[0] > 0 for times in found["seconds"].values())
    assert set(found["seconds"]) == set(found["median_seconds"]) == set(sum(against_open_clip.PAIRS.values(), ()))
    assert set(found["ratios"]) == set(against_open_clip.PAIRS)


def test_both_models_have_the_same_size(few: Path) -> None:
    batch = against_open_clip.read_batch(few, 4, 32, torch.device("cpu"))
    assert batch.tokens(None)["input_ids"].shape[1] <= against_open_clip.SHORT, "no caption is cut"
    ours = against_open_clip.our_model(batch, 2, 0.0, channels_last=True)
    theirs = against_open_clip.open_clip_model(batch, 2, 77)
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (ours, theirs)]
    assert counts[0] == counts[1]


def test_channels_first_is_the_same_network_in_another_layout() -> None:
    first, last = against_open_clip.ChannelsFirst().eval(), ImageEncoder("resnet18", pretrained=False).eval()
    last.load_state_dict(first.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(first(images), last(images), atol=1e-4, rtol=1e-4)
    layouts = [next(encoder.parameters()).is_contiguous() for encoder in (first, last)]
    assert layouts == [True, False]


def test_loss_memory_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a number took 16 bytes, a chunk a fifth more time, and 1,000,000 bytes were free."""

    def pretend(pairs: int, chunk_size: int | None, device_name: str, repeats: int) -> tuple[float, int]:
        return (1.0, 16 * pairs**2) if chunk_size is None else (1.2, 16 * pairs * chunk_size)

    monkeypatch.setattr(loss_memory, "measure_apart", pretend)
    monkeypatch.setattr(loss_memory, "free_bytes", lambda device: 1_000_000)
    sizes = "--pairs", "256", "128", "--chunk-size", "32", "--rounds", "2", "--device", "cpu"
    found = run_main(loss_memory, tmp_path, monkeypatch, *sizes)["results"]
    fits, too_large = found["batches"]
    assert (found["chunk_size"], fits["pairs"], too_large["pairs"]) == (32, 128, 256)
    assert fits["whole"] == {"computed": False, "seconds": [1, 1], "peak_bytes": [16 * 128**2] * 2}
    assert (fits["time_ratio"], fits["memory_ratio"]) == (1.2, 4)
    assert too_large["whole"] == {"computed": True, "seconds": None, "peak_bytes": [16 * 256**2]}
    assert too_large["chunked"] == {"computed": False, "seconds": [1.2, 1.2], "peak_bytes": [16 * 256 * 32] * 2}
    assert (too_large["time_ratio"], too_large["memory_ratio"]) == (None, 8)


def test_a_fresh_process_measures_the_peak() -> None:
    """At 1,024 pairs a matrix of logits has 4 MiB, and several are needed at once."""
    took, peak = loss_memory.measure_apart(1024, None, "cpu", 1)
    assert took > 0
    assert 2 * 2**22 < peak < 20 * 2**22


@pytest.mark.parametrize("with_faiss", [True, False])
def test_search_scale_runs(
    with_faiss: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if with_faiss:
        pytest.importorskip("faiss")
    else:
        monkeypatch.setattr(search_scale, "faiss", None)
    sizes = "--sizes", "100", "400", "--queries", "5", "--rounds", "2"
    written = run_main(search_scale, tmp_path, monkeypatch, *sizes)
    found = written["results"]
    assert found["approximate"] is with_faiss is ("faiss-cpu" in written["versions"])
    assert ("pip install" in capsys.readouterr().out) is not with_faiss
    assert [size["embeddings"] for size in found["sizes"]] == [100, 400]
    for size in found["sizes"]:
        assert list(size["ways"]) == ["exact", *(search_scale.INDEXES if with_faiss else [])]
        assert size["ways"]["exact"]["index_bytes"] == size["embeddings"] * 256 * 4
        assert size["ways"]["exact"]["recall_at_10"] == 1
        for way in size["ways"].values():
            assert len(way["queries_per_second"]) == 2
            assert way["recall_at_10"] > 0.7


def test_the_embeddings_lie_in_clusters() -> None:
    embeddings = search_scale.draw_embeddings(3000, seed=1)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3000))
    cosines = (embeddings @ search_scale.draw_embeddings(20, seed=2).T).amax(dim=0)
    assert 0.5 < cosines.median().item() < 0.8, "a query has neighbours"


def test_recall_counts_what_was_found() -> None:
    assert search_scale.recall(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2, 9], [4, 3]])) == 0.75


def test_scaling_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([10.0, 18.0, 12.0, 10.0, 20.0, 16.0])
    monkeypatch.setattr(scaling, "pictures_per_second", lambda *_: next(speeds))
    found = run_main(scaling, tmp_path, monkeypatch, "--threads", "1", "--rounds", "2")["results"]
    assert list(found["pictures_per_second"]) == list(scaling.arms(1))
    assert found["pictures_per_second"]["two processes"] == [18, 20]
    assert list(found["ratios"].values()) == [1.9, round(19 / 14, 3)]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_second_epoch_is_measured(processes: int, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is that of test_cli's two processes; here it is only looked at."""

    def pretend(words: list[str], env: dict[str, str], **_: Any) -> None:
        assert env["OMP_NUM_THREADS"] == "3"
        assert ("torch.distributed.run" in words) is (processes == 2)
        options = build_parser().parse_args(words[words.index("clipedu") + 1 :])
        assert (options.command, options.data_dir, options.epochs, options.batch_size) == ("train", few, 2, 32)
        records = [{"step": 2, "train_seconds": 9.0}, {"step": 4, "train_seconds": 11.0}]
        (options.run_dir / "history.json").write_text(json.dumps(records), encoding="utf-8")

    monkeypatch.setattr(subprocess, "run", pretend)
    assert scaling.pictures_per_second(processes, 3, few, 32, 48) == 32


def test_loading_runs(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = "--data-dir", str(few), "--image-size", "32", "--batch-size", "32"
    runs = run_main(loading, tmp_path, monkeypatch, *sizes)["results"]["runs"]
    assert [run["pictures"] for run in runs] == ["held", "streamed"]
    for run in runs:
        assert 0 <= run["waiting_seconds"] < run["seconds"]  # held, it may be under half a millisecond
        assert run["waiting_share"] == pytest.approx(run["waiting_seconds"] / run["seconds"], abs=0.02)
    assert runs[0]["waiting_seconds"] < runs[1]["waiting_seconds"]


# ---------------------------------------------------------------------------------------------------------- real photos


def test_folded_batch_norms_change_nothing() -> None:
    pictures = torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8)
    plain = ImageEncoder("efficientnet_lite0").freeze()
    for mirrored, seen in ((False, pictures), (True, pictures.flip(-1))):
        deep = flickr8k.DeepFeatures(mirrored)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in deep.modules())
        with torch.no_grad():
            torch.testing.assert_close(deep(pictures)[:, :1280], plain(seen), rtol=1e-3, atol=1e-4)


def test_flickr8k_runs(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On drawn scenes: two members in both languages, and the steps of the table."""
    words = ["flickr8k", "--data-dir", str(few), "--run-dir", str(tmp_path / "run"), "--language", "both"]
    words += ["--image-size", "64", "--seeds", "0", "1"]
    monkeypatch.setattr(flickr8k, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", [*words, "--epochs", "2"])
    flickr8k.main()
    (found,) = json.loads((tmp_path / "flickr8k_both.json").read_text())["results"]["runs"]
    assert set(found["scores"]) == set(found["first member"]) == {"en", "zh"}
    assert {"i2t_R@1", "t2i_R@10", "i2t_R@5, equal"} <= set(found["scores"]["en"])
    content = torch.load(tmp_path / "run/members.pt", weights_only=True)
    assert len(content["weights"]) == 2
    monkeypatch.setattr(flickr8k, "CHANGES", {label: replace(r, epochs=1) for label, r in flickr8k.CHANGES.items()})
    monkeypatch.setattr(sys, "argv", [*words, "--changes"])
    flickr8k.main()
    runs = json.loads((tmp_path / "flickr8k_both_changes.json").read_text())["results"]["runs"]
    assert [one["label"] for one in runs] == list(flickr8k.CHANGES)


def test_equal_captions_of_other_photos_are_hits() -> None:
    """Photo 0 and photo 1 share caption A; photo 0 ranks photo 1's A first, which then is right for it as well."""
    similarity = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 0.4], [0.0, 0.1, 0.8]])
    text_to_image, meaning = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1])  # captions A, A, B
    found = flickr8k.recall_of_equal(similarity, text_to_image, meaning)
    assert found["i2t_R@1"] == pytest.approx(2 / 3)  # photo 1 puts B first
    assert found["t2i_R@1"] == 1
    assert flickr8k.recall_of_equal(torch.ones(3, 3), text_to_image, meaning)["i2t_R@1"] == 0


def test_only_known_words_have_a_say() -> None:
    encoder = flickr8k.WordAverage(10, width=8).eval()
    plain, noisy = torch.tensor([[2, 5, 6, 3]]), torch.tensor([[2, 5, 1, 6, 3, 0]])  # [UNK] inside, [PAD] behind
    torch.testing.assert_close(encoder(plain, (plain != 0).long()), encoder(noisy, (noisy != 0).long()))
    alone = torch.tensor([[2, 3]])
    assert encoder(alone, torch.ones_like(alone)).isfinite().all()


# ------------------------------------------------------------------------------------------------------------- the page


def in_percent(scores: dict[str, float]) -> list[str]:
    return ["/".join(f"{100 * scores[f'{way}_R@{k}']:.1f}" for k in (1, 5, 10)) for way in ("i2t", "t2i")]


ON_THE_PAGE: dict[str, Callable[[Any], list[str]]] = {
    "time_to_recall": lambda found: [f"{run['curve'][-1]['seconds']:.1f}" for run in found["runs"]],
    "time_to_recall_trials": lambda found: [f"{run['curve'][-1]['step']}" for run in found["runs"]],
    "against_open_clip": lambda found: [
        f"{found['median_seconds'][theirs] / found['median_seconds'][ours]:.2f}"
        for theirs, ours in against_open_clip.PAIRS.values()
    ],
    "loss_memory_cpu": lambda found: [f"{batch['memory_ratio']:.1f}" for batch in found["batches"][-2:]],
    "search_scale": lambda found: [
        f"{way['recall_at_10']:.3f}" for size in found["sizes"] for way in size["ways"].values()
    ],
    "scaling": lambda found: [f"{speed:.1f}" for speed in found["median_pictures_per_second"].values()],
    "loading": lambda found: [f"{100 * run['waiting_share']:.1f} %" for run in found["runs"]],
    **{
        f"flickr8k_{name}": lambda found: [
            figure for run in found["runs"] for scores in run["scores"].values() for figure in in_percent(scores)
        ]
        for name in ("en", "zh", "both", "en_changes")
    },
}


def test_the_page_says_what_was_recorded() -> None:
    """Every figure of every recording of the page; it says of each one that is missing that it was not measured."""
    page = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    there = [name for name in ON_THE_PAGE if (RESULTS / f"{name}.json").is_file()]
    assert ("Not measured yet" in page) == (len(there) < len(ON_THE_PAGE))
    for name in there:
        for figure in ON_THE_PAGE[name](content(name)["results"]):
            assert figure in page, f"{figure} of {name}"
