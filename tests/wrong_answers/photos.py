"""Wrong answers to the exercises of the capstone: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.wrong_answers import WrongAnswers

Sides = tuple[list[int], list[int]]


def held_out(groups: Sequence[int], count: int, order: Sequence[int]) -> Sides:
    held = {*order[:count]}
    numbers = range(len(groups))
    return [n for n in numbers if groups[n] not in held], [n for n in numbers if groups[n] in held]


def shuffled(groups: Sequence[int], seed: int) -> list[int]:
    names = sorted({*groups})
    random.Random(seed).shuffle(names)
    return names


def count_of(groups: Sequence[int], share: float) -> int:
    return min(max(1, round(share * len({*groups}))), len({*groups}) - 1)


def by_picture(groups: Sequence[int], share: float, seed: int) -> Sides:
    numbers = list(range(len(groups)))
    random.Random(seed).shuffle(numbers)
    count = round(share * len(numbers))
    return sorted(numbers[count:]), sorted(numbers[:count])


def global_shuffle(groups: Sequence[int], share: float, seed: int) -> Sides:
    names = sorted({*groups})
    random.shuffle(names)
    return held_out(groups, count_of(groups, share), names)


def global_seed(groups: Sequence[int], share: float, seed: int) -> Sides:
    random.seed(seed)
    return global_shuffle(groups, share, seed)


def may_be_empty(groups: Sequence[int], share: float, seed: int) -> Sides:
    return held_out(groups, round(share * len({*groups})), shuffled(groups, seed))


def share_of_pictures(groups: Sequence[int], share: float, seed: int) -> Sides:
    """Groups until so many pictures are held out."""
    names, held = shuffled(groups, seed), list[int]()
    while sum(groups.count(name) for name in held) < share * len(groups):
        held.append(names.pop())
    return held_out(groups, len(held), held)


def group_names(groups: Sequence[int], share: float, seed: int) -> Sides:
    names, count = shuffled(groups, seed), count_of(groups, share)
    return names[count:], names[:count]


def good_split(groups: Sequence[int], share: float, seed: int) -> Sides:
    return held_out(groups, count_of(groups, share), shuffled(groups, seed))


def wilson(hits: int, n: int, z: float = 1.96, middle: bool = True, scaled: bool = True) -> tuple[float, float]:
    p = hits / n
    scale = 1 + z**2 / n if scaled else 1.0
    centre = (p + z**2 / (2 * n)) / scale if middle else p
    half = z / scale * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def simple(hits: int, n: int) -> tuple[float, float]:
    p = hits / n
    half = 1.96 * math.sqrt(p * (1 - p) / n)
    return p - half, p + half


def without_root(hits: int, n: int) -> tuple[float, float]:
    p, z = hits / n, 1.96
    scale = 1 + z**2 / n
    centre, half = (p + z**2 / (2 * n)) / scale, z / scale * (p * (1 - p) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def ranked(
    similarity: Tensor, k: int, ahead: Callable[[Tensor, Tensor], Tensor] = torch.ge, dim: int = 1, first: int = 0
) -> list[tuple[int, int]]:
    """The worst by rank; `first` is subtracted from the ranks."""
    own = similarity.diag()[:, None] if dim == 1 else similarity.diag()[None]
    ranks = ahead(similarity, own).sum(dim=dim) - first
    return sorted(((rank, number) for number, rank in enumerate(ranks.tolist())), reverse=True)[:k]


def lowest_cosines(similarity: Tensor, k: int) -> list[tuple[int, int]]:
    ranks = (similarity >= similarity.diag()[:, None]).sum(dim=1).tolist()
    return [(ranks[number], number) for number in similarity.diag().argsort()[:k].tolist()]


def sorted_rank(similarity: Tensor, k: int) -> list[tuple[int, int]]:
    """The place in a sorted list, where a tie is broken by position."""
    order = similarity.argsort(dim=1, descending=True, stable=True)
    ranks = (order == torch.arange(len(similarity))[:, None]).int().argmax(dim=1) + 1
    return sorted(((rank, number) for number, rank in enumerate(ranks.tolist())), reverse=True)[:k]


WRONG: WrongAnswers = {
    "split_by_group": [
        ("splits the pictures", "leak", by_picture),
        ("no seed", "chance", global_shuffle),
        ("the global seed", "disturbs", global_seed),
        ("an empty side", "empty", may_be_empty),
        ("a share of the pictures", "share", share_of_pictures),
        ("names of groups", "groups", group_names),
        ("the other way round", "swapped", lambda g, share, s: good_split(g, share, s)[::-1]),
        ("always the same groups", "seed", lambda g, share, s: good_split(g, share, 0)),
        ("one picture of each group", "partition", lambda g, share, s: (list(range(9)), list(range(12, 16)))),
        ("a flag for each picture", "type", lambda g, share, s: [n in good_split(g, share, s)[1] for n in range(16)]),
    ],
    "recall_interval": [
        ("the simple interval", "plain", simple),
        ("one sigma", "one_sigma", lambda hits, n: wilson(hits, n, 1.0)),
        ("around p", "middle", lambda hits, n: wilson(hits, n, middle=False)),
        ("not divided", "no_denominator", lambda hits, n: wilson(hits, n, scaled=False)),
        ("no root", "no_root", without_root),
        ("high first", "swapped", lambda hits, n: wilson(hits, n)[::-1]),
        ("in percent", "percent", lambda hits, n: tuple(100 * end for end in wilson(hits, n))),
        ("99 percent", "value", lambda hits, n: wilson(hits, n, 2.576)),
        ("the half width", "type", lambda hits, n: 1.96 * math.sqrt(hits / n * (1 - hits / n) / n)),
    ],
    "failures": [
        ("the best", "best_first", lambda s, k: ranked(s, len(s))[::-1][:k]),
        ("ranks from 0", "from_zero", lambda s, k: ranked(s, k, first=1)),
        ("strictly ahead", "from_zero", lambda s, k: ranked(s, k, torch.gt)),
        ("a number and its rank", "swapped", lambda s, k: [pair[::-1] for pair in ranked(s, k)]),
        ("down the columns", "by_picture", lambda s, k: ranked(s, k, dim=0)),
        ("the lowest cosines", "by_score", lowest_cosines),
        ("ties for the model", "ties", lambda s, k: ranked(s, k, torch.gt, first=-1)),
        ("place in a sorted list", "ties", sorted_rank),
        ("all of them", "length", lambda s, k: ranked(s, len(s))),
        ("ranks alone", "pairs", lambda s, k: [rank for rank, _ in ranked(s, k)]),
        ("a tensor", "type", lambda s, k: torch.tensor(ranked(s, k))),
        ("in no order", "value", lambda s, k: [(2, 0), (5, 1), (1, 2)]),
    ],
}
