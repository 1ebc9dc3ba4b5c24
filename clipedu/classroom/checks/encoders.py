"""The checks of notebook 02, encoders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clipedu.classroom.checks.framework import Answer, call, exercise, must, near, tensor


@exercise
def output_size(answer: Answer) -> None:
    """Exercise 2.1: `output_size(size, kernel, stride, padding) -> int`, the side after a convolution."""
    for arguments in (
        (64, 7, 2, 3),
        (28, 5, 1, 0),
        (32, 3, 2, 1),
        (16, 1, 1, 0),
        (7, 3, 2, 0),
        (224, 16, 16, 0),
        (33, 3, 2, 0),
    ):
        size, kernel, stride, padding = arguments
        wanted = nn.Conv2d(1, 1, kernel, stride, padding)(torch.zeros(1, 1, size, size)).shape[-1]
        found = call(answer, *arguments)
        must(
            not isinstance(found, float),
            "float",
            f"边长是整数，得到 {found}：卷积核放不下时就停住，请向下取整",
            f"a side is a whole number, not {found}: where the kernel no longer fits, it stops, so round down",
        )
        must(
            isinstance(found, int),
            "type",
            f"应返回整数，得到 {found!r}",
            f"a whole number must come back, not {found!r}",
        )
        said = f"output_size{arguments} = {found}"
        must(
            found != wanted - 1,
            "minus one",
            f"{said}，少了 1：卷积核的起点也是一个位置，填充要算两边",
            f"{said}, one too few: the kernel's first place counts as well, and padding is added on both sides",
        )
        must(
            found != wanted + 1,
            "plus one",
            f"{said}，多了 1：最后一步放不下卷积核",
            f"{said}, one too many: the kernel does not fit at the last step",
        )
        must(found == wanted, "value", f"{said}，而 PyTorch 得到 {wanted}", f"{said}, but PyTorch gives {wanted}")


@exercise
def mean_pool(answer: Answer) -> None:
    """Exercise 2.3: `mean_pool(hidden, attention_mask) -> [B, D]`, the mean over tokens without padding."""
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, -50.0]], [[6.0, 0.0], [0.0, 3.0], [3.0, 3.0]]])  # (2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    found = tensor(answer, (2, 2), hidden, mask)
    weights = mask.unsqueeze(-1).float()
    total, count = (hidden * weights).sum(dim=1), weights.sum(dim=1)
    must(
        not near(found, hidden.mean(dim=1)),
        "padding",
        "填充也被平均进去了：用掩码把它挡在外面",
        "padding was averaged as well: keep it out with the mask",
    )
    must(
        not near(found, total),
        "sum",
        "这是和，不是平均：还要除以词元的个数",
        "this is the sum, not the mean: divide by the number of tokens",
    )
    must(
        not near(found, total / hidden.shape[1]),
        "divisor",
        "除以了 T：第一句只有 2 个词元，不是 3 个",
        "divided by T: the first sentence has 2 tokens, not 3",
    )
    must(
        not near(found, hidden[:, 0]),
        "cls",
        "这是第 0 个位置的输出，不是平均",
        "this is the output at position 0, not the mean",
    )
    must(
        near(found, total / count),
        "value",
        f"第一句应得 {(total / count)[0].tolist()}，得到 {found[0].tolist()}",
        f"the first sentence must give {(total / count)[0].tolist()}, not {found[0].tolist()}",
    )


@exercise
def receptive_field(answer: Answer) -> None:
    """Exercise 2.2: `receptive_field(layers) -> int` for a list of (kernel, stride), the first layer first."""
    for layers, wanted in (
        ([(3, 1)], 3),
        ([(3, 1), (3, 1)], 5),
        ([(3, 2), (3, 1)], 7),
        ([(7, 2), (3, 2), (3, 1), (3, 2)], 27),
    ):
        found = call(answer, list(layers))
        ignoring_strides = 1 + sum(kernel - 1 for kernel, _ in layers)
        said = f"receptive_field({layers}) = {found!r}"
        must(
            not isinstance(found, Tensor), "type", "应返回整数，不是张量", "a whole number must come back, not a tensor"
        )
        must(
            found == wanted or found != sum(kernel for kernel, _ in layers),
            "sum of kernels",
            f"{said}：相邻两层的卷积核会重叠，每层只增加 kernel - 1",
            f"{said}: the kernels of two layers overlap, each adds kernel - 1 only",
        )
        must(
            found == wanted or found != ignoring_strides,
            "strides",
            f"{said}，忘了步幅：走过步幅 2 之后，一步等于原图上的两个像素",
            f"{said}, strides forgotten: after a stride of 2, one step is two pixels of the picture",
        )
        must(
            found == wanted,
            "value",
            f"{said}，应为 {wanted}：步幅只影响它之后的层",
            f"{said}, it must be {wanted}: a stride matters to the layers after it only",
        )
