"""The history of a run: what `train` reports after each step and each epoch."""

from __future__ import annotations

import math
from typing import TypedDict


class StepRecord(TypedDict):
    """One optimizer step: `loss` from before it, its learning rate `lr`, and exp(logit_scale) from after it."""

    epoch: int
    step: int
    loss: float
    lr: float
    logit_scale: float


class EpochRecord(StepRecord):
    """One epoch, which ends with step `step`.

    `loss` is the mean over its steps, `train_seconds` is the training time so far without validation, and
    `val` is what `evaluate` returns (None without a validation set).
    """

    train_seconds: float
    val: dict[str, dict[str, float]] | None


def score(record: EpochRecord) -> float:
    """Highest for the best checkpoint: mean recall over ranks, directions and languages, or -loss without `val`."""
    recalls = [value for scores in (record["val"] or {}).values() for name, value in scores.items() if "R@" in name]
    return sum(recalls) / len(recalls) if recalls else -record["loss"]


def describe(record: EpochRecord, epochs: int, batch_size: int) -> str:
    """A summary of an epoch in one line, and a second one if the model has learned nothing so far."""
    line = f"epoch {record['epoch']}/{epochs}  loss {record['loss']:.3f}  {record['train_seconds']:.0f} s"
    for language, scores in (record["val"] or {}).items():
        line += f"  {language} val i2t R@1 {scores['i2t_R@1']:.2f} R@5 {scores['i2t_R@5']:.2f}"
    is_late = record["step"] >= 20 or record["epoch"] == epochs  # a fresh model starts a little above chance
    if is_late and record["loss"] > 0.99 * math.log(batch_size):
        chance = f"{math.log(batch_size):.3f}"
        line += (
            f"\n提示：批次大小为 {batch_size} 时，乱猜的损失是 ln {batch_size} = {chance}，可见到现在什么也没学到；"
            "请调低 --lr，并检查说明与图片是否对得上 | hint: with batches of "
            f"{batch_size}, guessing has a loss of ln {batch_size} = {chance}, so nothing has been learned so far; "
            "lower --lr, and check that captions and pictures belong together"
        )
    return line
