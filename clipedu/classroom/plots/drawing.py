"""What all plots share: colours, the style of their figures, and the way from a figure to a view."""

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

IMAGE_COLOUR = "#0072B2"  # the palette of Okabe and Ito, made for the colour-blind
TEXT_COLOUR = "#D55E00"
COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # for all that is neither image nor text
LINE_STYLES = ("-", "--", ":")  # when the colours are used up
COSINE_MAP, SEQUENTIAL_MAP = "RdBu_r", "cividis"
AnyImage = Path | Image.Image | Tensor
Drawing = tuple[Figure, str]  # with a description for those who cannot see it
P = ParamSpec("P")


def plot(draw: Callable[P, Drawing]) -> Callable[P, View]:
    """Decorates a function that draws a figure: it is drawn and saved in the figure style, and becomes a view."""

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
    """An HTML image that carries its own bytes."""
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" style="{style}">'


def as_pil(image: AnyImage) -> Image.Image:
    """A path, a PIL picture, or a uint8 tensor `[3, H, W]` as a PIL picture."""
    if isinstance(image, Tensor):
        return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    return load_image(image) if isinstance(image, Path) else image


def label_log_axis(axis: Axis) -> None:
    """Plain numbers; matplotlib's own labels are formulas, which the style would show as source text."""
    low, high = axis.get_data_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def legend_columns(labels: Sequence[str]) -> int:
    """How many labels go beside each other across a figure."""
    longest = max(map(len, labels), default=0)
    return 3 if longest <= 26 else 2 if longest <= 44 else 1


def legend_above(axis: Axes) -> None:
    """Above the picture, where it hides nothing."""
    columns = legend_columns(axis.get_legend_handles_labels()[1])
    axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns, frameon=False)


def draw_levels(axis: Axes, levels: Mapping[str, float]) -> str:
    """Dashed lines across the plot, and their words for the description."""
    for (name, value), style in zip(levels.items(), ("--", ":", "-."), strict=False):
        axis.axhline(value, color="black", linestyle=style, linewidth=1, label=name)
    return "".join(f"; dashed line {name} at {value:.2f}" for name, value in levels.items())
