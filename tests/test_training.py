"""Training: it learns, stops on NaN and resumes exactly; and the parts it is made of."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from PIL import Image
from torch.amp import GradScaler
from torch.nn import functional as F

from clipedu import (
    CLIP,
    Callback,
    ImageEncoder,
    ImageTextDataset,
    SimpleTokenizer,
    TextEncoder,
    TrainConfig,
    load_checkpoint,
    load_model,
    recall_at_k,
    save_checkpoint,
    train,
    train_step,
)
from clipedu.data.augmentation import augmentation
from clipedu.data.loading import image_batches
from clipedu.embedding import embed_images, embed_texts, model_inputs
from clipedu.encoders import WordAverage
from clipedu.ground.errors import CheckpointError, ClipEduError, ConfigError, DatasetError, TrainingError
from clipedu.model import Ensemble
from clipedu.optimization import OptimizationState, choose_precision, make_optimizer, make_scheduler
from clipedu.runs.folder import clear_run, find_checkpoint, newest_epoch
from clipedu.runs.history import EpochRecord, StepRecord
from tests.conftest import draw_dataset, small_model, tokenizer_of

QUICK = TrainConfig(epochs=3, batch_size=8, image_size=32, device="cpu", precision="fp32")


def run(
    data_dir: Path, config: TrainConfig = QUICK, run_dir: Path | None = None, **kwargs: Any
) -> tuple[CLIP, list[EpochRecord]]:
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer)
    train_set, val_set = ImageTextDataset(data_dir, "train"), ImageTextDataset(data_dir, "val")
    return model, train(model, tokenizer, train_set, val_set, config, run_dir, **kwargs)


def same_weights(first: CLIP, second: CLIP) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(name == second_name and torch.equal(a, b) for (name, a), (second_name, b) in pairs)


def test_overfits_32_pairs(tmp_path: Path) -> None:
    data_dir = draw_dataset(tmp_path / "data", {"train": 32})
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer, dropout=0.0)
    dataset = ImageTextDataset(data_dir, "train")
    history = train(model, tokenizer, dataset, config=replace(QUICK, epochs=150, batch_size=32))
    texts = [record.captions["en"][0] for record in dataset.records]
    similarity = embed_images(model, model_inputs(model, dataset)) @ embed_texts(model, tokenizer, texts).T
    assert recall_at_k(similarity, torch.arange(32))["i2t_R@1"] == 1
    assert history[0]["loss"] > math.log(32) * 0.8
    assert history[-1]["loss"] < 0.5


def test_equal_runs_give_equal_numbers(data_dir: Path) -> None:
    (model, history), (same_model, same_history) = run(data_dir), run(data_dir)
    assert same_weights(model, same_model)
    for a, b in zip(history, same_history, strict=True):
        assert {**a, "train_seconds": 0} == {**b, "train_seconds": 0}
    different, _ = run(data_dir, replace(QUICK, seed=1))
    assert not same_weights(model, different)


def test_history_and_callbacks(data_dir: Path, tmp_path: Path) -> None:
    steps: list[StepRecord] = []
    epochs: list[EpochRecord] = []
    _, history = run(data_dir, run_dir=tmp_path / "run", callbacks=[Callback(steps.append, epochs.append)])
    assert json.loads((tmp_path / "run/history.json").read_text()) == history
    for number, record in enumerate(history, 1):
        assert list(record) == ["epoch", "step", "loss", "lr", "logit_scale", "train_seconds", "val"]
        assert (record["epoch"], record["step"]) == (number, 3 * number)
        assert record["val"] is not None
        assert set(record["val"]) == {"en"}
    assert [record["train_seconds"] for record in history] == sorted(record["train_seconds"] for record in history)
    assert [record["lr"] for record in history] == [record["lr"] for record in steps[2::3]]
    assert steps[0]["lr"] == QUICK.lr  # a warm-up of 3 % of 9 steps is a single one, at the peak
    assert 0 < steps[-1]["lr"] < steps[-2]["lr"] < QUICK.lr
    assert [record["step"] for record in steps] == list(range(1, 10))
    assert [record["epoch"] for record in steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert epochs == history
    assert history[0]["loss"] == pytest.approx(sum(record["loss"] for record in steps[:3]) / 3)


def test_quiet_prints_nothing(data_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(data_dir, replace(QUICK, epochs=1, batch_size=500), run_dir=tmp_path, quiet=True)
    run(data_dir, replace(QUICK, epochs=1, batch_size=500), run_dir=tmp_path, quiet=True)  # resumes; nothing left to do
    assert capfd.readouterr() == ("", "")


def test_a_step_by_hand(data_dir: Path) -> None:
    """`train_step` against the same step written out with plain SGD: loss, clipping, update, clamp."""
    tokenizer = tokenizer_of(data_dir)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    texts = ImageTextDataset(data_dir, "test").all_captions()[0][:8]
    tokens = tokenizer(texts, padding="longest")
    ours, byhand = small_model(tokenizer, dropout=0.0), small_model(tokenizer, dropout=0.0)
    for model in (ours, byhand):
        model.train().logit_scale.data.fill_(4.7)
    sgd = torch.optim.SGD(ours.parameters(), lr=0.5)
    state = OptimizationState(
        sgd, make_scheduler(sgd, replace(QUICK, warmup=0), 10), GradScaler("cpu", enabled=False), torch.float32
    )
    loss_of_step = train_step(ours, state, images, tokens["input_ids"], tokens["attention_mask"], clip_norm=0.3)
    image_embedding, text_embedding = byhand(images, **tokens)
    logits = byhand.logit_scale.exp() * image_embedding @ text_embedding.T
    right = torch.arange(8)
    loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    assert loss_of_step.item() == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    gradients = {name: p.grad for name, p in byhand.named_parameters() if p.grad is not None}
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert norm > 0.3, "otherwise nothing would be clipped"
    for name, parameter in byhand.named_parameters():
        parameter.data -= 0.5 * gradients[name] * 0.3 / norm
    byhand.logit_scale.data.clamp_(max=math.log(100))
    for (name, actual), expected in zip(ours.named_parameters(), byhand.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4, msg=name)


def test_training_leaves_the_random_numbers_of_its_caller_alone(data_dir: Path) -> None:
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(model, tokenizer, ImageTextDataset(data_dir, "train"), config=replace(QUICK, epochs=1), quiet=True)
    assert torch.equal(torch.rand(3), expected)


class Stop(Exception):
    """Stands for a crash."""


def grey_noise(image: Image.Image) -> torch.Tensor:
    return torch.randint(100, 156, (3, 32, 32), dtype=torch.uint8)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_transform_is_applied_anew_in_every_epoch(data_dir: Path, workers: int) -> None:
    dataset = ImageTextDataset(data_dir, "train", transform=grey_noise, workers=workers)
    pictures = dataset.pictures(32)
    order = [[3, 4], [5, 6]]
    first, again, other = (torch.cat(list(image_batches(pictures, order, epoch))) for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique(dim=0)) == 4
    assert 100 <= first.min() <= first.max() < 156


def test_augmented_training_resumes_bit_for_bit(data_dir: Path, tmp_path: Path) -> None:
    config = replace(QUICK, augment=True, epochs=2)
    plain, _ = run(data_dir, replace(QUICK, epochs=2))
    whole, _ = run(data_dir, config)
    with pytest.raises(Stop):
        run(data_dir, config, tmp_path / "cut", callbacks=[raise_at(4, Stop)])
    with pytest.raises(CheckpointError, match="augment True -> False"):
        run(data_dir, replace(config, augment=False), tmp_path / "cut")
    resumed, _ = run(data_dir, config, tmp_path / "cut")
    assert same_weights(whole, resumed)
    assert not same_weights(whole, plain)


@pytest.mark.parametrize("result", ["a picture", torch.zeros(3, 32, 31), torch.zeros(3, 32, 32, dtype=torch.int64)])
def test_a_transform_with_a_wrong_result_is_named(data_dir: Path, tmp_path: Path, result: Any) -> None:
    tokenizer = tokenizer_of(data_dir)
    train_set = ImageTextDataset(data_dir, "train", transform=lambda _: result)
    with pytest.raises(DatasetError, match=r"^transform 把 \S+ 变成了 .*\[3, 32, 32\] [^\n]*$"):
        train(small_model(tokenizer), tokenizer, train_set, config=QUICK, run_dir=tmp_path / "run")


def test_a_transform_and_a_frozen_encoder_exclude_each_other(data_dir: Path) -> None:
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer)
    model.image_encoder.freeze()
    with pytest.raises(ConfigError, match="frozen"):
        train(model, tokenizer, ImageTextDataset(data_dir, "train"), config=replace(QUICK, augment=True))


def test_augmentation_keeps_sides_and_colours() -> None:
    """Left of the picture is red, right of it is blue, however it is cropped and lit."""
    picture = Image.new("RGB", (90, 60), "red")
    picture.paste("blue", (45, 0, 90, 60))
    changed = [augmentation(32)(picture) for _ in range(20)]
    for pixels in changed:
        assert (pixels.shape, pixels.dtype) == ((3, 32, 32), torch.uint8)
        (left_red, _, left_blue), (right_red, _, right_blue) = pixels[:, 16, 0].tolist(), pixels[:, 16, -1].tolist()
        assert left_red > 2 * left_blue
        assert right_blue > 2 * right_red
    assert len({pixels.numpy().tobytes() for pixels in changed}) == 20


def raise_at(step: int, error: type[BaseException]) -> Callback:
    def on_step(record: StepRecord) -> None:
        if record["step"] == step:
            raise error

    return Callback(on_step)


@pytest.mark.parametrize("step", [1, 4, 6, 7, 9])
def test_resumed_run_is_bit_for_bit_like_an_uninterrupted_one(data_dir: Path, tmp_path: Path, step: int) -> None:
    whole, history = run(data_dir, run_dir=tmp_path / "whole")
    with pytest.raises(Stop):
        run(data_dir, run_dir=tmp_path / "cut", callbacks=[raise_at(step, Stop)])
    resumed, rest = run(data_dir, run_dir=tmp_path / "cut")
    assert same_weights(whole, resumed)
    assert [record["loss"] for record in rest] == [record["loss"] for record in history]
    expected, actual = (load_checkpoint(tmp_path / name / "checkpoints/final_model.pt") for name in ("whole", "cut"))
    assert str(actual["training"]["optimizer"]["state"][0]) == str(expected["training"]["optimizer"]["state"][0])
    assert same_weights(load_model(tmp_path / "whole")[0], load_model(tmp_path / "cut")[0])


def test_ctrl_c_keeps_what_was_finished(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, history = run(data_dir, run_dir=tmp_path / "run", callbacks=[raise_at(5, KeyboardInterrupt)])
    assert len(history) == 1
    assert "interrupted" in capsys.readouterr().out
    resumed, _ = run(data_dir, run_dir=tmp_path / "run")
    assert same_weights(resumed, run(data_dir)[0])


def test_ctrl_c_while_the_last_epoch_is_saved(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch is not finished, and the history must not make the run look complete."""

    def save(path: Path, *content: Any) -> None:
        if path.name == "epoch_3.pt":
            raise KeyboardInterrupt
        save_checkpoint(path, *content)

    monkeypatch.setattr("clipedu.runs.resume.save_checkpoint", save)
    _, history = run(data_dir, run_dir=tmp_path)
    assert len(history) == 2
    monkeypatch.undo()
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))
    resumed, _ = run(data_dir, run_dir=tmp_path)
    assert same_weights(resumed, run(data_dir)[0])


def test_a_run_that_cannot_be_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "history.json").touch()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ClipEduError, match="cannot write"):
        clear_run(tmp_path)


def test_files_of_a_run(data_dir: Path, tmp_path: Path) -> None:
    run(data_dir, run_dir=tmp_path)
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best_model.pt", "epoch_3.pt", "final_model.pt"]
    assert find_checkpoint(tmp_path).name == "best_model.pt"
    (folder / "best_model.pt").unlink()
    assert find_checkpoint(tmp_path).name == "final_model.pt"
    (folder / "final_model.pt").unlink()
    (folder / "epoch_3.pt").rename(folder / "epoch_10.pt")
    (folder / "epoch_9.pt").touch()
    assert find_checkpoint(tmp_path) == newest_epoch(tmp_path) == folder / "epoch_10.pt"


def test_a_finished_run_is_not_trained_again(data_dir: Path, tmp_path: Path) -> None:
    model, history = run(data_dir, run_dir=tmp_path)
    steps: list[StepRecord] = []
    same_model, same_history = run(data_dir, run_dir=tmp_path, callbacks=[Callback(steps.append)])
    assert same_history == history
    assert steps == []
    assert same_weights(model, same_model)


def test_resuming_with_other_settings_or_data_is_refused(data_dir: Path, tmp_path: Path) -> None:
    run(data_dir, run_dir=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"lr .* -> 0\.002"):
        run(data_dir, replace(QUICK, lr=2e-3), run_dir=tmp_path / "run")
    more = draw_dataset(tmp_path / "more", {"train": 24, "val": 8}, seed=5)
    with pytest.raises(CheckpointError, match=r"(data|vocabulary) differs"):
        run(more, run_dir=tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pooling": "mean"}, "pooling cls -> mean"),
        ({"dropout": 0.3}, "dropout 0.1 -> 0.3"),
        ({"num_heads": 2}, "num_heads 8 -> 2"),
    ],
)
def test_resuming_another_architecture_is_refused(
    data_dir: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    run(data_dir, run_dir=tmp_path)
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer)
    model.text_encoder = TextEncoder(len(tokenizer), **{"hidden_size": 32, "num_layers": 1, "dropout": 0.1, **change})
    before = (tmp_path / "history.json").read_bytes()
    with pytest.raises(CheckpointError, match=f"architecture differs: {words}"):
        train(model, tokenizer, ImageTextDataset(data_dir, "train"), config=QUICK, run_dir=tmp_path)
    assert (tmp_path / "history.json").read_bytes() == before


def test_resuming_with_another_precision_or_more_epochs_is_refused(data_dir: Path, tmp_path: Path) -> None:
    run(data_dir, run_dir=tmp_path)
    with (
        patch("clipedu.optimization.choose_precision", lambda *_: torch.bfloat16),
        pytest.raises(CheckpointError, match=r"precision differs: torch\.float32 -> torch\.bfloat16"),
    ):
        run(data_dir, run_dir=tmp_path)
    with pytest.raises(CheckpointError, match=r"epochs \d+ -> 50 \(the number of epochs decides"):
        run(data_dir, replace(QUICK, epochs=50), run_dir=tmp_path)
    path = newest_epoch(tmp_path)
    assert path is not None
    content = load_checkpoint(path)
    del content["training"]["precision"]  # as version 0.1 wrote it
    torch.save(content, path)
    run(data_dir, run_dir=tmp_path)


def test_nan_stops_the_run_and_leaves_the_checkpoint_intact(data_dir: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer)

    def poison(record: StepRecord) -> None:
        if record["step"] == 4:
            model.text_projection.weight.data.fill_(float("nan"))

    train_set = ImageTextDataset(data_dir, "train")
    with pytest.raises(TrainingError, match="step 5"):
        train(model, tokenizer, train_set, config=QUICK, run_dir=tmp_path, callbacks=[Callback(poison)])
    kept, _ = load_model(tmp_path)
    assert all(value.isfinite().all() for value in kept.state_dict().values())
    assert newest_epoch(tmp_path) == tmp_path / "checkpoints/epoch_1.pt"


def test_one_pair_only(tmp_path: Path) -> None:
    data_dir = draw_dataset(tmp_path / "data", {"train": 1, "val": 2})
    with pytest.raises(TrainingError, match="1 training pairs"):
        run(data_dir)


def test_batch_larger_than_the_split_is_reduced_with_notice(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, history = run(data_dir, replace(QUICK, batch_size=500, epochs=1))
    assert history[0]["step"] == 1
    assert "24" in capsys.readouterr().out


def test_without_validation_the_best_is_the_lowest_loss(data_dir: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(data_dir)
    train(small_model(tokenizer), tokenizer, ImageTextDataset(data_dir, "train"), config=QUICK, run_dir=tmp_path)
    content = load_checkpoint(tmp_path / "checkpoints/best_model.pt")
    history = load_checkpoint(tmp_path / "checkpoints/final_model.pt")["training"]["history"]
    assert content["training"]["best"] == -min(
        record["loss"] for record in history[: len(content["training"]["history"])]
    )


def test_frozen_features_train_the_rest_only(data_dir: Path) -> None:
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer)
    model.image_encoder.freeze()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, tokenizer, ImageTextDataset(data_dir, "train"), config=QUICK)
    for name, value in model.state_dict().items():
        frozen = name.startswith("image_encoder")
        assert torch.equal(value, before[name]) == frozen or name.endswith("embedding.weight"), name


def test_members_learn_as_they_would_alone_and_resume(data_dir: Path, tmp_path: Path) -> None:
    """Each member's weights depend on its own loss alone; without dropout, they are those of a model trained alone."""
    tokenizer = tokenizer_of(data_dir)
    config = replace(QUICK, clip_norm=1e6)

    def member(seed: int) -> CLIP:
        torch.manual_seed(0)
        encoder = ImageEncoder("tiny", pretrained=False, deep=True).freeze()
        torch.manual_seed(seed)
        return CLIP(encoder, WordAverage(len(tokenizer), 16, dropout=0.0), 16, image_size=32)

    def trained(model: CLIP, run_dir: Path | None = None, callbacks: Sequence[Callback] = ()) -> CLIP:
        train(model, tokenizer, ImageTextDataset(data_dir, "train"), None, config, run_dir, callbacks, quiet=True)
        return model

    alone = [trained(member(seed)) for seed in (1, 2)]
    together = trained(Ensemble([member(1), member(2)]), tmp_path / "whole")
    for expected, found in zip(alone, together.members, strict=True):
        for (name, a), b in zip(expected.state_dict().items(), found.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, msg=name, rtol=1e-3, atol=1e-5)
    with pytest.raises(Stop):
        trained(Ensemble([member(1), member(2)]), tmp_path / "cut", [raise_at(5, Stop)])
    resumed = trained(Ensemble([member(1), member(2)]), tmp_path / "cut")
    assert same_weights(together, resumed)
    with pytest.raises(CheckpointError, match="members 2 -> 1"):
        trained(member(1), tmp_path / "cut")


# ------------------------------------------------------------------------------------------- parts


def test_weight_decay_groups() -> None:
    model = small_model(SimpleTokenizer.from_texts(["a b c"]), image_encoder="resnet18")
    kept, decayed = make_optimizer(model, TrainConfig(weight_decay=0.3)).param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    kept_names = {names[parameter] for parameter in kept["params"]}
    assert {"logit_scale", "text_encoder.position_embedding.weight"} <= kept_names
    assert "image_encoder.model.layer2.0.downsample.1.weight" in kept_names  # a batch norm without "bn" in its name
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(names)


def test_the_image_encoder_learns_at_its_own_rate() -> None:
    model = small_model(SimpleTokenizer.from_texts(["a b c"]), image_encoder="resnet18")
    groups = make_optimizer(model, TrainConfig(lr=1e-3, image_lr_scale=0.1)).param_groups
    rates = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[parameter] == pytest.approx(1e-4 if name.startswith("image_encoder") else 1e-3), name
    assert groups[0]["lr"] == 1e-3, "the history records the rate of the other parameters"


def test_schedule() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_scheduler(optimizer, TrainConfig(warmup=0.1), steps=100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates == rates[:10] + sorted(rates[10:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_precision_by_device() -> None:
    assert choose_precision("fp32", torch.device("cpu")) == torch.float32
    assert choose_precision("bf16", torch.device("cpu")) == torch.bfloat16
    assert choose_precision("auto", torch.device("mps")) == torch.float32
    assert choose_precision("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
    assert choose_precision("auto", torch.device("cpu"), "efficientnet_lite0") == torch.float32


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"batch_size": 1}, {"lr": float("nan")}, {"lr": -1.0}, {"precision": "fp8"}, {"warmup": 1.0}]
)
def test_config_refuses_invalid_values(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        TrainConfig(**bad)


# ------------------------------------------------------------------------------------------- checkpoints


def test_checkpoint_round_trip(data_dir: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(data_dir)
    model = small_model(tokenizer)
    model.image_encoder.freeze()
    save_checkpoint(tmp_path / "model.pt", model, tokenizer, {"note": "x"})
    loaded, loaded_tokenizer = load_model(tmp_path / "model.pt")
    assert same_weights(model, loaded)
    assert loaded_tokenizer.id_to_token == tokenizer.id_to_token
    assert (loaded.image_size, loaded.image_encoder.frozen, loaded.training) == (32, True, False)
    tokens = tokenizer("a red circle")
    torch.testing.assert_close(model.get_text_features(**tokens), loaded.get_text_features(**tokens), atol=0, rtol=0)
