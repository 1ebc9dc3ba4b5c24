"""The checks of notebook 04, contrastive loss."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from clipedu.classroom.checks.framework import Answer, exercise

AXIS = (
    "softmax 算在列上了（dim=0）：图像是行，应沿 dim=1\n"
    "the softmax runs down the columns (dim=0): images are rows, use dim=1"
)


@exercise(
    sign="符号反了：取对数之后还要变号\nwrong sign: take the negative logarithm",
    probability="这是概率：还要取对数、变号\nthis is the probability: take its negative logarithm",
    no_temperature="忘了除以温度\nthe cosines are not divided by the temperature",
    multiplied="乘以了温度：应当除以它\nmultiplied by the temperature: divide by it instead",
    mean_over_the_row="对整行取了平均：只有正确答案的那一项算数\n"
    "this is the mean over the whole row: only the correct answer counts",
    overflow="温度 0.01 时溢出了：用 torch.logsumexp，不要直接取指数\n"
    "overflow at temperature 0.01: use torch.logsumexp instead of plain exponentials",
    sharp="余弦 1、-1、0.5，温度 0.01，正确答案是第二个：应为 200，得到 {found}\n"
    "cosines 1, -1, 0.5, temperature 0.01, second one correct: expected 200, got {found}",
)
def row_loss(answer: Answer) -> None:
    """Exercise 4.1: `row_loss(cosines, positive, temperature) -> scalar`, the loss of one row."""
    cosines, positive, temperature = torch.tensor([0.2, 0.9, -0.4, 0.5]), torch.tensor(1), 0.5
    logits = cosines / temperature
    wanted = F.cross_entropy(logits, positive)
    mistakes = {
        "sign": -wanted,
        "probability": logits.softmax(0)[1],
        "no_temperature": F.cross_entropy(cosines, positive),
        "multiplied": F.cross_entropy(cosines * temperature, positive),
        "mean_over_the_row": -logits.log_softmax(0).mean(),
    }
    answer.expect((cosines, 1, temperature), wanted, mistakes)
    sharp = torch.as_tensor(answer.call(torch.tensor([1.0, -1.0, 0.5]), 1, 0.01))
    answer.must(sharp.isfinite().all(), "overflow")
    answer.compare(sharp, torch.tensor(200.0), {}, "sharp")


@exercise(
    sign="符号反了：正样本的余弦变大，损失应当变小，所以对角线是负的\n"
    "the sign is reversed: the loss falls as a positive's cosine grows, so the diagonal is negative",
    positives="正样本没有减 1：这样所有的余弦都会被压低\n"
    "subtract 1 for the positives: without it, every cosine is pushed down",
    axis=AXIS,
    mean="没有除以 N：损失是各行的平均\nnot divided by N: the loss is the mean over the rows",
    temperature="少了 1/τ：余弦先除以温度才成为 logits\n"
    "1/τ is missing: cosines become logits when divided by the temperature",
    both_directions="这是两个方向的平均：这里只要图像找文本\n"
    "this is the mean of both directions: only image to text is wanted here",
)
def loss_gradient(answer: Answer) -> None:
    """Exercise 4.2: `loss_gradient(cosines, temperature) -> [N, N]`, for the loss from image to text."""
    cosines, temperature = torch.tensor([[0.9, 0.1, 0.4], [-0.3, 0.2, 0.6], [0.5, 0.0, 0.7]]), 0.5
    by_row, by_column = ((cosines / temperature).softmax(dim) for dim in (1, 0))
    divisor = temperature * len(cosines)
    wanted, down = (by_row - torch.eye(3)) / divisor, (by_column - torch.eye(3)) / divisor
    mistakes = {
        "sign": -wanted,
        "positives": by_row / divisor,
        "axis": down,
        "mean": wanted * len(cosines),
        "temperature": wanted * temperature,
        "both_directions": (wanted + down) / 2,
    }
    answer.expect((cosines, temperature), wanted, mistakes)


@exercise(
    one_positive="只算了对角线：编号相同的句子也是正确答案\n"
    "only the diagonal is counted: sentences with the same id are correct too",
    spread="目标平均分给了正确答案：这对重复的句子不起作用，应把概率相加\n"
    "the target is spread over the correct answers, which does not help equal captions: add probabilities",
    product="对数相加等于概率相乘：应先把概率相加，再取对数\n"
    "adding logarithms multiplies probabilities: add the probabilities first, then take the logarithm",
    average="除以了正确答案的个数：概率应相加，不是平均\n"
    "divided by the number of correct answers: add the probabilities, do not average them",
    axis=AXIS,
    sum="返回了各行之和：损失是平均\nthis is the sum over the rows: the loss is their mean",
    sign="符号反了：损失不会是负的\nwrong sign: the loss is never negative",
)
def multi_positive_loss(answer: Answer) -> None:
    """Exercise 4.3: `multi_positive_loss(logits, caption_ids) -> scalar`, summing correct probabilities."""
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0], [0.0, 1.0, 0.5, 0.0], [1.5, 0.0, -0.5, 1.0], [0.0, 0.3, 0.2, 2.0]])
    ids = torch.tensor([7, 3, 7, 5])
    same = ids[:, None] == ids
    count = same.sum(dim=1)
    logs, logs_by_column = logits.log_softmax(dim=1), logits.log_softmax(dim=0)
    wanted = -logs.masked_fill(~same, -math.inf).logsumexp(dim=1).mean()
    mistakes = {
        "one_positive": -logs.diag().mean(),
        "spread": -((logs * same).sum(dim=1) / count).mean(),
        "product": -(logs * same).sum(dim=1).mean(),
        "average": -((logs.exp() * same).sum(dim=1) / count).log().mean(),
        "axis": -logs_by_column.masked_fill(~same, -math.inf).logsumexp(dim=1).mean(),
        "sum": wanted * len(ids),
        "sign": -wanted,
    }
    answer.expect((logits, ids), wanted, mistakes)
