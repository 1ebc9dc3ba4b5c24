"""The checks of notebook 06, pretrained or from scratch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.classroom.checks.framework import Answer, call, exercise, must


def _weights() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A few weights before and after training; new ones each time, so that no answer can spoil them."""
    before = {
        "conv.weight": torch.tensor([[3.0, 0.0], [0.0, 4.0]]),
        "bn.weight": torch.tensor([2.0, -2.0, 1.0]),
        "bn.running_var": torch.tensor([1.0]),
        "bn.num_batches_tracked": torch.tensor(3),
    }
    after = {
        "conv.weight": torch.tensor([[3.0, 1.0], [2.0, 2.0]]),
        "bn.weight": torch.tensor([2.0, 2.0, 1.0]),
        "bn.running_var": torch.tensor([1.0]),
        "bn.num_batches_tracked": torch.tensor(40),
    }
    return before, after


@exercise
def drift(answer: Answer) -> None:
    """Exercise 6.1: `drift(before, after) -> dict`, by name ||w - w0|| / ||w0|| of every floating-point tensor."""
    found = call(answer, *_weights())
    kind = type(found).__name__
    must(isinstance(found, dict), "type", f"应返回字典，得到的是 {kind}", f"a dict must come back, not {kind}")
    must(
        "bn.num_batches_tracked" not in found,
        "integers",
        "num_batches_tracked 是整数，只数批次，不是权重：应略过（w.is_floating_point()）",
        "num_batches_tracked is an integer that counts batches and no weight: leave it out (w.is_floating_point())",
    )
    names = ["bn.running_var", "bn.weight", "conv.weight"]
    must(
        sorted(map(str, found)) == names,
        "names",
        f"字典的键应是 {names}，得到 {sorted(map(str, found))}",
        f"the dict's keys must be {names}, not {sorted(map(str, found))}",
    )
    numbers = {name: _number(value) for name, value in found.items()}
    _whose_ratio(numbers["conv.weight"], *(weights["conv.weight"] for weights in _weights()))
    must(
        numbers["bn.running_var"] == 0 and math.isclose(numbers["bn.weight"], 4 / 3, rel_tol=1e-4),
        "value",
        f"没有变的张量应得 0，bn.weight 应得 1.333；得到 {numbers}",
        f"a tensor that did not change must give 0, bn.weight 1.333; the answer was {numbers}",
    )


def _number(value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    kind = f"{type(value).__name__} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    must(
        isinstance(value, int | float),
        "not one number",
        f"每个张量应得一个数，得到的是 {kind}：用 .norm() 而不是逐个元素",
        f"each tensor must give one number, not {kind}: take .norm(), not each element by itself",
    )
    return float(value)


def _whose_ratio(found: float, before: Tensor, after: Tensor) -> None:
    """The one tensor whose numbers tell all mistakes apart: lengths 5 before and sqrt(18) after, 3 apart."""
    change, old, new = (float(w.norm()) for w in (after - before, before, after))

    def is_not(value: float, reason: str, zh: str, en: str) -> None:
        must(not math.isclose(found, value, rel_tol=1e-4, abs_tol=1e-6), reason, zh, en)

    is_not(
        change,
        "absolute",
        "这是绝对的变化：还要除以 before 的长度",
        "this is the absolute change: divide by before's norm",
    )
    is_not(
        change / new,
        "new norm",
        "除以了训练之后的长度：应除以出发时（before）的",
        "divided by the norm after training: it is the norm at the start (before) that counts",
    )
    is_not(
        abs(new - old) / old,
        "difference of norms",
        "这是两个长度之差：先相减，再求长度，否则转了方向也看不出来",
        "this is the difference of two norms: subtract first, then take the norm, or a turn would not be seen",
    )
    is_not(
        change**2 / old**2, "squared", "这是平方之比：长度还要开平方", "a ratio of squares: a norm is the square root"
    )
    must(
        math.isclose(found, change / old, rel_tol=1e-4),
        "value",
        f"conv.weight 应得 {change / old:.3f}，得到 {found:.3f}",
        f"conv.weight must give {change / old:.3f}, not {found:.3f}",
    )


class _Small(nn.Module):
    """The parts of a CLIP, tiny; one layer in either encoder is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
        self.text_encoder = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4))
        self.image_projection = nn.Linear(2, 3, bias=False)
        self.text_projection = nn.Linear(4, 3, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))
        self.image_encoder[0].requires_grad_(False)
        self.text_encoder[0].requires_grad_(False)


@exercise
def parts(answer: Answer) -> None:
    """Exercise 6.2: `parts(model, lr, scale)`: groups for the optimizer, the image encoder at `lr * scale`."""
    model, lr, scale = _Small(), 1e-3, 0.1
    rates = _rates(call(answer, model, lr, scale), {id(p): name for name, p in model.named_parameters()})
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            must(
                name not in rates,
                "frozen",
                f"{name} 已冻结（requires_grad 为 False），不应交给优化器",
                f"{name} is frozen (requires_grad is False) and must not be given to the optimizer",
            )
            continue
        must(name in rates, "missing", f"少了 {name}：它不会被训练", f"{name} is missing: it would never be trained")
    _right_rates(rates, lr, scale)


def _rates(groups: Any, names: Mapping[int, str]) -> dict[str, float]:
    """The rate of each parameter by name, once it is clear that the optimizer would take the groups."""
    right = isinstance(groups, list) and all(isinstance(group, dict) for group in groups)
    must(right, "type", "应返回字典的列表", "a list of dicts must come back")
    rates: dict[str, float] = {}
    for group in groups:
        must(
            {"params", "lr"} <= set(group),
            "keys",
            f"每组应有 params 和 lr，得到 {sorted(map(str, group))}",
            f"each group needs params and lr, not {sorted(map(str, group))}",
        )
        for parameter in [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"]):
            name = names.get(id(parameter))
            must(
                name is not None,
                "not a parameter",
                "params 里有不属于模型的东西（是副本，还是名字？）",
                "params holds something that is no parameter of the model (a copy, or a name?)",
            )
            must(name not in rates, "twice", f"{name} 出现了两次", f"{name} occurs twice")
            rates[str(name)] = float(group["lr"])
    return rates


def _right_rates(rates: Mapping[str, float], lr: float, scale: float) -> None:
    def all_at(prefix: str, rate: float) -> bool:
        return all(math.isclose(found, rate) for name, found in rates.items() if name.startswith(prefix))

    must(
        not all_at("", lr),
        "one rate",
        "所有参数的学习率都一样：图像编码器应是 lr * scale",
        "all parameters have the same rate: the image encoder wants lr * scale",
    )
    must(
        not all_at("image_encoder", lr / scale),
        "divided",
        "图像编码器的学习率除以了 scale：应当相乘",
        "the image encoder's rate is divided by scale: multiply",
    )
    must(
        not (all_at("image_encoder", lr) and all_at("text_encoder", lr * scale)),
        "swapped",
        "反了：变慢的是文本一边，应是图像编码器",
        "the wrong way round: it is the image encoder that gets its own rate, not the text side",
    )
    must(
        not all_at("image_projection", lr * scale),
        "projection",
        "image_projection 不属于编码器：它从零开始，应用 lr",
        "image_projection is no part of the encoder: it starts from nothing and wants lr",
    )
    must(
        all_at("image_encoder", lr * scale)
        and all(math.isclose(rate, lr) for name, rate in rates.items() if not name.startswith("image_encoder")),
        "value",
        f"图像编码器应是 {lr * scale:g}，其余都是 {lr:g}；得到 {dict(rates)}",
        f"the image encoder wants {lr * scale:g}, all others {lr:g}; the answer was {dict(rates)}",
    )
