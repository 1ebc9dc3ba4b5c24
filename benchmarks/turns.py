"""Measuring things against each other: in turn, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

Measured = TypeVar("Measured")


def in_turn(arms: Mapping[str, Callable[[], Measured]], rounds: int) -> Iterator[tuple[str, Measured]]:
    """Measure A B A B ...: the name of each arm and what it gave, as soon as it is there."""
    for _ in range(rounds):
        for name, measure in arms.items():
            yield name, measure()


def ratio_of_medians(over: Sequence[float], under: Sequence[float]) -> float:
    """How many times the median of `over` is that of `under`."""
    return round(statistics.median(over) / statistics.median(under), 3)
