"""What a command says about a dataset before it uses it: nothing is left out, cut or counted together silently."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from clipedu.data.dataset import ImageTextDataset, caption_ids
from clipedu.data.records import FIELDS, unused_fields
from clipedu.encoders import MAX_TEXT_LENGTH
from clipedu.tokenizer import SimpleTokenizer

_KNOWN_SPLITS = "train", "val", "test"
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff]"
)  # Thai, Lao, Burmese, Khmer, kana


def notes_on_file(dataset: ImageTextDataset) -> Iterator[str]:
    """What of dataset.json takes no part in training, or a part in more than it should."""
    others = ", ".join(f"{name} {count:,}" for name, count in dataset.splits.items() if name not in _KNOWN_SPLITS)
    if others:
        yield f"训练不用的划分和图片数：{others} | splits that training does not use, with their pictures: {others}"
    for split, names in dataset.overlap.items():
        yield (
            f"{len(names):,} 张图片（如 {names[0]}）既在 {dataset.split} 又在 {split} 里，{split} 的结果会偏高 | "
            f"{len(names):,} pictures (such as {names[0]}) are in both {dataset.split} and {split}, which flatters "
            f"the scores on {split}"
        )
    unused = ", ".join(unused_fields(dataset.data_dir))
    if unused:
        known = ", ".join(FIELDS)
        yield (
            f"dataset.json 里没有用到的字段：{unused}（认识的字段：{known}） | "
            f"fields of dataset.json that are not used: {unused} (recognised: {known})"
        )


def notes_on_captions(dataset: ImageTextDataset, tokenizer: SimpleTokenizer) -> Iterator[str]:
    """Captions that repeat or are cut; words and scripts that the tokenizer does not know."""
    texts, text_to_image = dataset.all_captions()
    total = f"{len(texts):,}"
    repeated = _repeated(texts, text_to_image)
    if repeated:
        yield (
            f"{total} 句说明里有 {repeated:,} 句不止属于一张图片：用它找到其中哪一张都算对，损失和召回率都这样算 | "
            f"{repeated:,} of {total} captions belong to more than one picture: each of them is a correct match, in "
            "the loss and in recall"
        )
    cut = [text for text in texts if len(tokenizer.encode(text)) > MAX_TEXT_LENGTH]
    if cut:
        yield (
            f"{total} 句说明里有 {len(cut):,} 句超过 {MAX_TEXT_LENGTH} 个词元（词或汉字），只读开头，"
            f"请把要紧的写在前面 | {len(cut):,} of {total} captions are longer than {MAX_TEXT_LENGTH} tokens (words or "
            f"Chinese characters) and only their beginning is read; say what matters first: {cut[0][:40]!r} …"
        )
    words = Counter(word for text in texts for word in tokenizer.tokenize_text(text))
    unread = [word for word in words if word not in tokenizer.token_to_id]
    if unread:
        share = f"{sum(words[word] for word in unread) / words.total():.1%}"
        yield (
            f"词表里没有 {len(unread):,} 个词，占说明文字的 {share}，都读作 [UNK]，如 {unread[0]!r} | "
            f"{len(unread):,} words, {share} of the text, are not in the vocabulary and are read as [UNK], such as "
            f"{unread[0]!r}"
        )
    foreign = [text for text in texts if _is_foreign(text)]
    if foreign:
        yield (
            f"{len(foreign):,} 句说明用的文字，分词器不会切分（它只认空格隔开的词和汉字），如 {foreign[0][:40]!r} | "
            f"{len(foreign):,} captions are in a script that the tokenizer cannot split into words (it knows words "
            f"between spaces, and Chinese characters), such as {foreign[0][:40]!r}"
        )


def _repeated(texts: Sequence[str], text_to_image: Tensor) -> int:
    """How many of the texts are also a caption of another picture."""
    ids = caption_ids(texts)
    pairs = torch.stack([ids, text_to_image], dim=1).unique(dim=0)
    captions, pictures = pairs[:, 0].unique(return_counts=True)
    return int(torch.isin(ids, captions[pictures > 1]).sum())


def _is_foreign(text: str) -> bool:
    """Whether words are written without spaces, or with marks that the tokenizer takes for the end of a word."""
    if text.isascii():
        return False
    text = unicodedata.normalize("NFKC", text)
    marked = (left.isalpha() and unicodedata.category(right).startswith("M") for left, right in pairwise(text))
    return bool(_WITHOUT_SPACES.search(text)) or any(marked)
