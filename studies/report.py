"""Write a study's results to a page, with everything needed to repeat it."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import version
from pathlib import Path

from clipedu.ground.files import whole_file

RESULTS = Path(__file__).parent / "results"


def write_result(name: str, arguments: str, result: str, folder: Path = RESULTS) -> None:
    """Write `results/NAME.md`: the command, the date, the versions, and the result in Markdown."""
    origin = f"{datetime.date.today().isoformat()}, Python {platform.python_version()}, torch {version('torch')}"
    command = f"```bash\npython -m studies.{name} {arguments}".rstrip() + "\n```"
    page = f"# studies.{name}\n\n{command}\n\n{origin}, {platform.system()} {platform.release()}\n\n{result}\n"
    with whole_file(folder / f"{name}.md") as temporary:
        temporary.write_text(page, encoding="utf-8")
