"""The playground's files: its page, the two small models, and pictures that they have never seen, with embeddings."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from clipedu.classroom.lessons import emoji_data, emoji_model, trained_model, unseen_scenes
from clipedu.classroom.word_order import swap_objects
from clipedu.data.dataset import ImageTextDataset
from clipedu.data.emoji import find_emoji_font
from clipedu.data.loading import Pictures, open_pictures
from clipedu.data.pictures import load_image
from clipedu.data.records import Record
from clipedu.data.scenes import COLOURS, NOVEL_PAIRS, SHAPES
from clipedu.embedding import embed_images
from clipedu.export.models import export_model
from clipedu.export.vendor import write_runtime
from clipedu.ground.errors import ClipEduError
from clipedu.model import CLIP

FILES = (  # of clipedu/export/web
    "play.css",
    *("language.js", "play.js", "page.js", "collection.js", "find.js"),
    *("canvas.js", "name.js", "temperature.js", "swap.js"),
    *("clip.js", "pictures.js"),
)
_TILE, _COLUMNS = 96, 20  # side of a picture in px, and pictures in a row of the sheet
_BACKGROUND = (172, 172, 172)  # the middle of the greys behind the scenes
_FONT, _FONT_NAME = "NotoColorEmoji.ttf", "Noto Color Emoji"
_FONT_LICENCES = (  # where Debian and Fedora put it
    Path("/usr/share/doc/fonts-noto-color-emoji/copyright"),
    Path("/usr/share/licenses/google-noto-color-emoji-fonts/OFL.txt"),
    Path("/usr/share/licenses/google-noto-emoji-fonts/LICENSE"),
)


def build_playground(out: Path) -> None:
    """Write `play.html` and `play/` into the folder `out`, which may have other files.

    The emoji are left out, and the page says so, if this computer lacks the one font whose licence permits it.

    Raises:
        ClipEduError: as `export_model` and `write_runtime`.
    """
    play = out / "play"
    play.mkdir(parents=True)
    with as_file(files("clipedu.export") / "web") as web:
        shutil.copyfile(web / "play.html", out / "play.html")
        for name in FILES:
            shutil.copyfile(web / name, play / name)
    write_runtime(play / "ort")
    with contextlib.redirect_stdout(io.StringIO()):  # their loss curves
        model, tokenizer = trained_model()
        export_model(model, tokenizer, play / "scenes")
        write_collection(play / "scenes", model, *unseen_scenes())
        emoji = write_emoji(play / "emoji")
    loaded = [
        *(play / "ort").glob("*.wasm.gz"),
        *(path for path in (play / "scenes").iterdir() if path.suffix != ".webp"),
    ]
    content = {"bytes": sum(path.stat().st_size for path in loaded), "emoji": emoji, **_world()}
    _write_json(play / "playground.json", content)


def write_collection(folder: Path, model: CLIP, records: Sequence[Record], pixels: Tensor | Pictures) -> None:
    """Write `pictures.json` (captions), `pictures.bin` (float32 `[N, E]`) and `pictures.webp` (all pictures).

    The captions are each picture's first; a test scene of two objects has the same with the objects swapped, too.
    """
    described = []
    for record in records:
        captions = {language: record.captions[language][0] for language in ("zh", "en")}
        swapped = {
            language: swap_objects(text) if record.split == "test" else None for language, text in captions.items()
        }
        described.append({**captions, **({"swapped": swapped} if all(swapped.values()) else {})})
    _write_json(folder / "pictures.json", {"columns": _COLUMNS, "pictures": described})
    (folder / "pictures.bin").write_bytes(embed_images(model, pixels).numpy().astype("<f4").tobytes())
    sheet = Image.new("RGB", (_COLUMNS * _TILE, -(-len(records) // _COLUMNS) * _TILE), "white")
    for index, record in enumerate(records):
        tile = load_image(record.image_path).resize((_TILE, _TILE))
        sheet.paste(tile, (index % _COLUMNS * _TILE, index // _COLUMNS * _TILE))
    sheet.save(folder / "pictures.webp", lossless=True)


def write_emoji(folder: Path) -> str | None:
    """Write the emoji model's text side and its test pictures; returns the font's name.

    None, and nothing written, if this computer lacks the font or its licence: other fonts' emoji may not be handed on.
    """
    try:
        font = find_emoji_font()
        licence = next((path for path in _FONT_LICENCES if path.is_file()), None)
        if font.path.name != _FONT or licence is None:
            return None
        model, tokenizer = emoji_model()
        records = ImageTextDataset(emoji_data(), "test", "both").records
    except ClipEduError:
        return None
    export_model(model, tokenizer, folder, image=False)
    write_collection(folder, model, records, open_pictures([record.image_path for record in records], model.image_size))
    shutil.copyfile(licence, folder / "LICENCE.txt")
    return _FONT_NAME


def _world() -> dict[str, Any]:
    """What can be drawn: the colours and shapes of sample_data, and the pairs that never occur in training."""
    return {
        "background": _BACKGROUND,
        "colours": [{"en": name, "zh": chinese, "rgb": rgb} for name, (chinese, rgb) in COLOURS.items()],
        "shapes": [{"en": name, "zh": chinese} for name, chinese in SHAPES.items()],
        "novel": sorted(f"{colour} {shape}" for colour, shape in NOVEL_PAIRS),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
