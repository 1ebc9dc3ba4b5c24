"""Pictures, what a network computes from them, and tokens as boxes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.patches import Rectangle
from torch import Tensor

from clipedu.classroom.plots.drawing import TEXT_COLOUR, AnyImage, Drawing, as_pil, img, new_figure, numbered, plot
from clipedu.classroom.view import View, as_text, line


def pictures(
    images: Sequence[AnyImage],
    english: Sequence[str] = (),
    chinese: Sequence[str] = (),
    notes: Sequence[str] = (),
    width: int = 96,
) -> View:
    """Images in a table, `width` px each, with a caption in each language, and a note, which is a label."""
    if not images:
        return View('<div lang="zh">没有图片</div><div lang="en">no pictures</div>', "没有图片 | no pictures")
    cells, texts = [], []
    for number, image in enumerate(images):
        buffer = io.BytesIO()
        as_pil(image).save(buffer, "png")
        note = notes[number] if notes else ""
        captions = {"zh": chinese[number] if chinese else "", "en": english[number] if english else ""}
        alt = captions["en"] or captions["zh"] or note or f"image {number + 1}"
        lines = "".join(f'<div lang="{lang}">{as_text(text)}</div>' for lang, text in captions.items() if text)
        picture = img(buffer.getvalue(), alt, "", width)
        bold = f"<b>{line(('', note))}</b>" if note else ""
        look = "text-align: left; vertical-align: top"
        cells.append(f'<td width="{width + 12}" style="{look}">{picture}{bold}{lines}</td>')
        texts.append(" ".join(filter(None, (note, *captions.values()))) or alt)
    return View(_in_rows(cells, 880 // (width + 12)), "\n".join(texts))


def _in_rows(cells: Sequence[str], columns: int) -> str:
    """A table of `<td>` cells; not a flowing row, because code hosts remove the styles that it needs."""
    columns = max(1, columns)
    rows = ("".join(cells[start : start + columns]) for start in range(0, len(cells), columns))
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def tokens(words: Sequence[str], ids: Sequence[int] = ()) -> View:
    """Tokens as a row of cells with their ids below: words vermillion, special tokens grey, [UNK] black.

    Each row is a table of its own, so that a long word widens no cell in another row.
    """
    cells = []
    for number, word in enumerate(words):
        special = word.startswith("[") and word.endswith("]")
        colour = "black" if word == "[UNK]" else "grey" if special else TEXT_COLOUR
        box = f"text-align: center; border: 2px solid {colour}; color: {colour}; background: white"
        id_line = f"<br>{ids[number]}" if ids else ""
        cells.append(f'<td align="center" style="{box}"><b>{as_text(word)}</b>{id_line}</td>')
    rows = "".join(_in_rows(cells[start : start + 12], 12) for start in range(0, max(1, len(cells)), 12))
    return View(rows, " ".join(words) + (f"\n{list(ids)}" if ids else ""))


@plot
def feature_maps(stages: Mapping[str, Tensor], channels: int = 6) -> Drawing:
    """One row per stage: the `channels` maps of `[C, H, W]` that vary most, each on its own grey scale."""
    figure = new_figure(1.25 * channels + 1.2, 1.3 * len(stages))
    grid = figure.subplots(len(stages), channels, squeeze=False)
    names, key = numbered(list(stages))
    for row, name, maps in zip(grid, names, stages.values(), strict=True):
        most_varied = maps.flatten(1).std(dim=1).topk(min(channels, len(maps))).indices.sort().values
        for axes in row:
            axes.set(xticks=[], yticks=[], frame_on=False)
        for axes, channel in zip(row, most_varied.tolist(), strict=False):
            axes.imshow(maps[channel].numpy(), cmap="gray")
            axes.set_title(f"#{channel}", fontsize=7)
        row[0].set_ylabel(f"{name}\n{maps.shape[0]} x {maps.shape[1]} x {maps.shape[2]}", fontsize=8)
    return Drawing(figure, "; ".join(f"{name} {tuple(maps.shape)}" for name, maps in stages.items()), key=key)


@plot
def gradient_map(image: AnyImage, gradient: Tensor, title: str = "") -> Drawing:
    """A picture next to a map `[H, W]` of how much each pixel affects one number; a box frames where it is not 0."""
    rows, columns = (gradient > 0).any(1).nonzero().flatten(), (gradient > 0).any(0).nonzero().flatten()
    top, left = (int(places[0]) if len(places) else 0 for places in (rows, columns))
    height, width = (int(places[-1] - places[0]) + 1 if len(places) else 0 for places in (rows, columns))
    figure = new_figure(6.4, 3.4)
    for axes in figure.subplots(1, 2):
        axes.set(xticks=[], yticks=[])
        axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, color="#E69F00", linewidth=2))
    figure.axes[0].imshow(as_pil(image).resize((gradient.shape[1], gradient.shape[0])))
    figure.axes[1].imshow(gradient.sqrt().numpy(), cmap="gray")
    return Drawing(figure, f"{width} × {height}", title)
