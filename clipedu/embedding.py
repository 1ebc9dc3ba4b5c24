"""Embeddings of whole sets: pictures, texts, and a frozen encoder's features kept on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from clipedu.data.dataset import ImageTextDataset
from clipedu.data.loading import Pictures, image_batches, in_order, open_pictures
from clipedu.data.pictures import DECODING, broken_pictures
from clipedu.encoders import ImageEncoder
from clipedu.ground.environment import cache_folder
from clipedu.ground.files import whole_file
from clipedu.model import CLIP, inference
from clipedu.tokenizer import SimpleTokenizer

BATCH_SIZE = 256
CACHE_LIMIT = 4 * 2**30  # bytes


def embed_images(model: CLIP, images: Tensor | Pictures) -> Tensor:
    """Embeddings `[N, E]` on the CPU of uint8 pictures `[N, 3, S, S]`, or of features `[N, output_dim]`."""
    device = model.logit_scale.device
    batches = in_order(len(images), BATCH_SIZE)
    parts = [model.get_image_features(batch.to(device)).cpu() for batch in image_batches(images, batches)]
    return torch.cat(parts)


def embed_texts(model: CLIP, tokenizer: SimpleTokenizer, texts: Sequence[str]) -> Tensor:
    """Embeddings `[T, E]` on the CPU."""
    device = model.logit_scale.device
    # Batches of texts of similar length need less padding and half the time.
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    embedding = torch.empty(len(texts), model.shared_embedding_dim)
    for batch in in_order(len(texts), BATCH_SIZE):
        indices = [by_length[position] for position in batch]
        tokens = tokenizer([texts[index] for index in indices], padding="longest")
        features = model.get_text_features(tokens["input_ids"].to(device), tokens["attention_mask"].to(device))
        embedding[indices] = features.cpu()
    return embedding


def model_inputs(model: CLIP, dataset: ImageTextDataset) -> Tensor | Pictures:
    """The model's inputs: the dataset's pictures at its size, or features if its encoder is frozen."""
    if model.image_encoder.frozen:
        return frozen_features(model.image_encoder, dataset.image_paths(), model.image_size)
    return dataset.pictures(model.image_size)


def frozen_features(
    encoder: ImageEncoder, paths: Sequence[Path], image_size: int, *, skip_broken: bool = False
) -> Tensor:
    """The encoder's output for every picture, float32 `[N, output_dim]`: computed once, then read from disk.

    The file's name comes from the encoder, the picture size, the way of decoding and the pictures' own bytes, so that
    a change in any of them leads to new features. The files used least recently go when they exceed CACHE_LIMIT.

    Args:
        encoder: its weights stay as they are.
        paths: the pictures.
        image_size: their side in px.
        skip_broken: give pictures that cannot be decoded NaN as features, instead of raising an error.

    Raises:
        DatasetError: pictures cannot be decoded.
    """
    file = cache_folder() / f"{_key(encoder, paths, image_size)}.npy"
    features = _read_features(file, (len(paths), encoder.output_dim), skip_broken)
    if features is None:
        features = _compute_features(encoder, paths, image_size, skip_broken)
        with whole_file(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, features.numpy(), allow_pickle=False)
        _forget_oldest(file)
    return features


def _compute_features(encoder: ImageEncoder, paths: Sequence[Path], image_size: int, skip_broken: bool) -> Tensor:
    device = encoder.mean.device
    features = torch.full((len(paths), encoder.output_dim), torch.nan)
    bar = tqdm(total=len(paths), desc="features", unit="picture", leave=False, disable=None)
    with inference(encoder), bar:
        for part in in_order(len(paths), BATCH_SIZE):  # decoded in parts, each of which fits into memory
            broken = broken_pictures([paths[index] for index in part]) if skip_broken else {}
            good = [index for index in part if paths[index] not in broken]
            pictures = open_pictures([paths[index] for index in good], image_size)
            batches = in_order(len(good), 64)
            for batch, images in zip(batches, image_batches(pictures, batches), strict=True):
                features[[good[position] for position in batch]] = encoder(images.to(device)).float().cpu()
            bar.update(len(part))
    return features


def _read_features(file: Path, shape: tuple[int, int], skip_broken: bool) -> Tensor | None:
    """None if the file is missing or damaged: then the features are computed again."""
    try:
        features = torch.from_numpy(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError, TypeError):
        return None
    with suppress(OSError):  # a cache that may only be read
        os.utime(file)  # used just now
    if features.shape != shape or features.dtype != torch.float32:
        return None
    is_broken = features.isnan().all(dim=1) if skip_broken else torch.zeros(len(features), dtype=torch.bool)
    return features if features[~is_broken].isfinite().all() else None


def _forget_oldest(newest: Path) -> None:
    """Delete the files used least recently, until the others take no more than CACHE_LIMIT."""
    with suppress(OSError):  # another process may be doing the same
        files = sorted(newest.parent.glob("*.npy"), key=lambda path: path.stat().st_mtime)
        size = sum(path.stat().st_size for path in files)
        for file in files:
            if size > CACHE_LIMIT and file != newest:
                size -= file.stat().st_size
                file.unlink()


def _key(encoder: ImageEncoder, paths: Sequence[Path], image_size: int) -> str:
    digest = hashlib.sha256(f"{encoder.model_name} {image_size} {len(paths)} {DECODING}".encode())
    for tensor in (encoder.mean, encoder.std, *encoder.state_dict().values()):
        digest.update(tensor.cpu().numpy().tobytes())
    for path in paths:
        with suppress(OSError):  # decoding will say that it cannot be read
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
