"""Errors that users can fix: data, files, settings, weights. Each says what is wrong, where, and how to fix it.

Every message is one line in Chinese and in English. A programming mistake (a wrong shape or argument) raises an
ordinary `ValueError` or `TypeError` instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_FAULTS_SHOWN = 20


class ClipEduError(Exception):
    """One clear line in Chinese and in English; the command line prints it and exits with code 2."""

    def __init__(self, zh: str, en: str = "") -> None:
        # Both go into `args`, so that the error can be pickled and sent from a data-loading process.
        super().__init__(zh, en)
        self.zh, self.en = zh, en

    def __str__(self) -> str:
        return f"{self.zh} | {self.en}" if self.en else self.zh


class DatasetError(ClipEduError):
    """Something is wrong with dataset.json, a picture or a caption."""


class MissingSplitError(DatasetError):
    """The dataset has no records in the requested split; not every dataset needs a `val` or a `test`."""


class TokenizerError(ClipEduError):
    """The tokenizer has no vocabulary yet, or its file is damaged."""


class PretrainedWeightsUnavailable(ClipEduError):
    """Pretrained weights were requested but are not available here."""


class CheckpointError(ClipEduError):
    """A checkpoint is missing, damaged, or belongs to another model or run."""


class TrainingError(ClipEduError):
    """Training cannot start or continue (a single pair, NaN in the loss)."""


class ConfigError(ClipEduError):
    """A setting or a command-line argument has a value that makes no sense."""


class FaultyDataset(DatasetError):
    """Several faults of a dataset, the first ones in the message; `faults` has all of them."""

    faults: Sequence[str] = ()


def fault_report(path: Path, faults: Sequence[str], *, skippable: bool = True) -> FaultyDataset:
    """All faults of a dataset in one error, one line each; `skippable` if leaving out pictures would help."""
    lines = "".join(f"\n  {fault}" for fault in faults[:_FAULTS_SHOWN])
    if len(faults) > _FAULTS_SHOWN:
        lines += (
            f"\n  … +{len(faults) - _FAULTS_SHOWN}（全部 | all of them: python -m clipedu check --data-dir DATA_DIR）"
        )
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    error = FaultyDataset(
        f"{path} 有 {len(faults)} 种错误，请改正" + ("，或用 --skip-broken 略去打不开的图片" if skippable else ""),
        f"{path} has {count}"
        + (" (broken pictures can be left out with --skip-broken):" if skippable else ":")
        + lines,
    )
    error.faults = faults
    return error
