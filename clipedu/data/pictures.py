"""Decodes pictures as an image viewer shows them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from clipedu.ground.errors import DatasetError

MAX_PIXELS = 100_000_000  # a larger picture is a mistake or an attack
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"}
IMAGE_SIZES = range(32, 1025)  # px of a model's square pictures; at 16, oneDNN leaves bf16 gradients unwritten


def load_image(path: Path, size: int | None = None) -> Image.Image:
    """The picture in RGB as a viewer shows it: rotated by its EXIF tag, transparency on white, 16 bits reduced to 8.

    With `size`, a JPEG far larger than size x size px may come out smaller, which is several times faster to decode.

    Raises:
        DatasetError: the picture is damaged, cut off or too large.
    """
    try:
        with Image.open(path) as file:
            if file.size[0] * file.size[1] > MAX_PIXELS:
                raise OSError(f"{file.size[0]} x {file.size[1]} pixels")
            if size:
                file.draft("RGB", (2 * size, 2 * size))
            ImageOps.exif_transpose(file, in_place=True)
            return _rgb_on_white(file)
    except Exception as error:  # each format's decoder fails on damaged bytes in its own way
        raise DatasetError(
            f"图片 {path} 损坏或不完整（{error}）；请替换它，或从 dataset.json 中删去",
            f"picture {path} is damaged or cut off ({error}); replace it or remove it from dataset.json",
        ) from error


def _rgb_on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # one number per pixel, of 8 or 16 bits
        pixels = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((pixels / (257 if pixels.max() > 255 else 1)).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def load_pixels(path: Path, size: int) -> Tensor:
    """The picture scaled and centre-cropped to uint8 `[3, size, size]`; DatasetError as for `load_image`."""
    square = ImageOps.fit(load_image(path, size), (size, size), method=Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def find_pictures(folder: Path) -> list[Path]:
    """The pictures in `folder` and its sub-folders, sorted by path, without the thumbnails that systems keep there.

    A file counts as a picture by its ending; links to other folders are not followed.
    """
    paths = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SYSTEM_FOLDERS]
        paths += [
            Path(where, name)
            for name in files
            if Path(name).suffix.lower() in PICTURE_SUFFIXES and not name.startswith("._")  # macOS's shadow files
        ]
    return sorted(paths)


def broken_pictures(paths: Sequence[Path]) -> dict[Path, DatasetError]:
    """The pictures that cannot be fully decoded, and why."""

    def fault(path: Path) -> DatasetError | None:
        try:
            load_pixels(path, 8)
        except DatasetError as error:
            return error
        return None

    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        errors = zip(paths, pool.map(fault, paths), strict=True)
        return {path: error for path, error in errors if error}
