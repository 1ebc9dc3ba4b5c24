"""The classroom's bilingual texts, HTML and Markdown, cut to one language ("zh" or "en")."""

from __future__ import annotations

import re
from collections import Counter
from html import escape, unescape

HAN = "\u3400-\u9fff"
_BLOCK = re.compile(r'<div lang="(zh|en)">\n\n(.*?)\n\n</div>', re.DOTALL)
_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_BOTH_ON_A_LINE = re.compile(  # a heading, a bold line, the summary of a fold, or a picture's description
    r"^(#{1,4} (?:\d\d )?|\*\*|(?:<details>)?<summary>|!\[)(.+?) · (.+?)( ★.*|\*\*|</summary>|\]\(\S+\))?$",
    re.MULTILINE,
)
_GLOSS = re.compile(rf"\*\*([^*\n]+?) ?\([^()\n]*[{HAN}][^()\n]*\)\*\*")  # **vector (向量)**
_DIV = re.compile(r"(<div\b[^>]*>|</div>)")
_CAPTIONED = re.compile(  # a picture whose description is its English caption, and its captions
    r'(<img [^>]*alt=")([^"]*)("[^>]*>(?:<b>(?:(?!</b>).)*</b>)?<div lang="zh">)([^<]*)(</div><div lang="en">\2</div>)'
)
_VALUE = re.compile(r"[-+]?\.?\d|\[|nan\b|[μσ]$")


def prose_in(markdown: str, language: str) -> str:
    """A notebook's Markdown: its blocks in this language, and what stands outside of blocks cut to it."""
    outside, *blocks = _BLOCK.split(markdown)
    parts = [_lines_in(outside, language)]
    for block_language, block, outside in zip(blocks[::3], blocks[1::3], blocks[2::3], strict=True):
        if block_language == language:
            parts.append(_GLOSS.sub(r"**\1**", block) if language == "en" else block)
        parts.append(_lines_in(outside, language))
    return re.sub(r"\n{3,}", "\n\n", "".join(parts)).strip()


def _lines_in(text: str, language: str) -> str:
    def cut(match: re.Match[str]) -> str:
        start, zh, en, end = match.groups(default="")
        return start + (en if language == "en" else zh) + (end if language == "en" else end.replace(" min", " 分钟"))

    parts = _FENCED.split(text)
    parts[::2] = [_BOTH_ON_A_LINE.sub(cut, part) for part in parts[::2]]
    return "".join(parts)


def html_in(html: str, language: str) -> str:
    """A view's HTML: the blocks of the other language left out, descriptions of pictures and bold names cut."""
    if language == "zh":
        html = _CAPTIONED.sub(r"\1\4\3\4\5", html)
        html = re.sub(r'alt="image (\d+)"', r'alt="图 \1"', html)
    kept, open_blocks = [], list[bool]()  # for every open <div>, whether what is inside is in the other language
    for part in _DIV.split(html):
        if part.startswith("<div"):
            named = re.search(r'\blang="(zh|en)"', part)
            open_blocks.append(bool(named) and named[1] != language)  # type: ignore[index]
            part = "<div>" if named else part
        if not any(open_blocks):
            kept.append(part)
        if part == "</div>" and open_blocks:
            open_blocks.pop()
    html = re.sub(
        r'alt="([^"]*)"', lambda match: f'alt="{escape(text_in(unescape(match[1]), language))}"', "".join(kept)
    )
    return re.sub(rf"<b>([^<·]*[{HAN}][^<·]*) · ([^<·]*)</b>", rf"<b>\{1 + (language == 'en')}</b>", html)


def text_in(text: str, language: str) -> str:
    """Each label `中文 | English` in a view's text cut to the language; values around it stay.

    Chinese begins after a mark of punctuation or an arrow, English ends before one, or before a value that the Chinese
    does not contain: of `种子 0 | seed 0 4.20 … 2.39`, the label is `seed 0`.
    """
    done, (rest, *others) = "", text.split(" | ")
    for following in others:
        start = re.match(r"(?:.*(?:[;:,] |\n|[→↑↓] ))?", rest, re.DOTALL)
        before, zh = rest[: start.end()], rest[start.end() :] if start else rest  # type: ignore[union-attr]
        if not re.search(f"[{HAN}]", zh):
            rest += f" | {following}"
            continue
        en = _english(following, zh)
        number = re.match(r"\d+ ", zh)
        unit = number[0] if number and not re.search(r"\d", en) else ""  # 600 步 | steps
        done += before + (unit + en if language == "en" else zh)
        rest = following[len(en) :]
    return done + rest


def _english(following: str, zh: str) -> str:
    """The beginning of `following` that is the English of the label `zh`."""
    clause = re.split(r"\n|[;:] | [→↑↓] ", following)[0]
    known, taken = Counter(zh.split(" ")), list[str]()
    for word in clause.split(" "):
        known[word] -= 1
        if (_VALUE.match(word) and known[word] < 0) or re.search(f"[{HAN}]", word):
            break
        taken.append(word)
    return " ".join(taken).removesuffix(",")
