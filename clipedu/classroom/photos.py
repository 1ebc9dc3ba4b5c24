"""The capstone: a folder of photos with a caption file, read, looked at, split and measured without being changed."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import math
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copyfile
from typing import TypeVar

import ipywidgets
import torch
from filelock import FileLock
from IPython.display import display
from PIL import Image, ImageChops
from torch import Tensor
from torch.nn import functional as F

from clipedu.classroom.lessons import never_seen
from clipedu.classroom.plots.images import pictures as show_pictures
from clipedu.classroom.plots.tables import table, titled
from clipedu.classroom.source import ROOT
from clipedu.classroom.view import View, card, together
from clipedu.classroom.widgets import TrainingMonitor
from clipedu.commands.arguments import FROZEN_DEFAULTS
from clipedu.data.captions import CaptionFile, read_captions
from clipedu.data.dataset import ImageTextDataset, caption_ids
from clipedu.data.emoji import draw_emoji, emoji_names, find_emoji_font
from clipedu.data.importing import ImportReport, import_captions
from clipedu.data.pictures import find_pictures
from clipedu.data.records import languages
from clipedu.embedding import embed_images, embed_texts
from clipedu.encoders import ImageEncoder, WordAverage
from clipedu.ground.environment import cache_folder
from clipedu.ground.errors import ClipEduError, DatasetError
from clipedu.ground.files import check_writable, read_text, whole_folder
from clipedu.model import CLIP, Ensemble, compute_similarity
from clipedu.optimization import TrainConfig
from clipedu.runs.features import frozen_features
from clipedu.search import ImageIndex
from clipedu.tokenizer import SimpleTokenizer

_Item = TypeVar("_Item")

FEWEST = 10  # pictures: with fewer, there is nothing to split
_PRACTICE = "practice_photos"
_SIZE, _EMOJI, _SHOTS = 128, 150, 2
_TABLES = {".csv", ".tsv", ".json", ".jsonl"}
_NOT_CAPTIONS = ("dataset.json", "left_out", "readme", "license")
_LANGUAGE_NAMES = {"zh": "中文 | Chinese", "en": "英文 | English"}
_LEAST_COMMON = 6  # each word of an emoji's name is in at least so many names


# ------------------------------------------------------------------------------------------------- a folder to practise


def practice_folder(folder: Path | None = None) -> Path:
    """A folder as people have it: 150 emoji, two shots of each, `captions.csv` in two languages, and a few faults.

    Drawn once, in seconds, and always the same: no seed changes it, and it appears complete or not at all.

    Raises:
        ClipEduError: there is no colour emoji font; the message says how to get one.
    """
    folder = folder or _own_folder()
    with _alone(folder):
        if not (folder / "captions.csv").is_file():
            _draw_practice(folder)
    return folder


def _draw_practice(folder: Path) -> None:
    font = find_emoji_font().load()
    rng = random.Random(0)
    names = _common_names()
    rng.shuffle(names)
    with whole_folder(folder) as new:
        rows, seen = list[tuple[str, str, str]](), set[bytes]()
        for symbol, english, chinese in names:
            drawn = draw_emoji(symbol, font, 112)
            if drawn is None or drawn.tobytes() in seen or len(seen) == _EMOJI:
                continue
            seen.add(drawn.tobytes())
            tint = [rng.randint(200, 250) for _ in range(3)]
            for _ in range(_SHOTS):
                name = f"IMG_{len(rows):04d}.png"
                _shot(drawn, tint, rng).save(new / name)
                rows.append((name, english, chinese))
        _add_faults(new, rows)
        with (new / "captions.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("photo", "caption_en", "caption_zh"), *rows])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time draws into a folder or imports from it: half of either is for nobody else to read."""
    name = hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:16]
    lock = None
    with suppress(OSError):  # another user's lock, or no place for one
        lock = FileLock(Path(tempfile.gettempdir()) / f"clipedu-{name}.lock").acquire()
    with lock or nullcontext():
        yield


def _own_folder() -> Path:
    shared = ROOT / "runs" / _PRACTICE
    with suppress(ClipEduError):
        if not (shared / "captions.csv").is_file():
            check_writable(shared)
        return shared
    return cache_folder() / _PRACTICE


def _common_names() -> list[tuple[str, str, str]]:
    """The emoji whose English names consist of words that occur in several names, without skin tones."""
    names = [name for name in emoji_names() if "skin tone" not in name[1]]
    words = Counter(word for _, english, _ in names for word in set(SimpleTokenizer.tokenize_text(english)))
    return [
        name for name in names if all(words[word] >= _LEAST_COMMON for word in SimpleTokenizer.tokenize_text(name[1]))
    ]


def _shot(drawn: Image.Image, tint: Sequence[int], rng: random.Random) -> Image.Image:
    """The emoji as a camera might see it a second later: a little moved, turned and lit differently."""
    side, light = rng.randint(105, 107), rng.randint(-3, 3)
    canvas = Image.new("RGB", (_SIZE, _SIZE), "white")
    corner = rng.randint(10, 12), rng.randint(10, 12)
    canvas.paste(drawn.resize((side, side), Image.Resampling.LANCZOS), corner)
    canvas = canvas.rotate(rng.uniform(-1, 1), Image.Resampling.BICUBIC, fillcolor="white")
    red, green, blue = (value + light for value in tint)
    return ImageChops.multiply(canvas, Image.new("RGB", canvas.size, (red, green, blue)))


def _add_faults(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    """What real folders have: a copy, a broken picture, a picture without words, a caption without a picture."""
    (first, *_), (second, *_) = rows[-2:]
    copyfile(folder / first, folder / second)
    (folder / "IMG_broken.png").write_bytes((folder / first).read_bytes()[:500])
    copyfile(folder / rows[0][0], folder / "IMG_silent.png")
    rows += [
        ("IMG_broken.png", *rows[-1][1:]),
        ("IMG_silent.png", "???", "？？？"),
        ("IMG_deleted.png", "a photo that is gone", "删掉的照片"),
    ]


# ------------------------------------------------------------------------------------------------- reading a folder


@dataclass
class Photos:
    """A folder of photos with their captions.

    Attributes:
        dataset: all usable pictures, of all splits.
        notes, left_out: what the import has to say, see `ImportReport`.
        image_size: the side in px at which the model will see them.
        has_splits: whether the caption file itself says which pictures are for training.
    """

    folder: Path
    dataset: ImageTextDataset
    notes: list[str]
    left_out: dict[str, list[str]]
    image_size: int
    has_splits: bool = False
    _features: list[Tensor] = field(default_factory=list)

    @property
    def is_practice(self) -> bool:
        return self.folder.name == _PRACTICE

    @property
    def languages(self) -> tuple[str, ...]:
        return languages(self.dataset.language)

    def __len__(self) -> int:
        return len(self.dataset)

    def part(self, numbers: Sequence[int]) -> ImageTextDataset:
        """The pictures with these numbers, as a dataset."""
        part = copy.copy(self.dataset)
        part.records = [self.dataset.records[number] for number in numbers]
        return part

    def captions(self, language: str, numbers: Sequence[int] | None = None) -> list[str]:
        """The first caption of each picture that has one in this language."""
        records = self.dataset.records if numbers is None else self.part(numbers).records
        return [record.captions[language][0] for record in records if record.captions[language]]

    def official(self) -> tuple[list[int], list[int]] | None:
        """The numbers for training and for testing, if the caption file has splits: `test`, or else `val`."""
        if not self.has_splits:
            return None
        splits = [record.split for record in self.dataset.records]
        held = "test" if "test" in splits else "val"
        train, test = ([n for n, split in enumerate(splits) if split == name] for name in ("train", held))
        return (train, test) if len(train) >= FEWEST and len(test) >= 2 else None

    def inputs(self, numbers: Sequence[int]) -> Tensor:
        """The frozen encoder's output for these pictures, float32 `[N, D]`: computed once for the whole folder."""
        if not self._features:
            self._features.append(frozen_features(frozen_encoder(), self.dataset.image_paths(), self.image_size))
        return self._features[0][list(numbers)]

    def features(self) -> Tensor:
        """The same for every picture, `[N, D]`, but each of its numbers has mean 0 and spread 1 over the folder."""
        raw = self.inputs(range(len(self)))
        return (raw - raw.mean(dim=0)) / (raw.std(dim=0) + 1e-6)

    def report(self) -> View:
        """What is used, what was left out and why."""
        rows = [("用上的照片 | photos used", f"{len(self):,}")]
        for code in self.languages:
            count = len(self.dataset.all_captions(code)[0])
            zh, en = _LANGUAGE_NAMES[code].split(" | ")
            rows.append((f"{zh}说明 | {en} captions", f"{count:,}"))
        for reason, names in self.left_out.items():
            zh, _, en = reason.partition(" | ")
            some = ", ".join(self._short(name) for name in names[:3]) + (" …" if len(names) > 3 else "")
            rows.append((f"略去：{zh} | left out: {en}", f"{len(names):,}: {some}"))
        rows += [("注意 | note", self._short(note)) for note in self.notes]
        return table(["内容 | what", "数 | count"], rows)

    def look(self) -> View:
        """The counts that decide what can be learned: repeats, lengths, words."""
        rows = []
        for code in self.languages:
            texts = self.dataset.all_captions(code)[0]
            words = [SimpleTokenizer.tokenize_text(text) for text in texts]
            counts = Counter(word for line in words for word in line)
            different = len(caption_ids(texts).unique())
            lengths = sorted(len(line) for line in words)
            numbers = len(texts), different, lengths[len(lengths) // 2], lengths[-1], len(counts)
            rare = sum(count <= 2 for count in counts.values())
            rows.append([_LANGUAGE_NAMES[code], *(f"{number:,}" for number in (*numbers, rare))])
        columns = ["语言 | language", "说明 | captions", "各不相同的 | different ones", "词数的中位数 | median words"]
        columns += [
            "最多的词数 | most words",
            "不同的词 | different words",
            "只出现一两次的词 | words seen once or twice",
        ]
        return table(columns, rows)

    def show(self, numbers: Sequence[int], notes: Sequence[str] = ()) -> View:
        """Pictures with their first captions."""
        records = self.part(numbers).records
        english, chinese = (
            [record.captions[code][0] if record.captions[code] else "" for record in records] for code in ("en", "zh")
        )
        return show_pictures([record.image_path for record in records], english, chinese, notes)

    def _short(self, text: str) -> str:
        return text.replace(f"{self.folder}/", "").replace(f"{self.folder}\\", "")


def open_folder(path: str | Path | None) -> Photos:
    """The photos in a folder and its sub-folders, with the caption file that lies in it; None for `practice_folder`.

    The folder stays as it is: the `dataset.json` that the import writes is read and removed again. One that is there
    already is used.

    Raises:
        ClipEduError: nothing can be learned from the folder; the message says what to do.
    """
    folder = practice_folder() if path is None else Path(path).expanduser()
    size = _SIZE if path is None else FROZEN_DEFAULTS["image_size"]
    if not folder.is_dir():
        raise DatasetError(
            f"找不到文件夹 {folder}：请把 PHOTOS 改成放照片的文件夹",
            f"there is no folder {folder}: set PHOTOS to the folder with your photos",
        )
    left_out: dict[str, list[str]] = {}
    if not find_pictures(folder, left_out):
        reasons = "".join(f"\n{len(names)} {reason}" for reason, names in left_out.items())
        raise DatasetError(
            f"{folder} 里没有照片（JPEG、PNG 等）：请换一个文件夹{reasons}",
            f"there are no photos (JPEG, PNG ...) in {folder}: choose another folder{reasons}",
        )
    notes: list[str] = []
    with _alone(folder):  # else one process would take the dataset.json of another's import for the folder's own
        if (folder / "dataset.json").is_file():
            dataset = _read(folder)
            splits = [record.split for record in dataset.records]
            has_splits = {"train", "val"} <= {*splits} and not _is_made_up(folder)
        else:
            dataset, report, has_splits = _import(folder)
            notes, left_out = report.notes, left_out | dict(report.left_out)
    left_out |= dataset.left_out
    if len(dataset) < FEWEST:
        raise DatasetError(
            f"{folder} 里只有 {len(dataset)} 张照片能用，至少要 {FEWEST} 张才分得开；请补上照片和说明",
            f"only {len(dataset)} of the photos in {folder} can be used, and splitting takes at least {FEWEST}; "
            "add photos and captions",
        )
    return Photos(folder, dataset, notes, left_out, size, has_splits)


def _read(folder: Path) -> ImageTextDataset:
    """All pictures that can be opened, with the captions in the languages that there are."""
    whole = ImageTextDataset.__new__(ImageTextDataset)
    for language in ("both", "en", "zh"):
        try:
            whole = ImageTextDataset(folder, None, language, skip_broken=True)
            break
        except DatasetError:
            if language == "zh":
                raise
    return whole


def _is_made_up(folder: Path) -> bool:
    """Whether the splits are those of `import_captions` for captions without any: every tenth picture is `val`."""
    records = json.loads(read_text(folder / "dataset.json"))
    return all(record.get("split") == ("val" if n % 10 == 9 else "train") for n, record in enumerate(records))


def _import(folder: Path) -> tuple[ImageTextDataset, ImportReport, bool]:
    files = _caption_files(folder)
    by_language: dict[str, list[Path]] = {"en": [], "zh": []}
    has_splits = False
    for path in files:
        for code in by_language:
            with suppress(DatasetError):
                found = read_captions(path, code)
                if _is_in(found, code):
                    by_language[code].append(path)
                    has_splits |= {"train", "val"} <= {row.split for row in found.rows}
    if not any(by_language.values()):
        read_captions(files[0])  # says what is wrong with it
        raise DatasetError(f"{files[0].name} 里没有说明文字", f"there are no captions in {files[0].name}")
    try:
        report = import_captions(folder, by_language["en"], by_language["zh"])
        return _read(folder), report, has_splits
    finally:
        (folder / "dataset.json").unlink(missing_ok=True)


def _caption_files(folder: Path) -> list[Path]:
    """The caption files in the folder itself: tables, or else text files, one for each picture or one for all."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    files = [path for path in files if not path.name.lower().startswith(_NOT_CAPTIONS)]
    tables = [path for path in files if path.suffix.lower() in _TABLES]
    texts = [path for path in files if path.suffix.lower() == ".txt"]
    found = tables or ([folder] if len(texts) > 1 and _beside(folder, texts) else texts)
    if not found:
        raise DatasetError(
            f"{folder} 里没有说明文件：请在照片旁边放一个 captions.csv，两列：photo,caption",
            f"there is no caption file in {folder}: put a captions.csv beside the photos, with two columns: "
            "photo,caption",
        )
    return found


def _beside(folder: Path, texts: Sequence[Path]) -> bool:
    """Whether most of the texts have a picture's name."""
    names = {path.stem for path in find_pictures(folder)}
    return sum(path.stem in names for path in texts) > len(texts) / 2


def _is_in(file: CaptionFile, language: str) -> bool:
    """Whether most of the captions are written in this language's script."""
    captions = [caption for row in file.rows for caption in row.captions]
    chinese = sum(any("\u4e00" <= letter <= "\u9fff" for letter in caption) for caption in captions)
    return bool(captions) and (chinese > len(captions) / 2) == (language == "zh")


# ------------------------------------------------------------------------------------------------- series and splits


def series(features: Tensor, threshold: float) -> list[int]:
    """A number for each picture: equal if a chain of pictures with cosines above the threshold joins them."""
    unit = F.normalize(features, dim=1)
    parent = list(range(len(unit)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    for start in range(0, len(unit), 1024):  # in parts: N x N cosines of a large folder would not fit into memory
        for row, column in (unit[start : start + 1024] @ unit.T > threshold).nonzero().tolist():
            one, other = sorted((root(start + row), root(column)))
            parent[other] = one
    numbers = {first: number for number, first in enumerate(dict.fromkeys(map(root, range(len(unit)))))}
    return [numbers[root(number)] for number in range(len(unit))]


def closest_pairs(features: Tensor, threshold: float, count: int = 2) -> list[tuple[float, int, int]]:
    """The pairs of pictures whose cosines are nearest to the threshold: `count` above it, then `count` below."""
    some = features[:2000]  # enough to look at
    cosines = F.normalize(some, dim=1) @ F.normalize(some, dim=1).T
    rows, columns = torch.triu_indices(len(some), len(some), offset=1)
    values = cosines[rows, columns]
    pairs = []
    for above in (True, False):
        distance = (values - threshold).abs().masked_fill((values > threshold) != above, torch.inf)
        for place in distance.topk(min(count, len(distance)), largest=False).indices.tolist():
            if math.isfinite(distance[place]):
                pairs.append((values[place].item(), int(rows[place]), int(columns[place])))
    return pairs


def show_series(photos: Photos, threshold: float) -> View:
    """How many series there are at this threshold, and the pairs of pictures nearest to it."""
    groups = series(photos.features(), threshold)
    alone = sum(count == 1 for count in Counter(groups).values())
    counts = table(
        ["照片 | photos", "组 | series", "独自成组的 | alone", "最大的组 | largest series"],
        [[f"{n:,}" for n in (len(groups), len({*groups}), alone, max(Counter(groups).values()))]],
    )
    views = [counts]
    pairs = closest_pairs(photos.features(), threshold)
    for title, wanted in (("算同一组 | one series", True), ("不算同一组 | not one series", False)):
        chosen = [pair for pair in pairs if (pair[0] > threshold) == wanted]
        numbers = [number for pair in chosen for number in pair[1:]]
        notes = [f"{pair[0]:.3f}" for pair in chosen for _ in pair[1:]]
        if numbers:
            views.append(titled(photos.show(numbers, notes), title))
    return together(*views)


def split_by_group(groups: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """The numbers of the pictures that stay, and of those in about `share` of the groups, which are held out."""
    names = list(dict.fromkeys(groups))
    random.Random(seed).shuffle(names)
    held = {*names[: min(max(1, round(share * len(names))), len(names) - 1)]}
    numbers = range(len(groups))
    return [n for n in numbers if groups[n] not in held], [n for n in numbers if groups[n] in held]


def one_of_each(numbers: Sequence[int], groups: Sequence[int]) -> list[int]:
    """The first picture of each group among these."""
    first: dict[int, int] = {}
    for number in numbers:
        first.setdefault(groups[number], number)
    return list(first.values())


# ------------------------------------------------------------------------------------------------- the model


def frozen_encoder() -> ImageEncoder:
    """The image encoder of `train --freeze-image-encoder`."""
    return ImageEncoder("efficientnet_lite0", deep=True).freeze()


def frozen_clip(tokenizer: SimpleTokenizer, members: int = 4, seed: int = 0) -> CLIP:
    """An untrained model as `train --image-encoder efficientnet_lite0 --freeze-image-encoder` builds it."""
    torch.manual_seed(seed)
    encoder, width = frozen_encoder(), FROZEN_DEFAULTS["embedding_dim"]

    def member() -> CLIP:
        text_encoder = WordAverage(len(tokenizer), dropout=FROZEN_DEFAULTS["dropout"])
        return CLIP(encoder, text_encoder, width, feature_dropout=FROZEN_DEFAULTS["feature_dropout"])

    return member() if members == 1 else Ensemble([member() for _ in range(members)])


def frozen_config(pictures: int, image_size: int, seed: int = 0) -> TrainConfig:
    """The settings of the same command: for few pictures with smaller batches, and at least 90 steps."""
    batch_size = min(FROZEN_DEFAULTS["batch_size"], max(2, pictures // 3))
    epochs = max(FROZEN_DEFAULTS["epochs"], math.ceil(90 / (pictures // batch_size)))
    config = TrainConfig(epochs=epochs, batch_size=batch_size, image_size=image_size, seed=seed)
    return replace(config, lr=FROZEN_DEFAULTS["lr"], weight_decay=FROZEN_DEFAULTS["weight_decay"])


def similarity(
    model: CLIP, tokenizer: SimpleTokenizer, photos: Photos, numbers: Sequence[int], language: str
) -> Tensor:
    """Cosines `[N, N]` of each first caption with each picture; row i and column i belong together."""
    described = [number for number in numbers if photos.dataset.records[number].captions[language]]
    texts = embed_texts(model, tokenizer, photos.captions(language, described))
    return compute_similarity(texts, embed_images(model, photos.inputs(described)))


def similarity_by_words(photos: Photos, known: Sequence[int], new: Sequence[int], language: str) -> Tensor:
    """The same without any training: find the known captions with the most words in common, then similar pictures.

    A word counts for more the rarer it is.
    """
    train, test = photos.captions(language, known), photos.captions(language, new)
    words = {word for caption in train for word in SimpleTokenizer.tokenize_text(caption)}
    column = {word: number for number, word in enumerate(sorted(words))}

    def bag(captions: Sequence[str]) -> Tensor:
        rows = torch.zeros(len(captions), len(column))
        for row, caption in zip(rows, captions, strict=True):
            row[[column[word] for word in SimpleTokenizer.tokenize_text(caption) if word in column]] = 1
        return rows

    known_bags = bag(train)
    weight = (len(train) / known_bags.sum(dim=0)).log()
    overlap = F.normalize(bag(test) * weight, dim=1) @ F.normalize(known_bags * weight, dim=1).T  # (new, known)
    unit = F.normalize(photos.features(), dim=1)
    records = photos.dataset.records
    kept, held = ([n for n in numbers if records[n].captions[language]] for numbers in (known, new))
    return (10 * overlap).softmax(dim=1) @ unit[kept] @ unit[held].T


def recall_interval(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval for a share: `hits` of `n`."""
    z, p = 1.96, hits / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def failures(similarity: Tensor, k: int) -> list[tuple[int, int]]:
    """(rank, number) of the `k` sentences whose own picture ranks worst; ties count against the model."""
    ranks = (similarity >= similarity.diag()[:, None]).sum(dim=1).tolist()
    return sorted(((rank, number) for number, rank in enumerate(ranks)), reverse=True)[:k]


# ------------------------------------------------------------------------------------------------- using it


class Search:
    """The whole folder as a search: `find(sentence)` shows the nearest pictures, or says which words are unknown."""

    def __init__(self, model: CLIP, tokenizer: SimpleTokenizer, photos: Photos) -> None:
        self.model, self.tokenizer, self.photos = model, tokenizer, photos
        self.index = ImageIndex(model, tokenizer, photos.folder)
        self._captions = {os.path.realpath(record.image_path): record.captions for record in photos.dataset.records}

    def find(self, sentence: str, top: int = 6) -> View:
        words = SimpleTokenizer.tokenize_text(sentence)
        unknown = self.tokenizer.unknown_words(sentence)
        if not words:
            return card(None, "这里没有词：请写几个词", "there are no words in this: write a few")
        if not {*words} - {*unknown}:
            return never_seen(unknown)
        hits = self.index.search(sentence, top)
        notes = [f"{hit.similarity:.2f}" for hit in hits]
        english, chinese = ([self._caption(hit.path, code) for hit in hits] for code in ("en", "zh"))
        found = show_pictures([hit.path for hit in hits], english, chinese, notes)
        return together(never_seen(unknown), found) if unknown else found

    def _caption(self, path: Path, language: str) -> str:
        return next(iter(self._captions.get(os.path.realpath(path), {}).get(language, [])), "")

    def classify(self, words: str, numbers: Sequence[int]) -> View:
        """Sort pictures by class words ("face, family"): accuracy where a caption holds exactly one of them."""
        names = [name.strip() for name in words.replace("，", ",").split(",") if name.strip()]
        language = "zh" if any("\u4e00" <= letter <= "\u9fff" for letter in words) else "en"
        if language not in self.photos.languages:
            return _other_language(language)
        unknown = [word for name in names for word in self.tokenizer.unknown_words(name)]
        if len(names) < 2 or unknown or not all(SimpleTokenizer.tokenize_text(name) for name in names):
            advice = card(
                None,
                "请写至少两个类别，都是训练说明里有的词，用逗号隔开",
                "write at least two classes, all words of the training captions, with commas between them",
            )
            return together(never_seen(unknown), advice) if unknown else advice
        truth = {}
        for number in numbers:
            captions = " ".join(self.photos.dataset.records[number].captions[language])
            said = {*SimpleTokenizer.tokenize_text(captions)}
            fitting = [i for i, name in enumerate(names) if {*SimpleTokenizer.tokenize_text(name)} <= said]
            if len(fitting) == 1:
                truth[number] = fitting[0]
        if not truth:
            return card(
                None,
                "没有一张留出的照片，说明里恰好有其中一个类别：换几个词",
                "no photo held out has exactly one of these classes in its captions: try other words",
            )
        return self._judge(names, truth)

    def _judge(self, names: Sequence[str], truth: Mapping[int, int]) -> View:
        images = embed_images(self.model, self.photos.inputs(list(truth)))
        cosines = compute_similarity(images, embed_texts(self.model, self.tokenizer, names))
        guesses = cosines.argmax(dim=1).tolist()
        right = sum(guess == wanted for guess, wanted in zip(guesses, truth.values(), strict=True))
        most = max(Counter(truth.values()).values())
        columns = ["照片 | photos", "对的 | right", "总答最常见的 | always the most frequent", "瞎猜 | guessing"]
        cells = [f"{len(truth)}", f"{right / len(truth):.2f}", f"{most / len(truth):.2f}", f"{1 / len(names):.2f}"]
        return table(columns, [cells])


def _other_language(language: str) -> View:
    zh, en = _LANGUAGE_NAMES[language].split(" | ")
    return card(
        None, f"这些照片没有{zh}说明：请用另一种语言", f"these photos have no captions in {en}: use the other language"
    )


def show_failures(
    photos: Photos,
    known: Sequence[int],
    numbers: Sequence[int],
    cosines: Tensor,
    worst: Sequence[tuple[int, int]],
    language: str,
) -> View:
    """Each picture that was searched for, followed by the picture that was found first, with all their captions.

    Beside its rank stand the rarest word of the sentence and how many training captions have it.
    """
    shown, notes = [], []
    for rank, number in worst:
        word, count = _rarest(photos, known, [numbers[number]], language)[0]
        shown += [numbers[number], numbers[int(cosines[number].argmax())]]
        notes += [f"名次 {rank}，{word} ×{count} | rank {rank}, {word} ×{count}", "找到的 | found"]
    records = photos.part(shown).records
    captions = [" · ".join(texts[0] for texts in record.captions.values() if texts) for record in records]
    return show_pictures([record.image_path for record in records], captions, captions, notes)


def _rarest(photos: Photos, known: Sequence[int], numbers: Sequence[int], language: str) -> list[tuple[str, int]]:
    """For each caption its rarest word, and how many training captions have it."""
    counts = Counter(
        word for caption in photos.captions(language, known) for word in {*SimpleTokenizer.tokenize_text(caption)}
    )
    captions = photos.captions(language, numbers)
    rarest = [min(SimpleTokenizer.tokenize_text(caption), key=lambda word: counts[word]) for caption in captions]
    return [(word, counts[word]) for word in rarest]


def by_rarest_word(
    photos: Photos, known: Sequence[int], numbers: Sequence[int], cosines: Tensor, language: str, least: int
) -> View:
    """Recall of sentences in which every word was seen in `least` training captions or more, and of the others."""
    rarest = _rarest(photos, known, numbers, language)
    ranks = {number: rank for rank, number in failures(cosines, len(cosines))}
    rows = []
    for name, wanted in (
        (f"至少 {least} 次 | at least {least} times", True),
        (f"少于 {least} 次 | fewer than {least}", False),
    ):
        chosen = [ranks[number] for number, (_, count) in enumerate(rarest) if (count >= least) == wanted]
        if chosen:
            right = chosen.count(1)
            low, high = recall_interval(right, len(chosen))
            cells = [f"{right / len(chosen):.2f}", f"{low:.2f} … {high:.2f}", f"{max(chosen)}"]
        rows.append([name, f"{len(chosen)}", *(cells if chosen else "———")])
    columns = ["最少见的词在训练里 | the rarest word, in training", "句子 | sentences", "R@1", "95%"]
    columns.append("最差的名次 | worst rank")
    return table(columns, rows)


def hits(cosines: Tensor, k: int = 1) -> int:
    """How many sentences have their own picture among the first `k`; ties count against the model."""
    return sum(rank <= k for rank, _ in failures(cosines, len(cosines)))


def intervals(tables: Mapping[str, Mapping[str, Tensor]]) -> View:
    """R@1 of several tables of cosines, by name and language, with Wilson's intervals."""
    rows = []
    for name, by_language in tables.items():
        for language, cosines in by_language.items():
            found, n = hits(cosines), len(cosines)
            low, high = recall_interval(found, n)
            numbers_of = [f"{found} / {n}", f"{found / n:.2f}", f"{low:.2f} … {high:.2f}"]
            rows.append([name, _LANGUAGE_NAMES[language], *numbers_of])
    return table(["方法 | method", "语言 | language", "对的 | right", "R@1", "95%"], rows)


def compared(cosines: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> View:
    """The same sentences by two methods: how often only one of them is right, and the first one's share of these."""
    rows = []
    for code in cosines:
        first, second = (
            {n for rank, n in failures(each[code], len(each[code])) if rank == 1} for each in (cosines, others)
        )
        only, differ = len(first - second), len(first ^ second)
        low, high = recall_interval(only, differ) if differ else (0.0, 1.0)
        cells = [f"{len(first & second)}", f"{only}", f"{differ - only}", f"{low:.2f} … {high:.2f}"]
        rows.append([_LANGUAGE_NAMES[code], *cells])
    columns = ["语言 | language", "都对 | both right", "只有前者对 | only the first", "只有后者对 | only the second"]
    return table([*columns, "前者的份额，95% | share of the first, 95%"], rows)


def recorded_recall(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> View:
    """Recall from a recording of benchmarks/flickr8k.py, one row for each language."""
    shown = ("t2i_R@1", "t2i_R@5", "t2i_R@10")
    rows = [[_LANGUAGE_NAMES[code], *(f"{scores[name]:.2f}" for name in shown)] for code, scores in results.items()]
    return table(["语言 | language", "R@1", "R@5", "R@10"], rows)


def sentences(photos: Photos) -> dict[str, str]:
    """What the search box holds at first, in each language."""
    if photos.is_practice:
        return {"zh": "坐轮椅的女人", "en": "woman in wheelchair"}
    first = {code: photos.captions(code)[0] for code in photos.languages}
    return {code: first.get(code) or next(iter(first.values())) for code in ("zh", "en")}


def assert_on_practice(photos: Photos, condition: bool) -> None:
    """What the text says of the practice folder must hold there; another folder may differ."""
    assert condition or not photos.is_practice


def progress(items: Sequence[_Item]) -> Iterator[_Item]:
    """The items, with a bar that moves on after each."""
    bar = ipywidgets.IntProgress(max=len(items))
    display(bar)
    for item in items:
        yield item
        bar.value += 1


def monitor(pictures: int, config: TrainConfig) -> TrainingMonitor:
    """A live loss curve for a run with this config, already displayed."""
    shown = TrainingMonitor(config.epochs * (pictures // config.batch_size), math.log(config.batch_size))
    display(shown)
    return shown
