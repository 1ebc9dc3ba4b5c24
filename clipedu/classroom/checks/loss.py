"""The checks of notebook 04, contrastive loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from clipedu.classroom.checks.framework import Answer, exercise, must, near, tensor


@exercise
def row_loss(answer: Answer) -> None:
    """Exercise 4.1: `row_loss(cosines, positive, temperature) -> scalar`, the loss of one row."""
    cosines, positive, temperature = torch.tensor([0.2, 0.9, -0.4, 0.5]), 1, 0.5
    logits = cosines / temperature
    found = tensor(answer, (), cosines, positive, temperature)
    wanted = F.cross_entropy(logits, torch.tensor(positive))
    must(not near(found, -wanted), "sign", "符号反了：取对数之后还要变号", "the sign: take minus the logarithm")
    must(
        not near(found, logits.softmax(0)[positive]),
        "probability",
        "这是概率：还要取对数、变号",
        "this is the probability: take its logarithm and change the sign",
    )
    must(
        not near(found, F.cross_entropy(cosines, torch.tensor(positive))),
        "no temperature",
        "忘了除以温度",
        "the cosines are not divided by the temperature",
    )
    must(
        not near(found, F.cross_entropy(cosines * temperature, torch.tensor(positive))),
        "multiplied",
        "乘以了温度：应当除以它",
        "multiplied by the temperature: divide by it",
    )
    must(
        not near(found, -logits.log_softmax(0).mean()),
        "mean over the row",
        "对整行取了平均：只有正确答案的那一项算数",
        "the mean over the whole row: only the right answer counts",
    )
    must(
        near(found, wanted),
        "value",
        f"应为 {wanted:.4f}，得到 {found:.4f}",
        f"it must be {wanted:.4f}, not {found:.4f}",
    )
    sharp = answer(torch.tensor([1.0, -1.0, 0.5]), 1, 0.01)
    must(
        isinstance(sharp, Tensor) and bool(sharp.isfinite()),
        "overflow",
        "温度 0.01 时溢出了：用 torch.logsumexp，不要直接取指数",
        "at temperature 0.01 it overflows: use torch.logsumexp instead of bare exponentials",
    )
    must(
        near(sharp, torch.tensor(200.0)),
        "value",
        f"余弦 1、-1、0.5，温度 0.01，正确答案是第二个：应为 200，得到 {float(sharp):.4g}",
        f"cosines 1, -1, 0.5, temperature 0.01, the second is right: it must be 200, not {float(sharp):.4g}",
    )


@exercise
def loss_gradient(answer: Answer) -> None:
    """Exercise 4.2: `loss_gradient(cosines, temperature) -> [N, N]`, of the loss from image to text."""
    cosines, temperature = torch.tensor([[0.9, 0.1, 0.4], [-0.3, 0.2, 0.6], [0.5, 0.0, 0.7]]), 0.5
    count, eye = len(cosines), torch.eye(3)
    probabilities = (cosines / temperature).softmax(dim=1)
    wanted = (probabilities - eye) / (temperature * count)
    found = tensor(answer, (3, 3), cosines, temperature)
    must(
        not near(found, -wanted),
        "sign",
        "符号反了：正样本的余弦变大，损失应当变小，所以对角线是负的",
        "the sign is reversed: as a positive's cosine grows the loss falls, so the diagonal is negative",
    )
    must(
        not near(found, probabilities / (temperature * count)),
        "positives",
        "正样本没有减 1：这样所有的余弦都会被推开",
        "the positives lack the minus 1: this pushes every cosine down",
    )
    by_column = ((cosines / temperature).softmax(dim=0) - eye) / (temperature * count)
    must(
        not near(found, by_column),
        "axis",
        "softmax 沿了列（dim=0）：图像是行，用 dim=1",
        "the softmax runs down the columns (dim=0): images are rows, use dim=1",
    )
    must(
        not near(found, wanted * count),
        "mean",
        "没有除以 N：损失是各行的平均",
        "not divided by N: the loss is the mean over the rows",
    )
    must(
        not near(found, wanted * temperature),
        "temperature",
        "少了 1/τ：余弦先除以温度才成为 logits",
        "1/τ is missing: the cosines become logits only after division by the temperature",
    )
    both_ways = (wanted + by_column) / 2
    must(
        not near(found, both_ways),
        "both directions",
        "这是两个方向的平均：这里只要图像找文本",
        "this is the mean of both directions: only image to text is wanted",
    )
    must(
        near(found, wanted),
        "value",
        f"第一行应为 {_shown(wanted[0])}，得到 {_shown(found[0])}",
        f"the first row must be {_shown(wanted[0])}, not {_shown(found[0])}",
    )


@exercise
def multi_positive_loss(answer: Answer) -> None:
    """Exercise 4.3: `multi_positive_loss(logits, caption_ids) -> scalar`, right answers' probabilities added up."""
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0], [0.0, 1.0, 0.5, 0.0], [1.5, 0.0, -0.5, 1.0], [0.0, 0.3, 0.2, 2.0]])
    ids = torch.tensor([7, 3, 7, 5])
    same = ids[:, None] == ids
    log_probabilities = logits.log_softmax(dim=1)

    def mean_of(log_of_right: Tensor) -> Tensor:
        return -log_of_right.mean()

    wanted = mean_of(log_probabilities.masked_fill(~same, -math.inf).logsumexp(dim=1))
    found = tensor(answer, (), logits, ids)
    must(
        not near(found, mean_of(log_probabilities.diag())),
        "one positive",
        "只算了对角线：编号相同的句子也是正确答案",
        "only the diagonal counts here: sentences with the same id are right as well",
    )
    must(
        not near(found, mean_of((log_probabilities * same).sum(dim=1) / same.sum(dim=1))),
        "spread",
        "目标平均分给了正确答案：这对重复的句子不起作用，应把概率相加",
        "the target is spread over the right answers, which does nothing for equal captions: add their probabilities",
    )
    must(
        not near(found, mean_of((log_probabilities * same).sum(dim=1))),
        "product",
        "对数相加等于概率相乘：应先把概率相加，再取对数",
        "adding logarithms multiplies the probabilities: add the probabilities first, then take the logarithm",
    )
    average = (log_probabilities.exp() * same).sum(dim=1) / same.sum(dim=1)
    must(
        not near(found, mean_of(average.log())),
        "average",
        "除以了正确答案的个数：概率应相加，不是平均",
        "divided by the number of right answers: probabilities are added, not averaged",
    )
    by_column = logits.log_softmax(dim=0).masked_fill(~same, -math.inf).logsumexp(dim=1)
    must(
        not near(found, mean_of(by_column)),
        "axis",
        "softmax 沿了列（dim=0）：图像是行，用 dim=1",
        "the softmax runs down the columns (dim=0): images are rows, use dim=1",
    )
    must(
        not near(found, wanted * len(ids)),
        "sum",
        "返回了各行之和：损失是平均",
        "the sum over the rows: the loss is their mean",
    )
    must(not near(found, -wanted), "sign", "符号反了：损失不会是负的", "the sign: a loss is never negative")
    must(
        near(found, wanted),
        "value",
        f"应为 {wanted:.4f}，得到 {found:.4f}",
        f"it must be {wanted:.4f}, not {found:.4f}",
    )


def _shown(row: Tensor) -> list[float]:
    return [round(value, 3) for value in row.tolist()]
