"""Wrong answers to the exercises of notebook 05: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.wrong_answers import WrongAnswers

Groups = list[dict[str, Any]]


def rate(step: int, total: int, warmup: int, peak: float) -> float:
    return peak * (step + 1) / warmup if step < warmup else peak * half_cosine((step - warmup) / (total - warmup))


def half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def groups_by(is_spared: Callable[[str, nn.Parameter], bool]) -> Callable[..., Groups]:
    def split(model: nn.Module, decay: float) -> Groups:
        groups: Groups = [{"params": [], "weight_decay": decay}, {"params": [], "weight_decay": 0.0}]
        for name, parameter in model.named_parameters():
            groups[is_spared(name, parameter)]["params"].append(parameter)
        return groups

    return split


spare_vectors = groups_by(lambda name, p: p.ndim <= 1)


def mean_of_both(logits: Tensor) -> Tensor:
    right = torch.arange(len(logits))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def step_of(order: str = "zero backward clip step clamp", **changed: Callable[[Tensor], Any]) -> Callable[..., Any]:
    """A training step with its parts in this order, and its scale, loss or return value replaced."""
    use: dict[str, Any] = {"scale": torch.exp, "loss": mean_of_both, "answer": Tensor.item, **changed}

    def step(model: Any, optimizer: Any, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Any:
        image_embedding, text_embedding = model(images, input_ids, attention_mask)
        loss = use["loss"](use["scale"](model.logit_scale) * image_embedding @ text_embedding.T)
        parts = {
            "zero": optimizer.zero_grad,
            "backward": loss.backward,
            "clip": lambda: nn.utils.clip_grad_norm_(model.parameters(), 1.0),
            "clip_value": lambda: nn.utils.clip_grad_value_(model.parameters(), 0.01),
            "step": optimizer.step,
            "clamp": model.clamp_logit_scale,
        }
        for part in order.split():
            parts[part]()
        return use["answer"](loss)

    return step


def same(ids: Tensor) -> Tensor:
    return (ids[:, None] == ids).float()


def right(p: Tensor, ids: Tensor) -> Tensor:
    return (p * same(ids)).sum(dim=1)


WRONG: WrongAnswers = {
    "learning_rate": [
        ("begins with 0", "zero_first_step", lambda s, n, w, p: p * s / w if s < w else rate(s, n, w, p)),
        ("no warm-up", "warm_up", lambda s, n, w, p: p * half_cosine(s / n)),
        ("the peak a step late", "warm_up", lambda s, n, w, p: p * (s + 1) / (w + 1) if s < w else rate(s, n, w, p)),
        ("never halves", "half", lambda s, n, w, p: rate(s, n, w, p) * (1 if s < w else 2)),
        ("cosine alone", "negative", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * (2 * rate(s, n, w, 1) - 1)),
        ("cosine from 0", "offset", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * half_cosine(s / n)),
        ("over all steps", "end", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * half_cosine((s - w) / n)),
        ("a line down", "shape", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * (1 - (s - w) / (n - w))),
        ("forgets the peak", "peak", lambda s, n, w, p: rate(s, n, w, 1.0)),
        ("divides by 0", "no_warm_up", lambda s, n, w, p: min(p * (s + 1) / w, rate(s, n, w, p))),
        ("gives a tensor", "type", lambda s, n, w, p: torch.tensor(rate(s, n, w, p))),
    ],
    "parameter_groups": [
        ("all in one", "vectors", lambda model, wd: [{"params": list(model.parameters()), "weight_decay": wd}]),
        ("no decay", "no_decay", lambda model, wd: [{"params": list(model.parameters()), "weight_decay": 0.0}]),
        ("biases by name", "by_name", groups_by(lambda name, p: "bias" in name or "bn" in name or "norm" in name)),
        ("biases only", "vectors", groups_by(lambda name, p: "bias" in name)),
        ("forgets logit_scale", "logit_scale", groups_by(lambda name, p: p.ndim == 1 or "position_emb" in name)),
        ("forgets positions", "positions", spare_vectors),
        ("spares kernels", "matrices", groups_by(lambda name, p: p.ndim != 2 or "position_embedding" in name)),
        ("spares the text", "matrices", groups_by(lambda name, p: p.ndim <= 1 or name.startswith("text"))),
        ("its own decay", "value", lambda model, _: spare_vectors(model, 0.05)),
        ("matrices alone", "missing", lambda model, wd: spare_vectors(model, wd)[:1]),
        ("says no decay", "key", lambda model, wd: [{"params": list(model.parameters())}]),
        ("names", "foreign", lambda model, wd: [{"params": list(dict(model.named_parameters())), "weight_decay": wd}]),
        ("twice", "twice", lambda model, wd: 2 * spare_vectors(model, wd)),
        ("a generator", "type", lambda model, wd: model.parameters()),
    ],
    "training_step": [
        ("zero_grad after backward", "erased", step_of("backward zero clip step clamp")),
        ("no zero_grad", "zero_grad", step_of("backward clip step clamp")),
        ("no backward", "no_backward", step_of("zero clip step clamp")),
        ("no step", "no_step", step_of("zero backward clip clamp")),
        ("step before backward", "step_first", step_of("step zero backward clip clamp")),
        ("no clipping", "not_clipped", step_of("zero backward step clamp")),
        ("clips before backward", "not_clipped", step_of("zero clip backward step clamp")),
        ("clips after step", "not_clipped", step_of("zero backward step clip clamp")),
        ("clips each number", "weights", step_of("zero backward clip_value step clamp")),
        ("no clamp", "no_clamp", step_of("zero backward clip step")),
        ("images to texts only", "one_direction", step_of(loss=lambda m: -m.log_softmax(dim=1).diag().mean())),
        ("the other axis only", "one_direction", step_of(loss=lambda m: -m.log_softmax(dim=0).diag().mean())),
        ("adds both", "sum", step_of(loss=lambda m: 2 * mean_of_both(m))),
        ("no exp", "no_exp", step_of(scale=lambda scale: scale)),
        ("divides by the scale", "value", step_of(scale=lambda scale: 1 / scale.exp())),
        ("sums over the batch", "value", step_of(loss=lambda m: len(m) * mean_of_both(m))),
        ("gives a tensor", "type", step_of(answer=lambda loss: loss)),
    ],
}
