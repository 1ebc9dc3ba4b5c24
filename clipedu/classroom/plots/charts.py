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
    legend_above,
    legend_columns,
    new_figure,
    plot,
)
from clipedu.classroom.view import View
from clipedu.ground.environment import drawable


@plot
def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    levels: Mapping[str, float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    ranges: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Drawing:
    """Named lines (x values, y values); `levels` are dashed lines, such as chance or a prediction.

    `ranges` shades the area between the least and the greatest values of the line with the same name.
    """
    levels, ranges = levels or {}, ranges or {}
    labels = [*series, *levels]
    rows = len(labels) / legend_columns(labels)
    figure = new_figure(6.4, 3.4 + 0.17 * max(0, rows - 3))  # make room for a long legend
    axes = figure.subplots()
    looks = [(colour, style) for style in LINE_STYLES for colour in COLOURS]
    for (name, (xs, ys)), (colour, style) in zip(series.items(), cycle(looks), strict=False):
        axes.plot(xs, ys, style, label=name, color=colour, marker="o" if len(xs) <= 20 else "", markersize=4)
        if name in ranges:
            axes.fill_between(xs, *ranges[name], color=colour, alpha=0.2, linewidth=0)
    lines = ", ".join(f"{name} from {ys[0]:.2f} to {ys[-1]:.2f}" for name, (_, ys) in series.items())
    lines += draw_levels(axes, levels)
    axes.set(xlabel=x, ylabel=y, xscale="log" if log_x else "linear", yscale="log" if log_y else "linear")
    for axis, is_log in ((axes.xaxis, log_x), (axes.yaxis, log_y)):
        if is_log:
            label_log_axis(axis)
    axes.grid(alpha=0.3)
    legend_above(axes)
    return figure, f"Curves of {y} over {x}: {lines}"


def loss_curve(losses: Sequence[float], chance: float) -> View:
    """The loss of every step, and the loss of random guessing, ln(B)."""
    levels = {f"chance ln(B) = {chance:.2f}": chance}
    return curves({"loss": (range(1, len(losses) + 1), losses)}, "step", "loss", levels)


@plot
def bars(series: Mapping[str, Mapping[str, float]], y: str, levels: Mapping[str, float] | None = None) -> Drawing:
    """Groups of bars: `{"English": {"words": 9.1, "bytes": 11.2}, ...}` draws one group per outer name."""
    figure = new_figure(6.4, 3.2)
    axes = figure.subplots()
    inner = list(dict.fromkeys(name for values in series.values() for name in values))
    width = 0.8 / len(inner)
    for number, (name, colour) in enumerate(zip(inner, COLOURS, strict=False)):
        positions = [group + (number - (len(inner) - 1) / 2) * width for group in range(len(series))]
        heights = [values.get(name, 0.0) for values in series.values()]
        drawn = axes.bar(positions, heights, width, label=name, color=colour)
        if len(series) * len(inner) <= 12:
            numbers = [f"{height:,.0f}" if height >= 100 else f"{height:.3g}" for height in heights]
            axes.bar_label(drawn, numbers, fontsize=7)
    groups = "; ".join(
        f"{group}: " + ", ".join(f"{n} {v:.3g}" for n, v in values.items()) for group, values in series.items()
    )
    groups += draw_levels(axes, levels or {})
    tilt: dict[str, Any] = {"rotation": 60, "ha": "right"} if len(series) > 8 else {}
    axes.set_xticks(range(len(series)), drawable(list(series)), **tilt)
    axes.set_ylabel(y)
    axes.margins(y=0.1)
    if len(inner) > 1 or levels:
        legend_above(axes)
    return figure, f"Bars of {y}. {groups}"


@plot
def dots(series: Mapping[str, Sequence[float]], x: str, band: str) -> Drawing:
    """One row per name with one dot per run, joined by a line; the spread of the row `band` is shaded in all rows."""
    figure = new_figure(6.4, 0.28 * len(series) + 1.0)
    axes = figure.subplots()
    for row, values in enumerate(series.values()):
        axes.plot([min(values), max(values)], [row, row], color=COLOURS[0], linewidth=2)
        axes.plot(values, [row] * len(values), "o", color=COLOURS[0], markersize=5)
    axes.axvspan(min(series[band]), max(series[band]), color="grey", alpha=0.25, linewidth=0, label=band)
    axes.set_yticks(range(len(series)), list(series), fontsize=8)
    axes.set_ylim(len(series) - 0.5, -0.5)  # first row on top
    axes.set_xlabel(x)
    axes.grid(alpha=0.3)
    legend_above(axes)
    rows = "; ".join(f"{name} " + ", ".join(f"{value:.3g}" for value in values) for name, values in series.items())
    return figure, f"Dots of {x}: {rows}"


@plot
def histogram(samples: Mapping[str, Tensor], x: str, limits: tuple[float, float] | None = None) -> Drawing:
    """Density histograms of several named samples."""
    figure = new_figure(6.4, 3.2)
    axes = figure.subplots()
    side_colours = {"images": IMAGE_COLOUR, "texts": TEXT_COLOUR}
    for (name, values), colour in zip(samples.items(), COLOURS, strict=False):
        look: dict[str, Any] = {"alpha": 0.55, "label": name, "color": side_colours.get(name, colour)}
        axes.hist(values.detach().numpy(), bins=60, range=limits, density=True, **look)
    axes.set(xlabel=x, ylabel="density")
    legend_above(axes)
    moments = "; ".join(
        f"{name}: mean {values.mean():.2f}, standard deviation {values.std():.2f}" for name, values in samples.items()
    )
    return figure, f"Histogram of {x}. {moments}"


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
    return figure, alt
