"""The history of a run: a record per epoch, in a line, as a score, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipedu.files import whole_file

Record = dict[str, Any]


def score(record: Record) -> float:
    """What the best checkpoint has most of: mean recall over ranks, directions and languages; without `val`, -loss."""
    recalls = [value for scores in (record["val"] or {}).values() for name, value in scores.items() if "R@" in name]
    return sum(recalls) / len(recalls) if recalls else -record["loss"]


def describe(record: Record, epochs: int) -> str:
    """An epoch in one line."""
    line = f"epoch {record['epoch']}/{epochs}  loss {record['loss']:.3f}  {record['train_seconds']:.0f} s"
    for language, scores in (record["val"] or {}).items():
        line += f"  {language} val i2t R@1 {scores['i2t_R@1']:.2f} R@5 {scores['i2t_R@5']:.2f}"
    return line


def plot_training_curve(history: Sequence[Record], path: str | Path) -> None:
    """Draw loss and recall by epoch into a picture file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    loss, recall = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    loss.plot(epochs, [record["loss"] for record in history], marker="o", color="black")
    loss.set(title="training loss", xlabel="epoch", ylabel="loss")
    for language in history[-1]["val"] or {}:
        for name, style in (("i2t_R@1", "--"), ("i2t_R@5", "-"), ("t2i_R@5", ":")):
            recall.plot(
                epochs, [record["val"][language][name] for record in history], style, label=f"{language} {name}"
            )
    recall.set(title="recall on val", xlabel="epoch", ylim=(0, 1))
    if history[-1]["val"]:
        recall.legend()
    for axis in (loss, recall):
        axis.grid(alpha=0.3)
    with whole_file(Path(path)) as temporary:
        figure.savefig(temporary, format="png")
