"""Two languages in one space (notebook 09): names of emoji in both, what a name finds, and the recorded runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from clipedu.classroom import plots
from clipedu.classroom.lessons import never_seen
from clipedu.classroom.recorded import Recording
from clipedu.classroom.view import Card, View, card
from clipedu.data.dataset import ImageTextDataset
from clipedu.search import nearest
from clipedu.tokenizer import SimpleTokenizer

LABELS = {
    "both": "标准 | standard",
    "halves": "每张图一个名字 | one name per picture",
    "concepts": "每种表情一种语言 | one language per kind",
    "swapped": "中文名配错图 | Chinese on wrong pictures",
    "two encoders": "两个文本编码器 | two text encoders",
    "two vocabularies": "两份词表 | two vocabularies",
    "en": "只有英文 | English only",
    "zh": "只有中文 | Chinese only",
    "en, half as long": "只有英文，一半步数 | English only, half the steps",
    "zh, half as long": "只有中文，一半步数 | Chinese only, half the steps",
    "from scratch": "标准，ResNet-18 从零训练 | standard, ResNet-18 from scratch",
}
_NAMES = {"en": "英文名 | English name", "zh": "中文名 | Chinese name"}


def names(dataset: ImageTextDataset) -> tuple[list[str], list[str]]:
    """The Chinese and the English name of each picture."""
    zh, en = ([record.captions[language][0] for record in dataset.records] for language in ("zh", "en"))
    return zh, en


def find(texts: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where the wanted names are; another font may lack some of them: then the first of all names instead."""
    if set(wanted) <= set(texts):
        return [texts.index(text) for text in wanted]
    return list(range(len(wanted)))


def without_tone(name: str) -> str:
    """An emoji's English name without its skin tones."""
    return " ".join(re.sub(r"((medium-)?(light|dark)|medium) skin tone", " ", name).split())


def show_guesses(dataset: ImageTextDataset, numbers: Sequence[int], guesses: Tensor) -> View:
    """Pictures, each with its Chinese name and the English name that was guessed.

    Behind a wrong guess stand its Chinese name and, in brackets, the right English one.
    """
    zh, en = names(dataset)
    notes = []
    for own in numbers:
        found = int(guesses[own])
        rest = "✓" if found == own else f"= {zh[found]} ✗ ({en[own]})"
        notes.append(f"{zh[own]} → {en[found]} {rest}")
    return plots.pictures([dataset.records[own].image_path for own in numbers], notes=notes)


def is_chinese(text: str) -> bool:
    """Whether there is a Chinese character in it."""
    return bool(re.search("[\u3400-\u9fff]", text))


def unreadable(tokenizer: SimpleTokenizer, text: str) -> Card | None:
    """What to tell someone whose text holds no word that the model knows."""
    words = list(dict.fromkeys(tokenizer.tokenize_text(text)))
    if not words:
        return card(None, "这里没有文字：请输入一个名字", "there are no words in this: type a name")
    unknown = tokenizer.unknown_words(text)
    return never_seen(unknown) if len(unknown) == len(words) else None


def show_names(
    dataset: ImageTextDataset, language: str, numbers: Tensor, cosines: Tensor, unknown: Sequence[str] = ()
) -> View:
    """Names that were found in one language, with their pictures and cosines; `unknown` are words of the query."""
    texts = [dataset.records[number].captions[language][0] for number in numbers.tolist()]
    paths: list[Path] = [dataset.records[number].image_path for number in numbers.tolist()]
    notes = [f"{text} {cosine:.2f}" for text, cosine in zip(texts, cosines.tolist(), strict=True)]
    title = _NAMES[language]
    if unknown:
        listed = ", ".join(unknown)
        zh, en = title.split(" | ")
        title = f"{zh}（训练中没有出现过：{listed}） | {en} (never seen in training: {listed})"
    return plots.titled(plots.pictures(paths, notes=notes), title)


def ranks(table: Tensor) -> Tensor:
    """In each row, the rank of the number on the diagonal, 1 for the largest; ties count against it."""
    return torch.stack([(row >= row[own]).sum() for own, row in enumerate(table)])


def matching(zh: Tensor, en: Tensor) -> tuple[float, float]:
    """The median of `ranks`, and the share of those that are 1."""
    found = ranks(zh @ en.T).float()
    return found.quantile(0.5).item(), (found == 1).float().mean().item()


def share_ahead(table: Tensor, rivals: Tensor) -> float:
    """In each row, what share of its rivals `[N, N]` is above the number on the diagonal; the mean of the rows."""
    rivals = rivals & ~torch.eye(len(table), dtype=torch.bool)
    counts = rivals.sum(dim=1)
    ahead = ((table > table.diag()[:, None]) & rivals).sum(dim=1)
    return (ahead / counts)[counts > 0].mean().item()


def nothing_in_common(tokenizer: SimpleTokenizer, zh: Sequence[str], en: Sequence[str]) -> Tensor:
    """Which pairs of names have no token in common, `[UNK]` included: no name may hold an unknown word."""
    apart = []
    for ours, theirs in zip(zh, en, strict=True):
        disjoint = set(tokenizer.tokenize_text(ours)).isdisjoint(tokenizer.tokenize_text(theirs))
        apart.append(disjoint and not tokenizer.unknown_words(f"{ours} {theirs}"))
    return torch.tensor(apart)


def mixed_search(own: Tensor, other: Tensor) -> tuple[float, float, float]:
    """Among the names of both languages except itself, what is nearest to each name of one: three shares.

    Its translation, another name of its own language, another name of the other one.
    """
    table = own @ torch.cat([other, own]).T  # (N, 2N)
    table[:, len(own) :].fill_diagonal_(-2)  # below every cosine
    found = table.argmax(dim=1)
    right = (found == torch.arange(len(own))).float().mean().item()
    same_language = (found >= len(own)).float().mean().item()
    return right, same_language, 1 - right - same_language


def translate(queries: Tensor, candidates: Tensor, top: int) -> Tensor:
    """The numbers of the nearest candidates of each query, `[Q, top]`."""
    return nearest(F.normalize(candidates, dim=1), F.normalize(queries, dim=1), top)[1]


def remove_language(zh: Tensor, en: Tensor) -> tuple[Tensor, Tensor]:
    """Both without the mean of their own language, with rows of length 1."""
    first, second = (F.normalize(each.sub(each.mean(dim=0)), dim=1) for each in (zh, en))
    return first, second


def language_reader(zh: Tensor, en: Tensor) -> Tensor:
    """Least squares: weights `[E + 1]`, the constant last, whose sum is about 1 for Chinese and -1 for English."""
    rows = with_constant(torch.cat([zh, en]))
    wanted = torch.cat([torch.ones(len(zh)), -torch.ones(len(en))])
    return torch.linalg.lstsq(rows, wanted[:, None], driver="gelsd").solution[:, 0]


def with_constant(rows: Tensor) -> Tensor:
    """A 1 behind each row, so that the last weight of a linear function is its constant."""
    return F.pad(rows, (0, 1), value=1.0)


def mean_cosines(before: Sequence[Tensor], after: Sequence[Tensor]) -> View:
    """A table of mean cosines before and after training: of translations, of others, and within each language."""
    columns = ["翻译 | translations", "其他 | others", "中文之间 | within Chinese", "英文之间 | within English"]
    rows = []
    for label, (zh, en) in {"训练之前 | before training": before, "训练之后 | after training": after}.items():
        others = ~torch.eye(len(zh), dtype=torch.bool)
        across = zh @ en.T
        cosines = across.diag(), across[others], (zh @ zh.T)[others], (en @ en.T)[others]
        rows.append([label, *(f"{values.mean() + 0.0:.2f}" for values in cosines)])
    return plots.table(["", *columns], rows)


def recorded_dots(record: Recording, arms: Sequence[str], group: str = "all") -> View:
    """From Chinese to English: R@1 among the test names, a dot for each seed; only names of the group are asked."""
    series = {LABELS[arm]: [run["matching"]["zh2en"][group]["R@1"] for run in record.where(arm=arm)] for arm in arms}
    return plots.dots(series, "R@1", LABELS["both"], title="中文找英文 | from Chinese to English")


def recorded_matching(record: Recording, arms: Sequence[str], groups: Mapping[str, str]) -> View:
    """A table of R@1 from Chinese to English, for each seed; `groups` names the columns by group.

    The last column says how many names the last group has.
    """
    rows = []
    for arm in arms:
        found = [run["matching"]["zh2en"] for run in record.where(arm=arm)]
        shares = [" / ".join(f"{each[group]['R@1']:.3f}" for each in found) for group in groups]
        counts = " / ".join(str(each[[*groups][-1]]["count"]) for each in found)
        rows.append([LABELS[arm], *shares, counts])
    columns = ["训练 | training", *groups.values(), "个数 | how many"]
    return plots.table(columns, rows)


def recorded_retrieval(record: Recording, arms: Sequence[str]) -> View:
    """A table of R@1 between texts and pictures, both ways, for each seed."""
    rows = []
    for arm in arms:
        runs = record.where(arm=arm)
        cells = []
        for language, way in itertools.product(("en", "zh"), ("t2i", "i2t")):
            scores = [run["test"][language][f"{way}_R@1"] for run in runs if language in run["test"]]
            cells.append(" / ".join(f"{score:.3f}" for score in scores) or "—")
        rows.append([LABELS[arm], str(runs[0]["epochs"]), *cells])
    ways = ["英文 → 图 | English → picture", "图 → 英文 | picture → English"]
    ways += ["中文 → 图 | Chinese → picture", "图 → 中文 | picture → Chinese"]
    return plots.table(["训练 | training", "轮 | epochs", *ways], rows)
