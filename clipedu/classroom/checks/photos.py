"""The checks of the capstone, search in your own photos."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import torch

from clipedu.classroom.checks.framework import Answer, exercise

_GROUPS = [0, 1, 1, 2, 3, 3, 3, 4, 5, 6, 6, 7, 8, 8, 9, 0]  # 16 pictures of 10 groups; the last is of the first group


@exercise(
    type="应返回两个列表（留下的，拿出的），里面是照片的编号，得到 {found}\n"
    "return two lists of photo numbers, (kept, held out), not {found}",
    groups="列表里应是照片的编号，不是组的编号：{found}\n"
    "the lists should hold the numbers of photos, not of groups: {found}",
    partition="每张照片应在且只在一边：{found}\nevery photo must be on exactly one side: {found}",
    leak="第 {group} 组的照片两边都有：先分组，再放照片\n"
    "photos of group {group} are on both sides: split the groups first, then place the photos",
    swapped="两边反了：先返回留下的，再返回拿出的（约占 share）\n"
    "the two sides are swapped: return what stays first, then what is held out (about a share of `share`)",
    share="share 为 {share} 时，10 组里应拿出 {wanted} 组，拿出的是 {found}\n"
    "with a share of {share}, {wanted} of the 10 groups should be held out, not {found}",
    empty="share 为 {share} 时有一边是空的：至少拿出一组，也至少留下一组\n"
    "with a share of {share}, one side is empty: hold out at least one group, and keep at least one",
    chance="同样的种子应得同样的划分：用 random.Random(seed)，不要用 random.shuffle\n"
    "the same seed must give the same split: use random.Random(seed), not random.shuffle",
    seed="换一个种子，划分却没有变：先按种子打乱各组\n"
    "another seed gives the same split: shuffle the groups with the seed first",
    disturbs="不要改动全局的随机数（random.seed）：用自己的 random.Random(seed)\n"
    "leave the global random numbers alone (random.seed): use a random.Random(seed) of your own",
)
def split_by_group(answer: Answer) -> None:
    """Exercise C.1: `split_by_group(groups, share, seed) -> (kept, held out)`: whole groups on one side."""
    for seed in range(4):
        kept, held = _sides(answer, _GROUPS, 0.3, seed)
        found = {_GROUPS[number] for number in held}
        answer.must(len(found) != 7, "swapped")
        answer.must(len(found) == 3, "share", share=0.3, wanted=3, found=len(found))
    for share in (0.01, 0.99):
        kept, held = _sides(answer, _GROUPS, share, 0)
        answer.must(kept and held, "empty", share=share)
    random.seed(3)
    state = random.getstate()
    once = _sides(answer, _GROUPS, 0.3, 5)
    disturbed = random.getstate() != state
    random.seed(4)
    answer.must(_sides(answer, _GROUPS, 0.3, 5) == once, "chance")
    answer.must(not disturbed, "disturbs")
    splits = {str(_sides(answer, _GROUPS, 0.3, seed)) for seed in range(8)}
    answer.must(len(splits) > 1, "seed")
    moved = [100 * group + 7 for group in _GROUPS]  # other names for the same groups
    _sides(answer, moved, 0.3, 0)


def _sides(answer: Answer, groups: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    found = answer.call(list(groups), share, seed)
    is_pair = isinstance(found, tuple | list) and len(found) == 2
    is_pair = is_pair and all(isinstance(side, list | tuple | set | range) for side in found)
    answer.must(is_pair, "type", found=str(type(found).__name__))
    kept, held = (list(side) for side in found)
    everything = sorted([*kept, *held])
    whole = everything == list(range(len(groups)))
    answer.must(whole or everything != sorted({*groups}), "groups", found=str([kept, held]))
    answer.must(whole, "partition", found=str([kept, held]))
    both = {groups[number] for number in kept} & {groups[number] for number in held}
    answer.must(not both, "leak", group=min(both, default=0))
    return sorted(kept), sorted(held)


@exercise(
    type="应返回两个数（下限，上限），得到 {found}\nreturn two numbers, (low, high), not {found}",
    swapped="上下限反了\nlow and high are swapped",
    percent="应是 0 到 1 之间的份额，不是百分数\nreturn shares between 0 and 1, not percentages",
    plain="这是简单的 p ± 1.96 √(p(1-p)/n)：30 中 30 时它说 1 到 1，毫无疑问；用 Wilson 的公式\n"
    "this is the simple p ± 1.96 √(p(1-p)/n), which says 1 to 1 for 30 of 30, without any doubt; use Wilson's formula",
    one_sigma="区间太窄：z 应是 1.96（95%），不是 1\nthe interval is too narrow: z must be 1.96 (95%), not 1",
    middle="宽度对了，但中点应是 (p + z²/2n) / (1 + z²/n)，不是 p\n"
    "the width is right, but the middle should be (p + z²/2n) / (1 + z²/n), not p",
    no_denominator="还要除以 1 + z²/n\ndivide by 1 + z²/n as well",
    no_root="根号里的和忘了开方\ntake the square root of the sum",
    value="{hits} 中 {n} 时应得 {wanted}，得到 {found}\nfor {hits} of {n}, expected {wanted}, got {found}",
)
def recall_interval(answer: Answer) -> None:
    """Exercise C.2: `recall_interval(hits, n) -> (low, high)`: Wilson's 95% interval."""
    for hits, n in ((20, 30), (30, 30), (0, 30), (300, 1000)):
        found = answer.call(hits, n)
        is_pair = isinstance(found, tuple | list) and len(found) == 2
        is_pair = is_pair and all(isinstance(value, int | float) for value in found)
        answer.must(is_pair, "type", found=str(type(found).__name__))
        low, high = _wilson(hits, n)
        p, z = hits / n, 1.96
        half, plain = (high - low) / 2, z * math.sqrt(p * (1 - p) / n)
        scale = 1 + z**2 / n
        inside = p * (1 - p) / n + z**2 / (4 * n**2)
        mistakes = {
            "swapped": [high, low],
            "percent": [100 * low, 100 * high],
            "plain": [p - plain, p + plain],
            "one_sigma": [*_wilson(hits, n, 1.0)],
            "middle": [p - half, p + half],
            "no_denominator": [(low + high) / 2 * scale - half * scale, (low + high) / 2 * scale + half * scale],
            "no_root": [(low + high) / 2 - z / scale * inside, (low + high) / 2 + z / scale * inside],
        }
        answer.compare([float(value) for value in found], [low, high], mistakes, hits=hits, n=n)


def _wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    p = hits / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


_SIMILARITY = torch.tensor(  # ranks 2, 5, 1, 4, 3
    [
        [0.50, 0.60, 0.10, 0.20, 0.30],
        [0.41, 0.12, 0.43, 0.24, 0.35],
        [0.01, 0.02, 0.08, 0.03, 0.05],
        [0.55, 0.31, 0.65, 0.22, 0.15],
        [0.58, 0.13, 0.68, 0.16, 0.37],
    ]
)


@exercise(
    type="应返回一个列表，里面是 (名次, 编号)，得到 {found}\nreturn a list of (rank, number), not {found}",
    pairs="每一项应是 (名次, 编号) 两个整数，得到 {found}\n"
    "each entry should be two integers, (rank, number), not {found}",
    length="应返回 {wanted} 项，得到 {found}\nreturn {wanted} entries, not {found}",
    best_first="应是最糟的在前，这里是最好的在前\nthe worst come first; these are the best",
    from_zero="名次从 1 数起：自己排第一，名次就是 1\nranks start at 1: the right picture in first place has rank 1",
    swapped="应是 (名次, 编号)，次序反了\nthe entries should be (rank, number), not the other way round",
    by_picture="每句话要和全部照片比：沿着行（第 1 维）数，不是沿着列\n"
    "compare each sentence with all pictures: count along a row (dimension 1), not down a column",
    by_score="应按名次排，不按余弦的大小：余弦低的也可能排第一\n"
    "sort by rank, not by the cosine: a low cosine can still be in first place",
    ties="平局应算模型输：和自己分数相等的照片都排在前面（用 >=）；全部相等时，名次应是最后\n"
    "ties count against the model: pictures with an equal score are ahead (use >=); if all are equal, the rank is the "
    "last",
    value="应得 {wanted}，得到 {found}\nexpected {wanted}, got {found}",
)
def failures(answer: Answer) -> None:
    """Exercise C.3: `failures(similarity, k) -> [(rank, number)]`, the worst first."""
    wanted = [[5, 1], [4, 3], [3, 4]]
    mistakes = {
        "best_first": [[1, 2], [2, 0], [3, 4]],
        "from_zero": [[4, 1], [3, 3], [2, 4]],
        "swapped": [[1, 5], [3, 4], [4, 3]],
        "by_picture": [[5, 2], [4, 1], [3, 0]],
        "by_score": [[1, 2], [5, 1], [4, 3]],
    }
    answer.compare(_pairs(answer, _SIMILARITY, 3), wanted, mistakes)
    tied = _pairs(answer, torch.full((4, 4), 0.5), 4)
    answer.must([rank for rank, _ in tied] == [4, 4, 4, 4], "ties")


def _pairs(answer: Answer, similarity: torch.Tensor, k: int) -> list[list[int]]:
    found: Any = answer.call(similarity, k)
    answer.must(isinstance(found, list), "type", found=str(type(found).__name__))
    pairs = []
    for item in found:
        numbers = list(item) if isinstance(item, tuple | list) else []
        numbers = [
            int(n) if isinstance(n, int | float | torch.Tensor) and float(n) == int(n) else None for n in numbers
        ]
        answer.must(len(numbers) == 2 and None not in numbers, "pairs", found=str(item))
        pairs.append([n for n in numbers if n is not None])
    answer.must(len(pairs) == k, "length", wanted=k, found=len(pairs))
    return pairs
