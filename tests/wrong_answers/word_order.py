"""Wrong answers to the exercises of notebook 08: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from clipedu.classroom.word_order import swap_objects
from tests.wrong_answers import WrongAnswers

EN = r"(?:small|big) \w+ \w+"
ZH = r"..的[大小](?:圆环|圆|正方形|三角形|五角星|十字)"


def swapped(sentence: str, *patterns: str) -> str | None:
    """Both found objects in each other's place, the first pattern that finds two; None if none does."""
    for pattern in patterns:
        found = re.findall(pattern, sentence)
        if len(found) == 2:
            first, second = found
            return sentence.replace(first, "\0").replace(second, first).replace("\0", second)
    return None


def overwritten(sentence: str) -> str | None:
    for pattern in (EN, ZH):
        found = re.findall(pattern, sentence)
        if len(found) == 2:
            return sentence.replace(found[0], found[1]).replace(found[1], found[0])
    return None


def reversed_relation(sentence: str) -> str | None:
    for one, other in (("left of", "right of"), ("above", "below"), ("左边", "右边"), ("上面", "下面")):
        if one in sentence or other in sentence:
            return sentence.replace(one, "\0").replace(other, one).replace("\0", other)
    return None


def logits(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    return scale.exp() * images @ texts.T


def loss(table: Tensor) -> Tensor:
    return F.cross_entropy(table, torch.arange(len(table)))


def halves(
    images: Tensor, texts: Tensor, hard: Tensor, scale: Tensor, use: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The loss of the rows, with what `use` makes of the two tables of logits, and the loss of the columns."""
    own, extra = logits(images, texts, scale), logits(images, hard, scale)
    return loss(use(own, extra)), loss(own.T)


def beside(own: Tensor, extra: Tensor) -> Tensor:
    return torch.cat([own, extra], dim=1)


def averaged(own: Tensor, extra: Tensor) -> Tensor:
    return beside(own, extra.mean(dim=1, keepdim=True))


def mean_of(pair: tuple[Tensor, Tensor]) -> Tensor:
    return (pair[0] + pair[1]) / 2


def share(hits: Tensor) -> float:
    return hits.float().mean().item()


def right(c: Tensor) -> tuple[Tensor, Tensor]:
    return c[:, 0, 0] > c[:, 0, 1], c[:, 1, 1] > c[:, 1, 0]


WRONG: WrongAnswers = {
    "swap_objects": [
        ("English only", "none", lambda s: swapped(s, EN)),
        ("returns the sentence for one object", "single", lambda s: swap_objects(s) or s),
        ("returns the sentence", "unchanged", lambda s: s),
        ("changes the relation", "relation", reversed_relation),
        ("one replacement after the other", "same_object", overwritten),
        ("finds the circle in the ring", "ring", lambda s: swapped(s, EN, ZH.replace("圆环|圆", "圆|圆环"))),
        ("swaps the colours only", "words", lambda s: swapped(s, r"(?:small|big) \w+(?= )", r"..(?=的[大小])")),
        ("drops the article", "value", lambda s: (swap_objects(s) or "").replace("a ", "", 1) or None),
        ("gives a list", "type", lambda s: [swap_objects(s)]),
    ],
    "hard_negative_loss": [
        ("ignores them", "ignored", lambda i, t, h, s: mean_of(halves(i, t, h, s, lambda own, _: own))),
        (
            "in both directions",
            "both_ways",
            lambda i, t, h, s: (
                (loss(beside(logits(i, t, s), logits(i, h, s))) + loss(beside(logits(t, i, s), logits(i, h, s).T))) / 2
            ),
        ),
        (
            "its own only",
            "own_only",
            lambda i, t, h, s: mean_of(halves(i, t, h, s, lambda own, e: beside(own, e.diag()[:, None]))),
        ),
        ("rows only", "image_to_text_only", lambda i, t, h, s: halves(i, t, h, s, beside)[0]),
        ("adds both", "not_halved", lambda i, t, h, s: 2 * mean_of(halves(i, t, h, s, beside))),
        ("forgets exp", "no_exp", lambda i, t, h, s: mean_of(halves(i, t, h, s.log(), beside))),
        ("forgets the minus", "sign", lambda i, t, h, s: -mean_of(halves(i, t, h, s, beside))),
        ("detaches them", "gradient", lambda i, t, h, s: mean_of(halves(i, t, h.detach(), s, beside))),
        ("gives a float", "type", lambda i, t, h, s: mean_of(halves(i, t, h, s, beside)).item()),
        ("their mean", "value", lambda i, t, h, s: mean_of(halves(i, t, h, s, averaged))),
    ],
    "both_ways": [
        ("each on its own", "separate", lambda c: (share(right(c)[0]), (share(right(c)[0]) + share(right(c)[1])) / 2)),
        (
            "sentence 0 for the mirror",
            "mirror",
            lambda c: (share(right(c)[0]), share(right(c)[0] & (c[:, 1, 0] > c[:, 1, 1]))),
        ),
        (
            "two pictures",
            "columns",
            lambda c: (share(c[:, 0, 0] > c[:, 1, 0]), share((c[:, 0, 0] > c[:, 1, 0]) & (c[:, 1, 1] > c[:, 0, 1]))),
        ),
        ("the other order", "swapped", lambda c: (share(right(c)[0] & right(c)[1]), share(right(c)[0]))),
        (
            "ties are right",
            "ties",
            lambda c: (
                share(c[:, 0, 0] >= c[:, 0, 1]),
                share((c[:, 0, 0] >= c[:, 0, 1]) & (c[:, 1, 1] >= c[:, 1, 0])),
            ),
        ),
        (
            "argmax",
            "ties",
            lambda c: (share(c[:, 0].argmax(1) == 0), share((c[:, 0, 0] >= c[:, 0, 1]) & (c[:, 1, 1] >= c[:, 1, 0]))),
        ),
        ("no margin for rounding", "rounding", lambda c: (share(right(c)[0]), share(right(c)[0] & right(c)[1]))),
        ("one number", "type", lambda c: share(right(c)[0] & right(c)[1])),
        ("either picture", "value", lambda c: (share(right(c)[0]), share(right(c)[0] | right(c)[1]))),
    ],
}
