"""The checks of notebook 01, tokenizer."""

from __future__ import annotations

from clipedu.classroom.checks.framework import Answer, Mistakes, exercise
from clipedu.tokenizer import CLS, PAD, SEP, UNK

SHOULD_GIVE = "{text!r} 应得 {wanted}，得到 {found}\n{text!r} should give {wanted}, not {found}"


@exercise(
    type="应返回两个列表：ids, mask\nexpected two lists: ids, mask",
    cls=f"第一个 id 应是 [CLS]={CLS}，得到 {{found}}\nthe first id should be [CLS]={CLS}, not {{found}}",
    sep=f"句子后面应是 [SEP]={SEP}，得到 {{found}}\n[SEP]={SEP} should follow the sentence: {{found}}",
    ids="{words} 应得 {wanted}，得到 {found}\n{words} should give {wanted}, not {found}",
    unknown=f"没见过的词应变成 [UNK]={UNK}，得到 {{found}}\nan unknown word should become [UNK]={UNK}, not {{found}}",
    too_long="max_length=4，却得到 {found}：[CLS] 和 [SEP] 也算在内\n"
    "max_length=4, but got {found}: [CLS] and [SEP] count too",
    sep_cut="截断切掉了 [SEP]：{found}；请先给它留出位置\ntruncation cut off [SEP]: {found}; leave room for it",
    truncation="截断后应得 {wanted}，得到 {found}\ntruncated to 4 ids, it should be {wanted}, not {found}",
    not_filled=f"没有补到 max_length=7：{{found}}；空位填 [PAD]={PAD}\n"
    f"not filled up to max_length=7: {{found}}; put [PAD]={PAD} in the empty places",
    left="填充加在了左边：[CLS] 必须留在第 0 个位置\nthe padding is on the left: [CLS] must stay at position 0",
    sep_last="[SEP] 到了填充的后面：{found}；应先加 [SEP]，再填充\n"
    "[SEP] comes after the padding: {found}; add [SEP] first, then fill up",
    pad_id=f"空位应填 [PAD]={PAD}，得到 {{found}}\nthe empty places should be [PAD]={PAD}: {{found}}",
    inverted="掩码反了：1 表示词元，0 表示填充\nthe mask is inverted: 1 means token, 0 means padding",
    mask_of_ones="掩码全是 1：填充的位置应为 0\nthe mask is all ones: padding should be 0",
    unknown_masked="[UNK] 也是词元，掩码应为 1，得到 {found}\n[UNK] is a token too, its mask is 1, not as in {found}",
    mask="掩码应为 {wanted}，得到 {found}\nthe mask should be {wanted}, not {found}",
)
def encode(answer: Answer) -> None:
    """Exercise 1.1: `encode(words, vocabulary, max_length) -> (ids, mask)`."""
    vocabulary = {"[PAD]": PAD, "[UNK]": UNK, "[CLS]": CLS, "[SEP]": SEP, "a": 4, "red": 5, "circle": 6}
    ends = {"cls": lambda ids: ids[:1] != [CLS], "sep": lambda ids: ids[-1:] != [SEP]}
    cuts = {"too_long": lambda ids: len(ids) > 4, "sep_cut": lambda ids: ids[-1] != SEP}
    fills = {
        "not_filled": lambda ids: len(ids) < 7,
        "left": [PAD, PAD, CLS, 4, 5, 6, SEP],
        "sep_last": [CLS, 4, 5, 6, PAD, PAD, SEP],
        "pad_id": lambda ids: ids[:5] == [CLS, 4, 5, 6, SEP],
    }
    for words, max_length, wanted, mistakes, otherwise in (
        (["a", "red", "circle"], 5, [CLS, 4, 5, 6, SEP], ends, "ids"),
        (["a", "zebra"], 4, [CLS, 4, UNK, SEP], {}, "unknown"),
        (["a", "red", "circle"], 4, [CLS, 4, 5, SEP], cuts, "truncation"),
        (["a", "red", "circle"], 7, [CLS, 4, 5, 6, SEP, PAD, PAD], fills, "ids"),
    ):
        try:
            result = answer.call(words, vocabulary, max_length)
        except KeyError as error:
            answer.refuse("unknown", found=f"KeyError: {error}")
        answer.must(isinstance(result, tuple) and len(result) == 2, "type")
        answer.compare(answer.like([], result[0]), wanted, mistakes, otherwise, words=words)
    masks: tuple[tuple[list[str], list[int], Mistakes], ...] = (
        (["a", "red"], [1, 1, 1, 1, 0, 0], {"inverted": [0, 0, 0, 0, 1, 1], "mask_of_ones": [1] * 6}),
        (["a", "zebra"], [1, 1, 1, 1, 0, 0], {"unknown_masked": [1, 1, 0, 1, 0, 0]}),
    )
    for words, wanted, known in masks:
        mask = [int(number) for number in answer.like([], answer.call(words, vocabulary, 6)[1])]  # True counts as 1
        answer.compare(mask, wanted, known, "mask")


@exercise(
    letters="没有合并：{found}\nnothing was merged: {found}",
    order="合并的次序反了：{found}；先学到的先合并\nthe merges were applied backwards: {found}; start with the first",
    first_only="只用了第一条合并规则：{found}\nonly the first merge was applied: {found}",
    stops="遇到用不上的规则就停了：{found}；应跳过它，继续看下一条\n"
    "it stops at a merge that does not apply: {found}; skip it and go on with the next",
    doubled="合并之后，右边那个片段还留着：{found}；它已经用掉了\n"
    "the right-hand piece is still there after it was joined: {found}; it has been used up",
    overlap="'aaa' 中间的 a 用了两次：{found}；从左往右，每个片段只用一次\n"
    "the middle a of 'aaa' was used twice: {found}; go from left to right and use each piece once",
    right_first="是从右往左合并的：{found}；应从左往右\nthis joins from the right: {found}; go from left to right",
    once="同一对出现两次，只合并了一处：{found}\nthe pair occurs twice, but only one was joined: {found}",
    longest="取了最长的片段，没有按次序重放：{found}，应为 {wanted}\n"
    "this takes the longest piece and does not replay the merges: {found} instead of {wanted}",
    substring="片段 'bc' 的开头被当成了 'b'：一对是两个完整的片段，得到 {found}\n"
    "the start of the piece 'bc' was taken for 'b': a pair is two whole pieces, but got {found}",
    value=SHOULD_GIVE,
)
def bpe_encode(answer: Answer) -> None:
    """Exercise 1.2: `bpe_encode(word, merges) -> list[str]`."""
    learned = [("i", "n"), ("in", "g"), ("r", "ing"), ("s", "t")]
    first_mistakes = {
        "letters": [*"string"],
        "order": ["st", "r", "in", "g"],
        "first_only": ["s", "t", "r", "in", "g"],
        "doubled": lambda pieces: len("".join(pieces)) > len("string"),
    }
    for word, merges, wanted, mistakes in (
        ("string", learned, ["st", "ring"], first_mistakes),
        ("star", learned, ["st", "a", "r"], {"stops": [*"star"]}),
        (
            "banana",
            [("a", "n")],
            ["b", "an", "an", "a"],
            {"once": (["b", "an", "a", "n", "a"], ["b", "a", "n", "an", "a"])},
        ),
        ("aaa", [("a", "a")], ["aa", "a"], {"overlap": ["aa", "aa"], "right_first": ["a", "aa"]}),
        ("abc", [("b", "c"), ("a", "b")], ["a", "bc"], {"longest": ["ab", "c"], "substring": ["abc"]}),
    ):
        answer.expect((word, merges), wanted, mistakes, text=word)


@exercise(
    garbled="还没有译成文字：一个字符是一个字节，先变回字节，得到 {found!r}\n"
    "not yet text: each character stands for one byte, turn them back into bytes first; got {found!r}",
    alone="每个片段单独解码了：{found!r}；一个字的字节可能分在两个片段里，先接起来\n"
    "each piece was decoded alone: {found!r}; a character's bytes may lie in two pieces, so join them first",
    spaces="片段之间多了空格：{found!r}\nthere are spaces between the pieces: {found!r}",
    crash="字节不完整时出错了：{found}；不完整的字应变成 �\n"
    "it fails when bytes are missing: {found}; an incomplete character should become �",
    dropped="不完整的字悄悄不见了：应变成 �，得到 {found!r}\n"
    "the incomplete character disappeared silently: it should become �, not {found!r}",
    value="应得 {wanted!r}，得到 {found!r}\nit should be {wanted!r}, not {found!r}",
)
def bpe_decode(answer: Answer) -> None:
    """Exercise 1.3: `bpe_decode(pieces) -> str`."""

    def letters(text: str) -> str:
        return text.encode().decode("latin-1")

    red = letters("红")
    for pieces, wanted, mistakes in (
        (["r", "ing"], "ring", {"spaces": "r ing"}),
        ([red, letters("色")], "红色", {"garbled": letters("红色")}),
        ([red[0], red[1:]], "红", {"alone": lambda text: "\ufffd" in text}),
        (["a ", red[:2]], "a \ufffd", {"dropped": "a "}),
    ):
        try:
            answer.expect((pieces,), wanted, mistakes)
        except UnicodeDecodeError as error:
            if pieces[-1] == red[1:]:
                answer.refuse("alone", found=f"UnicodeDecodeError: {error.reason}")
            answer.refuse("crash", found=f"UnicodeDecodeError: {error.reason}")
