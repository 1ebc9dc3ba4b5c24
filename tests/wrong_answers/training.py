"""Wrong answers to the exercises of notebook 05: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.loss import contrastive_loss
from tests.wrong_answers import WrongAnswers


def verdict(losses: list[float], batch_size: int, **changed: Any) -> str:
    """`read_curve` with some of its parts replaced."""
    looked_at, level = changed.get("looked_at", losses), changed.get("level", math.log(batch_size))
    if not all(map(math.isfinite, looked_at)) and not changed.get("is_blind"):
        return "not finite"
    away = [abs(loss - level) for loss in losses]
    is_on_line = all(one < changed.get("width", 0.02) for one in away[-changed.get("steps", 5) :])
    if is_on_line and any(one > changed.get("elsewhere", 0.1) for one in away):
        return "collapsed"
    return "unmoved" if abs(sum(losses[:5]) - sum(losses[-5:])) / 5 < 0.1 else "moving"


def single_steps(losses: list[float], batch_size: int) -> str:
    found = verdict(losses, batch_size)
    return ("moving" if abs(losses[-1] - losses[0]) > 0.1 else "unmoved") if found == "unmoved" else found


def unmoved_first(losses: list[float], batch_size: int) -> str:
    is_unmoved = abs(sum(losses[:5]) - sum(losses[-5:])) / 5 < 0.1
    found = verdict(losses, batch_size)
    return "unmoved" if is_unmoved and found == "collapsed" else found


def adamw_with(**changed: Any) -> Callable[..., Tensor]:
    """`adamw` with one of its parts wrong."""

    def adamw(w: Tensor, gradients: list[Tensor], lr: float, decay: float) -> Tensor:
        m, v = torch.zeros_like(w), torch.zeros_like(w)
        shrink = changed.get("shrink", lambda w, lr, decay: w - lr * decay * w)
        for t, g in enumerate(gradients, 1):
            if changed.get("forgets"):
                t, m, v = 1, torch.zeros_like(w), torch.zeros_like(w)
            g = g + decay * w if changed.get("in_gradient") else g
            w = w if changed.get("late") else shrink(w, lr, decay)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            t = changed.get("t", t)
            step = lr * m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            w = w - step
            w = shrink(w, lr, decay) if changed.get("late") else w
        return w

    return adamw


def step_of(order: str = "zero scaled unscale clip step update clamp", **changed: Any) -> Callable[..., Any]:
    """An fp16 step with its parts in this order, and its dtype or return value replaced."""

    def step(model: Any, optimizer: Any, scaler: Any, images: Tensor, input_ids: Tensor, mask: Tensor) -> Any:
        dtype = changed.get("dtype", torch.float16)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            image_embedding, text_embedding = model(images, input_ids, mask)
            loss = contrastive_loss(image_embedding, text_embedding, model.logit_scale)
        parts = {
            "zero": optimizer.zero_grad,
            "scaled": lambda: scaler.scale(loss).backward(),
            "plain": loss.backward,
            "unscale": lambda: scaler.unscale_(optimizer),
            "clip": lambda: nn.utils.clip_grad_norm_(model.parameters(), 1.0),
            "clip_value": lambda: nn.utils.clip_grad_value_(model.parameters(), 0.01),
            "step": lambda: scaler.step(optimizer),
            "own": optimizer.step,
            "update": scaler.update,
            "clamp": model.clamp_logit_scale,
        }
        for part in order.split():
            parts[part]()
        return changed.get("answer", Tensor.item)(loss)

    return step


def saved(**changed: Callable[..., Any]) -> Callable[..., Path]:
    """`save` with some entries replaced; one that becomes None is left out."""

    def save(path: Path, model: nn.Module, optimizer: Any, scheduler: Any, step: int) -> Path:
        content = {
            "weights": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "step": step,
            "random": torch.get_rng_state(),
        }
        for name, replace in changed.items():
            content[name] = replace(model, optimizer, scheduler, step)
        torch.save({name: value for name, value in content.items() if value is not None}, path)
        return path

    return save


def written(content: Callable[[nn.Module], Any]) -> Callable[..., Path]:
    def save(path: Path, model: nn.Module, *_: Any) -> Path:
        torch.save(content(model), path)
        return path

    return save


def left_out(*_: Any) -> None:
    return None


def resumed(skip: str = "", add: int = 0, safe: bool = True) -> Callable[..., int]:
    """`resume` without one of its parts."""

    def resume(path: Path, model: nn.Module, optimizer: Any, scheduler: Any) -> int:
        content = torch.load(path, weights_only=safe)
        for name, part in (("weights", model), ("optimizer", optimizer), ("scheduler", scheduler)):
            if name != skip:
                part.load_state_dict(content[name])
        if skip != "random":
            torch.set_rng_state(content["random"])
        step: int = content["step"]
        return step + add

    return resume


WRONG: WrongAnswers = {
    "read_curve": [
        ("always ln 32", "batch_size", lambda losses, n: verdict(losses, n, level=math.log(32))),
        ("log2", "level", lambda losses, n: verdict(losses, n, level=math.log2(n))),
        ("lets NaN through", "nan", lambda losses, n: verdict(losses, n, is_blind=True)),
        ("looks for NaN at the end", "early_nan", lambda losses, n: verdict(losses, n, looked_at=losses[-5:])),
        ("a wide line", "above", lambda losses, n: verdict(losses, n, width=0.5)),
        ("the last step on the line", "wobble", lambda losses, n: verdict(losses, n, steps=1)),
        ("two steps on the line", "crossing", lambda losses, n: verdict(losses, n, steps=2)),
        ("compares single steps", "wobble", single_steps),
        ("on the line is collapsed", "never_moved", lambda losses, n: verdict(losses, n, elsewhere=-1)),
        ("unmoved first", "landed", unmoved_first),
        ("gives a bool", "type", lambda losses, n: losses[-1] < losses[0]),
    ],
    "fp16_step": [
        ("clips before unscaling", "clipped_first", step_of("zero scaled clip unscale step update clamp")),
        ("never unscales", "clipped_first", step_of("zero scaled clip step update clamp")),
        ("no scaling", "not_scaled", step_of("zero plain clip step update clamp")),
        ("steps on its own", "own_step", step_of("zero scaled unscale clip own update clamp")),
        ("no update", "no_update", step_of("zero scaled unscale clip step clamp")),
        ("no autocast", "no_autocast", step_of(dtype=torch.float32)),
        ("bf16", "wrong_dtype", step_of(dtype=torch.bfloat16)),
        ("no backward", "no_backward", step_of("zero clamp")),
        ("no step", "no_step", step_of("zero scaled unscale clip update clamp")),
        ("steps first", "step_first", step_of("zero unscale clip step update scaled clamp")),
        ("no zero_grad", "zero_grad", step_of("scaled unscale clip step update clamp")),
        ("zero_grad after backward", "erased", step_of("scaled zero unscale clip step update clamp")),
        ("no clipping", "not_clipped", step_of("zero scaled unscale step update clamp")),
        ("clips each number", "weights", step_of("zero scaled unscale clip_value step update clamp")),
        ("no clamp", "no_clamp", step_of("zero scaled unscale clip step update")),
        ("the scaled loss", "value", step_of(answer=lambda loss: 1024 * loss.item())),
        ("gives a tensor", "type", step_of(answer=lambda loss: loss)),
    ],
    "adamw": [
        ("Adam with L2", "in_the_gradient", adamw_with(shrink=lambda w, *_: w, in_gradient=True)),
        ("plain Adam", "no_decay", adamw_with(shrink=lambda w, *_: w)),
        ("decay without the rate", "no_rate", adamw_with(shrink=lambda w, lr, decay: w - decay * w)),
        ("the wrong sign", "grows", adamw_with(shrink=lambda w, lr, decay: w + lr * decay * w)),
        ("no correction", "uncorrected", adamw_with(t=10**6)),
        ("forgets its averages", "reset", adamw_with(forgets=True)),
        ("shrinks last", "late", adamw_with(late=True)),
        ("changes w", "changed", lambda w, gradients, lr, decay: w.copy_(adamw_with()(w, gradients, lr, decay))),
        ("the first step only", "value", lambda w, gradients, lr, decay: adamw_with()(w, gradients[:1], lr, decay)),
        ("gives a list", "type", lambda w, *rest: adamw_with()(w, *rest).tolist()),
    ],
    "save": [
        ("the model itself", "pickled", saved(weights=lambda model, *_: model)),
        ("no weights", "no_weights", saved(weights=left_out)),
        ("no optimizer", "no_optimizer", saved(optimizer=left_out)),
        ("no scheduler", "no_scheduler", saved(scheduler=left_out)),
        ("no step", "no_step", saved(step=left_out)),
        ("no random state", "no_random", saved(random=left_out)),
        ("parameters only", "buffers", saved(weights=lambda model, *_: dict(model.named_parameters()))),
        ("settings of Adam only", "optimizer", saved(optimizer=lambda *_: {"lr": 0.1})),
        ("the rate only", "scheduler", saved(scheduler=lambda m, o, scheduler, s: scheduler.get_last_lr()[0])),
        ("the next step", "step", saved(step=lambda m, o, s, step: step + 1)),
        ("the seed", "random", saved(random=lambda *_: torch.initial_seed())),
        ("weights alone", "no_optimizer", written(lambda model: {"weights": model.state_dict()})),
        ("a list", "content", written(lambda model: [model.state_dict()])),
        ("writes nothing", "no_file", lambda path, *_: path),
        ("returns the weights", "type", lambda path, model, *_: model.state_dict()),
    ],
    "resume": [
        ("no weights", "weights", resumed(skip="weights")),
        ("no optimizer", "optimizer", resumed(skip="optimizer")),
        ("no scheduler", "scheduler", resumed(skip="scheduler")),
        ("no random state", "random", resumed(skip="random")),
        ("the next step", "step", resumed(add=1)),
        ("trusts the file", "unsafe", resumed(safe=False)),
    ],
}
