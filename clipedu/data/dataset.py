"""A dataset of pictures and captions, for training and evaluation."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from clipedu.data.loading import Pictures, Transform, epoch_batches, image_batches, index_batches, open_pictures
from clipedu.data.pictures import broken_pictures, load_image
from clipedu.data.records import BROKEN, LANGUAGES, TEXT_FIELDS, languages, read_records, split_name
from clipedu.ground.errors import DatasetError, MissingSplitError
from clipedu.tokenizer import SimpleTokenizer


class Batch(NamedTuple):
    """B pairs for one training step.

    Attributes:
        images: uint8 `[B, 3, S, S]`, or a frozen encoder's features, float32 `[B, D]`.
        input_ids: int64 `[B, T]`, a caption for each picture, padded to the longest of them.
        attention_mask: int64 `[B, T]`, 1 for tokens and 0 for padding.
        caption_ids: int64 `[B]`, equal for equal captions; see `caption_ids`.
    """

    images: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    caption_ids: Tensor


def caption_ids(captions: Sequence[str]) -> Tensor:
    """A number for each caption, int64 `[N]`: equal if both read the same to the tokenizer, as "A cat." and "a cat"."""
    numbers = []
    for caption in captions:
        words = " ".join(SimpleTokenizer.tokenize_text(caption))
        digest = hashlib.blake2b(words.encode(errors="surrogatepass"), digest_size=8).digest()
        numbers.append(int.from_bytes(digest, "little", signed=True))
    return torch.tensor(numbers, dtype=torch.int64)


class TokenizedCaptions:
    """Captions as tokens on the device that needs them, so that training tokenizes each of them once.

    Args:
        texts: the captions, T of them.
        tokenizer: with a vocabulary.
        device: where the tensors are to be.
    """

    def __init__(self, texts: Sequence[str], tokenizer: SimpleTokenizer, device: torch.device) -> None:
        tokens = tokenizer(texts, padding="longest")
        self._lengths: list[int] = tokens["attention_mask"].sum(dim=1).tolist()
        self._tokens = tokens["input_ids"].to(device), tokens["attention_mask"].to(device)
        self._caption_ids = caption_ids(texts).to(device)

    def batches(self, batches: list[list[int]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each batch of caption numbers: `input_ids`, `attention_mask`, `caption_ids`, as in `Batch`."""
        for numbers, rows in zip(batches, index_batches(batches, self._caption_ids.device), strict=True):
            longest = max(self._lengths[number] for number in numbers)
            input_ids, attention_mask = (tensor[rows, :longest] for tensor in self._tokens)
            yield input_ids, attention_mask, self._caption_ids[rows]


class ImageTextDataset(Dataset[dict[str, Any]]):
    """The pairs of a folder with a dataset.json: `{"image": ..., "text": str, "index": int}`.

    dataset.json is a list of records `{"image_path": str, "text": str | list[str], "text_zh"?: ..., "split"?: str}`
    with paths relative to the folder; without a split a record belongs to `train`. An optional `label` (`label_zh`)
    names the picture's class. Several records of one picture are one picture with several captions.

    Args:
        data_dir: the folder.
        split: only the records of this split; None for all.
        language: which captions to draw from: `"en"`, `"zh"` or `"both"`; pictures without any are left out.
        transform: called with the RGB picture (PIL) at each reading; `Pictures` says what it must return for training.
            None returns the picture itself; for training it is then scaled and cropped, see `load_pixels`.
        seed: determines, together with the epoch, which caption of a picture is drawn.
        skip_broken: leave out pictures that are missing or cannot be decoded, instead of raising an error.
        workers: how many processes decode pictures that do not fit into memory; see `open_pictures`.

    Attributes:
        records: one for each picture that takes part.
        splits: how many pictures each split has, this one and others.
        overlap: pictures of this split that are also in another one, by that split.
        left_out: pictures that take no part, by reason.

    Raises:
        DatasetError: the faults in dataset.json in one report; or no captions in `language`.
        ValueError: an unknown `language`.
    """

    def __init__(
        self,
        data_dir: str | Path,
        split: str | None = None,
        language: str = "en",
        transform: Transform | None = None,
        seed: int = 0,
        skip_broken: bool = False,
        workers: int | None = None,
    ) -> None:
        self.data_dir, self.split, self.language = Path(data_dir), split and split_name(split), language
        self.transform, self.seed, self.epoch, self.workers = transform, seed, 0, workers
        self.left_out: dict[str, list[str]] = {}
        all_records = read_records(self.data_dir, self.left_out if skip_broken else None, self.split)
        self.records = [record for record in all_records if self.split in (None, record.split)]
        self.splits = Counter(record.split for record in all_records)
        own = {record.image_path for record in self.records}
        self.overlap: dict[str, list[str]] = {}
        for record in all_records:
            if self.split not in (None, record.split) and record.image_path in own:
                self.overlap.setdefault(record.split, []).append(record.image_path.name)
        self.classes = {
            code: sorted({record.labels[code] for record in all_records if code in record.labels}) for code in LANGUAGES
        }
        if not self.records:
            raise MissingSplitError(
                f"{data_dir} 中没有 split={split!r} 的记录；现有：{dict(self.splits)}",
                f"no record of {data_dir} has split={split!r}; it has {dict(self.splits)}",
            )
        for code in languages(language):
            if not any(record.captions[code] for record in all_records):
                raise DatasetError(
                    f"{data_dir}/dataset.json 里没有一条 {TEXT_FIELDS[code]}：请换一种语言（--language），或补上它们",
                    f"{data_dir}/dataset.json has no {TEXT_FIELDS[code]} at all: choose another language (--language) "
                    "or add some",
                )
        self._leave_out_captionless()
        if skip_broken:
            self._leave_out_broken()

    def _leave_out_captionless(self) -> None:
        silent = [record.image_path.name for record in self.records if not record.texts(self.language)]
        self.records = [record for record in self.records if record.texts(self.language)]
        fields = " / ".join(TEXT_FIELDS[code] for code in languages(self.language))
        if not self.records:
            raise MissingSplitError(
                f"{self.data_dir}：split={self.split!r} 的图片都没有 {fields}",
                f"{self.data_dir}: no picture of split={self.split!r} has {fields}",
            )
        if silent:
            self.left_out[f"没有说明（{fields}）的图片 | pictures without a caption ({fields})"] = silent

    def _leave_out_broken(self) -> None:
        broken = broken_pictures(self.image_paths())
        self.records = [record for record in self.records if record.image_path not in broken]
        if not self.records:
            raise next(iter(broken.values()))
        if broken:
            self.left_out.setdefault(BROKEN, []).extend(str(path.name) for path in broken)

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

    def with_transform(self, transform: Transform) -> ImageTextDataset:
        """The same pairs with this transform; ValueError if they have one."""
        if self.transform is not None:
            raise ValueError("the dataset already has a transform")
        other = copy.copy(self)
        other.transform = transform
        return other

    def set_epoch(self, epoch: int) -> None:
        """From now on, draw the captions of this epoch."""
        self.epoch = epoch

    def caption(self, index: int) -> str:
        """The caption drawn for picture `index` in this epoch: the same for the same seed, on every machine."""
        return self.records[index].texts(self.language)[self._draw(index)]

    def _draw(self, index: int) -> int:
        count = len(self.records[index].texts(self.language))
        return Random(f"{self.seed} {self.epoch} {index}").randrange(count)

    def tokenized(self, tokenizer: SimpleTokenizer, device: torch.device) -> TokenizedCaptions:
        """All captions for `batches`, in the order of `all_captions`."""
        return TokenizedCaptions(self.all_captions()[0], tokenizer, device)

    def batches(
        self,
        images: Tensor | Pictures,
        captions: TokenizedCaptions,
        batch_size: int,
        *,
        epoch: int,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> Iterator[Batch]:
        """The pairs of one epoch in a new random order, in full batches; the rest get their turn in another epoch.

        Args:
            images: those of this dataset, in its order: `self.pictures(size)`, or features `[N, D]`.
            captions: `self.tokenized(tokenizer, device)`.
            batch_size: over all processes together, a multiple of `processes`; `rank` gets its share of each batch.
            epoch: determines the order together with `seed`, and the captions together with the dataset's own seed.
            seed: see `epoch`.
        """
        self.set_epoch(epoch)
        share = batch_size // processes
        own = slice(rank * share, (rank + 1) * share)
        order = [indices[own] for indices in epoch_batches(len(self), batch_size, seed, epoch)]
        first = [0, *accumulate(len(record.texts(self.language)) for record in self.records)]  # caption of each record
        drawn = [[first[index] + self._draw(index) for index in indices] for indices in order]
        for pictures, texts in zip(image_batches(images, order, epoch), captions.batches(drawn), strict=True):
            yield Batch(pictures, *texts)

    def pictures(self, size: int) -> Tensor | Pictures:
        """All pictures as squares of `size` px: held in memory if they fit, else streamed from disk.

        With a `transform`, they are always read from disk, and transformed.
        """
        if self.transform is not None:
            return Pictures(self.image_paths(), size, self.workers, self.transform)
        return open_pictures(self.image_paths(), size, self.workers)

    def image_paths(self) -> list[Path]:
        return [record.image_path for record in self.records]

    def all_captions(self, language: str | None = None) -> tuple[list[str], Tensor]:
        """All captions, and the index of each one's picture, int64 `[T]`."""
        language = language or self.language
        pairs = [(text, index) for index, record in enumerate(self.records) for text in record.texts(language)]
        return [text for text, _ in pairs], torch.tensor([index for _, index in pairs], dtype=torch.int64)

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
