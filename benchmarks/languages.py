"""What holds two languages together? One recipe, with and without each cause, on emoji (notebook 09).

python -m clipedu create-dataset --kind emoji --out emoji
python -m benchmarks.languages             # all of it: about a quarter of an hour on two cores
python -m benchmarks.languages --resume    # goes on behind the last run that results/languages.json holds

The last arm is `clipedu train --pretrained none --language both`: ResNet-18 from random weights, as in the notebook.
All others leave an EfficientNet-Lite0 with ImageNet weights frozen, so that it never learns from a name and a run takes
seconds. They differ in which captions a picture has (`_EDITS`), in how long they train, and in whether the languages
share their text encoder. The test pictures are measured once, at the end of each run; nothing is chosen by them.
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import harness
from benchmarks.harness import read_options, small_model, write_result
from clipedu import CLIP, ImageEncoder, ImageTextDataset, SimpleTokenizer, TextEncoder, TrainConfig, evaluate, train
from clipedu.data.records import Record
from clipedu.embedding import embed_texts

Names = dict[str, list[str]]  # one picture's captions, by language


@dataclass(frozen=True)
class Arm:
    """A way to train.

    Attributes:
        language: which captions are drawn.
        share: of the recipe's epochs.
        edit: a key of _EDITS.
        encoders: 2 gives each language its own text encoder and projection.
        frozen: whether the image encoder is pretrained and frozen, or trained from random weights.
    """

    language: str = "both"
    share: float = 1.0
    edit: str = "none"
    encoders: int = 1
    frozen: bool = True


ARMS = {
    "both": Arm(),
    "halves": Arm(edit="halves"),
    "concepts": Arm(edit="concepts"),
    "swapped": Arm(edit="swapped"),
    "en": Arm("en"),
    "zh": Arm("zh"),
    "two encoders": Arm(edit="marked", encoders=2),
    "en, half as long": Arm("en", share=0.5),
    "zh, half as long": Arm("zh", share=0.5),
    "two vocabularies": Arm(edit="marked"),
    "from scratch": Arm(frozen=False),
}
FROZEN = TrainConfig(lr=1e-3, image_size=96)


def concept(name: str) -> str:
    """What the English name of an emoji has in common with those of its variants: no skin tone, no man or woman."""
    plain = re.sub(r"(medium-)?(light|dark|medium)? ?skin tone", " ", name)
    words = [word for word in SimpleTokenizer.tokenize_text(plain) if word not in ("man", "woman", "person")]
    return " ".join(words) or name


def _halves(records: list[Record], seed: int) -> list[Names]:
    """Each picture has one of its two names: no picture has both."""
    return [_one_language(record, Random(f"{seed} {i}").random() < 0.5) for i, record in enumerate(records)]


def _concepts(records: list[Record], seed: int) -> list[Names]:
    """As `_halves`, and all variants of an emoji have names in the same language."""
    return [
        _one_language(record, Random(f"{seed} {concept(record.captions['en'][0])}").random() < 0.5)
        for record in records
    ]


def _one_language(record: Record, chinese: bool) -> Names:
    silent = "en" if chinese else "zh"
    return {**record.captions, silent: []}


def _swapped(records: list[Record], seed: int) -> list[Names]:
    """Each picture has its English name, and the Chinese name of another picture."""
    order = swapped_order(len(records), seed)
    return [
        {"en": record.captions["en"], "zh": records[other].captions["zh"]}
        for record, other in zip(records, order, strict=True)
    ]


def swapped_order(count: int, seed: int) -> list[int]:
    """Whose Chinese name each picture gets: one long cycle, so that nobody keeps their own."""
    cycle = list(range(count))
    Random(seed).shuffle(cycle)
    follower = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    return [follower[index] for index in range(count)]


def _marked(records: list[Record], _seed: int) -> list[Names]:
    """No token occurs in both languages: "OK" in a Chinese name becomes "zhok"."""
    return [{"en": record.captions["en"], "zh": [_mark(text) for text in record.captions["zh"]]} for record in records]


def _mark(text: str) -> str:
    words = SimpleTokenizer.tokenize_text(text)
    return " ".join(f"zh{word}" if re.match("[a-z0-9]", word) else word for word in words)


_EDITS: dict[str, Callable[[list[Record], int], list[Names]]] = {
    "none": lambda records, _: [record.captions for record in records],
    "halves": _halves,
    "swapped": _swapped,
    "concepts": _concepts,
    "marked": _marked,
}


def edited(dataset: ImageTextDataset, edit: str, seed: int) -> ImageTextDataset:
    """The same pictures with other captions."""
    other = copy.copy(dataset)
    names = _EDITS[edit](dataset.records, seed)
    other.records = [replace(record, captions=own) for record, own in zip(dataset.records, names, strict=True)]
    return other


class TwoEncoders(nn.Module):
    """A text encoder and projection for each language; the token ids say which one reads a sentence."""

    def __init__(self, tokenizer: SimpleTokenizer, chinese_words: set[str], make: Callable[[], TextEncoder]) -> None:
        super().__init__()
        is_chinese = torch.tensor([word in chinese_words for word in tokenizer.id_to_token])
        self.is_chinese: Tensor
        self.register_buffer("is_chinese", is_chinese)
        readers = [make(), make()]
        self.readers = nn.ModuleList(readers)
        self.output_dim = readers[0].output_dim
        self.projections = nn.ModuleList([nn.Linear(self.output_dim, self.output_dim, bias=False) for _ in range(2)])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`[B, T]` to `[B, output_dim]`, as `TextEncoder`."""
        english, chinese = (
            project(read(input_ids, attention_mask))
            for read, project in zip(self.readers, self.projections, strict=True)
        )
        return torch.where(self.is_chinese[input_ids].any(dim=1, keepdim=True), chinese, english)


def build(arm: Arm, train_set: ImageTextDataset, seed: int) -> tuple[CLIP, SimpleTokenizer]:
    """An untrained model, determined by the seed, and a tokenizer with the words of `train_set`."""
    model, tokenizer = small_model(train_set, seed)
    if not arm.frozen:
        return model, tokenizer
    torch.manual_seed(seed)

    def make() -> TextEncoder:
        return TextEncoder(len(tokenizer), num_layers=1, dropout=0.1, pooling="mean")

    text_encoder: Any = make()
    if arm.encoders == 2:
        words = {word for text in train_set.all_captions("zh")[0] for word in SimpleTokenizer.tokenize_text(text)}
        text_encoder = TwoEncoders(tokenizer, words, make)
    image_encoder = ImageEncoder("efficientnet_lite0", pretrained=True, deep=True).freeze()
    model = CLIP(image_encoder, text_encoder, feature_dropout=0.2)
    if arm.encoders == 2:
        model.text_projection = nn.Identity()  # type: ignore[assignment]
    return model, tokenizer


def ranks(queries: Tensor, answers: Tensor, right: Tensor | None = None) -> Tensor:
    """The rank of each query's right answer, 1 for the first; ties count against it. Answer i belongs to query i."""
    similarity = queries @ answers.T
    right = torch.arange(len(queries)) if right is None else right
    own = similarity.gather(1, right[:, None])
    return (similarity >= own).sum(dim=1)


def summary(rank: Tensor) -> dict[str, float]:
    """R@1, R@5 and the median of these ranks."""
    shares = {f"R@{k}": round((rank <= k).float().mean().item(), 4) for k in (1, 5)}
    return {"count": len(rank), **shares, "median": rank.float().quantile(0.5).item()}


def matching(
    model: CLIP, tokenizer: SimpleTokenizer, english: list[str], chinese: list[str], plain_chinese: list[str]
) -> dict[str, Any]:
    """From each Chinese name to the English one among all of them, and back; for some groups of names, too."""
    en, zh = (embed_texts(model, tokenizer, texts) for texts in (english, chinese))
    groups = groups_of(tokenizer, english, chinese, plain_chinese)
    rank = ranks(zh, en)
    centred = [F.normalize(each - each.mean(dim=0), dim=1) for each in (zh, en)]
    return {
        "zh2en": {name: summary(rank[mask]) for name, mask in groups.items() if mask.any()},
        "en2zh": summary(ranks(en, zh)),
        "centred": summary(ranks(*centred)),
        "cosines": cosines(zh, en),
    }


def groups_of(
    tokenizer: SimpleTokenizer, english: list[str], chinese: list[str], plain_chinese: list[str]
) -> dict[str, Tensor]:
    """Which pairs of names belong to each group."""
    words = SimpleTokenizer.tokenize_text
    pairs = list(zip(english, chinese, plain_chinese, strict=True))
    known = torch.tensor([not (tokenizer.unknown_words(en) or tokenizer.unknown_words(zh)) for en, zh, _ in pairs])
    shared = torch.tensor([not set(words(en)).isdisjoint(words(zh)) for en, _, zh in pairs])
    tone = torch.tensor(["skin tone" in en for en in english])
    return {
        "all": torch.ones(len(english), dtype=torch.bool),
        "no shared word": ~shared,
        "known": known,
        "unknown": ~known,
        "skin tone": tone,
        "no skin tone": ~tone,
        "known, no skin tone": known & ~tone,
    }


def cosines(zh: Tensor, en: Tensor) -> dict[str, float]:
    """Mean cosines of pairs and of others, within each language and across, and how far apart the two means are."""
    off = ~torch.eye(len(zh), dtype=torch.bool)
    across = zh @ en.T
    values = {
        "pairs": across.diag().mean(),
        "across": across[off].mean(),
        "zh": (zh @ zh.T)[off].mean(),
        "en": (en @ en.T)[off].mean(),
        "gap": (zh.mean(dim=0) - en.mean(dim=0)).norm(),
    }
    return {name: round(value.item(), 4) for name, value in values.items()}


def run(arm: Arm, seed: int, epochs: int, train_set: ImageTextDataset, test_set: ImageTextDataset) -> dict[str, Any]:
    """Train one arm and measure it on the test pictures."""
    part = edited(copy.copy(train_set), arm.edit, seed)
    part.language, part.seed = arm.language, seed
    model, tokenizer = build(arm, part, seed)
    config = replace(FROZEN if arm.frozen else TrainConfig(), seed=seed, epochs=round(arm.share * epochs))
    start = time.process_time()
    train(model, tokenizer, part, config=config, quiet=True)
    seconds = time.process_time() - start
    marked = edited(test_set, "marked" if arm.edit == "marked" else "none", seed)
    marked.language = arm.language
    scores = evaluate(model, tokenizer, marked)
    english, chinese = ([record.captions[code][0] for record in marked.records] for code in ("en", "zh"))
    plain_chinese = [record.captions["zh"][0] for record in test_set.records]
    measured: dict[str, Any] = {
        "pictures": len(part),
        "captions": {code: len(part.all_captions(code)[0]) for code in ("en", "zh")},
        "words": len(tokenizer) - 4,
        "cpu_seconds": round(seconds, 1),
        "test": {code: {key: round(value, 4) for key, value in each.items()} for code, each in scores.items()},
    }
    if arm.language == "both":
        measured |= {"matching": matching(model, tokenizer, english, chinese, plain_chinese)}
    if arm.edit == "swapped":
        measured |= {"follows": follows(model, tokenizer, train_set, seed)}
    return measured


def follows(model: CLIP, tokenizer: SimpleTokenizer, train_set: ImageTextDataset, seed: int) -> dict[str, Any]:
    """After training with swapped names: does a Chinese name find its translation, or the one it shared pictures with?

    Among the English names of all training pictures.
    """
    en, zh = (
        embed_texts(model, tokenizer, [record.captions[code][0] for record in train_set.records])
        for code in ("en", "zh")
    )
    order = torch.tensor(swapped_order(len(zh), seed))
    return {"translation": summary(ranks(zh, en)), "same picture": summary(ranks(zh[order], en))}


def main() -> None:
    """Make every run and record the results after each."""
    options = read_options(
        __doc__, data_dir=Path("emoji"), name="languages", epochs=TrainConfig().epochs, seeds=[0, 1], arms=list(ARMS),
        resume=False,
    )  # fmt: skip
    train_set, test_set = (ImageTextDataset(options.data_dir, split, "both") for split in ("train", "test"))
    file = harness.FOLDER / f"{options.name}.json"
    results = json.loads(file.read_text(encoding="utf-8"))["results"] if options.resume else []
    todo = [(name, seed) for name in options.arms for seed in options.seeds]
    for name, seed in todo[len(results) :]:
        measured = run(ARMS[name], seed, options.epochs, train_set, test_set)
        results.append({"arm": name, "seed": seed, "epochs": round(ARMS[name].share * options.epochs)} | measured)
        print(results[-1], flush=True)
        write_result(options.name, results)


if __name__ == "__main__":
    main()
