"""A result with all that one needs to repeat it: command, date, device, versions."""

from __future__ import annotations

import datetime
import json
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from clipedu.ground.environment import choose_device
from clipedu.ground.files import whole_file

FOLDER = Path(__file__).parent / "results"


def write_result(path: Path, results: Any, packages: Sequence[str] = ()) -> None:
    """Write `results` and where they come from to `path`; called again after each run, so that none is lost.

    `packages` are those whose versions matter too, beside torch's.
    """
    arguments = [Path(word).name if "/" in word else word for word in sys.argv[1:]]  # no place of this machine
    content = {
        "command": " ".join(["python -m", f"benchmarks.{Path(sys.argv[0]).stem}", *arguments]),
        "date": datetime.date.today().isoformat(),
        "device": _device(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "torchvision", *packages)},
        "results": results,
    }
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _device() -> str:
    device = choose_device()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()} ({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads"


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
