"""Wrong answers to the exercises of notebook 04: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.wrong_answers import WrongAnswers


def same(ids: Tensor) -> Tensor:
    return (ids[:, None] == ids).float()


def right(p: Tensor, ids: Tensor) -> Tensor:
    return (p * same(ids)).sum(dim=1)


def cross_entropy(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)))


def both_ways(logits: Tensor) -> Tensor:
    return (cross_entropy(logits) + cross_entropy(logits.T)) / 2


def of_rows_and_columns(logits: Tensor, name: str) -> Tensor:
    return sum(getattr(logits, name)(dim=dim).diag().mean() for dim in (0, 1)) / 2


def turned_twice(logits: Tensor) -> Tensor:
    return -(logits.log_softmax(dim=0).diag().mean() + logits.T.log_softmax(dim=1).diag().mean()) / 2


def whole_table(logits: Tensor) -> Tensor:
    return -(logits.log_softmax(dim=0) + logits.log_softmax(dim=1)).mean() / 2


def bare_exponentials(logits: Tensor) -> Tensor:
    powers = logits.exp()
    return -((powers / powers.sum(dim=1, keepdim=True)).diag() * (powers / powers.sum(dim=0)).diag()).log().mean() / 2


WRONG: WrongAnswers = {
    "clip_loss": [
        ("forgets exp", "no_exp", lambda i, t, s: both_ways(s * i @ t.T)),
        ("divides by the scale", "divided", lambda i, t, s: both_ways(i @ t.T / s.exp())),
        ("bare cosines", "no_temperature", lambda i, t, s: both_ways(i @ t.T)),
        ("rows only", "image_to_text_only", lambda i, t, s: cross_entropy(s.exp() * i @ t.T)),
        ("columns only", "text_to_image_only", lambda i, t, s: cross_entropy(s.exp() * t @ i.T)),
        ("turns twice", "text_to_image_only", lambda i, t, s: turned_twice(s.exp() * i @ t.T)),
        ("adds both", "not_halved", lambda i, t, s: 2 * both_ways(s.exp() * i @ t.T)),
        ("sums the rows", "sum", lambda i, t, s: len(i) * both_ways(s.exp() * i @ t.T)),
        ("forgets the minus", "sign", lambda i, t, s: -both_ways(s.exp() * i @ t.T)),
        ("averages probabilities", "probability", lambda i, t, s: -of_rows_and_columns(s.exp() * i @ t.T, "softmax")),
        ("the whole table", "whole_table", lambda i, t, s: whole_table(s.exp() * i @ t.T)),
        ("bare exponentials", "overflow", lambda i, t, s: bare_exponentials(s.exp() * i @ t.T)),
        ("clamps the logits", "overflow", lambda i, t, s: both_ways((s.exp() * i @ t.T).clamp(-50, 50))),
        ("wraps it again", "gradient", lambda i, t, s: torch.tensor(both_ways(s.exp() * i @ t.T).item())),
        ("gives a float", "type", lambda i, t, s: both_ways(s.exp() * i @ t.T).item()),
        ("neighbours are right", "value", lambda i, t, s: both_ways(s.exp() * i @ t.roll(1, 0).T)),
    ],
    "loss_gradient": [
        ("the other way round", "sign", lambda s, t: (torch.eye(len(s)) - (s / t).softmax(dim=1)) / (t * len(s))),
        ("only pushes", "positives", lambda s, t: (s / t).softmax(dim=1) / (t * len(s))),
        ("down the columns", "axis", lambda s, t: ((s / t).softmax(dim=0) - torch.eye(len(s))) / (t * len(s))),
        ("of the sum", "mean", lambda s, t: ((s / t).softmax(dim=1) - torch.eye(len(s))) / t),
        ("on the logits", "temperature", lambda s, t: ((s / t).softmax(dim=1) - torch.eye(len(s))) / len(s)),
        ("of both", "both_directions", lambda s, t: ((s / t).softmax(1) + (s / t).softmax(0) - 2 * torch.eye(3)) / 3),
        ("softmax of bare cosines", "value", lambda s, t: (s.softmax(dim=1) - torch.eye(len(s))) / (t * len(s))),
    ],
    "text_to_image_loss": [
        ("the diagonal alone", "one_positive", lambda m, ids: -m.log_softmax(dim=0).diag().mean()),
        ("spreads the target", "spread", lambda m, ids: F.cross_entropy(m.T, F.normalize(same(ids), p=1))),
        ("multiplies the probabilities", "product", lambda m, ids: -right(m.T.log_softmax(dim=1), ids).mean()),
        ("averages", "average", lambda m, ids: -(right(m.T.softmax(1), ids) / same(ids).sum(1)).log().mean()),
        ("along the rows", "axis", lambda m, ids: -right(m.softmax(dim=1), ids).log().mean()),
        ("sums the columns", "sum", lambda m, ids: -right(m.T.softmax(dim=1), ids).log().sum()),
        ("forgets the minus", "sign", lambda m, ids: right(m.T.softmax(dim=1), ids).log().mean()),
        ("fills with 0", "value", lambda m, ids: (m.logsumexp(0) - (m * same(ids)).logsumexp(0)).mean()),
        ("compares with its place", "value", lambda m, ids: -right(m.T.softmax(1), ids.clamp(max=5)).log().mean()),
    ],
}
