"""Vectors as arrows and points."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from clipedu.classroom.plots.drawing import IMAGE_COLOUR, TEXT_COLOUR, as_view, new_figure, plain
from clipedu.classroom.view import View


def on_the_circle(images: Tensor, texts: Tensor, title: str = "") -> View:
    """Vectors of the plane, `[N, 2]` each, as arrows from the origin; the unit circle is dashed."""
    images, texts = images.detach().float(), texts.detach().float()
    reach = max(1.0, float(torch.cat([images, texts]).norm(dim=-1).max())) * 1.2
    figure = new_figure(4.6, 4.6)
    axis = figure.subplots()
    angle = np.linspace(0, 2 * math.pi, 200)
    axis.plot(np.cos(angle), np.sin(angle), "--", color="grey", linewidth=1)
    said = []
    for vectors, colour, letter in ((images, IMAGE_COLOUR, "I"), (texts, TEXT_COLOUR, "T")):
        for number, (x, y) in enumerate(vectors.tolist(), 1):
            axis.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
            axis.text(x * 1.06, y * 1.06, f"{letter}{number}", color=colour, ha="center", va="center")
            said.append(f"{letter}{number} ({x:.2f}, {y:.2f})")
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=plain(title))
    axis.axhline(0, color="lightgrey", linewidth=0.8, zorder=0)
    axis.axvline(0, color="lightgrey", linewidth=0.8, zorder=0)
    return as_view(figure, f"Arrows beside the unit circle: {', '.join(said)}" + (f"; {title}" if title else ""))


def on_the_sphere(images: Tensor, texts: Tensor, title: str = "", names: tuple[str, str] = ("images", "texts")) -> View:
    """Unit vectors of space, `[N, 3]` each, as points on the sphere; a line joins image i and text i."""
    figure = new_figure(4.8, 4.6)
    axis = figure.add_subplot(projection="3d")
    u, v = np.meshgrid(np.linspace(0, 2 * math.pi, 25), np.linspace(0, math.pi, 13))
    axis.plot_wireframe(np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v), color="lightgrey", linewidth=0.4)
    for vectors, colour, name, marker in ((images, IMAGE_COLOUR, names[0], "o"), (texts, TEXT_COLOUR, names[1], "^")):
        places = vectors.detach().T.numpy()
        axis.scatter(*places, color=colour, label=plain(name), marker=marker, s=45, depthshade=False)
    for image, text in zip(images.detach().numpy(), texts.detach().numpy(), strict=True):
        axis.plot(*np.stack([image, text]).T, color="black", linewidth=0.8)
    axis.set_box_aspect((1, 1, 1))
    axis.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], zticks=[-1, 0, 1], title=plain(title))
    axis.legend(loc="upper left", fontsize=8)
    angles = torch.rad2deg((images * texts).sum(dim=-1).clamp(-1, 1).arccos())
    return as_view(
        figure, f"{len(images)} pairs on the unit sphere, {angles.mean():.0f} degrees apart on average. {title}"
    )
