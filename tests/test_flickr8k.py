"""Real photos and human captions; skipped without the photos (set CLIPEDU_FLICKR8K to their folder)."""

import json
import shutil
from pathlib import Path

import pytest

from clipedu import ImageTextDataset, SimpleTokenizer
from clipedu.commands.main import main


def test_all_records_are_valid(flickr8k: Path) -> None:
    for split, count in (("train", 6000), ("val", 1000)):
        dataset = ImageTextDataset(flickr8k, split, "both")
        assert len(dataset) == count
        assert all(len(record.texts("both")) == 10 for record in dataset.records)


def test_vocabulary_covers_both_languages(flickr8k: Path) -> None:
    train, val = (ImageTextDataset(flickr8k, split, "both") for split in ("train", "val"))
    tokenizer = SimpleTokenizer(8000)
    tokenizer.build_vocab(train.all_captions()[0])
    for language, most in (("en", 0.02), ("zh", 0.005)):
        ids = [index for text in val.all_captions(language)[0] for index in tokenizer.encode(text)]
        assert ids.count(1) / len(ids) < most, f"too many unknown words in {language}"
    assert max(len(tokenizer.encode(text)) for text in val.all_captions()[0]) <= 77


@pytest.mark.again
def test_photos_train_end_to_end(flickr8k: Path, tmp_path: Path) -> None:
    """On a small part of the photos, with a frozen encoder, a few epochs are enough to beat chance several times."""
    records = json.loads((flickr8k / "dataset.json").read_text(encoding="utf-8"))
    few = [r for r in records if r["split"] == "train"][:400] + [r for r in records if r["split"] == "val"][:50]
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    for record in few:
        shutil.copy(flickr8k / record["image_path"], data / "images")
    (data / "dataset.json").write_text(json.dumps(few), encoding="utf-8")
    words = ["train", "--data-dir", str(data), "--run-dir", str(tmp_path / "run"), "--freeze-image-encoder"]
    words += ["--image-encoder", "efficientnet_lite0", "--image-size", "96", "--epochs", "12", "--batch-size", "64"]
    assert main(words) == 0
    history = json.loads((tmp_path / "run/history.json").read_text())
    assert history[-1]["val"]["en"]["i2t_R@5"] > 3 * 5 / 50
