"""The notebooks as data, and the rules they must follow; each rule yields what violates it."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat

from clipedu.classroom.site.needed import bound_at_top, names_read, needed_cells
from tests.conftest import ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
HAN = "\u3400-\u9fff"
BLOCK = re.compile(r'<div lang="(zh|en)">\n\n(.*?)\n\n</div>', re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"(?<!`)(`+)(.+?)\1(?!`)")
FORMULA = re.compile(r"\$\$.+?\$\$|(?<!\\)\$[^$\n]+\$", re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)|<a [^>]*href=\"([^\"]+)\"|<img [^>]*src=\"([^\"]+)\"")
NUMBER = re.compile(r"(?<![A-Za-z\d.@])(\d+(?:,\d{3})*(?:\.\d+)?)(?: ?(万|亿|thousand|million|billion))?")  # not L2's 2
UNITS = {"万": 1e4, "亿": 1e8, "thousand": 1e3, "million": 1e6, "billion": 1e9, "": 1}
DATA_URI = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+")
BOLD_TERM = re.compile(r"\*\*([^*\n]+?) ?[((]([^()()\n]+)[))]\*\*")


def with_seed(source: str, seed: int) -> str:
    """A cell's source with its seed changed to `seed`."""
    return source.replace("SEED = 0\n", f"SEED = {seed}\n")


@dataclass(frozen=True)
class Lesson:
    """A notebook; cells are identified by position."""

    notebook: Any

    @classmethod
    def read(cls, path: Path) -> Lesson:
        return cls(nbformat.read(path, as_version=4))

    @cached_property
    def prose(self) -> list[tuple[str, str]]:
        return [(f"cell {i}", c.source) for i, c in enumerate(self.notebook.cells) if c.cell_type == "markdown"]

    @cached_property
    def code(self) -> list[tuple[str, Any]]:
        return [(f"cell {i}", c) for i, c in enumerate(self.notebook.cells) if c.cell_type == "code"]

    @cached_property
    def outputs(self) -> list[tuple[str, Any]]:
        return [(where, output) for where, cell in self.code for output in cell.outputs]

    def output_texts(self, *mime_types: str) -> Iterator[tuple[str, str]]:
        """The contents of outputs with these MIME types; without any, all text, including printed lines."""
        for where, output in self.outputs:
            for mime_type, content in output.get("data", {}).items():
                if mime_type in mime_types or (not mime_types and isinstance(content, str)):
                    yield where, content
            if not mime_types:
                yield where, output.get("text", "")


Rule = Callable[[Lesson], Iterator[str]]


def every_cell_was_run(lesson: Lesson) -> Iterator[str]:
    """nbval never compares a cell without an execution count, so a stripped notebook would pass unnoticed."""
    for count, (where, cell) in enumerate(lesson.code, 1):
        if cell.execution_count != count or not cell.source.strip():
            yield f"{where} is empty or has the count {cell.execution_count}, not {count}"
    for where, output in lesson.outputs:
        if output.output_type == "error" or output.get("name") == "stderr":
            yield f"{where} fails or warns: {output.get('ename') or output.text[:80]}"


def only_the_lesson_is_saved(lesson: Lesson) -> Iterator[str]:
    """No widget state, timestamps or editor settings, no tags except nbval's, less than 3 MB; code may be folded."""
    for error in nbformat.validator.iter_validate(lesson.notebook):
        yield f"not a valid notebook: {error.message}"
    if lesson.notebook.metadata != METADATA:
        yield f"metadata: {lesson.notebook.metadata}"
    ids = Counter(cell.get("id") for cell in lesson.notebook.cells)
    yield from (f"the id {name} occurs {count} times" for name, count in ids.items() if count > 1)
    for number, cell in enumerate(lesson.notebook.cells):
        allowed = {
            "tags": ["nbval-ignore-output"],
            "jupyter": {"source_hidden": True},
        }  # the latter folds a figure's code
        if not cell.metadata.items() <= allowed.items():
            yield f"cell {number} has the metadata {cell.metadata}"
    for where, output in lesson.outputs:
        if mime_types := set(output.get("data", {})) - {"text/html", "text/plain", "text/markdown"}:
            yield f"{where} shows {sorted(mime_types)}, which may lack alt text: use a View"
    if (size := len(json.dumps(lesson.notebook, ensure_ascii=False).encode())) >= 3_000_000:
        yield f"{size / 1e6:.1f} MB"


def no_local_paths(lesson: Lesson) -> Iterator[str]:
    local_path = re.compile(r".{,20}(?:(?<![\w.])/(?:root|home|work|tmp|Users)\b|\b[A-Z]:\\+Users).{,20}")
    for where, text in [*lesson.prose, *((where, cell.source) for where, cell in lesson.code), *lesson.output_texts()]:
        yield from (f"{where}: {path}" for path in local_path.findall(DATA_URI.sub("", text)))


def code_is_plain(lesson: Lesson) -> Iterator[str]:
    """The language switch comes first; at most 15 lines per cell; no magics; nothing that hides a broken install."""
    if not lesson.code or "language_switch()" not in lesson.code[0][1].source:
        yield "the first code cell has no language_switch()"
    for where, cell in lesson.code:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        if len(lines) > 15:
            yield f"{where} has {len(lines)} lines"
        yield from (f"{where}: {line}" for line in lines if re.match(r"\s*[%!]|.*(sys\.path|pyplot)", line))


def figures_read_stable_names(lesson: Lesson) -> Iterator[str]:
    """A figure is redrawn when its slider moves, after all cells have run: the names it reads must not be rebound."""
    nodes = [node for _, cell in lesson.code for node in ast.parse(cell.source).body]
    functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    read: dict[str, str] = {}  # name that a figure reads -> where the figure is
    for where, cell in lesson.code:
        tree = ast.parse(cell.source)
        rebound = bound_at_top(tree) & read.keys()
        yield from (f"{where} rebinds {name}, which the figure of {read[name]} reads" for name in rebound)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) in ("explore", "dashboard"):
                for argument in call.args:
                    read |= {name: where for name in names_read(argument, functions) if name not in read}


def needed_by_figures(lesson: Lesson) -> list[tuple[str, Any]]:
    """The code cells that interactive figures depend on: those that bind a name they read, recursively."""
    return [lesson.code[place] for place in needed_cells([cell.source for _, cell in lesson.code])]


def ignored_outputs_are_asserted(lesson: Lesson) -> Iterator[str]:
    """If an output depends on the machine, its cell or the next one has an assertion, or the cell only displays."""
    asserting = [_asserts(cell) for _, cell in lesson.code] + [False]
    for number, (where, cell) in enumerate(lesson.code):
        ignored = "nbval-ignore-output" in cell.metadata.get("tags", [])
        if ignored and not (any(asserting[number : number + 2]) or _only_shows(cell)):
            yield f"{where} is neither compared nor asserted"


def _asserts(cell: Any) -> bool:
    nodes = list(ast.walk(ast.parse(cell.source)))
    calls = [ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)]
    return any(isinstance(node, ast.Assert) for node in nodes) or any("assert" in name for name in calls)


def _only_shows(cell: Any) -> bool:
    """Whether the cell is a single call to the classroom, which the project's own tests cover."""
    *before, last = ast.parse(cell.source).body
    shows = "explore", "environment_card", "language_switch", "show_source", "check."
    called = ast.unparse(last.value.func) if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call) else ""
    return called.startswith(shows) and all(isinstance(node, ast.ImportFrom) for node in before)


def every_image_is_described(lesson: Lesson) -> Iterator[str]:
    for where, text in [*lesson.output_texts("text/html", "text/markdown"), *lesson.prose]:
        tags = re.findall(r"<img\b[^>]*>", text)
        if not all(re.search(r'\balt="\s*[^"\s]', tag) for tag in tags) or re.search(r"!\[\s*\]\(", text):
            yield f"{where} has an image without alt text"


def links_resolve(lesson: Lesson) -> Iterator[str]:
    for where, text in [*lesson.prose, *lesson.output_texts("text/html", "text/markdown")]:
        for target in _targets(INLINE_CODE.sub("", FENCED.sub("", DATA_URI.sub("", text)))):
            if not target.startswith("https://") and not _resolves(target, lesson):
                yield f"{where}: {target}"


def _targets(text: str) -> list[str]:
    return [named or href or source for _, _, named, href, source in LINK.findall(text) if named or href or source]


def _resolves(target: str, lesson: Lesson) -> bool:
    name, _, anchor = target.partition("#")
    path = (FOLDER / name).resolve() if name else None
    if path and not (path.exists() and path.is_relative_to(ROOT.resolve())):
        return False
    if path and (line := re.fullmatch(r"L(\d+)", anchor)):
        return int(line[1]) <= len(path.read_text(encoding="utf-8").splitlines())
    text = "\n".join(text for _, text in (Lesson.read(path) if path and anchor else lesson).prose)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return not anchor or anchor in {heading.replace(" ", "-") for heading in headings}  # the names JupyterLab gives


def pairs(lesson: Lesson) -> list[tuple[str, str, str]]:
    """The cell, the Chinese text and the English text of every pair of blocks."""
    texts = []
    for where, text in lesson.prose:
        blocks = BLOCK.findall(text)
        couples = zip(blocks[::2], blocks[1::2], strict=False)
        texts += [(where, zh, en) for (first, zh), (second, en) in couples if (first, second) == ("zh", "en")]
    return texts


def all_text_is_bilingual(lesson: Lesson) -> Iterator[str]:
    """Blocks come in pairs, Chinese first; a line outside a block is in both languages."""
    for where, text in lesson.prose:
        languages = [language for language, _ in BLOCK.findall(text)]
        if languages != ["zh", "en"] * (len(languages) // 2):
            yield f"{where} has the blocks {languages}"
        if text.count("<div") != len(languages) or text.count("</div") != len(languages):
            yield f"{where} has a block that is not on lines of its own with blank lines inside"
        outside = FENCED.sub("", BLOCK.sub("", text))
        yield from (f"{where}: {line!r} is in one language" for line in outside.splitlines() if not _is_bilingual(line))
        if not languages and not outside.strip():
            yield f"{where} is empty"
    for where, zh, en in pairs(lesson):  # an English block may quote Chinese, but a Chinese block must contain Chinese
        zh_words, en_words = (len(re.findall(f"[{HAN}]", _plain(text))) for text in (zh, en))
        if not zh_words or en_words > len(re.findall(r"[A-Za-z]", _plain(en))):
            yield f"{where} has a block in the wrong language"
    for where, html in lesson.output_texts("text/html"):
        if html.count('<div lang="zh">') != html.count('<div lang="en">'):
            yield f"{where} shows a caption in one language"


def _is_bilingual(line: str) -> bool:
    line = re.sub(r"</?details>|</?summary>|^#{1,4} |^\*\*|\*\*$", "", line.strip())
    if not line or line == "---" or FORMULA.fullmatch(line):
        return True
    zh, _, en = re.sub(r"^!\[(.+)\]\(\S+\)$", r"\1", line).partition(" · ")
    return bool(re.search(f"[{HAN}]", zh) and re.search("[A-Za-z]", en) and not re.search(f"[{HAN}]", en))


def _plain(text: str) -> str:
    """The text without code and formulas."""
    return FORMULA.sub("", INLINE_CODE.sub("", FENCED.sub("", text)))


def both_languages_say_the_same(lesson: Lesson) -> Iterator[str]:
    for where, zh, en in pairs(lesson):
        in_zh, in_en = _common_parts(zh), _common_parts(en)
        for kind in in_zh:
            only_zh, only_en = in_zh[kind] - in_en[kind], in_en[kind] - in_zh[kind]
            if only_zh or only_en:
                yield f"{where} {kind}: zh has {sorted(only_zh.elements())}, en {sorted(only_en.elements())}"


def _common_parts(text: str) -> dict[str, Counter[str]]:
    """The parts that must be the same in both languages."""
    fenced = FENCED.findall(text)
    text = FENCED.sub("", text)
    code = [match[1] for match in INLINE_CODE.findall(text)]
    text = INLINE_CODE.sub("`", text)
    formulas = [" ".join(formula.split()) for formula in FORMULA.findall(text)]
    text = FORMULA.sub("$", text)
    links = _targets(text)
    text = LINK.sub(lambda match: match[2] or "", text)
    numbers = [f"{float(digits.replace(',', '')) * UNITS[unit]:.12g}" for digits, unit in NUMBER.findall(text)]
    parts = {"fenced code": fenced, "code": code, "formulas": formulas, "links": links, "numbers": numbers}
    return {kind: Counter(values) for kind, values in parts.items()}


def chinese_punctuation_is_full_width(lesson: Lesson) -> Iterator[str]:
    texts = [(where, _plain(zh)) for where, zh, _ in pairs(lesson)]
    texts += [(where, text) for where, cell in lesson.code for text in chinese_strings(cell.source)]
    for where, text in texts:
        yield from (f"{where}: {mark!r}" for mark in half_width(text))


def half_width(text: str) -> list[str]:
    """Half-width commas, colons and other punctuation next to Chinese characters or inside a list of numbers."""
    return re.findall(rf"[{HAN}）」][,;:?!]|[,;:?!][{HAN}（「]|[{HAN}]\.(?!\w)|\d[,;]\d\d?(?!\d)", text)


def chinese_strings(source: str) -> list[str]:
    """The strings in a program that are mostly Chinese."""
    constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    texts = [value for value in constants if isinstance(value, str)]
    return [text for text in texts if len(re.findall(f"[{HAN}]", text)) > len(re.findall("[A-Za-z]", text))]


def glossary() -> list[tuple[str, str]]:
    """The (English, Chinese) pairs in glossary.md; `a / b` in both columns gives two pairs."""
    text = (FOLDER / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| *(?!English|\s)(.+?) *\| *([^|]*[{HAN}][^|]*?) *\|", text, re.MULTILINE)
    return [pair for row in rows for pair in zip(*(column.split(" / ") for column in row), strict=True)]


def new_terms(text: str) -> list[tuple[str, str]]:
    """The (English, Chinese) pairs of `**对比损失 (contrastive loss)**`, written in either order."""
    terms = [sorted(term, key=lambda word: bool(re.search(f"[{HAN}]", word))) for term in BOLD_TERM.findall(text)]
    bilingual = [(en, zh) for en, zh in terms if re.search(f"[{HAN}]", zh) and not re.search(f"[{HAN}]", en)]
    return [(english.strip().lower(), chinese.strip()) for english, chinese in bilingual]


def new_terms_are_in_the_glossary(lesson: Lesson) -> Iterator[str]:
    words = {(english.lower() + plural, chinese) for english, chinese in glossary() for plural in ("", "s")}
    seen: set[str] = set()
    for where, zh, en in pairs(lesson):
        in_zh, in_en = new_terms(zh), new_terms(en)
        yield from (f"{where}: {term} is not in the glossary" for term in in_zh + in_en if term not in words)
        zh_terms, en_terms = (sorted(chinese for _, chinese in terms) for terms in (in_zh, in_en))
        if zh_terms != en_terms:
            yield f"{where} introduces {zh_terms} in Chinese and {en_terms} in English"
        yield from (f"{where} introduces {term} again" for term in zh_terms if term in seen)
        seen |= set(zh_terms)


RIVALS = {  # terms we avoid -> the term we use
    "标记": "词元", "令牌": "词元", "标记器|分词机|切词器": "分词器", "词汇表|字典|词典": "词表",
    "投影头|投影层": "投射头", "嵌套|内嵌|词向量": "嵌入", "归一(?!化)|规范化|标准化": "归一化",
    "余弦相似性|余弦距离": "余弦相似度", "批量": "批次", "对照损失|对比性损失": "对比损失", "补齐|补白|填补": "填充",
    "遮罩|掩膜|遮蔽": "掩码", "位置嵌入": "位置编码", "查全率|召回(?!率)": "召回率", "零次|零射|零次学习": "零样本",
    "感知野|感受域": "感受野", "步长": "步幅", "特征映射": "特征图", "精调|细调": "微调", "学习速率": "学习率",
    "过度拟合|过适应": "过拟合", "梯度剪裁|梯度截断": "梯度裁剪",
}  # fmt: skip


def one_chinese_term_per_concept(lesson: Lesson) -> Iterator[str]:
    for where, text in lesson.prose:
        for rival, ours in RIVALS.items():
            yield from (f"{where}: use {ours} for {match[0]}" for match in re.finditer(rival, _plain(text)))


RULES: list[Rule] = [
    every_cell_was_run, only_the_lesson_is_saved, no_local_paths, code_is_plain,
    figures_read_stable_names, ignored_outputs_are_asserted, every_image_is_described, links_resolve,
    all_text_is_bilingual, both_languages_say_the_same, chinese_punctuation_is_full_width,
    new_terms_are_in_the_glossary, one_chinese_term_per_concept,
]  # fmt: skip
