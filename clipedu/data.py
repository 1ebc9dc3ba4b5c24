"""A dataset of pictures and captions, as training and evaluation see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from clipedu.errors import DatasetError, MissingSplitError
from clipedu.pictures import load_image
from clipedu.records import LANGUAGES, TEXT_FIELDS, languages, read_records


class ImageTextDataset(Dataset[dict[str, Any]]):
    """The pairs of a folder with a dataset.json: `{"image": ..., "text": str, "index": int}`.

    dataset.json is a list of records `{"image_path": str, "text": str | list[str], "text_zh"?: ..., "split"?: str}`
    with paths relative to the folder; without a split a record belongs to `train`. An optional `label` (`label_zh`)
    names the picture's class.

    Args:
        data_dir: the folder.
        split: only the records of this split; None for all.
        language: whose captions to draw from: `"en"`, `"zh"` or `"both"`.
        transform: called with the RGB picture (PIL); None hands out the picture itself.
        seed: decides, together with the epoch, which caption of a picture is drawn.

    Raises:
        DatasetError: everything that is wrong with dataset.json and its pictures, in one report.
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
        everything = read_records(self.data_dir)
        self.records = [record for record in everything if split in (None, record.split)]
        self.classes = {
            one: sorted({record.labels[one] for record in everything if one in record.labels}) for one in LANGUAGES
        }
        if not self.records:
            splits = Counter(record.split for record in everything)
            raise MissingSplitError(
                f"{data_dir} 中没有 split={split!r} 的记录；现有：{dict(splits)}",
                f"no record of {data_dir} has split={split!r}; there are {dict(splits)}",
            )
        for one in languages(language):
            missing = [record.image_path.name for record in self.records if not record.captions[one]]
            if missing:
                field_name = TEXT_FIELDS[one]
                raise DatasetError(
                    f"{data_dir}/dataset.json:{len(missing)} 条记录没有 {field_name}（如 {missing[0]}），"
                    f"不能用 language={language!r}",
                    f"{data_dir}/dataset.json: {len(missing)} records have no {field_name} (such as {missing[0]}), "
                    f"so language={language!r} cannot be used",
                )

    def __len__(self) -> int:
        return len(self.records)

    def set_epoch(self, epoch: int) -> None:
        """Draw the captions of another epoch from now on."""
        self.epoch = epoch

    def caption(self, index: int) -> str:
        """The caption drawn for picture `index` in this epoch; the same for the same seed, on every machine."""
        texts = self.records[index].texts(self.language)
        return Random(f"{self.seed} {self.epoch} {index}").choice(texts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = load_image(self.records[index].image_path)
        return {
            "image": self.transform(image) if self.transform else image,
            "text": self.caption(index),
            "index": index,
        }

    def all_captions(self, language: str | None = None) -> tuple[list[str], Tensor]:
        """Every caption, and for each the index of its picture `[T]`."""
        language = language or self.language
        pairs = [(text, index) for index, record in enumerate(self.records) for text in record.texts(language)]
        return [text for text, _ in pairs], torch.tensor([index for _, index in pairs])

    def image_paths(self) -> list[Path]:
        return [record.image_path for record in self.records]
