"""Tables of numbers as heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle
from torch import Tensor

from clipedu.classroom.plots.drawing import (
    COSINE_MAP,
    IMAGE_COLOUR,
    SEQUENTIAL_MAP,
    TEXT_COLOUR,
    AnyImage,
    as_pil,
    as_view,
    font_for,
    new_figure,
    plain,
)
from clipedu.classroom.view import View


def similarity(
    matrix: Tensor,
    images: Sequence[AnyImage] = (),
    texts: Sequence[str] = (),
    title: str = "cosine similarity",
    rows_are: Sequence[str] = (),
) -> View:
    """The one heat map of this series: cosines `[I, T]`, images down, texts across, on the fixed scale -1 to 1.

    `rows_are` names the rows where they are texts, too.
    """
    matrix = matrix.detach().float()
    rows, columns = matrix.shape
    names, font = font_for(texts or [f"T{number + 1}" for number in range(columns)])
    figure = new_figure(max(3.6, 0.62 * columns + 2.2), max(2.6, 0.62 * rows + 0.9))
    axis = figure.subplots()
    shown = axis.imshow(matrix.numpy(), cmap=COSINE_MAP, vmin=-1, vmax=1)
    if rows * columns <= 100:
        for row, column in np.ndindex(rows, columns):
            value = float(matrix[row, column])
            colour = "white" if abs(value) > 0.6 else "black"
            axis.text(column, row, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(columns), names, color=TEXT_COLOUR, fontsize=9, fontproperties=font)
        if texts:
            axis.tick_params(axis="x", rotation=30)
        row_names, row_font = font_for(rows_are or [f"I{number + 1}" for number in range(rows)])
        colour = TEXT_COLOUR if rows_are else IMAGE_COLOUR
        axis.set_yticks(range(rows), row_names, color=colour, fontproperties=row_font)
    for row, image in enumerate(images):
        corner = axis.inset_axes((-1.9, row - 0.42, 0.84, 0.84), transform=axis.transData)
        corner.imshow(as_pil(image))
        corner.set(xticks=[], yticks=[])
    axis.set_xlabel("texts", color=TEXT_COLOUR)
    if not images:
        axis.set_ylabel("texts" if rows_are else "images", color=TEXT_COLOUR if rows_are else IMAGE_COLOUR)
    axis.set_title(plain(title), fontsize=10)
    figure.colorbar(shown, ax=axis, shrink=0.8)
    alt = f"Heat map of {rows} x {columns} cosine similarities ({title})"
    if rows == columns > 1:
        own = matrix.diag().mean().item()
        others = (matrix.sum() - matrix.diag().sum()).item() / (rows * (rows - 1))
        alt += f": the diagonal averages {own:.2f}, the rest {others:.2f}"
    return as_view(figure, alt)


def heat_map(
    values: Tensor, rows: Sequence[str], columns: Sequence[str], title: str, most: float | None = None
) -> View:
    """Numbers from 0 up as a labelled grid: attention, counts; `most` is the top of the colour scale."""
    values = values.detach().float()
    row_names, row_font = font_for(rows)
    column_names, column_font = font_for(columns)
    figure = new_figure(max(3.2, 0.42 * len(columns) + 1.8), max(2.0, 0.36 * len(rows) + 1.2))
    axis = figure.subplots()
    shown = axis.imshow(values.numpy(), cmap=SEQUENTIAL_MAP, vmin=0, vmax=most, aspect="auto")
    axis.set_xticks(range(len(columns)), column_names, rotation=60, ha="right", fontsize=9, fontproperties=column_font)
    axis.set_yticks(range(len(rows)), row_names, fontsize=9, fontproperties=row_font)
    axis.set_title(plain(title), fontsize=10)
    figure.colorbar(shown, ax=axis, shrink=0.8)
    return as_view(figure, f"Heat map: {title}, {len(rows)} rows and {len(columns)} columns")


def grids(tables: Mapping[str, Tensor], windows: Mapping[str, tuple[int, int, int, int]] | None = None) -> View:
    """Small tables of numbers side by side; NaN stays empty. A window (top, left, height, width) is framed."""
    figure = new_figure(sum(0.5 * table.shape[1] + 0.6 for table in tables.values()), 3.0)
    spaces = figure.subplots(1, len(tables), width_ratios=[t.shape[1] for t in tables.values()], squeeze=False)[0]
    most = max(float(table.nan_to_num().abs().max()) for table in tables.values())
    said = []
    for axis, (name, table) in zip(spaces, tables.items(), strict=True):
        axis.imshow(table.numpy(), cmap=COSINE_MAP, vmin=-1.5 * most, vmax=1.5 * most)
        for row, column in np.ndindex(*table.shape):
            value = float(table[row, column])
            axis.text(column, row, "" if math.isnan(value) else f"{value:g}", ha="center", va="center", fontsize=10)
        if name in (windows or {}):
            top, left, height, width = (windows or {})[name]
            frame = Rectangle((left - 0.5, top - 0.5), width, height, fill=False, linewidth=3, clip_on=False)
            axis.add_patch(frame)
        axis.set(xticks=[], yticks=[])
        axis.set_title(plain(name), fontsize=9)
        said.append(f"{name} {table.tolist()}")
    return as_view(figure, f"Tables of numbers: {'; '.join(said)}")
