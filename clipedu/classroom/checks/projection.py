"""The checks of notebook 03, projection and normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clipedu.classroom.checks.framework import Answer, call, exercise, must, near, tensor


@exercise
def normalize(answer: Answer) -> None:
    """Exercise 3.1: `normalize(x) -> x` with rows of length 1; a zero row stays zero."""
    x = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    found = tensor(answer, (2, 3), x)
    wanted = x / x.norm(dim=1, keepdim=True)
    must(
        not near(found, x / x.norm(dim=0).clamp(min=1e-12)),
        "axis",
        "除以了每列的长度（dim=0）：要的是每行（dim=-1）",
        "divided by the length of each column (dim=0): each row is meant (dim=-1)",
    )
    must(
        not near(found, x / x.norm()),
        "whole matrix",
        "除以了整个矩阵的长度：每一行应有自己的长度",
        "divided by the length of the whole matrix: each row has its own",
    )
    must(
        not near(found, x / x.pow(2).sum(dim=1, keepdim=True)),
        "square root",
        "除以了平方和：长度还要开平方",
        "divided by the sum of squares: the length is its square root",
    )
    must(
        not near(found, x / x.abs().sum(dim=1, keepdim=True)),
        "L1",
        "除以了绝对值之和（L1）：这里要的是 L2 长度",
        "divided by the sum of absolute values (L1): the L2 length is meant",
    )
    must(
        near(found, wanted),
        "length",
        f"行的长度是 {found.norm(dim=1).tolist()}，应都为 1",
        f"the rows have lengths {found.norm(dim=1).tolist()}, all must be 1",
    )
    zero = tensor(answer, (1, 3), torch.zeros(1, 3))
    must(
        near(zero, torch.zeros(1, 3)),
        "zero",
        "零向量没有方向，应保持为零",
        "a zero vector has no direction and must stay zero",
    )
    negative = torch.tensor([[-3.0, 4.0]])
    must(
        near(tensor(answer, (1, 2), negative), negative / 5),
        "sign",
        "方向变了：负数应仍为负数",
        "the direction changed: negative numbers must stay negative",
    )


@exercise
def cosine_matrix(answer: Answer) -> None:
    """Exercise 3.2: `cosine_matrix(images, texts) -> [I, T]` for vectors of any length."""
    images = torch.tensor([[2.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, -3.0, 4.0], [1.0, 2.0, 2.0]])  # (I=4, E=3)
    texts = torch.tensor([[5.0, 0.0, 1.0], [0.0, 0.5, 0.5]])  # (T=2, E=3)
    wanted = nn.functional.normalize(images, dim=-1) @ nn.functional.normalize(texts, dim=-1).T
    result = call(answer, images, texts)
    must(
        not isinstance(result, Tensor) or result.shape != (2, 4),
        "transposed",
        "转置了：图像应成行，文本应成列",
        "transposed: images must be rows and texts columns",
    )
    found = tensor(answer, (4, 2), images, texts)
    must(
        not near(found, images @ texts.T),
        "not normalized",
        "这是点积：两边都还没有归一化",
        "these are dot products: neither side is normalized yet",
    )
    half = (nn.functional.normalize(images, dim=-1) @ texts.T, images @ nn.functional.normalize(texts, dim=-1).T)
    must(not any(near(found, one) for one in half), "one side", "只归一化了一边", "only one side is normalized")
    must(
        near(found, wanted),
        "value",
        f"第一行应为 {wanted[0].tolist()}，得到 {found[0].tolist()}",
        f"the first row must be {wanted[0].tolist()}, not {found[0].tolist()}",
    )


@exercise
def best_images(answer: Answer) -> None:
    """Exercise 3.3: `best_images(similarity, k) -> [T, k]`, for each text the k nearest images, the nearest first."""
    matrix = torch.tensor([[0.9, 0.0, 0.2], [0.1, 0.4, 0.7], [0.3, -0.9, 0.6], [0.5, 0.8, -0.1]])  # (I=4, T=3)
    result = call(answer, matrix, 2)
    must(
        not isinstance(result, Tensor) or result.shape != (2, 3),
        "transposed",
        "转置了：每句话占一行，形状应为 (T, k)",
        "transposed: each sentence has a row, the shape must be (T, k)",
    )
    found = tensor(answer, (3, 2), matrix, 2)
    wanted = torch.tensor([[0, 3], [3, 1], [1, 2]])
    must(
        not bool((found % 1).any()),
        "values",
        "返回了相似度本身：要的是图像的编号",
        "these are the similarities themselves: the images' numbers are wanted",
    )
    must(
        not near(found, wanted.flip(1)),
        "order",
        "次序反了：最近的应排在最前",
        "the order is reversed: the nearest comes first",
    )
    must(
        not near(found, torch.tensor([[1, 2], [2, 0], [3, 0]])),
        "ascending",
        "这是最不像的图像：应从大到小排序",
        "these are the least similar images: sort from large to small",
    )
    must(
        near(found, wanted),
        "axis",
        f"应得 {wanted.tolist()}，得到 {found.int().tolist()}：排序的是图像那一维（dim=0）吗？",
        f"it must be {wanted.tolist()}, not {found.int().tolist()}: is it the images' axis (dim=0) that you sorted?",
    )
