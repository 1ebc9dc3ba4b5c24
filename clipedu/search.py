"""Searching a folder of photos with sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from clipedu.data.pictures import find_pictures
from clipedu.data.records import BROKEN
from clipedu.embedding import embed_images, embed_texts
from clipedu.ground.errors import DatasetError
from clipedu.model import CLIP
from clipedu.runs.features import frozen_features
from clipedu.tokenizer import SimpleTokenizer


@dataclass(frozen=True)
class Hit:
    """A picture that was found, and its cosine similarity to the sentence."""

    path: Path
    similarity: float


class ImageIndex:
    """The embeddings of all pictures in a folder and its sub-folders; `left_out` names those not read, by reason.

    The image encoder's output is kept on disk: a second index over the same pictures is quick.

    Raises:
        DatasetError: the folder does not exist or has no readable pictures.
    """

    def __init__(self, model: CLIP, tokenizer: SimpleTokenizer, folder: str | Path) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.left_out: dict[str, list[str]] = {}
        if not Path(folder).is_dir():
            raise DatasetError(f"{folder} 不是文件夹", f"{folder} is not a folder")
        paths = find_pictures(Path(folder), self.left_out)
        features = frozen_features(model.image_encoder, paths, model.image_size, skip_broken=True)
        is_readable = features.isfinite().all(dim=1)
        self.paths = [paths[index] for index in is_readable.nonzero()[:, 0].tolist()]
        if len(self.paths) < len(paths):
            self.left_out[BROKEN] = [str(paths[index]) for index in (~is_readable).nonzero()[:, 0].tolist()]
        if not self.paths:
            counts = [(len(names), *reason.split(" | ")) for reason, names in self.left_out.items()]
            zh = "".join(f"；{why}：{count}" for count, why, _ in counts) or "：请换一个文件夹"
            en = "".join(f"; {why}: {count}" for count, _, why in counts) or ": choose another folder"
            raise DatasetError(f"{folder} 里没有能读的图片{zh}", f"no readable pictures in {folder}{en}")
        self.embedding = embed_images(model, features[is_readable])  # (N, E)

    def search(self, sentence: str, top: int = 5) -> list[Hit]:
        """The `top` pictures nearest to the sentence, nearest first."""
        similarity, indices = nearest(self.embedding, embed_texts(self.model, self.tokenizer, [sentence]), top)
        return [
            Hit(self.paths[index], value)
            for value, index in zip(similarity[0].tolist(), indices[0].tolist(), strict=True)
        ]


def nearest(embedding: Tensor, queries: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The `top` rows of `embedding` nearest to each query, nearest first: their cosines and indices, `[Q, top]`.

    `embedding` `[N, E]` and `queries` `[Q, E]` have rows of length 1, as CLIP makes them: the cosine is the product.
    """
    best = (queries @ embedding.T).topk(min(top, len(embedding)))
    return best.values, best.indices
