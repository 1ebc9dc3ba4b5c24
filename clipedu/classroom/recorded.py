"""Results of runs that take too long for a notebook, with the command that made them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from typing import Any

from clipedu.classroom.source import ROOT
from clipedu.ground.errors import ConfigError

FOLDER = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Recording:
    """`results` as a command of benchmarks/ wrote them; shown, it says which command, when and where."""

    results: Any
    origin: dict[str, str]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        rows = "".join(f"<tr><td><b>{escape(k)}</b></td><td>{escape(v)}</td></tr>" for k, v in self.origin.items())
        said = "\n".join(f"{name}: {value}" for name, value in self.origin.items())
        return {"text/html": f"<table>{rows}</table>", "text/plain": said}


def recorded(name: str) -> Recording:
    """The newest run of `python -m benchmarks.NAME` that is kept in the project.

    Raises:
        ConfigError: there is none.
    """
    file = FOLDER / f"{name}.json"
    if not file.is_file():
        raise ConfigError(f"没有名为 {name} 的记录（{file.name}）", f"there is no recording {name} ({file.name})")
    content = json.loads(file.read_text(encoding="utf-8"))
    versions = ", ".join(f"{package} {version}" for package, version in content["versions"].items())
    origin = {"command": content["command"], "date": content["date"], "device": content["device"], "with": versions}
    return Recording(content["results"], origin)
