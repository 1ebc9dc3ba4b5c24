"""Embeddings of whole sets: pictures, texts, and a frozen encoder's features kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from clipedu.data.dataset import ImageTextDataset
from clipedu.data.loading import Pictures, image_batches, in_order, open_pictures
from clipedu.encoders import ImageEncoder
from clipedu.ground.environment import cache_folder
from clipedu.ground.files import whole_file
from clipedu.model import CLIP, inference
from clipedu.tokenizer import SimpleTokenizer

BATCH_SIZE = 256


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


def frozen_features(encoder: ImageEncoder, paths: Sequence[Path], image_size: int) -> Tensor:
    """The encoder's output for every picture, float32 `[N, output_dim]`: computed once, then read from disk.

    The file's name comes from the encoder's weights, the picture size and the pictures' own bytes, so that a change
    in any of them leads to new features.
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
        for part in in_order(len(paths), BATCH_SIZE):  # decoded in parts, each of which fits into memory
            pictures = open_pictures([paths[index] for index in part], image_size)
            for images in image_batches(pictures, in_order(len(pictures), 64)):
                parts.append(encoder(images.to(device)).float().cpu())
                bar.update(len(images))
    return torch.cat(parts)


def _read_features(file: Path, count: int, dim: int) -> Tensor | None:
    """None if the file is missing or damaged: then the features are computed again."""
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
