"""What a notebook goes on with where a reader's own function is not finished: the same results, by other means."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipedu import evaluation
from clipedu.model import compute_similarity


def attention(
    x: Tensor, in_weight: Tensor, in_bias: Tensor, out_weight: Tensor, out_bias: Tensor, heads: int, mask: Tensor
) -> Tensor:
    """Multi-head attention as PyTorch computes it: `[B, T, D]` to `[B, T, D]`; `mask` `[B, T]` is 0 at padding."""
    by_position = x.transpose(0, 1)  # (T, B, D), the order that this function of PyTorch expects
    result, _ = F.multi_head_attention_forward(
        by_position,
        by_position,
        by_position,
        x.shape[-1],
        heads,
        in_weight,
        in_bias,
        None,
        None,
        False,
        0.0,
        out_weight,
        out_bias,
        training=False,
        key_padding_mask=mask == 0,
        need_weights=False,
    )
    return result.transpose(0, 1)


def receptive_field(layers: list[tuple[int, int]]) -> int:
    """How many pixels wide a cell of the last layer sees; `(kernel, stride)` of each layer, first layer first."""
    seen, step = 1, 1
    for kernel, stride in layers:
        seen, step = seen + (kernel - 1) * step, step * stride
    return seen


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """`[B, T, D]` to `[B, D]`: the mean over the tokens that are not padding."""
    return torch.stack([sentence[mask == 1].mean(dim=0) for sentence, mask in zip(hidden, attention_mask, strict=True)])


def text_to_image_loss(logits: Tensor, caption_ids: Tensor) -> Tensor:
    """The loss down the columns of `logits` `[B, B]`; every picture whose caption has the same id is right."""
    losses = []
    for column, number in zip(logits.T, caption_ids, strict=True):
        right = column[caption_ids == number]
        losses.append(column.logsumexp(dim=0) - right.logsumexp(dim=0))
    return torch.stack(losses).mean()


def normalize(x: Tensor) -> Tensor:
    """Length 1 along the last axis; a zero vector stays zero."""
    return F.normalize(x, dim=-1)


def clip_similarity(image_features: Tensor, text_features: Tensor, W_image: Tensor, W_text: Tensor) -> Tensor:
    """`[I, D_image]` and `[T, D_text]`, projected by `[E, D_image]` and `[E, D_text]`: their cosines, `[I, T]`."""
    return compute_similarity(F.linear(image_features, W_image), F.linear(text_features, W_text))


def best_images(similarity: Tensor, k: int) -> Tensor:
    """`[I, T]` to `[T, k]`: the numbers of the k nearest images of each text, nearest first."""
    return similarity.T.argsort(dim=1, descending=True)[:, :k]


def recall_at_k(similarity: Tensor, text_to_image: Tensor, k: int) -> tuple[float, float]:
    """Recall at k, image to text and text to image."""
    scores = evaluation.recall_at_k(similarity, text_to_image, (k,))
    return scores[f"i2t_R@{k}"], scores[f"t2i_R@{k}"]


def verdict(train_losses: list[float], val_losses: list[float], rates: list[float]) -> str:
    """What the end of two loss curves says: `overfitting`, `learning`, `schedule over` or `plateau`."""
    if val_losses[-1] > min(val_losses) + 0.1:
        return "overfitting"
    if val_losses[-1] < val_losses[-2] - 0.05:
        return "learning"
    return "schedule over" if rates[-1] < 0.05 * max(rates) else "plateau"


def drift(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, float]:
    """||w - w0|| / ||w0|| of every floating-point tensor, by name."""
    floats = {name: w for name, w in before.items() if w.is_floating_point()}
    return {name: ((after[name] - w).norm() / w.norm()).item() for name, w in floats.items()}


def index_recall(found: Tensor, exact: Tensor) -> float:
    """Share of the exact neighbours `[Q, k]` that are in the same row of those found."""
    return sum(torch.isin(right, row).float().mean().item() for right, row in zip(exact, found, strict=True)) / len(
        exact
    )
