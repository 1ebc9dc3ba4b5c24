"""Results of runs that take too long for a notebook, with the commands that produced them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from clipedu.classroom.source import ROOT

FOLDER = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Recording:
    """The `results` that a benchmarks/ command wrote; displayed as a table of its command, date and device."""

    results: Any
    origin: dict[str, str]

    def where(self, **wanted: Any) -> list[dict[str, Any]]:
        """The runs with these values: `where(arm="frozen", share=1.0)`."""
        return [run for run in self.results if all(run[name] == value for name, value in wanted.items())]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        rows = "".join(f"<tr><td><b>{escape(k)}</b></td><td>{escape(v)}</td></tr>" for k, v in self.origin.items())
        text = "\n".join(f"{name}: {value}" for name, value in self.origin.items())
        return {"text/html": f"<table>{rows}</table>", "text/plain": text}


def has_recording(name: str) -> bool:
    """Whether `recorded(name)` will succeed; a GPU run, for example, can only be recorded by someone with a GPU."""
    return (FOLDER / f"{name}.json").is_file()


def recorded(name: str) -> Recording:
    """The latest results of `python -m benchmarks.NAME` that are stored in the project.

    Raises:
        ValueError: nothing is stored under this name.
    """
    if not has_recording(name):
        raise ValueError(f"no recording {name!r} in {FOLDER.name}")
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    versions = ", ".join(f"{package} {version}" for package, version in content["versions"].items())
    origin = {"command": content["command"], "date": content["date"], "device": content["device"], "with": versions}
    return Recording(content["results"], origin)


def mean_and_range(lines: Sequence[Sequence[float]]) -> tuple[list[float], tuple[list[float], list[float]]]:
    """The mean of equally long lines, one per seed, at each point, and their (minimum, maximum) at each point."""
    points = list(zip(*lines, strict=True))
    return [sum(point) / len(point) for point in points], (list(map(min, points)), list(map(max, points)))
