"""Shared by all plots: colours, the figure style, and the conversion of a figure into a view."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import ParamSpec

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image
from torch import Tensor

from clipedu.classroom.view import View
from clipedu.data.pictures import load_image
from clipedu.ground.environment import figure_style

IMAGE_COLOUR = "#0072B2"  # Okabe and Ito's palette for colour-blind readers
TEXT_COLOUR = "#D55E00"
COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # for everything that is neither image nor text
LINE_STYLES = ("-", "--", ":")  # once all colours are used
COSINE_MAP, SEQUENTIAL_MAP = "RdBu_r", "cividis"
AnyImage = Path | Image.Image | Tensor
Drawing = tuple[Figure, str]  # with a description for readers who cannot see it
P = ParamSpec("P")


def plot(draw: Callable[P, Drawing]) -> Callable[P, View]:
    """Decorator for a function that draws a figure: renders it in the figure style and returns it as a view."""

    @functools.wraps(draw)
    def view(*args: P.args, **kwargs: P.kwargs) -> View:
        buffer = io.BytesIO()
        with figure_style():
            figure, alt = draw(*args, **kwargs)
            figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
        return View(img(buffer.getvalue(), alt), alt)

    return view


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, sharp enough for a projector."""
    return Figure(figsize=(width, height), dpi=96, layout="constrained")


def img(png: bytes, alt: str, style: str = "max-width: 100%") -> str:
    """An HTML image with the PNG data embedded."""
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" style="{style}">'


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


def legend_columns(labels: Sequence[str]) -> int:
    """How many legend labels fit side by side."""
    longest = max(map(len, labels), default=0)
    return 3 if longest <= 26 else 2 if longest <= 44 else 1


def legend_above(axis: Axes) -> None:
    """Put the legend above the axes, where it hides nothing."""
    columns = legend_columns(axis.get_legend_handles_labels()[1])
    axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns, frameon=False)


def draw_levels(axis: Axes, levels: Mapping[str, float]) -> str:
    """Draw dashed lines across the plot, and return their part of the description."""
    for (name, value), style in zip(levels.items(), ("--", ":", "-."), strict=False):
        axis.axhline(value, color="black", linestyle=style, linewidth=1, label=name)
    return "".join(f"; dashed line {name} at {value:.2f}" for name, value in levels.items())
