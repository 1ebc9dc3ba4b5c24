"""The checks of notebook 02, encoders."""

from __future__ import annotations

import operator
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from clipedu.classroom import reference
from clipedu.classroom.checks.framework import Answer, exercise


@exercise(
    sum_of_kernels="receptive_field({layers}) = {found}：相邻两格的窗口会重叠，不能把核的宽度直接相加\n"
    "receptive_field({layers}) = {found}: the windows of neighbouring cells overlap, so you can't just add the kernels",
    strides="receptive_field({layers}) = {found}，没有用到步幅：窗口每次挪 stride 格，不是 1 格\n"
    "receptive_field({layers}) = {found} ignores the strides: the window moves by stride, not by 1",
    order="receptive_field({layers}) = {found}，方向反了：从最后一层的 1 格往前走，用 reversed(layers)\n"
    "receptive_field({layers}) = {found} goes the wrong way: begin with 1 cell of the last layer, use reversed(layers)",
    own_stride="receptive_field({layers}) = {found}：一层的步幅不影响它自己的窗口，只影响它之后的层\n"
    "receptive_field({layers}) = {found}: a stride doesn't affect its own layer's window, only the layers after it",
    one_stride="receptive_field({layers}) = {found}：要用到前面所有层的步幅，不只是前一层的\n"
    "receptive_field({layers}) = {found}: the strides of all earlier layers count, not just of the one before",
    start="receptive_field({layers}) = {found}：要从 1 格开始，不是 0 格\n"
    "receptive_field({layers}) = {found}: begin with 1 cell, not with 0",
    value="receptive_field({layers}) 应为 {wanted}，得到 {found}\n"
    "receptive_field({layers}) should be {wanted}, not {found}",
)
def receptive_field(answer: Answer) -> None:
    """Exercise 2.1: `receptive_field(layers) -> int` for a list of (kernel, stride), first layer first."""
    for layers, wanted in (
        ([(3, 2)], 3),
        ([(5, 2), (3, 2)], 9),
        ([(7, 2), (3, 2), (3, 1), (3, 2)], 27),
    ):
        kernels, strides = zip(*layers, strict=True)
        steps = [1, *accumulate(strides, operator.mul)]  # pixels of the picture from one cell to the next
        mistakes = {
            "sum_of_kernels": sum(kernels),
            "strides": 1 + sum(kernel - 1 for kernel in kernels),
            "order": _walk(1, layers),
            "own_stride": 1 + sum((kernel - 1) * step for kernel, step in zip(kernels, steps[1:], strict=True)),
            "one_stride": 1 + sum((kernel - 1) * s for kernel, s in zip(kernels, (1, *strides[:-1]), strict=True)),
            "start": _walk(0, layers[::-1]),
        }
        answer.expect((layers,), wanted, mistakes, layers=layers)


def _walk(cells: int, layers: list[tuple[int, int]]) -> int:
    """So many cells, and through each layer the cells that they need of the one before."""
    for kernel, stride in layers:
        cells = (cells - 1) * stride + kernel
    return cells


@exercise(
    nan="结果里有 NaN：有一整行的分数都成了 -inf。遮的应是列（被看的词元），而且 mask 里 0 才是填充\n"
    "the result contains NaN: a whole row of scores became -inf. Mask columns (the tokens that are looked at), and 0 "
    "in the mask is the padding",
    no_mask="填充也被看见了：softmax 之前，把 mask 为 0 的那些列的分数改成 -inf\n"
    "padding is looked at: before softmax, set the scores of the columns where the mask is 0 to -inf",
    zeroed="填充的分数成了 0，而 e^0 = 1，它照样分到权重：要改成 -inf\n"
    "padding has a score of 0, and since e^0 = 1 it still gets a weight: use -inf",
    not_scaled="分数没有除以 sqrt(D / heads)\nthe scores are not divided by sqrt(D / heads)",
    width="分数除以了 sqrt(D)：每个头只有 D / heads 个数\n"
    "the scores are divided by sqrt(D), but a head has only D / heads numbers",
    axis="softmax 沿错了方向：每一行（正在看的词元）加起来是 1，用 dim=-1\n"
    "softmax runs along the wrong axis: each row (a token that looks) sums to 1, so use dim=-1",
    one_head="好像只有一个头：D 个数要分成 heads 份，各自打分\n"
    "there seems to be one head only: split the D numbers into heads parts that score separately",
    split="分头时切开的是词元，不是 D 个数：先 view 成 (B, T, heads, D / heads)，再 transpose(1, 2)\n"
    "splitting into heads cut up the tokens, not the D numbers: "
    "view as (B, T, heads, D / heads), then transpose(1, 2)",
    joined="合并各头时忘了把 heads 换回原位：先 transpose(1, 2)，再 reshape\n"
    "when joining the heads, move them back first: transpose(1, 2), then reshape",
    no_output="少了最后一步：各头拼起来之后，还要过 out_weight 和 out_bias\n"
    "the last step is missing: the joined heads go through out_weight and out_bias",
    no_bias="偏置没有加上：in_bias 和 out_bias 都要用\nthe biases are missing: use both in_bias and out_bias",
    roles="q 和 k 换了位置：in_weight 的三段依次是 q、k、v\n"
    "q and k are swapped: the three parts of in_weight are q, k, v in this order",
)
def multi_head_attention(answer: Answer) -> None:
    """Exercise 2.2: `multi_head_attention(x, in_weight, in_bias, out_weight, out_bias, heads, mask) -> [B, T, D]`."""
    generator = torch.Generator().manual_seed(0)
    in_weight, in_bias, out_weight, out_bias, x = (
        torch.randn(shape, generator=generator) for shape in ((24, 8), (24,), (8, 8), (8,), (2, 4, 8))
    )
    weights = in_weight, in_bias, out_weight, out_bias
    everything, padded = torch.ones(2, 4, dtype=torch.long), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    key_first, bias_first = (torch.cat([part[8:16], part[:8], part[16:]]) for part in (in_weight, in_bias))
    mistakes = {
        "not_scaled": _attention(x, *weights, 2, everything, divisor=1.0),
        "width": _attention(x, *weights, 2, everything, divisor=8**0.5),
        "axis": _attention(x, *weights, 2, everything, axis=-2),
        "one_head": _attention(x, *weights, 1, everything),
        "split": _attention(x, *weights, 2, everything, split_by_view=True),
        "joined": _attention(x, *weights, 2, everything, join_by_view=True),
        "no_output": _attention(x, in_weight, in_bias, torch.eye(8), torch.zeros(8), 2, everything),
        "no_bias": (
            _attention(x, in_weight, 0 * in_bias, out_weight, 0 * out_bias, 2, everything),
            _attention(x, in_weight, 0 * in_bias, out_weight, out_bias, 2, everything),
            _attention(x, in_weight, in_bias, out_weight, 0 * out_bias, 2, everything),
        ),
        "roles": _attention(x, key_first, bias_first, out_weight, out_bias, 2, everything),
    }
    answer.expect((x, *weights, 2, everything), reference.attention(x, *weights, 2, everything), mistakes)
    mistakes = {
        "no_mask": _attention(x, *weights, 2, everything),
        "zeroed": _attention(x, *weights, 2, padded, hidden=0.0),
    }
    answer.expect((x, *weights, 2, padded), reference.attention(x, *weights, 2, padded), mistakes)


def _attention(
    x: Tensor,
    in_weight: Tensor,
    in_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    heads: int,
    mask: Tensor,
    *,
    hidden: float = -torch.inf,
    divisor: float | None = None,
    axis: int = -1,
    split_by_view: bool = False,
    join_by_view: bool = False,
) -> Tensor:
    """Multi-head attention with one step done wrongly."""
    count, length, width = x.shape
    apart, shape = (count, length, heads, width // heads), (count, heads, length, width // heads)
    thirds = F.linear(x, in_weight, in_bias).chunk(3, dim=-1)
    q, k, v = (part.reshape(shape) if split_by_view else part.reshape(apart).transpose(1, 2) for part in thirds)
    scores = q @ k.transpose(-2, -1) / (divisor or (width // heads) ** 0.5)
    looked = scores.masked_fill(mask[:, None, None] == 0, hidden).softmax(dim=axis) @ v
    joined = looked if split_by_view or join_by_view else looked.transpose(1, 2)
    return F.linear(joined.reshape(x.shape), out_weight, out_bias)


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
