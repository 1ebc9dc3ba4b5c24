"""Who is on the left? Sentences with their objects swapped, and a small model that can tell, for notebook 08."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count, islice

import torch
from IPython.display import display
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

from clipedu.classroom.plots import curves, table
from clipedu.classroom.plots import pictures as show_pictures
from clipedu.classroom.recorded import Recording, mean_and_range
from clipedu.classroom.view import View, card, together
from clipedu.classroom.widgets import TrainingMonitor
from clipedu.data.dataset import ImageTextDataset, caption_ids
from clipedu.data.loading import Pictures, epoch_batches, image_batches, in_order, open_pictures
from clipedu.data.scenes import COLOURS, RELATIONS, SHAPES, SIZES, Scene, SceneObject, draw_scene
from clipedu.embedding import embed_images, embed_texts
from clipedu.encoders import ImageEncoder, TextEncoder
from clipedu.loss import contrastive_loss
from clipedu.model import CLIP, inference
from clipedu.optimization import OptimizationState, TrainConfig
from clipedu.tokenizer import SimpleTokenizer

_ZH_COLOURS = {english: chinese for english, (chinese, _) in COLOURS.items()}
_ZH_SHAPES = "|".join(sorted(SHAPES.values(), key=len, reverse=True))  # 圆环 before 圆
_OBJECT = re.compile(
    rf"(?:small|big) (?:{'|'.join(COLOURS)}) \w+|(?:{'|'.join(_ZH_COLOURS.values())})的[大小](?:{_ZH_SHAPES})"
)
Negative = Callable[[str], str | None]


def objects_in(sentence: str) -> list[str]:
    """The objects that a sentence of sample_data names, in its own words."""
    return _OBJECT.findall(sentence)


def swap_objects(sentence: str) -> str | None:
    """The sentence with its two objects in each other's place; None if it doesn't have two."""
    found = _OBJECT.findall(sentence)
    if len(found) != 2:
        return None
    places = iter(found[::-1])
    return _OBJECT.sub(lambda _: next(places), sentence)


def named_last(sentence: str) -> str:
    """A Chinese caption like "A的左边是B", as "B在A的左边": the same said with B first; other Chinese ones stay.

    In sample_data, both Chinese captions of a picture begin with the same object; its English ones do not.
    """
    found = _OBJECT.findall(sentence)
    if len(found) != 2 or f"{found[0]}在" in sentence:
        return sentence
    place = next(relation.chinese for relation in RELATIONS.values() if relation.chinese in sentence)
    return f"一个{found[1]}在一个{found[0]}的{place}"


def recolour(sentence: str) -> str | None:
    """The sentence of two objects with the first one's colour changed, always in the same way; None for others."""
    found = _OBJECT.findall(sentence)
    if len(found) != 2:
        return None
    names = list(_ZH_COLOURS.values()) if "的" in found[0] else list(COLOURS)
    old = next(name for name in names if name in found[0])
    new = names[(names.index(old) + 3) % len(names)]
    return sentence.replace(found[0], found[0].replace(old, new), 1)


def meaning(sentence: str) -> str:
    """An English caption with two objects, said with "left of" or "above" only: equal for all captions of a scene."""
    for relation, opposite in (("right of", "left of"), ("below", "above")):
        if f" {relation} " in sentence:
            return (swap_objects(sentence) or "").replace(f" {relation} ", f" {opposite} ")
    return sentence


def only(negative: Negative, *words: str) -> Negative:
    """`negative` for sentences with one of these words, None for all others."""
    return lambda sentence: negative(sentence) if any(word in sentence for word in words) else None


def ordered_captions(dataset: ImageTextDataset, language: str) -> tuple[list[str], Tensor]:
    """All captions with two objects, and the number of each one's picture."""
    texts, owner = dataset.all_captions(language)
    kept = [number for number, text in enumerate(texts) if swap_objects(text)]
    return [texts[number] for number in kept], owner[kept]


def probe(
    model: CLIP,
    tokenizer: SimpleTokenizer,
    dataset: ImageTextDataset,
    images: Tensor | Pictures,
    language: str,
    words: Sequence[str] = (),
) -> float:
    """Share of the captions (those with one of `words`, if any) that beat themselves with the objects swapped.

    A difference below 1e-5 is rounding, and so a tie, which counts as wrong.
    """
    texts, owner = ordered_captions(dataset, language)
    kept = [n for n, text in enumerate(texts) if not words or any(word in text for word in words)]
    texts, owner = [texts[n] for n in kept], owner[kept]
    pictures = embed_images(model, images)[owner]
    own = (pictures * embed_texts(model, tokenizer, texts)).sum(dim=1)
    other = (pictures * embed_texts(model, tokenizer, [swap_objects(text) or "" for text in texts])).sum(dim=1)
    return (own > other + 1e-5).float().mean().item()


def mirrored(pictures: Tensor, texts: Sequence[str], owner: Tensor) -> Tensor:
    """The picture of each text, `[T, 3, S, S]`, with its two objects exchanged: left-right or upside down."""
    own = pictures[owner.tolist()]
    across = torch.tensor([bool(re.search("left|right|左|右", text)) for text in texts])
    return torch.where(across[:, None, None, None], own.flip(-1), own.flip(-2))


class Corners(ImageEncoder):
    """A trained Lite0 read in its middle: the average of a layer over each cell of a grid.

    Nothing here learns. `cells` is the side of the grid: 2 for four quarters, 1 for the average of the whole picture, 0
    for what the network itself returns at its end.
    """

    def __init__(self, encoder: ImageEncoder, cells: int = 2, layer: str = "blocks.4") -> None:
        nn.Module.__init__(self)
        self.encoder, self.cells, self.layer = encoder, cells, layer
        self.model_name, self.output_dim = encoder.model_name, 112 * cells**2 or encoder.output_dim
        self.deep, self.frozen = True, True  # CLIP puts each feature on the same scale
        encoder.freeze()

    def forward(self, images: Tensor) -> Tensor:
        """`[B, 3, S, S]` to `[B, output_dim]`."""
        if not self.cells:
            return self.encoder(images)
        seen: list[Tensor] = []
        hook = self.encoder.model.get_submodule(self.layer).register_forward_hook(lambda *call: seen.append(call[2]))
        try:
            self.encoder(images)
        finally:
            hook.remove()
        return F.adaptive_avg_pool2d(seen[0], self.cells).flatten(1)

    def train(self, mode: bool = True) -> Corners:
        nn.Module.train(self, False)
        return self


def corner_model(trained: CLIP, tokenizer: SimpleTokenizer, cells: int = 2, seed: int = 0, width: int = 128) -> CLIP:
    """A CLIP whose picture side is that of `trained`, fixed and read in corners; its text side starts from scratch."""
    torch.manual_seed(seed)
    text_encoder = TextEncoder(len(tokenizer), width, num_layers=1, num_heads=4, dropout=0.0, pooling="mean")
    # A louder start for words and positions, five and ten times the usual: order was learned sooner in a trial.
    for start in (text_encoder.token_embedding, text_encoder.position_embedding):
        nn.init.normal_(start.weight, std=0.1)
    pictures = Corners(copy.deepcopy(trained.image_encoder).cpu(), cells)
    return CLIP(pictures, text_encoder, 128, image_size=64, feature_dropout=0.1)


def features_of(model: CLIP, dataset: ImageTextDataset) -> Tensor:
    """What the model's fixed picture side sees in every picture, `[N, output_dim]`, computed once."""
    pictures = open_pictures(dataset.image_paths(), 64)
    with inference(model):
        batches = image_batches(pictures, in_order(len(dataset), 256))
        return torch.cat([model.image_encoder(batch) for batch in batches])


def teach(
    model: CLIP,
    tokenizer: SimpleTokenizer,
    train_set: ImageTextDataset,
    features: Tensor,
    steps: int,
    negative: Negative | None = None,
    seed: int = 0,
    lr: float = 3e-3,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train text side and projections on the pictures' features; `negative` makes wrong sentences out of right ones."""
    config = TrainConfig(lr=lr, seed=seed)
    state = OptimizationState.start(model, config, steps)
    torch.manual_seed(seed)
    epochs = (epoch_batches(len(train_set), config.batch_size, seed, epoch) for epoch in count(1))
    for step, rows in enumerate(islice(chain.from_iterable(epochs), steps), 1):
        model.train()
        train_set.set_epoch(step)
        captions = [train_set.caption(row) for row in rows]
        wrong = [text for text in map(negative, captions) if text] if negative else []
        tokens = tokenizer(captions + wrong, padding="longest")
        pictures = model.encode_images(features[rows])
        texts = model.encode_texts(tokens["input_ids"], tokens["attention_mask"])
        own, hard = texts[: len(rows)], texts[len(rows) :] if wrong else None
        ids = caption_ids(captions)
        loss = contrastive_loss(pictures, own, model.logit_scale, caption_ids=ids, hard_negatives=hard)
        state.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        state.optimizer.step()
        state.scheduler.step()
        model.clamp_logit_scale()
        on_step(step, loss.item())


def hard_negative_loss(images: Tensor, texts: Tensor, hard: Tensor, logit_scale: Tensor) -> Tensor:
    """What exercise 8.2 builds: the library's loss with these hard negatives, `[M, E]`."""
    return contrastive_loss(images, texts, logit_scale, hard_negatives=hard)


def with_two(dataset: ImageTextDataset) -> ImageTextDataset:
    """The pictures with two objects, as a separate dataset."""
    part = copy.copy(dataset)
    part.records = [record for record in dataset.records if swap_objects(record.captions["en"][0])]
    return part


def changed_order(
    model: CLIP, tokenizer: SimpleTokenizer, texts: Sequence[str], negative: Negative = swap_objects
) -> float:
    """The mean cosine between each sentence and what `negative` makes of it."""
    made = [negative(text) or text for text in texts]
    return (embed_texts(model, tokenizer, texts) * embed_texts(model, tokenizer, made)).sum(dim=1).mean().item()


THINGS = {
    f"{COLOURS[colour][0]}的{SIZES[size][0]}{SHAPES[shape]} · {size} {colour} {shape}": SceneObject(colour, shape, size)
    for size, colour, shape in (
        ("big", "red", "circle"),
        ("big", "blue", "square"),
        ("small", "green", "star"),
        ("big", "yellow", "ring"),
        ("small", "white", "triangle"),
    )
}
PLACES = {f"{relation.chinese} · {english}": english for english, relation in RELATIONS.items()}


def two_scenes(first: str, place: str, second: str) -> tuple[list[str], list[str], Tensor]:
    """A scene and the same with its objects exchanged, for keys of THINGS and PLACES.

    Returns the English sentences, the Chinese ones, and the pictures `[2, 3, 64, 64]`.
    """
    english, chinese, drawn = [], [], []
    dx, dy = RELATIONS[PLACES[place]].direction
    for one, other in ((first, second), (second, first)):
        here = replace(THINGS[one], x=48 + 22 * dx, y=48 + 22 * dy)
        there = replace(THINGS[other], x=48 - 22 * dx, y=48 - 22 * dy)
        scene = Scene((here, there), PLACES[place], (172, 172, 172), 0)
        captions = scene.captions()
        english.append(captions[0][0])
        chinese.append(captions[1][0])
        drawn.append(pil_to_tensor(draw_scene(scene, 64)))
    return english, chinese, torch.stack(drawn)


def ask(model: CLIP, tokenizer: SimpleTokenizer, first: str, place: str, second: str) -> View:
    """What a model makes of two scenes that differ in who is where: two pictures, two sentences, four cosines.

    The last row is each picture's own sentence minus the other one: above 0, the model is right.
    """
    if first == second:
        return card(
            None, "两个物体相同，换了也一样：请选两个不同的", "swapping equal objects changes nothing: choose two"
        )
    english, chinese, pictures = two_scenes(first, place, second)
    seen = embed_images(model, pictures)
    cosines = {
        "en": seen @ embed_texts(model, tokenizer, english).T,
        "zh": seen @ embed_texts(model, tokenizer, chinese).T,
    }
    rows = []
    for n in range(2):
        cells = [" | ".join(f"{cosines[code][picture, n]:.3f}" for code in ("zh", "en")) for picture in range(2)]
        rows.append([f"{chinese[n]} | {english[n]}", *cells])
    lead = {code: four.diag() - four.flip(1).diag() for code, four in cosines.items()}
    cells = [" | ".join(f"{lead[code][picture]:+.3f}" for code in ("zh", "en")) for picture in range(2)]
    rows.append(["自己的句子 − 另一句 | own sentence − the other", *cells])
    marks = ["图 A | picture A", "图 B | picture B"]
    return together(show_pictures([*pictures], notes=marks), table(["句子 | sentence", *marks], rows))


def recorded_arms(arms: Mapping[tuple[str, str], str], *records: Recording) -> View:
    """A table of the recorded runs, by (arm, language): the probe by kind of relation, and recall at the end."""
    rows = []
    for (arm, language), label in arms.items():
        runs = [run for record in records for run in record.where(arm=arm, language=language)]
        kinds = [" / ".join(f"{run['kinds'][kind]:.2f}" for run in runs) for kind in ("left, right", "above, below")]
        recall = [" / ".join(f"{run['test'][name]:.2f}" for run in runs) for name in ("i2t_R@1", "i2t_R@5")]
        rows.append([label, language, *kinds, *recall])
    probes = ["探针，左右 | probe, left-right", "探针，上下 | probe, above-below"]
    return table(["难负样本 | hard negatives", "语言 | language", *probes, "R@1", "R@5"], rows)


def recorded_on_the_way(record: Recording, arms: Mapping[tuple[str, str], str]) -> View:
    """The probe over the steps: the mean of the seeds, and their range."""
    lines, ranges = {}, {}
    for (arm, language), label in arms.items():
        found = record.where(arm=arm, language=language)
        mean, ranges[label] = mean_and_range([[seen["probe"] for seen in run["readings"]] for run in found])
        lines[label] = [seen["step"] for seen in found[0]["readings"]], mean
    return curves(lines, "步 | step", "探针 | probe", {"0.5": 0.5}, ranges=ranges)


def teach_live(
    model: CLIP,
    tokenizer: SimpleTokenizer,
    train_set: ImageTextDataset,
    features: Tensor,
    steps: int,
    negative: Negative | None,
    seed: int,
) -> list[float]:
    """`teach` with a bar and a live curve; returns the losses."""
    monitor = TrainingMonitor(steps, math.log(64))
    display(monitor)

    def on_step(step: int, loss: float) -> None:
        monitor({"epoch": 1, "step": step, "loss": loss, "lr": 0.0, "logit_scale": 0.0})

    teach(model, tokenizer, train_set, features, steps, negative, seed, on_step=on_step)
    return monitor.losses


def linear_reader(x: Tensor, train_set: ImageTextDataset, x_test: Tensor, test_set: ImageTextDataset) -> float:
    """How often a linear reader of features tells who is where: fitted on some pictures, measured on others.

    It reads, by ridge regression, which colour, shape and size lies in each of the four directions.
    """
    mean, spread = x.mean(dim=0), x.std(dim=0) + 1e-3
    x, x_test = (x - mean) / spread, (x_test - mean) / spread
    targets = torch.stack([_where(record.captions["en"][0]) for record in train_set.records])  # (N, 64)
    own = torch.stack([_where(record.captions["en"][0]) for record in test_set.records])
    other = torch.stack([_where(swap_objects(record.captions["en"][0]) or "") for record in test_set.records])
    centre = targets.mean(dim=0)
    ridge = x.T @ x + 1000 * torch.eye(x.shape[1])
    read = x_test @ torch.linalg.solve(ridge, x.T @ (targets - centre)) + centre
    return ((read * own).sum(dim=1) > (read * other).sum(dim=1)).float().mean().item()


def _where(caption: str) -> Tensor:
    """Of an English caption with two objects: a 1 for each property in each direction, `[64]`."""
    properties = [*COLOURS, *SHAPES, *SIZES]
    place = next(name for name in RELATIONS if f" {name} " in caption)
    found = torch.zeros(len(RELATIONS), len(properties))
    for thing, where in zip(_OBJECT.findall(caption), (place, RELATIONS[place].opposite), strict=True):
        for word in thing.split():
            found[list(RELATIONS).index(where), properties.index(word)] = 1
    return found.flatten()


def two_by_two(model: CLIP, tokenizer: SimpleTokenizer, dataset: ImageTextDataset, language: str) -> Tensor:
    """Cosines `[N, 2, 2]` for all captions with two objects: scene and mirror image, with each one's own sentence."""
    texts, owner = ordered_captions(dataset, language)
    pictures = torch.cat([*image_batches(open_pictures(dataset.image_paths(), 64), in_order(len(dataset), 256))])
    both = torch.stack([embed_images(model, pictures)[owner], embed_images(model, mirrored(pictures, texts, owner))], 1)
    swapped = [swap_objects(text) or "" for text in texts]
    sentences = torch.stack([embed_texts(model, tokenizer, texts), embed_texts(model, tokenizer, swapped)], 1)
    return both @ sentences.transpose(1, 2)  # (N, 2, E) @ (N, E, 2)


def both_ways(cosines: Tensor) -> tuple[float, float]:
    """How often the scene chooses its own sentence, and how often scene and mirror image both do; a tie is wrong."""
    margin = torch.stack([cosines[:, 0, 0] - cosines[:, 0, 1], cosines[:, 1, 1] - cosines[:, 1, 0]])
    is_right = margin > 1e-5  # below that, it is rounding
    return is_right[0].float().mean().item(), is_right.all(dim=0).float().mean().item()
