"""Fixtures: a small drawn dataset, small models, and the real photos if available."""

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright
from torch import nn

from clipedu import CLIP, ImageEncoder, SimpleTokenizer, TextEncoder
from clipedu.data.records import write_records
from clipedu.data.scenes import COLOURS, SHAPES, draw_scene, random_scene
from clipedu.encoders import IMAGE_ENCODERS, ImageNetwork

ROOT = Path(__file__).parent.parent

# The same hundred examples every time; for thousands of others: python -m studies.fuzzing.
settings.register_profile("tests", max_examples=100, derandomize=True, deadline=None)
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest file, so that one of the two processes does nothing else (see the Makefile)."""
    items.sort(key=lambda item: item.path.name != "test_browser.py")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's feature cache, and start each one with the same random numbers."""
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def sample_data() -> Path:
    return ROOT / "sample_data"


def draw_dataset(folder: Path, sizes: dict[str, int], seed: int = 0) -> Path:
    """Draw a dataset of random scenes, no two with the same captions."""
    rng = random.Random(seed)
    pairs = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    (folder / "images").mkdir(parents=True)
    records: list[dict[str, object]] = []
    used = set()
    for split, count in sizes.items():
        for index in range(count):
            scene = random_scene(rng, pairs)
            while scene.meaning in used:
                scene = random_scene(rng, pairs)
            used.add(scene.meaning)
            path = f"images/{split}_{index}.png"
            draw_scene(scene, 32).save(folder / path)
            records.append(scene.record(path, split))
    write_records(folder, records)
    return folder


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """24 training pairs, 8 for validation and 8 for testing."""
    return draw_dataset(tmp_path / "data", {"train": 24, "val": 8, "test": 8})


def _tiny(pretrained: bool) -> nn.Module:
    """Convolutions with batch norm: enough for most tests, and fifty times faster than a ResNet."""
    assert not pretrained
    first = nn.Conv2d(3, 16, 4, stride=4, bias=False), nn.BatchNorm2d(16), nn.ReLU()
    second = nn.Conv2d(16, 64, 2, stride=2, bias=False), nn.BatchNorm2d(64), nn.ReLU()
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten())


IMAGE_ENCODERS["tiny"] = ImageNetwork(
    _tiny, 64, {"2": 16, "5": 64}, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), bf16_pays_on_cpu=False
)


def small_model(tokenizer: SimpleTokenizer, seed: int = 0, dropout: float = 0.1, image_encoder: str = "tiny") -> CLIP:
    torch.manual_seed(seed)
    text_encoder = TextEncoder(len(tokenizer), hidden_size=32, num_layers=1, dropout=dropout)
    return CLIP(ImageEncoder(image_encoder, pretrained=False), text_encoder, shared_embedding_dim=16, image_size=32)


def tokenizer_of(data_dir: Path) -> SimpleTokenizer:
    records = json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))
    return SimpleTokenizer.from_texts(text for record in records for text in record["text"] + record["text_zh"])


@pytest.fixture(scope="session")
def flickr8k() -> Path:
    folder = os.environ.get("CLIPEDU_FLICKR8K")
    if not folder:
        pytest.skip("needs the photos: set CLIPEDU_FLICKR8K to their folder")
    return Path(folder)


FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    paths = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not paths:
        if os.environ.get("CLIPEDU_REQUIRE_BROWSER"):
            pytest.fail("CLIPEDU_REQUIRE_BROWSER is set, but Chromium was not found")
        pytest.skip("needs a browser, for example: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=paths[0], args=FLAGS)
        yield browser
        browser.close()
