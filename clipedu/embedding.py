"""Embeddings of whole sets: pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipedu.data.dataset import ImageTextDataset
from clipedu.data.loading import Pictures, image_batches, in_order
from clipedu.model import CLIP
from clipedu.runs.features import frozen_features
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


def model_inputs(model: CLIP, dataset: ImageTextDataset, quiet: bool = False) -> Tensor | Pictures:
    """The model's inputs: the dataset's pictures at its size, or features if its encoder is frozen."""
    if model.image_encoder.frozen:
        return frozen_features(model.image_encoder, dataset.image_paths(), model.image_size, quiet=quiet)
    return dataset.pictures(model.image_size)
