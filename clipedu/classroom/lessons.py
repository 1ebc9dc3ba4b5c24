"""Where the notebooks start: sample data, the same eight pairs, a model trained in a minute, an environment check."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from IPython.display import display
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from clipedu.classroom.plots import bars, loss_curve, pictures
from clipedu.classroom.source import ROOT
from clipedu.classroom.view import Card, View, both, card, together
from clipedu.classroom.widgets import TrainingMonitor
from clipedu.commands.check import check_environment
from clipedu.data.dataset import ImageTextDataset
from clipedu.data.emoji import create_emoji, emoji_names
from clipedu.data.loading import Pictures, open_pictures
from clipedu.data.pictures import load_image
from clipedu.data.records import Record
from clipedu.data.scenes import COLOURS, Scene, SceneObject, draw_scene
from clipedu.embedding import embed_images, embed_texts
from clipedu.encoders import ImageEncoder, TextEncoder
from clipedu.evaluation import Scores
from clipedu.ground.environment import cache_folder
from clipedu.ground.errors import DatasetError
from clipedu.ground.files import whole_file
from clipedu.model import CLIP, compute_similarity
from clipedu.optimization import TrainConfig
from clipedu.runs.checkpoint import load_model
from clipedu.runs.folder import clear_run
from clipedu.runs.history import StepRecord
from clipedu.tokenizer import SimpleTokenizer
from clipedu.training import Callback, train

# What decides the numbers of a run, as this process has loaded it.
_CORE = ("tokenizer", "encoders", "model", "loss", "optimization", "training", "data/*")
_SOURCES = [path.read_bytes() for name in _CORE for path in sorted((ROOT / "clipedu").glob(f"{name}.py"))]


def _origin(data_dir: Path) -> str:
    """What a run is made from now: it changes with the library's code and the data."""
    dataset = data_dir / "dataset.json"
    return hashlib.sha256(b"".join([*_SOURCES, dataset.read_bytes() if dataset.is_file() else b""])).hexdigest()


def _losses(run_dir: Path, data_dir: Path) -> list[float]:
    """The losses of the finished run in `run_dir`; none if it was made from other code or data."""
    path = run_dir / "losses.json"  # written last
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return record["losses"] if isinstance(record, dict) and record.get("origin") == _origin(data_dir) else []


def _own_folder(name: str, is_whole: Callable[[Path], object]) -> Path:
    """In the project, or in the user's cache if the project is read-only and what it contains is not whole."""
    shared = ROOT / "runs" / name
    existing = next(folder for folder in (shared, *shared.parents) if folder.is_dir())
    return shared if os.access(existing, os.W_OK) or is_whole(shared) else cache_folder() / name


SCENES = ROOT / "sample_data"
RUN_DIR = _own_folder("classroom", lambda folder: _losses(folder, SCENES))
EMOJI = _own_folder("classroom_emoji_data", lambda folder: (folder / "dataset.json").is_file())
EMOJI_RUN_DIR = _own_folder("classroom_emoji", lambda folder: _losses(folder, EMOJI))
_CHANGED = (
    "库的代码或数据变了，原来的模型不再相符：重新训练",
    "the library's code or the data has changed since the model was trained: training it again",
)
_EIGHT = (300, 322, 385, 358, 304, 310, 315, 348)  # numbers of test pictures: four with one object, four with two


_LOOK_AFTER = (10, 30)  # steps of the run, besides its start and end


class Moment(NamedTuple):
    """A model on its way: after how many steps, its cosines for the test pairs, and its temperature."""

    step: int
    cosines: Tensor  # [N, N], row i and column i belong together
    temperature: float


@dataclass(frozen=True)
class Example:
    """A picture with its first caption in each language."""

    path: Path
    image: Image.Image
    english: str
    chinese: str


def sample_data() -> Path:
    """The folder with the drawn scenes.

    Raises:
        DatasetError: the folder is missing; the message says how to create it.
    """
    if not (SCENES / "dataset.json").is_file():
        command = "python -m clipedu create-dataset --kind scenes --out sample_data"
        raise DatasetError(
            f"找不到示例数据 sample_data。请在终端进入 {ROOT.name} 文件夹，运行：{command}",
            f"the sample data is missing. In a terminal, in the folder {ROOT.name}, run: {command}",
        )
    return SCENES


def eight_pairs() -> list[Example]:
    """The eight test pairs used in every notebook."""
    records = {record.image_path.name: record for record in ImageTextDataset(sample_data(), "test", "both").records}
    chosen = [records[f"test_{number:04d}.png"] for number in _EIGHT]
    return [
        Example(record.image_path, load_image(record.image_path), record.captions["en"][0], record.captions["zh"][0])
        for record in chosen
    ]


def all_captions(split: str = "train", language: str = "both") -> list[str]:
    """All captions in one split of the sample data."""
    return ImageTextDataset(sample_data(), split, language).all_captions()[0]


def emoji_name_lists(seed: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The names of all emoji, without those that differ in skin tone only: some to learn from, and 400 new ones.

    `seed` decides which; both are lists by language, "en" and "zh", in the same order.
    """
    names = [(english, chinese) for _, english, chinese in emoji_names() if "skin tone" not in english]
    Random(seed).shuffle(names)
    new, known = ({"en": [en for en, _ in part], "zh": [zh for _, zh in part]} for part in (names[:400], names[400:]))
    return known, new


def small_clip(
    tokenizer: SimpleTokenizer, image_encoder: str = "efficientnet_lite0", pretrained: bool = True, seed: int = 0
) -> CLIP:
    """An untrained CLIP as used in these lessons: one Transformer layer, mean-pooled texts, 64 px.

    `seed` sets PyTorch's global random state, from which the random weights are drawn.
    """
    torch.manual_seed(seed)
    text_encoder = TextEncoder(len(tokenizer), num_layers=1, pooling="mean")
    return CLIP(ImageEncoder(image_encoder, pretrained), text_encoder, image_size=64)


class _Moments:
    """Looks at a model while it trains; a callback of `train`."""

    def __init__(self, model: CLIP, tokenizer: SimpleTokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.pictures, self.texts = three_hundred_pairs()
        self.seen: list[Moment] = []

    def __call__(self, record: StepRecord) -> None:
        if record["step"] in _LOOK_AFTER:
            self.look(record["step"])

    def look(self, step: int) -> None:
        images = embed_images(self.model, self.pictures)
        cosines = compute_similarity(images, embed_texts(self.model, self.tokenizer, self.texts))
        self.seen.append(Moment(step, cosines, math.exp(-self.model.logit_scale.item())))

    def save(self, path: Path) -> None:
        with whole_file(path) as temporary:
            torch.save([tuple(moment) for moment in self.seen], temporary)


def three_hundred_pairs() -> tuple[Tensor | Pictures, list[str]]:
    """The 300 test pictures at 64 px, and the first English caption of each."""
    test_set = ImageTextDataset(sample_data(), "test", "en")
    return open_pictures(test_set.image_paths(), 64), [record.captions["en"][0] for record in test_set.records]


def training_moments(run_dir: Path = RUN_DIR) -> list[Moment]:
    """What the model of `trained_model` made of the 300 test pairs before, during and after its training.

    Call `trained_model` first.
    """
    content = torch.load(run_dir / "moments.pt", weights_only=True)
    return [Moment(step, cosines, temperature) for step, cosines, temperature in content]


def trained_model(run_dir: Path = RUN_DIR) -> tuple[CLIP, SimpleTokenizer]:
    """A small bilingual CLIP: trained here in about a minute, with a live curve, or loaded if it already exists.

    If the library's code or the sample data has changed since, it is trained again.
    """
    return _train_once(run_dir, SCENES, TrainConfig(epochs=3), "efficientnet_lite0", keep_moments=True)


def emoji_data() -> Path:
    """The folder with this computer's emoji, which are drawn the first time.

    Raises:
        ClipEduError: there is no colour emoji font; the message says how to get one.
    """
    if not (EMOJI / "dataset.json").is_file():
        EMOJI.parent.mkdir(parents=True, exist_ok=True)
        create_emoji(EMOJI)
    return EMOJI


def emoji_model(run_dir: Path = EMOJI_RUN_DIR) -> tuple[CLIP, SimpleTokenizer]:
    """A ResNet-18 CLIP that knows emoji in both languages: trained from random weights, or loaded, as `trained_model`.

    Training takes about a minute and a half on two cores.
    """
    return _train_once(run_dir, emoji_data(), TrainConfig(epochs=10), "resnet18", pretrained=False)


def _train_once(
    run_dir: Path,
    data_dir: Path,
    config: TrainConfig,
    image_encoder: str,
    *,
    pretrained: bool = True,
    keep_moments: bool = False,
) -> tuple[CLIP, SimpleTokenizer]:
    """Train on both languages, with a live curve, unless the finished run of the same code and data is there."""
    final, record = run_dir / "checkpoints" / "final_model.pt", run_dir / "losses.json"
    chance = math.log(config.batch_size)
    if not (final.is_file() and _losses(run_dir, data_dir)):
        train_set = ImageTextDataset(sample_data() if data_dir == SCENES else data_dir, "train", "both")
        if final.is_file() and record.is_file():
            display(card(None, *_CHANGED))
        clear_run(run_dir)  # start over after an interruption: a resumed curve would lack its beginning
        record.unlink(missing_ok=True)
        tokenizer = SimpleTokenizer.from_texts(train_set.all_captions()[0])
        model = small_clip(tokenizer, image_encoder, pretrained, config.seed)
        monitor = TrainingMonitor(config.epochs * (len(train_set) // config.batch_size), chance)
        display(monitor)
        callbacks = [Callback(on_step=monitor)]
        if keep_moments:
            moments = _Moments(model, tokenizer)
            moments.look(0)
            callbacks.append(Callback(on_step=moments))
        history = train(model, tokenizer, train_set, config=config, run_dir=run_dir, callbacks=callbacks)
        monitor.close()
        if len(history) < config.epochs:
            raise KeyboardInterrupt  # the stop button: `train` keeps finished epochs, but the model is not trained
        if keep_moments:
            moments.look(len(monitor.losses))
            moments.save(run_dir / "moments.pt")
        with whole_file(record) as temporary:
            temporary.write_text(json.dumps({"origin": _origin(data_dir), "losses": monitor.losses}), encoding="utf-8")
    display(loss_curve(_losses(run_dir, data_dir), chance))
    return load_model(final)


def environment_card() -> View:
    """The environment check: one row per requirement, with a remedy for each one that is missing."""
    rows, lines = [], []
    for finding in check_environment(SCENES):
        mark, colour = ("[OK]", "#009E73") if finding.ok else ("[FAIL]", "#D55E00")
        texts = finding.found, finding.found_zh, finding.remedy_zh, finding.remedy_en
        found, found_zh, zh, en = (text.replace(f"{ROOT}/", "") for text in texts)
        remedy = "" if finding.ok else both(escape(zh), escape(en))
        cells = f"<b>{mark}</b>", _either(finding.name_zh, finding.name), _either(found_zh, found) + remedy
        row = "".join(f'<td style="text-align: left">{cell}</td>' for cell in cells)
        rows.append(f'<tr style="border-left: 6px solid {colour}">{row}</tr>')
        lines.append(f"{mark} {finding.name}: {found}" + ("" if finding.ok else f" | {zh} | {en}"))
    return View(f"<table>{''.join(rows)}</table>", "\n".join(lines))


def _either(zh: str, en: str) -> str:
    """HTML in both languages, or once where they are the same."""
    return escape(en) if zh == en else both(escape(zh), escape(en))


def coloured_star(blue: float, size: int = 64) -> Tensor:
    """A big five-pointed star as a picture `[1, 3, size, size]`, uint8; its colour goes from red (0) to blue (1)."""
    ends = zip(COLOURS["red"][1], COLOURS["blue"][1], strict=True)
    shade = tuple(round(blue * (last - first)) for first, last in ends)
    star = SceneObject("red", "star", "big", 48, 48, shade=(shade[0], shade[1], shade[2]))
    pixels = pil_to_tensor(draw_scene(Scene((star,), None, (172, 172, 172), 0), size))
    return pixels.unsqueeze(0)


def show_pairs(pairs: Sequence[Example]) -> View:
    """The pictures, each with its caption in both languages."""
    return pictures([pair.image for pair in pairs], [pair.english for pair in pairs], [pair.chinese for pair in pairs])


def show_guess(picture: Tensor, colours: Sequence[str], cosines: Tensor) -> View:
    """A picture `[1, 3, S, S]` with the colour whose sentence is nearest, above a bar for each colour's cosine."""
    labels = [f"{COLOURS[colour][0]} | {colour}" for colour in colours]
    values = {label: {"cos": cosine} for label, cosine in zip(labels, cosines.tolist(), strict=True)}
    seen = pictures([picture[0]], notes=[labels[int(cosines.argmax())]])
    return together(seen, bars(values, "余弦相似度 | cosine similarity"))


def recalls(scores: Scores) -> dict[str, dict[str, float]]:
    """Of the scores that `evaluate` returns, the recall at 1 and at 5 of each language, for `plots.bars`."""
    names = {"zh": "中文 | Chinese", "en": "英文 | English"}
    shown = ("i2t_R@1", "i2t_R@5", "t2i_R@1", "t2i_R@5")
    return {name: {one: scores[language][one] for one in shown} for language, name in names.items()}


def unseen_scenes() -> tuple[list[Record], Tensor | Pictures]:
    """The records and the pictures, at 64 px, of the splits `test` and `novel`."""
    records = [
        record for split in ("test", "novel") for record in ImageTextDataset(sample_data(), split, "both").records
    ]
    return records, open_pictures([record.image_path for record in records], 64)


def show_records(records: Sequence[Record], similarities: Tensor) -> View:
    """Pictures of a dataset, each with a similarity and its first caption in each language."""
    english, chinese = ([record.captions[language][0] for record in records] for language in ("en", "zh"))
    notes = [f"{similarity:.2f}" for similarity in similarities.tolist()]
    return pictures([record.image_path for record in records], english, chinese, notes)


def never_seen(words: Sequence[str]) -> Card:
    """A card that names words which the tokenizer doesn't know."""
    listed = ", ".join(words)
    return card(None, f"训练中没有出现过：{listed}。请换一种说法", f"never seen in training: {listed}. Try other words")
