"""The series' pictures. Images are always blue, texts always vermillion, cosines always on one scale from -1 to 1.

Every function returns a `View` whose `text` describes the picture for those who cannot see it.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from clipedu.classroom.view import View
from clipedu.environment import find_cjk_font
from clipedu.pictures import load_image

IMAGE_COLOUR = "#0072B2"  # the palette of Okabe and Ito, made for the colour-blind
TEXT_COLOUR = "#D55E00"
COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # for all that is neither image nor text
COSINE_MAP, SEQUENTIAL_MAP = "RdBu_r", "cividis"
AnyImage = Path | Image.Image | Tensor

# ---------------------------------------------------------------------------------------------- from figure to view


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=96, layout="constrained")


def _view(figure: Figure, alt: str) -> View:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return View(_img(buffer.getvalue(), alt), alt)


def _img(png: bytes, alt: str, style: str = "max-width: 100%") -> str:
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" style="{style}">'


def _pil(image: AnyImage) -> Image.Image:
    """A path, a PIL picture, or a uint8 tensor `[3, H, W]` as a PIL picture."""
    if isinstance(image, Tensor):
        return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    return load_image(image) if isinstance(image, Path) else image


def _font_for(texts: Sequence[str]) -> tuple[list[str], FontProperties | None]:
    """Labels and a font that can show them; without a Chinese font, Chinese words become their numbers."""
    if all(text.isascii() for text in texts):
        return list(texts), None
    file = find_cjk_font()
    if file is None:
        return [text if text.isascii() else f"#{number}" for number, text in enumerate(texts)], None
    return list(texts), FontProperties(fname=str(file))


# ---------------------------------------------------------------------------------------------------- pictures


def pictures(
    images: Sequence[AnyImage],
    english: Sequence[str] = (),
    chinese: Sequence[str] = (),
    notes: Sequence[str] = (),
    width: int = 96,
) -> View:
    """Images in a row that wraps, `width` px each, with captions in either language and a note in both."""
    if not images:
        return View('<div lang="zh">没有图片</div><div lang="en">no pictures</div>', "没有图片 | no pictures")
    cells, said = [], []
    for number, image in enumerate(images):
        buffer = io.BytesIO()
        _pil(image).save(buffer, "png")
        note = notes[number] if notes else ""
        captions = {"zh": chinese[number] if chinese else "", "en": english[number] if english else ""}
        alt = captions["en"] or captions["zh"] or note or f"image {number + 1}"
        lines = "".join(f'<div lang="{lang}">{escape(text)}</div>' for lang, text in captions.items() if text)
        picture = _img(buffer.getvalue(), alt, f"width: {width}px")
        style = f"display: inline-block; width: {width + 10}px; margin: 4px; vertical-align: top; font-size: 12px"
        cells.append(f'<div style="{style}">{picture}<div><b>{escape(note)}</b></div>{lines}</div>')
        said.append(" ".join(filter(None, (note, *captions.values()))) or alt)
    return View("".join(cells), "\n".join(said))


def feature_maps(stages: Mapping[str, Tensor], channels: int = 6) -> View:
    """A row of pictures for each stage: its `channels` liveliest maps out of `[C, H, W]`, each on its own scale."""
    figure = _figure(1.25 * channels + 1.2, 1.3 * len(stages))
    grid = figure.subplots(len(stages), channels, squeeze=False)
    for row, (name, maps) in zip(grid, stages.items(), strict=True):
        liveliest = maps.flatten(1).std(dim=1).topk(min(channels, len(maps))).indices.sort().values
        for axis in row:
            axis.set(xticks=[], yticks=[], frame_on=False)
        for axis, channel in zip(row, liveliest.tolist(), strict=False):
            axis.imshow(maps[channel].numpy(), cmap="gray")
            axis.set_title(f"channel {channel}", fontsize=7)
        row[0].set_ylabel(f"{name}\n{maps.shape[0]} x {maps.shape[1]} x {maps.shape[2]}", fontsize=8)
    shapes = ", ".join(f"{name} {tuple(maps.shape)}" for name, maps in stages.items())
    return _view(figure, f"Feature maps of {len(stages)} stages, as grey pictures: {shapes}")


def gradient_map(image: AnyImage, gradient: Tensor, title: str = "") -> View:
    """A picture and, beside it, how much each of its pixels `[H, W]` matters to one number; both with its reach."""
    rows, columns = (gradient > 0).any(1).nonzero().flatten(), (gradient > 0).any(0).nonzero().flatten()
    top, left = (int(places[0]) if len(places) else 0 for places in (rows, columns))
    height, width = (int(places[-1] - places[0]) + 1 if len(places) else 0 for places in (rows, columns))
    figure = _figure(6.4, 3.4)
    for axis in figure.subplots(1, 2):
        axis.set(xticks=[], yticks=[])
        axis.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, color="#E69F00", linewidth=2))
    figure.axes[0].imshow(_pil(image).resize((gradient.shape[1], gradient.shape[0])))
    figure.axes[0].set_title("picture", fontsize=9)
    figure.axes[1].imshow(gradient.sqrt().numpy(), cmap="gray")
    figure.axes[1].set_title("root of the gradient", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return _view(figure, f"A picture and its gradient, not 0 in a box of {width} x {height} pixels. {title}")


def grids(tables: Mapping[str, Tensor], windows: Mapping[str, tuple[int, int, int, int]] | None = None) -> View:
    """Small tables of numbers side by side; NaN stays empty. A window (top, left, height, width) is framed."""
    figure = _figure(sum(0.5 * table.shape[1] + 0.6 for table in tables.values()), 3.0)
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
        axis.set_title(name, fontsize=9)
        said.append(f"{name} {table.tolist()}")
    return _view(figure, f"Tables of numbers: {'; '.join(said)}")


# ------------------------------------------------------------------------------------------------------ tokens


def tokens(words: Sequence[str], ids: Sequence[int] = ()) -> View:
    """Tokens as a row of boxes, their ids beneath: words vermillion, special tokens grey, [UNK] black."""
    boxes = []
    for number, word in enumerate(words):
        special = word.startswith("[") and word.endswith("]")
        colour = "black" if word == "[UNK]" else "grey" if special else TEXT_COLOUR
        box = f"display: inline-block; margin: 2px; text-align: center; border: 2px solid {colour}; padding: 2px 6px"
        under = f'<div style="font-size: 11px; color: grey">{ids[number]}</div>' if ids else ""
        boxes.append(f'<div style="{box}"><b style="color: {colour}">{escape(word)}</b>{under}</div>')
    return View("".join(boxes), " ".join(words) + (f"\n{list(ids)}" if ids else ""))


# --------------------------------------------------------------------------------------------------- matrices


def similarity(
    matrix: Tensor, images: Sequence[AnyImage] = (), texts: Sequence[str] = (), title: str = "cosine similarity"
) -> View:
    """The one heat map of this series: cosines `[I, T]`, images down, texts across, on the fixed scale -1 to 1."""
    matrix = matrix.detach().float()
    rows, columns = matrix.shape
    names, font = _font_for(texts or [f"T{number + 1}" for number in range(columns)])
    figure = _figure(max(3.6, 0.62 * columns + 2.2), max(2.6, 0.62 * rows + 0.9))
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
        axis.set_yticks(range(rows), [f"I{number + 1}" for number in range(rows)], color=IMAGE_COLOUR)
    for row, image in enumerate(images):
        corner = axis.inset_axes((-1.9, row - 0.42, 0.84, 0.84), transform=axis.transData)
        corner.imshow(_pil(image))
        corner.set(xticks=[], yticks=[])
    axis.set_xlabel("texts", color=TEXT_COLOUR)
    if not images:
        axis.set_ylabel("images", color=IMAGE_COLOUR)
    axis.set_title(title, fontsize=10)
    figure.colorbar(shown, ax=axis, shrink=0.8)
    alt = f"Heat map of {rows} x {columns} cosine similarities ({title})"
    if rows == columns > 1:
        own = matrix.diag().mean().item()
        others = (matrix.sum() - matrix.diag().sum()).item() / (rows * (rows - 1))
        alt += f": the diagonal averages {own:.2f}, the rest {others:.2f}"
    return _view(figure, alt)


def heat_map(
    values: Tensor, rows: Sequence[str], columns: Sequence[str], title: str, most: float | None = None
) -> View:
    """Numbers from 0 up as a labelled grid: attention, counts; `most` is the top of the colour scale."""
    values = values.detach().float()
    row_names, row_font = _font_for(rows)
    column_names, column_font = _font_for(columns)
    figure = _figure(max(3.2, 0.42 * len(columns) + 1.8), max(2.0, 0.36 * len(rows) + 1.2))
    axis = figure.subplots()
    shown = axis.imshow(values.numpy(), cmap=SEQUENTIAL_MAP, vmin=0, vmax=most, aspect="auto")
    axis.set_xticks(range(len(columns)), column_names, rotation=60, ha="right", fontsize=9, fontproperties=column_font)
    axis.set_yticks(range(len(rows)), row_names, fontsize=9, fontproperties=row_font)
    axis.set_title(title, fontsize=10)
    figure.colorbar(shown, ax=axis, shrink=0.8)
    return _view(figure, f"Heat map: {title}, {len(rows)} rows and {len(columns)} columns")


# --------------------------------------------------------------------------------------------- points and arrows


def on_the_circle(images: Tensor, texts: Tensor, title: str = "") -> View:
    """Vectors of the plane, `[N, 2]` each, as arrows from the origin; the unit circle is dashed."""
    images, texts = images.detach().float(), texts.detach().float()
    reach = max(1.0, float(torch.cat([images, texts]).norm(dim=-1).max())) * 1.2
    figure = _figure(4.6, 4.6)
    axis = figure.subplots()
    angle = np.linspace(0, 2 * math.pi, 200)
    axis.plot(np.cos(angle), np.sin(angle), "--", color="grey", linewidth=1)
    said = []
    for vectors, colour, letter in ((images, IMAGE_COLOUR, "I"), (texts, TEXT_COLOUR, "T")):
        for number, (x, y) in enumerate(vectors.tolist(), 1):
            axis.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
            axis.text(x * 1.06, y * 1.06, f"{letter}{number}", color=colour, ha="center", va="center")
            said.append(f"{letter}{number} ({x:.2f}, {y:.2f})")
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title)
    axis.axhline(0, color="lightgrey", linewidth=0.8, zorder=0)
    axis.axvline(0, color="lightgrey", linewidth=0.8, zorder=0)
    return _view(figure, f"Arrows beside the unit circle: {', '.join(said)}" + (f"; {title}" if title else ""))


def on_the_sphere(images: Tensor, texts: Tensor, title: str = "", names: tuple[str, str] = ("images", "texts")) -> View:
    """Unit vectors of space, `[N, 3]` each, as points on the sphere; a line joins image i and text i."""
    figure = _figure(4.8, 4.6)
    axis = figure.add_subplot(projection="3d")
    u, v = np.meshgrid(np.linspace(0, 2 * math.pi, 25), np.linspace(0, math.pi, 13))
    axis.plot_wireframe(np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v), color="lightgrey", linewidth=0.4)
    for vectors, colour, name, marker in ((images, IMAGE_COLOUR, names[0], "o"), (texts, TEXT_COLOUR, names[1], "^")):
        axis.scatter(*vectors.detach().T.numpy(), color=colour, label=name, marker=marker, s=45, depthshade=False)
    for image, text in zip(images.detach().numpy(), texts.detach().numpy(), strict=True):
        axis.plot(*np.stack([image, text]).T, color="black", linewidth=0.8)
    axis.set_box_aspect((1, 1, 1))
    axis.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], zticks=[-1, 0, 1], title=title)
    axis.legend(loc="upper left", fontsize=8)
    angles = torch.rad2deg((images * texts).sum(dim=-1).clamp(-1, 1).arccos())
    return _view(
        figure, f"{len(images)} pairs on the unit sphere, {angles.mean():.0f} degrees apart on average. {title}"
    )


# ------------------------------------------------------------------------------------------- curves, bars, counts


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    levels: Mapping[str, float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> View:
    """Named lines (values across, values up); `levels` are dashed: chance, or what was predicted."""
    figure = _figure(6.4, 3.4)
    axis = figure.subplots()
    for (name, (across, up)), colour in zip(series.items(), COLOURS, strict=False):
        axis.plot(across, up, label=name, color=colour, marker="o" if len(across) <= 20 else "", markersize=4)
    said = ", ".join(f"{name} from {up[0]:.2f} to {up[-1]:.2f}" for name, (_, up) in series.items())
    said += _draw_levels(axis, levels or {})
    axis.set(xlabel=x, ylabel=y, xscale="log" if log_x else "linear", yscale="log" if log_y else "linear")
    axis.grid(alpha=0.3)
    _legend(axis)
    return _view(figure, f"Curves of {y} over {x}: {said}")


def loss_curve(losses: Sequence[float], chance: float, predicted: float | None = None) -> View:
    """The loss of every step, with the loss of guessing ln(B) and, if given, what was predicted for the start."""
    levels = {f"chance ln(B) = {chance:.2f}": chance}
    if predicted is not None:
        levels[f"predicted start {predicted:.2f}"] = predicted
    return curves({"loss": (range(1, len(losses) + 1), losses)}, "step", "loss", levels)


def bars(series: Mapping[str, Mapping[str, float]], y: str, levels: Mapping[str, float] | None = None) -> View:
    """Groups of bars: `{"English": {"words": 9.1, "bytes": 11.2}, ...}` draws a group for each outer name."""
    figure = _figure(6.4, 3.2)
    axis = figure.subplots()
    groups = list(series)
    inner = list(dict.fromkeys(name for values in series.values() for name in values))
    width = 0.8 / len(inner)
    for number, (name, colour) in enumerate(zip(inner, COLOURS, strict=False)):
        places = [place + (number - (len(inner) - 1) / 2) * width for place in range(len(groups))]
        heights = [series[group].get(name, 0.0) for group in groups]
        drawn = axis.bar(places, heights, width, label=name, color=colour)
        if len(groups) * len(inner) <= 12:
            axis.bar_label(
                drawn, [f"{height:,.0f}" if height >= 100 else f"{height:.3g}" for height in heights], fontsize=7
            )
    said = "; ".join(
        f"{group}: " + ", ".join(f"{n} {v:.3g}" for n, v in values.items()) for group, values in series.items()
    )
    said += _draw_levels(axis, levels or {})
    labels, font = _font_for(groups)
    tilt: dict[str, Any] = {"rotation": 60, "ha": "right"} if len(groups) > 8 else {}
    axis.set_xticks(range(len(groups)), labels, fontproperties=font, **tilt)
    axis.set_ylabel(y)
    axis.margins(y=0.1)
    if len(inner) > 1 or levels:
        _legend(axis)
    return _view(figure, f"Bars of {y}. {said}")


def histogram(samples: Mapping[str, Tensor], x: str, limits: tuple[float, float] | None = None, bins: int = 60) -> View:
    """How often each value occurs, drawn as a density, for several named samples."""
    figure = _figure(6.4, 3.2)
    axis = figure.subplots()
    sides = {"images": IMAGE_COLOUR, "texts": TEXT_COLOUR}
    for (name, values), other in zip(samples.items(), COLOURS, strict=False):
        colour = sides.get(name, other)
        axis.hist(values.detach().numpy(), bins=bins, range=limits, density=True, alpha=0.55, label=name, color=colour)
    axis.set(xlabel=x, ylabel="density")
    _legend(axis)
    said = "; ".join(
        f"{name}: mean {values.mean():.2f}, standard deviation {values.std():.2f}" for name, values in samples.items()
    )
    return _view(figure, f"Histogram of {x}. {said}")


def _legend(axis: Axes) -> None:
    """Above the picture, where it hides nothing."""
    axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)


def _draw_levels(axis: Axes, levels: Mapping[str, float]) -> str:
    for (name, value), style in zip(levels.items(), ("--", ":", "-."), strict=False):
        axis.axhline(value, color="black", linestyle=style, linewidth=1, label=name)
    return "".join(f"; dashed line {name} at {value:.2f}" for name, value in levels.items())
