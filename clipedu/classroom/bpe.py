"""For notebook 01: the functions that its reader writes, and byte-pair encoding learned quickly and compared."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from clipedu.classroom import plots
from clipedu.classroom.lessons import emoji_name_lists
from clipedu.classroom.view import View, together
from clipedu.tokenizer import CLS, PAD, SEP, UNK, SimpleTokenizer

Pair = tuple[str, str]


def encode(words: Sequence[str], vocabulary: Mapping[str, int], max_length: int) -> tuple[list[int], list[int]]:
    """Ids and mask of one sentence, both `max_length` long; `[SEP]` survives the cut."""
    ids = [CLS, *(vocabulary.get(word, UNK) for word in words[: max_length - 2]), SEP]
    missing = max_length - len(ids)
    return ids + [PAD] * missing, [1] * len(ids) + [0] * missing


def merge(pieces: Sequence[str], pair: Pair) -> list[str]:
    """The pieces of a word, each occurrence of `pair` joined, from left to right."""
    joined: list[str] = []
    for piece in pieces:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def learn_merges(words: Iterable[str], times: int) -> list[Pair]:
    """The first `times` merges: each joins the most frequent pair, equally frequent ones in alphabetical order.

    Counts each different word once, and after a merge only the words that contain its pair.
    """
    frequency = Counter(words)
    cut = {word: list(word) for word in frequency}
    counts, where = Counter[Pair](), defaultdict[Pair, set[str]](set)

    def count(word: str, sign: int) -> None:
        for pair in zip(cut[word], cut[word][1:], strict=False):
            counts[pair] += sign * frequency[word]
            where[pair].add(word)
            if not counts[pair]:
                del counts[pair]

    for word in cut:
        count(word, 1)
    merges: list[Pair] = []
    while len(merges) < times and (most := max(counts.values(), default=0)):
        best = min(pair for pair, number in counts.items() if number == most)
        merges.append(best)
        for word in where.pop(best):
            count(word, -1)
            cut[word] = merge(cut[word], best)
            count(word, 1)
    return merges


def bpe_encode(word: str, merges: Iterable[Pair]) -> list[str]:
    """The pieces of a word: its letters, joined by all merges in the order in which they were learned."""
    pieces = list(word)
    for pair in merges:
        if pair[0] in pieces:
            pieces = merge(pieces, pair)
    return pieces


def bpe_decode(pieces: Iterable[str]) -> str:
    """The text of pieces in which each character stands for one byte; an incomplete character becomes U+FFFD."""
    return "".join(pieces).encode("latin-1").decode("utf-8", errors="replace")


def byte_words(texts: Iterable[str]) -> list[str]:
    """The words of all texts, each with the space before it, and with one character for each byte."""
    words = [word for text in texts for word in re.findall(r" ?\S+", text.lower())]
    return [word.encode("utf-8").decode("latin-1") for word in words]


def tokenizers_bpe(merges: Sequence[Pair]) -> Callable[[str], list[str]]:
    """What the `tokenizers` library makes of a word with these merges over 256 bytes."""
    from tokenizers.models import BPE

    ids = {chr(byte): byte for byte in range(256)}
    for first, second in merges:
        ids.setdefault(first + second, len(ids))
    model = BPE(ids, list(merges))
    return lambda word: [token.value for token in model.tokenize(word)]


def unknown_shares(tokenizer: SimpleTokenizer, names: Sequence[str]) -> tuple[float, float]:
    """How many of all tokens are `[UNK]`, and how many of the names have at least one; each as a share."""
    rows = [tokenizer.encode(name)[1:-1] for name in names]
    unknown = [row.count(UNK) for row in rows]
    return sum(unknown) / sum(map(len, rows)), sum(map(bool, unknown)) / len(names)


def show_cuts(cuts: Mapping[str, Sequence[str]]) -> View:
    """Labelled rows of decoded pieces, and how many; a space is shown as \u2423, an incomplete character as a dot."""
    rows = []
    for label, pieces in cuts.items():
        seen = [piece.replace(" ", "\u2423").replace("\ufffd", "\u00b7") for piece in pieces]
        zh, _, en = label.partition(" | ")
        rows.append(plots.titled(plots.tokens(seen), f"{zh}：{len(seen)} | {en}: {len(seen)}"))
    return together(*rows)


def tokens_per_name(seed: int, vocab_size: int = 1500) -> dict[str, dict[str, float]]:
    """Mean tokens in 400 new names of emoji by way of cutting, then by language; `seed` decides which are new."""
    known, new = emoji_name_lists(seed)
    from_english, from_both = (
        learn_merges(byte_words(names), vocab_size - 256) for names in (known["en"], known["en"] + known["zh"])
    )

    def length(name: str, merges: Sequence[Pair]) -> int:
        return sum(len(bpe_encode(word, merges)) for word in byte_words([name]))

    ways: dict[str, Callable[[str], int]] = {
        "按词 | words": lambda name: len(SimpleTokenizer.tokenize_text(name)),
        "英文 BPE | English BPE": lambda name: length(name, from_english),
        "双语 BPE | BPE of both": lambda name: length(name, from_both),
    }
    return {
        way: {language: sum(map(count, names)) / len(names) for language, names in new.items()}
        for way, count in ways.items()
    }


def length_table(*measured: Mapping[str, Mapping[str, float]]) -> View:
    """Results of `tokens_per_name` side by side: a row per way of cutting, a column per language."""
    rows = [
        [way, *(" / ".join(f"{result[way][language]:.2f}" for result in measured) for language in ("en", "zh"))]
        for way in measured[0]
    ]
    return plots.table(["切法 | cut", "英文 | English", "中文 | Chinese"], rows)
