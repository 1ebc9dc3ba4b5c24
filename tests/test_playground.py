"""What the playground shows, as files; the page itself is tested in a browser, in tests/site."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipedu.classroom.site import playground
from clipedu.data.dataset import ImageTextDataset
from clipedu.data.emoji import EmojiFont
from clipedu.data.loading import open_pictures
from clipedu.embedding import embed_images
from tests.conftest import small_model, tokenizer_of


def test_a_collection_has_captions_embeddings_and_one_sheet(sample_data: Path, tmp_path: Path) -> None:
    records = [
        record for split in ("test", "novel") for record in ImageTextDataset(sample_data, split, "both").records[:12]
    ]
    model = small_model(tokenizer_of(sample_data))
    pixels = open_pictures([record.image_path for record in records], 32)
    playground.write_collection(tmp_path, model, records, pixels)
    described = json.loads((tmp_path / "pictures.json").read_text(encoding="utf-8"))
    columns, pictures = described["columns"], described["pictures"]
    for record, picture in zip(records, pictures, strict=True):
        assert [picture["en"], picture["zh"]] == [record.captions["en"][0], record.captions["zh"][0]]
        assert ("swapped" in picture) == (record.split == "test" and len(record.labels) == 0)
    embeddings = np.fromfile(tmp_path / "pictures.bin", dtype="<f4").reshape(len(records), -1)
    torch.testing.assert_close(torch.from_numpy(embeddings), embed_images(model, pixels))
    with Image.open(tmp_path / "pictures.webp") as sheet, Image.open(records[21].image_path) as picture_21:
        left, top = 21 % columns * 96, 21 // columns * 96
        assert (
            sheet.convert("RGB").crop((left, top, left + 96, top + 96)).tobytes() == picture_21.convert("RGB").tobytes()
        )


@pytest.mark.parametrize("path", ["/System/Library/Fonts/Apple Color Emoji.ttc", "C:/Windows/Fonts/seguiemj.ttf"])
def test_the_emoji_of_other_fonts_are_not_handed_on(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground, "find_emoji_font", lambda: EmojiFont(Path(path), 109))
    assert playground.write_emoji(tmp_path / "emoji") is None
    assert not (tmp_path / "emoji").exists()


def test_every_file_of_the_page_is_there() -> None:
    web = Path(playground.__file__).parents[2] / "export" / "web"
    page = (web / "play.html").read_text(encoding="utf-8")
    scripts = {name: (web / name).read_text(encoding="utf-8") for name in playground.FILES}
    for name in scripts:
        loaded = [f'"play/{name}"' in page, *(f'"./{name}"' in script for script in scripts.values())]
        assert any(loaded), f"nothing loads {name}"
