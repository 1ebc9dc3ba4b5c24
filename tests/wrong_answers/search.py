"""Wrong answers to the exercises of notebook 07: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.wrong_answers import WrongAnswers

Found = tuple[Tensor, Tensor]


def by_sort(embedding: Tensor, queries: Tensor, top: int, **how: Any) -> Found:
    """All cosines sorted; what is cut off is up to the slice."""
    cosines, indices = (queries @ embedding.T).sort(dim=1, **{"descending": True, "stable": True, **how})
    return cosines[:, :top], indices[:, :top]


def by_topk(embedding: Tensor, queries: Tensor, top: int) -> Found:
    best = (queries @ embedding.T).topk(min(top, len(embedding)))
    return best.values, best.indices


def topk_of_more_than_there_are(embedding: Tensor, queries: Tensor, top: int) -> Found:
    best = (queries @ embedding.T).topk(top)
    return best.values, best.indices


def larger_index_first(embedding: Tensor, queries: Tensor, top: int) -> Found:
    cosines, indices = (queries @ embedding.T).sort(dim=1, stable=True)
    return cosines.flip(1)[:, :top], indices.flip(1)[:, :top]


def in_order_of_index(embedding: Tensor, queries: Tensor, top: int) -> Found:
    indices = by_sort(embedding, queries, top)[1].sort(dim=1).values
    return (queries @ embedding.T).gather(1, indices), indices


def as_distances(embedding: Tensor, queries: Tensor, top: int) -> Found:
    cosines, indices = by_sort(embedding, queries, top)
    return 1 - cosines, indices


def down_the_queries(embedding: Tensor, queries: Tensor, top: int) -> Found:
    cosines, indices = (queries @ embedding.T).sort(dim=0, descending=True, stable=True)
    return cosines[:top], indices[:top]


def unit(sentences: Tensor, dim: int = -1) -> Tensor:
    return F.normalize(sentences, dim=dim)


def rows(found: Tensor, exact: Tensor) -> Tensor:
    """Which of the exact neighbours are in their own row of those found."""
    return (exact[:, :, None] == found[:, None, :]).any(dim=2)


WRONG: WrongAnswers = {
    "nearest": [
        ("topk breaks ties as it likes", "ties", by_topk),
        ("the larger index first", "late_ties", larger_index_first),
        ("topk of more than there are", "too_many", topk_of_more_than_there_are),
        ("the farthest first", "farthest", lambda e, q, t: by_sort(e, q, t, descending=False)),
        ("indices first", "swapped", lambda e, q, t: by_sort(e, q, t)[::-1]),
        ("in order of index", "by_index", in_order_of_index),
        ("distances", "cosines", as_distances),
        ("one too many", "shape", lambda e, q, t: by_sort(e, q, t + 1)),
        ("the wrong axis", "shape", down_the_queries),
        ("indices alone", "type", lambda e, q, t: by_sort(e, q, t)[1]),
        ("lists", "type", lambda e, q, t: tuple(x.tolist() for x in by_sort(e, q, t))),
        ("indices as floats", "not_integers", lambda e, q, t: (by_sort(e, q, t)[0], by_sort(e, q, t)[1].float())),
        ("the dot product of the wrong sides", "error", lambda e, q, t: by_sort(e.T, q.T, t)),
    ],
    "prompt_ensemble": [
        ("never scaled back", "never", lambda s: unit(s).mean(dim=1)),
        ("a sum", "never", lambda s: unit(s).sum(dim=1)),
        ("averages first", "once", lambda s: unit(s.mean(dim=1))),
        ("only averages", "neither", lambda s: s.mean(dim=1)),
        ("over the classes", "over_classes", lambda s: unit(unit(s).mean(dim=0))),
        ("over the embedding", "over_classes", lambda s: unit(s).mean(dim=2)),
        ("normalizes over the sentences", "wrong_axis", lambda s: unit(unit(s, 1).mean(dim=1), 1)),
        ("normalizes over the classes", "wrong_axis", lambda s: unit(unit(s).mean(dim=1), 0)),
        ("the first sentence", "first_only", lambda s: unit(s)[:, 0]),
        ("no average", "shape", unit),
        ("the largest numbers", "value", lambda s: unit(unit(s).amax(dim=1))),
        ("a list", "type", lambda s: unit(unit(s).mean(dim=1)).tolist()),
    ],
    "index_recall": [
        ("in percent", "percent", lambda f, e: 100 * rows(f, e).float().mean().item()),
        ("a count", "count", lambda f, e: rows(f, e).sum().item()),
        ("a count per query", "count", lambda f, e: rows(f, e).sum(dim=1).float().mean().item()),
        ("place by place", "order", lambda f, e: (f == e).float().mean().item()),
        ("one hit is enough", "any_hit", lambda f, e: rows(f, e).any(dim=1).float().mean().item()),
        ("all must be found", "all_hit", lambda f, e: rows(f, e).all(dim=1).float().mean().item()),
        ("over all queries", "mixed", lambda f, e: torch.isin(e, f).float().mean().item()),
        ("of those found", "found_only", lambda f, e: (rows(e, f).sum() / (f >= 0).sum()).item()),
        ("a share per query", "type", lambda f, e: rows(f, e).float().mean(dim=1)),
        ("of the places", "value", lambda f, e: rows(f, e).sum().item() / (len(f) + e.shape[1])),
    ],
}
