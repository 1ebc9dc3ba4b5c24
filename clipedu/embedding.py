"""Embeddings of whole sets: pictures, texts, and a frozen encoder's features kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from clipedu.encoders import ImageEncoder
from clipedu.environment import cache_folder
from clipedu.files import whole_file
from clipedu.model import CLIP, inference
from clipedu.pictures import Pictures, image_batches, in_order, open_pictures
from clipedu.tokenizer import SimpleTokenizer

BATCH_SIZE = 256


def embed_images(model: CLIP, pictures: Tensor | Pictures) -> Tensor:
    """Embeddings `[N, E]` on the CPU of uint8 pictures `[N, 3, S, S]`, or of features `[N, output_dim]`."""
    device = model.logit_scale.device
    batches = in_order(len(pictures), BATCH_SIZE)
    parts = [model.get_image_features(images.to(device)).cpu() for images in image_batches(pictures, batches)]
    return torch.cat(parts)


def embed_texts(model: CLIP, tokenizer: SimpleTokenizer, texts: Sequence[str]) -> Tensor:
    """Embeddings `[T, E]` on the CPU."""
    device = model.logit_scale.device
    # Texts of like length go together: less padding, half the time.
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    embedding = torch.empty(len(texts), model.shared_embedding_dim)
    for batch in in_order(len(texts), BATCH_SIZE):
        indices = [by_length[place] for place in batch]
        tokens = tokenizer([texts[index] for index in indices], padding="longest")
        features = model.get_text_features(tokens["input_ids"].to(device), tokens["attention_mask"].to(device))
        embedding[indices] = features.cpu()
    return embedding


def frozen_features(encoder: ImageEncoder, paths: Sequence[Path], image_size: int) -> Tensor:
    """The encoder's output for every picture, float32 `[N, output_dim]`: computed once, then read from disk.

    The file's name is made of the encoder's weights, the picture size and the pictures' own bytes, so that a change
    in any of them is never overlooked.
    """
    file = cache_folder() / f"{_key(encoder, paths, image_size)}.npy"
    features = _read_features(file, len(paths), encoder.output_dim)
    if features is None:
        features = _compute_features(encoder, paths, image_size)
        with whole_file(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, features.numpy(), allow_pickle=False)
    return features


def _compute_features(encoder: ImageEncoder, paths: Sequence[Path], image_size: int) -> Tensor:
    device = encoder.mean.device
    parts = []
    bar = tqdm(total=len(paths), desc="features", unit="picture", leave=False, disable=None)
    with inference(encoder), bar:
        for start in range(0, len(paths), 1024):  # decoded a part at a time, for the sake of memory
            pictures = open_pictures(paths[start : start + 1024], image_size)
            for images in image_batches(pictures, in_order(len(pictures), 64)):
                parts.append(encoder(images.to(device)).float().cpu())
                bar.update(len(images))
    return torch.cat(parts)


def _read_features(file: Path, count: int, dim: int) -> Tensor | None:
    """None where the file is missing or damaged: then the features are computed again."""
    try:
        features = torch.from_numpy(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError, TypeError):
        return None
    is_whole = features.shape == (count, dim) and features.dtype == torch.float32 and bool(features.isfinite().all())
    return features if is_whole else None


def _key(encoder: ImageEncoder, paths: Sequence[Path], image_size: int) -> str:
    digest = hashlib.sha256(f"{encoder.model_name} {image_size} {len(paths)}".encode())
    for tensor in encoder.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
