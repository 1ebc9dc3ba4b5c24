"""Shared by all plots: colours, the figure style, and the conversion of a figure into a view."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from pathlib import Path
from typing import ParamSpec

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image, ImageDraw
from torch import Tensor

from clipedu.classroom.view import View, line
from clipedu.data.pictures import load_image
from clipedu.ground.environment import drawable, figure_style

IMAGE_COLOUR = "#0072B2"  # Okabe and Ito's palette for colour-blind readers
TEXT_COLOUR = "#D55E00"
COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # for everything that is neither image nor text
LINE_STYLES = ("-", "--", ":")  # once all colours are used
COSINE_MAP, SEQUENTIAL_MAP = "RdBu_r", "cividis"
AnyImage = Path | Image.Image | Tensor
P = ParamSpec("P")
SWATCH = (28, 12)  # pixels


@dataclass(frozen=True)
class Drawing:
    """A figure without words, and what stands around it.

    Args:
        alt: a description for readers who cannot see the figure, in numbers and labels.
        key: the legend, as (mark, label) pairs; a mark is HTML.
        x, y: what the axes show.
    """

    figure: Figure
    alt: str
    title: str = ""
    key: Sequence[tuple[str, str]] = ()
    x: str = ""
    y: str = ""


def plot(draw: Callable[P, Drawing]) -> Callable[P, View]:
    """Decorator for a function that draws a figure: renders it in the figure style and returns it as a view."""

    @functools.wraps(draw)
    def view(*args: P.args, **kwargs: P.kwargs) -> View:
        buffer = io.BytesIO()
        with figure_style():
            drawing = draw(*args, **kwargs)
            drawing.figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
        axes = [(mark, label) for mark, label in (("→", drawing.x), ("↑", drawing.y)) if label]
        above = [line(("", drawing.title))] if drawing.title else []
        above += [line(*drawing.key)] if drawing.key else []
        html = "".join([*above, img(buffer.getvalue(), drawing.alt), *([line(*axes)] if axes else [])])
        described = [" ".join(f"{mark} {label}" for mark, label in axes), drawing.alt]
        return View(html, "\n".join(filter(None, [drawing.title, *described])))

    return view


def swatch(colour: str, style: str = "") -> str:
    """A legend's mark as a small image: a filled box of this colour, or a line of this style ("-", "--", ":", "-.")."""
    picture = Image.new("RGB", SWATCH, "white")
    pen = ImageDraw.Draw(picture)
    on, off = {"": (28, 0), "-": (28, 0), "--": (8, 4), ":": (3, 4), "-.": (10, 6)}[style]
    top, bottom = (4, 7) if style else (0, 11)
    for left in range(0, 28, on + off):
        pen.rectangle((left, top, min(left + on, 28) - 1, bottom), fill=colour)
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return img(buffer.getvalue(), "—", "display: inline")


def numbered(labels: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """What a figure shows for these labels, and their key: a label with two languages becomes its number, ① and so on.

    Other labels stay, as far as the figure's font can show them.
    """
    marks = [f"{number}" if number > 10 else chr(0x2460 + number - 1) for number in range(1, len(labels) + 1)]
    shown = [mark if " | " in label else label for mark, label in zip(marks, drawable([*labels]), strict=True)]
    return shown, [(mark, label) for mark, label in zip(marks, labels, strict=True) if " | " in label]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, sharp enough for a projector."""
    return Figure(figsize=(width, height), dpi=96, layout="constrained")


def img(png: bytes, alt: str, style: str = "max-width: 100%", width: int | None = None) -> str:
    """An HTML image with the PNG data embedded, `width` px wide if given."""
    data = base64.b64encode(png).decode()
    size = f' width="{width}"' if width else ""
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}"{size} style="{style}">'


def as_pil(image: AnyImage) -> Image.Image:
    """Turn a path, a PIL picture or a uint8 tensor `[3, H, W]` into a PIL picture."""
    if isinstance(image, Tensor):
        return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    return load_image(image) if isinstance(image, Path) else image


def label_log_axis(axis: Axis) -> None:
    """Label with plain numbers: matplotlib's default labels are formulas, which our style shows as source text."""
    low, high = axis.get_data_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def draw_levels(axis: Axes, levels: Mapping[str, float]) -> tuple[list[tuple[str, str]], str]:
    """Draw dashed lines across the plot; return their part of the key and of the description."""
    key = []
    for (name, value), style in zip(levels.items(), cycle(("--", ":", "-."))):
        axis.axhline(value, color="black", linestyle=style, linewidth=1)
        key.append((swatch("black", style), name))
    return key, "".join(f"; {name} {value:.2f}" for name, value in levels.items())
