"""Wrong answers to the exercises of notebook 04: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.wrong_answers import WrongAnswers


def same(ids: Tensor) -> Tensor:
    return (ids[:, None] == ids).float()


def right(p: Tensor, ids: Tensor) -> Tensor:
    return (p * same(ids)).sum(dim=1)


WRONG: WrongAnswers = {
    "row_loss": [
        ("forgets the minus", "sign", lambda c, p, t: (c / t).log_softmax(dim=0)[p]),
        ("gives the probability", "probability", lambda c, p, t: (c / t).softmax(dim=0)[p]),
        ("forgets the temperature", "no_temperature", lambda c, p, t: -c.log_softmax(dim=0)[p]),
        ("multiplies by the temperature", "multiplied", lambda c, p, t: -(c * t).log_softmax(dim=0)[p]),
        ("averages the row", "mean_over_the_row", lambda c, p, t: -(c / t).log_softmax(dim=0).mean()),
        ("bare exponentials", "overflow", lambda c, p, t: -((c / t).exp()[p] / (c / t).exp().sum()).log()),
        ("clamps the exponents", "sharp", lambda c, p, t: (c / t).clamp(-50, 50).logsumexp(dim=0) - (c / t)[p]),
        ("gives a float", "type", lambda c, p, t: (-(c / t).log_softmax(dim=0)[p]).item()),
        ("takes the first", "value", lambda c, p, t: -(c / t).log_softmax(dim=0)[0]),
        ("log to the base 2", "value", lambda c, p, t: -(c / t).log_softmax(dim=0)[p] / math.log(2)),
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
    "multi_positive_loss": [
        ("the diagonal alone", "one_positive", lambda m, ids: -m.log_softmax(dim=1).diag().mean()),
        ("spreads the target", "spread", lambda m, ids: F.cross_entropy(m, F.normalize(same(ids), p=1))),
        ("multiplies the probabilities", "product", lambda m, ids: -right(m.log_softmax(dim=1), ids).mean()),
        ("averages", "average", lambda m, ids: -(right(m.softmax(1), ids) / same(ids).sum(1)).log().mean()),
        ("down the columns", "axis", lambda m, ids: -right(m.softmax(dim=0), ids).log().mean()),
        ("sums the rows", "sum", lambda m, ids: -right(m.softmax(dim=1), ids).log().sum()),
        ("forgets the minus", "sign", lambda m, ids: right(m.softmax(dim=1), ids).log().mean()),
        ("fills with 0", "value", lambda m, ids: (m.logsumexp(1) - (m * same(ids)).logsumexp(1)).mean()),
        ("compares with its place", "value", lambda m, ids: -right(m.softmax(1), ids.clamp(max=5)).log().mean()),
    ],
}
