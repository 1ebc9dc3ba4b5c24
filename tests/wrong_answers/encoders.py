"""Wrong answers to the exercises of notebook 02: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.wrong_answers import WrongAnswers


def attend(
    x: Tensor,
    in_weight: Tensor,
    in_bias: Tensor | None,
    out_weight: Tensor | None,
    out_bias: Tensor | None,
    heads: int,
    mask: Tensor | None,
    **options: Any,
) -> Tensor:
    """Multi-head attention token by token and head by head; the options and a None are what people get wrong."""
    count, length, width = x.shape
    size = width // heads
    names = "qkv" if not options.get("swapped") else "kqv"
    parts = dict(zip(names, F.linear(x, in_weight, in_bias).split(width, dim=-1), strict=True))
    results = []
    for head in range(heads):
        q, k, v = (parts[name][:, :, head * size : (head + 1) * size] for name in "qkv")
        if options.get("viewed"):
            q, k, v = (parts[name].reshape(count, heads, length, size)[:, head] for name in "qkv")
        scores = torch.einsum("bid,bjd->bij", q, k) / options.get("divisor", size**0.5)
        if mask is not None:
            blocked = (mask == 0)[:, :, None] if options.get("rows") else (mask == 0)[:, None]
            scores = scores.masked_fill(blocked, options.get("fill", -torch.inf))
        results.append(scores.softmax(dim=options.get("axis", 2)) @ v)
    joined = torch.stack(results, dim=1)  # (B, heads, T, D / heads)
    joined = joined if options.get("mixed") else joined.transpose(1, 2)
    return joined.reshape(x.shape) if out_weight is None else F.linear(joined.reshape(x.shape), out_weight, out_bias)


def attends(**options: Any) -> Callable[..., Tensor]:
    def answer(x: Tensor, wi: Tensor, bi: Tensor, wo: Tensor, bo: Tensor, heads: int, mask: Tensor) -> Tensor:
        given = {"in_bias": bi, "out_weight": wo, "out_bias": bo, "heads": heads, "mask": mask}
        return attend(x, wi, **{**given, **options})

    return answer


def field(layers: list[tuple[int, int]], *, own_stride: bool = False, one_stride: bool = False) -> int:
    """Layer by layer from the picture on; the options are what people get wrong."""
    seen, step = 1, 1
    for kernel, stride in layers:
        seen += (kernel - 1) * (step * stride if own_stride else step)
        step = stride if one_stride else step * stride
    return seen


def back(layers: list[tuple[int, int]], cells: int = 1) -> int:
    """From the last of these layers to the first."""
    while layers:
        *layers, (kernel, stride) = layers
        cells = stride * (cells - 1) + kernel
    return cells


WRONG: WrongAnswers = {
    "receptive_field": [
        ("adds the kernels", "sum_of_kernels", lambda layers: sum(kernel for kernel, _ in layers)),
        ("forgets the strides", "strides", lambda layers: 1 + sum(kernel - 1 for kernel, _ in layers)),
        ("walks from the first layer", "order", lambda layers: back(layers[::-1])),
        ("lets a stride work on its own layer", "own_stride", lambda layers: field(layers, own_stride=True)),
        ("knows only the stride before", "one_stride", lambda layers: field(layers, one_stride=True)),
        ("begins at 0", "start", lambda layers: back(layers, 0)),
        ("multiplies instead of adding", "value", lambda layers: max(3, 3 ** len(layers))),
        ("gives a tensor", "type", lambda layers: torch.tensor(field(layers))),
    ],
    "multi_head_attention": [
        ("divides by nothing", "not_scaled", attends(divisor=1.0)),
        ("divides by sqrt(D)", "width", attends(divisor=8**0.5)),
        ("softmax over the tokens that look", "axis", attends(axis=1)),
        ("one head", "one_head", lambda x, wi, bi, wo, bo, heads, mask: attend(x, wi, bi, wo, bo, 1, mask)),
        ("views without transposing", "split", attends(viewed=True, mixed=True)),
        ("joins without transposing", "joined", attends(mixed=True)),
        ("forgets the output projection", "no_output", attends(out_weight=None)),
        ("forgets the biases", "no_bias", attends(in_bias=None, out_bias=None)),
        ("forgets one bias", "no_bias", attends(out_bias=None)),
        ("takes keys for queries", "roles", attends(swapped=True)),
        ("forgets the mask", "no_mask", attends(mask=None)),
        ("sets masked scores to 0", "zeroed", attends(fill=0.0)),
        ("masks the rows", "nan", attends(rows=True)),
        ("gives [CLS] alone", "shape", lambda x, *rest: attends()(x, *rest)[:, 0]),
    ],
    "mean_pool": [
        ("averages padding as well", "padding", lambda hidden, mask: hidden.mean(dim=1)),
        ("sums", "sum", lambda hidden, mask: (hidden * mask.unsqueeze(-1)).sum(dim=1)),
        ("divides by T", "divisor", lambda hidden, mask: (hidden * mask.unsqueeze(-1)).mean(dim=1)),
        ("takes [CLS]", "cls", lambda hidden, mask: hidden[:, 0]),
        ("averages over the width", "shape", lambda hidden, mask: hidden.mean(dim=-1)),
        ("takes the largest", "value", lambda hidden, mask: hidden.amax(dim=1)),
        ("forgets unsqueeze", "error", lambda hidden, mask: (hidden * mask).sum(dim=1)),
        ("averages the padding alone", "nan", lambda hidden, mask: hidden.mean(dim=1) / (1 - mask).sum(dim=1) * 0),
    ],
}
