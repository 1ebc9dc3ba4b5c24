"""The checks of notebook 02, encoders."""

from __future__ import annotations

import torch
from torch import nn

from clipedu.classroom.checks.framework import Answer, exercise


@exercise(
    float="边长是整数，得到 {found}：卷积核放不下时就停住，请向下取整\n"
    "a side is an integer, not {found}: the kernel stops where it no longer fits, so round down",
    type="应返回整数，得到 {found!r}\nexpected an integer, got {found!r}",
    minus_one="{call} = {found}，少了 1：卷积核的起点也是一个位置，填充要算两边\n"
    "{call} = {found}, 1 too small: the kernel's first position counts too, and padding is on both sides",
    plus_one="{call} = {found}，多了 1：最后一步放不下卷积核\n"
    "{call} = {found}, 1 too large: the kernel does not fit at the last step",
    value="{call} = {found}，而 PyTorch 得到 {wanted}\n{call} = {found}, but PyTorch gives {wanted}",
)
def output_size(answer: Answer) -> None:
    """Exercise 2.1: `output_size(size, kernel, stride, padding) -> int`, the side after a convolution."""
    cases = (64, 7, 2, 3), (28, 5, 1, 0), (32, 3, 2, 1), (16, 1, 1, 0), (7, 3, 2, 0), (224, 16, 16, 0), (33, 3, 2, 0)
    for arguments in cases:
        size, kernel, stride, padding = arguments
        found = answer.call(*arguments)
        answer.must(not isinstance(found, float), "float", found=found)
        answer.must(isinstance(found, int), "type", found=found)
        wanted = nn.Conv2d(1, 1, kernel, stride, padding)(torch.zeros(1, 1, size, size)).shape[-1]
        mistakes = {"minus_one": wanted - 1, "plus_one": wanted + 1}
        answer.compare(found, wanted, mistakes, call=f"output_size{arguments}")


@exercise(
    sum_of_kernels="receptive_field({layers}) = {found}：相邻两层的卷积核会重叠，每层只增加 kernel - 1\n"
    "receptive_field({layers}) = {found}: kernels of adjacent layers overlap, so each adds only kernel - 1",
    strides="receptive_field({layers}) = {found}，忘了步幅：走过步幅 2 之后，一步等于原图上的两个像素\n"
    "receptive_field({layers}) = {found} ignores strides: after a stride of 2, a step is two pixels wide",
    value="receptive_field({layers}) = {found!r}，应为 {wanted}：步幅只影响它之后的层\n"
    "receptive_field({layers}) = {found!r} should be {wanted}: a stride affects only the layers after it",
)
def receptive_field(answer: Answer) -> None:
    """Exercise 2.2: `receptive_field(layers) -> int` for a list of (kernel, stride), first layer first."""
    for layers, wanted in (
        ([(3, 1)], 3),
        ([(3, 1), (3, 1)], 5),
        ([(3, 2), (3, 1)], 7),
        ([(7, 2), (3, 2), (3, 1), (3, 2)], 27),
    ):
        kernels = [kernel for kernel, _ in layers]
        mistakes = {"sum_of_kernels": sum(kernels), "strides": sum(kernels) - len(kernels) + 1}
        answer.expect((layers,), wanted, mistakes, layers=layers)


@exercise(
    padding="填充也被平均进去了：用掩码把它排除\nthe mean includes padding: exclude it with the mask",
    sum="这是和，不是平均：还要除以词元的个数\nthis is the sum, not the mean: divide by the number of tokens",
    divisor="除以了 T：第一句只有 2 个词元，不是 3 个\ndivided by T: the first sentence has 2 tokens, not 3",
    cls="这是第 0 个位置的输出，不是平均\nthis is the output at position 0, not the mean",
)
def mean_pool(answer: Answer) -> None:
    """Exercise 2.3: `mean_pool(hidden, attention_mask) -> [B, D]`, the mean over tokens without padding."""
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, -50.0]], [[6.0, 0.0], [0.0, 3.0], [3.0, 3.0]]])  # (2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    total = torch.tensor([[4.0, 6.0], [9.0, 6.0]])
    wanted = torch.tensor([[2.0, 3.0], [3.0, 2.0]])
    mistakes = {"padding": hidden.mean(dim=1), "sum": total, "divisor": total / 3, "cls": hidden[:, 0]}
    answer.expect((hidden, mask), wanted, mistakes)
