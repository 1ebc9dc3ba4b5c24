"""Each exercise three ways: the starter is answered kindly, the solution passes, wrong versions are refused rightly.

Beyond those, no answer, however strange, makes a check raise.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clipedu.classroom import check
from clipedu.classroom.view import Card
from tests.lessons import NOTEBOOKS, Lesson

ANSWER = re.compile(r"<summary>参考答案 · Solution</summary>.*?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Exercise:
    """As it stands in its notebook: the imports before it, the starter, the folded solution."""

    name: str
    imports: str
    starter: str
    solution: str
    folds: str


def exercises(path: Path) -> list[Exercise]:
    cells = Lesson.read(path).notebook.cells
    imports: list[str] = []
    found = []
    for number, cell in enumerate(cells):
        if cell.cell_type != "code":
            continue
        if asked := re.fullmatch(r"check\.(\w+)\(\1\)", cell.source):
            folds = cells[number + 1].source
            solution = ANSWER.search(folds)
            starter = cells[number - 1].source
            found.append(Exercise(asked[1], "\n".join(imports), starter, solution[1] if solution else "", folds))
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports.append(ast.unparse(node))
    return found


EXERCISES = [one for path in NOTEBOOKS for one in exercises(path)]


def judged(exercise: Exercise, source: str) -> Card:
    namespace: dict[str, Any] = {}
    exec(f"{exercise.imports}\n{source}", namespace)
    found = getattr(check, exercise.name)(namespace[exercise.name])
    assert isinstance(found, Card)
    return found


def speaks_both(found: Card) -> bool:
    zh, en = re.search(r'lang="zh">(.*?)</div>', found.html), re.search(r'lang="en">(.*?)</div>', found.html)
    return bool(zh and en and re.search(r"[\u4e00-\u9fff]", zh[1]) and re.search("[a-z]", en[1]))


def test_every_check_belongs_to_an_exercise() -> None:
    assert sorted(one.name for one in EXERCISES) == sorted(check.__all__)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
class TestInTheNotebook:
    def test_starter(self, exercise: Exercise) -> None:
        found = judged(exercise, exercise.starter)
        assert (found.passed, found.reason) == (None, "unwritten")
        assert exercise.starter.rstrip().endswith("raise NotImplementedError")
        assert exercise.name in found.text
        assert speaks_both(found)

    def test_solution(self, exercise: Exercise) -> None:
        assert exercise.solution.startswith(exercise.starter.splitlines()[0]), "the solution keeps the signature"
        found = judged(exercise, exercise.solution)
        assert found.passed is True, found.text
        assert speaks_both(found)

    def test_hints_are_folded(self, exercise: Exercise) -> None:
        summaries = re.findall(r"<details>\s*<summary>(.*?)</summary>", exercise.folds)
        assert summaries == ["提示 · Hint", "再提示 · Bigger hint", "参考答案 · Solution"]


# ------------------------------------------------------------------------------------------------ wrong versions

Wrong = tuple[str, str, Callable[..., Any]]
HAN = "\u4e00-\u9fff"


def lookup(words: list[str], vocabulary: dict[str, int]) -> list[int]:
    return [vocabulary.get(word, 1) for word in words]


def padded(rows: list[list[int]], filler: int = 0, width: int = 0) -> Tensor:
    width = width or max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def mask_of(rows: list[list[int]], token: int = 1) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[token] * len(row) + [1 - token] * (width - len(row)) for row in rows])


def left_padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    ids, mask = padded([row[::-1] for row in rows]), mask_of(rows)
    return ids.flip(1), mask.flip(1)


def field(layers: list[tuple[int, int]], own_stride: bool = False) -> int:
    seen, jump = 1, 1
    for kernel, stride in layers:
        jump *= stride if own_stride else 1
        seen += (kernel - 1) * jump
        jump *= 1 if own_stride else stride
    return seen


def unit(x: Tensor, dim: int = -1) -> Tensor:
    return nn.functional.normalize(x, dim=dim)


WRONG: dict[str, list[Wrong]] = {
    "split_words": [
        ("capitals stay", "case", lambda text: text.split()),
        ("cuts at spaces only", "punctuation", lambda text: text.lower().split()),
        ("knows a-z only", "chinese deleted", lambda text: re.findall("[a-z0-9]+", text.lower())),
        ("takes Chinese for a word", "chinese glued", lambda text: re.findall(r"\w+", text.lower())),
        ("cuts into letters", "english", lambda text: list(text.lower().replace(" ", ""))),
        ("forgets digits", "mixed", lambda text: re.findall(f"[{HAN}]|[a-z]+", text.lower())),
        ("gives a str", "type", lambda text: " ".join(re.findall(f"[{HAN}]|[a-z0-9]+", text.lower()))),
        ("gives a set", "type", lambda text: set(re.findall(f"[{HAN}]|[a-z0-9]+", text.lower()))),
        ("drops double words", "english", lambda text: list(dict.fromkeys(re.findall("[a-z]+", text.lower())))),
    ],
    "encode": [
        ("no special tokens", "cls", lambda words, v, n: lookup(words, v)),
        ("no [SEP]", "sep", lambda words, v, n: [2, *lookup(words, v)][:n]),
        ("looks up without [UNK]", "unknown", lambda words, v, n: [2, *(v[w] for w in words), 3]),
        ("leaves unknown words out", "unknown", lambda words, v, n: [2, *(v[w] for w in words if w in v), 3]),
        ("never truncates", "too long", lambda words, v, n: [2, *lookup(words, v), 3]),
        ("forgets that [CLS] and [SEP] count", "too long", lambda words, v, n: [2, *lookup(words, v)[:n], 3]),
        ("forgets that [SEP] counts", "too long", lambda words, v, n: [2, *lookup(words, v)[: n - 1], 3]),
        ("cuts [SEP] off", "sep cut", lambda words, v, n: [2, *lookup(words, v), 3][:n]),
        ("keeps the end, not the beginning", "truncation", lambda words, v, n: [2, *lookup(words, v)[2 - n :], 3]),
        ("gives a tensor", "type", lambda words, v, n: torch.tensor([2, *lookup(words, v)[: n - 2], 3])),
    ],
    "pad": [
        ("pads on the left", "left", left_padded),
        ("fills with [UNK]", "pad id", lambda rows: (padded(rows, 1), mask_of(rows))),
        ("mask is the wrong way round", "inverted", lambda rows: (padded(rows), mask_of(rows, 0))),
        ("mask is all ones", "mask of ones", lambda rows: (padded(rows), torch.ones_like(padded(rows)))),
        ("gives the ids as mask", "mask", lambda rows: (padded(rows), padded(rows))),
        ("pads to 77", "shape", lambda rows: (padded(rows, width=77), padded(rows, width=77) > 0)),
        ("cuts to the shortest", "shape", lambda rows: 2 * (torch.tensor([row[:3] for row in rows]),)),
        ("gives lists", "type", lambda rows: (padded(rows).tolist(), mask_of(rows).tolist())),
        ("gives ids alone", "type", padded),
        ("gives floats", "dtype", lambda rows: (padded(rows).float(), mask_of(rows))),
    ],
    "output_size": [
        ("divides with /", "float", lambda size, k, s, p: (size + 2 * p - k) / s + 1),
        ("forgets the first place", "minus one", lambda size, k, s, p: (size + 2 * p - k) // s),
        ("rounds up", "plus one", lambda size, k, s, p: -((size + 2 * p - k) // -s) + 1),
        ("forgets the kernel", "value", lambda size, k, s, p: (size + 2 * p) // s),
        ("forgets the stride", "value", lambda size, k, s, p: size + 2 * p - k + 1),
        ("divides by the stride alone", "value", lambda size, k, s, p: size // s),
        ("pads one side only", "minus one", lambda size, k, s, p: (size + p - k) // s + 1),
        ("gives a str", "type", lambda size, k, s, p: str((size + 2 * p - k) // s + 1)),
    ],
    "mean_pool": [
        ("averages padding as well", "padding", lambda hidden, mask: hidden.mean(dim=1)),
        ("sums", "sum", lambda hidden, mask: (hidden * mask.unsqueeze(-1)).sum(dim=1)),
        ("divides by T", "divisor", lambda hidden, mask: (hidden * mask.unsqueeze(-1)).mean(dim=1)),
        ("takes [CLS]", "cls", lambda hidden, mask: hidden[:, 0]),
        ("averages over the width", "shape", lambda hidden, mask: hidden.mean(dim=-1)),
        ("averages over the batch", "shape", lambda hidden, mask: hidden.mean(dim=0)),
        ("takes the largest", "value", lambda hidden, mask: hidden.amax(dim=1)),
        ("forgets unsqueeze", "error", lambda hidden, mask: (hidden * mask).sum(dim=1)),
        ("averages the padding alone", "nan", lambda hidden, mask: hidden.mean(dim=1) / (1 - mask).sum(dim=1) * 0),
    ],
    "receptive_field": [
        ("adds the kernels", "sum of kernels", lambda layers: sum(kernel for kernel, _ in layers)),
        ("forgets the strides", "strides", lambda layers: 1 + sum(kernel - 1 for kernel, _ in layers)),
        ("lets a stride work on its own layer", "value", lambda layers: field(layers, own_stride=True)),
        ("begins at 0", "value", lambda layers: field(layers) - 1),
        ("multiplies instead of adding", "value", lambda layers: max(3, 3 ** len(layers))),
        ("gives a tensor", "type", lambda layers: torch.tensor(field(layers))),
    ],
    "normalize": [
        ("along the columns", "axis", lambda x: unit(x, dim=0)),
        ("by the whole matrix", "whole matrix", lambda x: x / x.norm()),
        ("without the square root", "square root", lambda x: x / x.pow(2).sum(dim=-1, keepdim=True).clamp(1e-9)),
        ("L1", "L1", lambda x: nn.functional.normalize(x, p=1, dim=-1)),
        ("by the largest", "length", lambda x: x / x.amax(dim=-1, keepdim=True).clamp(1e-9)),
        ("LayerNorm", "length", lambda x: nn.functional.layer_norm(x, x.shape[-1:])),
        ("divides 0 by 0", "nan", lambda x: x / x.norm(dim=-1, keepdim=True)),
        ("forgets keepdim", "error", lambda x: x / x.norm(dim=-1)),
        ("gives zero a direction", "zero", lambda x: unit(x + 1e-9)),
        ("loses the sign", "sign", lambda x: unit(x.abs())),
        ("gives the lengths", "shape", lambda x: x.norm(dim=-1)),
    ],
    "cosine_matrix": [
        ("dot products", "not normalized", lambda images, texts: images @ texts.T),
        ("normalizes images only", "one side", lambda images, texts: unit(images) @ texts.T),
        ("normalizes texts only", "one side", lambda images, texts: images @ unit(texts).T),
        ("texts down", "transposed", lambda images, texts: unit(texts) @ unit(images).T),
        ("normalizes columns", "value", lambda images, texts: unit(images, 0) @ unit(texts, 0).T),
        ("row by row", "error", lambda images, texts: nn.functional.cosine_similarity(images, texts)),
        ("softmax on top", "value", lambda images, texts: (unit(images) @ unit(texts).T).softmax(dim=-1)),
        ("forgets to transpose", "error", lambda images, texts: unit(images) @ unit(texts)),
    ],
    "best_images": [
        ("gives the cosines", "values", lambda similarity, k: similarity.topk(k, dim=0).values.T),
        ("farthest first", "ascending", lambda similarity, k: similarity.argsort(dim=0)[:k].T),
        ("in the wrong order", "order", lambda similarity, k: similarity.topk(k, dim=0).indices.flip(0).T),
        ("sorts the texts of each image", "shape", lambda similarity, k: similarity.topk(k, dim=1).indices),
        ("forgets to transpose", "transposed", lambda similarity, k: similarity.topk(k, dim=0).indices),
        ("sorts the texts of the first images", "axis", lambda similarity, k: similarity.argsort(dim=1)[:3, :k]),
        ("gives one only", "shape", lambda similarity, k: similarity.argmax(dim=0)),
        ("gives all", "shape", lambda similarity, k: similarity.argsort(dim=0, descending=True).T),
    ],
}


def test_every_exercise_has_its_wrong_versions() -> None:
    assert set(WRONG) == set(check.__all__)
    assert min(map(len, WRONG.values())) >= 4


@pytest.mark.parametrize(
    ("name", "reason", "answer"),
    [pytest.param(name, reason, f, id=f"{name}-{what}") for name, all_ in WRONG.items() for what, reason, f in all_],
)
def test_a_wrong_version_is_refused_for_the_right_reason(name: str, reason: str, answer: Callable[..., Any]) -> None:
    found = getattr(check, name)(answer)
    assert (found.passed, found.reason) == (False, reason), found.text
    assert speaks_both(found)


# -------------------------------------------------------------------------------------------- answers beyond wrong


def leave(*_: Any) -> None:
    sys.exit(3)


def complain(*_: Any) -> None:
    raise ValueError("<b>my own mistake</b>")


def for_ever(*arguments: Any) -> Any:
    return for_ever(*arguments)


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


STRANGE: list[tuple[str, Any, set[str]]] = [
    ("no function", 7, {"type"}),
    ("None", None, {"type"}),
    ("no arguments", lambda: 1, {"signature"}),
    ("too many arguments", lambda a, b, c, d, e, f: 1, {"signature"}),
    ("a class", Unspeakable, {"signature"}),
    ("returns None", lambda *_: None, {"returned nothing"}),
    ("returns a str", lambda *_: "<script>", {"type", "value"}),
    ("returns a tuple", lambda *_: (), {"type", "value"}),
    ("returns NaN", lambda *_: float("nan"), {"type", "float", "value"}),
    ("returns a NaN tensor", lambda *_: torch.full((2, 2), torch.nan), {"type", "nan", "shape", "transposed"}),
    ("returns an empty tensor", lambda *_: torch.empty(0), {"type", "shape", "transposed"}),
    ("returns what has no repr", lambda *_: Unspeakable(), {"type", "error"}),
    ("raises", complain, {"error"}),
    ("leaves", leave, {"error"}),
    ("never ends", for_ever, {"error"}),
    ("a built-in", print, {"returned nothing"}),
]


@pytest.mark.parametrize("name", check.__all__)
@pytest.mark.parametrize(("answer", "reasons"), [pytest.param(f, r, id=what) for what, f, r in STRANGE])
def test_a_check_never_raises(name: str, answer: Any, reasons: set[str]) -> None:
    found = getattr(check, name)(answer)
    assert found.passed is False
    assert found.reason in reasons, found.text
    assert speaks_both(found)
    assert "<b>my" not in found.html
    assert "<script>" not in found.html


def test_the_card_names_the_line_of_the_mistake() -> None:
    found = check.normalize(complain)
    line = complain.__code__.co_firstlineno + 1
    assert f"(line {line})" in found.text
    assert f"第 {line} 行" in found.text
    assert "ValueError" in found.text


def test_an_answer_cannot_spoil_the_question() -> None:
    """The arguments are copies: an answer that works in place is judged by what it returns."""
    assert check.normalize(lambda x: x.div_(x.norm(dim=-1, keepdim=True).clamp(min=1e-9))).passed
