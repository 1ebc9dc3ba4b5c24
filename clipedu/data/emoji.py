"""A dataset that every computer already has: the emoji of its colour font, with their names in two languages.

The artwork stays on the reader's machine; the names come from Unicode CLDR, through the PyPI package `emoji`.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features
from tqdm.auto import tqdm

from clipedu.data.records import write_records
from clipedu.ground.errors import ClipEduError
from clipedu.ground.files import whole_folder

IMAGE_SIZE = 96
HELD_OUT = {"val": 400, "test": 400}  # all others are for training
_FONTS = (  # file, and a size in px that the font provides
    ("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf", 109),
    ("/usr/share/fonts/noto/NotoColorEmoji.ttf", 109),
    ("/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf", 109),
    ("/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf", 109),
    ("/System/Library/Fonts/Apple Color Emoji.ttc", 160),
    ("C:/Windows/Fonts/seguiemj.ttf", 109),
)


@dataclass(frozen=True)
class EmojiFont:
    """A colour font file and a size in px that it provides."""

    path: Path
    size: int

    def load(self) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(str(self.path), self.size, layout_engine=ImageFont.Layout.RAQM)


def find_emoji_font() -> EmojiFont:
    """This computer's colour emoji font; raises ClipEduError with a remedy if there is none."""
    for path, size in _FONTS:
        if Path(path).is_file():
            return EmojiFont(Path(path), size)
    raise ClipEduError(
        "找不到彩色表情字体。Debian/Ubuntu：apt install fonts-noto-color-emoji；Fedora：dnf install "
        "google-noto-color-emoji-fonts；macOS 与 Windows 自带，若缺失请更新系统。",
        "no colour emoji font found. Debian/Ubuntu: apt install fonts-noto-color-emoji; Fedora: dnf install "
        "google-noto-color-emoji-fonts; macOS and Windows include one: update the system if it is missing",
    )


def emoji_names() -> list[tuple[str, str, str]]:
    """(emoji, English name, Chinese name) of every fully-qualified emoji that has both, in Unicode's order."""
    import emoji

    emoji.config.load_language("zh")
    return [
        (symbol, _plain(names["en"]), _plain(names["zh"]))
        for symbol, names in emoji.EMOJI_DATA.items()
        if names["status"] == emoji.STATUS["fully_qualified"] and "zh" in names
    ]


def _plain(name: str) -> str:
    """`:woman_biking_dark_skin_tone:` -> `woman biking dark skin tone`."""
    return name.strip(":").replace("_", " ")


def draw_emoji(symbol: str, font: ImageFont.FreeTypeFont, size: int = IMAGE_SIZE) -> Image.Image | None:
    """The emoji on white, `size` x `size` px; None if the font has no single picture for it."""
    left, top, right, bottom = font.getbbox(symbol)
    width, height = int(right - left), int(bottom - top)
    # A sequence that the font does not support is drawn as separate emoji side by side.
    if not 0 < width <= 1.6 * height:
        return None
    side = max(width, height)
    canvas = Image.new("RGB", (side, side), "white")
    corner = ((side - width) // 2 - left, (side - height) // 2 - top)
    ImageDraw.Draw(canvas).text(corner, symbol, font=font, embedded_color=True)
    return canvas.resize((size, size), Image.Resampling.LANCZOS)


def create_emoji(out: Path, seed: int = 0) -> None:
    """Draw this computer's emoji into the new folder `out`: images/*.png and dataset.json, split by emoji."""
    if not features.check("raqm"):
        raise ClipEduError(
            "Pillow 缺少 Raqm 排版支持，无法绘制组合表情。Debian/Ubuntu：apt install libfribidi0；其他请重装 Pillow",
            "Pillow lacks Raqm layout, which emoji sequences need. Debian/Ubuntu: apt install libfribidi0; "
            "on other systems reinstall Pillow",
        )
    font = find_emoji_font().load()
    with whole_folder(out) as folder:
        drawn: dict[str, tuple[Image.Image, str, str]] = {}  # by picture: some fonts draw two emoji identically
        for symbol, english, chinese in tqdm(emoji_names(), unit="emoji", disable=None):
            picture = draw_emoji(symbol, font)
            if picture is not None:
                drawn.setdefault(hashlib.sha256(picture.tobytes()).hexdigest(), (picture, english, chinese))
        pictures = list(drawn.values())
        splits = [split for split, count in HELD_OUT.items() for _ in range(count)]
        splits += ["train"] * (len(pictures) - len(splits))
        random.Random(seed).shuffle(splits)
        (folder / "images").mkdir()
        records: list[dict[str, object]] = []
        for index, ((picture, english, chinese), split) in enumerate(zip(pictures, splits, strict=True)):
            image_path = f"images/{split}_{index:04d}.png"
            picture.save(folder / image_path)
            records.append({"image_path": image_path, "text": english, "text_zh": chinese, "split": split})
        write_records(folder, records)
