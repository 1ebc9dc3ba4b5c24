"""Wrong answers to the exercises of notebook 09: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.wrong_answers import WrongAnswers

Pair = tuple[float, float]


def cosines(queries: Tensor, names: Tensor) -> Tensor:
    return F.normalize(queries, dim=1) @ F.normalize(names, dim=1).T


def best(similarity: Tensor, top: int, largest: bool = True, dim: int = 1) -> Tensor:
    return similarity.topk(min(top, similarity.shape[dim]), dim=dim, largest=largest).indices


def summary(ranks: Tensor, at: int = 1) -> Pair:
    return ranks.float().quantile(0.5).item(), (ranks <= at).float().mean().item()


def ranks(zh: Tensor, en: Tensor, dim: int = 1) -> Tensor:
    table = zh @ en.T
    own = table.diag()
    return (table >= (own[:, None] if dim == 1 else own)).sum(dim=dim)


def by_argmax(zh: Tensor, en: Tensor) -> Pair:
    """R@1 by `argmax`, which breaks a tie by position."""
    hits = (zh @ en.T).argmax(dim=1) == torch.arange(len(zh))
    return summary(ranks(zh, en))[0], hits.float().mean().item()


def strictly_ahead(zh: Tensor, en: Tensor) -> Pair:
    table = zh @ en.T
    return summary((table > table.diag()[:, None]).sum(dim=1) + 1)


def less(zh: Tensor, en: Tensor, means: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    ours, theirs = means(zh, en)
    return F.normalize(zh - ours, dim=1), F.normalize(en - theirs, dim=1)


def joint(zh: Tensor, en: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.cat([zh, en]).mean(dim=0)
    return both, both


WRONG: WrongAnswers = {
    "translate": [
        ("the cosines", "values", lambda q, n, top: cosines(q, n).topk(min(top, len(n))).values),
        ("the farthest", "ascending", lambda q, n, top: best(cosines(q, n), top, largest=False)),
        ("argsort without descending", "ascending", lambda q, n, top: cosines(q, n).argsort(dim=1)[:, :top]),
        ("queries of names", "swapped", lambda q, n, top: best(cosines(n, q), top)),
        ("topk along the wrong axis", "swapped", lambda q, n, top: best(cosines(q, n), top, dim=0)),
        ("names down the columns", "transposed", lambda q, n, top: best(cosines(q, n), top).T),
        ("dot products", "dot_product", lambda q, n, top: best(q @ n.T, top)),
        ("only queries normalized", "dot_product", lambda q, n, top: best(F.normalize(q, dim=1) @ n.T, top)),
        ("the first only", "shape", lambda q, n, top: cosines(q, n).argmax(dim=1)),
        ("more than there are", "too_many", lambda q, n, top: cosines(q, n).topk(top).indices),
        ("no name when there are few", "too_many", lambda q, n, top: best(cosines(q, n), 2)),
    ],
    "matching": [
        ("wrong order", "order", lambda zh, en: summary(ranks(zh, en))[::-1]),
        (
            "ranks from 0",
            "from_zero",
            lambda zh, en: (summary(ranks(zh, en) - 1)[0], summary(ranks(zh, en))[1]),
        ),
        ("the mean", "mean", lambda zh, en: (ranks(zh, en).float().mean(), summary(ranks(zh, en))[1])),
        ("torch.median", "lower_median", lambda zh, en: (ranks(zh, en).median(), summary(ranks(zh, en))[1])),
        ("English to Chinese", "other_direction", lambda zh, en: summary(ranks(zh, en, dim=0))),
        ("percent", "percent", lambda zh, en: (summary(ranks(zh, en))[0], 100 * summary(ranks(zh, en))[1])),
        ("ties for the model", "ties", strictly_ahead),
        ("argmax", "ties", by_argmax),
        ("all ranks", "type", lambda zh, en: ranks(zh, en)),
        ("R@1 only", "type", lambda zh, en: summary(ranks(zh, en))[1]),
        ("R@3", "value", lambda zh, en: summary(ranks(zh, en), at=3)),
    ],
    "remove_language": [
        ("one mean for both", "joint", lambda zh, en: less(zh, en, joint)),
        (
            "the other's mean",
            "exchanged",
            lambda zh, en: less(zh, en, lambda a, b: (b.mean(dim=0), a.mean(dim=0))),
        ),
        ("Chinese only", "one_side", lambda zh, en: less(zh, en, lambda a, b: (a.mean(dim=0), torch.zeros(3)))),
        (
            "moved onto the other",
            "one_side",
            lambda zh, en: less(zh, en, lambda a, b: (a.mean(dim=0) - b.mean(dim=0), torch.zeros(3))),
        ),
        (
            "mean of each row",
            "axis",
            lambda zh, en: less(zh, en, lambda a, b: (a.mean(dim=1, keepdim=True), b.mean(dim=1, keepdim=True))),
        ),
        ("mean of all numbers", "one_number", lambda zh, en: less(zh, en, lambda a, b: (a.mean(), b.mean()))),
        ("not scaled back", "not_normalized", lambda zh, en: (zh - zh.mean(dim=0), en - en.mean(dim=0))),
        (
            "English first",
            "reversed",
            lambda zh, en: less(zh, en, lambda a, b: (a.mean(dim=0), b.mean(dim=0)))[::-1],
        ),
        ("one tensor", "type", lambda zh, en: F.normalize(zh - zh.mean(dim=0), dim=1)),
        (
            "scaled along the columns",
            "value",
            lambda zh, en: (F.normalize(zh - zh.mean(dim=0), dim=0), F.normalize(en - en.mean(dim=0), dim=0)),
        ),
    ],
}
