"""Finding pictures by sentences, over a dataset or a folder of one's own photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import ImageOps
from torch import Tensor

from clipedu.data import ImageTextDataset
from clipedu.embedding import embed_images, embed_texts, frozen_features
from clipedu.environment import find_cjk_font
from clipedu.errors import DatasetError
from clipedu.evaluation import model_inputs
from clipedu.files import whole_file
from clipedu.model import CLIP, compute_similarity
from clipedu.pictures import broken_pictures, load_image
from clipedu.tokenizer import SimpleTokenizer

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class Hit:
    """A picture found, and the cosine of its angle to the sentence."""

    path: Path
    similarity: float


class ImageIndex:
    """The embeddings of all pictures in a folder and its sub-folders, computed once and kept on disk."""

    def __init__(self, model: CLIP, tokenizer: SimpleTokenizer, folder: str | Path) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.paths, self.skipped = readable_pictures(Path(folder))
        features = frozen_features(model.image_encoder, self.paths, model.image_size)
        self.embedding = embed_images(model, features)  # (N, E)

    def search(self, sentence: str, top: int = 5) -> list[Hit]:
        """The `top` pictures nearest to the sentence, the nearest first."""
        similarity, found = nearest(self.embedding, embed_texts(self.model, self.tokenizer, [sentence]), top)
        return [
            Hit(self.paths[index], value)
            for value, index in zip(similarity[0].tolist(), found[0].tolist(), strict=True)
        ]


def nearest(embedding: Tensor, queries: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The `top` rows of `embedding` nearest to each query, the nearest first: their cosines and indices, `[Q, top]`.

    `embedding` `[N, E]` and `queries` `[Q, E]` have rows of length 1, as CLIP makes them: the cosine is the product.
    """
    best = (queries @ embedding.T).topk(min(top, len(embedding)))
    return best.values, best.indices


def readable_pictures(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folder's pictures in order of their names, and those left out because they are damaged."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} 不是文件夹", f"{folder} is no folder")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    broken = broken_pictures(found)
    good = [path for path in found if path not in broken]
    if not good:
        raise DatasetError(
            f"{folder} 里没有能读的图片（{len(broken)} 张损坏）",
            f"no readable picture in {folder} ({len(broken)} damaged)",
        )
    return good, list(broken)


def draw_hits(results: Mapping[str, Sequence[Hit]], path: str | Path) -> None:
    """A picture file with a row for every sentence: the sentence, then what it finds."""
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    columns = max(len(hits) for hits in results.values())
    figure = Figure(figsize=(1.15 * columns + 0.2, 1.4 * len(results)), dpi=120, layout="constrained")
    font_file = find_cjk_font()
    rows = figure.subfigures(len(results), 1, squeeze=False)[:, 0]
    for number, (row, (sentence, hits)) in enumerate(zip(rows, results.items(), strict=True), 1):
        # Without a font for it, Chinese would come out as boxes: then a number stands for the sentence.
        title = sentence if font_file or sentence.isascii() else f"sentence {number}"
        font = FontProperties(fname=str(font_file)) if font_file and not sentence.isascii() else None
        row.suptitle(title, x=0.02, ha="left", fontsize=11, fontproperties=font, parse_math=False)
        for axis, hit in zip(row.subplots(1, columns, squeeze=False)[0], hits, strict=False):
            axis.imshow(ImageOps.contain(load_image(hit.path), (224, 224)))
            axis.set_xlabel(f"{hit.similarity:.2f}", fontsize=8)
            axis.set(xticks=[], yticks=[])
    with whole_file(Path(path)) as temporary:
        figure.savefig(temporary, format="png")


def describe_matches(model: CLIP, tokenizer: SimpleTokenizer, dataset: ImageTextDataset, count: int = 3) -> str:
    """For a few pairs of the dataset, what each text finds among the pictures, and each picture among the texts."""
    texts, text_to_image = dataset.all_captions()
    image_embedding = embed_images(model, model_inputs(model, dataset))
    similarity = compute_similarity(image_embedding, embed_texts(model, tokenizer, texts))  # (I, T)
    lines = []
    for image in torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).long().tolist():
        text = int((text_to_image == image).nonzero()[0, 0])
        name = dataset.records[image].image_path.name
        found_images = _best(similarity[:, text], [record.image_path.name for record in dataset.records])
        lines += [f"文 -> 图 | text -> images: {texts[text]}", *found_images]
        lines += [f"图 -> 文 | image -> texts: {name}", *_best(similarity[image], texts)]
    return "\n".join(lines)


def _best(similarity: Tensor, names: Sequence[str], top: int = 3) -> list[str]:
    best = similarity.topk(min(top, len(names)))
    return [
        f"    {value:+.3f}  {names[index]}"
        for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
