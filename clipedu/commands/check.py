"""Checks whether this computer has everything that the series needs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from clipedu.data.emoji import find_emoji_font
from clipedu.data.pictures import broken_pictures
from clipedu.data.records import read_records
from clipedu.ground.environment import choose_device, find_cjk_font
from clipedu.ground.errors import ClipEduError, DatasetError, FaultyDataset

_PACKAGES = (
    "torch", "torchvision", "timm", "pillow", "numpy", "matplotlib", "jupyterlab", "ipywidgets", "emoji", "tokenizers",
    "scikit-image",
)  # fmt: skip
_CHINESE = {
    "device": "设备", "memory": "内存", "dataset": "数据集", "Chinese font": "中文字体", "emoji font": "emoji 字体",
}  # fmt: skip
# PyTorch 2.14 for CUDA: the build's tag, the oldest driver, and the range of compute capabilities.
_CUDA_BUILDS = (("cu130", 580, 7.5, 12.1), ("cu126", 525, 5.0, 9.0))


@dataclass(frozen=True)
class Finding:
    """One line of the environment check: `remedy_*` say what to do if it is not `ok`.

    The command line shows `name` and `found`; `name_zh` and `found_zh` are for readers of Chinese.
    """

    name: str
    ok: bool
    found: str
    remedy_zh: str = ""
    remedy_en: str = ""
    in_chinese: str = ""  # what was found, where the words differ

    @property
    def name_zh(self) -> str:
        return _CHINESE.get(self.name, self.name)

    @property
    def found_zh(self) -> str:
        return self.in_chinese or self.found

    def __str__(self) -> str:
        line = f"[{'OK' if self.ok else 'FAIL'}] {self.name}: {self.found}"
        return line if self.ok else f"{line}\n       {self.remedy_zh} | {self.remedy_en}"


def check_environment(data_dir: Path = Path("sample_data")) -> list[Finding]:
    """Look at Python, the packages, device, memory, the dataset and fonts."""
    packages = map(_package, _PACKAGES)
    return [_python(), *packages, _device(), _memory(), _dataset(data_dir), _cjk_font(), _emoji_font()]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 10)
    return Finding("Python", ok, found, "请安装 Python 3.10 或更新版本", "install Python 3.10 or newer")


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "-", f"请运行 pip install {name}", f"run: pip install {name}")


def _device() -> Finding:
    device = choose_device()
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory / 2**30
        return Finding("device", True, f"cuda, {torch.cuda.get_device_name(device)}, {total:.0f} GiB")
    found, zh = f"{device.type}, {torch.get_num_threads()} threads", f"{device.type}，{torch.get_num_threads()} 个线程"
    if shutil.which("nvidia-smi") is None or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # none, or hidden
        return Finding("device", True, found, in_chinese=zh)
    return _unused_card(found, zh)


def _unused_card(found: str, found_zh: str) -> Finding:
    """Why PyTorch does not use the card that nvidia-smi lists, and what mends it."""
    answer = _ask_nvidia_smi("name,driver_version")
    if answer == "No devices were found":
        return Finding("device", True, found, in_chinese=found_zh)
    name, _, driver = answer.partition(", ")
    zh, en = "请更新显卡驱动：https://www.nvidia.com/drivers", "update the driver: https://www.nvidia.com/drivers"
    if not _number(driver):
        return Finding("device", False, f"{found}; nvidia-smi: {answer}", zh, en, f"{found_zh}；nvidia-smi：{answer}")
    found = f"{found}; {name} (driver {driver}) is not used by PyTorch {torch.__version__}"
    found_zh = f"{found_zh}；PyTorch {torch.__version__} 没有用上 {name}（驱动 {driver}）"
    install = _install_pytorch(_number(driver), _number(_ask_nvidia_smi("compute_cap")))
    if install and torch.version.cuda is None:
        remedy = f"请运行 {install}", f"run: {install}"
        return Finding("device", False, f"{found}, which has no CUDA", *remedy, f"{found_zh}：它不带 CUDA")
    if install:
        zh, en = f"{zh}；或换成适合它的 PyTorch：{install}", f"{en} - or install the PyTorch that fits it: {install}"
    return Finding("device", False, found, zh, en, found_zh)


def _install_pytorch(driver: float, capability: float) -> str:
    """The command that installs the newest PyTorch for this card, or "" if there is none for so old a driver."""
    for tag, oldest, lowest, highest in _CUDA_BUILDS:
        if driver >= oldest and lowest <= capability <= highest:
            from_pypi = tag == _CUDA_BUILDS[0][0] and platform.system() == "Linux"
            index = "" if from_pypi else f" --index-url https://download.pytorch.org/whl/{tag}"
            return f"pip install --force-reinstall torch torchvision{index}"
    return ""


def _ask_nvidia_smi(question: str) -> str:
    """The first line of its answer or complaint."""
    command = ["nvidia-smi", f"--query-gpu={question}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stdout.strip() or done.stderr.strip()).partition("\n")[0]


def _number(text: str) -> float:
    """580.0 of "580.95.05"; 0.0 if there is no number, as from a driver that doesn't know the question."""
    digits = re.match(r"\d+(\.\d+)?", text)
    return float(digits[0]) if digits else 0.0


def _memory() -> Finding:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError, OSError):  # not available on Windows and macOS
        return Finding("memory", True, "?")
    remedy = "请关闭其他程序，至少留出 2 GiB", "close other programs: the series needs 2 GiB"
    return Finding("memory", free >= 2, f"{free:.1f} GiB free", *remedy, f"空闲 {free:.1f} GiB")


def _dataset(data_dir: Path) -> Finding:
    """Reads all records and decodes all pictures; every fault is listed, however many there are."""
    try:
        records = read_records(data_dir)
        faults: Sequence[str] = [str(error) for error in broken_pictures([r.image_path for r in records]).values()]
        if not faults:
            count = len({record.image_path for record in records})
            found, zh = f"{count} pictures in {data_dir}", f"{data_dir} 里有 {count} 张图"
            return Finding("dataset", True, found, in_chinese=zh)
    except FaultyDataset as error:
        faults = error.faults
    except DatasetError as error:  # there is no such file, or it is not JSON
        return Finding("dataset", False, str(data_dir), error.zh, error.en)
    remedy = "请改正；打不开的图片也可以用 --skip-broken 略过", "fix this, or skip broken pictures: --skip-broken"
    return Finding("dataset", False, "\n       ".join([str(data_dir), *faults]), *remedy)


def _cjk_font() -> Finding:
    font = find_cjk_font()
    return Finding(
        "Chinese font",
        font is not None,
        font or "-",
        "请安装中文字体，如 apt install fonts-wqy-microhei（没有它，图中含汉字的标签会变成 #1 这样的序号）",
        "install a Chinese font, such as: apt install fonts-wqy-microhei (without one, figures show numbers)",
    )


def _emoji_font() -> Finding:
    try:
        return Finding("emoji font", True, find_emoji_font().path.name)
    except ClipEduError as error:
        return Finding("emoji font", False, "-", error.zh, error.en)
