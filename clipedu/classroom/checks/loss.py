"""The checks of notebook 04, contrastive loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from clipedu.classroom.checks.framework import Answer, exercise

AXIS = (
    "softmax 算在列上了（dim=0）：图像是行，应沿 dim=1\n"
    "the softmax runs down the columns (dim=0): images are rows, use dim=1"
)


@exercise(
    no_exp="乘的是 logit_scale 本身：它是缩放系数的对数，先取指数\n"
    "multiplied by logit_scale itself: it is the logarithm of the factor, so take its exponential first",
    divided="除以了 exp(logit_scale)：它是 1/τ，应当相乘\ndivided by exp(logit_scale): that is 1/τ, so multiply by it",
    no_temperature="没有用 logit_scale：余弦要先乘以 exp(logit_scale)\n"
    "logit_scale isn't used: multiply the cosines by its exponential",
    image_to_text_only="只有「图像找文本」：还要每一列的损失，再取两者的平均\n"
    "this is image to text only: add the loss of the columns and take the mean of the two",
    text_to_image_only="两项都是每一列的损失：转置和另一个 dim 一起用，等于没有换方向\n"
    "both terms are the loss of the columns: transposing and changing dim undo each other",
    not_halved="两个方向相加了：应取平均\nthe two directions are added up: take their mean",
    sum="各行的损失相加了：应除以 N\nthe losses of the rows are added up: divide by N",
    sign="符号反了：损失不会是负的\nwrong sign: the loss is never negative",
    probability="平均的是概率：先取对数再平均，最后变号\n"
    "this averages probabilities: take the logarithm first, then average and change the sign",
    whole_table="对整张表取了平均：每行、每列只算对角线上的那一格\n"
    "this averages the whole table: only the cell on the diagonal counts in each row and column",
    overflow="缩放系数为 100 时溢出了：用 logsumexp、log_softmax 或 F.cross_entropy\n"
    "overflow at a scale of 100: use logsumexp, log_softmax or F.cross_entropy",
    gradient="损失没有连着梯度：不要用 .item()、.detach() 或 torch.tensor(...) 重新包装\n"
    "the loss carries no gradient: don't use .item(), .detach() or wrap it again in torch.tensor(...)",
)
def clip_loss(answer: Answer) -> None:
    """Exercise 4.1: `clip_loss(image_embedding, text_embedding, logit_scale) -> scalar`, both directions."""
    angles = torch.tensor([[0.2, 1.9, 4.0, 5.1], [0.5, 1.0, 3.1, 5.9]])
    image, text = (torch.stack([row.cos(), row.sin()], dim=1) for row in angles)
    cosines, scale = image @ text.T, torch.tensor(5.0).log()

    def of(logits: Tensor) -> tuple[Tensor, Tensor]:
        right = torch.arange(len(logits))
        return F.cross_entropy(logits, right), F.cross_entropy(logits.T, right)

    rows, columns = of(5 * cosines)
    by_row, by_column = ((5 * cosines).log_softmax(dim) for dim in (1, 0))
    wanted, chance = (rows + columns) / 2, (by_row.exp() + by_column.exp()).diag().mean() / 2
    mistakes = {
        "no_exp": sum(of(scale * cosines)) / 2,
        "divided": sum(of(cosines / 5)) / 2,
        "no_temperature": sum(of(cosines)) / 2,
        "image_to_text_only": rows,
        "text_to_image_only": columns,
        "not_halved": rows + columns,
        "sum": (4 * wanted, 8 * wanted),
        "sign": -wanted,
        "probability": (chance, -chance),
        "whole_table": -(by_row + by_column).mean() / 2,
    }
    answer.expect((image, text, scale), wanted, mistakes)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    sharp = answer.like(wanted, answer.call(opposite, -opposite, torch.tensor(100.0).log()))
    answer.must(sharp.isfinite(), "overflow")
    answer.compare(sharp, torch.tensor(200.0), {}, "overflow")
    answer.must(answer.call(image.clone().requires_grad_(), text, scale).requires_grad, "gradient")


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
    one_positive="只算了对角线：编号相同的图也是正确答案\n"
    "only the diagonal is counted: pictures with the same id are right too",
    spread="目标平均分给了正确答案，等于要求它们一样像：应把概率相加\n"
    "the target is spread over the right answers, which asks for equal probabilities: add them up instead",
    product="对数相加等于概率相乘：应先把概率相加，再取对数\n"
    "adding logarithms multiplies probabilities: add the probabilities first, then take the logarithm",
    average="除以了正确答案的个数：概率应相加，不是平均\n"
    "divided by the number of correct answers: add the probabilities, do not average them",
    axis="这是每一行（图像找文本）：这里每句话面前是各张图，沿 dim=0 归一\n"
    "this goes along the rows, image to text: here each sentence faces the pictures, along dim=0",
    sum="返回了各行之和：损失是平均\nthis is the sum over the rows: the loss is their mean",
    sign="符号反了：损失不会是负的\nwrong sign: the loss is never negative",
)
def text_to_image_loss(answer: Answer) -> None:
    """Exercise 4.3: `text_to_image_loss(logits, caption_ids) -> scalar`, every picture of the caption is right."""
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0], [0.0, 1.0, 0.5, 0.0], [1.5, 0.0, -0.5, 1.0], [0.0, 0.3, 0.2, 2.0]])
    for ids in (torch.tensor([7, 3, 7, 5]), torch.tensor([4, 4, 9, 4]), torch.tensor([2, 0, 1, 3])):
        same = ids[:, None] == ids
        count = same.sum(dim=0)
        logs, logs_by_row = logits.log_softmax(dim=0), logits.log_softmax(dim=1)
        wanted = -logs.masked_fill(~same, -math.inf).logsumexp(dim=0).mean()
        mistakes = {
            "one_positive": -logs.diag().mean(),
            "axis": -logs_by_row.masked_fill(~same, -math.inf).logsumexp(dim=1).mean(),
            "spread": -((logs * same).sum(dim=0) / count).mean(),
            "product": -(logs * same).sum(dim=0).mean(),
            "average": -((logs.exp() * same).sum(dim=0) / count).log().mean(),
            "sum": wanted * len(ids),
            "sign": -wanted,
        }
        answer.expect((logits, ids), wanted, mistakes)
