"""Curves, bars, dots, histograms, and a panel for the temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from torch import Tensor

from clipedu.classroom.plots.drawing import (
    COLOURS,
    IMAGE_COLOUR,
    LINE_STYLES,
    TEXT_COLOUR,
    Drawing,
    draw_levels,
    label_log_axis,
    new_figure,
    numbered,
    plot,
    swatch,
)
from clipedu.classroom.view import View

STAGES = ("#9ecae1", "#6baed6", "#2171b5", "#08306b")  # a model at four moments, from early to late


@plot
def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    levels: Mapping[str, float] | None = None,
    *,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    ranges: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Drawing:
    """Labelled lines (x values, y values); `levels` are dashed lines, such as chance or a prediction.

    `ranges` shades the area between the least and the greatest values of the line with the same name.
    """
    levels, ranges = levels or {}, ranges or {}
    figure = new_figure(6.4, 3.2)
    axes, key = figure.subplots(), []
    looks = [(colour, style) for style in LINE_STYLES for colour in COLOURS]
    for (name, (xs, ys)), (colour, style) in zip(series.items(), cycle(looks), strict=False):
        axes.plot(xs, ys, style, color=colour, marker="o" if len(xs) <= 20 else "", markersize=4)
        key.append((swatch(colour, style), name))
        if name in ranges:
            axes.fill_between(xs, *ranges[name], color=colour, alpha=0.2, linewidth=0)
    lines = "; ".join(f"{name} {ys[0]:.2f} … {ys[-1]:.2f}" for name, (_, ys) in series.items())
    level_key, level_lines = draw_levels(axes, levels)
    axes.set(xscale="log" if log_x else "linear", yscale="log" if log_y else "linear")
    for axis, is_log in ((axes.xaxis, log_x), (axes.yaxis, log_y)):
        if is_log:
            label_log_axis(axis)
    axes.grid(alpha=0.3)
    return Drawing(figure, lines + level_lines, title, key + level_key, x, y)


def loss_curve(losses: Sequence[float], chance: float) -> View:
    """The loss of every step, and the loss of random guessing, ln(B)."""
    levels = {f"随机猜测 ln(B) = {chance:.2f} | chance ln(B) = {chance:.2f}": chance}
    return curves({"损失 | loss": (range(1, len(losses) + 1), losses)}, "步 | step", "损失 | loss", levels)


@plot
def bars(
    series: Mapping[str, Mapping[str, float]], y: str, levels: Mapping[str, float] | None = None, *, title: str = ""
) -> Drawing:
    """Groups of bars: `{"英文 | English": {"BPE": 9.1, "WORDS": 11.2}, ...}` draws one group per outer label."""
    figure = new_figure(6.4, 3.2)
    axes, key = figure.subplots(), []
    inner = list(dict.fromkeys(name for values in series.values() for name in values))
    width = 0.8 / len(inner)
    for number, (name, colour) in enumerate(zip(inner, (*COLOURS, "#999999"), strict=False)):
        positions = [group + (number - (len(inner) - 1) / 2) * width for group in range(len(series))]
        heights = [values.get(name, 0.0) for values in series.values()]
        drawn = axes.bar(positions, heights, width, color=colour)
        if len(inner) > 1:
            key.append((swatch(colour), name))
        if len(series) * len(inner) <= 12:
            numbers = [f"{height:,.0f}" if height >= 100 else f"{height:.3g}" for height in heights]
            axes.bar_label(drawn, numbers, fontsize=7)
    groups = "; ".join(
        f"{group}: " + ", ".join(f"{n} {v:.3g}" for n, v in values.items()) for group, values in series.items()
    )
    level_key, level_lines = draw_levels(axes, levels or {})
    ticks, tick_key = numbered(list(series))
    tilt: dict[str, Any] = {"rotation": 60, "ha": "right"} if len(series) > 8 else {}
    axes.set_xticks(range(len(series)), ticks, **tilt)
    axes.margins(y=0.1)
    return Drawing(figure, groups + level_lines, title, tick_key + key + level_key, y=y)


@plot
def dots(series: Mapping[str, Sequence[float]], x: str, band: str, *, title: str = "") -> Drawing:
    """One row per label with one dot per run, joined by a line; the spread of the row `band` is shaded in all rows."""
    figure = new_figure(6.4, 0.28 * len(series) + 1.0)
    axes = figure.subplots()
    for row, values in enumerate(series.values()):
        axes.plot([min(values), max(values)], [row, row], color=COLOURS[0], linewidth=2)
        axes.plot(values, [row] * len(values), "o", color=COLOURS[0], markersize=5)
    axes.axvspan(min(series[band]), max(series[band]), color="grey", alpha=0.25, linewidth=0)
    ticks, key = numbered(list(series))
    axes.set_yticks(range(len(series)), ticks, fontsize=8)
    axes.set_ylim(len(series) - 0.5, -0.5)  # first row on top
    axes.grid(alpha=0.3)
    rows = "; ".join(f"{name} " + ", ".join(f"{value:.3g}" for value in values) for name, values in series.items())
    return Drawing(figure, rows, title, [*key, (swatch("#bfbfbf"), band)], x)


@plot
def histogram(
    samples: Mapping[str, Tensor], x: str, limits: tuple[float, float] | None = None, *, title: str = ""
) -> Drawing:
    """Density histograms of several labelled samples."""
    figure = new_figure(6.4, 3.2)
    axes, key = figure.subplots(), []
    side_colours = {"图像 | images": IMAGE_COLOUR, "句子 | texts": TEXT_COLOUR, "配对的 | own pairs": COLOURS[0]}
    for (name, values), colour in zip(samples.items(), COLOURS, strict=False):
        look: dict[str, Any] = {"alpha": 0.55, "color": side_colours.get(name, colour)}
        key.append((swatch(look["color"]), name))
        axes.hist(values.detach().numpy(), bins=60, range=limits, density=True, **look)
    moments = "; ".join(f"{name} μ = {v.mean():.2f}, σ = {v.std():.2f}" for name, v in samples.items())
    return Drawing(figure, moments, title, key, x, "密度 | density")


@plot
def temperature_panel(
    temperatures: Sequence[float],
    losses: Mapping[int, Sequence[float]],
    chance: float,
    step: int | None = None,
    here: tuple[float, float, float] = (0, 0, 0),
) -> Drawing:
    """The loss at every temperature, for one model at several moments of its training.

    Args:
        losses: one curve for each moment, by its step; the lowest point of each is marked.
        chance: the loss of guessing.
        step: the moment whose curve is thick; None draws nothing but the curves.
        here: a temperature, the loss there, and its gradient on ln(1 / temperature); the arrow shows which way a step
            against that gradient would go.
    """
    figure = Figure(figsize=(6.4, 3.4), dpi=84)  # a constrained layout would draw it twice: a slider has to be quick
    axes, key = figure.add_axes((0.07, 0.08, 0.91, 0.88)), []
    for (number, ys), colour in zip(losses.items(), STAGES, strict=False):
        lowest = min(range(len(ys)), key=ys.__getitem__)
        axes.plot(temperatures, ys, color=colour, linewidth=3 if number == step else 1.4)
        axes.plot(
            temperatures[lowest],
            ys[lowest],
            "v",
            color=colour,
            markersize=9,
            markeredgecolor="black",
            clip_on=False,
            zorder=3,
        )
        at = f"▼ τ = {temperatures[lowest]:.3f}"
        key.append((swatch(colour, "-"), f"第 {number} 步 {at} | step {number} {at}"))
    axes.axhline(chance, color="black", linestyle="--", linewidth=1)
    key.append((swatch("black", "--"), f"ln N = {chance:.2f}"))
    axes.set(xscale="log", yscale="log", xlim=(temperatures[0], temperatures[-1]))
    axes.set_ylim(min(map(min, losses.values())) * 0.8, 12)
    for axis, ticks in ((axes.xaxis, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)), (axes.yaxis, (0.5, 1, 2, 5, 10))):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    if step is not None:
        temperature, loss, push = here
        ahead = temperature * math.exp(max(-0.9, min(0.9, 0.6 * push)))
        axes.annotate("", (ahead, loss), (temperature, loss), arrowprops={"arrowstyle": "-|>", "linewidth": 2})
        axes.plot(temperature, loss, "o", color="black", markersize=8)
        key.append(("●", f"τ = {temperature:.3f}, L = {loss:.3f}, ∂L/∂ln(1/τ) = {push:+.3f}"))
    alt = "; ".join(label for _, label in key)
    return Drawing(figure, alt, "", key, "温度 τ | temperature τ", "损失 | loss")
