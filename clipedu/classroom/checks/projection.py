"""The checks of notebook 03, projection and normalization."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from clipedu.classroom.checks.framework import Answer, exercise


@exercise(
    axis="除以了每列的长度（dim=0）：要的是每行（dim=-1）\n"
    "divided by each column's length (dim=0): divide by each row's (dim=-1)",
    whole_matrix="除以了整个矩阵的长度：每一行应有自己的长度\n"
    "divided by the length of the whole matrix: each row has its own length",
    square_root="除以了平方和：长度还要开平方\ndivided by the sum of squares: the length is its square root",
    L1="除以了绝对值之和（L1）：这里要的是 L2 长度\ndivided by the sum of absolute values (L1): use the L2 length",
    length="行的长度是 {lengths}，应都为 1\nthe rows have lengths {lengths}, but all should be 1",
    zero="零向量没有方向，应保持为零\na zero vector has no direction and must stay zero",
    sign="方向变了：负数应仍为负数\nthe direction changed: negative numbers must stay negative",
)
def normalize(answer: Answer) -> None:
    """Exercise 3.1: `normalize(x) -> x` with rows of length 1; a zero row stays zero."""
    x = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    mistakes = {
        "axis": x / x.norm(dim=0),
        "whole_matrix": x / x.norm(),
        "square_root": x / x.pow(2).sum(dim=1, keepdim=True),
        "L1": x / x.abs().sum(dim=1, keepdim=True),
    }
    wanted = torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    found = answer.like(wanted, answer.call(x))
    answer.compare(found, wanted, mistakes, "length", lengths=found.float().norm(dim=1))
    answer.expect((torch.zeros(1, 3),), torch.zeros(1, 3), {}, "zero")
    answer.expect((torch.tensor([[-3.0, 4.0]]),), torch.tensor([[-0.6, 0.8]]), {}, "sign")


@exercise(
    transposed="转置了：图像应成行，文本应成列\ntransposed: images should be rows and texts columns",
    not_normalized="这是点积：两边都还没有归一化\nthese are dot products: neither side is normalized yet",
    one_side="只归一化了一边\nonly one side is normalized",
)
def cosine_matrix(answer: Answer) -> None:
    """Exercise 3.2: `cosine_matrix(images, texts) -> [I, T]` for vectors of any length."""
    images = torch.tensor([[2.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, -3.0, 4.0], [1.0, 2.0, 2.0]])  # (I=4, E=3)
    texts = torch.tensor([[5.0, 0.0, 1.0], [0.0, 0.5, 0.5]])  # (T=2, E=3)
    wanted = F.cosine_similarity(images[:, None], texts[None], dim=-1)
    mistakes = {
        "not_normalized": images @ texts.T,
        "one_side": (F.normalize(images, dim=-1) @ texts.T, images @ F.normalize(texts, dim=-1).T),
    }
    answer.expect((images, texts), wanted, mistakes)


@exercise(
    transposed="转置了：每句话占一行，形状应为 (T, k)\ntransposed: one row per sentence, so the shape should be (T, k)",
    values="返回了相似度本身：要的是图像的编号\nthese are the similarities themselves: return the image indices",
    order="次序反了：最近的应排在最前\nthe order is reversed: the nearest should come first",
    ascending="这是最不相似的图像：应从大到小排序\nthese are the least similar images: sort in descending order",
    axis="应得 {wanted}，得到 {found}：排序的是图像那一维（dim=0）吗？\n"
    "expected {wanted}, got {found}: did you sort along the image axis (dim=0)?",
)
def best_images(answer: Answer) -> None:
    """Exercise 3.3: `best_images(similarity, k) -> [T, k]`, the k nearest images for each text, nearest first."""
    similarity = torch.tensor([[0.9, 0.0, 0.2], [0.1, 0.4, 0.7], [0.3, -0.9, 0.6], [0.5, 0.8, -0.1]])  # (I=4, T=3)
    wanted = torch.tensor([[0, 3], [3, 1], [1, 2]])
    mistakes = {
        "values": lambda found: bool((found % 1).any()),
        "order": wanted.flip(1),
        "ascending": torch.tensor([[1, 2], [2, 0], [3, 0]]),
    }
    answer.expect((similarity, 2), wanted, mistakes, "axis")
