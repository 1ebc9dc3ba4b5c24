"""The classifier that `ImageEncoder` leaves out: EfficientNet-Lite0's last layer and the names of its classes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models import ResNet18_Weights

from clipedu.encoders import lite0_weights_file

_CHINESE = {  # the classes that the lessons meet
    "Egyptian cat": "埃及猫",
    "envelope": "信封",
    "espresso": "意式浓缩咖啡",
    "bobsled": "雪橇车",
    "lion": "狮子",
    "magnetic compass": "指南针",
    "meerkat": "狐獴",
    "missile": "导弹",
    "ping-pong ball": "乒乓球",
    "pool table": "台球桌",
}


class LastLayer(NamedTuple):
    """Scores are `features @ weight.T + bias`; `english` and `chinese` name the 1,000 classes."""

    weight: Tensor  # [1000, 1280]
    bias: Tensor  # [1000]
    english: list[str]
    chinese: list[str]


def last_layer() -> LastLayer:
    """The last layer of EfficientNet-Lite0. A class that no lesson meets keeps its English name in Chinese, too."""
    weight, bias = list(torch.load(lite0_weights_file(), map_location="cpu", weights_only=True).values())[-2:]
    english = list(ResNet18_Weights.DEFAULT.meta["categories"])
    return LastLayer(weight, bias, english, [_CHINESE.get(name, name) for name in english])
