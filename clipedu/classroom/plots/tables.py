"""Tables of numbers as heat maps; vectors as arrows and points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from clipedu.classroom.plots.drawing import (
    COSINE_MAP,
    IMAGE_COLOUR,
    SEQUENTIAL_MAP,
    TEXT_COLOUR,
    AnyImage,
    Drawing,
    as_pil,
    new_figure,
    numbered,
    plot,
    swatch,
)
from clipedu.classroom.view import View, line
from clipedu.ground.environment import drawable


@plot
def similarity(
    matrix: Tensor,
    images: Sequence[AnyImage] = (),
    texts: Sequence[str] = (),
    title: str = "余弦相似度 | cosine similarity",
    rows_are: Sequence[str] = (),
) -> Drawing:
    """The standard heat map of the series: cosines `[I, T]`, images as rows, texts as columns, fixed scale -1 to 1.

    `rows_are` holds the rows' captions if they are texts too.
    """
    matrix = matrix.detach().float()
    rows, columns = matrix.shape
    row_colour = TEXT_COLOUR if rows_are else IMAGE_COLOUR
    figure = new_figure(max(3.6, 0.62 * columns + 2.2), max(2.6, 0.62 * rows + 0.9))
    axes = figure.subplots()
    heat = axes.imshow(matrix.numpy(), cmap=COSINE_MAP, vmin=-1, vmax=1)
    if rows * columns <= 100:
        for (row, column), value in np.ndenumerate(matrix.numpy()):
            colour = "white" if abs(value) > 0.6 else "black"
            axes.text(column, row, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", fontsize=8, color=colour)
        names = drawable([*texts] or [f"T{number + 1}" for number in range(columns)])
        axes.set_xticks(range(columns), names, color=TEXT_COLOUR, fontsize=9, rotation=30 if texts else 0)
        names = drawable([*rows_are] or [f"I{number + 1}" for number in range(rows)])
        axes.set_yticks(range(rows), names, color=row_colour)
    for row, image in enumerate(images):
        corner = axes.inset_axes((-1.9, row - 0.42, 0.84, 0.84), transform=axes.transData)
        corner.imshow(as_pil(image))
        corner.set(xticks=[], yticks=[])
    figure.colorbar(heat, ax=axes, shrink=0.8)
    alt = f"{rows} × {columns}"
    if rows == columns > 1:
        own = matrix.diag().mean().item()
        others = (matrix.sum() - matrix.diag().sum()).item() / (rows * (rows - 1))
        alt += f": mean(i = j) {own:.2f}, mean(i ≠ j) {others:.2f}"
    rows_label = "句子 | texts" if rows_are else "图像 | images"
    key = [("↓ " + swatch(row_colour), rows_label), ("→ " + swatch(TEXT_COLOUR), "句子 | texts")]
    return Drawing(figure, alt, title, key)


@plot
def heat_map(
    values: Tensor, rows: Sequence[str], columns: Sequence[str], title: str, most: float | None = None
) -> Drawing:
    """Non-negative numbers (attention, counts) as a labelled grid; `most` is the top of the colour scale."""
    figure = new_figure(max(3.2, 0.42 * len(columns) + 1.8), max(2.0, 0.36 * len(rows) + 1.2))
    axes = figure.subplots()
    heat = axes.imshow(values.detach().float().numpy(), cmap=SEQUENTIAL_MAP, vmin=0, vmax=most, aspect="auto")
    row_ticks, row_key = numbered(rows)
    column_ticks, column_key = numbered(columns)
    axes.set_xticks(range(len(columns)), column_ticks, rotation=60, ha="right", fontsize=9)
    axes.set_yticks(range(len(rows)), row_ticks, fontsize=9)
    figure.colorbar(heat, ax=axes, shrink=0.8)
    key = [(f"↓ {mark}", label) for mark, label in row_key] + [(f"→ {mark}", label) for mark, label in column_key]
    return Drawing(figure, f"{len(rows)} × {len(columns)}", title, key)


@plot
def grids(tables: Mapping[str, Tensor], windows: Mapping[str, tuple[int, int, int, int]] | None = None) -> Drawing:
    """Small tables of numbers side by side; NaN cells are empty. Windows (top, left, height, width) are framed."""
    figure = new_figure(sum(0.5 * table.shape[1] + 0.6 for table in tables.values()), 3.0)
    panels = figure.subplots(1, len(tables), width_ratios=[t.shape[1] for t in tables.values()], squeeze=False)[0]
    most = max(float(table.nan_to_num().abs().max()) for table in tables.values())
    titles, key = numbered(list(tables))
    for axes, shown, (name, table) in zip(panels, titles, tables.items(), strict=True):
        axes.imshow(table.numpy(), cmap=COSINE_MAP, vmin=-1.5 * most, vmax=1.5 * most)
        for (row, column), value in np.ndenumerate(table.numpy()):
            axes.text(column, row, "" if math.isnan(value) else f"{value:g}", ha="center", va="center", fontsize=10)
        if name in (windows or {}):
            top, left, height, width = (windows or {})[name]
            frame = Rectangle((left - 0.5, top - 0.5), width, height, fill=False, linewidth=3, clip_on=False)
            axes.add_patch(frame)
        axes.set(xticks=[], yticks=[])
        axes.set_title(shown, fontsize=10)
    numbers = "; ".join(f"{name} {table.tolist()}" for name, table in tables.items())
    return Drawing(figure, numbers, key=key)


@plot
def on_the_circle(images: Tensor, texts: Tensor | None = None, title: str = "") -> Drawing:
    """2-D vectors, `[N, 2]` each, as arrows from the origin; the unit circle is dashed.

    Without texts, the arrows are neither pictures nor sentences and are only numbered.
    """
    letter_of_first, others = ("", images[:0]) if texts is None else ("I", texts)
    images, others = images.detach().float(), others.detach().float()
    reach = max(1.0, float(torch.cat([images, others]).norm(dim=-1).max())) * 1.2
    figure = new_figure(4.6, 4.6)
    axes = figure.subplots()
    angle = np.linspace(0, 2 * math.pi, 200)
    axes.plot(np.cos(angle), np.sin(angle), "--", color="grey", linewidth=1)
    arrows = []
    for vectors, colour, letter in ((images, IMAGE_COLOUR, letter_of_first), (others, TEXT_COLOUR, "T")):
        for number, (x, y) in enumerate(vectors.tolist(), 1):
            look = {"arrowstyle": "-|>", "color": colour, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (x, y), (0, 0), arrowprops=look)
            out = 0.06 * reach / max(math.hypot(x, y), 1e-9)  # the label clears the tip, however short the arrow
            turn = 1.0 if letter == "T" else 0.0  # and stays off a picture's arrow in the same direction
            place = (x + out * (x + turn * y), y + out * (y - turn * x))
            axes.text(*place, f"{letter}{number}", color=colour, ha="center", va="center")
            arrows.append(f"{letter}{number} ({x:.2f}, {y:.2f})")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.axhline(0, color="lightgrey", linewidth=0.8, zorder=0)
    axes.axvline(0, color="lightgrey", linewidth=0.8, zorder=0)
    key = [(swatch(IMAGE_COLOUR), "图像 I | images I"), (swatch(TEXT_COLOUR), "句子 T | texts T")]
    return Drawing(figure, ", ".join(arrows), title, [] if texts is None else key)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> View:
    """A table; its headers and cells are labels, or numbers already formatted."""
    head = "".join(f"<th>{line(('', column))}</th>" for column in columns)
    body = ("".join(f"<td>{line(('', cell))}</td>" for cell in row) for row in rows)
    html = f"<table><tr>{head}</tr>{''.join(f'<tr>{cells}</tr>' for cells in body)}</table>"
    text = "\n".join(" / ".join(row) for row in [columns, *rows])
    return titled(View(html, text), title) if title else View(html, text)


def titled(view: View, title: str) -> View:
    """The view with a line above it, in each language."""
    return View(line(("", title)) + view.html, f"{title}\n{view.text}")
