"""The checks of notebook 06, pretrained or from scratch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.classroom.checks.framework import Answer, exercise
from clipedu.classroom.checks.groups import MESSAGES, settings_by_name


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
    """Exercise 6.1: `drift(before, after) -> dict`: ||w - w0|| / ||w0|| of every floating-point tensor, by name."""
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


class _Small(nn.Module):
    """A tiny model with the parts of CLIP; one layer of each encoder is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
        self.text_encoder = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4))
        self.image_projection = nn.Linear(2, 3, bias=False)
        self.text_projection = nn.Linear(4, 3, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))
        self.image_encoder[0].requires_grad_(False)
        self.text_encoder[0].requires_grad_(False)


@exercise(
    **MESSAGES,
    one_rate="所有参数的学习率都一样：图像编码器应是 lr * scale\n"
    "all parameters have the same learning rate: the image encoder needs lr * scale",
    divided="图像编码器的学习率除以了 scale：应当相乘\nthe image encoder's rate is divided by scale: multiply instead",
    swapped="反了：学习率调低的是文本一侧，应是图像编码器\n"
    "swapped: the image encoder should get the lower rate, not the text side",
    projection="image_projection 不属于编码器：它从零开始，应使用 lr\n"
    "image_projection is not part of the encoder: it starts from scratch and needs lr",
    value="图像编码器应是 {slow}，其余都是 {lr}；得到 {found}\n"
    "the image encoder needs {slow}, all others {lr}; got {found}",
)
def parts(answer: Answer) -> None:
    """Exercise 6.2: `parts(model, lr, scale)`: optimizer groups, with the image encoder at `lr * scale`."""
    model, lr, scale = _Small(), 1e-3, 0.1
    rates = settings_by_name(answer, answer.call(model, lr, scale), model, "lr")

    def at(rate: float, part: str = "") -> dict[str, float]:
        return {name: rate for name in rates if name.startswith(part)}

    mistakes = {
        "one_rate": at(lr),
        "divided": at(lr / scale, "image_encoder"),
        "swapped": at(lr, "image_encoder") | at(lr * scale, "text_encoder"),
        "projection": at(lr * scale, "image_projection"),
    }
    answer.compare(rates, at(lr) | at(lr * scale, "image_encoder"), mistakes, lr=lr, slow=lr * scale)
