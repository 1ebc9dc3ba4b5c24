"""Curves, bars and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from torch import Tensor

from clipedu.classroom.plots.drawing import (
    COLOURS,
    IMAGE_COLOUR,
    LINE_STYLES,
    TEXT_COLOUR,
    as_view,
    draw_levels,
    font_for,
    legend_above,
    legend_columns,
    new_figure,
    plain,
)
from clipedu.classroom.view import View


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    levels: Mapping[str, float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    ranges: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> View:
    """Named lines (values across, values up); `levels` are dashed: chance, or what was predicted.

    `ranges` shades, for a line of the same name, the space between the least and the most that was seen.
    """
    labels = [*series, *(levels or {})]
    rows = len(labels) / legend_columns(labels)
    figure = new_figure(6.4, 3.4 + 0.17 * max(0, rows - 3))  # a long legend takes no room from the curves
    axis = figure.subplots()
    looks = [(colour, style) for style in LINE_STYLES for colour in COLOURS]
    for (name, (across, up)), (colour, style) in zip(series.items(), cycle(looks), strict=False):
        marker = "o" if len(across) <= 20 else ""
        axis.plot(across, up, style, label=plain(name), color=colour, marker=marker, markersize=4)
        if name in (ranges or {}):
            axis.fill_between(across, *(ranges or {})[name], color=colour, alpha=0.2, linewidth=0)
    said = ", ".join(f"{name} from {up[0]:.2f} to {up[-1]:.2f}" for name, (_, up) in series.items())
    said += draw_levels(axis, levels or {})
    axis.set(xlabel=x, ylabel=y, xscale="log" if log_x else "linear", yscale="log" if log_y else "linear")
    axis.grid(alpha=0.3)
    legend_above(axis)
    return as_view(figure, f"Curves of {y} over {x}: {said}")


def loss_curve(losses: Sequence[float], chance: float, predicted: float | None = None) -> View:
    """The loss of every step, with the loss of guessing ln(B) and, if given, what was predicted for the start."""
    levels = {f"chance ln(B) = {chance:.2f}": chance}
    if predicted is not None:
        levels[f"predicted start {predicted:.2f}"] = predicted
    return curves({"loss": (range(1, len(losses) + 1), losses)}, "step", "loss", levels)


def bars(series: Mapping[str, Mapping[str, float]], y: str, levels: Mapping[str, float] | None = None) -> View:
    """Groups of bars: `{"English": {"words": 9.1, "bytes": 11.2}, ...}` draws a group for each outer name."""
    figure = new_figure(6.4, 3.2)
    axis = figure.subplots()
    groups = list(series)
    inner = list(dict.fromkeys(name for values in series.values() for name in values))
    width = 0.8 / len(inner)
    for number, (name, colour) in enumerate(zip(inner, COLOURS, strict=False)):
        places = [place + (number - (len(inner) - 1) / 2) * width for place in range(len(groups))]
        heights = [series[group].get(name, 0.0) for group in groups]
        drawn = axis.bar(places, heights, width, label=plain(name), color=colour)
        if len(groups) * len(inner) <= 12:
            axis.bar_label(
                drawn, [f"{height:,.0f}" if height >= 100 else f"{height:.3g}" for height in heights], fontsize=7
            )
    said = "; ".join(
        f"{group}: " + ", ".join(f"{n} {v:.3g}" for n, v in values.items()) for group, values in series.items()
    )
    said += draw_levels(axis, levels or {})
    labels, font = font_for(groups)
    tilt: dict[str, Any] = {"rotation": 60, "ha": "right"} if len(groups) > 8 else {}
    axis.set_xticks(range(len(groups)), labels, fontproperties=font, **tilt)
    axis.set_ylabel(y)
    axis.margins(y=0.1)
    if len(inner) > 1 or levels:
        legend_above(axis)
    return as_view(figure, f"Bars of {y}. {said}")


def dots(
    series: Mapping[str, Sequence[float]],
    x: str,
    levels: Mapping[str, float] | None = None,
    band: str | None = None,
) -> View:
    """A row of dots for each name, one dot a run, joined by a line; the spread of the row `band` is shaded for all."""
    figure = new_figure(6.4, 0.28 * len(series) + 1.0)
    axis = figure.subplots()
    for row, values in enumerate(series.values()):
        axis.plot([min(values), max(values)], [row, row], color=COLOURS[0], linewidth=2)
        axis.plot(values, [row] * len(values), "o", color=COLOURS[0], markersize=5)
    if band is not None:
        axis.axvspan(min(series[band]), max(series[band]), color="grey", alpha=0.25, linewidth=0, label=plain(band))
    for (name, value), style in zip((levels or {}).items(), LINE_STYLES[1:], strict=False):
        axis.axvline(value, color="black", linestyle=style, linewidth=1, label=plain(name))
    axis.set_yticks(range(len(series)), [plain(name) for name in series], fontsize=8)
    axis.set_ylim(len(series) - 0.5, -0.5)  # the first on top
    axis.set_xlabel(x)
    axis.grid(alpha=0.3)
    if band is not None or levels:
        legend_above(axis)
    said = "; ".join(f"{name} " + ", ".join(f"{value:.3g}" for value in values) for name, values in series.items())
    said += "".join(f"; dashed line {name} at {value:.2f}" for name, value in (levels or {}).items())
    return as_view(figure, f"Dots of {x}: {said}")


def histogram(samples: Mapping[str, Tensor], x: str, limits: tuple[float, float] | None = None, bins: int = 60) -> View:
    """How often each value occurs, drawn as a density, for several named samples."""
    figure = new_figure(6.4, 3.2)
    axis = figure.subplots()
    sides = {"images": IMAGE_COLOUR, "texts": TEXT_COLOUR}
    for (name, values), other in zip(samples.items(), COLOURS, strict=False):
        colour = sides.get(name, other)
        shown = values.detach().numpy()
        axis.hist(shown, bins=bins, range=limits, density=True, alpha=0.55, label=plain(name), color=colour)
    axis.set(xlabel=x, ylabel="density")
    legend_above(axis)
    said = "; ".join(
        f"{name}: mean {values.mean():.2f}, standard deviation {values.std():.2f}" for name, values in samples.items()
    )
    return as_view(figure, f"Histogram of {x}. {said}")
