"""Curves, bars, dots, histograms, and a panel for the temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from clipedu.classroom.plots.drawing import (
    COLOURS,
    COSINE_MAP,
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
    for number, (name, colour) in enumerate(zip(inner, COLOURS, strict=False)):
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
    side_colours = {"图像 | images": IMAGE_COLOUR, "句子 | texts": TEXT_COLOUR}
    for (name, values), colour in zip(samples.items(), COLOURS, strict=False):
        look: dict[str, Any] = {"alpha": 0.55, "color": side_colours.get(name, colour)}
        key.append((swatch(look["color"]), name))
        axes.hist(values.detach().numpy(), bins=60, range=limits, density=True, **look)
    moments = "; ".join(f"{name} μ = {v.mean():.2f}, σ = {v.std():.2f}" for name, v in samples.items())
    return Drawing(figure, moments, title, key, x, "密度 | density")


@plot
def temperature_panel(
    cosines: Tensor,
    row: int,
    probabilities: Tensor,
    gradient: Tensor,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    temperature: float,
) -> Drawing:
    """What a temperature does to a matrix of cosines `[N, N]`: one row's softmax and gradient, and the loss.

    Args:
        row: the image whose softmax and gradient are drawn.
        probabilities: `[N]`, its softmax over the texts.
        gradient: `[N]`, of the loss with respect to the row's cosines.
        lines: named curves over all temperatures (temperatures, values); a dot marks `temperature`.
        temperature: the current temperature.
    """
    figure = new_figure(9.6, 5.6)
    matrix, softmax, pull, landscape = figure.subplots(2, 2).flatten()
    numbers = range(1, len(cosines) + 1)
    heat = matrix.imshow(cosines.numpy(), cmap=COSINE_MAP, vmin=-1, vmax=1)
    matrix.add_patch(Rectangle((-0.5, row - 0.5), len(cosines), 1, fill=False, linewidth=2, clip_on=False))
    matrix.set_xticks(range(len(cosines)), [f"T{number}" for number in numbers], color=TEXT_COLOUR, fontsize=8)
    matrix.set_yticks(range(len(cosines)), [f"I{number}" for number in numbers], color=IMAGE_COLOUR, fontsize=8)
    matrix.set_title("cosine similarity")
    figure.colorbar(heat, ax=matrix, shrink=0.9)

    colours = [COLOURS[0] if column == row else COLOURS[2] for column in range(len(cosines))]
    own_probability, own_gradient = probabilities[row].item(), gradient[row].item()
    others = gradient.sum().item() - own_gradient
    softmax.bar(numbers, probabilities.tolist(), color=colours)
    softmax.axhline(1 / len(cosines), color="black", linestyle="--", linewidth=1)
    title = f"softmax of I{row + 1}: own text {own_probability:.3f} (dashed: chance)"
    softmax.set(ylim=(0, 1), xticks=numbers, title=title)
    pull.bar(numbers, gradient.tolist(), color=colours)
    pull.axhline(0, color="black", linewidth=0.8)
    pull.set(xticks=numbers, title=f"gradient: own pair {own_gradient:+.4f}, others together {others:+.4f}")

    values = []
    looks = (IMAGE_COLOUR, "-"), (TEXT_COLOUR, "--"), ("black", ":")
    for (name, (xs, ys)), (colour, style) in zip(lines.items(), looks, strict=False):
        nearest = int((torch.tensor(xs).log() - torch.tensor(temperature).log()).abs().argmin())
        landscape.plot(xs, ys, style, color=colour, label=f"{name} {ys[nearest]:.2f}")
        landscape.plot(xs[nearest], ys[nearest], "o", color=colour)
        values.append(f"{name} {ys[nearest]:.3f}")
    landscape.axvline(temperature, color="grey", linewidth=0.8)
    landscape.set(xscale="log", xlabel="temperature", ylim=(0, None), title="at every temperature")
    label_log_axis(landscape.xaxis)
    landscape.grid(alpha=0.3)
    landscape.legend(fontsize=8)

    for axes in (matrix, softmax, pull, landscape):
        axes.title.set_fontsize(10)
    headline = f"temperature {temperature:.3f}, scale {1 / temperature:.1f}"
    figure.suptitle(headline, fontsize=11)
    alt = (
        f"{headline.capitalize()}. Softmax of I{row + 1} on its own text {own_probability:.3f}. Gradient on the "
        f"own pair {own_gradient:.4f}, on the others together {others:.4f}. {', '.join(values)}"
    )
    return Drawing(figure, alt)
