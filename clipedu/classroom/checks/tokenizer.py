"""The checks of notebook 01, tokenizer."""

from __future__ import annotations

from torch import Tensor

from clipedu.classroom.checks.framework import Answer, Refused, call, exercise, must, tensor
from clipedu.tokenizer import CLS, PAD, SEP, UNK


@exercise
def split_words(answer: Answer) -> None:
    """Exercise 1.1: `split_words(text) -> list[str]`."""

    def words(text: str) -> list[str]:
        result = call(answer, text)
        kind = type(result).__name__
        must(isinstance(result, list), "type", f"应返回列表，得到的是 {kind}", f"a list must come back, not {kind}")
        return result

    one = words("Red CIRCLE")
    must(
        one != ["Red", "CIRCLE"],
        "case",
        "大写没有变成小写：Red 和 red 会成为两个词",
        "capitals stay: Red and red would be two words",
    )
    must(
        one == ["red", "circle"],
        "english",
        f"'Red CIRCLE' 应得 ['red', 'circle']，得到 {one}",
        f"'Red CIRCLE' must give ['red', 'circle'], not {one}",
    )
    marks = words("a dog, a cat!")
    must(
        not any(mark in word for word in marks for mark in ",!"),
        "punctuation",
        f"标点留在了词里：{marks}",
        f"punctuation stays in the words: {marks}",
    )
    must(
        marks == ["a", "dog", "a", "cat"],
        "english",
        f"'a dog, a cat!' 应得 4 个词，得到 {marks}",
        f"'a dog, a cat!' must give 4 words, not {marks}",
    )
    chinese = words("红色的圆")
    must(
        chinese,
        "chinese deleted",
        "汉字被删掉了：正则表达式只认识 a-z",
        "the Chinese is gone: the pattern knows a-z only",
    )
    must(
        chinese != ["红色的圆"],
        "chinese glued",
        "整句汉字成了一个词：每个汉字应单独成为词元",
        "the whole Chinese phrase is one word: each character must stand alone",
    )
    must(
        chinese == list("红色的圆"),
        "chinese",
        f"'红色的圆' 应得 4 个字，得到 {chinese}",
        f"'红色的圆' must give 4 characters, not {chinese}",
    )
    mixed = words("3只cat")
    must(
        mixed == ["3", "只", "cat"],
        "mixed",
        f"'3只cat' 应得 ['3', '只', 'cat']，得到 {mixed}",
        f"'3只cat' must give ['3', '只', 'cat'], not {mixed}",
    )


@exercise
def encode(answer: Answer) -> None:
    """Exercise 1.2: `encode(words, vocabulary, max_length) -> list[int]`."""
    vocabulary = {"[PAD]": PAD, "[UNK]": UNK, "[CLS]": CLS, "[SEP]": SEP, "a": 4, "red": 5, "circle": 6}

    def ids(words: list[str], max_length: int) -> list[int]:
        try:
            result = call(answer, words, dict(vocabulary), max_length)
        except KeyError as error:
            raise Refused(
                "unknown",
                f"没见过的词 {error} 让查表失败了：它应变成 [UNK]",
                f"the unknown word {error} broke the lookup: it must become [UNK]",
            ) from None
        kind = type(result).__name__
        must(isinstance(result, list), "type", f"应返回列表，得到的是 {kind}", f"a list must come back, not {kind}")
        return result

    short = ids(["a", "red", "circle"], 10)
    must(
        short[:1] == [CLS],
        "cls",
        f"第一个 id 应是 [CLS]={CLS}，得到 {short}",
        f"the first id must be [CLS]={CLS}, not {short}",
    )
    must(
        short[-1:] == [SEP],
        "sep",
        f"最后一个 id 应是 [SEP]={SEP}，得到 {short}",
        f"the last id must be [SEP]={SEP}, not {short}",
    )
    must(
        short == [CLS, 4, 5, 6, SEP],
        "ids",
        f"'a red circle' 应得 {[CLS, 4, 5, 6, SEP]}，得到 {short}",
        f"'a red circle' must give {[CLS, 4, 5, 6, SEP]}, not {short}",
    )
    strange = ids(["a", "zebra"], 10)
    must(
        strange == [CLS, 4, UNK, SEP],
        "unknown",
        f"没见过的词应变成 [UNK]={UNK}，得到 {strange}",
        f"an unknown word must become [UNK]={UNK}, not {strange}",
    )
    cut = ids(["a", "red", "circle"], 4)
    must(
        len(cut) <= 4,
        "too long",
        f"max_length=4 却得到 {len(cut)} 个 id:[CLS] 和 [SEP] 也算在内",
        f"max_length=4, yet there are {len(cut)} ids: [CLS] and [SEP] count too",
    )
    must(
        cut[-1] == SEP,
        "sep cut",
        f"截断切掉了 [SEP]：{cut}；先给它留出位置",
        f"truncation cut off [SEP]: {cut}; keep a place for it",
    )
    must(
        cut == [CLS, 4, 5, SEP],
        "truncation",
        f"截断后应得 {[CLS, 4, 5, SEP]}，得到 {cut}",
        f"cut to 4 it must be {[CLS, 4, 5, SEP]}, not {cut}",
    )


@exercise
def pad(answer: Answer) -> None:
    """Exercise 1.3: `pad(rows) -> (input_ids, attention_mask)`, tensors as wide as the longest row."""
    rows = [[CLS, 5, 6, SEP], [CLS, 7, SEP]]
    result = call(answer, [list(row) for row in rows])
    must(
        isinstance(result, tuple) and len(result) == 2,
        "type",
        "应返回两样东西：input_ids, attention_mask",
        "two things must come back: input_ids, attention_mask",
    )
    must(
        not any(isinstance(part, Tensor) and part.is_floating_point() for part in result),
        "dtype",
        "编号和掩码应是整数：嵌入表不能用小数来查",
        "ids and mask must be whole numbers: an embedding cannot be looked up by a float",
    )
    input_ids, attention_mask = (tensor(lambda part: part, (2, 4), part) for part in result)
    must(
        input_ids[1].tolist() != [PAD, CLS, 7, SEP],
        "left",
        "填充加在了左边：[CLS] 必须留在第 0 个位置",
        "padding stands on the left: [CLS] must stay at position 0",
    )
    must(
        input_ids[1, 3] == PAD,
        "pad id",
        f"空位应填 [PAD]={PAD}，得到 {int(input_ids[1, 3])}",
        f"the empty place must hold [PAD]={PAD}, not {int(input_ids[1, 3])}",
    )
    must(
        input_ids.tolist() == [rows[0], [*rows[1], PAD]],
        "ids",
        "填充之外的 id 改变了",
        "ids other than the padding have changed",
    )
    must(
        attention_mask.tolist() != [[0, 0, 0, 0], [0, 0, 0, 1]],
        "inverted",
        "掩码反了：1 表示词元，0 表示填充",
        "the mask is the wrong way round: 1 is a token, 0 is padding",
    )
    must(
        attention_mask.tolist() != [[1, 1, 1, 1], [1, 1, 1, 1]],
        "mask of ones",
        "掩码全是 1：填充的位置应为 0",
        "the mask is all ones: padding must be 0",
    )
    must(
        attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]],
        "mask",
        "掩码应在词元处为 1，填充处为 0",
        "the mask must be 1 at tokens and 0 at padding",
    )
