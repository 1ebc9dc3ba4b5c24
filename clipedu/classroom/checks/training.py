"""The checks of notebook 05, training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from clipedu.classroom.checks.framework import Answer, exercise
from clipedu.classroom.checks.groups import MESSAGES, settings_by_name
from clipedu.encoders import ImageEncoder, TextEncoder
from clipedu.loss import contrastive_loss
from clipedu.model import CLIP, MAX_LOGIT_SCALE


@exercise(
    zero_first_step="第 0 步的学习率是 0，这一步白走了：用 step + 1\n"
    "step 0 has learning rate 0 and does nothing: use step + 1",
    warm_up="前 10 步应为 0.1, 0.2, …, 1.0，得到 {found}\nthe first 10 steps should be 0.1, 0.2, ..., 1.0, not {found}",
    half="余弦从 2 倍峰值开始：1 + cos 最大是 2，要乘 0.5\n"
    "the cosine starts at twice the peak: 1 + cos is at most 2, so multiply by 0.5",
    negative="学习率变成了负数：应为 0.5 × (1 + cos)\nthe learning rate becomes negative: it should be 0.5 × (1 + cos)",
    offset="预热结束后第一步应是峰值 1，得到 {found[0]}：余弦要从 step - warmup 数起\n"
    "the first step after warm-up should be at the peak, 1, not {found[0]}: the cosine counts step - warmup",
    end="最后一步应接近 0，得到 {found[89]}：余弦有 total_steps - warmup 步\n"
    "the last step should be near 0, not {found[89]}: the cosine has total_steps - warmup steps",
    shape="两端对了，中间不是余弦：第 30 步应为 {wanted[20]}，得到 {found[20]}\n"
    "the ends are right, but the middle is not a cosine: step 30 should be {wanted[20]}, not {found[20]}",
    peak="没有乘以 peak\nnot multiplied by the peak",
    no_warm_up="warmup = 0 时，第 0 步就应是峰值（也不能除以 0）\n"
    "with warmup = 0, step 0 should already be at the peak (without dividing by 0)",
    value="第 {step} 步得到 {found}\nstep {step} gives {found}",
)
def learning_rate(answer: Answer) -> None:
    """Exercise 5.1: `learning_rate(step, total_steps, warmup, peak)`, linear warm-up, then half a cosine."""

    def rate(step: int, *schedule: float) -> float:
        found = answer.like(1.0, answer.call(step, *schedule))
        answer.must(math.isfinite(found), "value", step=step, found=found)
        return float(found)

    rates = [rate(step, 100, 10, 1.0) for step in range(100)]
    line = [(step + 1) / 10 for step in range(10)]
    answer.compare(rates[:10], line, {"zero_first_step": lambda up: up[0] == 0}, "warm_up")
    cosine = [0.5 * (1 + math.cos(math.pi * step / 90)) for step in range(90)]
    mistakes = {
        "half": lambda down: math.isclose(down[0], 2),
        "negative": lambda down: min(down) < -1e-9,
        "offset": lambda down: not math.isclose(down[0], 1),
        "end": lambda down: down[89] > 0.02,
    }
    answer.compare(rates[10:], cosine, mistakes, "shape")
    answer.compare(rate(4, 100, 10, 3e-4), 1.5e-4, {}, "peak")
    try:
        first = rate(0, 50, 0, 1.0)
    except ZeroDivisionError:
        first = 0.0
    answer.compare(first, 1.0, {}, "no_warm_up")


@exercise(
    **MESSAGES,
    logit_scale="logit_scale 也被衰减了：它是一个数（ndim 为 0），衰减会把温度拉向 1\n"
    "logit_scale is decayed as well: it is a single number (ndim 0), and decay pulls the temperature towards 1",
    by_name="按名字挑选会漏掉 {name}：它也是归一化层；请看形状（ndim）\n"
    "selecting by name misses {name}, also a normalization layer: look at the shape (ndim)",
    vectors="{count} 个偏置或归一化层的参数被衰减了，如 {name}\n"
    "{count} biases or normalization weights are decayed, such as {name}",
    no_decay="没有任何矩阵被衰减\nno matrix is decayed",
    matrices="{count} 个矩阵没有被衰减，如 {name}（卷积核有 4 维）\n"
    "{count} matrices are not decayed, such as {name} (convolution kernels have 4 dimensions)",
    value="衰减系数应是传入的 0.3，得到 {found}\nthe decay should be 0.3 as passed in, not {found}",
    positions="位置编码不应衰减：它虽是矩阵，每一行却是一个偏置\n"
    "position embeddings should not decay: they form a matrix, but each row acts as a bias",
)
def parameter_groups(answer: Answer) -> None:
    """Exercise 5.2: `parameter_groups(model, weight_decay)`, as AdamW takes them, with decay on matrices only."""
    model = CLIP(ImageEncoder("resnet18", pretrained=False), TextEncoder(20, 16, 1), 8)
    decay = settings_by_name(answer, answer.call(model, 0.3), model, "weight_decay")
    vectors = [name for name, parameter in model.named_parameters() if parameter.ndim <= 1 and decay[name]]
    matrices = {name: decay[name] for name, parameter in model.named_parameters() if parameter.ndim > 1}
    positions = matrices.pop("text_encoder.position_embedding.weight")
    undecayed = [name for name, value in matrices.items() if not value]
    named_by_kind = [name for name in vectors if "bias" in name or "bn" in name or "norm" in name]
    answer.must(vectors != ["logit_scale"], "logit_scale")
    answer.must(not vectors or named_by_kind, "by_name", name="".join(vectors[-1:]))
    answer.must(not vectors, "vectors", count=len(vectors), name="".join(vectors[:1]))
    answer.must(any(matrices.values()), "no_decay")
    answer.must(not undecayed, "matrices", count=len(undecayed), name="".join(undecayed[:1]))
    answer.must(set(matrices.values()) == {0.3}, "value", found=sorted(set(matrices.values())))
    answer.must(not positions, "positions")


class _Tiny(nn.Module):
    """A minimal CLIP for one training step; without dropout or batch norm its numbers never vary."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.image = nn.Parameter(torch.randn(12, 4, generator=generator))
        self.text = nn.Parameter(torch.randn(9, 4, generator=generator))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        words = self.text[input_ids] * attention_mask.unsqueeze(-1)  # (B, T, E)
        image_embedding = F.normalize(images.float().flatten(1) @ self.image, dim=-1)
        return image_embedding, F.normalize(words.sum(dim=1), dim=-1)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)

    def weights(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.parameters()])


class _RecordingSGD(SGD):
    """An optimizer that records what happens, in order."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=0.1)
        self.events: list[str] = []
        for parameter in model.parameters():
            parameter.register_hook(lambda _: self.events.append("backward"))

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.events.append("zero_grad")
        super().zero_grad(set_to_none)

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        self.events.append("step")
        return super().step(closure)


@exercise(
    type="应返回 float，得到的是 {found}；张量用 .item()，否则整张计算图都留在内存里\n"
    "expected a float, got {found}; call .item() on a tensor, or the whole graph stays in memory",
    one_direction="损失只有一个方向：图像找文本、文本找图像各一个，再取平均\n"
    "the loss covers one direction only: average image-to-text and text-to-image",
    sum="两个方向相加了：要取平均\nthe two directions are added: take their mean",
    no_exp="logit_scale 是对数：缺了 .exp()\nlogit_scale is a logarithm: .exp() is missing",
    value="损失应为 {wanted}（更新之前的），得到 {found}\n"
    "the loss should be {wanted} (the one before the update), not {found}",
    no_backward="没有 loss.backward()：梯度从哪里来？\nloss.backward() is missing: where does the gradient come from?",
    no_step="没有 optimizer.step()：权重没有更新\noptimizer.step() is missing: the weights never change",
    step_first="optimizer.step() 在 backward 之前：用的是上一步的梯度\n"
    "optimizer.step() comes before backward: it uses the previous step's gradient",
    erased="zero_grad 在 backward 与 step 之间：刚算好的梯度被清掉了，损失永远停在 ln N\n"
    "zero_grad between backward and step erases the new gradient: the loss stays at ln N forever",
    zero_grad="没有清掉上一步的梯度：backward 会加在旧梯度上；先调用 optimizer.zero_grad()\n"
    "backward adds to the gradient left over from the previous step: call optimizer.zero_grad() first",
    not_clipped="梯度没有被裁剪到 1.0：裁剪要在 backward 之后、step 之前\n"
    "the gradient is not clipped to 1.0: clip after backward and before step",
    weights="损失对了，更新后的权重却与参考不同\n"
    "the loss is right, but the weights after the step differ from the reference",
    no_clamp="logit_scale 超过了 ln 100：最后要调用 model.clamp_logit_scale()\n"
    "logit_scale exceeds ln 100: call model.clamp_logit_scale() at the end",
)
def training_step(answer: Answer) -> None:
    """Exercise 5.3: `training_step(model, optimizer, images, input_ids, attention_mask) -> float`, the loss before."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(5, 3, 2, 2, generator=generator)
    batch = images, torch.randint(1, 9, (5, 3), generator=generator), torch.ones(5, 3, dtype=torch.int64)
    model = _Tiny()
    optimizer = _RecordingSGD(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # left over from an earlier step
    found = answer.call(model, optimizer, *batch)
    answer.must(isinstance(found, float), "type", found=type(found).__name__)
    _check_loss(answer, found, batch)
    _check_order(answer, optimizer.events)
    mistakes = {
        "zero_grad": lambda _: "zero_grad" not in optimizer.events,
        "not_clipped": _after_one_step(batch, clip_at=math.inf),
    }
    answer.compare(model.weights(), _after_one_step(batch, clip_at=1.0), mistakes, "weights")
    model = _Tiny()
    model.logit_scale.data.fill_(5.0)
    answer.call(model, _RecordingSGD(model), *batch)
    answer.must(model.logit_scale.item() <= MAX_LOGIT_SCALE + 1e-6, "no_clamp")


def _check_loss(answer: Answer, found: float, batch: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        model = _Tiny()
        image_embedding, text_embedding = model(*batch)
        cosines, own = image_embedding @ text_embedding.T, torch.arange(5)
        scale = model.logit_scale.exp()
        rows, columns = (F.cross_entropy(scale * matrix, own).item() for matrix in (cosines, cosines.T))
        no_exp = contrastive_loss(image_embedding, text_embedding, model.logit_scale.log()).item()
    mistakes = {"one_direction": (rows, columns), "sum": rows + columns, "no_exp": no_exp}
    answer.compare(found, (rows + columns) / 2, mistakes)


def _check_order(answer: Answer, events: list[str]) -> None:
    answer.must("backward" in events, "no_backward")
    answer.must("step" in events, "no_step")
    backward, step = (len(events) - 1 - events[::-1].index(event) for event in ("backward", "step"))
    answer.must(backward < step, "step_first")
    answer.must("zero_grad" not in events[backward:step], "erased")


def _after_one_step(batch: tuple[Tensor, ...], clip_at: float) -> Tensor:
    """All weights, flattened, after a correct step."""
    model = _Tiny()
    optimizer = SGD(model.parameters(), lr=0.1)
    image_embedding, text_embedding = model(*batch)
    contrastive_loss(image_embedding, text_embedding, model.logit_scale).backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip_at)
    optimizer.step()
    model.clamp_logit_scale()
    return model.weights()
