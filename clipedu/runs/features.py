"""A frozen encoder's features, kept on disk: computed once for each picture, then read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm.auto import tqdm

from clipedu.data.loading import image_batches, in_order, open_pictures
from clipedu.data.pictures import DECODING, broken_pictures
from clipedu.encoders import ImageEncoder
from clipedu.ground.environment import cache_folder
from clipedu.ground.files import cannot_write, check_writable, whole_file
from clipedu.model import inference
from clipedu.optimization import choose_precision

AT_ONCE = 256  # pictures held in memory, and on a GPU in one forward pass
FEW = 4  # pictures in one forward pass on a CPU: what the network computes then stays in the processor's cache
CACHE_LIMIT = 4 * 2**30  # bytes


def frozen_features(
    encoder: ImageEncoder, paths: Sequence[Path], image_size: int, *, skip_broken: bool = False, quiet: bool = False
) -> Tensor:
    """The encoder's output for every picture, float32 `[N, output_dim]`: computed once, then read from disk.

    A file holds the features of one set of pictures. Its name comes from the encoder, the picture size, the precision,
    the way of decoding and the pictures' own bytes, so that a change in any of them leads to new features; pictures
    that were part of another set are not decoded again. The files used least recently go when all together exceed
    CACHE_LIMIT. Of several processes that need the same features, one computes them and the others wait.

    Args:
        encoder: its weights stay as they are.
        paths: the pictures.
        image_size: their side in px.
        skip_broken: give pictures that cannot be decoded NaN as features, instead of raising an error.
        quiet: show no progress bar.

    Raises:
        DatasetError: pictures cannot be decoded.
    """
    digests = [_digest(path) for path in paths]
    key, number = _encoder_key(encoder, image_size), hashlib.sha256(" ".join(digests).encode()).hexdigest()
    file = cache_folder() / f"{key}-{number[:32]}.npz"
    features = _read_features(file, digests, encoder.output_dim, skip_broken)
    if features is None:
        with _only_one(file):  # another process may have computed them in the meantime
            features = _read_features(file, digests, encoder.output_dim, skip_broken)
            if features is None:
                features = _known_features(file.parent.glob(f"{key}-*.npz"), digests, encoder.output_dim)
                unknown = (~_is_usable(features, skip_broken)).nonzero()[:, 0].tolist()
                missing = [paths[index] for index in unknown]
                features[unknown] = _compute_features(encoder, missing, image_size, skip_broken, quiet)
                with whole_file(file) as temporary, temporary.open("wb") as stream:
                    np.savez(stream, pictures=np.array(digests), features=features.numpy())
                _forget_oldest(file)
    return features


def _compute_features(
    encoder: ImageEncoder, paths: Sequence[Path], image_size: int, skip_broken: bool, quiet: bool
) -> Tensor:
    device = encoder.mean.device
    precision = _precision(encoder)
    features = torch.full((len(paths), encoder.output_dim), torch.nan)
    # disable=None shows the bar only on a terminal.
    bar = tqdm(total=len(paths), desc="features", unit="picture", leave=False, disable=True if quiet else None)
    with inference(encoder), bar, torch.autocast(device.type, precision, enabled=precision != torch.float32):
        for part in in_order(len(paths), AT_ONCE):  # decoded in parts, each of which fits into memory
            broken = broken_pictures([paths[index] for index in part]) if skip_broken else {}
            good = [index for index in part if paths[index] not in broken]
            pictures = open_pictures([paths[index] for index in good], image_size)
            batches = in_order(len(good), FEW if device.type == "cpu" else AT_ONCE)
            for batch, images in zip(batches, image_batches(pictures, batches), strict=True):
                features[[good[position] for position in batch]] = encoder(images.to(device)).float().cpu()
            bar.update(len(part))
    return features


def _precision(encoder: ImageEncoder) -> torch.dtype:
    """On a GPU, the one that is fastest there; the features are kept in float32 in any case."""
    device = encoder.mean.device
    return choose_precision("auto", device, encoder.model_name) if device.type == "cuda" else torch.float32


def _read_features(file: Path, digests: list[str], output_dim: int, skip_broken: bool) -> Tensor | None:
    """The features of this very set; None if they are not all there."""
    pictures, features = _content(file, output_dim)
    if pictures != digests or not _is_usable(features, skip_broken).all():
        return None
    with suppress(OSError):  # a cache that may only be read
        os.utime(file)  # used just now
    return features


def _known_features(files: Iterable[Path], digests: list[str], output_dim: int) -> Tensor:
    """Those features that are in one of the files; infinite where the picture is not in any."""
    found = torch.full((len(digests), output_dim), torch.inf)
    for file in files:
        pictures, features = _content(file, output_dim)
        rows = {digest: row for row, digest in enumerate(pictures) if digest}
        known = [index for index, digest in enumerate(digests) if digest in rows]
        found[known] = features[[rows[digests[index]] for index in known]]
    return found


def _content(file: Path, output_dim: int) -> tuple[list[str], Tensor]:
    """The pictures' digests and their features; nothing if the file is missing or damaged."""
    with suppress(OSError, ValueError, EOFError, TypeError, KeyError, BadZipFile):
        with np.load(file, allow_pickle=False) as content:
            pictures, features = content["pictures"].tolist(), torch.from_numpy(content["features"])
        if features.shape == (len(pictures), output_dim) and features.dtype == torch.float32:
            return pictures, features
    return [], torch.empty(0, output_dim)


def _is_usable(features: Tensor, skip_broken: bool) -> Tensor:
    """For each picture: are its features finite, or all NaN where a broken picture may be skipped?"""
    is_finite = features.isfinite().all(dim=1)
    return is_finite | features.isnan().all(dim=1) if skip_broken else is_finite


@contextmanager
def _only_one(file: Path) -> Iterator[None]:
    """One process at a time computes features."""
    check_writable(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file.parent / ".lock").acquire()
    except OSError as error:
        raise cannot_write(file, error) from error
    with lock:
        yield


def _forget_oldest(newest: Path) -> None:
    """Delete the files used least recently, until the others take no more than CACHE_LIMIT."""
    with suppress(OSError):  # another process may be reading one
        files = sorted(newest.parent.glob("*.np[yz]"), key=lambda path: path.stat().st_mtime)
        size = sum(path.stat().st_size for path in files)
        for file in files:
            if size > CACHE_LIMIT and file != newest:
                size -= file.stat().st_size
                file.unlink()


def _digest(path: Path) -> str:
    """A number for the file's bytes; "" if it cannot be read, which decoding will say."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _encoder_key(encoder: ImageEncoder, image_size: int) -> str:
    described = f"{encoder.model_name} {encoder.deep} {image_size} {DECODING} {_precision(encoder)}"
    digest = hashlib.sha256(described.encode())
    for tensor in (encoder.mean, encoder.std, *encoder.state_dict().values()):
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:32]
