"""The checks of notebook 09, two languages."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clipedu.classroom.checks.framework import Answer, exercise


@exercise(
    values="这是余弦本身：要的是名字的编号（topk 的 .indices）\n"
    "these are the cosines themselves: return the numbers of the names (topk's .indices)",
    ascending="这是最远的名字：余弦最大的才最近\nthese are the farthest names: the nearest has the largest cosine",
    swapped="方向反了：要为每个查询找名字，不是为每个名字找查询\n"
    "the wrong way round: find names for each query, not queries for each name",
    transposed="转置了：每个查询占一行，形状应为 {wanted}\n"
    "transposed: each query is a row, so the shape should be {wanted}",
    dot_product="这是按点积排的，长的行占了便宜：先把两边的每一行变成长度 1\n"
    "this is ranked by dot product, which favours long rows: scale the rows of both sides to length 1 first",
    too_many="名字只有 {count} 个，要前 {top} 个：这时应返回全部，从近到远\n"
    "there are only {count} names and top is {top}: return all of them, the nearest first",
)
def translate(answer: Answer) -> None:
    """Exercise 9.1: `translate(queries, names, top) -> [Q, top]`: the numbers of the nearest names, nearest first."""
    queries = torch.tensor([[2.0, 0.0, 0.2], [0.0, 0.5, 0.4], [0.3, 0.1, 0.9]])
    names = torch.tensor([[0.9, 0.1, 0.2], [3.0, 5.0, 1.0], [0.1, 0.9, 0.8], [0.2, 0.0, 0.7]])
    cosines = F.cosine_similarity(queries[:, None], names[None], dim=-1)  # (Q, N)
    order = cosines.argsort(dim=1, descending=True)
    found = answer.call(queries, names, 2)
    answer.must(isinstance(found, Tensor), "type", wanted="Tensor", found=type(found).__name__)
    answer.must(found.shape not in ((4, 2), (2, 4)), "swapped")
    answer.must(found.shape != (2, 3), "transposed", wanted=[3, 2])
    answer.must(list(found.shape) == [3, 2], "shape", wanted=[3, 2], found=list(found.shape))
    answer.must(not found.isnan().any(), "nan")
    answer.must(not found.is_floating_point(), "values")
    mistakes = {
        "ascending": cosines.argsort(dim=1)[:, :2],
        "dot_product": (queries @ names.T).argsort(dim=1, descending=True)[:, :2],
    }
    answer.compare(found, order[:, :2], mistakes)
    try:
        everything = answer.call(queries, names, 9)
    except (RuntimeError, IndexError):
        everything = None
    is_whole = isinstance(everything, Tensor) and everything.shape == order.shape and everything.equal(order)
    answer.must(is_whole, "too_many", count=4, top=9)


@exercise(
    type="应返回两个数（名次的中位数，R@1），得到 {found}\nreturn two numbers, (median rank, R@1), not {found}",
    order="两个数的次序反了：名次的中位数在前，R@1 在后\n"
    "the two numbers are in the wrong order: first the median rank, then R@1",
    from_zero="最近的名字是第 1 名，不是第 0 名\nthe nearest name has rank 1, not 0",
    mean="这是名次的平均：几个远的就能把它拉走，要的是中位数\n"
    "this is the mean rank, which a few bad ones pull away: use the median",
    lower_median="名次有偶数个，中位数是中间两个的平均；torch.median 只给较小的一个（用 .quantile(0.5)）\n"
    "the number of ranks is even, so the median is the mean of the middle two; torch.median returns the lower one "
    "(use .quantile(0.5))",
    other_direction="这是从英文找中文：行是中文，每一行自己排名次（dim=1）\n"
    "this looks for Chinese from English: rows are Chinese, and each row is ranked by itself (dim=1)",
    percent="R@1 应是 0 到 1 之间的份额，不是百分数\nR@1 should be a share between 0 and 1, not a percentage",
    ties="打平算模型输：和自己的译名一样近的名字，也排在前面（>=，自己也数进去，正好从 1 数起）\n"
    "ties count against the model: a name exactly as near as the right one is ahead of it (>=; the right one counts "
    "itself, so ranks begin at 1)",
    value="应得 {wanted}（名次的中位数，R@1），得到 {found}\nexpected {wanted} (median rank, R@1), got {found}",
)
def matching(answer: Answer) -> None:
    """Exercise 9.2: `matching(zh, en) -> (median rank, R@1)`; row i of both are names of one emoji."""
    cosines = torch.tensor(  # rows: Chinese, with ranks 1, 4, 1, 2; downwards they are 1, 3, 3, 2
        [
            [0.9, 0.15, 0.8, 0.2],
            [0.5, 0.1, 0.7, 0.65],
            [0.2, 0.0, 0.6, 0.4],
            [0.8, 0.2, 0.5, 0.6],
        ]
    )
    english = torch.eye(4)
    mistakes = {
        "order": [0.5, 1.5],
        "from_zero": ([0.5, 0.5], [0.5, 0.75]),
        "mean": [2.0, 0.5],
        "lower_median": [1.0, 0.5],
        "other_direction": [2.5, 0.25],
        "percent": [1.5, 50.0],
    }
    # One more number makes the rows' lengths equal to 1.
    rest = (4 - cosines.square().sum(dim=1, keepdim=True)).sqrt()
    chinese = torch.cat([cosines, rest], dim=1) / 2
    answer.compare(_two(answer, chinese, F.pad(english, (0, 1))), [1.5, 0.5], mistakes)
    collapsed = torch.eye(4)[:1].expand(6, 4).contiguous()
    answer.compare(_two(answer, collapsed, collapsed), [6.0, 0.0], {"ties": lambda _: True})


def _two(answer: Answer, *arguments: Any) -> list[float]:
    found = answer.call(*arguments)
    values = found.tolist() if isinstance(found, Tensor) else found
    kind = f"Tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    answer.must(isinstance(values, tuple | list) and len(values) == 2, "type", found=kind)
    numbers = [float(value) if _is_number(value) else math.nan for value in values]
    answer.must(not any(map(math.isnan, numbers)), "type", found=kind)
    return numbers


def _is_number(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, int | float)


@exercise(
    type="应返回两个张量（中文，英文），得到 {found}\nreturn two tensors, (Chinese, English), not {found}",
    joint="减去了两种语言共同的平均：各自的差别还留着，要各减各的\n"
    "you subtracted the mean of both languages together, which leaves their difference: subtract each one's own",
    exchanged="减去了另一种语言的平均：要各减各的\nyou subtracted the other language's mean: subtract each one's own",
    one_side="只减了一边的平均：两边都要减\nonly one side lost its mean: subtract on both sides",
    axis="每一行减去了自己各个数的平均（dim=1）：要的是平均向量，对所有名字取平均（dim=0）\n"
    "each row lost the mean of its own numbers (dim=1): use the mean vector, averaged over the names (dim=0)",
    one_number="减去的是一个数：平均应是一个向量，每一维一个数（mean(dim=0)）\n"
    "you subtracted a single number: the mean is a vector, one number per dimension (mean(dim=0))",
    not_normalized="减去平均之后，行的长度变了：要再变成长度 1\n"
    "subtracting the mean changes the rows' lengths: scale them back to length 1",
    reversed="两个返回值的次序反了：中文在前\nthe two results are in the wrong order: Chinese comes first",
)
def remove_language(answer: Answer) -> None:
    """Exercise 9.3: `remove_language(zh, en) -> (zh, en)`: each without its own mean, rows of length 1 again."""
    zh = F.normalize(torch.tensor([[2.0, 1.0, 0.5], [1.0, 2.0, 0.0], [1.5, 0.2, 1.0]]), dim=1)
    en = F.normalize(torch.tensor([[0.3, 1.0, 2.0], [-0.5, 1.0, 1.0], [0.4, -0.3, 1.0], [1.0, 0.1, 0.8]]), dim=1)

    def less(zh_mean: Tensor | float, en_mean: Tensor | float) -> Tensor:
        return F.normalize(torch.cat([zh - zh_mean, en - en_mean]), dim=1)

    ours, theirs, joint = zh.mean(dim=0), en.mean(dim=0), torch.cat([zh, en]).mean(dim=0)
    wanted = less(ours, theirs)
    mistakes = {
        "joint": (less(joint, joint), less((ours + theirs) / 2, (ours + theirs) / 2)),
        "exchanged": less(theirs, ours),
        "one_side": (less(0.0, theirs), less(ours, 0.0), less(ours - theirs, 0.0), less(0.0, theirs - ours)),
        "axis": less(zh.mean(dim=1, keepdim=True), en.mean(dim=1, keepdim=True)),
        "one_number": less(zh.mean(), en.mean()),
        "not_normalized": torch.cat([zh - ours, en - theirs]),
    }
    found = answer.call(zh, en)
    kind = f"Tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    is_pair = isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(each, Tensor) for each in found)
    answer.must(is_pair, "type", found=kind)
    answer.must([len(each) if each.ndim else 0 for each in found] != [4, 3], "reversed")
    first, second = (answer.like(like, each) for like, each in zip((zh, en), found, strict=True))
    answer.compare(torch.cat([first, second]), wanted, mistakes)
