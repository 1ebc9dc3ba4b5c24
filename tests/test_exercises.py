"""Each exercise three ways: the starter is answered kindly, the solution passes, wrong versions are refused rightly.

Beyond those, no answer, however strange, makes a check raise.
"""

from __future__ import annotations

import ast
import math
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
from tests.lessons import NOTEBOOKS, Lesson, executed

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
    answer = executed(exercise.imports, source)[exercise.name]
    found = getattr(check, exercise.name)(answer)
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


def floats(weights: dict[str, Tensor]) -> list[str]:
    return [name for name, one in weights.items() if one.is_floating_point()]


def relative(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, float]:
    return {n: ((after[n] - before[n]).norm() / before[n].norm()).item() for n in floats(before)}


def turnless(before: Tensor, after: Tensor) -> float:
    return ((after.norm() - before.norm()).abs() / before.norm()).item()


def by_part(
    model: nn.Module,
    image_lr: float,
    lr: float,
    prefix: str = "image_encoder",
    frozen: bool = False,
    twice: bool = False,
) -> list[dict[str, Any]]:
    trained = [(name, p) for name, p in model.named_parameters() if frozen or p.requires_grad]
    inside = [p for name, p in trained if name.startswith(prefix)]
    outside = [p for name, p in trained if twice or not name.startswith(prefix)]
    return [{"params": inside, "lr": image_lr}, {"params": outside, "lr": lr}]


def encoders_only(model: Any, lr: float, scale: float) -> list[dict[str, Any]]:
    rates = (model.image_encoder, lr * scale), (model.text_encoder, lr)
    return [{"params": [p for p in part.parameters() if p.requires_grad], "lr": rate} for part, rate in rates]


def rate(step: int, total: int, warmup: int, peak: float) -> float:
    if step < warmup:
        return peak * (step + 1) / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def cosine_of(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def groups_by(spared: Callable[[str, nn.Parameter], bool]) -> Callable[..., Any]:
    def groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
        named = list(model.named_parameters())
        return [
            {"params": [p for name, p in named if spared(name, p)], "weight_decay": 0.0},
            {"params": [p for name, p in named if not spared(name, p)], "weight_decay": decay},
        ]

    return groups


def is_position(name: str) -> bool:
    return "position_embedding" in name


def mean_of_both(logits: Tensor) -> Tensor:
    right = torch.arange(len(logits))
    return (nn.functional.cross_entropy(logits, right) + nn.functional.cross_entropy(logits.T, right)) / 2


def step_of(
    order: str = "zero backward clip step clamp",
    loss_of: Callable[[Tensor], Tensor] = mean_of_both,
    scale_of: Callable[[Tensor], Tensor] = torch.exp,
    answer_of: Callable[[Tensor], Any] = Tensor.item,
) -> Callable[..., Any]:
    """A training step with these parts in this order."""

    def step(model: Any, optimizer: Any, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Any:
        image_embedding, text_embedding = model(images, input_ids, attention_mask)
        loss = loss_of(scale_of(model.logit_scale) * image_embedding @ text_embedding.T)
        parts = {
            "zero": optimizer.zero_grad,
            "backward": loss.backward,
            "clip": lambda: nn.utils.clip_grad_norm_(model.parameters(), 1.0),
            "clip_value": lambda: nn.utils.clip_grad_value_(model.parameters(), 0.01),
            "step": optimizer.step,
            "clamp": model.clamp_logit_scale,
        }
        for part in order.split():
            parts[part]()
        return answer_of(loss)

    return step


def log_mean(p: Tensor, ids: Tensor, how: str = "sum") -> Tensor:
    """Minus the mean logarithm of what the right answers' probabilities come to."""
    right = p * (ids[:, None] == ids)
    total = right.sum(dim=1)
    return -(total / (ids[:, None] == ids).sum(dim=1) if how == "average" else total).log().mean()


def spread_evenly(logits: Tensor, ids: Tensor) -> Tensor:
    same = (ids[:, None] == ids).float()
    return nn.functional.cross_entropy(logits, same / same.sum(dim=1, keepdim=True))


WRONG: dict[str, list[Wrong]] = {
    "row_loss": [
        ("forgets the minus", "sign", lambda cosines, p, t: (cosines / t).log_softmax(dim=0)[p]),
        ("gives the probability", "probability", lambda cosines, p, t: (cosines / t).softmax(dim=0)[p]),
        ("forgets the temperature", "no temperature", lambda cosines, p, t: -cosines.log_softmax(dim=0)[p]),
        ("multiplies by the temperature", "multiplied", lambda cosines, p, t: -(cosines * t).log_softmax(dim=0)[p]),
        ("averages the row", "mean over the row", lambda cosines, p, t: -(cosines / t).log_softmax(dim=0).mean()),
        (
            "bare exponentials",
            "overflow",
            lambda cosines, p, t: -((cosines / t).exp()[p] / (cosines / t).exp().sum()).log(),
        ),
        ("gives a float", "type", lambda cosines, p, t: (-(cosines / t).log_softmax(dim=0)[p]).item()),
        ("gives a row", "shape", lambda cosines, p, t: -(cosines / t).log_softmax(dim=0)),
        ("takes the first", "value", lambda cosines, p, t: -(cosines / t).log_softmax(dim=0)[0]),
        ("log to the base 2", "value", lambda cosines, p, t: -(cosines / t).log_softmax(dim=0)[p] / math.log(2)),
    ],
    "loss_gradient": [
        ("the other way round", "sign", lambda s, t: (torch.eye(len(s)) - (s / t).softmax(dim=1)) / (t * len(s))),
        ("only pushes", "positives", lambda s, t: (s / t).softmax(dim=1) / (t * len(s))),
        ("down the columns", "axis", lambda s, t: ((s / t).softmax(dim=0) - torch.eye(len(s))) / (t * len(s))),
        ("of the sum", "mean", lambda s, t: ((s / t).softmax(dim=1) - torch.eye(len(s))) / t),
        ("on the logits", "temperature", lambda s, t: ((s / t).softmax(dim=1) - torch.eye(len(s))) / len(s)),
        (
            "of both directions",
            "both directions",
            lambda s, t: ((s / t).softmax(1) + (s / t).softmax(0) - 2 * torch.eye(len(s))) / (2 * t * len(s)),
        ),
        ("softmax of bare cosines", "value", lambda s, t: (s.softmax(dim=1) - torch.eye(len(s))) / (t * len(s))),
        ("of one row", "shape", lambda s, t: ((s / t).softmax(dim=1) - torch.eye(len(s)))[0] / (t * len(s))),
    ],
    "multi_positive_loss": [
        ("the diagonal alone", "one positive", lambda logits, ids: -logits.log_softmax(dim=1).diag().mean()),
        ("spreads the target", "spread", spread_evenly),
        (
            "multiplies the probabilities",
            "product",
            lambda logits, ids: -(logits.log_softmax(dim=1) * (ids[:, None] == ids)).sum(dim=1).mean(),
        ),
        ("averages them", "average", lambda logits, ids: log_mean(logits.softmax(dim=1), ids, "average")),
        ("down the columns", "axis", lambda logits, ids: log_mean(logits.softmax(dim=0), ids)),
        ("sums the rows", "sum", lambda logits, ids: log_mean(logits.softmax(dim=1), ids) * len(ids)),
        ("forgets the minus", "sign", lambda logits, ids: -log_mean(logits.softmax(dim=1), ids)),
        (
            "fills with 0",
            "value",
            lambda logits, ids: (logits.logsumexp(1) - (logits * (ids[:, None] == ids)).logsumexp(1)).mean(),
        ),
        ("gives a loss a row", "shape", lambda logits, ids: logits.logsumexp(dim=1)),
        ("compares with its place", "value", lambda logits, ids: log_mean(logits.softmax(1), ids.clamp(max=5))),
    ],
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
    "drift": [
        ("absolute", "absolute", lambda a, b: {n: (b[n] - a[n]).norm().item() for n in floats(a)}),
        ("by the new norm", "new norm", lambda a, b: relative(b, a)),
        ("takes after for before", "new norm", lambda before, after: relative(after, before)),
        (
            "counts integers",
            "integers",
            lambda a, b: {n: (b[n] - a[n]).float().norm() / a[n].float().norm() for n in a},
        ),
        ("norm of an integer", "error", lambda a, b: {n: ((b[n] - a[n]).norm() / a[n].norm()).item() for n in a}),
        ("subtracts the norms", "difference of norms", lambda a, b: {n: turnless(a[n], b[n]) for n in floats(a)}),
        ("forgets the root", "squared", lambda a, b: {n: value**2 for n, value in relative(a, b).items()}),
        ("each element", "not one number", lambda a, b: {n: (b[n] - a[n]).abs() / a[n].norm() for n in floats(a)}),
        ("average of elements", "value", lambda a, b: {n: (b[n] - a[n]).abs().mean().item() for n in floats(a)}),
        ("the weights alone", "names", lambda a, b: {n: v for n, v in relative(a, b).items() if "weight" in n}),
        ("as a list", "type", lambda a, b: list(relative(a, b).values())),
        ("one number for all", "type", lambda a, b: sum(relative(a, b).values())),
    ],
    "parts": [
        ("one rate for all", "one rate", lambda m, lr, scale: by_part(m, lr, lr)),
        ("divides", "divided", lambda m, lr, scale: by_part(m, lr / scale, lr)),
        ("the wrong way round", "swapped", lambda m, lr, scale: by_part(m, lr, lr * scale)),
        ("all that is called image", "projection", lambda m, lr, scale: by_part(m, lr * scale, lr, "image")),
        ("forgets what is no encoder", "missing", lambda m, lr, scale: encoders_only(m, lr, scale)),
        ("frozen ones too", "frozen", lambda m, lr, scale: by_part(m, lr * scale, lr, frozen=True)),
        ("the encoder twice", "twice", lambda m, lr, scale: by_part(m, lr * scale, lr, twice=True)),
        ("takes the rate for the factor", "value", lambda m, lr, scale: by_part(m, scale, lr)),
        ("names", "not a parameter", lambda m, lr, scale: [{"params": list(dict(m.named_parameters())), "lr": lr}]),
        ("copies", "not a parameter", lambda m, lr, scale: [{"params": [p.clone() for p in m.parameters()], "lr": lr}]),
        ("compares tensors", "error", lambda m, lr, scale: [p for p in m.parameters() if p in [*m.parameters()][1:]]),
        ("no rates", "keys", lambda m, lr, scale: [{"params": list(m.parameters())}]),
        ("one group", "type", lambda m, lr, scale: {"params": list(m.parameters()), "lr": lr}),
        ("the optimizer", "type", lambda m, lr, scale: torch.optim.AdamW(by_part(m, lr * scale, lr))),
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
    "learning_rate": [
        ("begins with 0", "zero first step", lambda s, n, w, p: p * s / w if s < w else rate(s, n, w, p)),
        ("no warm-up", "warm-up", lambda s, n, w, p: p * cosine_of(s / n)),
        ("the peak a step late", "warm-up", lambda s, n, w, p: p * (s + 1) / (w + 1) if s < w else rate(s, n, w, p)),
        ("never halves", "half", lambda s, n, w, p: rate(s, n, w, p) * (1 if s < w else 2)),
        ("cosine alone", "negative", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * (2 * rate(s, n, w, 1) - 1)),
        ("cosine from step 0", "offset", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * cosine_of(s / n)),
        ("cosine over all steps", "end", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * cosine_of((s - w) / n)),
        ("a line down", "shape", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * (1 - (s - w) / (n - w))),
        ("forgets the peak", "peak", lambda s, n, w, p: rate(s, n, w, 1.0)),
        ("divides by 0", "no warm-up", lambda s, n, w, p: min(p * (s + 1) / w, rate(s, n, w, p))),
        ("gives a tensor", "type", lambda s, n, w, p: torch.tensor(rate(s, n, w, p))),
    ],
    "parameter_groups": [
        ("all in one", "vectors", lambda model, wd: [{"params": list(model.parameters()), "weight_decay": wd}]),
        ("no decay", "no decay", lambda model, wd: [{"params": list(model.parameters()), "weight_decay": 0.0}]),
        ("biases by name", "by name", groups_by(lambda name, p: "bias" in name or "bn" in name or "norm" in name)),
        ("biases only", "vectors", groups_by(lambda name, p: "bias" in name)),
        ("forgets logit_scale", "logit_scale", groups_by(lambda name, p: p.ndim == 1 or is_position(name))),
        ("forgets positions", "positions", groups_by(lambda name, p: p.ndim <= 1)),
        ("spares kernels", "matrices", groups_by(lambda name, p: p.ndim != 2 or is_position(name))),
        ("spares the text", "matrices", groups_by(lambda name, p: p.ndim <= 1 or name.startswith("text"))),
        ("its own decay", "value", lambda model, _: groups_by(lambda name, p: p.ndim <= 1)(model, 0.05)),
        ("matrices alone", "missing", lambda model, wd: groups_by(lambda name, p: p.ndim <= 1)(model, wd)[1:]),
        ("says no decay", "key", lambda model, wd: [{"params": list(model.parameters())}]),
        (
            "names",
            "foreign",
            lambda model, wd: [{"params": [n for n, _ in model.named_parameters()], "weight_decay": wd}],
        ),
        ("twice", "twice", lambda model, wd: 2 * groups_by(lambda name, p: p.ndim <= 1)(model, wd)),
        ("a generator", "type", lambda model, wd: model.parameters()),
    ],
    "training_step": [
        ("zero_grad after backward", "erased", step_of("backward zero clip step clamp")),
        ("no zero_grad", "zero_grad", step_of("backward clip step clamp")),
        ("no backward", "no backward", step_of("zero clip step clamp")),
        ("no step", "no step", step_of("zero backward clip clamp")),
        ("step before backward", "step first", step_of("step zero backward clip clamp")),
        ("no clipping", "not clipped", step_of("zero backward step clamp")),
        ("clips before backward", "not clipped", step_of("zero clip backward step clamp")),
        ("clips after step", "not clipped", step_of("zero backward step clip clamp")),
        ("clips each number", "weights", step_of("zero backward clip_value step clamp")),
        ("no clamp", "no clamp", step_of("zero backward clip step")),
        ("images to texts only", "one direction", step_of(loss_of=lambda m: -m.log_softmax(dim=1).diag().mean())),
        (
            "softmax over the other axis",
            "one direction",
            step_of(loss_of=lambda m: -m.log_softmax(dim=0).diag().mean()),
        ),
        ("adds both", "sum", step_of(loss_of=lambda m: 2 * mean_of_both(m))),
        ("no exp", "no exp", step_of(scale_of=lambda scale: scale)),
        ("divides by the scale", "value", step_of(scale_of=lambda scale: 1 / scale.exp())),
        ("sums over the batch", "value", step_of(loss_of=lambda m: len(m) * mean_of_both(m))),
        ("gives a tensor", "type", step_of(answer_of=lambda loss: loss)),
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
