"""Wrong answers to the exercises of notebook 01: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clipedu.classroom.bpe import Pair, merge
from clipedu.classroom.bpe import encode as right
from tests.wrong_answers import WrongAnswers

Encode = Callable[[list[str], dict[str, int], int], Any]


def lookup(words: list[str], vocabulary: dict[str, int]) -> list[int]:
    return [vocabulary.get(word, 1) for word in words]


def ids_by(cut: Callable[[list[str], dict[str, int], int], list[int]]) -> Encode:
    """An answer with these ids, filled up, and the mask that belongs to them."""

    def encode(words: list[str], vocabulary: dict[str, int], length: int) -> Any:
        ids = cut(words, vocabulary, length)
        missing = length - len(ids)
        return ids + [0] * missing, [1] * len(ids) + [0] * missing

    return encode


def mask_by(change: Callable[[list[int], list[int]], list[int]]) -> Encode:
    """An answer with the right ids and a mask made from them and the right mask."""
    return lambda words, v, n: (right(words, v, n)[0], change(*right(words, v, n)))


def filled(fill: Callable[[list[int], int], list[int]]) -> Encode:
    """An answer that fills up in its own way."""

    def encode(words: list[str], vocabulary: dict[str, int], length: int) -> Any:
        ids = [2, *lookup(words, vocabulary)[: length - 2], 3]
        return fill(ids, length - len(ids)), right(words, vocabulary, length)[1]

    return encode


def replay(word: str, merges: list[Pair]) -> list[str]:
    pieces = list(word)
    for pair in merges:
        pieces = merge(pieces, pair)
    return pieces


def until_one_fails(word: str, merges: list[Pair]) -> list[str]:
    pieces = list(word)
    for pair in merges:
        if (joined := merge(pieces, pair)) == pieces:
            break
        pieces = joined
    return pieces


def first_place_only(word: str, merges: list[Pair]) -> list[str]:
    pieces = list(word)
    for first, second in merges:
        for place in range(len(pieces) - 1):
            if (pieces[place], pieces[place + 1]) == (first, second):
                pieces[place : place + 2] = [first + second]
                break
    return pieces


def keeps_the_second(word: str, merges: list[Pair]) -> list[str]:
    pieces = list(word)
    for pair in merges:
        here_and_next = zip(pieces, [*pieces[1:], ""], strict=True)
        pieces = [first + second if (first, second) == pair else first for first, second in here_and_next]
    return pieces


def looks_back_at_the_letters(word: str, merges: list[Pair]) -> list[str]:
    pieces = list(word)
    for pair in merges:
        joined = []
        for place, piece in enumerate(pieces):
            if tuple(pieces[place : place + 2]) == pair:
                joined.append("".join(pair))
            elif place == 0 or (pieces[place - 1], piece) != pair:
                joined.append(piece)
        pieces = joined
    return pieces


def from_the_right(word: str, merges: list[Pair]) -> list[str]:
    pieces = list(word)
    for pair in merges:
        for place in range(len(pieces) - 2, -1, -1):
            if tuple(pieces[place : place + 2]) == pair:
                pieces[place : place + 2] = ["".join(pair)]
    return pieces


def past_the_end(word: str, merges: list[Pair]) -> list[str]:
    pieces = list(word)
    for pair in merges:
        for place in range(len(pieces)):
            if (pieces[place], pieces[place + 1]) == pair:
                pieces[place : place + 2] = ["".join(pair)]
    return pieces


def longest_piece(word: str, merges: list[Pair]) -> list[str]:
    known = {*word, *(first + second for first, second in merges)}
    pieces = []
    while word:
        end = max(length for length in range(1, len(word) + 1) if word[:length] in known)
        pieces.append(word[:end])
        word = word[end:]
    return pieces


def with_spaces(word: str, merges: list[Pair]) -> list[str]:
    line = " ".join(word)
    for first, second in merges:
        line = line.replace(f"{first} {second}", first + second)
    return line.split()


def as_bytes(pieces: list[str]) -> bytes:
    return "".join(pieces).encode("latin-1")


WRONG: WrongAnswers = {
    "encode": [
        ("no special tokens", "cls", ids_by(lambda words, v, n: lookup(words, v))),
        ("no [SEP]", "sep", ids_by(lambda words, v, n: [2, *lookup(words, v)][:n])),
        ("counts from 0", "ids", ids_by(lambda words, v, n: [2, *range(len(words)), 3])),
        ("looks up without [UNK]", "unknown", ids_by(lambda words, v, n: [2, *(v[w] for w in words), 3])),
        ("leaves unknown words out", "unknown", ids_by(lambda words, v, n: [2, *(v[w] for w in words if w in v), 3])),
        ("never truncates", "too_long", ids_by(lambda words, v, n: [2, *lookup(words, v), 3])),
        ("forgets that both ends count", "too_long", ids_by(lambda words, v, n: [2, *lookup(words, v)[:n], 3])),
        ("forgets that [SEP] counts", "too_long", ids_by(lambda words, v, n: [2, *lookup(words, v)[: n - 1], 3])),
        ("cuts [SEP] off", "sep_cut", ids_by(lambda words, v, n: [2, *lookup(words, v), 3][:n])),
        ("keeps the end", "truncation", ids_by(lambda words, v, n: [2, *lookup(words, v)[2 - n :], 3])),
        ("does not fill up", "not_filled", filled(lambda ids, missing: ids)),
        ("fills on the left", "left", filled(lambda ids, missing: [0] * missing + ids)),
        ("fills before [SEP]", "sep_last", filled(lambda ids, missing: [*ids[:-1], *[0] * missing, 3])),
        ("fills with [UNK]", "pad_id", filled(lambda ids, missing: ids + [1] * missing)),
        ("mask the wrong way round", "inverted", mask_by(lambda ids, mask: [1 - one for one in mask])),
        ("mask of ones", "mask_of_ones", mask_by(lambda ids, mask: [1] * len(ids))),
        ("masks [UNK] out", "unknown_masked", mask_by(lambda ids, mask: [int(number > 1) for number in ids])),
        ("gives the ids as mask", "mask", mask_by(lambda ids, mask: ids)),
        ("gives ids alone", "type", lambda words, v, n: right(words, v, n)[0]),
    ],
    "bpe_encode": [
        ("gives the letters", "letters", lambda word, merges: list(word)),
        (
            "forgets to keep what was joined",
            "letters",
            lambda word, merges: [merge(list(word), p) for p in merges] and [*word],
        ),
        ("backwards", "order", lambda word, merges: replay(word, merges[::-1])),
        ("returns inside the loop", "first_only", lambda word, merges: replay(word, merges[:1])),
        ("breaks when a merge does not apply", "stops", until_one_fails),
        ("joins the first place only", "once", first_place_only),
        ("keeps the second piece", "doubled", keeps_the_second),
        ("uses a piece twice", "overlap", looks_back_at_the_letters),
        ("joins from the right", "right_first", from_the_right),
        ("reads past the end", "error", past_the_end),
        ("takes the longest known piece", "longest", longest_piece),
        ("replaces in a line of text", "substring", with_spaces),
        ("gives a str", "type", lambda word, merges: " ".join(replay(word, merges))),
        ("does not cut at all", "value", lambda word, merges: [word]),
    ],
    "bpe_decode": [
        ("joins the letters", "garbled", "".join),
        ("encodes as UTF-8", "garbled", lambda pieces: "".join(pieces).encode().decode()),
        ("joins with spaces", "spaces", lambda pieces: " ".join(pieces).encode("latin-1").decode()),
        ("each piece alone", "alone", lambda pieces: "".join(as_bytes([piece]).decode() for piece in pieces)),
        (
            "each alone, errors replaced",
            "alone",
            lambda pieces: "".join(as_bytes([p]).decode("utf-8", "replace") for p in pieces),
        ),
        ("strict", "crash", lambda pieces: as_bytes(pieces).decode()),
        ("drops what is incomplete", "dropped", lambda pieces: as_bytes(pieces).decode(errors="ignore")),
        ("gives bytes", "type", as_bytes),
        ("the wrong code", "value", lambda pieces: as_bytes(pieces).decode("utf-16-le", "replace")),
    ],
}
