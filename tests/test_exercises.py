"""Each exercise three ways: the starter gets a friendly card, the solution passes, wrong versions get the right hint.

In addition, no answer, however strange, makes a check raise.
"""

from __future__ import annotations

import ast
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipedu.classroom import check
from clipedu.classroom.checks.framework import Answer, alike, diagnosis
from clipedu.classroom.view import Card
from tests.lessons import NOTEBOOKS, Lesson, executed

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


# ------------------------------------------------------------------------------------------------ wrong versions

Groups = list[dict[str, Any]]


def lookup(words: list[str], vocabulary: dict[str, int]) -> list[int]:
    return [vocabulary.get(word, 1) for word in words]


def padded(rows: list[list[int]], filler: int = 0, width: int = 0) -> Tensor:
    width = width or max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def mask_of(rows: list[list[int]]) -> Tensor:
    return padded([[1] * len(row) for row in rows])


def field(layers: list[tuple[int, int]], own_stride: bool = False) -> int:
    seen, jump = 1, 1
    for kernel, stride in layers:
        seen += (kernel - 1) * jump * (stride if own_stride else 1)
        jump *= stride
    return seen


def drift_by(measure: Callable[[Tensor, Tensor], Any]) -> Callable[..., Any]:
    return lambda a, b: {name: measure(a[name], b[name]) for name in a if a[name].is_floating_point()}


def by_part(model: Any, image_lr: float, lr: float, prefix: str = "image_encoder", frozen: bool = False) -> Groups:
    groups: Groups = [{"params": [], "lr": lr}, {"params": [], "lr": image_lr}]
    for name, parameter in model.named_parameters():
        if frozen or parameter.requires_grad:
            groups[name.startswith(prefix)]["params"].append(parameter)
    return groups


def rate(step: int, total: int, warmup: int, peak: float) -> float:
    return peak * (step + 1) / warmup if step < warmup else peak * half_cosine((step - warmup) / (total - warmup))


def half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def groups_by(is_spared: Callable[[str, nn.Parameter], bool]) -> Callable[..., Groups]:
    def split(model: nn.Module, decay: float) -> Groups:
        groups: Groups = [{"params": [], "weight_decay": decay}, {"params": [], "weight_decay": 0.0}]
        for name, parameter in model.named_parameters():
            groups[is_spared(name, parameter)]["params"].append(parameter)
        return groups

    return split


spare_vectors = groups_by(lambda name, p: p.ndim <= 1)


def mean_of_both(logits: Tensor) -> Tensor:
    right = torch.arange(len(logits))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def step_of(order: str = "zero backward clip step clamp", **changed: Callable[[Tensor], Any]) -> Callable[..., Any]:
    """A training step with its parts in this order, and its scale, loss or return value replaced."""
    use: dict[str, Any] = {"scale": torch.exp, "loss": mean_of_both, "answer": Tensor.item, **changed}

    def step(model: Any, optimizer: Any, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Any:
        image_embedding, text_embedding = model(images, input_ids, attention_mask)
        loss = use["loss"](use["scale"](model.logit_scale) * image_embedding @ text_embedding.T)
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
        return use["answer"](loss)

    return step


def same(ids: Tensor) -> Tensor:
    return (ids[:, None] == ids).float()


def right(p: Tensor, ids: Tensor) -> Tensor:
    return (p * same(ids)).sum(dim=1)


WRONG: dict[str, list[tuple[str, str, Callable[..., Any]]]] = {  # by exercise: what is wrong, the reason, the code
    "row_loss": [
        ("forgets the minus", "sign", lambda c, p, t: (c / t).log_softmax(dim=0)[p]),
        ("gives the probability", "probability", lambda c, p, t: (c / t).softmax(dim=0)[p]),
        ("forgets the temperature", "no_temperature", lambda c, p, t: -c.log_softmax(dim=0)[p]),
        ("multiplies by the temperature", "multiplied", lambda c, p, t: -(c * t).log_softmax(dim=0)[p]),
        ("averages the row", "mean_over_the_row", lambda c, p, t: -(c / t).log_softmax(dim=0).mean()),
        ("bare exponentials", "overflow", lambda c, p, t: -((c / t).exp()[p] / (c / t).exp().sum()).log()),
        ("clamps the exponents", "sharp", lambda c, p, t: (c / t).clamp(-50, 50).logsumexp(dim=0) - (c / t)[p]),
        ("gives a float", "type", lambda c, p, t: (-(c / t).log_softmax(dim=0)[p]).item()),
        ("takes the first", "value", lambda c, p, t: -(c / t).log_softmax(dim=0)[0]),
        ("log to the base 2", "value", lambda c, p, t: -(c / t).log_softmax(dim=0)[p] / math.log(2)),
    ],
    "loss_gradient": [
        ("the other way round", "sign", lambda s, t: (torch.eye(len(s)) - (s / t).softmax(dim=1)) / (t * len(s))),
        ("only pushes", "positives", lambda s, t: (s / t).softmax(dim=1) / (t * len(s))),
        ("down the columns", "axis", lambda s, t: ((s / t).softmax(dim=0) - torch.eye(len(s))) / (t * len(s))),
        ("of the sum", "mean", lambda s, t: ((s / t).softmax(dim=1) - torch.eye(len(s))) / t),
        ("on the logits", "temperature", lambda s, t: ((s / t).softmax(dim=1) - torch.eye(len(s))) / len(s)),
        ("of both", "both_directions", lambda s, t: ((s / t).softmax(1) + (s / t).softmax(0) - 2 * torch.eye(3)) / 3),
        ("softmax of bare cosines", "value", lambda s, t: (s.softmax(dim=1) - torch.eye(len(s))) / (t * len(s))),
    ],
    "multi_positive_loss": [
        ("the diagonal alone", "one_positive", lambda m, ids: -m.log_softmax(dim=1).diag().mean()),
        ("spreads the target", "spread", lambda m, ids: F.cross_entropy(m, F.normalize(same(ids), p=1))),
        ("multiplies the probabilities", "product", lambda m, ids: -right(m.log_softmax(dim=1), ids).mean()),
        ("averages", "average", lambda m, ids: -(right(m.softmax(1), ids) / same(ids).sum(1)).log().mean()),
        ("down the columns", "axis", lambda m, ids: -right(m.softmax(dim=0), ids).log().mean()),
        ("sums the rows", "sum", lambda m, ids: -right(m.softmax(dim=1), ids).log().sum()),
        ("forgets the minus", "sign", lambda m, ids: right(m.softmax(dim=1), ids).log().mean()),
        ("fills with 0", "value", lambda m, ids: (m.logsumexp(1) - (m * same(ids)).logsumexp(1)).mean()),
        ("compares with its place", "value", lambda m, ids: -right(m.softmax(1), ids.clamp(max=5)).log().mean()),
    ],
    "split_words": [
        ("capitals stay", "case", lambda text: text.split()),
        ("cuts at spaces only", "punctuation", lambda text: text.lower().split()),
        ("knows a-z only", "chinese_deleted", lambda text: re.findall("[a-z0-9]+", text.lower())),
        ("takes Chinese for a word", "chinese_glued", lambda text: re.findall(r"\w+", text.lower())),
        ("cuts Chinese in pairs", "chinese", lambda text: re.findall("[一-龥]{1,2}|[a-z0-9]+", text.lower())),
        ("cuts into letters", "english", lambda text: list(text.lower().replace(" ", ""))),
        ("forgets digits", "mixed", lambda text: re.findall("[一-龥]|[a-z]+", text.lower())),
        ("gives a str", "type", lambda text: " ".join(re.findall("[一-龥]|[a-z0-9]+", text.lower()))),
        ("drops double words", "english", lambda text: list(dict.fromkeys(re.findall("[a-z]+", text.lower())))),
    ],
    "encode": [
        ("no special tokens", "cls", lambda words, v, n: lookup(words, v)),
        ("no [SEP]", "sep", lambda words, v, n: [2, *lookup(words, v)][:n]),
        ("counts from 0", "ids", lambda words, v, n: [2, *range(len(words)), 3]),
        ("looks up without [UNK]", "unknown", lambda words, v, n: [2, *(v[w] for w in words), 3]),
        ("leaves unknown words out", "unknown", lambda words, v, n: [2, *(v[w] for w in words if w in v), 3]),
        ("never truncates", "too_long", lambda words, v, n: [2, *lookup(words, v), 3]),
        ("forgets that [CLS] and [SEP] count", "too_long", lambda words, v, n: [2, *lookup(words, v)[:n], 3]),
        ("forgets that [SEP] counts", "too_long", lambda words, v, n: [2, *lookup(words, v)[: n - 1], 3]),
        ("cuts [SEP] off", "sep_cut", lambda words, v, n: [2, *lookup(words, v), 3][:n]),
        ("keeps the end, not the beginning", "truncation", lambda words, v, n: [2, *lookup(words, v)[2 - n :], 3]),
        ("gives a tensor", "type", lambda words, v, n: torch.tensor([2, *lookup(words, v)[: n - 2], 3])),
    ],
    "pad": [
        ("on the left", "left", lambda rows: (padded([row[::-1] for row in rows]).flip(1), mask_of(rows).flip(1))),
        ("fills with [UNK]", "pad_id", lambda rows: (padded(rows, 1), mask_of(rows))),
        ("loses [SEP]", "ids", lambda rows: (padded([row[:-1] for row in rows], width=4), mask_of(rows))),
        ("mask is the wrong way round", "inverted", lambda rows: (padded(rows), 1 - mask_of(rows))),
        ("mask is all ones", "mask_of_ones", lambda rows: (padded(rows), torch.ones_like(padded(rows)))),
        ("gives the ids as mask", "mask", lambda rows: (padded(rows), padded(rows))),
        ("pads to 77", "shape", lambda rows: (padded(rows, width=77), padded(rows, width=77) > 0)),
        ("cuts to the shortest", "shape", lambda rows: 2 * (torch.tensor([row[:3] for row in rows]),)),
        ("gives lists", "type", lambda rows: (padded(rows).tolist(), mask_of(rows).tolist())),
        ("gives ids alone", "type", padded),
        ("gives floats", "dtype", lambda rows: (padded(rows).float(), mask_of(rows))),
    ],
    "output_size": [
        ("divides with /", "float", lambda size, k, s, p: (size + 2 * p - k) / s + 1),
        ("forgets the first place", "minus_one", lambda size, k, s, p: (size + 2 * p - k) // s),
        ("rounds up", "plus_one", lambda size, k, s, p: -((size + 2 * p - k) // -s) + 1),
        ("forgets the kernel", "value", lambda size, k, s, p: (size + 2 * p) // s),
        ("forgets the stride", "value", lambda size, k, s, p: size + 2 * p - k + 1),
        ("divides by the stride alone", "value", lambda size, k, s, p: size // s),
        ("pads one side only", "minus_one", lambda size, k, s, p: (size + p - k) // s + 1),
        ("gives a str", "type", lambda size, k, s, p: str((size + 2 * p - k) // s + 1)),
    ],
    "mean_pool": [
        ("averages padding as well", "padding", lambda hidden, mask: hidden.mean(dim=1)),
        ("sums", "sum", lambda hidden, mask: (hidden * mask.unsqueeze(-1)).sum(dim=1)),
        ("divides by T", "divisor", lambda hidden, mask: (hidden * mask.unsqueeze(-1)).mean(dim=1)),
        ("takes [CLS]", "cls", lambda hidden, mask: hidden[:, 0]),
        ("averages over the width", "shape", lambda hidden, mask: hidden.mean(dim=-1)),
        ("takes the largest", "value", lambda hidden, mask: hidden.amax(dim=1)),
        ("forgets unsqueeze", "error", lambda hidden, mask: (hidden * mask).sum(dim=1)),
        ("averages the padding alone", "nan", lambda hidden, mask: hidden.mean(dim=1) / (1 - mask).sum(dim=1) * 0),
    ],
    "receptive_field": [
        ("adds the kernels", "sum_of_kernels", lambda layers: sum(kernel for kernel, _ in layers)),
        ("forgets the strides", "strides", lambda layers: 1 + sum(kernel - 1 for kernel, _ in layers)),
        ("lets a stride work on its own layer", "value", lambda layers: field(layers, own_stride=True)),
        ("begins at 0", "value", lambda layers: field(layers) - 1),
        ("multiplies instead of adding", "value", lambda layers: max(3, 3 ** len(layers))),
        ("gives a tensor", "type", lambda layers: torch.tensor(field(layers))),
    ],
    "normalize": [
        ("along the columns", "axis", lambda x: F.normalize(x, dim=0)),
        ("by the whole matrix", "whole_matrix", lambda x: x / x.norm()),
        ("without the square root", "square_root", lambda x: x / x.pow(2).sum(dim=-1, keepdim=True).clamp(1e-9)),
        ("L1", "L1", lambda x: F.normalize(x, p=1, dim=-1)),
        ("by the largest", "length", lambda x: x / x.amax(dim=-1, keepdim=True).clamp(1e-9)),
        ("LayerNorm", "length", lambda x: F.layer_norm(x, x.shape[-1:])),
        ("divides 0 by 0", "nan", lambda x: x / x.norm(dim=-1, keepdim=True)),
        ("forgets keepdim", "error", lambda x: x / x.norm(dim=-1)),
        ("gives zero a direction", "zero", lambda x: F.normalize(x + 1e-9)),
        ("loses the sign", "sign", lambda x: F.normalize(x.abs())),
    ],
    "cosine_matrix": [
        ("dot products", "not_normalized", lambda images, texts: images @ texts.T),
        ("normalizes images only", "one_side", lambda images, texts: F.normalize(images) @ texts.T),
        ("normalizes texts only", "one_side", lambda images, texts: images @ F.normalize(texts).T),
        ("texts down", "transposed", lambda images, texts: F.normalize(texts) @ F.normalize(images).T),
        ("columns", "value", lambda images, texts: F.normalize(images, dim=0) @ F.normalize(texts, dim=0).T),
        ("row by row", "error", F.cosine_similarity),
        ("softmax on top", "value", lambda images, texts: (F.normalize(images) @ F.normalize(texts).T).softmax(1)),
        ("forgets to transpose", "error", lambda images, texts: F.normalize(images) @ F.normalize(texts)),
    ],
    "drift": [
        ("absolute", "absolute", drift_by(lambda a, b: (b - a).norm())),
        ("by the new norm", "new_norm", drift_by(lambda a, b: ((b - a).norm() / b.norm()).item())),
        ("counts batches", "integers", lambda a, b: {n: (1.0 * b[n] - a[n]).norm() / (1.0 * a[n]).norm() for n in a}),
        ("norm of an integer", "error", lambda a, b: {n: ((b[n] - a[n]).norm() / a[n].norm()).item() for n in a}),
        ("subtracts the norms", "difference_of_norms", drift_by(lambda a, b: (b.norm() - a.norm()).abs() / a.norm())),
        ("forgets the root", "squared", drift_by(lambda a, b: (b - a).pow(2).sum() / a.pow(2).sum())),
        ("each element", "not_one_number", drift_by(lambda a, b: (b - a).abs() / a.norm())),
        ("average of elements", "value", drift_by(lambda a, b: (b - a).abs().mean().item())),
        ("the weights alone", "names", lambda a, b: {n: (b[n] - a[n]).norm() for n in a if "weight" in n}),
        ("as a list", "type", lambda a, b: [(b[n] - a[n]).norm() / a[n].norm() for n in a if "num" not in n]),
    ],
    "parts": [
        ("one rate for all", "one_rate", lambda m, lr, scale: by_part(m, lr, lr)),
        ("divides", "divided", lambda m, lr, scale: by_part(m, lr / scale, lr)),
        ("the wrong way round", "swapped", lambda m, lr, scale: by_part(m, lr, lr * scale)),
        ("all that is called image", "projection", lambda m, lr, scale: by_part(m, lr * scale, lr, "image")),
        ("only one encoder", "missing", lambda m, lr, scale: by_part(m.image_encoder, lr, lr * scale)),
        ("frozen ones too", "frozen", lambda m, lr, scale: by_part(m, lr * scale, lr, frozen=True)),
        ("an encoder twice", "twice", lambda m, lr, s: by_part(m.image_encoder, lr, lr * s) + by_part(m, lr, lr)),
        ("takes the rate for the factor", "value", lambda m, lr, scale: by_part(m, scale, lr)),
        ("names", "foreign", lambda m, lr, scale: [{"params": list(dict(m.named_parameters())), "lr": lr}]),
        ("copies", "foreign", lambda m, lr, scale: [{"params": [p.clone() for p in m.parameters()], "lr": lr}]),
        ("compares tensors", "error", lambda m, lr, scale: [p for p in m.parameters() if p in [*m.parameters()][1:]]),
        ("no rates", "key", lambda m, lr, scale: [{"params": list(m.parameters())}]),
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
        ("gives all", "shape", lambda similarity, k: similarity.argsort(dim=0, descending=True).T),
    ],
    "learning_rate": [
        ("begins with 0", "zero_first_step", lambda s, n, w, p: p * s / w if s < w else rate(s, n, w, p)),
        ("no warm-up", "warm_up", lambda s, n, w, p: p * half_cosine(s / n)),
        ("the peak a step late", "warm_up", lambda s, n, w, p: p * (s + 1) / (w + 1) if s < w else rate(s, n, w, p)),
        ("never halves", "half", lambda s, n, w, p: rate(s, n, w, p) * (1 if s < w else 2)),
        ("cosine alone", "negative", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * (2 * rate(s, n, w, 1) - 1)),
        ("cosine from 0", "offset", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * half_cosine(s / n)),
        ("over all steps", "end", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * half_cosine((s - w) / n)),
        ("a line down", "shape", lambda s, n, w, p: rate(s, n, w, p) if s < w else p * (1 - (s - w) / (n - w))),
        ("forgets the peak", "peak", lambda s, n, w, p: rate(s, n, w, 1.0)),
        ("divides by 0", "no_warm_up", lambda s, n, w, p: min(p * (s + 1) / w, rate(s, n, w, p))),
        ("gives a tensor", "type", lambda s, n, w, p: torch.tensor(rate(s, n, w, p))),
    ],
    "parameter_groups": [
        ("all in one", "vectors", lambda model, wd: [{"params": list(model.parameters()), "weight_decay": wd}]),
        ("no decay", "no_decay", lambda model, wd: [{"params": list(model.parameters()), "weight_decay": 0.0}]),
        ("biases by name", "by_name", groups_by(lambda name, p: "bias" in name or "bn" in name or "norm" in name)),
        ("biases only", "vectors", groups_by(lambda name, p: "bias" in name)),
        ("forgets logit_scale", "logit_scale", groups_by(lambda name, p: p.ndim == 1 or "position_emb" in name)),
        ("forgets positions", "positions", spare_vectors),
        ("spares kernels", "matrices", groups_by(lambda name, p: p.ndim != 2 or "position_embedding" in name)),
        ("spares the text", "matrices", groups_by(lambda name, p: p.ndim <= 1 or name.startswith("text"))),
        ("its own decay", "value", lambda model, _: spare_vectors(model, 0.05)),
        ("matrices alone", "missing", lambda model, wd: spare_vectors(model, wd)[:1]),
        ("says no decay", "key", lambda model, wd: [{"params": list(model.parameters())}]),
        ("names", "foreign", lambda model, wd: [{"params": list(dict(model.named_parameters())), "weight_decay": wd}]),
        ("twice", "twice", lambda model, wd: 2 * spare_vectors(model, wd)),
        ("a generator", "type", lambda model, wd: model.parameters()),
    ],
    "training_step": [
        ("zero_grad after backward", "erased", step_of("backward zero clip step clamp")),
        ("no zero_grad", "zero_grad", step_of("backward clip step clamp")),
        ("no backward", "no_backward", step_of("zero clip step clamp")),
        ("no step", "no_step", step_of("zero backward clip clamp")),
        ("step before backward", "step_first", step_of("step zero backward clip clamp")),
        ("no clipping", "not_clipped", step_of("zero backward step clamp")),
        ("clips before backward", "not_clipped", step_of("zero clip backward step clamp")),
        ("clips after step", "not_clipped", step_of("zero backward step clip clamp")),
        ("clips each number", "weights", step_of("zero backward clip_value step clamp")),
        ("no clamp", "no_clamp", step_of("zero backward clip step")),
        ("images to texts only", "one_direction", step_of(loss=lambda m: -m.log_softmax(dim=1).diag().mean())),
        ("the other axis only", "one_direction", step_of(loss=lambda m: -m.log_softmax(dim=0).diag().mean())),
        ("adds both", "sum", step_of(loss=lambda m: 2 * mean_of_both(m))),
        ("no exp", "no_exp", step_of(scale=lambda scale: scale)),
        ("divides by the scale", "value", step_of(scale=lambda scale: 1 / scale.exp())),
        ("sums over the batch", "value", step_of(loss=lambda m: len(m) * mean_of_both(m))),
        ("gives a tensor", "type", step_of(answer=lambda loss: loss)),
    ],
}


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
    ("too many arguments", lambda a, b, c, d, e, f: 1, {"signature"}),
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
