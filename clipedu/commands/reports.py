"""Output of the commands: tables of recall, a few example matches, and pictures of curves and hits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from clipedu.data.dataset import ImageTextDataset
from clipedu.data.pictures import load_image
from clipedu.embedding import embed_images, embed_texts, model_inputs
from clipedu.evaluation import Scores
from clipedu.ground.environment import drawable, figure_style
from clipedu.ground.errors import ClipEduError, ConfigError
from clipedu.ground.files import whole_file
from clipedu.model import CLIP, compute_similarity
from clipedu.runs.history import EpochRecord
from clipedu.search import Hit
from clipedu.tokenizer import SimpleTokenizer

_NAMED = 5  # examples in a line about what was left out
_DRAWN_SIZE = 224  # px
MAX_DRAWN = 300  # matplotlib's pictures are at most 65,536 px long


def score_table(split: str, scores: Scores) -> str:
    """Recall in both directions and zero-shot accuracy, one line each."""
    lines = []
    for language, values in scores.items():
        for direction, name in (("i2t", "image -> text"), ("t2i", "text -> image")):
            recalls = "  ".join(f"R@{k} {values[f'{direction}_R@{k}']:.3f}" for k in (1, 5, 10))
            lines.append(f"{split} {language}  {name}  {recalls}")
        if "zero_shot_accuracy" in values:
            accuracy, chance = values["zero_shot_accuracy"], values["zero_shot_chance"]
            lines.append(f"{split} {language}  zero-shot {accuracy:.3f} (chance {chance:.3f})")
    return "\n".join(lines)


def describe_matches(model: CLIP, tokenizer: SimpleTokenizer, dataset: ImageTextDataset, count: int = 3) -> str:
    """Example matches: for a few pairs, the pictures nearest to each text and the texts nearest to each picture."""
    texts, text_to_image = dataset.all_captions()
    image_embedding = embed_images(model, model_inputs(model, dataset))
    similarity = compute_similarity(image_embedding, embed_texts(model, tokenizer, texts))  # (I, T)
    names = [path.name for path in dataset.image_paths()]
    lines = []
    for image in torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).long().tolist():
        text = int((text_to_image == image).nonzero()[0, 0])
        lines += [f"文 -> 图 | text -> images: {texts[text]}", *_best(similarity[:, text], names)]
        lines += [f"图 -> 文 | image -> texts: {names[image]}", *_best(similarity[image], texts)]
    return "\n".join(lines)


def _best(similarity: Tensor, names: Sequence[str], top: int = 3) -> list[str]:
    best = similarity.topk(min(top, len(names)))
    return [
        f"    {value:+.3f}  {names[index]}"
        for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def describe_left_out(left_out: Mapping[str, Sequence[str]], file: Path) -> str:
    """What was left out, a line for each reason (in both languages) with a few names; many are listed in `file`."""
    lines = []
    for reason, names in left_out.items():
        some = ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
        lines.append(f"略去 | left out: {len(names):,}  {reason}: {some}")
    if any(len(names) > _NAMED for names in left_out.values()):
        listed = [f"{reason}: {name}\n" for reason, names in left_out.items() for name in names]
        try:
            with whole_file(file) as temporary:
                temporary.write_text("".join(listed), encoding="utf-8", errors="backslashreplace")
            lines.append(f"完整清单 | the full list: {file}")
        except ClipEduError as error:  # a run that may only be read can still be evaluated
            lines.append(str(error))
    return "\n".join(lines)


def plot_training_curve(history: Sequence[EpochRecord], path: Path) -> None:
    """Draw loss and recall by epoch into a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    loss, recall = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    loss.plot(epochs, [record["loss"] for record in history], marker="o", color="black")
    loss.set(title="training loss", xlabel="epoch", ylabel="loss")
    for language in history[-1]["val"] or {}:
        for name, style in (("i2t_R@1", "--"), ("i2t_R@5", "-"), ("t2i_R@5", ":")):
            values = [record["val"][language][name] for record in history if record["val"]]
            recall.plot(epochs, values, style, label=f"{language} {name}")
    recall.set(title="recall on val", xlabel="epoch", ylim=(0, 1))
    if history[-1]["val"]:
        recall.legend()
    for axis in (loss, recall):
        axis.grid(alpha=0.3)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


def draw_hits(results: Mapping[str, Sequence[Hit]], path: Path) -> None:
    """Draw a PNG file with one row per sentence: the sentence, then its hits.

    Raises:
        ConfigError: more hits than fit into a picture.
    """
    from matplotlib.figure import Figure

    columns = max(len(hits) for hits in results.values())
    if columns * len(results) > MAX_DRAWN:
        raise ConfigError(
            f"一张图片最多画 {MAX_DRAWN} 个结果；请减小 --top 或减少句子",
            f"a picture holds at most {MAX_DRAWN} hits; lower --top or give fewer sentences",
        )
    with figure_style():
        figure = Figure(figsize=(1.15 * columns + 0.2, 1.4 * len(results)), dpi=120, layout="constrained")
        rows = figure.subfigures(len(results), 1, squeeze=False)[:, 0]
        for row, title, hits in zip(rows, drawable(list(results)), results.values(), strict=True):
            row.suptitle(title, x=0.02, ha="left", fontsize=11)
            for axis, hit in zip(row.subplots(1, columns, squeeze=False)[0], hits, strict=False):
                picture = load_image(hit.path, _DRAWN_SIZE)
                picture.thumbnail((_DRAWN_SIZE, _DRAWN_SIZE))
                axis.imshow(picture)
                axis.set_xlabel(f"{hit.similarity:.2f}", fontsize=8)
                axis.set(xticks=[], yticks=[])
        with whole_file(path) as temporary:
            figure.savefig(temporary, format="png")
