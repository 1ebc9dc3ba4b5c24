"""What all checks share: they never raise, and they say what is wrong in the reader's two languages."""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipedu.classroom.view import Card, card

Answer = Callable[..., Any]


class Refused(Exception):
    """The answer lacks a property: its name, and what to say."""

    def __init__(self, reason: str, zh: str, en: str) -> None:
        super().__init__(reason)
        self.reason, self.zh, self.en = reason, zh, en


def exercise(examine: Callable[[Answer], None]) -> Callable[[Any], Card]:
    """Turn a function that raises `Refused` into one that always answers with a card."""

    @functools.wraps(examine)
    def check(answer: Any) -> Card:
        name = examine.__name__
        if not callable(answer):
            kind = type(answer).__name__
            return card(
                False, f"{name} 应是一个函数，得到的是 {kind}", f"{name} must be a function, not {kind}", "type"
            )
        try:
            examine(answer)
        except Refused as refused:
            return card(False, refused.zh, refused.en, refused.reason)
        except NotImplementedError:
            return card(
                None,
                f"{name} 还没有写：把 raise 那一行换成你的代码",
                f"{name} is not written yet: put your code where the raise is",
                "unwritten",
            )
        except (Exception, SystemExit) as error:
            where = _line_of(error)
            said = f"{type(error).__name__}: {error}"
            return card(
                False, f"{name} 运行出错{where[0]}：{said}", f"{name} stopped with an error{where[1]}: {said}", "error"
            )
        return card(True, f"{name} 全部通过", f"{name}: all properties hold")

    return check


def _line_of(error: BaseException) -> tuple[str, str]:
    """The line of the reader's own code at which it stopped."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent != Path(__file__).parent
    ]
    return (f"（第 {own[0].lineno} 行）", f" (line {own[0].lineno})") if own else ("", "")


def must(condition: Any, reason: str, zh: str, en: str) -> None:
    """Refuse the answer for `reason`, saying so in both languages, unless `condition` holds."""
    if not condition:
        raise Refused(reason, zh, en)


def call(answer: Answer, *arguments: Any) -> Any:
    """The answer's result for copies of the arguments, once it is clear that it takes as many."""
    try:
        inspect.signature(answer).bind(*arguments)
    except TypeError:
        count = len(arguments)
        raise Refused(
            "signature", f"函数应能接收 {count} 个参数", f"the function must take {count} arguments"
        ) from None
    except ValueError:  # some built-in functions tell nothing
        pass
    copies = [argument.clone() if isinstance(argument, Tensor) else argument for argument in arguments]
    result = answer(*copies)
    must(
        result is not None,
        "returned nothing",
        "函数什么也没有返回：是不是忘了 return？",
        "nothing came back: is the return missing?",
    )
    return result


def tensor(answer: Answer, shape: tuple[int, ...], *arguments: Any) -> Tensor:
    """The answer's result, known to be a tensor of this shape without NaN."""
    result = call(answer, *arguments)
    kind = type(result).__name__
    must(isinstance(result, Tensor), "type", f"应返回张量，得到的是 {kind}", f"a tensor must come back, not {kind}")
    found, wanted = list(result.shape), list(shape)
    must(found == wanted, "shape", f"形状应为 {wanted}，得到 {found}", f"the shape must be {wanted}, not {found}")
    must(
        not result.isnan().any(),
        "nan",
        "结果里有 NaN：哪里除以了 0？",
        "there is NaN in the result: where is something divided by 0?",
    )
    return result.float()


def near(found: Tensor, wanted: Tensor) -> bool:
    """Equal but for rounding."""
    return bool(torch.allclose(found, wanted.float(), atol=1e-5))
