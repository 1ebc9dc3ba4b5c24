"""The model that several benchmarks train: a ResNet-18 and one text layer, both from random weights."""

from __future__ import annotations

import torch

from clipedu import CLIP, ImageEncoder, ImageTextDataset, SimpleTokenizer, TextEncoder


def from_scratch(train_set: ImageTextDataset, seed: int) -> tuple[CLIP, SimpleTokenizer]:
    """The model, the same for the same seed, and a tokenizer with the words of `train_set`."""
    tokenizer = SimpleTokenizer()
    tokenizer.build_vocab(train_set.all_captions()[0])
    torch.manual_seed(seed)
    text_encoder = TextEncoder(len(tokenizer), num_layers=1, pooling="mean")
    return CLIP(ImageEncoder("resnet18", pretrained=False), text_encoder), tokenizer
