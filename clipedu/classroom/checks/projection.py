"""The checks of notebook 03, projection and normalization."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from clipedu.classroom.checks.framework import Answer, exercise


@exercise(
    axis="除以了每列的长度（dim=0）：要的是最后一维（dim=-1）\n"
    "divided by each column's length (dim=0): use the last axis (dim=-1)",
    whole_matrix="除以了整个矩阵的长度：每一行应有自己的长度\n"
    "divided by the length of the whole matrix: each row has its own length",
    square_root="除以了平方和：长度还要开平方\ndivided by the sum of squares: the length is its square root",
    L1="除以了绝对值之和（L1）：这里要的是 L2 长度\ndivided by the sum of absolute values (L1): use the L2 length",
    length="行的长度是 {lengths}，应都为 1\nthe rows have lengths {lengths}, but all should be 1",
    no_keepdim="每个数除以了别的行的长度：长度的形状要留住最后一维，(B, 1)\n"
    "numbers were divided by another row's length: the lengths must keep the last axis, (B, 1)",
    three_axes="(B, E) 对了，(B, T, E) 错了：要的是最后一维，不是第二维\n"
    "right for (B, E) and wrong for (B, T, E): use the last axis, not the second",
    zero="零向量没有方向，应保持为零\na zero vector has no direction and must stay zero",
    zero_nan="零向量变成了 NaN：0 除以 0。让除数不小于一个很小的正数\n"
    "the zero vector became NaN: 0 divided by 0. Keep the divisor above a tiny positive number",
    short="很短的向量没有变成长度 1：除数只在长度接近 0 时才需要改\n"
    "a short vector did not get length 1: change the divisor only where the length is practically 0",
    sign="方向变了：负数应仍为负数\nthe direction changed: negative numbers must stay negative",
)
def normalize(answer: Answer) -> None:
    """Exercise 3.1: `normalize(x) -> x` with length 1 along the last axis; a zero vector stays zero."""
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    mistakes = {
        "no_keepdim": x / x.norm(dim=-1),
        "axis": x / x.norm(dim=0),
        "whole_matrix": x / x.norm(),
        "square_root": x / x.pow(2).sum(dim=1, keepdim=True),
        "L1": x / x.abs().sum(dim=1, keepdim=True),
    }
    wanted = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    found = answer.like(wanted, answer.call(x))
    answer.compare(found, wanted, mistakes, "length", lengths=found.float().norm(dim=1))
    tokens = torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]]])  # (B=1, T=2, E=3)
    answer.expect((tokens,), torch.tensor([[[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]]), {}, "three_axes")
    nothing = answer.call(torch.zeros(1, 3))
    answer.must(not (isinstance(nothing, torch.Tensor) and nothing.isnan().any()), "zero_nan")
    answer.compare(answer.like(torch.zeros(1, 3), nothing), torch.zeros(1, 3), {}, "zero")
    answer.expect((torch.tensor([[-3.0, 4.0]]),), torch.tensor([[-0.6, 0.8]]), {}, "sign")
    answer.expect((torch.tensor([[3e-4, 4e-4]]),), torch.tensor([[0.6, 0.8]]), {}, "short")


@exercise(
    transposed="转置了：图像应成行，文本应成列\ntransposed: images should be rows and texts columns",
    not_normalized="这是点积：投射之后还没有归一化\nthese are dot products: nothing is normalized after the projection",
    one_side="只归一化了一边\nonly one side is normalized",
    too_early="归一化在投射之前：投射会再改变长度，应在投射之后归一化\n"
    "normalized before the projection, which changes the lengths again: normalize afterwards",
    columns="归一化沿着列（dim=0）：每个向量是一行，要 dim=-1\n"
    "normalized along the columns (dim=0): each vector is a row, so dim=-1",
    softmax="这是概率：只要余弦，不要 softmax\nthese are probabilities: return the cosines, without a softmax",
    swapped="两个矩阵用反了：图像乘 W_image，文本乘 W_text\n"
    "the matrices are swapped: images go through W_image, texts through W_text",
)
def clip_similarity(answer: Answer) -> None:
    """Exercise 3.2: `clip_similarity(image_features, text_features, W_image, W_text) -> [I, T]`, the cosines."""
    image = torch.tensor([[2.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, -3.0, 4.0], [1.0, 2.0, 2.0]])  # (I=4, D=3)
    text = torch.tensor([[5.0, 0.0, 1.0], [0.0, 0.5, 0.5]])  # (T=2, D=3)
    W_image = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])  # (E=2, D=3)
    W_text = torch.tensor([[1.0, 0.5, 0.0], [-1.0, 1.0, 1.0]])
    a, b = image @ W_image.T, text @ W_text.T
    wanted = F.cosine_similarity(a[:, None], b[None], dim=-1)
    early = F.normalize(image, dim=-1) @ W_image.T @ (F.normalize(text, dim=-1) @ W_text.T).T
    swapped = F.cosine_similarity((image @ W_text.T)[:, None], (text @ W_image.T)[None], dim=-1)
    mistakes = {
        "not_normalized": a @ b.T,
        "one_side": (F.normalize(a, dim=-1) @ b.T, a @ F.normalize(b, dim=-1).T),
        "too_early": early,
        "columns": F.normalize(a, dim=0) @ F.normalize(b, dim=0).T,
        "softmax": (wanted.softmax(dim=1), wanted.softmax(dim=0)),
        "swapped": swapped,
    }
    answer.expect((image, text, W_image, W_text), wanted, mistakes)


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
