"""One picture for the temperature: the cosines, one row's softmax, its gradient, and the loss at every temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from clipedu.classroom.plots.drawing import COLOURS, COSINE_MAP, IMAGE_COLOUR, TEXT_COLOUR, as_view, new_figure
from clipedu.classroom.view import View

POSITIVE, NEGATIVE = COLOURS[0], COLOURS[2]


def temperature_panel(
    cosines: Tensor,
    row: int,
    probabilities: Tensor,
    gradient: Tensor,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    temperature: float,
) -> View:
    """What one temperature makes of a matrix of cosines `[N, N]`.

    Args:
        row: the image whose softmax and gradient are drawn.
        probabilities: `[N]`, its softmax over the texts.
        gradient: `[N]`, of the loss, to its cosines.
        curves: named values over all temperatures (temperatures, values); a dot marks the temperature at hand.
        temperature: the one at hand.
    """
    figure = new_figure(9.6, 5.6)
    matrix, softmax, pull, landscape = figure.subplots(2, 2).flatten()
    _draw_matrix(matrix, cosines, row)
    numbers = range(1, len(cosines) + 1)
    colours = [POSITIVE if column == row else NEGATIVE for column in range(len(cosines))]
    right, own = probabilities[row].item(), gradient[row].item()
    others = gradient.sum().item() - own
    softmax.bar(numbers, probabilities.tolist(), color=colours)
    softmax.axhline(1 / len(cosines), color="black", linestyle="--", linewidth=1)
    softmax.set(ylim=(0, 1), xticks=numbers, title=f"softmax of I{row + 1}: own text {right:.3f} (dashed: chance)")
    pull.bar(numbers, gradient.tolist(), color=colours)
    pull.axhline(0, color="black", linewidth=0.8)
    pull.set(xticks=numbers, title=f"gradient: own pair {own:+.4f}, others together {others:+.4f}")
    said = _draw_landscape(landscape, curves, temperature)
    for axis in (matrix, softmax, pull, landscape):
        axis.title.set_fontsize(10)
    figure.suptitle(f"temperature {temperature:.3f}, scale {1 / temperature:.1f}", fontsize=11)
    return as_view(
        figure,
        f"Temperature {temperature:.3f}, scale {1 / temperature:.1f}. Softmax of I{row + 1} on its own text "
        f"{right:.3f}. Gradient on the own pair {own:.4f}, on the others together {others:.4f}. {said}",
    )


def _draw_matrix(axis: Axes, cosines: Tensor, row: int) -> None:
    count = len(cosines)
    shown = axis.imshow(cosines.numpy(), cmap=COSINE_MAP, vmin=-1, vmax=1)
    axis.add_patch(Rectangle((-0.5, row - 0.5), count, 1, fill=False, linewidth=2, clip_on=False))
    axis.set_xticks(range(count), [f"T{number + 1}" for number in range(count)], color=TEXT_COLOUR, fontsize=8)
    axis.set_yticks(range(count), [f"I{number + 1}" for number in range(count)], color=IMAGE_COLOUR, fontsize=8)
    axis.set_title("cosine similarity")
    axis.figure.colorbar(shown, ax=axis, shrink=0.9)


def _draw_landscape(
    axis: Axes, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], temperature: float
) -> str:
    said = []
    looks = (IMAGE_COLOUR, "-"), (TEXT_COLOUR, "--"), ("black", ":")
    for (name, (across, up)), (colour, style) in zip(curves.items(), looks, strict=False):
        here = int((torch.tensor(across).log() - torch.tensor(temperature).log()).abs().argmin())
        axis.plot(across, up, style, color=colour, label=f"{name} {up[here]:.2f}")
        axis.plot(across[here], up[here], "o", color=colour)
        said.append(f"{name} {up[here]:.3f}")
    axis.axvline(temperature, color="grey", linewidth=0.8)
    axis.set(xscale="log", xlabel="temperature", ylim=(0, None), title="at every temperature")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return ", ".join(said)
