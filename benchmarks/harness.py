"""Shared by the commands: options, alternating measurements, the small model they train, and recording results."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

from clipedu import CLIP, ImageEncoder, ImageTextDataset, SimpleTokenizer, TextEncoder
from clipedu.ground.environment import choose_device
from clipedu.ground.files import whole_file

FOLDER = Path(__file__).parent / "results"
Measured = TypeVar("Measured")


def read_options(description: str | None, **defaults: Any) -> argparse.Namespace:
    """Parse the command line: an option per default, of its type; False makes a flag, a list takes several values."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        option = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(option, action="store_true")
        elif isinstance(default, list):
            parser.add_argument(option, type=type(default[0]), nargs="+", default=default, help=f"default: {default}")
        else:
            parser.add_argument(option, type=type(default), default=default, help=f"default: {default}")
    return parser.parse_args()


def in_turn(arms: Mapping[str, Callable[[], Measured]], rounds: int) -> Iterator[tuple[str, Measured]]:
    """Measure A B A B ..., so that other load on the machine affects all arms equally; yield each result at once."""
    for _ in range(rounds):
        for name, measure in arms.items():
            yield name, measure()


def ratio_of_medians(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of `numerators` divided by the median of `denominators`."""
    return round(statistics.median(numerators) / statistics.median(denominators), 3)


def small_model(
    train_set: ImageTextDataset,
    seed: int,
    network: str = "resnet18",
    pretrained: bool = False,
    dropout: float = 0.1,
) -> tuple[CLIP, SimpleTokenizer]:
    """A model with one text layer, determined by the seed, and a tokenizer with the words of `train_set`."""
    tokenizer = SimpleTokenizer.from_texts(train_set.all_captions()[0])
    torch.manual_seed(seed)
    text_encoder = TextEncoder(len(tokenizer), num_layers=1, dropout=dropout, pooling="mean")
    return CLIP(ImageEncoder(network, pretrained), text_encoder), tokenizer


def write_result(name: str, results: Any, packages: Sequence[str] = ()) -> None:
    """Write `results` and their origin to `results/NAME.json`; call it after each run, so that nothing is lost.

    `packages` are those whose versions matter in addition to torch's.
    """
    arguments = [Path(word).name if "/" in word else word for word in sys.argv[1:]]  # no local paths
    content = {
        "command": shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *arguments]),
        "date": datetime.date.today().isoformat(),
        "device": _device(),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("torch", "torchvision", *packages)},
        "results": results,
    }
    with whole_file(FOLDER / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _device() -> str:
    device = choose_device()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor} ({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads"
