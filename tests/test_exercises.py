"""Each exercise three ways: the starter gets a friendly card, the solution passes, wrong versions get the right hint.

In addition, no answer, however strange, makes a check raise.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from clipedu.classroom import check
from clipedu.classroom.checks.framework import Answer, alike, diagnosis
from clipedu.classroom.site.needed import executed
from clipedu.classroom.view import Card
from tests.lessons import NOTEBOOKS, Lesson
from tests.wrong_answers import (
    encoders,
    languages,
    loss,
    photos,
    pretraining,
    projection,
    search,
    tokenizer,
    training,
    word_order,
)

SOLUTION = re.compile(r"<summary>参考答案 · Solution</summary>.*?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Exercise(NamedTuple):
    """An exercise in a notebook: the imports before it, the starter, and the cell with the folded hints."""

    name: str
    imports: str
    starter: str
    folds: str

    @property
    def solution(self) -> str:
        return "".join(SOLUTION.findall(self.folds))

    def judged(self, source: str) -> Card:
        return getattr(check, self.name)(executed(self.imports, source)[self.name])


def exercises(path: Path) -> Iterator[Exercise]:
    imports = ""
    cells = Lesson.read(path).notebook.cells
    for before, cell, after in zip(cells, cells[1:], cells[2:], strict=False):
        if checked := re.fullmatch(r"check\.(\w+)\(\1\)", cell.source):
            yield Exercise(checked[1], imports, before.source, after.source)
        elif cell.cell_type == "code":
            nodes = ast.parse(cell.source).body
            imports += "".join(f"{ast.unparse(n)}\n" for n in nodes if isinstance(n, ast.Import | ast.ImportFrom))


EXERCISES = [exercise for path in NOTEBOOKS for exercise in exercises(path)]
in_each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)


def is_bilingual(card: Card) -> bool:
    zh, en = re.search(r'lang="zh">(.*?)</div>', card.html), re.search(r'lang="en">(.*?)</div>', card.html)
    return bool(zh and en and re.search(r"[\u4e00-\u9fff]", zh[1]) and re.search("[a-z]", en[1]))


def test_every_check_has_its_exercise_and_wrong_versions() -> None:
    assert sorted(exercise.name for exercise in EXERCISES) == sorted(check.__all__) == sorted(WRONG)
    assert min(map(len, WRONG.values())) >= 4


@in_each
def test_starter(exercise: Exercise) -> None:
    assert exercise.starter.rstrip().endswith("raise NotImplementedError")
    card = exercise.judged(exercise.starter)
    assert (card.passed, card.reason) == (None, "unwritten")
    assert exercise.name in card.text
    assert is_bilingual(card)


@in_each
def test_solution(exercise: Exercise) -> None:
    summaries = re.findall(r"<details>\s*<summary>(.*?)</summary>", exercise.folds)
    assert summaries == ["提示 · Hint", "再提示 · Bigger hint", "参考答案 · Solution"]
    assert exercise.solution.startswith(exercise.starter.splitlines()[0]), "the solution keeps the signature"
    card = exercise.judged(exercise.solution)
    assert card.passed is True, card.text
    assert is_bilingual(card)


@in_each
def test_known_mistakes_are_told_apart(exercise: Exercise, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each known mistake differs from the right answer and from every other mistake, and has a wrong version."""
    tables: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(Answer, "compare", lambda self, _, right, mistakes, *a, **k: tables.append((right, mistakes)))
    assert exercise.judged(exercise.solution).passed
    reasons = set()
    for right, mistakes in tables:
        for reason, known in mistakes.items():
            for value in known if isinstance(known, tuple) else (known,):
                whole = {**right, **value} if isinstance(value, dict) else value
                if callable(value) or not alike(whole, right):  # some mistakes show only in some cases
                    reasons.add(reason)
                    assert callable(value) or diagnosis(whole, mistakes) == reason
    assert reasons == {reason for _, mistakes in tables for reason in mistakes}
    assert reasons <= {reason for _, reason, _ in WRONG[exercise.name]}


WRONG = (
    tokenizer.WRONG
    | encoders.WRONG
    | projection.WRONG
    | loss.WRONG
    | training.WRONG
    | pretraining.WRONG
    | photos.WRONG
    | languages.WRONG
    | search.WRONG
    | word_order.WRONG
)  # by exercise: what is wrong, the reason, the code


@pytest.mark.parametrize(
    ("name", "reason", "answer"),
    [pytest.param(name, reason, f, id=f"{name}-{what}") for name, rows in WRONG.items() for what, reason, f in rows],
)
def test_a_wrong_version_is_refused_for_the_right_reason(name: str, reason: str, answer: Callable[..., Any]) -> None:
    card = getattr(check, name)(answer)
    assert (card.passed, card.reason) == (False, reason), card.text
    assert is_bilingual(card)


# -------------------------------------------------------------------------------------------------- strange answers


def complain(*_: Any) -> None:
    raise ValueError("<b>my own mistake</b>")


def for_ever(*arguments: Any) -> Any:
    return for_ever(*arguments)


class Unprintable(Exception):
    def __init__(self) -> None:
        super().__init__()

    def __repr__(self) -> str:
        raise RuntimeError("cannot be printed")

    __str__ = __repr__


def raise_unprintable(*_: Any) -> None:
    raise Unprintable


STRANGE: list[tuple[str, Any, set[str]]] = [
    ("not a function", 7, {"type"}),
    ("None", None, {"type"}),
    ("no arguments", lambda: 1, {"signature"}),
    ("too many arguments", lambda a, b, c, d, e, f, g, h, i: 1, {"signature"}),
    ("a class", Unprintable, {"signature"}),
    ("returns None", lambda *_: None, {"returned_nothing"}),
    ("returns a str", lambda *_: "<script>", {"type", "value"}),
    ("returns a tuple", lambda *_: (), {"type", "value"}),
    ("returns NaN", lambda *_: float("nan"), {"type", "float", "value"}),
    ("returns a NaN tensor", lambda *_: torch.full((2, 2), torch.nan), {"type", "nan", "shape", "transposed"}),
    ("returns an empty tensor", lambda *_: torch.empty(0), {"type", "shape", "transposed"}),
    ("returns an object without repr", lambda *_: Unprintable(), {"type", "error"}),
    ("raises", complain, {"error"}),
    ("raises an error without str", raise_unprintable, {"error"}),
    ("exits", lambda *_: sys.exit(3), {"error"}),
    ("never ends", for_ever, {"error"}),
    ("a built-in", print, {"returned_nothing"}),
]


@pytest.mark.parametrize("name", check.__all__)
@pytest.mark.parametrize(("answer", "reasons"), [pytest.param(f, r, id=what) for what, f, r in STRANGE])
def test_a_check_never_raises(name: str, answer: Any, reasons: set[str]) -> None:
    card = getattr(check, name)(answer)
    assert card.passed is False
    assert card.reason in reasons, card.text
    assert is_bilingual(card)
    assert "<b>my" not in card.html
    assert "<script>" not in card.html


def test_the_card_names_the_line_of_the_mistake() -> None:
    card = check.normalize(complain)
    line = complain.__code__.co_firstlineno + 1
    assert f"(line {line})" in card.text
    assert f"第 {line} 行" in card.text
    assert "ValueError" in card.text


def test_an_in_place_answer_is_judged_by_what_it_returns() -> None:
    """Answers get copies of the arguments, so that they cannot change the expected result."""
    assert check.normalize(lambda x: x.div_(x.norm(dim=-1, keepdim=True).clamp(min=1e-9))).passed
