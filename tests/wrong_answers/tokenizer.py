"""Wrong answers to the exercises of notebook 01: by exercise, what is wrong, the reason, the code."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from tests.wrong_answers import WrongAnswers


def lookup(words: list[str], vocabulary: dict[str, int]) -> list[int]:
    return [vocabulary.get(word, 1) for word in words]


def padded(rows: list[list[int]], filler: int = 0, width: int = 0) -> Tensor:
    width = width or max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def mask_of(rows: list[list[int]]) -> Tensor:
    return padded([[1] * len(row) for row in rows])


WRONG: WrongAnswers = {
    "split_words": [
        ("capitals stay", "case", lambda text: text.split()),
        ("cuts at spaces only", "punctuation", lambda text: text.lower().split()),
        ("knows a-z only", "chinese_deleted", lambda text: re.findall("[a-z0-9]+", text.lower())),
        ("takes Chinese for a word", "chinese_glued", lambda text: re.findall(r"\w+", text.lower())),
        ("cuts Chinese in pairs", "chinese", lambda text: re.findall("[一-龥]{1,2}|[a-z0-9]+", text.lower())),
        ("cuts into letters", "english", lambda text: list(text.lower().replace(" ", ""))),
        ("forgets digits", "mixed", lambda text: re.findall("[一-龥]|[a-z]+", text.lower())),
        ("gives a str", "type", lambda text: " ".join(re.findall("[一-龥]|[a-z0-9]+", text.lower()))),
        ("drops double words", "english", lambda text: list(dict.fromkeys(re.findall("[a-z]+", text.lower())))),
    ],
    "encode": [
        ("no special tokens", "cls", lambda words, v, n: lookup(words, v)),
        ("no [SEP]", "sep", lambda words, v, n: [2, *lookup(words, v)][:n]),
        ("counts from 0", "ids", lambda words, v, n: [2, *range(len(words)), 3]),
        ("looks up without [UNK]", "unknown", lambda words, v, n: [2, *(v[w] for w in words), 3]),
        ("leaves unknown words out", "unknown", lambda words, v, n: [2, *(v[w] for w in words if w in v), 3]),
        ("never truncates", "too_long", lambda words, v, n: [2, *lookup(words, v), 3]),
        ("forgets that [CLS] and [SEP] count", "too_long", lambda words, v, n: [2, *lookup(words, v)[:n], 3]),
        ("forgets that [SEP] counts", "too_long", lambda words, v, n: [2, *lookup(words, v)[: n - 1], 3]),
        ("cuts [SEP] off", "sep_cut", lambda words, v, n: [2, *lookup(words, v), 3][:n]),
        ("keeps the end, not the beginning", "truncation", lambda words, v, n: [2, *lookup(words, v)[2 - n :], 3]),
        ("gives a tensor", "type", lambda words, v, n: torch.tensor([2, *lookup(words, v)[: n - 2], 3])),
    ],
    "pad": [
        ("on the left", "left", lambda rows: (padded([row[::-1] for row in rows]).flip(1), mask_of(rows).flip(1))),
        ("fills with [UNK]", "pad_id", lambda rows: (padded(rows, 1), mask_of(rows))),
        ("loses [SEP]", "ids", lambda rows: (padded([row[:-1] for row in rows], width=4), mask_of(rows))),
        ("mask is the wrong way round", "inverted", lambda rows: (padded(rows), 1 - mask_of(rows))),
        ("mask is all ones", "mask_of_ones", lambda rows: (padded(rows), torch.ones_like(padded(rows)))),
        ("gives the ids as mask", "mask", lambda rows: (padded(rows), padded(rows))),
        ("pads to 77", "shape", lambda rows: (padded(rows, width=77), padded(rows, width=77) > 0)),
        ("cuts to the shortest", "shape", lambda rows: 2 * (torch.tensor([row[:3] for row in rows]),)),
        ("gives lists", "type", lambda rows: (padded(rows).tolist(), mask_of(rows).tolist())),
        ("gives ids alone", "type", padded),
        ("gives floats", "dtype", lambda rows: (padded(rows).float(), mask_of(rows))),
    ],
}
