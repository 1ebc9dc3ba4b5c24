"""The checks of notebook 05, training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from clipedu.classroom.checks.framework import Answer, call, exercise, must
from clipedu.encoders import ImageEncoder, TextEncoder
from clipedu.loss import contrastive_loss
from clipedu.model import CLIP, MAX_LOGIT_SCALE


def _rate(answer: Answer, step: int, total_steps: int, warmup: int, peak: float) -> float:
    found = call(answer, step, total_steps, warmup, peak)
    kind = type(found).__name__
    must(
        isinstance(found, int | float), "type", f"应返回一个数，得到的是 {kind}", f"a number must come back, not {kind}"
    )
    must(math.isfinite(found), "value", f"第 {step} 步得到 {found}", f"step {step} gives {found}")
    return float(found)


@exercise
def learning_rate(answer: Answer) -> None:
    """Exercise 5.1: `learning_rate(step, total_steps, warmup, peak)`, up in a line, down half a cosine."""
    rates = [_rate(answer, step, 100, 10, 1.0) for step in range(100)]
    must(
        rates[0] != 0,
        "zero first step",
        "第 0 步的学习率是 0，这一步白走了：用 step + 1",
        "step 0 has the rate 0 and does nothing: take step + 1",
    )
    wanted = [(step + 1) / 10 for step in range(10)]
    must(
        _alike(rates[:10], wanted),
        "warm-up",
        f"前 10 步应为 0.1, 0.2, …, 1.0，得到 {[round(rate, 3) for rate in rates[:10]]}",
        f"the first 10 steps must be 0.1, 0.2, ..., 1.0, not {[round(rate, 3) for rate in rates[:10]]}",
    )
    must(
        not math.isclose(rates[10], 2),
        "half",
        "余弦从 2 倍峰值开始：1 + cos 最大是 2，要乘 0.5",
        "the cosine begins at twice the peak: 1 + cos is 2 at most, so halve it",
    )
    must(
        min(rates[10:]) > -1e-9,
        "negative",
        "学习率变成了负数：应为 0.5 × (1 + cos)",
        "the rate becomes negative: it must be 0.5 x (1 + cos)",
    )
    must(
        math.isclose(rates[10], 1),
        "offset",
        f"预热结束后第一步应是峰值 1，得到 {rates[10]:.3f}：余弦要从 step - warmup 数起",
        f"the first step after the warm-up must be the peak 1, not {rates[10]:.3f}: the cosine counts step - warmup",
    )
    must(
        rates[99] < 0.02,
        "end",
        f"最后一步应接近 0，得到 {rates[99]:.3f}：余弦有 total_steps - warmup 步",
        f"the last step must be near 0, not {rates[99]:.3f}: the cosine has total_steps - warmup steps",
    )
    cosine = [0.5 * (1 + math.cos(math.pi * step / 90)) for step in range(90)]
    must(
        _alike(rates[10:], cosine),
        "shape",
        f"两端对了，中间不是余弦：第 30 步应为 {cosine[20]:.3f}，得到 {rates[30]:.3f}",
        f"the ends are right, but between them is no cosine: step 30 must be {cosine[20]:.3f}, not {rates[30]:.3f}",
    )
    must(
        math.isclose(_rate(answer, 4, 100, 10, 3e-4), 1.5e-4),
        "peak",
        "没有乘以 peak",
        "the peak is not multiplied in",
    )
    try:
        none = _rate(answer, 0, 50, 0, 1.0)
    except ZeroDivisionError:
        none = 0.0
    must(
        math.isclose(none, 1),
        "no warm-up",
        "warmup = 0 时，第 0 步就应是峰值（并且不除以 0）",
        "with warmup = 0, step 0 must have the peak (and nothing be divided by 0)",
    )


def _alike(found: list[float], wanted: list[float]) -> bool:
    return all(math.isclose(one, other, abs_tol=1e-6) for one, other in zip(found, wanted, strict=True))


@exercise
def parameter_groups(answer: Answer) -> None:
    """Exercise 5.2: `parameter_groups(model, weight_decay)`, as AdamW takes them, with decay on matrices alone."""
    model = CLIP(ImageEncoder("resnet18", pretrained=False), TextEncoder(20, 16, 1), 8)
    decay = _decay_by_name(answer, model, 0.3)
    vectors = [name for name, parameter in model.named_parameters() if parameter.ndim <= 1 and decay[name]]
    matrices = {name: decay[name] for name, parameter in model.named_parameters() if parameter.ndim > 1}
    positions = matrices.pop("text_encoder.position_embedding.weight")
    must(
        vectors != ["logit_scale"],
        "logit_scale",
        "logit_scale 也被衰减了：它是一个数（ndim 为 0），衰减会把温度拉向 1",
        "logit_scale is decayed as well: a single number (ndim 0), and decay pulls the temperature towards 1",
    )
    named = all("bias" not in name and "bn" not in name and "norm" not in name for name in vectors)
    must(
        not vectors or not named,
        "by name",
        f"按名字挑选会漏掉 {vectors[-1:]}：它也是归一化层；请看形状（ndim）",
        f"choosing by name overlooks {vectors[-1:]}, which is a norm as well: look at the shape (ndim)",
    )
    must(
        not vectors,
        "vectors",
        f"{len(vectors)} 个偏置或归一化的参数被衰减了，如 {vectors[:1]}",
        f"{len(vectors)} biases or weights of norms are decayed, such as {vectors[:1]}",
    )
    must(
        any(matrices.values()),
        "no decay",
        "没有任何矩阵被衰减",
        "no matrix is decayed at all",
    )
    spared = [name for name, value in matrices.items() if not value]
    must(
        not spared,
        "matrices",
        f"{len(spared)} 个矩阵没有被衰减，如 {spared[:1]}（卷积核有 4 维）",
        f"{len(spared)} matrices are not decayed, such as {spared[:1]} (kernels have 4 dimensions)",
    )
    must(
        set(matrices.values()) == {0.3},
        "value",
        f"衰减系数应是传入的 0.3，得到 {sorted(set(matrices.values()))}",
        f"the decay must be the 0.3 that was given, not {sorted(set(matrices.values()))}",
    )
    must(
        not positions,
        "positions",
        "位置编码不应衰减：它虽是矩阵，每一行却是一个偏置",
        "position embeddings must not decay: a matrix by shape, but each row works as a bias",
    )


def _decay_by_name(answer: Answer, model: CLIP, weight_decay: float) -> dict[str, float]:
    groups = call(answer, model, weight_decay)
    must(
        isinstance(groups, list) and all(isinstance(group, dict) for group in groups),
        "type",
        "应返回一个列表，每一项是一个 dict",
        "a list must come back, each item of which is a dict",
    )
    must(
        all({"params", "weight_decay"} <= set(group) for group in groups),
        "key",
        "每一组都要写明 params 和 weight_decay：不写的话 AdamW 用它自己的 0.01",
        "each group must name params and weight_decay: left out, AdamW takes its own 0.01",
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(names.get(id(member)), group["weight_decay"]) for group in groups for member in group["params"]]
    must(
        all(name for name, _ in found),
        "foreign",
        "params 里有不属于模型的东西（是不是放进了名字？）",
        "params holds something that is no parameter of the model (a name, perhaps?)",
    )
    must(len(found) == len(dict(found)), "twice", "有的参数出现了两次", "some parameter occurs twice")
    missing = sorted(set(names.values()) - {str(name) for name, _ in found})
    must(
        not missing,
        "missing",
        f"{len(missing)} 个参数不在任何一组里，永远不会被训练，如 {missing[:1]}",
        f"{len(missing)} parameters are in no group and will never be trained, such as {missing[:1]}",
    )
    return {str(name): float(value) for name, value in found}


# ------------------------------------------------------------------------------------------------- the planted bug


class _Tiny(nn.Module):
    """What a training step needs of a CLIP, without dropout and batch norm: the same numbers each time."""

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


class _Watched(SGD):
    """An optimizer that writes down what happens, in order."""

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


@exercise
def training_step(answer: Answer) -> None:
    """Exercise 5.3: `training_step(model, optimizer, images, input_ids, attention_mask) -> float`, the loss before."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(5, 3, 2, 2, generator=generator)
    batch = images, torch.randint(1, 9, (5, 3), generator=generator), torch.ones(5, 3, dtype=torch.int64)
    model = _Tiny()
    optimizer = _Watched(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # left over from an earlier step
    _right_loss(call(answer, model, optimizer, *batch), batch)
    _right_order(optimizer.events)
    _right_weights(model, optimizer.events, batch)
    model = _Tiny()
    model.logit_scale.data.fill_(5.0)
    call(answer, model, _Watched(model), *batch)
    must(
        model.logit_scale.item() <= MAX_LOGIT_SCALE + 1e-6,
        "no clamp",
        "logit_scale 越过了 ln 100：最后要调用 model.clamp_logit_scale()",
        "logit_scale went beyond ln 100: model.clamp_logit_scale() comes last",
    )


def _right_loss(found: Any, batch: tuple[Tensor, ...]) -> None:
    kind = type(found).__name__
    must(
        isinstance(found, float),
        "type",
        f"应返回 float，得到的是 {kind}；张量用 .item()，否则整张计算图都留在内存里",
        f"a float must come back, not {kind}; of a tensor take .item(), or the whole graph stays in memory",
    )
    with torch.no_grad():
        model = _Tiny()
        image_embedding, text_embedding = model(*batch)
        cosines, right = image_embedding @ text_embedding.T, torch.arange(5)
        scale = model.logit_scale.exp()
        rows, columns = (F.cross_entropy(scale * one, right).item() for one in (cosines, cosines.T))
        bare = contrastive_loss(image_embedding, text_embedding, model.logit_scale.log()).item()
    wanted = (rows + columns) / 2
    must(
        not any(math.isclose(found, one, rel_tol=1e-4) for one in (rows, columns)),
        "one direction",
        "损失只有一个方向：图像找文本、文本找图像各一个，再取平均",
        "the loss has one direction only: images to texts and texts to images, then the mean",
    )
    must(
        not math.isclose(found, 2 * wanted, rel_tol=1e-4),
        "sum",
        "两个方向相加了：要取平均",
        "the two directions are added: take their mean",
    )
    must(
        not math.isclose(found, bare, rel_tol=1e-4),
        "no exp",
        "logit_scale 是对数：缺了 .exp()",
        "logit_scale is a logarithm: .exp() is missing",
    )
    must(
        math.isclose(found, wanted, rel_tol=1e-4),
        "value",
        f"损失应为 {wanted:.4f}（更新之前的），得到 {found:.4f}",
        f"the loss must be {wanted:.4f} (the one before the update), not {found:.4f}",
    )


def _right_order(events: list[str]) -> None:
    must("backward" in events, "no backward", "没有 loss.backward()：梯度从哪里来？", "there is no loss.backward()")
    must("step" in events, "no step", "没有 optimizer.step()：权重没有动", "there is no optimizer.step()")
    last_backward = len(events) - 1 - events[::-1].index("backward")
    step = len(events) - 1 - events[::-1].index("step")
    must(
        last_backward < step,
        "step first",
        "optimizer.step() 在 backward 之前：用的是上一步的梯度",
        "optimizer.step() comes before backward: it uses the gradient of the step before",
    )
    must(
        "zero_grad" not in events[last_backward:step],
        "erased",
        "zero_grad 在 backward 与 step 之间：刚算好的梯度被清掉了，模型永远停在 ln N",
        "zero_grad stands between backward and step: the fresh gradient is erased, and the model stays at ln N",
    )


def _right_weights(model: _Tiny, events: list[str], batch: tuple[Tensor, ...]) -> None:
    clipped, free = (_after_one_step(batch, limit) for limit in (1.0, math.inf))
    found = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    must(
        torch.allclose(found, clipped, atol=1e-5) or "zero_grad" in events,
        "zero_grad",
        "没有清掉上一步的梯度：backward 会加在旧梯度上；先调用 optimizer.zero_grad()",
        "the gradient of the step before is still there, and backward adds to it: optimizer.zero_grad() first",
    )
    must(
        not torch.allclose(found, free, atol=1e-5),
        "not clipped",
        "梯度没有被裁剪到 1.0：裁剪要在 backward 之后、step 之前",
        "the gradient is not clipped to 1.0: clip after backward and before step",
    )
    must(
        torch.allclose(found, clipped, atol=1e-5),
        "weights",
        "损失对了，更新后的权重却与参考不同",
        "the loss is right, but the weights after the step are not the reference's",
    )


def _after_one_step(batch: tuple[Tensor, ...], limit: float) -> Tensor:
    """All weights, in a row, after the step as it should be."""
    model = _Tiny()
    optimizer = SGD(model.parameters(), lr=0.1)
    image_embedding, text_embedding = model(*batch)
    contrastive_loss(image_embedding, text_embedding, model.logit_scale).backward()
    nn.utils.clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    model.clamp_logit_scale()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
