"""Write benchmarks/README.md: the text of README.md.jinja with tables and numbers from the recordings in results/.

python -m benchmarks.page
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.harness import FOLDER

HERE = Path(__file__).parent


def fixed(value: float, decimals: int = 1) -> str:
    """Format 1234.56 as `1,234.6`."""
    return f"{value:,.{decimals}f}"


def percent(value: float, decimals: int = 0) -> str:
    """Format 0.256 as `26`."""
    return f"{100 * value:.{decimals}f}"


def recalls(scores: dict[str, float], direction: str, suffix: str = "") -> str:
    """Format R@1/5/10 in one direction as percentages, like `30.2/62.7/73.6`."""
    return "/".join(percent(scores[f"{direction}_R@{k}{suffix}"], 1) for k in (1, 5, 10))


def by(items: Iterable[dict[str, Any]], key: str) -> dict[Any, dict[str, Any]]:
    """Index the items by their value for `key`."""
    return {item[key]: item for item in items}


def write_page(path: Path) -> None:
    """Render the template; a missing recording or number is an error."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    environment.filters |= {f.__name__: f for f in (fixed, percent, recalls, by, statistics.median)}
    recordings = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FOLDER.glob("*.json")}
    path.write_text(environment.get_template("README.md.jinja").render(recordings), encoding="utf-8")


if __name__ == "__main__":
    write_page(HERE / "README.md")
