"""Shared by all checks: a table of known mistakes to compare with, bilingual messages, and no exceptions."""

from __future__ import annotations

import functools
import inspect
import math
import traceback
from collections.abc import Callable, Mapping
from copy import deepcopy
from numbers import Real
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor, allclose, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clipedu.classroom.view import Card, card

Messages = Mapping[str, str]  # by reason: a line of Chinese and a line of English, with placeholders such as {found}
Mistakes = Mapping[str, Any]  # by reason: the value that a mistake leads to, a tuple of such values, or a predicate

COMMON: Messages = {
    "signature": "函数应能接收 {count} 个参数\nthe function must take {count} arguments",
    "returned_nothing": "函数什么也没有返回：是不是忘了 return？\nnothing was returned: did you forget return?",
    "type": "应返回 {wanted}，得到的是 {found}\nthe result should be of type {wanted}, not {found}",
    "shape": "形状应为 {wanted}，得到 {found}\nthe shape should be {wanted}, not {found}",
    "nan": "结果里有 NaN：是不是除以了 0？\nthe result contains NaN: did you divide by 0?",
    "value": "应为 {wanted}，得到 {found}\nexpected {wanted}, got {found}",
}


_LIVING = nn.Module | Optimizer | LRScheduler | GradScaler  # an answer is meant to change these


class Refused(Exception):
    """The answer is wrong; carries the reason and the message in Chinese and English."""


class Answer:
    """A reader's function, with the messages of its exercise."""

    def __init__(self, function: Callable[..., Any], messages: Messages) -> None:
        self.function, self.messages = function, {**COMMON, **messages}

    def refuse(self, reason: str, **values: Any) -> NoReturn:
        """End the check with the message for `reason`, filled in with `values`."""
        readable = {name: _readable(value) for name, value in values.items()}
        zh, en = (line.format(**readable) for line in self.messages[reason].split("\n"))
        raise Refused(reason, zh, en)

    def must(self, condition: Any, reason: str, **values: Any) -> None:
        """Refuse the answer unless `condition` is true."""
        if not condition:
            self.refuse(reason, **values)

    def call(self, *arguments: Any) -> Any:
        """Call the function with copies of the arguments, so that in-place changes cannot affect the check."""
        try:
            inspect.signature(self.function).bind(*arguments)
        except TypeError:
            self.refuse("signature", count=len(arguments))
        except ValueError:  # some built-in functions have no signature
            pass
        result = self.function(*(a if isinstance(a, _LIVING) else deepcopy(a) for a in arguments))
        self.must(result is not None, "returned_nothing")
        return result

    def like(self, wanted: Any, result: Any) -> Any:
        """The result, if its type (any number for a number) and a tensor's shape are those of `wanted`, without NaN."""
        kind = Real if isinstance(wanted, Real) else type(wanted)
        self.must(isinstance(result, kind), "type", wanted=type(wanted).__name__, found=type(result).__name__)
        if isinstance(wanted, Tensor):
            shape, found = list(wanted.shape), list(result.shape)
            transposed = "transposed" in self.messages and found == shape[::-1]
            self.must(found == shape, "transposed" if transposed else "shape", wanted=shape, found=found)
            self.must(not result.isnan().any(), "nan")
        return result

    def compare(self, found: Any, wanted: Any, mistakes: Mistakes, otherwise: str = "value", **values: Any) -> None:
        """Refuse a wrong value, with the first mistake that explains it as the reason, or else with `otherwise`."""
        if not alike(found, wanted):
            self.refuse(diagnosis(found, mistakes) or otherwise, found=found, wanted=wanted, **values)

    def expect(
        self, arguments: tuple[Any, ...], wanted: Any, mistakes: Mistakes, otherwise: str = "value", **values: Any
    ) -> None:
        """Call the function with `arguments`, then apply `like` and `compare` to its result."""
        self.compare(self.like(wanted, self.call(*arguments)), wanted, mistakes, otherwise, **values)


def diagnosis(found: Any, mistakes: Mistakes) -> str | None:
    """The first mistake that explains the value, by its reason."""

    def explains(mistake: Any) -> bool:
        if isinstance(mistake, tuple):
            return any(map(explains, mistake))
        return bool(mistake(found)) if callable(mistake) else alike(found, mistake)

    return next((reason for reason, mistake in mistakes.items() if explains(mistake)), None)


def alike(found: Any, value: Any) -> bool:
    """Equal up to rounding; for a dict, only the keys of `value` are compared."""
    if isinstance(found, Tensor) and isinstance(value, Tensor):
        return found.shape == value.shape and allclose(found.float(), value.float(), atol=1e-5)
    if isinstance(found, Real) and isinstance(value, Real):
        return math.isclose(found, value, rel_tol=1e-4, abs_tol=1e-6)
    if isinstance(found, list) and isinstance(value, list):
        return len(found) == len(value) and all(map(alike, found, value))
    if isinstance(found, dict) and isinstance(value, dict):
        return all(alike(found.get(key), item) for key, item in value.items())
    return bool(found == value)


def _readable(value: Any) -> Any:
    """Tensors as lists, floats with four significant digits."""
    if isinstance(value, Tensor):
        return _readable(value.tolist())
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def exercise(**messages: str) -> Callable[[Callable[[Answer], None]], Callable[[Any], Card]]:
    """Turn a function that may refuse an answer into a check that accepts anything, never raises and returns a card."""

    def decorate(examine: Callable[[Answer], None]) -> Callable[[Any], Card]:
        @functools.wraps(examine)
        def check(answer: Any) -> Card:
            name, kind = examine.__name__, type(answer).__name__
            if not callable(answer):
                zh, en = f"{name} 应是一个函数，得到的是 {kind}", f"{name} must be a function, not {kind}"
                return card(False, zh, en, "type")
            try:
                examine(Answer(answer, messages))
            except Refused as refused:
                reason, zh, en = refused.args
                return card(False, zh, en, reason)
            except NotImplementedError:
                zh = f"{name} 还没有写：把 raise 那一行换成你的代码"
                return card(None, zh, f"{name} is not written yet: put your code where the raise is", "unwritten")
            except (Exception, SystemExit) as error:
                (zh, en), reason = _line_of(error), traceback.format_exception_only(error)[-1].strip()
                return card(False, f"{name} 运行出错{zh}：{reason}", f"{name} failed{en}: {reason}", "error")
            return card(True, f"{name} 全部通过", f"{name} passes every check")

        return check

    return decorate


def _line_of(error: BaseException) -> tuple[str, str]:
    """The line in the reader's own code that failed."""
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).parent != Path(__file__).parent:
            return f"（第 {frame.lineno} 行）", f" (line {frame.lineno})"
    return "", ""
