"""Byte-pair encoding as notebook 01 builds it: the quick way equals the plain one, and the tokenizers library."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from clipedu import SimpleTokenizer
from clipedu.classroom import bpe, plots


def learned_plainly(words: list[str], times: int) -> list[bpe.Pair]:
    cut, merges = [list(word) for word in words], []
    for _ in range(times):
        counts = Counter(pair for pieces in cut for pair in pairwise(pieces))
        if not counts:
            break
        merges.append(min(counts, key=lambda pair: (-counts[pair], pair)))
        cut = [bpe.merge(pieces, merges[-1]) for pieces in cut]
    return merges


@pytest.mark.parametrize("seed", range(20))
def test_merges(seed: int) -> None:
    random = Random(seed)
    words = ["".join(random.choices("aabc", k=random.randint(1, 8))) for _ in range(12)]
    merges = bpe.learn_merges(words, 15)
    assert merges == learned_plainly(words, 15)
    theirs = bpe.tokenizers_bpe(merges)
    for word in [*words, "cabcab", "zebra", "a" * 7]:
        assert bpe.bpe_encode(word, merges) == theirs(word)


@pytest.mark.parametrize("text", ["ring", "红色的圆", " a 🦓", "", "café"])
def test_bytes_return(text: str) -> None:
    words = bpe.byte_words([text])
    pieces = [piece for word in words for piece in bpe.bpe_encode(word, [("r", "i")])]
    assert bpe.bpe_decode(pieces) == text


def test_an_incomplete_character_is_seen() -> None:
    (red,) = bpe.byte_words(["红"])
    assert len(red) == 3
    assert bpe.bpe_decode([red[0], red[1]]) == "\ufffd"


def test_unknown_shares() -> None:
    tokenizer = SimpleTokenizer.from_texts(["a red circle"])
    assert bpe.unknown_shares(tokenizer, ["a red zebra", "red"]) == (1 / 4, 1 / 2)


def test_many_tokens_fill_several_rows_of_their_own() -> None:
    html = plots.tokens(["a"] * 12 + ["a_long_word"]).html
    assert html.count("<table>") == 2
    assert html.count("background: white") == 13


def test_tokens_per_name() -> None:
    table = bpe.length_table(bpe.tokens_per_name(0, vocab_size=300))
    assert [line.split(" / ")[0] for line in table.text.splitlines()[1:]] == [
        "按词 | words", "英文 BPE | English BPE", "双语 BPE | BPE of both",
    ]  # fmt: skip
