"""Training runs that are looked at on the way, for notebook 06."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from IPython.display import display
from torch import Tensor, nn

from clipedu.classroom import plots
from clipedu.classroom.recorded import Recording, mean_and_range
from clipedu.classroom.view import View
from clipedu.classroom.widgets import TrainingMonitor
from clipedu.data.dataset import ImageTextDataset, caption_ids
from clipedu.data.pictures import load_pixels
from clipedu.data.records import Record
from clipedu.embedding import embed_images, embed_texts, model_inputs
from clipedu.loss import contrastive_loss
from clipedu.model import CLIP, compute_similarity
from clipedu.optimization import TrainConfig
from clipedu.runs.history import StepRecord
from clipedu.tokenizer import SimpleTokenizer
from clipedu.training import Callback, train

# In an order that gives a start the same colour in all figures: at most one of the two random networks is in each.
LABELS = {
    "fine-tuned": "微调 Lite0 | fine-tuned Lite0",
    "frozen": "冻结 Lite0 | frozen Lite0",
    "random": "随机 Lite0 | random Lite0",
    "random ResNet-18": "随机 ResNet-18 | random ResNet-18",
    "unfrozen": "先冻后放 Lite0 | frozen, then fine-tuned Lite0",
}
STAGES = ("conv_stem", *(f"blocks.{number}" for number in range(7)), "conv_head")
Recall = Callable[[Tensor, Tensor, int], tuple[float, float]]


@dataclass
class Run:
    """A finished run, on the CPU, and what was read at each look.

    Attributes:
        start: the image encoder's `state_dict()` before the first step.
        steps: after which steps it was looked at.
        train_losses: the mean training loss of the steps since the look before.
        val_losses: the loss on other pictures, see `val_loss`.
        recalls: recall at 1 on those pictures, image to text.
        rates: the learning rate of the step.
    """

    model: CLIP
    tokenizer: SimpleTokenizer
    start: dict[str, Tensor]
    steps: list[int] = field(default_factory=list)
    train_losses: list[float] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def follow(
    model: CLIP,
    tokenizer: SimpleTokenizer,
    train_set: ImageTextDataset,
    val_set: ImageTextDataset,
    config: TrainConfig,
    every: int,
    recall: Recall,
) -> Run:
    """Train with a live curve; after every `every` steps, measure loss and recall on `val_set`."""
    run = Run(model, tokenizer, copy.deepcopy(model.image_encoder.state_dict()))
    inputs = model_inputs(model, val_set, quiet=True)
    batch_size = min(config.batch_size, len(train_set))
    monitor = TrainingMonitor(config.epochs * (len(train_set) // batch_size), math.log(batch_size))

    def look(record: StepRecord) -> None:
        if record["step"] % every == 0:
            pictures = embed_images(model, inputs)
            run.steps.append(record["step"])
            run.rates.append(record["lr"])
            run.train_losses.append(sum(monitor.losses[-every:]) / every)
            run.val_losses.append(_loss(model, pictures, tokenizer, val_set))
            texts, text_to_image = val_set.all_captions()
            run.recalls.append(recall(pictures @ embed_texts(model, tokenizer, texts).T, text_to_image, 1)[0])

    display(monitor)
    callbacks = [Callback(on_step=monitor), Callback(on_step=look)]
    train(model, tokenizer, train_set, config=config, callbacks=callbacks, quiet=True)
    model.cpu()  # `train` leaves it on the GPU, if there is one
    return run


def val_loss(model: CLIP, tokenizer: SimpleTokenizer, dataset: ImageTextDataset, batch_size: int = 64) -> float:
    """The loss without dropout on the first caption of each picture, in batches as in training, in order."""
    pictures = embed_images(model, model_inputs(model, dataset, quiet=True))
    return _loss(model, pictures, tokenizer, dataset, batch_size)


def _loss(
    model: CLIP, pictures: Tensor, tokenizer: SimpleTokenizer, dataset: ImageTextDataset, batch_size: int = 64
) -> float:
    captions = [record.texts(dataset.language)[0] for record in dataset.records]
    texts, ids, scale = embed_texts(model, tokenizer, captions), caption_ids(captions), model.logit_scale.detach().cpu()
    whole = range(0, len(captions) - batch_size + 1, batch_size)
    rows = [slice(start, start + batch_size) for start in whole]
    losses = [contrastive_loss(pictures[part], texts[part], scale, caption_ids=ids[part]) for part in rows]
    return torch.stack(losses).mean().item()


def similarities(model: CLIP, tokenizer: SimpleTokenizer, dataset: ImageTextDataset) -> tuple[Tensor, Tensor]:
    """Cosines of all pictures with all captions, `[I, T]`, and each caption's picture, `[T]`."""
    texts, text_to_image = dataset.all_captions()
    pictures = embed_images(model, model_inputs(model, dataset, quiet=True))
    return compute_similarity(pictures, embed_texts(model, tokenizer, texts)), text_to_image


def fresh_statistics(model: CLIP, dataset: ImageTextDataset, batches: int = 10) -> CLIP:
    """A copy with the same weights, whose batch norm has averaged the first batches of 64 pictures, in plain order."""
    model = copy.deepcopy(model)
    for layer in model.image_encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain average, not a running one
    paths = dataset.image_paths()[: 64 * batches]
    with torch.no_grad():
        for start in range(0, len(paths), 64):
            pictures = torch.stack([load_pixels(path, model.image_size) for path in paths[start : start + 64]])
            model.image_encoder.train()(pictures)
    return model


def by_stage(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The convolution weights of EfficientNet-Lite0's nine stages, those of each as one vector."""
    vectors = {}
    for stage in STAGES:
        kernels = [w.flatten() for name, w in state.items() if name.startswith(f"model.{stage}") and w.ndim == 4]
        vectors[stage] = torch.cat(kernels)
    return vectors


def with_number(label: str, number: float) -> str:
    """The label with a number behind it, in each language."""
    digits = f"{number:.2f}" if number >= 0.01 else f"{number:.3f}"
    return " | ".join(f"{part} {digits}" for part in label.split(" | "))


def draw(runs: Mapping[str, Run], what: str, levels: Mapping[str, float] | None = None) -> View:
    """`recalls` or `val_losses` of several runs over their steps."""
    titles = {
        "recalls": "验证集，图找文 R@1 | validation set, image to text R@1",
        "val_losses": "验证损失 | validation loss",
    }
    lines = {LABELS[arm]: (run.steps, getattr(run, what)) for arm, run in runs.items()}
    marks = {with_number(name, value): value for name, value in (levels or {}).items()} or {"1/300": 1 / 300}
    return plots.curves(lines, "步 | step", "", marks, title=titles[what], log_y=what == "val_losses")


def last_look(runs: Mapping[str, Run]) -> View:
    """A table of what was read at the last look of each run."""
    rows = [
        [LABELS[arm], *(f"{value[-1]:.2f}" for value in (run.train_losses, run.val_losses, run.recalls))]
        for arm, run in runs.items()
    ]
    return plots.table(["起点 | start", "训练损失 | training loss", "验证损失 | validation loss", "R@1"], rows)


def show_errors(dataset: ImageTextDataset, errors: Sequence[tuple[float, int, int]]) -> View:
    """Pictures with their own caption and the one that was chosen: (lead in cosine, picture, the caption's picture)."""
    captions = {}
    for language in ("en", "zh"):
        texts = [record.captions[language][0] for record in dataset.records]
        captions[language] = [f"{texts[own]} → {texts[other]}" for _, own, other in errors]
    images = [dataset.records[own].image_path for _, own, _ in errors]
    return plots.pictures(images, captions["en"], captions["zh"], [f"{lead:.2f}" for lead, _, _ in errors], width=160)


def recorded_on_the_way(record: Recording) -> View:
    """Recall on the validation set over the steps of the recorded race: mean of the seeds, and their range."""
    lines, ranges = {}, {}
    for arm, label in LABELS.items():
        found = record.where(purpose="race", arm=arm)
        if found:
            recalls = [[seen["i2t_R@1"] for seen in run["val"]] for run in found]
            mean, ranges[label] = mean_and_range(recalls)
            lines[label] = [seen["step"] for seen in found[0]["val"]], mean
    title = "验证集，图找文 R@1 | validation set, image to text R@1"
    return plots.curves(lines, "步 | step", "R@1", {"1/300": 1 / 300}, title=title, ranges=ranges)


def recorded_results(record: Recording) -> View:
    """A table of the recorded race, and of the longer one: what each seed ended with."""
    rows = []
    for purpose in ("race", "long"):
        for arm, label in LABELS.items():
            found = record.where(purpose=purpose, arm=arm)
            if found:
                scores = " / ".join(f"{run['test']['i2t_R@1']:.2f}" for run in found)
                losses = " / ".join(f"{run['val'][-1]['loss']:.2f}" for run in found)
                seconds = f"{found[0]['cpu_seconds']:,.0f}"
                rows.append([label, f"× {found[0]['rate']:g}", str(found[0]["steps"]), scores, losses, seconds])
    columns = ["起点 | start", "学习率 | rate", "步 | steps", "测试 R@1 | test R@1"]
    return plots.table([*columns, "验证损失 | validation loss", "处理器秒数 | CPU seconds"], rows)


def recall_by_amount(record: Recording) -> dict[str, tuple[list[int], list[float]]]:
    """By arm: numbers of training pictures, and the recorded recall on the test set, the mean of the seeds."""
    lines = {}
    for arm in LABELS:
        if record.where(arm=arm, purpose="share"):
            runs = [run for run in record.where(arm=arm) if run["purpose"] in ("share", "race")]
            amounts = sorted({run["pictures"] for run in runs})
            scores = [[run["test"]["i2t_R@1"] for run in runs if run["pictures"] == amount] for amount in amounts]
            lines[arm] = amounts, [sum(values) / len(values) for values in scores]
    return lines


def recorded_amounts(record: Recording) -> View:
    """A table of recorded recall on the test set, by arm and by the amount of training pictures, for each seed."""
    rows = []
    for arm, (amounts, _) in recall_by_amount(record).items():
        runs = [run for run in record.where(arm=arm) if run["purpose"] in ("share", "race")]
        by_amount = [[run["test"]["i2t_R@1"] for run in runs if run["pictures"] == amount] for amount in amounts]
        rows.append([LABELS[arm], *(" / ".join(f"{score:.2f}" for score in scores) for scores in by_amount)])
    amounts = sorted({run["pictures"] for run in record.where(purpose="share") + record.where(purpose="race")})
    return plots.table(["起点 | start", *(f"{amount:,}" for amount in amounts)], rows)


def recorded_recall(record: Recording, pictures: int) -> View:
    """Recorded recall over the amount of training pictures, read off at `pictures`: between two runs, on a line."""
    lines: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    here = []
    for arm, (amounts, recalls) in recall_by_amount(record).items():
        here.append(float(np.interp(math.log(pictures), np.log(amounts), recalls)))
        lines[with_number(LABELS[arm], here[-1])] = amounts, recalls
    lines[f"{pictures:,}"] = [pictures] * len(here), here
    title = "测试集，图找文 R@1 | test set, image to text R@1"
    x = "训练图数 | training pictures"
    return plots.curves(lines, x, "R@1", {"1/300": 1 / 300}, title=title, log_x=True)


def agreement(queries: Sequence[Record], gallery: Sequence[Record], neighbours: Sequence[int]) -> dict[str, float]:
    """Shares of the queries whose neighbour in the gallery has the same colour, and the same shape."""
    same = torch.zeros(2)
    for query, place in zip(queries, neighbours, strict=True):
        ours, theirs = query.labels["en"].split(), gallery[place].labels["en"].split()
        same += torch.tensor([ours[0] == theirs[0], ours[1] == theirs[1]])
    colour, shape = (same / len(queries)).tolist()
    return {"颜色一样 | same colour": colour, "形状一样 | same shape": shape}
