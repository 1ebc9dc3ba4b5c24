"""Decodes pictures as an image viewer shows them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from clipedu.ground.errors import DatasetError

try:
    import pillow_heif
except ImportError:  # then the photos of iPhones are named with the advice to install it
    pass
else:
    pillow_heif.register_heif_opener()

MAX_PIXELS = 250_000_000  # phones reach 200 million; a larger picture is a mistake or an attack
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit would refuse phones' photos
# Pillow's remarks on large pictures and odd EXIF tags are for programmers; `_use` refuses what cannot be shown.
warnings.filterwarnings("ignore", module=r"PIL\.(Image|\w+ImagePlugin)$")

DECODING = 1  # goes up when the same file would give other pixels, so that features on disk are computed again
IMAGE_SIZES = range(32, 1025)  # px of a model's square pictures; at 16, oneDNN leaves bf16 gradients unwritten

Image.init()
# The formats that hold photos and drawings. Others would start programs (EPS) or aren't pictures (HDF5, MPEG).
_NAMES = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA", "ICO", "AVIF", "HEIF")
_FORMATS = [name for name in _NAMES if name in Image.OPEN]
PICTURE_SUFFIXES = {suffix for suffix, name in Image.registered_extensions().items() if name in _NAMES}

_HEIF = "要 pip install pillow-heif", "need pip install pillow-heif"
_CONVERT = "要先转换成 JPEG 或 PNG", "must be converted to JPEG or PNG first"
_NOT_READ = {  # pictures that may not be readable here, by their endings, and what to do
    ".heic": _HEIF, ".heics": _HEIF, ".heif": _HEIF, ".heifs": _HEIF, ".hif": _HEIF,
    ".avif": ("要 pip install -U pillow", "need pip install -U pillow"),
    ".dng": _CONVERT, ".cr2": _CONVERT, ".cr3": _CONVERT, ".nef": _CONVERT, ".arw": _CONVERT, ".raf": _CONVERT,
    ".orf": _CONVERT, ".rw2": _CONVERT, ".pef": _CONVERT, ".srw": _CONVERT, ".jxl": _CONVERT, ".svg": _CONVERT,
    ".psd": _CONVERT, ".psb": _CONVERT, ".xcf": _CONVERT, ".livp": _CONVERT,
}  # fmt: skip
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"}

_LARGE, _STRIP = 2**24, 2**22  # pixels: a larger picture is reduced strip by strip, to limit memory
_TURNS = {  # how a picture is to be turned for each value of its orientation tag
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_Result = TypeVar("_Result")


def load_image(path: Path, size: int | None = None) -> Image.Image:
    """The picture in RGB as a viewer shows it: rotated by its EXIF tag, transparency on white, 16 bits reduced to 8.

    With `size`, a picture far larger than size x size px may come out smaller, which takes less time and memory.

    Raises:
        DatasetError: the picture is damaged, cut off, too large, or of a format that cannot be read here.
    """

    def decode(file: ImageFile.ImageFile) -> Image.Image:
        if size:
            file.draft("RGB", (2 * size, 2 * size))
        file.load()
        turn = _TURNS.get(_orientation(file))
        image = _rgb_on_white(file, size)
        return image if turn is None else image.transpose(turn)

    return _use(path, decode)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height from the file's header; DatasetError as for `load_image`."""
    return _use(path, lambda file: file.size)


def _use(path: Path, read: Callable[[ImageFile.ImageFile], _Result]) -> _Result:
    """What `read` makes of the opened picture; DatasetError for whatever is wrong with it."""

    def read_from(source: Path | BytesIO) -> _Result:
        with Image.open(source, formats=_FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{file.width} x {file.height} pixels")
            return read(file)

    try:
        try:
            return read_from(path)
        # Pillow says so of a PNG with more than 1 MB of text, or with a wrong checksum there.
        except (ValueError, UnidentifiedImageError):
            data = path.read_bytes()
            if not data.startswith(b"\x89PNG"):
                raise
            return read_from(BytesIO(_without_text(data)))
    except Exception as error:  # each format's decoder fails on damaged bytes in its own way
        raise _fault(path, error) from error


def _without_text(data: bytes) -> bytes:
    """A PNG without its texts and colour profile."""
    kept, position = [data[:8]], 8
    while position < len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _fault(path: Path, error: Exception) -> DatasetError:
    if isinstance(error, Image.DecompressionBombError):
        return DatasetError(
            f"图片 {path} 太大（{error}）：最多 {MAX_PIXELS:,} 像素；请缩小它",
            f"picture {path} is too large ({error}): at most {MAX_PIXELS:,} pixels; make it smaller",
        )
    if isinstance(error, MemoryError):
        return DatasetError(
            f"内存不够，打不开图片 {path}；请缩小它", f"too little memory for picture {path}; make it smaller"
        )
    if isinstance(error, OSError) and error.errno:
        return DatasetError(f"无法读取图片 {path}：{error.strerror}", f"cannot read picture {path}: {error.strerror}")
    if isinstance(error, UnidentifiedImageError) and (advice := _advice(path)):
        return DatasetError(f"图片 {path} {advice[0]}", f"pictures like {path} {advice[1]}")
    reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
    return DatasetError(
        f"图片 {path} 损坏或不完整（{reason}）；请替换它，或从 dataset.json 中删去",
        f"picture {path} is damaged or cut off ({reason}); replace it or remove it from dataset.json",
    )


def _advice(path: Path) -> tuple[str, str] | None:
    """What to do about a format that cannot be read here; a HEIC file is one even if it is called .jpg."""
    with path.open("rb") as file:
        head = file.read(12)
    is_heif = head[4:8] == b"ftyp" and head[8:] in _HEIF_BRANDS
    suffix = ".heic" if is_heif else path.suffix.lower()
    return None if suffix in PICTURE_SUFFIXES else _NOT_READ.get(suffix)


def _orientation(file: ImageFile.ImageFile) -> int:
    """The EXIF tag alone: `ImageOps.exif_transpose` writes all tags back, and fails on those it cannot write."""
    try:
        value = file.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF says nothing about the pixels
        value = None
    return value if isinstance(value, int) else 1


def _rgb_on_white(image: Image.Image, size: int | None) -> Image.Image:
    scale = 1
    if image.mode.startswith(("I", "F")):  # one number per pixel, of 8 or 16 bits
        scale = 257 if np.asarray(image).max() > 255 else 1
    if image.width * image.height <= _LARGE:
        return _compose(image, scale)
    factor = max(1, min(image.size) // (2 * size)) if size else 1
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    rows = factor * max(1, _STRIP // (image.width * factor))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        small.paste(_compose(strip, scale).reduce(factor), (0, top // factor))
    return small


def _compose(image: Image.Image, scale: int) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        pixels = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((pixels / scale).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def load_pixels(path: Path, size: int) -> Tensor:
    """The picture scaled and centre-cropped to uint8 `[3, size, size]`; DatasetError as for `load_image`."""
    square = ImageOps.fit(load_image(path, size), (size, size), method=Image.Resampling.BICUBIC)
    # Rearranged by NumPy: torch's threads do not survive the fork of a loading process.
    return torch.from_numpy(np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1)))


def find_pictures(folder: Path, left_out: dict[str, list[str]] | None = None) -> list[Path]:
    """The pictures in `folder` and its sub-folders, sorted by path, without the thumbnails that systems keep there.

    A file counts as a picture by its ending; links to other folders are not followed. Pictures whose format cannot be
    read here are named in `left_out`, by reason.
    """
    paths = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SYSTEM_FOLDERS]
        for path in (Path(where, name) for name in sorted(files) if not name.startswith("._")):  # macOS's shadow files
            suffix = path.suffix.lower()
            if suffix in PICTURE_SUFFIXES:
                paths.append(path)
            elif left_out is not None and suffix in _NOT_READ:
                left_out.setdefault(" | ".join(_NOT_READ[suffix]), []).append(str(path))
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
