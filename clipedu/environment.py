"""The machine: which device, how much memory, and whether all that the series needs is here."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from clipedu.errors import ConfigError

CJK_FONTS = (  # what the systems call their fonts with Chinese characters
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC",
    "PingFang SC", "Heiti SC", "Hiragino Sans GB", "Arial Unicode MS", "Microsoft YaHei", "SimHei", "SimSun",
)  # fmt: skip
_PACKAGES = (
    "torch", "torchvision", "timm", "pillow", "numpy", "matplotlib", "jupyterlab", "ipywidgets", "emoji", "tokenizers",
    "scikit-image",
)  # fmt: skip


def is_first_process() -> bool:
    """Whether this process speaks for all of a run: the first of several, or the only one."""
    return not dist.is_initialized() or dist.get_rank() == 0


def say(text: str) -> None:
    """Print in the first process only."""
    if is_first_process():
        print(text, flush=True)


def choose_device(name: str = "auto") -> torch.device:
    """`auto` takes CUDA, else Apple's MPS, else the CPU; any other name is taken as torch understands it."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        tensor = torch.zeros(1, device=name)
        tensor.item()  # "meta" holds no numbers
        return tensor.device
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(
            f"设备 {name!r} 在这台电脑上不可用；可用 --device auto",
            f"device {name!r} cannot be used on this computer; try --device auto",
        ) from error


def gpu_memory() -> dict[str, float]:
    """GiB of CUDA memory: in use by tensors, reserved by PyTorch, and the most that was in use; zeros without CUDA."""
    if not torch.cuda.is_available():
        return {"allocated": 0.0, "reserved": 0.0, "peak": 0.0}
    return {
        "allocated": torch.cuda.memory_allocated() / 2**30,
        "reserved": torch.cuda.memory_reserved() / 2**30,
        "peak": torch.cuda.max_memory_allocated() / 2**30,
    }


def clear_gpu_cache() -> None:
    """Hand memory that PyTorch holds in reserve back to the GPU, for other programs; training needs no such call."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def cache_folder() -> Path:
    """Where computed features are kept: $CLIPEDU_CACHE, or ~/.cache/clipedu."""
    return Path(os.environ.get("CLIPEDU_CACHE") or Path.home() / ".cache" / "clipedu")


def find_cjk_font() -> Path | None:
    """The file of an installed font with Chinese characters."""
    from matplotlib import font_manager

    files = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    return next((Path(files[name]) for name in CJK_FONTS if name in files), None)


@dataclass(frozen=True)
class Check:
    """One line of the environment check: `remedy_*` say what to do when it is not `ok`."""

    name: str
    ok: bool
    found: str
    remedy_zh: str = ""
    remedy_en: str = ""

    def __str__(self) -> str:
        line = f"[{'OK' if self.ok else 'FAIL'}] {self.name}: {self.found}"
        return line if self.ok else f"{line}\n       {self.remedy_zh} | {self.remedy_en}"


def check_environment(data_dir: Path = Path("sample_data")) -> list[Check]:
    """Look at Python, the packages, device, memory, sample data and fonts."""
    packages = map(_check_package, _PACKAGES)
    machine = (_check_device(), _check_memory())
    return [_check_python(), *packages, *machine, _check_data(data_dir), _check_cjk_font(), _check_emoji_font()]


def _check_python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check(
        "Python", sys.version_info >= (3, 10), found, "请安装 Python 3.10 或更新版本", "install Python 3.10 or newer"
    )


def _check_package(name: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "-", f"请运行 pip install {name}", f"run: pip install {name}")


def _check_device() -> Check:
    device = choose_device()
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory / 2**30
        return Check("device", True, f"cuda, {torch.cuda.get_device_name(device)}, {total:.0f} GiB")
    return Check("device", True, f"{device.type}, {torch.get_num_threads()} threads")


def _check_memory() -> Check:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError, OSError):  # Windows and macOS do not tell
        return Check("memory", True, "?")
    return Check(
        "memory",
        free >= 2,
        f"{free:.1f} GiB free",
        "请关闭其他程序，至少留出 2 GiB",
        "close programs: 2 GiB are needed",
    )


def _check_data(data_dir: Path) -> Check:
    from clipedu.errors import DatasetError
    from clipedu.records import read_records

    remedy = f"python -m clipedu create-dataset --kind scenes --out {data_dir}"
    try:
        return Check("sample_data", True, f"{len(read_records(data_dir))} pictures in {data_dir}")
    except DatasetError as error:
        return Check("sample_data", False, error.en or str(error), f"请运行 {remedy}", f"run: {remedy}")


def _check_cjk_font() -> Check:
    font = find_cjk_font()
    return Check(
        "Chinese font",
        font is not None,
        font.name if font else "-",
        "请安装中文字体，如 apt install fonts-wqy-microhei（没有它，图中的汉字会变成方框）",
        "install a font with Chinese, such as: apt install fonts-wqy-microhei (without it figures show boxes)",
    )


def _check_emoji_font() -> Check:
    from clipedu.emoji import find_emoji_font
    from clipedu.errors import ClipEduError

    try:
        return Check("emoji font", True, find_emoji_font().path.name)
    except ClipEduError as error:
        return Check("emoji font", False, "-", error.zh, error.en)
