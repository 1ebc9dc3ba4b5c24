"""Single shapes to classify, and the figures of notebook 07."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

from clipedu.classroom.lessons import emoji_data, never_seen
from clipedu.classroom.plots import curves, pictures, table
from clipedu.classroom.recorded import Recording
from clipedu.classroom.view import Card, View, card, together
from clipedu.data.records import Record, read_records
from clipedu.data.scenes import COLOURS, NOVEL_PAIRS, SHAPES, draw_scene, random_scene
from clipedu.ground.errors import ClipEduError
from clipedu.ground.files import whole_folder
from clipedu.model import CLIP
from clipedu.search import Hit, ImageIndex
from clipedu.tokenizer import SimpleTokenizer

PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
CLASS_NAMES = {
    "en": [f"{colour} {shape}" for colour, shape in PAIRS],
    "zh": [f"{COLOURS[colour][0]}的{SHAPES[shape]}" for colour, shape in PAIRS],
}
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


def calibration(
    confidence: Tensor, is_right: Tensor, bins: int = 10
) -> tuple[list[float], list[float], list[int], float]:
    """Of `[N]` confidences in equal bins: each bin's mean confidence, accuracy and count, and the expected error.

    Empty bins are left out. The expected error is the mean of |confidence - accuracy| over the bins, by their counts.
    """
    number = (confidence * bins).long().clamp(0, bins - 1)
    sure, right, counts = [], [], []
    for one in number.unique().tolist():
        inside = number == one
        sure.append(confidence[inside].mean().item())
        right.append(is_right[inside].float().mean().item())
        counts.append(int(inside.sum()))
    gaps = [count * abs(a - b) for a, b, count in zip(sure, right, counts, strict=True)]
    return sure, right, counts, sum(gaps) / len(confidence)


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
    """Pictures with the class that was guessed; a cross marks a wrong guess."""
    marks = ["✓" if guess == label else "✗" for guess, label in zip(guesses.tolist(), labels.tolist(), strict=True)]
    english, chinese = ([CLASS_NAMES[code][guess] for guess in guesses.tolist()] for code in ("en", "zh"))
    return pictures(list(shown), english, chinese, marks, width=72)


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
        "only_unseen": "没见过的，12 选 1 | unseen, 1 of 12",
        "to_seen": "错答成见过的 | mistakes that are seen ones",
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
        rows.append([template, *(two_seeds([one[part] for one in found]) for part in ("seen", "unseen"))])
    return table(["模板 | template", "见过的 | seen", "没见过的 | unseen"], rows, title="种子 0 / 1 | seeds 0 / 1")


def confidence_table(record: Recording, temperatures: Sequence[float]) -> View:
    """Confidence and accuracy on both seeds; 0 is the temperature that each model learned."""
    rows = []
    for temperature in temperatures:
        found = [
            next(one for one in run["temperatures"] if not temperature or one["temperature"] == temperature)
            for run in record.results
        ]
        parts = ("temperature", "seen_confidence", "seen_accuracy", "unseen_confidence", "unseen_accuracy")
        rows.append([two_seeds([one[part] for one in found]) for part in parts])
    columns = [
        "τ",
        "见过的：置信度 | seen: confidence",
        "见过的：准确率 | seen: accuracy",
        "没见过的：置信度 | unseen: confidence",
        "没见过的：准确率 | unseen: accuracy",
    ]
    return table(columns, rows, title="种子 0 / 1 | seeds 0 / 1")


def scale_table(record: Recording) -> View:
    """Speed and recall of faiss's cells against exact search, by the number of vectors."""
    rows = []
    for size in record.results["sizes"]:
        way = size["ways"]["cells"]
        rows.append([f"{size['embeddings']:,}", f"{way['ratio']:.1f}", f"{way['recall_at_10']:.2f}"])
    return table(["向量 | vectors", "快几倍 | times as fast", "召回率 | recall"], rows)


def in_folder(model: CLIP, tokenizer: SimpleTokenizer, folder: str, sentence: str) -> View:
    """The pictures of a folder nearest to the sentence, or a card that says what is wrong with the folder."""
    try:
        found = ImageIndex(model, tokenizer, folder).search(sentence)
    except ClipEduError as error:
        return card(None, error.zh, error.en)
    except OSError:  # not even a possible name
        return card(None, "这不是文件夹：请换一个", "this is not a folder: choose another one")
    return pictures([hit.path for hit in found], notes=[f"{hit.similarity:.2f}" for hit in found])


def in_training(paths: Sequence[Path]) -> Tensor:
    """Which of these emoji training has shown, `[N]`."""
    return torch.tensor([path.name.startswith("train") for path in paths])


def mixed_up(names: Sequence[str], seed: int, count: int = 300) -> list[str]:
    """Queries without a meaning: three words each, drawn from all the names."""
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
