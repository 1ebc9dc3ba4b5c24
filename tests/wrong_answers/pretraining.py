"""Wrong answers to the exercises of notebook 06: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.wrong_answers import WrongAnswers

Groups = list[dict[str, Any]]


def drift_by(measure: Callable[[Tensor, Tensor], Any]) -> Callable[..., Any]:
    return lambda a, b: {name: measure(a[name], b[name]) for name in a if a[name].is_floating_point()}


def by_part(model: Any, image_lr: float, lr: float, prefix: str = "image_encoder", frozen: bool = False) -> Groups:
    groups: Groups = [{"params": [], "lr": lr}, {"params": [], "lr": image_lr}]
    for name, parameter in model.named_parameters():
        if frozen or parameter.requires_grad:
            groups[name.startswith(prefix)]["params"].append(parameter)
    return groups


def rate(step: int, total: int, warmup: int, peak: float) -> float:
    return peak * (step + 1) / warmup if step < warmup else peak * half_cosine((step - warmup) / (total - warmup))


def half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


WRONG: WrongAnswers = {
    "drift": [
        ("absolute", "absolute", drift_by(lambda a, b: (b - a).norm())),
        ("by the new norm", "new_norm", drift_by(lambda a, b: ((b - a).norm() / b.norm()).item())),
        ("counts batches", "integers", lambda a, b: {n: (1.0 * b[n] - a[n]).norm() / (1.0 * a[n]).norm() for n in a}),
        ("norm of an integer", "error", lambda a, b: {n: ((b[n] - a[n]).norm() / a[n].norm()).item() for n in a}),
        ("subtracts the norms", "difference_of_norms", drift_by(lambda a, b: (b.norm() - a.norm()).abs() / a.norm())),
        ("forgets the root", "squared", drift_by(lambda a, b: (b - a).pow(2).sum() / a.pow(2).sum())),
        ("each element", "not_one_number", drift_by(lambda a, b: (b - a).abs() / a.norm())),
        ("average of elements", "value", drift_by(lambda a, b: (b - a).abs().mean().item())),
        ("the weights alone", "names", lambda a, b: {n: (b[n] - a[n]).norm() for n in a if "weight" in n}),
        ("as a list", "type", lambda a, b: [(b[n] - a[n]).norm() / a[n].norm() for n in a if "num" not in n]),
    ],
    "parts": [
        ("one rate for all", "one_rate", lambda m, lr, scale: by_part(m, lr, lr)),
        ("divides", "divided", lambda m, lr, scale: by_part(m, lr / scale, lr)),
        ("the wrong way round", "swapped", lambda m, lr, scale: by_part(m, lr, lr * scale)),
        ("all that is called image", "projection", lambda m, lr, scale: by_part(m, lr * scale, lr, "image")),
        ("only one encoder", "missing", lambda m, lr, scale: by_part(m.image_encoder, lr, lr * scale)),
        ("frozen ones too", "frozen", lambda m, lr, scale: by_part(m, lr * scale, lr, frozen=True)),
        ("an encoder twice", "twice", lambda m, lr, s: by_part(m.image_encoder, lr, lr * s) + by_part(m, lr, lr)),
        ("takes the rate for the factor", "value", lambda m, lr, scale: by_part(m, scale, lr)),
        ("names", "foreign", lambda m, lr, scale: [{"params": list(dict(m.named_parameters())), "lr": lr}]),
        ("copies", "foreign", lambda m, lr, scale: [{"params": [p.clone() for p in m.parameters()], "lr": lr}]),
        ("compares tensors", "error", lambda m, lr, scale: [p for p in m.parameters() if p in [*m.parameters()][1:]]),
        ("no rates", "key", lambda m, lr, scale: [{"params": list(m.parameters())}]),
        ("one group", "type", lambda m, lr, scale: {"params": list(m.parameters()), "lr": lr}),
        ("the optimizer", "type", lambda m, lr, scale: torch.optim.AdamW(by_part(m, lr * scale, lr))),
    ],
}
