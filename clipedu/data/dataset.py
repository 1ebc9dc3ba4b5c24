"""A dataset of pictures and captions, for training and evaluation."""

from __future__ import annotations

import copy
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from clipedu.data.loading import Pictures, epoch_batches, image_batches, open_pictures
from clipedu.data.pictures import load_image
from clipedu.data.records import LANGUAGES, TEXT_FIELDS, languages, read_records
from clipedu.ground.errors import DatasetError, MissingSplitError


class Batch(NamedTuple):
    """B pairs for one training step.

    Attributes:
        images: uint8 `[B, 3, S, S]`, or a frozen encoder's features, float32 `[B, D]`.
        captions: one for each picture.
        caption_ids: int64 `[B]`, equal for equal captions.
    """

    images: Tensor
    captions: list[str]
    caption_ids: Tensor


class ImageTextDataset(Dataset[dict[str, Any]]):
    """The pairs of a folder with a dataset.json: `{"image": ..., "text": str, "index": int}`.

    dataset.json is a list of records `{"image_path": str, "text": str | list[str], "text_zh"?: ..., "split"?: str}`
    with paths relative to the folder; without a split a record belongs to `train`. An optional `label` (`label_zh`)
    names the picture's class.

    Args:
        data_dir: the folder.
        split: only the records of this split; None for all.
        language: which captions to draw from: `"en"`, `"zh"` or `"both"`.
        transform: called with the RGB picture (PIL); None returns the picture itself.
        seed: determines, together with the epoch, which caption of a picture is drawn.

    Raises:
        DatasetError: the faults in dataset.json in one report; or no captions in `language`.
        ValueError: an unknown `language`.
    """

    def __init__(
        self,
        data_dir: str | Path,
        split: str | None = None,
        language: str = "en",
        transform: Callable[[Image.Image], Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.data_dir, self.split, self.language = Path(data_dir), split, language
        self.transform, self.seed, self.epoch = transform, seed, 0
        needed = languages(language)
        all_records = read_records(self.data_dir)
        self.records = [record for record in all_records if split in (None, record.split)]
        self.classes = {
            code: sorted({record.labels[code] for record in all_records if code in record.labels}) for code in LANGUAGES
        }
        if not self.records:
            splits = Counter(record.split for record in all_records)
            raise MissingSplitError(
                f"{data_dir} 中没有 split={split!r} 的记录；现有：{dict(splits)}",
                f"no record of {data_dir} has split={split!r}; it has {dict(splits)}",
            )
        for code in needed:
            missing = [record.image_path.name for record in self.records if not record.captions[code]]
            if missing:
                raise DatasetError(
                    f"{data_dir}/dataset.json：{len(missing)} 条记录没有 {TEXT_FIELDS[code]}（如 {missing[0]}），"
                    f"不能用 language={language!r}：请换一种语言（--language），或补上它们",
                    f"{data_dir}/dataset.json: {len(missing)} records have no {TEXT_FIELDS[code]} "
                    f"(such as {missing[0]}), so language={language!r} cannot be used: choose another language "
                    "(--language) or add them",
                )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = load_image(self.records[index].image_path)
        return {
            "image": self.transform(image) if self.transform else image,
            "text": self.caption(index),
            "index": index,
        }

    def subset(self, count: int) -> ImageTextDataset:
        """The first `count` pairs, as a separate dataset."""
        part = copy.copy(self)
        part.records = self.records[:count]
        return part

    def set_epoch(self, epoch: int) -> None:
        """From now on, draw the captions of this epoch."""
        self.epoch = epoch

    def caption(self, index: int) -> str:
        """The caption drawn for picture `index` in this epoch: the same for the same seed, on every machine."""
        texts = self.records[index].texts(self.language)
        return Random(f"{self.seed} {self.epoch} {index}").choice(texts)

    def batches(
        self,
        images: Tensor | Pictures,
        batch_size: int,
        *,
        epoch: int,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> Iterator[Batch]:
        """The pairs of one epoch in a new random order, in full batches; those left over come up in another epoch.

        Args:
            images: those of this dataset, in its order: `self.pictures(size)`, or features `[N, D]`.
            batch_size: over all processes together, a multiple of `processes`; `rank` gets its share of each batch.
            epoch: determines the order together with `seed`, and the captions together with the dataset's own seed.
            seed: see `epoch`.
        """
        self.set_epoch(epoch)
        share = batch_size // processes
        own = slice(rank * share, (rank + 1) * share)
        order = [indices[own] for indices in epoch_batches(len(self), batch_size, seed, epoch)]
        for indices, pictures in zip(order, image_batches(images, order), strict=True):
            captions = [self.caption(index) for index in indices]
            ids = [zlib.crc32(caption.encode(errors="surrogatepass")) for caption in captions]
            yield Batch(pictures, captions, torch.tensor(ids))

    def pictures(self, size: int) -> Tensor | Pictures:
        """All pictures as squares of `size` px: held in memory if they fit, else streamed from disk."""
        return open_pictures(self.image_paths(), size)

    def image_paths(self) -> list[Path]:
        return [record.image_path for record in self.records]

    def all_captions(self, language: str | None = None) -> tuple[list[str], Tensor]:
        """All captions, and the index of each one's picture, int64 `[T]`."""
        language = language or self.language
        pairs = [(text, index) for index, record in enumerate(self.records) for text in record.texts(language)]
        return [text for text, _ in pairs], torch.tensor([index for _, index in pairs])

    def labels(self, language: str) -> dict[int, str]:
        """The class of each picture that has one, by the picture's index."""
        return {i: record.labels[language] for i, record in enumerate(self.records) if language in record.labels}

    def fingerprint(self) -> str:
        """Changes when the pictures' names, their captions in the dataset's language or their order change."""
        digest = hashlib.sha256()
        for record in self.records:
            pair = f"{record.image_path.name} {record.texts(self.language)}"
            digest.update(pair.encode(errors="surrogatepass"))
        return digest.hexdigest()
