"""The command line end to end, in a temporary folder; every error is one bilingual line with exit code 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from clipedu import load_checkpoint, load_model
from clipedu.commands.arguments import build_parser
from clipedu.commands.main import main
from clipedu.runs.history import EpochRecord, describe

SMALL = ["--pretrained", "none", "--image-size", "32", "--epochs", "2", "--batch-size", "8", "--embedding-dim", "16"]
TINY = ["--image-encoder", "tiny"]  # registered in conftest.py


def arguments(data_dir: Path, run_dir: Path) -> list[str]:
    return ["train", "--data-dir", str(data_dir), "--run-dir", str(run_dir), *SMALL, *TINY]


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run, expect exit code 2, and return the one-line error message."""
    capsys.readouterr()
    assert main(words) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("错误 | error: ")
    assert "\n" not in message.partition(":\n  ")[0]
    assert any("\u4e00" <= letter <= "\u9fff" for letter in message)
    return message


def test_from_nothing_to_search(tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "run"
    assert main([*arguments(data_dir, run_dir), "--language", "both"]) == 0
    out = capsys.readouterr().out
    assert "text -> images" in out
    assert "test zh  text -> image" in out
    history = json.loads((run_dir / "history.json").read_text())
    assert [record["epoch"] for record in history] == [1, 2]
    assert set(history[0]["val"]) == {"en", "zh"}
    with Image.open(run_dir / "training_curve.png") as curve:
        assert curve.size[0] > 500

    common = ["--run-dir", str(run_dir), "--data-dir", str(data_dir)]
    assert (
        main(["evaluate", *common, "--split", "test", "--language", "both", "--json", str(tmp_path / "out.json")]) == 0
    )
    scores = json.loads((tmp_path / "out.json").read_text())
    assert set(scores) == {"en", "zh"}
    assert all(0 <= scores["zh"][f"{way}_R@{k}"] <= 1 for way in ("i2t", "t2i") for k in (1, 5, 10))

    capsys.readouterr()
    search = ["search", "--run-dir", str(run_dir), "--images", str(data_dir / "images"), "--top", "3"]
    assert main([*search, "--out", str(tmp_path / "hits.png"), "一个红色的圆", "a red circle"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith("  ")] == ["一个红色的圆", "a red circle"]
    assert len(lines) == 8
    similarities = [float(line.split()[0]) for line in lines[1:4]]
    assert similarities == sorted(similarities, reverse=True)
    with Image.open(tmp_path / "hits.png") as picture:
        assert picture.size[0] > 300

    assert main([*arguments(data_dir, run_dir), "--language", "both", "--test-only"]) == 0
    assert "epoch" not in capsys.readouterr().out


def test_flags_with_underscores_work_too(tmp_path: Path, data_dir: Path) -> None:
    words = [
        word.replace("-", "_") if word.startswith("--") else word for word in arguments(data_dir, tmp_path / "run")
    ]
    words = [f"--{word[2:]}" if word.startswith("__") else word for word in words]
    assert "--batch_size" in words
    assert main(words) == 0


def test_resume_never_and_force_train(tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments(data_dir, tmp_path)
    assert main(words) == 0
    before = (tmp_path / "checkpoints/final_model.pt").stat().st_mtime_ns
    assert "--force-train" in fails(capsys, *words, "--resume", "never")
    assert "lr" in fails(capsys, *words, "--lr", "0.5")
    fails(capsys, *words, "--force-train", "--data-dir", "nowhere")  # the old run is kept if the new one cannot start
    assert (tmp_path / "checkpoints/final_model.pt").stat().st_mtime_ns == before
    assert main([*words, "--force-train"]) == 0
    assert (tmp_path / "checkpoints/final_model.pt").stat().st_mtime_ns > before


def test_frozen_features_are_computed_once(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen = [*arguments(data_dir, tmp_path / "one"), "--image-encoder", "efficientnet_lite0", "--freeze-image-encoder"]
    assert "learn nothing" in fails(capsys, *frozen)
    frozen[frozen.index("none")] = "require"
    assert main(frozen) == 0
    files = sorted((tmp_path / "cache").glob("*.npz"))
    assert len(files) == 3  # train, val, test
    monkeypatch.setattr("clipedu.runs.features._compute_features", lambda *_: pytest.fail("computed again"))
    frozen[frozen.index(str(tmp_path / "one"))] = str(tmp_path / "two")
    assert main(frozen) == 0
    weights = [load_checkpoint(tmp_path / run / "checkpoints/final_model.pt")["weights"] for run in ("one", "two")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    monkeypatch.undo()
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))
    files[0].write_bytes(files[0].read_bytes()[:200])  # truncated, so it is computed again
    Image.new("RGB", (32, 32), "red").save(data_dir / "images/test_0.png")  # changed, so it gets another key
    assert main([*frozen, "--force-train"]) == 0
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 4


def test_damaged_pictures_in_a_searched_folder_are_left_out(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(data_dir, tmp_path / "run")) == 0
    (data_dir / "images/broken.jpg").write_text("<html>")
    (data_dir / "images/notes.txt").write_text("no picture")
    search = ["search", "--run-dir", str(tmp_path / "run"), "--images"]
    assert main([*search, str(data_dir / "images"), "a circle"]) == 0
    assert "broken.jpg" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert "no readable pictures" in fails(capsys, *search, str(tmp_path / "empty"), "a circle")
    assert "--top" in fails(capsys, *search, str(data_dir / "images"), "--top", "0", "a circle")


def test_a_run_that_another_process_trains(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipedu.runs.folder.LOCK_PATIENCE", 0.1)
    words = arguments(data_dir, tmp_path / "run")
    assert main(words) == 0
    before = sorted((tmp_path / "run").rglob("*"))
    hold = "import pathlib, sys; from clipedu.runs.folder import only_writer\n"
    hold += "with only_writer(pathlib.Path(sys.argv[1])): print(1); input()"
    command = [sys.executable, "-uc", hold, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        for flags in ([], ["--force-train"]):
            assert "another process is training" in fails(capsys, *words, *flags)
        assert sorted((tmp_path / "run").rglob("*")) == before
        holder.kill()
    assert main(words) == 0


@pytest.mark.slow
@pytest.mark.parametrize("is_frozen", [False, True])
def test_two_processes_train_together(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], is_frozen: bool
) -> None:
    """The batch of 9 does not divide by 2 and becomes 8."""
    words = ["train", "--data-dir", str(data_dir), "--run-dir", str(tmp_path / "run"), *SMALL, "--batch-size", "9"]
    if is_frozen:
        words[words.index("none")] = "require"
        words += ["--image-encoder", "efficientnet_lite0", "--freeze-image-encoder"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "clipedu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*launch, *words, *flags], capture_output=True, text=True, env=environment, check=False)

    result = start()
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("epoch 2/2") == 1, "only one process prints"
    assert "reduced from 9 to 8" in result.stdout
    history = json.loads((tmp_path / "run/history.json").read_text())
    assert [record["step"] for record in history] == [3, 6]
    if is_frozen:
        return
    assert "processes" in fails(capsys, *words), "one process would continue with other numbers"
    assert "resuming after epoch 2" in start().stdout
    assert "SyncBatchNorm" in start("--sync-batch-norm", "--force-train").stderr
    assert json.loads((tmp_path / "run/history.json").read_text()) == history


def test_a_new_run_starts_from_the_weights_and_vocabulary_of_another(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(arguments(data_dir, first)) == 0
    records = json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))
    records[0]["text"] = ["a zebra"]
    (data_dir / "dataset.json").write_text(json.dumps(records), encoding="utf-8")
    go_on = ["train", "--data-dir", str(data_dir), "--init-from", str(first), "--run-dir", str(second), "--lr", "0"]
    capsys.readouterr()
    assert main([*go_on, "--epochs", "2", "--batch-size", "8"]) == 0
    assert "1 words" in capsys.readouterr().out, "zebra is not in the first run's vocabulary"
    old, new = (load_checkpoint(folder / "checkpoints/best_model.pt") for folder in (first, second))
    assert new["vocabulary"] == old["vocabulary"]
    assert new["architecture"] == old["architecture"], "the size of the pictures too"
    parameters = dict(load_model(second)[0].named_parameters())
    assert all(torch.equal(old["weights"][name], value) for name, value in parameters.items()), "with --lr 0"
    assert "--init-from" in fails(capsys, *go_on, "--epochs", "3", "--batch-size", "8")
    assert "--dropout cannot be combined" in fails(capsys, *go_on, "--dropout", "0.3")
    assert "train first" in fails(capsys, *go_on, "--init-from", str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_words_that_the_model_does_not_know_are_named(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(data_dir, tmp_path / "run"))
    capsys.readouterr()
    search = ["search", "--run-dir", str(tmp_path / "run"), "--images", str(data_dir / "images"), "--top", "2"]
    assert main([*search, "a red zebra", "一只猫", "a red circle"]) == 0
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if not line.startswith("  ")] == ["a red zebra", "a red circle"]
    assert len(err.splitlines()) == 2
    assert "a red zebra: the model does not know zebra\n" in err
    assert "skipped 一只猫" in err
    assert "none of these words: zebra 紅 色" in fails(capsys, *search, "zebra", "紅色")


def test_what_takes_no_part_is_named(tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))
    train, val = ([record for record in records if record["split"] == split] for split in ("train", "val"))
    for record in train[:2]:
        record["text"] = ["One and the same.", "one AND the same"]
    train[2] |= {"text": "word " * 76, "caption_cn": "x"}
    train[3]["text"] = "कुत्ता घास पर"
    train[4]["split"] = "later"
    del train[5]["text"]
    for record in train[6:12]:  # broken: more than are named in one line
        (data_dir / record["image_path"]).write_bytes(b"<html>")
    val[0] = train[12] | {"split": "val"}
    (data_dir / "dataset.json").write_text(json.dumps([*train, *val]), encoding="utf-8")
    assert "6 faults" in fails(capsys, *arguments(data_dir, tmp_path / "run"))
    assert main([*arguments(data_dir, tmp_path / "run"), "--skip-broken", "--precision", "fp16"]) == 0
    out = capsys.readouterr().out
    for words in (
        "left out: 6  打不开的图片 | pictures that cannot be opened: images/train_6.png",
        "pictures without a caption (text): train_5.png",
        "later 1",
        "not used: caption_cn",
        "4 of 30 captions belong to more than one picture",
        "1 of 30 captions are longer than 77 tokens",
        "1 captions are in a script that the tokenizer cannot split into words",
        "1 pictures (such as train_12.png) are in both train and val",
        "fp16 is very slow on a CPU",
    ):
        assert words in out, words
    assert len((tmp_path / "run/left_out_train.txt").read_text(encoding="utf-8").splitlines()) == 7
    assert main(["check", "--data-dir", str(data_dir)]) == 2
    assert capsys.readouterr().out.count("train_6.png") == 2, "once in each language"


def test_a_loss_of_guessing_is_named() -> None:
    record: EpochRecord = {
        "epoch": 3, "step": 9, "loss": 3.466, "lr": 0, "logit_scale": 14, "train_seconds": 2, "val": None,
    }  # fmt: skip
    assert "ln 32 = 3.466" in describe(record, 3, 32)
    assert "ln 32" not in describe(record, 10, 32), "a fresh model is a little above it"
    assert "ln 32" in describe(record | {"step": 20}, 10, 32)
    assert "ln 32" not in describe(record | {"loss": 3.3}, 3, 32)


def test_every_flag_says_what_it_does_in_both_languages() -> None:
    commands = build_parser()._subparsers._group_actions[0].choices.values()  # type: ignore[union-attr]
    flags = [flag for command in commands for flag in command._actions if "--help" not in flag.option_strings]
    assert [flag.dest for flag in flags if " | " not in (flag.help or "") or (flag.help or "").isascii()] == []
