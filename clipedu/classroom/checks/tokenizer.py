"""The checks of notebook 01, tokenizer."""

from __future__ import annotations

import torch

from clipedu.classroom.checks.framework import Answer, exercise
from clipedu.tokenizer import CLS, PAD, SEP, UNK

SHOULD_GIVE = "{text!r} 应得 {wanted}，得到 {found}\n{text!r} should give {wanted}, not {found}"


@exercise(
    case="大写没有变成小写：Red 和 red 会成为两个词\ncapitals remain: Red and red would be two words",
    english=SHOULD_GIVE,
    punctuation="标点留在了词里：{found}\npunctuation is left in the words: {found}",
    chinese_deleted="汉字被删掉了：正则表达式只匹配 a-z\nthe Chinese characters are gone: the pattern matches only a-z",
    chinese_glued="整句汉字成了一个词：每个汉字应单独成为词元\n"
    "the whole Chinese phrase is one word: each character should be its own token",
    chinese=SHOULD_GIVE,
    mixed=SHOULD_GIVE,
)
def split_words(answer: Answer) -> None:
    """Exercise 1.1: `split_words(text) -> list[str]`."""

    def has_marks(words: list[str]) -> bool:
        return any(mark in word for word in words for mark in ",!")

    for text, wanted, mistakes, otherwise in (
        ("Red CIRCLE", ["red", "circle"], {"case": ["Red", "CIRCLE"]}, "english"),
        ("a dog, a cat!", ["a", "dog", "a", "cat"], {"punctuation": has_marks}, "english"),
        ("红色的圆", list("红色的圆"), {"chinese_deleted": [], "chinese_glued": ["红色的圆"]}, "chinese"),
        ("3只cat", ["3", "只", "cat"], {}, "mixed"),
    ):
        answer.expect((text,), wanted, mistakes, otherwise, text=text)


@exercise(
    cls=f"第一个 id 应是 [CLS]={CLS}，得到 {{found}}\nthe first id should be [CLS]={CLS}, not {{found}}",
    sep=f"最后一个 id 应是 [SEP]={SEP}，得到 {{found}}\nthe last id should be [SEP]={SEP}, not {{found}}",
    ids="{words} 应得 {wanted}，得到 {found}\n{words} should give {wanted}, not {found}",
    unknown=f"没见过的词应变成 [UNK]={UNK}，得到 {{found}}\nan unknown word should become [UNK]={UNK}, not {{found}}",
    too_long="max_length=4，却得到 {found}：[CLS] 和 [SEP] 也算在内\n"
    "max_length=4, but got {found}: [CLS] and [SEP] count too",
    sep_cut="截断切掉了 [SEP]：{found}；请先给它留出位置\ntruncation cut off [SEP]: {found}; leave room for it",
    truncation="截断后应得 {wanted}，得到 {found}\ntruncated to 4 ids, it should be {wanted}, not {found}",
)
def encode(answer: Answer) -> None:
    """Exercise 1.2: `encode(words, vocabulary, max_length) -> list[int]`."""
    vocabulary = {"[PAD]": PAD, "[UNK]": UNK, "[CLS]": CLS, "[SEP]": SEP, "a": 4, "red": 5, "circle": 6}
    ends = {"cls": lambda ids: ids[:1] != [CLS], "sep": lambda ids: ids[-1:] != [SEP]}
    cuts = {"too_long": lambda ids: len(ids) > 4, "sep_cut": lambda ids: ids[-1] != SEP}
    for words, max_length, wanted, mistakes, otherwise in (
        (["a", "red", "circle"], 10, [CLS, 4, 5, 6, SEP], ends, "ids"),
        (["a", "zebra"], 10, [CLS, 4, UNK, SEP], {}, "unknown"),
        (["a", "red", "circle"], 4, [CLS, 4, 5, SEP], cuts, "truncation"),
    ):
        try:
            answer.expect((words, vocabulary, max_length), wanted, mistakes, otherwise, words=words)
        except KeyError as error:
            answer.refuse("unknown", found=f"KeyError: {error}")


@exercise(
    type="应返回两个张量：input_ids, attention_mask\nexpected two tensors: input_ids, attention_mask",
    dtype="编号和掩码应是整数：不能用小数去查嵌入表\n"
    "ids and mask must be integers: an embedding cannot be indexed with floats",
    left="填充加在了左边：[CLS] 必须留在第 0 个位置\nthe padding is on the left: [CLS] must stay at position 0",
    pad_id=f"空位应填 [PAD]={PAD}，得到 {{found[1][3]}}\nthe empty position should be [PAD]={PAD}, not {{found[1][3]}}",
    ids="填充之外的 id 改变了\nids other than the padding have changed",
    inverted="掩码反了：1 表示词元，0 表示填充\nthe mask is inverted: 1 means token, 0 means padding",
    mask_of_ones="掩码全是 1：填充的位置应为 0\nthe mask is all ones: padding should be 0",
    mask="掩码应在词元处为 1，填充处为 0\nthe mask should be 1 at tokens and 0 at padding",
)
def pad(answer: Answer) -> None:
    """Exercise 1.3: `pad(rows) -> (input_ids, attention_mask)`, tensors as wide as the longest row."""
    result = answer.call([[CLS, 5, 6, SEP], [CLS, 7, SEP]])
    answer.must(isinstance(result, tuple) and len(result) == 2, "type")
    wanted, mask = torch.tensor([[CLS, 5, 6, SEP], [CLS, 7, SEP, PAD]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    input_ids, attention_mask = answer.like(wanted, result[0]), answer.like(mask, result[1])
    answer.must(not (input_ids.is_floating_point() or attention_mask.is_floating_point()), "dtype")
    mistakes = {"left": lambda ids: ids[1].tolist() == [PAD, CLS, 7, SEP], "pad_id": lambda ids: ids[1, 3] != PAD}
    answer.compare(input_ids, wanted, mistakes, "ids")
    answer.compare(attention_mask, mask, {"inverted": 1 - mask, "mask_of_ones": torch.ones_like(mask)}, "mask")
