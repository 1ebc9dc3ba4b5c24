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


WRONG: WrongAnswers = {
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
