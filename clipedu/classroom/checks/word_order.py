"""The checks of notebook 08, word order."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clipedu.classroom.checks.framework import Answer, exercise
from clipedu.classroom.word_order import objects_in
from clipedu.classroom.word_order import swap_objects as _swapped

_SENTENCES = (
    "a big red circle left of a small blue square",
    "a small white ring above a big white ring",
    "there is a big green cross right of one small black star",
    "一个红色的大圆在一个蓝色的小正方形的左边",
    "黄色的大圆环的上面是一个黑色的小圆",
    "在紫色的小五角星的下面有一个白色的大三角形",
    "一个橙色的小圆在一个橙色的大圆环的右边",
)
_SINGLE = ("a big red circle", "there is one small blue star", "一个红色的大圆", "图中有一个蓝色的小五角星")
_PARTS = {"left of": "right of", "above": "below", "左边": "右边", "上面": "下面"}


def _reversed_relation(sentence: str) -> str:
    for one, other in [*_PARTS.items(), *((b, a) for a, b in _PARTS.items())]:
        if one in sentence:
            return sentence.replace(one, other)
    return sentence


@exercise(
    type="应返回 str 或 None，得到 {found}\nreturn a str or None, not {found}",
    single="只有一个物体的句子没有可换的，应返回 None：{sentence}\n"
    "a sentence with one object has nothing to swap; return None: {sentence}",
    none="这句有两个物体，却返回了 None：{sentence}\nthis sentence has two objects, but you returned None: {sentence}",
    unchanged="句子没有变：{sentence}\nthe sentence hasn't changed: {sentence}",
    relation="换的是方位词；这里要换物体，方位词不动：{sentence}\n"
    "this changes the relation; swap the objects and leave the relation alone: {sentence}",
    same_object="两处成了同一个物体：一个替换覆盖了另一个，应一次换完：{found}\n"
    "both places now hold the same object: one replacement overwrote the other; swap them in one go: {found}",
    ring="「圆」是「圆环」的一部分：先找长的名字：{found}\n"
    "圆 (circle) is part of 圆环 (ring): look for longer names first: {found}",
    words="只换了一部分：大小、颜色、形状要一起走：{found}\n"
    "only part of the object moved: size, colour and shape belong together: {found}",
    value='应为「{wanted}」，得到「{found}」\nexpected "{wanted}", got "{found}"',
)
def swap_objects(answer: Answer) -> None:
    """Exercise 8.1: `swap_objects(sentence) -> str | None`."""
    answer.call(_SENTENCES[0])
    for sentence in _SENTENCES:
        found, wanted = answer.function(sentence), _swapped(sentence) or ""
        answer.must(found is None or isinstance(found, str), "type", found=type(found).__name__)
        answer.must(found is not None, "none", sentence=sentence)
        answer.must(found != sentence, "unchanged", sentence=sentence)
        answer.must(found != _reversed_relation(sentence), "relation", sentence=sentence)
        if found != wanted:
            _explain(answer, found, wanted)
    for sentence in _SINGLE:
        answer.must(answer.function(sentence) is None, "single", sentence=sentence)


def _explain(answer: Answer, found: str, wanted: str) -> None:
    letters = sorted(found) == sorted(wanted)
    if letters and "圆环" in wanted:
        answer.refuse("ring", found=found)
    if letters:
        answer.refuse("words", found=found)
    if len(set(objects_in(found))) == 1:
        answer.refuse("same_object", found=found)
    answer.refuse("value", wanted=wanted, found=found)


@exercise(
    ignored="难负样本没有进入损失：把它们接在句子后面，作为多出来的列\n"
    "the hard negatives don't enter the loss: append them to the texts as extra columns",
    both_ways="「句子找图」里也用了它们：难负样本没有自己的图，只在「图找句子」里作候选\n"
    "text to image uses them too: a hard negative has no picture, so it is a candidate from image to text only",
    own_only="每张图都要面对全部难负样本，不只是自己的那一句\n"
    "every picture faces all the hard negatives, not just its own",
    image_to_text_only="只有「图找句子」：还要「句子找图」，再取平均\n"
    "this is image to text only: add text to image and take the mean",
    not_halved="两个方向相加了：应取平均\nthe two directions are added up: take their mean",
    no_exp="乘的是 logit_scale 本身：先取指数\nmultiplied by logit_scale itself: take its exponential first",
    sign="符号反了：损失不会是负的\nwrong sign: the loss is never negative",
    gradient="难负样本没有得到梯度：不要 detach\nno gradient reaches the hard negatives: don't detach them",
)
def hard_negative_loss(answer: Answer) -> None:
    """Exercise 8.2: `hard_negative_loss(image_embedding, text_embedding, hard, logit_scale) -> scalar`."""
    generator = torch.Generator().manual_seed(8)
    image, text, hard = (F.normalize(torch.randn(n, 5, generator=generator), dim=1) for n in (4, 4, 4))
    scale = torch.tensor(math.log(6.0))

    def of(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, torch.arange(len(logits)))

    def directions(factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        plain, extra = factor * image @ text.T, factor * image @ hard.T
        return of(torch.cat([plain, extra], dim=1)), of(plain.T), of(plain)

    rows, columns, plain_rows = directions(scale.exp())
    logits, extra = scale.exp() * image @ text.T, scale.exp() * image @ hard.T
    wanted = (rows + columns) / 2
    mistakes = {
        "ignored": (plain_rows + columns) / 2,
        "both_ways": (rows + of(torch.cat([logits.T, extra.T], dim=1))) / 2,
        "own_only": (of(torch.cat([logits, extra.diag()[:, None]], dim=1)) + columns) / 2,
        "image_to_text_only": rows,
        "not_halved": rows + columns,
        "no_exp": sum(directions(scale)[:2]) / 2,
        "sign": -wanted,
    }
    answer.expect((image, text, hard, scale), wanted, mistakes)
    fewer = answer.like(wanted, answer.call(image, text, hard[:1], scale))
    right = (of(torch.cat([logits, extra[:, :1]], dim=1)) + columns) / 2
    answer.compare(fewer, right, {})
    learning = hard.clone().requires_grad_()
    answer.must(answer.function(image, text, learning, scale).requires_grad, "gradient")


@exercise(
    type="应返回两个数 (单向, 双向)，得到 {found}\nreturn two numbers, (one way, both ways), not {found}",
    ties="平局应算错：比较用 >，全部相等时两个数都是 0\n"
    "a tie counts as wrong: compare with >, so that equal scores give 0 and 0",
    rounding="相差 1e-5 以内是舍入，也算平局：领先要大于 1e-5\n"
    "a difference within 1e-5 is rounding, so that is a tie too: the lead must be above 1e-5",
    separate="两张图要同时选对才算一次，不是各算各的再平均\n"
    "an item counts only if both pictures choose right, not each on its own",
    mirror="镜像图的正确句子是第 1 句（c[n, 1, 1]），不是第 0 句\n"
    "the mirror image's own sentence is sentence 1 (c[n, 1, 1]), not sentence 0",
    columns="比的是同一句话面前的两张图；这里是同一张图面前的两句话：c[n, i, 0] 和 c[n, i, 1]\n"
    "this compares two pictures for one sentence; compare two sentences for one picture: c[n, i, 0] and c[n, i, 1]",
    swapped="两个数反了：先单向，再双向\nthe two numbers are swapped: one way comes first",
    value="应得 {wanted}，得到 {found}\nexpected {wanted}, got {found}",
)
def both_ways(answer: Answer) -> None:
    """Exercise 8.3: `both_ways(cosines) -> (one way, both ways)` for `[N, 2, 2]`: pictures, then sentences."""
    cosines = torch.tensor(
        [
            [[0.9, 0.1], [0.2, 0.8]],  # both right
            [[0.7, 0.6], [0.5, 0.4]],  # always sentence 0
            [[0.8, 0.3], [0.9, 0.1]],  # always sentence 0
            [[0.2, 0.4], [0.1, 0.6]],  # always sentence 1
            [[0.9, 0.5], [0.95, 0.6]],  # always sentence 0
            [[0.8, 0.2], [0.3, 0.7]],  # both right
        ]
    )
    c = cosines
    first, second = c[:, 0, 0] > c[:, 0, 1], c[:, 1, 1] > c[:, 1, 0]
    column = c[:, 0, 0] > c[:, 1, 0]
    wrong_mirror = c[:, 1, 0] > c[:, 1, 1]

    def share(hits: Tensor) -> float:
        return hits.float().mean().item()

    one, both = share(first), share(first & second)
    mistakes = {
        "separate": [one, (one + share(second)) / 2],
        "mirror": [one, share(first & wrong_mirror)],
        "columns": [share(column), share(column & (c[:, 1, 1] > c[:, 0, 1]))],
        "swapped": [both, one],
    }
    answer.compare(_two(answer, cosines), [one, both], mistakes)
    answer.compare(_two(answer, torch.full((3, 2, 2), 0.5)), [0.0, 0.0], {"ties": lambda _: True})
    rounded = torch.tensor([[[0.5 + 1e-6, 0.5], [0.5, 0.5 + 1e-6]]])
    answer.compare(_two(answer, rounded), [0.0, 0.0], {"rounding": lambda _: True})


def _two(answer: Answer, *arguments: Any) -> list[float]:
    found = answer.call(*arguments)
    values = found.tolist() if isinstance(found, Tensor) else found
    numbers = [_scalar(value) for value in values] if isinstance(values, tuple | list) and len(values) == 2 else []
    answer.must(numbers and None not in numbers, "type", found=type(found).__name__)
    return [number for number in numbers if number is not None]


def _scalar(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, int | float) else None
