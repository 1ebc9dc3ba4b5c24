"""Shows the library's current source code, so that no notebook needs a copy of it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import clipedu

ROOT = Path(clipedu.__file__).parent.parent


@dataclass(frozen=True)
class Source:
    """Code, displayed with highlighting below a link to its file and line."""

    link: str
    code: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/markdown": f"{self.link}\n\n```python\n{self.code}\n```", "text/plain": self.code}


def show_source(obj: type | ModuleType | Callable[..., Any], start: str = "", stop: str = "") -> Source:
    """The current source code of a class, method, function or module of the library.

    Args:
        start: begin at the first line that contains this text.
        stop: end with the first line, counted from there, that contains this text.

    Raises:
        ValueError: `obj` has no Python source, or no line contains `start` or `stop`.
    """
    try:
        unwrapped = inspect.unwrap(obj) if callable(obj) else obj
        lines, first = inspect.getsourcelines(unwrapped)
        file = Path(inspect.getsourcefile(unwrapped) or "")
    except (TypeError, OSError) as error:
        raise ValueError(f"{obj!r} has no Python source: pass a class, a method, a function or a module") from error
    begin = _find(lines, start, 0)
    end = _find(lines, stop, begin) + 1 if stop else len(lines)
    code = inspect.cleandoc("\n" + "".join(lines[begin:end]))
    return Source(_link(file, max(1, first) + begin), code)  # a module's first line is called 0


def _find(lines: list[str], wanted: str, begin: int) -> int:
    for number, line in enumerate(lines[begin:], begin):
        if wanted in line:
            return number
    raise ValueError(f"no line of the source contains {wanted!r}")


def _link(file: Path, line: int) -> str:
    """A link relative to the notebooks' folder, or only the file's name if it is outside the project."""
    if not file.is_relative_to(ROOT):
        return f"`{file.name}:{line}`"
    relative = file.relative_to(ROOT).as_posix()
    return f"[`{relative}:{line}`]({Path(os.pardir, relative).as_posix()}#L{line})"
