"""The checks of notebook 06, pretrained or from scratch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from clipedu.classroom.checks.framework import Answer, exercise


@exercise(
    integers="num_batches_tracked 是整数，只数批次，不是权重：应略过（w.is_floating_point()）\n"
    "num_batches_tracked is an integer that counts batches, not a weight: skip it (w.is_floating_point())",
    names="字典的键应是 {wanted}，得到 {found}\nthe dict's keys should be {wanted}, not {found}",
    not_one_number="每个张量应得一个数，得到的是 {kind}：用 .norm()，不要逐元素运算\n"
    "each tensor should give one number, not {kind}: use .norm(), not element-wise operations",
    absolute="这是绝对的变化：还要除以 before 的长度\nthis is the absolute change: divide by the norm before training",
    new_norm="除以了训练之后的长度：应除以训练前（before）的\n"
    "divided by the norm after training: divide by the norm before training (before)",
    difference_of_norms="这是两个长度之差：先相减，再求长度，否则只改变方向时看不出来\n"
    "this is the difference of two norms, which misses a change of direction: subtract first, then take the norm",
    squared="这是平方之比：长度还要开平方\nthis is a ratio of squares: take the square root",
    value="应得 {wanted}（没有变的张量得 0），得到 {found}\n"
    "expected {wanted} (0 for a tensor that did not change), got {found}",
)
def drift(answer: Answer) -> None:
    """Exercise 6.3: `drift(before, after) -> dict`: ||w - w0|| / ||w0|| of every floating-point tensor, by name."""
    before = {
        "conv.weight": torch.tensor([[3.0, 0.0], [0.0, 4.0]]),  # length 5
        "bn.weight": torch.tensor([2.0, -2.0, 1.0]),
        "bn.running_var": torch.tensor([1.0]),
        "bn.num_batches_tracked": torch.tensor(3),
    }
    after = {
        "conv.weight": torch.tensor([[3.0, 1.0], [2.0, 2.0]]),  # length sqrt(18), at a distance of 3
        "bn.weight": torch.tensor([2.0, 2.0, 1.0]),
        "bn.running_var": torch.tensor([1.0]),
        "bn.num_batches_tracked": torch.tensor(40),
    }
    wanted = {"conv.weight": 3 / 5, "bn.weight": 4 / 3, "bn.running_var": 0.0}
    mistakes = {
        "absolute": {"conv.weight": 3.0},
        "new_norm": {"conv.weight": 3 / math.sqrt(18)},
        "difference_of_norms": {"conv.weight": (5 - math.sqrt(18)) / 5},
        "squared": {"conv.weight": 9 / 25},
    }
    found = answer.like(wanted, answer.call(before, after))
    answer.must("bn.num_batches_tracked" not in found, "integers")
    answer.must(set(found) == set(wanted), "names", wanted=sorted(wanted), found=sorted(map(str, found)))
    answer.compare({name: _number(answer, value) for name, value in found.items()}, wanted, mistakes)


def _number(answer: Answer, value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    kind = f"Tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    answer.must(isinstance(value, int | float), "not_one_number", kind=kind)
    return float(value)


_SIMILARITY = torch.tensor(  # 5 images, 8 captions, no ties
    [
        [0.34, 0.15, 0.32, 0.20, 0.29, 0.18, 0.21, 0.35],
        [0.07, 0.12, 0.16, 0.25, 0.23, 0.39, 0.01, 0.24],
        [0.19, 0.31, 0.09, 0.08, 0.04, 0.28, 0.10, 0.30],
        [0.33, 0.14, 0.22, 0.13, 0.02, 0.27, 0.00, 0.38],
        [0.03, 0.36, 0.06, 0.26, 0.05, 0.17, 0.11, 0.37],
    ]
)
_BELONGS_TO = torch.tensor([0, 0, 1, 1, 2, 3, 3, 4])  # the first two captions are image 0's, and so on


@exercise(
    type="应返回两个数 (图找文, 文找图)，得到 {found}\nreturn two numbers, (image to text, text to image), not {found}",
    swapped="两个方向反了：先图找文，再文找图\nthe two directions are swapped: image to text comes first",
    percent="应是 0 到 1 之间的份额，不是百分数\nreturn a share between 0 and 1, not a percentage",
    one_caption="一张图有几句说明，任何一句排进前 k 名都算对；这里只看了其中一句\n"
    "an image has several captions, and any of them may be the one that ranks within k; you looked at one only",
    all_captions="只要自己的说明里有一句排进前 k 名就算对，不必每一句都进：取自己那几句里最大的（amax）\n"
    "one of the image's own captions within k is enough, they need not all be: take the largest of them (amax)",
    by_image="文找图时，每一句说明都是一次查询：对全部 T 句取平均，不是对图\n"
    "text to image, every caption is a query of its own: average over all T captions, not over the images",
    first_place="这是 k - 1 的结果：前面有 0 到 k - 1 个错的，都算排进前 k 名\n"
    "this is the result for k - 1: with 0 to k - 1 wrong answers ahead, the right one is within the first k",
    too_lax="这是 k + 1 的结果：前面有 k 个错的，自己就是第 k + 1 名\n"
    "this is the result for k + 1: with k wrong answers ahead, the right one is number k + 1",
    ties="平局应算模型输：分数与自己相等的错答案，也算排在前面（用 >=）；全部相等的模型应得 0\n"
    "ties count against the model: a wrong answer with the same score is ahead (use >=); all scores equal must give 0",
    value="应得 {wanted}（图找文，文找图），得到 {found}\n"
    "expected {wanted} (image to text, text to image), got {found}",
)
def recall_at_k(answer: Answer) -> None:
    """Exercise 6.1: `recall_at_k(similarity, text_to_image, k)`: shares of images and of texts that rank within k."""
    mistakes = {
        "swapped": [3 / 8, 3 / 5],
        "percent": [60.0, 37.5],
        "one_caption": (lambda found: math.isclose(found[0], 2 / 5, rel_tol=1e-4)),
        "all_captions": [1 / 5, 3 / 8],
        "by_image": [3 / 5, 3 / 5],
        "first_place": [1 / 5, 1 / 8],
        "too_lax": [4 / 5, 6 / 8],
    }
    answer.compare(_two(answer, _SIMILARITY, _BELONGS_TO, 2), [3 / 5, 3 / 8], mistakes)
    collapsed = _two(answer, torch.full((3, 4), 0.5), torch.tensor([0, 1, 1, 2]), 1)
    answer.compare(collapsed, [0.0, 0.0], {"ties": lambda _: True})


def _two(answer: Answer, *arguments: Any) -> list[float]:
    found = answer.call(*arguments)
    values = found.tolist() if isinstance(found, Tensor) else found
    is_pair = isinstance(values, tuple | list) and len(values) == 2
    kind = f"Tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    numbers = [_scalar(value) for value in values] if is_pair else []
    answer.must(is_pair and None not in numbers, "type", found=kind)
    return [number for number in numbers if number is not None]


def _scalar(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, int | float) else None


@exercise(
    type="应返回一个名字（str），得到的是 {found}\nreturn a name (str), not {found}",
    from_the_start="验证损失要和它自己的最低点比，不和开头比，也不能只看训练损失\n"
    "compare the validation loss with its own lowest point, not with its beginning, and not the training loss alone",
    gap="验证损失比训练损失高，但还在下降：差距不是过拟合，回升才是\n"
    "the validation loss is above the training loss but still falling: a gap is not overfitting, a rise is",
    noise="验证损失只比最低点高 0.05：不到 0.1，算噪声\n"
    "the validation loss is only 0.05 above its lowest point: less than 0.1 is noise",
    schedule="验证损失不动了，可学习率也到了 0：这条曲线什么也说明不了，应是 schedule over\n"
    "the validation loss has stopped, but so has the learning rate: the curve proves nothing, which is schedule over",
    still_on="学习率还有最高值的一半，验证损失却不动了：应是 plateau\n"
    "the learning rate is still half of its peak and the validation loss has stopped: plateau",
    first_rate="学习率要和最高值比：预热时的第一个学习率本来就小\n"
    "compare the rate with the highest one: during warm-up, the first rate is small anyway",
    value="应是 {wanted}，得到 {found}\nexpected {wanted}, got {found}",
)
def verdict(answer: Answer) -> None:
    """Exercise 6.2: `verdict(train_losses, val_losses, rates)`: what the end of a pair of loss curves says."""
    on, ending = [5e-4, 4e-4, 3e-4, 2.5e-4], [5e-4, 3e-4, 1e-4, 1e-6]
    memorized, rising = [2.9, 1.2, 0.3, 0.1], [3.0, 2.4, 2.8, 3.0]
    answer.expect((memorized, rising, on), "overfitting", {"from_the_start": ("plateau", "learning")})
    answer.expect((memorized, [3.0, 1.8, 1.4, 1.2], on), "learning", {"gap": "overfitting"})
    answer.expect((memorized, [3.0, 1.8, 1.40, 1.41], on), "plateau", {"still_on": "schedule over"})
    answer.expect((memorized, [3.0, 1.40, 1.45, 1.45], on), "plateau", {"noise": "overfitting"})
    answer.expect((memorized, [3.0, 1.8, 1.40, 1.41], ending), "schedule over", {"schedule": "plateau"})
    warm = ([2.9, 0.3, 0.1, 0.1], [3.0, 1.8, 1.40, 1.41], [1e-5, 5e-4, 2e-4, 1e-5])
    answer.expect(warm, "schedule over", {"first_rate": "plateau"})
