"""What reading a notebook costs, counted: its minutes, numbers without a source, cells that are hard to read aloud.

The main path ends at the heading 选读 · Optional. The speeds are estimates: 300 Chinese characters or 180 English words
a minute, 8 seconds per line of code, 20 per figure, and the minutes stated by each exercise.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from typing import Any

from tests.lessons import DATA_URI, FORMULA, HAN, INLINE_CODE, LINK, Lesson, Rule

MOST_CELLS, MOST_UNSHOWN, MOST_HARD, LONGEST_LINE = 90, 4, 6, 88
FROM_ELSEWHERE = re.compile(r"\(\w[\w .&-]*\d{4}\)|arXiv[: ]\S+|\b(?:19|20)\d\d\b")  # citations and years
AMOUNT = re.compile(r"(?<![\w.^_{])\d[\d,]*(?:\.\d+)?")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
NOT_BY_EAR = [  # turns of phrase that crept in from other languages
    r", for (?:the|it|they|this|that|there|we|a|an|of|in|with|no)\b",
    r"\bstop to\b",
    r"\bhad better\b",
    r"\bshall be\b",
    r"\b(?:is|which are|that are) no (?:number|folder|word|picture|classifier)\b",
    r"\b(?:Upwards|Downwards) stands\b",
    r"\blays down\b",
    r"\bin truth\b",
    r"\banew\b",
    r"\bat hand\b",
    r"\bstands? in the\b",
    r"\bOf (?:English|Chinese) \w+",
]


def main_path(lesson: Lesson) -> list[Any]:
    """The cells before the optional section."""
    cells = lesson.notebook.cells
    ends = (i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and re.match(r"#+ 选读", cell.source))
    return list(cells[: next(ends, len(cells))])


def blocks(source: str, language: str) -> str:
    return "\n".join(re.findall(rf'<div lang="{language}">(.*?)</div>', source, re.DOTALL))


def minutes(lesson: Lesson) -> dict[str, float]:
    """The estimated time for the main path in each language."""
    cells = main_path(lesson)
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    code = [cell for cell in cells if cell.cell_type == "code"]
    lines = sum(bool(line.strip()) for cell in code for line in cell.source.splitlines())
    figures = sum("data:image" in str(output) for cell in code for output in cell.outputs)
    exercises = sum(int(time) for text in prose for time in re.findall(r"[★☆]{3} (\d+) min", text))
    fixed = lines * 8 / 60 + figures * 20 / 60 + exercises
    characters = sum(len(re.findall(f"[{HAN}]", blocks(text, "zh"))) for text in prose)
    words = sum(len(re.findall("[A-Za-z]+", blocks(text, "en"))) for text in prose)
    return {"zh": characters / 300 + fixed, "en": words / 180 + fixed}


def the_promised_time_is_true(lesson: Lesson) -> Iterator[str]:
    """Both languages promise the same minutes, within a tenth of the estimate."""
    opening = "\n".join(cell.source for cell in lesson.notebook.cells[:3])
    promised = [*re.findall(r"大约 (\d+) 分钟", opening), *re.findall(r"About (\d+) minutes", opening)]
    if len(promised) != 2 or len({*promised}) != 1:
        yield f"the opening promises {promised} minutes"
        return
    longest = max(minutes(lesson).values())
    if not 0.9 * longest - 1 <= int(promised[0]) <= 1.1 * longest + 1:
        yield f"promises {promised[0]} minutes, and takes {longest:.0f}"
    if len(main_path(lesson)) > MOST_CELLS:
        yield f"{len(main_path(lesson))} cells"


def numbers_are_shown(lesson: Lesson) -> Iterator[str]:
    """Few numbers in prose are not in code, outputs or earlier prose, rounded alike; each has its source beside it."""
    seen: set[float] = set()
    unshown: list[str] = []
    for number, cell in enumerate(lesson.notebook.cells):
        if cell.cell_type == "code":
            shown = DATA_URI.sub("", cell.source + " ".join(str(output) for output in cell.outputs))
            seen |= set(map(_value, AMOUNT.findall(shown)))
            continue
        text = blocks(cell.source, "en")
        for pattern in (FORMULA, INLINE_CODE, LINK, FROM_ELSEWHERE):
            text = pattern.sub(" ", text)
        found = [amount for amount in AMOUNT.findall(text) if "." in amount or _value(amount) > 12]
        unshown += [f"cell {number}: {amount}" for amount in found if not _is_among(amount, seen)]
        seen |= set(map(_value, AMOUNT.findall(blocks(cell.source, "en"))))
    if len(unshown) > MOST_UNSHOWN:
        yield from unshown


def _value(amount: str) -> float:
    return float(amount.replace(",", ""))


def _is_among(amount: str, seen: set[float]) -> bool:
    """As a number, as percent of one, or in thousands."""
    half = 0.5 * 10 ** -len(amount.partition(".")[2]) + 1e-9
    return any(
        math.isclose(_value(amount), scale * each, rel_tol=0, abs_tol=half) for each in seen for scale in (1, 100, 1e-3)
    )


def code_reads_aloud(lesson: Lesson) -> Iterator[str]:
    """Few cells with nested or double comprehensions, or lines that a laptop cuts off."""
    hard = []
    for number, cell in enumerate(main_path(lesson)):
        if cell.cell_type == "code":
            loops = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, COMPREHENSIONS)]
            nested = [loop for loop in loops if len(loop.generators) > 1 or any(_inside(one, loop) for one in loops)]
            long = [line for line in cell.source.splitlines() if len(line) > LONGEST_LINE]
            hard += [f"cell {number}: {ast.unparse(loop)[:60]}" for loop in nested[:1]]
            hard += [f"cell {number}: {line[:60]}" for line in long[: 0 if nested else 1]]
    if len(hard) > MOST_HARD:
        yield from hard


def _inside(inner: ast.AST, outer: ast.AST) -> bool:
    return inner is not outer and any(node is inner for node in ast.walk(outer))


def english_is_by_ear(lesson: Lesson) -> Iterator[str]:
    for where, text in lesson.prose:
        for pattern in NOT_BY_EAR:
            yield from (f"{where}: {match[0]!r}" for match in re.finditer(pattern, blocks(text, "en")))


RULES: list[Rule] = [the_promised_time_is_true, numbers_are_shown, code_reads_aloud, english_is_by_ear]
