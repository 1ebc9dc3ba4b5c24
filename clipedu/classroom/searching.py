"""Single shapes to classify, and the figures of notebook 07."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

from clipedu.classroom.lessons import emoji_data, never_seen
from clipedu.classroom.plots import curves, pictures, table, titled
from clipedu.classroom.recorded import Recording
from clipedu.classroom.view import Card, View, card, together
from clipedu.data.records import Record, read_records
from clipedu.data.scenes import COLOURS, NOVEL_PAIRS, SHAPES, draw_scene, random_scene
from clipedu.ground.files import whole_folder
from clipedu.search import Hit, ImageIndex
from clipedu.tokenizer import SimpleTokenizer

PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
CLASS_NAMES = {
    "en": [f"{colour} {shape}" for colour, shape in PAIRS],
    "zh": [f"{COLOURS[colour][0]}的{SHAPES[shape]}" for colour, shape in PAIRS],
}
MEANINGS = {  # of the English templates in the notebook, for readers of Chinese
    "a {}": "一个 {}",
    "there is one {}": "有一个 {}",
    "a picture of a {}": "画着一个 {}",
    "a photo of a {}": "一张 {} 的照片",
    "a {} left of a blue square": "一个 {} 在一个蓝色的正方形左边",
}
ERROR = "校准误差 | calibration error"
IS_SEEN = torch.tensor([pair not in NOVEL_PAIRS for pair in PAIRS])  # [48], which classes training has shown


class Shapes(NamedTuple):
    """Pictures of one shape each: uint8 `[N, 3, 64, 64]`, and the index of each one's class `[N]`."""

    pictures: Tensor
    labels: Tensor


def draw_shapes(each: int, seed: int) -> Shapes:
    """`each` new pictures of every pair of colour and shape, drawn like the single shapes of the sample data."""
    rng = random.Random(f"shapes {seed}")
    drawn = [draw_scene(random_scene(rng, [pair], single_share=1.0), 64) for pair in PAIRS for _ in range(each)]
    return Shapes(torch.stack([pil_to_tensor(one) for one in drawn]), torch.arange(len(PAIRS)).repeat_interleave(each))


def right_among_seen(scores: Tensor, labels: Tensor, draws: int = 20, seed: int = 0) -> float:
    """Of the pictures of unseen classes, the share that is right among its own class and 11 seen ones.

    The control for a choice among the 12 unseen classes alone: they have two colours of each shape, and so have these
    12, drawn anew `draws` times for each picture.
    """
    generator = torch.Generator().manual_seed(seed)
    mine = ~IS_SEEN[labels]
    scores, labels = scores[mine], labels[mine]
    itself = F.one_hot(labels, len(PAIRS)).bool()
    right = []
    for _ in range(draws):
        luck = torch.rand(scores.shape, generator=generator).masked_fill(~IS_SEEN, -1) + 2 * itself
        of_shape = luck.view(len(labels), len(COLOURS), len(SHAPES))  # [N, colours, shapes]
        allowed = of_shape >= of_shape.topk(2, dim=1).values[:, 1:]
        among = scores.masked_fill(~allowed.flatten(1), -torch.inf)
        right.append(among.argmax(dim=1) == labels)
    return torch.stack(right).float().mean().item()


class Calibration(NamedTuple):
    """Each bin's mean confidence, accuracy and count; the mean |confidence - accuracy|, weighted by the counts."""

    confidences: list[float]
    accuracies: list[float]
    counts: list[int]
    error: float


def calibration(confidence: Tensor, is_right: Tensor, bins: int = 10) -> Calibration:
    """How well `[N]` confidences match what is right, in equal bins; empty ones are left out."""
    number = (confidence * bins).long().clamp(0, bins - 1)
    sure, right, counts = [], [], []
    for one in number.unique().tolist():
        inside = number == one
        sure.append(confidence[inside].mean().item())
        right.append(is_right[inside].float().mean().item())
        counts.append(int(inside.sum()))
    gaps = [count * abs(a - b) for a, b, count in zip(sure, right, counts, strict=True)]
    return Calibration(sure, right, counts, sum(gaps) / len(confidence))


def emoji_folder() -> Path:
    """A folder with this computer's emoji; of those that differ in skin tone only, the one without.

    Raises:
        ClipEduError: there is no colour emoji font; the message says how to get one.
    """
    source = emoji_data()
    folder = source.parent / f"{source.name}_search"
    wanted = {record.image_path for record in emoji_records() if "skin tone" not in record.captions["en"][0]}
    if {path.name for path in folder.glob("*.png")} != {path.name for path in wanted}:
        shutil.rmtree(folder, ignore_errors=True)  # of another font
        with whole_folder(folder) as temporary:
            for path in wanted:
                shutil.copyfile(path, temporary / path.name)
    return folder


def emoji_records() -> list[Record]:
    """The pictures of all splits with their names in both languages."""
    return read_records(emoji_data())


def not_understood(tokenizer: SimpleTokenizer, text: str) -> Card | None:
    """A card if the tokenizer finds no words in the text, or names those it doesn't know; None if it knows all."""
    if not tokenizer.tokenize_text(text):
        return card(None, "里面没有词：请写一个词，例如「猫」", "there are no words in it: write one, such as cat")
    unknown = tokenizer.unknown_words(text)
    return never_seen(unknown) if unknown else None


def hits(index: ImageIndex, cosines: Tensor, numbers: Tensor) -> list[Hit]:
    """The pictures with these indices, and their cosines."""
    return [Hit(index.paths[one], cosine) for cosine, one in zip(cosines.tolist(), numbers.tolist(), strict=True)]


def show_hits(found: Sequence[Hit]) -> View:
    """Emoji that were found, with their cosines and names; a star marks those that training did not show."""
    names = {record.image_path.name: record.captions for record in emoji_records()}
    captions = [names[hit.path.name] for hit in found]
    notes = [f"{hit.similarity:.2f}" + ("" if hit.path.name.startswith("train") else " ★") for hit in found]
    english, chinese = ([caption[language][0] for caption in captions] for language in ("en", "zh"))
    return pictures([hit.path for hit in found], english, chinese, notes, width=72)


def buttons(paths: Sequence[Path], names: Sequence[str]) -> dict[str, int]:
    """For `explore`: what a button says, in both languages, and the index of the emoji with this English name."""
    by_file = {record.image_path.name: record.captions for record in emoji_records()}
    english = {by_file[path.name]["en"][0]: number for number, path in enumerate(paths)}
    chinese = {by_file[path.name]["en"][0]: by_file[path.name]["zh"][0] for path in paths}
    known = [name for name in names if name in english] or [*english][: len(names)]
    return {f"{chinese[name]} · {name}": english[name] for name in known}


def show_guesses(shown: Tensor, guesses: Tensor, labels: Tensor) -> View:
    """Pictures with the class that was guessed and, after a cross, the right one: a row of seen ones, one of unseen."""
    rows = []
    for title, part in (("见过的 | seen", IS_SEEN[labels]), ("没见过的 | unseen", ~IS_SEEN[labels])):
        pairs = list(zip(guesses[part].tolist(), labels[part].tolist(), strict=True))
        marks = ["✓" if guess == label else "✗" for guess, label in pairs]
        english, chinese = (
            [names[guess] if guess == label else f"{names[guess]} ≠ {names[label]}" for guess, label in pairs]
            for names in (CLASS_NAMES["en"], CLASS_NAMES["zh"])
        )
        rows.append(titled(pictures(list(shown[part]), english, chinese, marks, width=72), title))
    return together(*rows)


def english_names(paths: Sequence[Path]) -> list[str]:
    """The English names of these emoji."""
    names = {record.image_path.name: record.captions["en"][0] for record in emoji_records()}
    return [names[path.name] for path in paths]


def two_seeds(values: Sequence[float]) -> str:
    """0.914 and 0.942 as `0.91 / 0.94`."""
    return " / ".join(f"{value:.2f}" for value in values)


def shares_table(record: Recording, template: str) -> View:
    """What `benchmarks.zero_shot` measured with one template, on both seeds."""
    parts = {
        "seen": "见过的 | seen",
        "unseen": "没见过的 | unseen",
        "only_unseen": "没见过的，只在这 12 个里选 | unseen, choosing among the 12",
        "only_seen": "对照：它和 11 个见过的 | control: itself and 11 seen ones",
        "colour_right": "错的里面颜色对 | mistakes with the right colour",
        "shape_right": "错的里面形状对 | mistakes with the right shape",
    }
    rows = [
        [label, two_seeds([run["templates"][template][part] for run in record.results])]
        for part, label in parts.items()
    ]
    return table(["", "种子 0 / 1 | seeds 0 / 1"], rows)


def templates_table(record: Recording, templates: Sequence[str]) -> View:
    """Accuracy with each English template, or ensemble, on both seeds."""
    rows = []
    for template in templates:
        found = [run["templates"][f"en {template}"] for run in record.results]
        meaning = f"（{MEANINGS[template]}）" if template in MEANINGS else ""
        shares = [two_seeds([one[part] for one in found]) for part in ("seen", "unseen")]
        rows.append([f"{template}{meaning} | {template}", *shares])
    return table(["模板 | template", "见过的 | seen", "没见过的 | unseen"], rows, title="种子 0 / 1 | seeds 0 / 1")


def confidence_table(record: Recording, temperatures: Sequence[float]) -> View:
    """Confidence, calibration error and accuracy on both seeds; 0 is the temperature that each model learned."""
    rows = []
    for temperature in temperatures:
        found = [
            next(one for one in run["temperatures"] if not temperature or one["temperature"] == temperature)
            for run in record.results
        ]
        parts = ("seen_confidence", "seen_error", "unseen_confidence", "unseen_error")
        tau = " / ".join(f"{one['temperature']:.3f}" for one in found)
        rows.append([tau, *(two_seeds([one[part] for one in found]) for part in parts)])
    accuracies = [
        two_seeds([run["temperatures"][0][part] for run in record.results])
        for part in ("seen_accuracy", "unseen_accuracy")
    ]
    rows.append(["准确率 | accuracy", accuracies[0], "", accuracies[1], ""])
    columns = [
        "τ",
        "见过的：置信度 | seen: confidence",
        "见过的：校准误差 | seen: calibration error",
        "没见过的：置信度 | unseen: confidence",
        "没见过的：校准误差 | unseen: calibration error",
    ]
    return table(columns, rows, title="种子 0 / 1 | seeds 0 / 1")


def in_training(paths: Sequence[Path]) -> Tensor:
    """Which of these emoji training has shown, `[N]`."""
    return torch.tensor([path.name.startswith("train") for path in paths])


def with_unknown_words(tokenizer: SimpleTokenizer, texts: Sequence[str]) -> Tensor:
    """Which of these texts hold a word that training has not shown, `[N]`."""
    return torch.tensor([bool(tokenizer.unknown_words(text)) for text in texts])


def timed(search: Callable[[Tensor], Tensor], queries: Tensor) -> tuple[Tensor, float]:
    """What the search finds for each query, one at a time, and the seconds that all of them took."""
    start = time.perf_counter()
    found = torch.stack([search(query) for query in queries])
    return found, time.perf_counter() - start


def mixed_up(names: Sequence[str], seed: int, count: int = 300) -> list[str]:
    """Queries without a meaning: three words each, drawn from these names."""
    rng, words = random.Random(seed), [word for name in names for word in name.split()]
    return [" ".join(rng.sample(words, 3)) for _ in range(count)]


def trade_off(
    probes: Sequence[int], recalls: Mapping[str, Sequence[float]], speeds: Mapping[str, Sequence[float]]
) -> View:
    """Recall and speed against the number of cells that a query looks into."""
    x = "看几个单元 p | cells looked into, p"
    lost, fast = ({kind: (probes, line) for kind, line in lines.items()} for lines in (recalls, speeds))
    return together(
        curves(lost, x, "召回率 | recall", log_x=True),
        curves(fast, x, "快几倍 | times as fast", log_x=True, log_y=True),
    )


def groups(noise: float | None, count: int = 1000, width: int = 256) -> Callable[[int], Tensor]:
    """A function that draws unit vectors `[N, width]` around `count` random centres; without `noise`, around none."""
    centres = F.normalize(torch.randn(count, width), dim=1)

    def draw(number: int) -> Tensor:
        scattered = F.normalize(torch.randn(number, width), dim=1)
        if noise is None:
            return scattered
        return F.normalize(centres[torch.randint(count, (number,))] + noise * scattered, dim=1)

    return draw
