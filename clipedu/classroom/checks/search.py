"""The checks of notebook 07, search and zero-shot."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clipedu.classroom.checks.framework import Answer, exercise


@exercise(
    type="应返回两个张量 (余弦, 编号)，得到 {found}\nreturn two tensors, (cosines, indices), not {found}",
    too_many="top 可以大于向量的个数：那时返回全部 {count} 个，不要报错\n"
    "top may be larger than the number of vectors: then return all {count} of them, not an error",
    shape="两个张量的形状都应为 {wanted}：每个查询一行，得到 {found}\n"
    "both tensors should have the shape {wanted}, one row per query, not {found}",
    swapped="两个结果的次序反了：先余弦，再编号\nthe two results are swapped: cosines come first, then indices",
    not_integers="编号应是整数（int64），得到 {found}\nindices should be integers (int64), not {found}",
    farthest="最不像的排在了前面：用 descending=True\nthe least similar come first: use descending=True",
    late_ties="余弦相等时，编号小的应排在前面；这里反了\n"
    "of equal cosines, the smaller index comes first; yours has them the other way round",
    ties="余弦相等时，编号小的应排在前面；topk 和普通的 sort 都不保证，用 stable=True\n"
    "of equal cosines, the smaller index comes first; neither topk nor a plain sort promises that: use stable=True",
    by_index="应是最像的排在前面，不是编号小的排在前面\nthe nearest should come first, not the smallest index",
    cosines="编号对了，余弦不对：应是查询与那个向量的点积，得到 {found}\n"
    "the indices are right, the cosines are not: they are the products of query and vector, not {found}",
    value="应得编号 {wanted}，得到 {found}\nexpected the indices {wanted}, got {found}",
)
def nearest(answer: Answer) -> None:
    """Exercise 7.1: `nearest(embedding, queries, top)`: cosines and indices `[Q, top]`, ties by the smaller index."""
    embedding = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.2]]), dim=1)
    queries = F.normalize(torch.tensor([[1.0, 0.2], [-0.1, 1.0]]), dim=1)
    wanted = torch.tensor([[0, 2], [1, 2]])
    cosines, indices = _cosines_and_indices(answer, embedding, queries, 2)
    mistakes = {"farthest": torch.tensor([[3, 1], [0, 3]])}
    answer.compare(indices, wanted, mistakes)
    right = torch.gather(queries @ embedding.T, 1, wanted)
    answer.compare(cosines, right, {}, otherwise="cosines")
    query = torch.tensor([[-1.0, 0.0]])
    found = _cosines_and_indices(answer, embedding, query, 4)[1]
    answer.compare(found, torch.tensor([[3, 1, 2, 0]]), {"by_index": torch.tensor([[0, 1, 2, 3]])})
    found = _cosines_and_indices(answer, embedding, queries, 9, count=4)[1]
    answer.compare(found, torch.tensor([[0, 2, 1, 3], [1, 2, 3, 0]]), {})
    # 300 vectors, three directions in turn: 100 of each are equally near.
    many = torch.eye(3).repeat(100, 1)
    found = _cosines_and_indices(answer, many, torch.tensor([[0.0, 1.0, 0.0]]), 5)[1]
    ties = {"late_ties": torch.tensor([[298, 295, 292, 289, 286]]), "ties": lambda _: True}
    answer.compare(found, torch.tensor([[1, 4, 7, 10, 13]]), ties)


def _cosines_and_indices(
    answer: Answer, embedding: Tensor, queries: Tensor, top: int, count: int | None = None
) -> tuple[Tensor, Tensor]:
    try:
        found = answer.call(embedding, queries, top)
    except (RuntimeError, IndexError):
        answer.must(count is None, "too_many", count=count)
        raise
    values = list(found) if isinstance(found, tuple | list) else []
    is_pair = len(values) == 2 and all(isinstance(value, Tensor) for value in values)
    answer.must(is_pair, "type", found=_kind(found))
    cosines, indices = values
    shape = [len(queries), min(top, len(embedding))]
    shapes = [list(cosines.shape), list(indices.shape)]
    answer.must(shapes == [shape, shape], "shape", wanted=shape, found=shapes)
    answer.must(not (indices.is_floating_point() and cosines.dtype == torch.int64), "swapped")
    answer.must(indices.dtype == torch.int64, "not_integers", found=str(indices.dtype))
    return cosines, indices


def _kind(found: Any) -> str:
    return f"Tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__


@exercise(
    shape="形状应为 (C, E) = {wanted}：每一类一个向量，得到 {found}\n"
    "the shape should be (C, E) = {wanted}, one vector per class, not {found}",
    over_classes="平均到了别的维上：要对每一类的 P 句话（dim=1）取平均\n"
    "the average is over the wrong axis: average the P sentences of each class (dim=1)",
    never="最后也要归一化：几个单位向量的平均比 1 短\n"
    "normalize at the end too: the mean of several unit vectors is shorter than 1",
    once="先归一化每一句，再平均：否则长的向量说了算\n"
    "normalize each sentence before averaging, or the long vectors decide",
    neither="一次也没有归一化：先归一化每一句，平均之后再归一化一次\n"
    "nothing is normalized: normalize each sentence, average, then normalize again",
    wrong_axis="归一化要沿 E 那一维（dim=-1）\nnormalize along the axis of E (dim=-1)",
    first_only="只用了每一类的第一句：要对 P 句取平均\n"
    "only the first sentence of each class is used: average all P of them",
    value="应得 {wanted}，得到 {found}\nexpected {wanted}, got {found}",
)
def prompt_ensemble(answer: Answer) -> None:
    """Exercise 7.2: `prompt_ensemble(sentences)`: `[C, P, E]` of any length to one unit vector per class, `[C, E]`."""
    sentences = torch.tensor(
        [
            [[9.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]],  # a long and a short vector at a right angle
            [[0.0, 2.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0]],
            [[-1.0, 0.0, 1.0, 2.0], [-0.6, -0.8, 0.0, 1.0]],
        ]
    )
    unit = F.normalize(sentences, dim=-1)
    wanted = F.normalize(unit.mean(dim=1), dim=-1)
    axis = F.normalize(F.normalize(sentences, dim=1).mean(dim=1), dim=1)
    mistakes = {
        "never": (unit.mean(dim=1), unit.sum(dim=1)),
        "once": F.normalize(sentences.mean(dim=1), dim=-1),
        "neither": (sentences.mean(dim=1), sentences.sum(dim=1)),
        "wrong_axis": (axis, F.normalize(unit.mean(dim=1), dim=0)),
        "first_only": unit[:, 0],
    }
    found = answer.call(sentences)
    over_classes = isinstance(found, Tensor) and list(found.shape) in ([2, 4], [3, 2])
    answer.must(not over_classes, "over_classes")
    answer.compare(answer.like(wanted, found), wanted, mistakes)


@exercise(
    percent="应是 0 到 1 之间的份额，不是百分数\nreturn a share between 0 and 1, not a percentage",
    count="这是个数，不是份额：除以 Q·k\nthis is a count, not a share: divide by Q times k",
    order="次序不要紧：准确的前 k 个，只要在找到的里面就算\n"
    "the order doesn't matter: each of the exact k counts if it is anywhere among those found",
    any_hit="找到一个不算全对：每个查询的 k 个，一个一个算\n"
    "one hit doesn't make a query right: each of its k counts by itself",
    all_hit="不必 k 个全找到：每一个单独算\nthey need not all be found: each one counts by itself",
    mixed="每个查询只和自己那一行比：别的查询找到的不算\n"
    "compare each query with its own row: what other queries found doesn't count",
    found_only="要除以准确答案的个数 k，不是找到的个数：-1 表示这个位置空着\n"
    "divide by the number of exact answers, k, not by the number found: -1 means an empty place",
    value="应得 {wanted}，得到 {found}\nexpected {wanted}, got {found}",
)
def index_recall(answer: Answer) -> None:
    """Exercise 7.3: `index_recall(found, exact)`: the share of the exact neighbours `[Q, k]` that were found."""
    exact = torch.tensor([[7, 2, 9, 4], [1, 8, 3, 6], [5, 0, 2, 11]])
    found = torch.tensor([[2, 7, 9, 1], [8, 12, 6, 7], [10, 9, 12, 13]])  # 3, 2 and 0 of 4
    mistakes = {
        "percent": 100 * 5 / 12,
        "count": (5.0, 5 / 3),
        "order": 1 / 12,
        "any_hit": 2 / 3,
        "all_hit": 0.0,
        "mixed": 7 / 12,
    }
    answer.compare(_number(answer, exact, found), 5 / 12, mistakes)
    some = torch.tensor([[2, 7, -1, -1], [8, -1, -1, -1], [5, 0, 2, 11]])
    answer.compare(_number(answer, exact, some), 7 / 12, {"found_only": 1.0})


def _number(answer: Answer, exact: Tensor, found: Tensor) -> float:
    share = answer.call(found, exact)
    if isinstance(share, Tensor) and share.numel() == 1:
        share = share.item()
    return float(answer.like(0.5, share))
