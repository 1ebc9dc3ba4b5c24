"""A word-level tokenizer for English and Chinese that fits on one screen."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from clipedu.ground.errors import TokenizerError
from clipedu.ground.files import read_text, whole_file

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
PAD, UNK, CLS, SEP = range(4)

_HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_TOKEN = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+")
_IS_HAN = re.compile(rf"[{_HAN}]")
_APOSTROPHES = re.compile("['\u2019]")


class SimpleTokenizer:
    """Words to ids and back. English is split at spaces and punctuation, Chinese into single characters.

    `[PAD]=0 [UNK]=1 [CLS]=2 [SEP]=3`; the words follow, the most frequent first.

    Args:
        vocab_size: maximum number of ids, including the special tokens.

    Raises:
        ValueError: `vocab_size` leaves no room for a word.
    """

    def __init__(self, vocab_size: int = 5000) -> None:
        if vocab_size <= len(SPECIAL_TOKENS):
            raise ValueError(f"vocab_size={vocab_size} leaves no room for words besides the four special tokens")
        self.vocab_size = vocab_size
        self.id_to_token: list[str] = []
        self.token_to_id: dict[str, int] = {}

    @classmethod
    def from_texts(cls, texts: Iterable[str], vocab_size: int = 5000) -> SimpleTokenizer:
        """A tokenizer with the vocabulary of `texts`."""
        tokenizer = cls(vocab_size)
        tokenizer.build_vocab(texts)
        return tokenizer

    def __len__(self) -> int:
        """Number of ids in use: the special tokens and the words (0 before `build_vocab`)."""
        return len(self.id_to_token)

    def build_vocab(self, texts: Iterable[str]) -> None:
        """Take the `vocab_size - 4` most frequent words of `texts`; equally frequent ones in alphabetical order.

        `unk` is never one of them, so that a decoded `[UNK]` stays unknown when it is read again.
        """
        counts = Counter(word for text in texts for word in self.tokenize_text(text) if word != "unk")
        words = sorted(counts, key=lambda word: (-counts[word], word))
        self._set_words(words[: self.vocab_size - len(SPECIAL_TOKENS)])

    def _set_words(self, words: Sequence[str]) -> None:
        self.id_to_token = [*SPECIAL_TOKENS, *words]
        self.token_to_id = {token: index for index, token in enumerate(self.id_to_token)}

    @staticmethod
    def tokenize_text(text: str) -> list[str]:
        """Lower-case words without punctuation ("Don't!" -> dont); every Chinese character on its own."""
        if not isinstance(text, str):
            raise TypeError(f"a text must be a str, not {type(text).__name__}")
        # NFKC turns full-width letters and digits, as Chinese keyboards produce them, into plain ones.
        text = unicodedata.normalize("NFKC", text).lower()
        text = _APOSTROPHES.sub("", text)
        return _TOKEN.findall(unicodedata.normalize("NFKC", text))  # again: neighbours may now form one letter

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` that are not in the vocabulary, each once: all of them become the same `[UNK]`."""
        return [word for word in dict.fromkeys(self.tokenize_text(text)) if word not in self.token_to_id]

    def encode(self, text: str) -> list[int]:
        """`[CLS] words [SEP]` as ids, without padding or truncation."""
        if not self.id_to_token:
            raise TokenizerError(
                "分词器还没有词表：请先调用 build_vocab(texts)，或用 SimpleTokenizer.load 读取",
                "the tokenizer has no vocabulary yet: call build_vocab(texts) first, or SimpleTokenizer.load",
            )
        return [CLS, *(self.token_to_id.get(word, UNK) for word in self.tokenize_text(text)), SEP]

    def __call__(
        self,
        text: str | Sequence[str],
        truncation: bool = True,
        padding: str | bool = "max_length",
        max_length: int = 77,
        return_tensors: str | None = "pt",
    ) -> dict[str, Any]:
        """Encode one text (a batch of 1) or several, following the conventions of the transformers library.

        Args:
            truncation: cut texts longer than `max_length`; `[SEP]` stays the last id.
            padding: fill with `[PAD]` to `"max_length"`, to the `"longest"` text given, or not at all (False).
            max_length: in tokens, including `[CLS]` and `[SEP]`.
            return_tensors: `"pt"` for int64 tensors `[B, T]`, None for lists.

        Returns:
            `input_ids` and `attention_mask` (1 for tokens, 0 for padding).

        Raises:
            TokenizerError: there is no vocabulary yet.
            TypeError: a text is not a str.
            ValueError: an argument is not one of those named above, or a tensor's rows would differ in length.
        """
        if padding not in ("max_length", "longest", False) or return_tensors not in ("pt", None) or max_length < 2:
            raise ValueError(
                f"cannot use padding={padding!r} return_tensors={return_tensors!r} max_length={max_length}"
            )
        rows = [self.encode(item) for item in ([text] if isinstance(text, str) else text)]
        if truncation:
            rows = [row if len(row) <= max_length else [*row[: max_length - 1], SEP] for row in rows]
        width = {"max_length": max_length, "longest": max(map(len, rows), default=0), False: 0}[padding]
        input_ids = [row + [PAD] * (width - len(row)) for row in rows]
        attention_mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        if return_tensors is None:
            return {"input_ids": input_ids, "attention_mask": attention_mask}
        if len({len(row) for row in input_ids}) > 1:
            raise ValueError(
                "rows of different lengths cannot form a tensor: use padding='longest' and keep truncation=True"
            )
        shape = len(rows), len(input_ids[0]) if rows else width
        tensors = {"input_ids": input_ids, "attention_mask": attention_mask}
        return {name: torch.tensor(lists, dtype=torch.int64).view(shape) for name, lists in tensors.items()}

    def decode(self, ids: Iterable[int] | torch.Tensor) -> str:
        """The text of `ids` without `[PAD]`, `[CLS]`, `[SEP]`; no spaces beside Chinese characters.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        text = ""
        for index in ids.tolist() if isinstance(ids, torch.Tensor) else ids:
            if index in (PAD, CLS, SEP):
                continue
            if not 0 <= index < len(self):
                raise ValueError(f"id {index} is not in the vocabulary of {len(self)}: is it from another tokenizer?")
            token = self.id_to_token[index]
            no_space = not text or _IS_HAN.match(token) or _IS_HAN.match(text[-1])
            text += token if no_space else f" {token}"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Everything that makes up this tokenizer, for JSON or a checkpoint."""
        return {"vocab_size": self.vocab_size, "words": self.id_to_token[len(SPECIAL_TOKENS) :]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SimpleTokenizer:
        """The tokenizer that `to_dict` described; TokenizerError if `content` is damaged."""
        try:
            words, vocab_size = content["words"], content["vocab_size"]
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise ValueError("words must be a list of strings")
            if len({*words, *SPECIAL_TOKENS}) != len(words) + len(SPECIAL_TOKENS):
                raise ValueError("a word occurs twice")
            if not isinstance(vocab_size, int) or vocab_size < len(words) + len(SPECIAL_TOKENS):
                raise ValueError(f"vocab_size={vocab_size!r:.40} is too small for {len(words)} words")
            tokenizer = cls(vocab_size)
        except (KeyError, TypeError, ValueError) as error:
            raise TokenizerError(f"词表已损坏：{error}", f"the vocabulary is damaged: {error}") from error
        tokenizer._set_words(words)
        return tokenizer

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as readable JSON."""
        with whole_file(Path(path)) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> SimpleTokenizer:
        """Read what `save` wrote; TokenizerError if the file is missing or damaged."""
        try:
            return cls.from_dict(json.loads(read_text(Path(path))))
        except (OSError, ValueError, RecursionError) as error:
            raise TokenizerError(
                f"无法读取词表 {path}：{error}", f"cannot read the vocabulary {path}: {error}"
            ) from error
