"""Pictures: decoded as a viewer shows them, held in memory or streamed, and dealt out in batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clipedu.errors import DatasetError, fault_report

MEMORY_LIMIT = 2**30  # bytes: decoded pictures up to this size are held in memory
MAX_PIXELS = 100_000_000  # a larger picture is a mistake or an attack
IMAGE_SIZES = range(32, 1025)  # px of a model's square pictures; at 16, oneDNN leaves bf16 gradients unwritten


def load_image(path: Path, size: int | None = None) -> Image.Image:
    """The picture in RGB as a viewer shows it: turned by its EXIF tag, transparency on white, 16 bits as 8.

    With `size`, a JPEG far larger than size x size px may come out smaller: that is several times quicker to decode.
    """
    try:
        with Image.open(path) as file:
            if file.size[0] * file.size[1] > MAX_PIXELS:
                raise OSError(f"{file.size[0]} x {file.size[1]} pixels")
            if size:
                file.draft("RGB", (2 * size, 2 * size))
            ImageOps.exif_transpose(file, in_place=True)
            deep = file.mode.startswith(("I", "F")) and bool(np.asarray(file).max() > 255)
            shown = Image.new("RGB", file.size)
            rows = max(1, 2**22 // file.width)  # a part at a time: of 100 million pixels every copy is 400 MB
            for top in range(0, file.height, rows):
                part = file.crop((0, top, file.width, min(top + rows, file.height)))
                shown.paste(_flat(part, deep), (0, top))
            return shown
    except Exception as error:  # each format's decoder has its own ways to fail on damaged bytes
        raise DatasetError(
            f"图片 {path} 损坏或不完整（{error}）；请替换它，或从 dataset.json 中删去",
            f"picture {path} is damaged or cut off ({error}); replace it or take it out of dataset.json",
        ) from error


def _flat(image: Image.Image, deep: bool) -> Image.Image:
    """RGB on white; `deep` says that the values of a picture with one number per pixel go up to 65,535."""
    if image.mode.startswith(("I", "F")):
        pixels = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((pixels / (257 if deep else 1)).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def load_pixels(path: Path, size: int) -> Tensor:
    """The picture scaled and centre-cropped to uint8 `[3, size, size]`."""
    square = ImageOps.fit(load_image(path, size), (size, size), method=Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


class Pictures(Dataset["Tensor | DatasetError"]):
    """Pictures of one size, decoded when asked for."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.paths, self.size = list(paths), size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor | DatasetError:
        try:
            return load_pixels(self.paths[index], self.size)
        except DatasetError as error:
            return error  # raised in a loading process it would reach the reader as a traceback


def open_pictures(paths: Sequence[Path], size: int) -> Tensor | Pictures:
    """uint8 `[N, 3, size, size]` in memory where that is small; else `Pictures`, to be streamed."""
    pictures = Pictures(paths, size)
    if len(paths) * 3 * size * size > MEMORY_LIMIT:
        return pictures
    with torch.inference_mode(False):  # else a caller's inference mode would forbid the threads to write
        held = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)

    def decode(index: int) -> DatasetError | None:
        picture = pictures[index]
        if isinstance(picture, DatasetError):
            return picture
        held[index] = picture
        return None

    with ThreadPoolExecutor() as pool:  # decoding releases Python's lock
        faults = [str(fault) for fault in pool.map(decode, range(len(paths))) if fault]
    if faults:
        raise fault_report(Path("images"), faults)
    return held


def image_batches(pictures: Tensor | Pictures, batches: list[list[int]]) -> Iterator[Tensor]:
    """The pictures (or features) of each batch of indices, in that order."""
    if isinstance(pictures, Tensor):
        for indices in batches:
            yield pictures[torch.as_tensor(indices)]
        return
    workers = min(8, os.cpu_count() or 1)
    # A generator of its own keeps the loader from drawing on the random numbers that training uses.
    loader = DataLoader(
        pictures, batch_sampler=batches, num_workers=workers, collate_fn=list, generator=torch.Generator()
    )
    for batch in loader:
        yield _stack(batch)


def _stack(pictures: list[Tensor | DatasetError]) -> Tensor:
    faults = [str(picture) for picture in pictures if isinstance(picture, DatasetError)]
    if faults:
        raise fault_report(Path("images"), faults)
    return torch.stack([picture for picture in pictures if isinstance(picture, Tensor)])


def broken_pictures(paths: Sequence[Path]) -> dict[Path, DatasetError]:
    """Those that cannot be decoded to their end, and why."""
    with ThreadPoolExecutor() as pool:
        found = zip(paths, pool.map(Pictures(paths, 8).__getitem__, range(len(paths))), strict=True)
        return {path: picture for path, picture in found if isinstance(picture, DatasetError)}


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """A fresh order of 0..count-1 for each epoch, cut into full batches; what is left over comes up another time."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator)[: count - count % batch_size]
    return order.view(-1, batch_size).tolist()


def in_order(count: int, batch_size: int) -> list[list[int]]:
    """0..count-1 in batches, the last one perhaps smaller."""
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
