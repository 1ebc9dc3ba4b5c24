"""Wrong answers to the exercises of notebook 02: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

import torch

from tests.wrong_answers import WrongAnswers


def field(layers: list[tuple[int, int]], own_stride: bool = False) -> int:
    seen, jump = 1, 1
    for kernel, stride in layers:
        seen += (kernel - 1) * jump * (stride if own_stride else 1)
        jump *= stride
    return seen


WRONG: WrongAnswers = {
    "output_size": [
        ("divides with /", "float", lambda size, k, s, p: (size + 2 * p - k) / s + 1),
        ("forgets the first place", "minus_one", lambda size, k, s, p: (size + 2 * p - k) // s),
        ("rounds up", "plus_one", lambda size, k, s, p: -((size + 2 * p - k) // -s) + 1),
        ("forgets the kernel", "value", lambda size, k, s, p: (size + 2 * p) // s),
        ("forgets the stride", "value", lambda size, k, s, p: size + 2 * p - k + 1),
        ("divides by the stride alone", "value", lambda size, k, s, p: size // s),
        ("pads one side only", "minus_one", lambda size, k, s, p: (size + p - k) // s + 1),
        ("gives a str", "type", lambda size, k, s, p: str((size + 2 * p - k) // s + 1)),
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
    "receptive_field": [
        ("adds the kernels", "sum_of_kernels", lambda layers: sum(kernel for kernel, _ in layers)),
        ("forgets the strides", "strides", lambda layers: 1 + sum(kernel - 1 for kernel, _ in layers)),
        ("lets a stride work on its own layer", "value", lambda layers: field(layers, own_stride=True)),
        ("begins at 0", "value", lambda layers: field(layers) - 1),
        ("multiplies instead of adding", "value", lambda layers: max(3, 3 ** len(layers))),
        ("gives a tensor", "type", lambda layers: torch.tensor(field(layers))),
    ],
}
