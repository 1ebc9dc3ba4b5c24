"""The checks of notebook 05, training."""

from __future__ import annotations

import math
import pickle
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn import functional as F
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from clipedu.classroom import training as library
from clipedu.classroom.checks.framework import Answer, exercise
from clipedu.loss import contrastive_loss
from clipedu.model import MAX_LOGIT_SCALE

VERDICTS = ("not finite", "collapsed", "unmoved", "moving")


@exercise(
    type="应返回一个字符串，得到的是 {found}\nexpected a string, not {found}",
    nan="损失里有 NaN 或无穷大，应先返回 not finite，得到 {found}；NaN 的任何比较都是 False\n"
    "there is a NaN or an infinity among the losses: return not finite first, not {found}; every comparison with NaN "
    "is False",
    early_nan="NaN 出现在中间，只看最后几步会漏掉：应为 not finite，得到 {found}\n"
    "the infinity is in the middle, and the last steps alone miss it: expected not finite, got {found}",
    batch_size="批次 {of} 的线在 {level}，不在别处：应为 {wanted}，得到 {found}；用 math.log(batch_size)\n"
    "with a batch of {of} the line is at {level}: expected {wanted}, got {found}; use math.log(batch_size)",
    above="这条曲线在 ln N 之上 0.2，一直没动：应为 unmoved，得到 {found}；塌缩是正好落在线上\n"
    "this curve stays 0.2 above ln N: expected unmoved, got {found}; a collapse is exactly on the line",
    wobble="没动的曲线也有 dropout 的起伏，最后一步碰巧低了一点：应为 unmoved，得到 {found}；比较两头五步的平均\n"
    "a curve that goes nowhere still wobbles from dropout, and its last step happens to be lower: expected unmoved, "
    "got {found}; compare the means of five steps",
    crossing="这条曲线正在下降，只是路过 ln N：应为 moving，得到 {found}；塌缩要最后五步都在线上\n"
    "this curve is falling and only passes ln N: expected moving, got {found}; in a collapse all of the last five "
    "steps are on the line",
    level="损失都在 3.466 附近，即 ln 32，批次 32：应为 collapsed，得到 {found}\n"
    "all losses are near 3.466, which is ln 32, and the batch is 32: expected collapsed, got {found}",
    never_moved="这条曲线从第一步起就在线上，哪里也没去过：应为 unmoved，得到 {found}；塌缩要从前有一步离线超过 0.1\n"
    "this curve was on the line from its first step and never went anywhere: expected unmoved, got {found}; in a "
    "collapse some earlier step was more than 0.1 away",
    landed="这条曲线跳开过，又落到线上，只是两头的平均相近：应为 collapsed，得到 {found}；先判断塌缩\n"
    "this curve jumped away and landed on the line, its means at both ends just happen to be close: expected "
    "collapsed, got {found}; try the collapse first",
    falling="损失从 3.8 降到 1.9：应为 moving，得到 {found}\n"
    "the loss falls from 3.8 to 1.9: expected moving, got {found}",
)
def read_curve(answer: Answer) -> None:
    """Exercise 5.1: `read_curve(losses, batch_size)`, what a loss curve shows."""
    ripple = [0.06, -0.04, 0.02, 0.07, -0.05, 0.03, -0.02, 0.05, -0.06, 0.01]

    def around(level: float) -> list[float]:
        return [level + one for one in ripple]

    def judge(losses: list[float], batch_size: int, wanted: str, reason: str, **values: Any) -> None:
        found = answer.call(losses, batch_size)
        answer.must(isinstance(found, str), "type", found=type(found).__name__)
        answer.must(found in VERDICTS, "value", wanted=" / ".join(VERDICTS), found=found)
        answer.must(found == wanted, reason, wanted=wanted, found=found, **values)

    line = math.log(32)
    judge([line + 0.3 - 0.1 * step for step in range(20)], 32, "moving", "falling")
    judge([*around(line), math.nan, math.nan], 32, "not finite", "nan")
    judge([*around(line), math.inf, *around(line)], 32, "not finite", "early_nan")
    judge(around(line + 0.2), 32, "unmoved", "above")
    judge([*around(line + 0.2)[:-1], line + 0.001], 32, "unmoved", "wobble")
    on_line = [one / 100 for one in ripple]
    judge([line + 0.5, line + 1, *(line + one for one in on_line)], 32, "collapsed", "level")
    judge([line + one for one in on_line], 32, "unmoved", "never_moved")
    judge([*around(line + 0.05), line + 1, *(line + one for one in on_line)], 32, "collapsed", "landed")
    falling = [line + above for above in (1.2, 0.9, 0.6, 0.3, 0.1, 0.015, -0.015)]
    judge(falling, 32, "moving", "crossing")
    for batch_size in (8, 128):
        level = math.log(batch_size)
        values = {"of": batch_size, "level": level}
        losses = [level + 2, level + 1, *(level + one for one in on_line)]
        judge(losses, batch_size, "collapsed", "batch_size", **values)
        judge([line + one for one in on_line], batch_size, "unmoved", "batch_size", **values)


class _Tiny(nn.Module):
    """A minimal CLIP for one training step; without dropout or batch norm its numbers never vary."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.image = nn.Parameter(torch.randn(12, 4, generator=generator))
        self.text = nn.Parameter(torch.randn(9, 4, generator=generator))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.precision: torch.dtype | None = None

    def forward(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        self.precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        words = self.text[input_ids] * attention_mask.unsqueeze(-1)  # (B, T, E)
        image_embedding = F.normalize((images.flatten(1) @ self.image).float(), dim=-1)
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


class _RecordingScaler(GradScaler):
    """A scaler that records its calls among the events of an optimizer."""

    def __init__(self, events: list[str]) -> None:
        super().__init__("cpu", init_scale=1024.0)
        self.events = events

    def scale(self, outputs: Any) -> Any:
        self.events.append("scale")
        return super().scale(outputs)

    def unscale_(self, optimizer: Any) -> None:
        self.events.append("unscale")
        with suppress(AssertionError):  # in the wrong order; the check says what is wrong with it
            super().unscale_(optimizer)

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        self.events.append("scaler.step")
        with suppress(AssertionError):
            return super().step(optimizer, *args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        self.events.append("update")
        with suppress(AssertionError):
            super().update(new_scale)


@exercise(
    type="应返回 float，得到的是 {found}；张量用 .item()，否则整张计算图都留在内存里\n"
    "expected a float, got {found}; call .item() on a tensor, or the whole graph stays in memory",
    no_autocast="前向没有在 torch.autocast(设备, torch.float16) 里面运行：还是 float32\n"
    "the forward pass does not run inside torch.autocast(device, torch.float16): it is still float32",
    wrong_dtype="autocast 的类型应是 torch.float16，得到 {found}\nautocast must use torch.float16, not {found}",
    value="损失应为 {wanted}（更新之前的，没有放大），得到 {found}\n"
    "the loss should be {wanted} (before the update and not scaled), not {found}",
    no_backward="没有 backward()：梯度从哪里来？\nbackward() is missing: where does the gradient come from?",
    not_scaled="损失没有放大就反向传播了：应为 scaler.scale(loss).backward()\n"
    "the loss was not scaled before the backward pass: scaler.scale(loss).backward()",
    own_step="调用了 optimizer.step()：梯度里有无穷大时，它照样更新；应为 scaler.step(optimizer)\n"
    "optimizer.step() was called directly, and it updates even if a gradient is infinite: use scaler.step(optimizer)",
    no_step="没有 scaler.step(optimizer)：权重没有更新\nscaler.step(optimizer) is missing: the weights never change",
    step_first="更新在 backward 之前：用的是上一步的梯度\n"
    "the update comes before backward: it uses the previous gradient",
    erased="zero_grad 在 backward 与更新之间：刚算好的梯度被清掉了\n"
    "zero_grad between backward and the update erases the new gradient",
    zero_grad="没有清掉上一步的梯度：backward 会加在旧梯度上\n"
    "backward adds to the gradient of the previous step: zero it first",
    clipped_first="裁剪的时候梯度还放大着：先 scaler.unscale_(optimizer)，再裁剪\n"
    "the gradient was still scaled when it was clipped: scaler.unscale_(optimizer) comes before clipping",
    not_clipped="梯度没有被裁剪到 1.0\nthe gradient is not clipped to 1.0",
    weights="损失对了，更新后的权重却与参考不同\n"
    "the loss is right, but the weights after the step differ from the reference",
    no_update="没有 scaler.update()：放大的倍数永远不变，溢出之后也不会降低\n"
    "scaler.update() is missing: the scale never changes, not even after an overflow",
    no_clamp="logit_scale 超过了 ln 100：最后要限制在 0 与 ln 100 之间\n"
    "logit_scale exceeds ln 100: at the end, clamp it to between 0 and ln 100",
)
def fp16_step(answer: Answer) -> None:
    """Exercise 5.2: `fp16_step(model, optimizer, scaler, images, input_ids, attention_mask) -> float`."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(5, 3, 2, 2, generator=generator)
    batch = images, torch.randint(1, 9, (5, 3), generator=generator), torch.ones(5, 3, dtype=torch.int64)
    model, optimizer, scaler = _with_old_gradients()
    found = answer.call(model, optimizer, scaler, *batch)
    answer.must(isinstance(found, float), "type", found=type(found).__name__)
    right, right_optimizer, right_scaler = _with_old_gradients()
    wanted = library.fp16_step(right, right_optimizer, right_scaler, *batch)
    answer.must(math.isfinite(found), "value", wanted=wanted, found=found)
    answer.must(model.precision is not None, "no_autocast")
    answer.must(model.precision == torch.float16, "wrong_dtype", found=str(model.precision))
    answer.compare(found, wanted, {})
    _check_order(answer, optimizer.events)
    mistakes = {
        "zero_grad": lambda _: "zero_grad" not in optimizer.events,
        "clipped_first": _after_clipping(batch, scale=1024.0, limit=1.0),
        "not_clipped": _after_clipping(batch, scale=1.0, limit=math.inf),
    }
    answer.compare(model.weights(), right.weights(), mistakes, "weights")
    overflowing = (images * 1e5, *batch[1:])
    model, optimizer, scaler = _with_old_gradients()
    before = model.weights()
    answer.call(model, optimizer, scaler, *overflowing)
    answer.must(torch.equal(model.weights(), before) and scaler.get_scale() == 512.0, "no_update")
    model, optimizer, scaler = _with_old_gradients()
    model.logit_scale.data.fill_(5.0)
    answer.call(model, optimizer, scaler, *batch)
    answer.must(model.logit_scale.item() <= MAX_LOGIT_SCALE + 1e-6, "no_clamp")


def _with_old_gradients() -> tuple[_Tiny, _RecordingSGD, _RecordingScaler]:
    model = _Tiny()
    optimizer = _RecordingSGD(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # left over from an earlier step
    return model, optimizer, _RecordingScaler(optimizer.events)


def _after_clipping(batch: tuple[Tensor, ...], scale: float, limit: float) -> Tensor:
    """All weights, flattened, after a step whose gradient was clipped while it was still scaled."""
    model = _Tiny()
    with torch.autocast("cpu", torch.float16):
        image_embedding, text_embedding = model(*batch)
        loss = contrastive_loss(image_embedding, text_embedding, model.logit_scale)
    (loss * scale).backward()
    nn.utils.clip_grad_norm_(model.parameters(), limit)
    SGD(model.parameters(), lr=0.1 / scale).step()
    return model.weights()


def _check_order(answer: Answer, events: list[str]) -> None:
    answer.must("backward" in events, "no_backward")
    answer.must("scale" in events, "not_scaled")
    answer.must("scaler.step" in events or "step" not in events, "own_step")
    answer.must("scaler.step" in events, "no_step")
    backward, step = (len(events) - 1 - events[::-1].index(event) for event in ("backward", "scaler.step"))
    answer.must(backward < step, "step_first")
    answer.must("zero_grad" not in events[backward:step], "erased")


@exercise(
    empty="没有梯度就没有一步：应原样返回 w，得到 {found}\n"
    "without gradients there is no step: return w as it is, not {found}",
    in_the_gradient="衰减加进了梯度，于是也被除以 √v：应直接缩小 w，绕过两个平均\n"
    "the decay was added to the gradient, so it is divided by √v as well: shrink w itself, past both averages",
    no_decay="权重没有衰减：每一步还要减去 lr × decay × w\n"
    "the weights do not decay: each step also subtracts lr × decay × w",
    no_rate="衰减没有乘学习率：应减去 lr × decay × w\nthe decay lacks the learning rate: subtract lr × decay × w",
    grows="权重在变大：衰减的符号反了\nthe weights grow: the sign of the decay is wrong",
    uncorrected="两个平均从 0 开始，要除以 1 - β^t 补回来\n"
    "both averages start at 0: divide them by 1 - β^t to make up for that",
    reset="每一步都重设了两个平均：它们要在循环之前设一次\n"
    "both averages start over at every step: set them once, before the loop",
    late="先走了 Adam 的一步才缩小：应先缩小\nAdam's step came before the shrinking: shrink first",
    changed="传进来的 w 被改了：不要用 w -= 或 w.mul_()\n"
    "the w that was passed in has changed: do not use w -= or w.mul_()",
)
def adamw(answer: Answer) -> None:
    """Exercise 5.5: `adamw(w, gradients, lr, decay)`, the weights after a step for each gradient."""
    w, lr, decay = torch.tensor([2.0, -1.0, 0.5]), 0.1, 0.5
    gradients = [torch.tensor(g) for g in ([0.3, -2.0, 0.01], [0.1, 1.0, 0.02], [-0.4, 3.0, 0.05])]

    def run(
        decay: float = decay, rate: float = lr, late: bool = False, betas: float = 1, reset: bool = False
    ) -> Tensor:
        end, m, v = w, torch.zeros(3), torch.zeros(3)
        for t, g in enumerate(gradients, 1):
            t, m, v = (1, 0 * m, 0 * v) if reset else (t, m, v)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            move = m / (1 - betas * 0.9**t) / ((v / (1 - betas * 0.999**t)).sqrt() + 1e-8)
            end = end * (1 - rate * decay) - lr * move * ((1 - rate * decay) if late else 1)
        return end

    def in_the_gradient() -> Tensor:
        parameter = nn.Parameter(w.clone())
        optimizer = torch.optim.Adam([parameter], lr=lr, weight_decay=decay)
        for g in gradients:
            parameter.grad = g.clone()
            optimizer.step()
        return parameter.detach()

    mistakes: dict[str, Any] = {
        "no_decay": run(decay=0),
        "in_the_gradient": in_the_gradient(),
        "no_rate": run(rate=1),
        "grows": run(decay=-decay),
        "uncorrected": run(betas=0),
        "reset": run(reset=True),
        "late": run(late=True),
    }
    answer.expect((w, gradients, lr, decay), library.adamw(w, gradients, lr, decay), mistakes)
    answer.expect((w, [], lr, decay), w, {}, "empty")
    kept = w.clone()
    answer.function(kept, gradients, lr, decay)
    answer.must(torch.equal(kept, w), "changed")


class _Training:
    """A run of a few steps of a network with dropout and batch norm, whose every part can be looked at."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2))
        self.optimizer = AdamW(self.model.parameters(), lr=0.1)
        self.scheduler = LambdaLR(self.optimizer, lambda step: 1 / (1 + step))

    @property
    def parts(self) -> tuple[nn.Module, AdamW, LambdaLR]:
        return self.model, self.optimizer, self.scheduler

    def take(self, steps: int) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.model(torch.randn(8, 6)).square().mean().backward()
            self.optimizer.step()
            self.scheduler.step()


STEPS = 3
_NEEDED = {"weights": dict, "optimizer": dict, "scheduler": dict, "step": int, "random": Tensor}


@exercise(
    no_file="没有在 path 写出文件：用 torch.save(内容, path)\nno file was written at path: torch.save(content, path)",
    pickled="文件只能用 weights_only=False 读：里面有 Python 对象；存各自的 state_dict()，不要存对象本身\n"
    "the file can only be read with weights_only=False: it contains Python objects. Save the state_dict() of each, not "
    "the object",
    type="应返回 path，得到的是 {found}\nreturn path, not {found}",
    content="文件里应是一个 dict，得到的是 {found}\nthe file should contain a dict, not {found}",
    no_weights="缺了 weights\nweights is missing",
    no_optimizer="缺了 optimizer：Adam 的两个平均会从零开始\n"
    "optimizer is missing: Adam's two averages would start from zero",
    no_scheduler="缺了 scheduler：学习率会从头走一遍\nscheduler is missing: the learning rate would start over",
    no_step="缺了 step：不知道做到了第几步\nstep is missing: nobody knows how many steps are done",
    no_random="缺了 random：dropout 会从别的随机数开始\nrandom is missing: dropout would draw other random numbers",
    buffers="weights 里没有 {name}：它不是参数，是批归一化的统计量；用 model.state_dict()\n"
    "weights lacks {name}, which is not a parameter but a statistic of batch norm: use model.state_dict()",
    optimizer="optimizer 里没有 Adam 的两个平均（state）：用 optimizer.state_dict()\n"
    "optimizer does not contain Adam's two averages (state): use optimizer.state_dict()",
    scheduler="scheduler 应是 scheduler.state_dict()，得到 {found}\n"
    "scheduler should be scheduler.state_dict(), not {found}",
    step="step 应是 {wanted}，得到 {found}\nstep should be {wanted}, not {found}",
    random="random 应是 torch.get_rng_state()，而不是种子：种子不知道已经取走了多少随机数\n"
    "random should be torch.get_rng_state(), not the seed: a seed does not know how many numbers were drawn since",
)
def save(answer: Answer) -> None:
    """Exercise 5.3: `save(path, model, optimizer, scheduler, step)`, all that the next step depends on."""
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        path = Path(folder) / "run.pt"
        run = _Training(seed=0)
        run.take(STEPS)
        random = torch.get_rng_state()
        found = answer.call(path, *run.parts, STEPS)
        answer.must(isinstance(found, Path), "type", found=type(found).__name__)
        answer.must(path.is_file(), "no_file")
        try:
            content = torch.load(path, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError):
            answer.refuse("pickled")
    answer.must(isinstance(content, dict), "content", found=type(content).__name__)
    for name in _NEEDED:
        answer.must(name in content, f"no_{name}")
    weights, averages = content["weights"], content["optimizer"]
    missing = [name for name in run.model.state_dict() if not isinstance(weights, dict) or name not in weights]
    answer.must(not missing, "buffers", name="".join(missing[:1]))
    answer.must(isinstance(averages, dict) and averages.get("state"), "optimizer")
    schedule = content["scheduler"]
    answer.must(
        isinstance(schedule, dict) and schedule.get("last_epoch") == STEPS, "scheduler", found=str(schedule)[:40]
    )
    answer.must(content["step"] == STEPS, "step", wanted=STEPS, found=str(content["step"])[:40])
    saved = content["random"]
    answer.must(isinstance(saved, Tensor) and saved.shape == random.shape and torch.equal(saved, random), "random")


_sprung: list[str] = []


def _spring() -> None:
    _sprung.append("code from a file was run")


class _Trap:
    """Unpickling this runs code."""

    def __reduce__(self) -> Any:
        return _spring, ()


@exercise(
    weights="模型的权重没有换成文件里的：用 model.load_state_dict(...)，在原来的模型上改\n"
    "the model does not have the file's weights: call model.load_state_dict(...) on the model that was passed in",
    optimizer="Adam 的两个平均没有恢复：少了 optimizer.load_state_dict(...)\n"
    "Adam's two averages were not restored: optimizer.load_state_dict(...) is missing",
    scheduler="scheduler 停在第 {found} 步，应为第 {wanted} 步：少了 scheduler.load_state_dict(...)\n"
    "the scheduler is at step {found}, not {wanted}: scheduler.load_state_dict(...) is missing",
    random="随机状态没有恢复：少了 torch.set_rng_state(...)\n"
    "the random state was not restored: torch.set_rng_state(...) is missing",
    step="应返回已经做完的步数 {wanted}，得到 {found}\nreturn how many steps are done, {wanted}, not {found}",
    unsafe="读文件时执行了文件里的代码：用 torch.load(path, weights_only=True)\n"
    "code from inside the file was run while reading it: use torch.load(path, weights_only=True)",
)
def resume(answer: Answer) -> None:
    """Exercise 5.4: `resume(path, model, optimizer, scheduler) -> int`, which restores what `save` wrote."""
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        path = Path(folder) / "run.pt"
        run, other = _Training(seed=0), _Training(seed=1)
        run.take(STEPS)
        library.save(path, *run.parts, STEPS)
        random = torch.get_rng_state()
        torch.manual_seed(2)
        step = answer.like(STEPS, answer.call(path, *other.parts))
        answer.must(isinstance(step, int), "type", wanted="int", found=type(step).__name__)
        is_drawn_again = torch.equal(torch.get_rng_state(), random)
        torch.save(_Trap(), path)
        _sprung.clear()
        with suppress(Exception):  # the safe way refuses this file
            answer.call(path, *_Training(seed=1).parts)
    pairs = zip(run.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    answer.must(all(torch.equal(one, two) for one, two in pairs), "weights")
    answer.must(len(other.optimizer.state_dict()["state"]) == len(run.optimizer.state_dict()["state"]), "optimizer")
    answer.must(other.scheduler.last_epoch == STEPS, "scheduler", found=other.scheduler.last_epoch, wanted=STEPS)
    answer.must(is_drawn_again, "random")
    answer.must(step == STEPS, "step", found=str(step), wanted=STEPS)
    answer.must(not _sprung, "unsafe")
