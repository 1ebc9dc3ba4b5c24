"""This computer: its processes, device, memory, cache and fonts."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from functools import cache
from pathlib import Path

import torch
import torch.distributed as dist

from clipedu.ground.errors import ConfigError

CJK_FONTS = (  # fonts with Chinese characters, by their names on various systems
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC",
    "PingFang SC", "Heiti SC", "Hiragino Sans GB", "Arial Unicode MS", "Microsoft YaHei", "SimHei", "SimSun",
)  # fmt: skip


def rank_and_processes() -> tuple[int, int]:
    """This process's number and how many train together: (0, 1) unless torchrun started several."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def is_first_process() -> bool:
    """Whether this process prints and saves for the whole run: the first of several, or the only one."""
    return rank_and_processes()[0] == 0


def say(text: str) -> None:
    """Print in the first process only."""
    if is_first_process():
        print(text, flush=True)


def usable_cpus() -> int:
    """How many processors this process may use: in a container or on a cluster, fewer than the computer has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(name: str = "auto") -> torch.device:
    """`auto` takes CUDA, else Apple's MPS, else the CPU; any other name is passed to torch.

    Raises:
        ConfigError: this computer has no such device.
    """
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        tensor = torch.zeros(1, device=name)
        tensor.item()  # fails on "meta", which has no numbers
        return tensor.device
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(
            f"设备 {name!r} 在这台电脑上不可用；可用 --device auto",
            f"device {name!r} cannot be used on this computer; try --device auto",
        ) from error


def use_fast_arithmetic() -> None:
    """Let NVIDIA GPUs multiply float32 numbers as TF32, and cuDNN try out which convolution is the fastest.

    Both give up exactness for speed: results are then no longer the same bit for bit each time.
    """
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def gpu_memory() -> dict[str, float]:
    """GiB of CUDA memory: `allocated` by tensors, `reserved` by PyTorch, and the `peak`; zeros without CUDA."""
    if not torch.cuda.is_available():
        return {"allocated": 0.0, "reserved": 0.0, "peak": 0.0}
    return {
        "allocated": torch.cuda.memory_allocated() / 2**30,
        "reserved": torch.cuda.memory_reserved() / 2**30,
        "peak": torch.cuda.max_memory_allocated() / 2**30,
    }


def clear_gpu_cache() -> None:
    """Release the memory that PyTorch keeps in reserve, for other programs; training does not need this."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def cache_folder() -> Path:
    """Where computed features are kept: $CLIPEDU_CACHE, or ~/.cache/clipedu."""
    return Path(os.environ.get("CLIPEDU_CACHE") or Path.home() / ".cache" / "clipedu")


def find_cjk_font() -> str | None:
    """The name of an installed font with Chinese characters."""
    name = _listed_cjk_font()
    if name is None:
        _list_new_fonts()
        name = _listed_cjk_font()
    return name


def _listed_cjk_font() -> str | None:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CJK_FONTS if name in installed), None)


@cache
def _list_new_fonts() -> None:
    """Show matplotlib the fonts installed since it wrote its list, which it keeps from one program to the next."""
    from matplotlib import font_manager

    listed = {font.fname for font in font_manager.fontManager.ttflist}
    for path in {*font_manager.findSystemFonts()} - listed:
        with suppress(Exception):  # a font that matplotlib cannot read
            font_manager.fontManager.addfont(path)


def figure_style() -> AbstractContextManager[None]:
    """Inside the block, figures show text literally ($ does not start a formula) and Chinese in a suitable font."""
    import matplotlib

    families = ["DejaVu Sans", *filter(None, [find_cjk_font()])]
    return matplotlib.rc_context({"text.parse_math": False, "font.family": families})


def drawable(texts: list[str]) -> list[str]:
    """The texts as a figure can show them: without a Chinese font, each text that is not ASCII becomes its number.

    A lone surrogate, with which a truncated caption may end, becomes its escape.
    """
    if find_cjk_font() is None:
        texts = [text if text.isascii() else f"#{number}" for number, text in enumerate(texts, 1)]
    return [text.encode(errors="backslashreplace").decode() for text in texts]
