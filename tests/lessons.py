"""The notebooks as data, and the rules they keep: each rule names what breaks it."""

from __future__ import annotations

import ast
import re
import runpy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import nbformat

from tests.conftest import ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

HAN = "\u3400-\u9fff"
BLOCK = re.compile(r'<div lang="(zh|en)">\n\n(.*?)\n\n</div>', re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"(?<!`)(`+)(.+?)\1(?!`)")
FORMULA = re.compile(r"\$\$.+?\$\$|(?<!\\)\$[^$\n]+\$", re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)|<a [^>]*href=\"([^\"]+)\"|<img [^>]*src=\"([^\"]+)\"")
NUMBER = re.compile(  # the 2 of L2 belongs to a name
    r"(?<![A-Za-z\d.@])(\d+(?:,\d{3})*(?:\.\d+)?)(?: ?(万|亿|thousand|million|billion))?"
)
UNITS = {"万": 1e4, "亿": 1e8, "thousand": 1e3, "million": 1e6, "billion": 1e9, "": 1}
DATA_URI = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+")
BOLD_TERM = re.compile(r"\*\*([^*\n]+?) ?[((]([^()()\n]+)[))]\*\*")


def with_seed(source: str, seed: int) -> str:
    """A cell's source with another seed than the saved one."""
    return source.replace("SEED = 0\n", f"SEED = {seed}\n")


def executed(*sources: str, **names: Any) -> dict[str, Any]:
    """What cells define, run one after the other as one program that knows `names` already."""
    with TemporaryDirectory() as folder:
        program = Path(folder) / "cells.py"
        program.write_text("\n\n".join(sources), encoding="utf-8")
        return runpy.run_path(str(program), names, "__main__")


@dataclass(frozen=True)
class Lesson:
    """A notebook with the folder in which its links begin."""

    notebook: Any
    folder: Path = FOLDER

    @classmethod
    def read(cls, path: Path) -> Lesson:
        return cls(nbformat.read(path, as_version=4), path.parent)

    @cached_property
    def prose(self) -> list[tuple[str, str]]:
        """The name and the text of each Markdown cell."""
        return [(f"cell {i}", c.source) for i, c in enumerate(self.notebook.cells) if c.cell_type == "markdown"]

    @cached_property
    def code(self) -> list[tuple[str, Any]]:
        """The name of each code cell, and the cell."""
        return [(f"cell {i}", c) for i, c in enumerate(self.notebook.cells) if c.cell_type == "code"]

    def outputs(self) -> Iterator[tuple[str, Any]]:
        for where, cell in self.code:
            for output in cell.outputs:
                yield where, output

    def shown(self, *kinds: str) -> Iterator[tuple[str, str]]:
        """What outputs hold of these mime types; all text of theirs, printed lines too, where none is named."""
        for where, output in self.outputs():
            for kind, content in output.get("data", {}).items():
                if (kind in kinds) if kinds else isinstance(content, str):
                    yield where, content
            if not kinds:
                yield where, output.get("text", "")


Rule = Callable[[Lesson], Iterator[str]]

# ------------------------------------------------------------------------------------------- code cells and outputs


def every_cell_was_run(lesson: Lesson) -> Iterator[str]:
    """A cell without a count is never compared by nbval, so a stripped notebook would pass unseen."""
    for count, (where, cell) in enumerate(lesson.code, 1):
        if not cell.source.strip():
            yield f"{where} is empty"
        if cell.execution_count != count:
            yield f"{where} has the count {cell.execution_count}, not {count}"


def no_error_is_saved(lesson: Lesson) -> Iterator[str]:
    for where, output in lesson.outputs():
        if output.output_type == "error":
            yield f"{where} failed: {output.ename}"
        if output.get("name") == "stderr":
            yield f"{where} warns: {output.text[:80]}"


def cells_are_short(lesson: Lesson) -> Iterator[str]:
    for where, cell in lesson.code:
        lines = sum(bool(line.strip()) for line in cell.source.splitlines())
        if lines > 15:
            yield f"{where} has {lines} lines"


def nothing_but_the_lesson_is_saved(lesson: Lesson) -> Iterator[str]:
    """No widget states, times, or settings of an editor; the one tag is nbval's."""
    for fault in nbformat.validator.iter_validate(lesson.notebook):
        yield f"not a valid notebook: {fault.message}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    if lesson.notebook.metadata != {"kernelspec": kernel, "language_info": {"name": "python"}}:
        yield f"metadata: {lesson.notebook.metadata}"
    ids = Counter(cell.get("id") for cell in lesson.notebook.cells)
    yield from (f"the id {name} occurs {count} times" for name, count in ids.items() if count > 1)
    for number, cell in enumerate(lesson.notebook.cells):
        if cell.metadata not in ({}, {"tags": ["nbval-ignore-output"]}):
            yield f"cell {number} has the metadata {cell.metadata}"
    for where, output in lesson.outputs():
        kinds = set(output.get("data", {}))
        if kinds - {"text/html", "text/plain", "text/markdown"}:
            yield f"{where} shows {sorted(kinds)}: a View has alt text, these may not"


def not_too_large(lesson: Lesson) -> Iterator[str]:
    size = len(nbformat.writes(lesson.notebook).encode())
    if size >= 3_000_000:
        yield f"{size / 1e6:.1f} MB"


def no_place_of_a_machine(lesson: Lesson) -> Iterator[str]:
    place = re.compile(r"(?<![\w.])/(?:root|home|work|tmp|Users)\b|\b[A-Z]:\\+Users")
    texts = [*lesson.prose, *((where, cell.source) for where, cell in lesson.code), *lesson.shown()]
    for where, text in texts:
        for found in place.finditer(DATA_URI.sub("", text)):
            yield f"{where}: {text[max(0, found.start() - 20) : found.end() + 20]!r}"


def imports_are_plain(lesson: Lesson) -> Iterator[str]:
    for where, cell in lesson.code:
        yield from (f"{where} uses {word}" for word in ("sys.path", "pyplot", "%matplotlib") if word in cell.source)
        yield from (f"{where}: {line}" for line in cell.source.splitlines() if re.match(r"\s*[%!]", line))


def the_switch_comes_first(lesson: Lesson) -> Iterator[str]:
    if not lesson.code or "language_switch()" not in lesson.code[0][1].source:
        yield "the first code cell has no language_switch()"


def what_moves_keeps_its_names(lesson: Lesson) -> Iterator[str]:
    """A figure is drawn again when its slider moves, after all cells: a name that it reads must still mean the same."""
    functions: dict[str, ast.FunctionDef] = {}
    read: dict[str, str] = {}  # each name that some figure reads -> where that figure is
    for where, cell in lesson.code:
        tree = ast.parse(cell.source)
        bound = _bound_at_top(tree)
        yield from (f"{where} rebinds {name}, which the figure of {read[name]} reads" for name in bound & set(read))
        functions |= {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) in ("explore", "dashboard"):
                for argument in call.args:
                    read |= {name: where for name in _names_read(argument, functions) if name not in read}


def needed_by_figures(lesson: Lesson) -> list[tuple[str, Any]]:
    """The code cells without which what moves could not be drawn: those that bind a name which it reads, and so on."""
    trees = [ast.parse(cell.source) for _, cell in lesson.code]
    imported = {node.asname or node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.alias)}
    functions: list[dict[str, ast.FunctionDef]] = [{}]  # what each cell can call
    for tree in trees:
        bound = _bound_at_top(tree)
        kept = {name: node for name, node in functions[-1].items() if name not in bound}
        functions.append(kept | {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)})
    needed: set[str] = set()
    found = []
    for (where, cell), tree, callable_here in zip(lesson.code[::-1], trees[::-1], functions[:0:-1], strict=True):
        bound = _bound_at_top(tree)
        # A line like tokenizer.build_vocab(...) binds nothing, and changes the tokenizer.
        changed = {_root(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        if "explore(" in cell.source or (bound | (changed - imported)) & needed:
            stored = {
                node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            inner = stored - bound | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
            loops = [node.target for node in ast.walk(tree) if isinstance(node, ast.For)]
            inner |= {node.id for target in loops for node in ast.walk(target) if isinstance(node, ast.Name)}
            needed = (needed - bound) | (_names_read(tree, callable_here) - inner)
            found.append((where, cell))
    return found[::-1]


def _root(expression: ast.expr) -> str | None:
    """The name whose method is called."""
    if not isinstance(expression, ast.Call) or not isinstance(expression.func, ast.Attribute):
        return None
    inner: ast.expr = expression.func
    while isinstance(inner, ast.Attribute):
        inner = inner.value
    return inner.id if isinstance(inner, ast.Name) else None


def _bound_at_top(tree: ast.Module) -> set[str]:
    """What a cell's own lines bind: not what its functions and comprehensions keep to themselves."""
    inner = ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp
    found: set[str] = set()
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        if not isinstance(node, inner):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def _names_read(what: ast.AST, functions: dict[str, ast.FunctionDef]) -> set[str]:
    """All names in it, and in the notebook's functions that it names, and so on; but for their own names."""
    found: set[str] = set()
    waiting = {node.id for node in ast.walk(what) if isinstance(node, ast.Name)}
    while waiting:
        name = waiting.pop()
        found.add(name)
        if name in functions:
            nodes = list(ast.walk(functions[name]))
            own = {node.arg for node in nodes if isinstance(node, ast.arg)}
            own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
            waiting |= {node.id for node in nodes if isinstance(node, ast.Name)} - own - found
    return found


def what_is_not_compared_is_asserted(lesson: Lesson) -> Iterator[str]:
    """An output that depends on the machine: the cell or the next one asserts, or it does nothing but show."""
    cells = [cell for _, cell in lesson.code]
    for (where, cell), following in zip(lesson.code, [*cells[1:], None], strict=True):
        ignored = "nbval-ignore-output" in cell.metadata.get("tags", [])
        if ignored and not (_asserts(cell) or (following and _asserts(following)) or _only_shows(cell)):
            yield f"{where} is neither compared nor asserted"


def _asserts(cell: Any) -> bool:
    for node in ast.walk(ast.parse(cell.source)):
        called = isinstance(node, ast.Call) and "assert" in ast.unparse(node.func)
        if called or isinstance(node, ast.Assert):
            return True
    return False


def _only_shows(cell: Any) -> bool:
    """One call of the classroom, tested by the project's own tests."""
    body = ast.parse(cell.source).body
    last = body[-1]
    if not isinstance(last, ast.Expr) or not isinstance(last.value, ast.Call):
        return False
    rest_imports = all(isinstance(node, ast.ImportFrom) for node in body[:-1])
    shows = "explore", "environment_card", "language_switch", "show_source", "check."
    return rest_imports and ast.unparse(last.value.func).startswith(shows)


class _Images(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.alts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.alts.append((dict(attrs).get("alt") or "").strip())


def every_image_is_described(lesson: Lesson) -> Iterator[str]:
    for where, html in [*lesson.shown("text/html", "text/markdown"), *lesson.prose]:
        drawn = [text.strip() for mark, text, *_ in LINK.findall(html) if mark]
        if not all(_Images(html).alts + drawn):
            yield f"{where} has an image without alt text"


# --------------------------------------------------------------------------------------------------------- links


def links_lead_somewhere(lesson: Lesson) -> Iterator[str]:
    for where, text in [*lesson.prose, *lesson.shown("text/html", "text/markdown")]:
        for target in _targets(INLINE_CODE.sub("", FENCED.sub("", DATA_URI.sub("", text)))):
            if not target.startswith("https://") and not _resolves(target, lesson):
                yield f"{where}: {target}"


def _targets(text: str) -> list[str]:
    return [named or href or source for _, _, named, href, source in LINK.findall(text) if named or href or source]


def _resolves(target: str, lesson: Lesson) -> bool:
    name, _, anchor = target.partition("#")
    path = (lesson.folder / name).resolve() if name else None
    if path and not (path.exists() and path.is_relative_to(lesson.folder.parent.resolve())):
        return False
    if path and (line := re.fullmatch(r"L(\d+)", anchor)):
        return int(line[1]) <= len(path.read_text(encoding="utf-8").splitlines())
    return not anchor or anchor in _anchors(Lesson.read(path) if path else lesson)


def _anchors(lesson: Lesson) -> set[str]:
    """JupyterLab names a heading by its text, with - for spaces."""
    headings = re.findall(r"^#+ (.+)$", "\n".join(text for _, text in lesson.prose), re.MULTILINE)
    return {heading.replace(" ", "-") for heading in headings}


# ------------------------------------------------------------------------------------------------- two languages


class Pair(NamedTuple):
    """The same in both languages, or so it should be."""

    where: str
    zh: str
    en: str


def pairs(lesson: Lesson) -> list[Pair]:
    found = []
    for where, text in lesson.prose:
        blocks = BLOCK.findall(text)
        found += [
            Pair(where, zh, en)
            for (first, zh), (second, en) in zip(blocks[::2], blocks[1::2], strict=False)
            if (first, second) == ("zh", "en")
        ]
    return found


def both_languages_speak(lesson: Lesson) -> Iterator[str]:
    """Blocks come in pairs, Chinese first; whatever stands outside of them says both in one line."""
    for where, text in lesson.prose:
        languages = [language for language, _ in BLOCK.findall(text)]
        if languages != ["zh", "en"] * (len(languages) // 2):
            yield f"{where} has the blocks {languages}"
        if text.count("<div") != len(languages) or text.count("</div") != len(languages):
            yield f"{where} has a block that is not on lines of its own with blank lines inside"
        outside = FENCED.sub("", BLOCK.sub("", text))
        yield from (f"{where}: {line!r} is in one language" for line in outside.splitlines() if not _says_both(line))
        if not languages and not outside.strip():
            yield f"{where} says nothing"
    for where, zh, en in pairs(lesson):
        # A heading of English words in Chinese type is no translation; Chinese quoted in English is.
        zh_words, en_words = (len(re.findall(f"[{HAN}]", _spoken(text))) for text in (zh, en))
        latin = len(re.findall(r"[A-Za-z]", _spoken(en)))
        if not zh_words or en_words > latin:
            yield f"{where} has a block in the wrong language"
    for where, html in lesson.shown("text/html"):
        if html.count('<div lang="zh">') != html.count('<div lang="en">'):
            yield f"{where} shows a caption in one language"


def _says_both(line: str) -> bool:
    line = re.sub(r"</?details>|</?summary>|^#{1,4} |^\*\*|\*\*$", "", line.strip())
    if not line or line == "---" or FORMULA.fullmatch(line) or re.fullmatch(r"!\[\w+\]\(\S+\)", line):
        return True
    zh, _, en = line.partition(" · ")
    return bool(re.search(f"[{HAN}]", zh) and re.search("[A-Za-z]", en) and not re.search(f"[{HAN}]", en))


def _spoken(text: str) -> str:
    """Without code and formulas."""
    return FORMULA.sub("", INLINE_CODE.sub("", FENCED.sub("", text)))


def both_languages_say_the_same(lesson: Lesson) -> Iterator[str]:
    for where, zh, en in pairs(lesson):
        ours, theirs = said(zh), said(en)
        for kind in ours:
            only_zh, only_en = ours[kind] - theirs[kind], theirs[kind] - ours[kind]
            if only_zh or only_en:
                yield f"{where} {kind}: zh has {sorted(only_zh.elements())}, en {sorted(only_en.elements())}"


def said(text: str) -> dict[str, Counter[str]]:
    """What must be the same in every language."""
    fenced = FENCED.findall(text)
    text = FENCED.sub("", text)
    code = [found[1] for found in INLINE_CODE.findall(text)]
    text = INLINE_CODE.sub("`", text)
    formulas = [" ".join(found.split()) for found in FORMULA.findall(text)]
    text = FORMULA.sub("$", text)
    links = _targets(text)
    text = LINK.sub(lambda found: found[2] or "", text)
    numbers = [f"{float(digits.replace(',', '')) * UNITS[unit]:.12g}" for digits, unit in NUMBER.findall(text)]
    parts = {"fenced code": fenced, "code": code, "formulas": formulas, "links": links, "numbers": numbers}
    return {kind: Counter(found) for kind, found in parts.items()}


def chinese_has_its_own_punctuation(lesson: Lesson) -> Iterator[str]:
    texts = [(where, _spoken(zh)) for where, zh, _ in pairs(lesson)]
    texts += [(where, text) for where, cell in lesson.code for text in chinese_strings(cell.source)]
    for where, text in texts:
        yield from (f"{where}: {found!r}" for found in half_width(text))


def half_width(text: str) -> list[str]:
    """Where a comma, colon or the like of English type stands beside Chinese, or in the middle of a list of numbers."""
    return re.findall(rf"[{HAN}）」][,;:?!]|[,;:?!][{HAN}（「]|[{HAN}]\.(?!\w)|\d[,;]\d\d?(?!\d)", text)


def chinese_strings(source: str) -> list[str]:
    """The strings of a program that are written in Chinese for the greater part."""
    values = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    texts = [value for value in values if isinstance(value, str)]
    return [text for text in texts if len(re.findall(f"[{HAN}]", text)) > len(re.findall("[A-Za-z]", text))]


# ------------------------------------------------------------------------------------------------------ glossary


def glossary(folder: Path = FOLDER) -> list[tuple[str, str]]:
    """The pairs (English, Chinese) of glossary.md; `a / b` in both columns are two pairs."""
    rows = re.findall(r"^\| *(.+?) *\| *(.+?) *\|", (folder / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    found = []
    for english, chinese in rows:
        if re.search(f"[{HAN}]", chinese) and english != "English":
            found += list(zip(english.split(" / "), chinese.split(" / "), strict=True))
    return found


def new_terms(text: str) -> list[tuple[str, str]]:
    """`**对比损失 (contrastive loss)**` or the other way round, as (English, Chinese); a plural counts as its word."""
    found = []
    for first, second in BOLD_TERM.findall(text):
        one, other = (second, first) if re.search(f"[{HAN}]", first) else (first, second)
        if re.search(f"[{HAN}]", other) and not re.search(f"[{HAN}]", one):
            found.append((one.strip().lower(), other.strip()))
    return found


def terms_stand_in_the_glossary(lesson: Lesson) -> Iterator[str]:
    words = {(english.lower(), chinese) for english, chinese in glossary(lesson.folder)}
    words |= {(f"{english}s", chinese) for english, chinese in words}
    seen: set[str] = set()
    for where, zh, en in pairs(lesson):
        for term in new_terms(zh) + new_terms(en):
            if term not in words:
                yield f"{where}: {term} is not in the glossary"
        ours, theirs = [chinese for _, chinese in new_terms(zh)], [chinese for _, chinese in new_terms(en)]
        if sorted(ours) != sorted(theirs):
            yield f"{where} introduces {ours} in Chinese and {theirs} in English"
        yield from (f"{where} introduces {term} again" for term in ours if term in seen)
        seen |= set(ours)


RIVALS = {  # how others say it -> how we do
    "标记": "词元",
    "令牌": "词元",
    "标记器|分词机|切词器": "分词器",
    "词汇表|字典|词典": "词表",
    "投影头|投影层": "投射头",
    "嵌套|内嵌|词向量": "嵌入",
    "归一(?!化)|规范化|标准化": "归一化",
    "余弦相似性|余弦距离": "余弦相似度",
    "对照损失|对比性损失": "对比损失",
    "批量": "批次",
    "补齐|补白|填补": "填充",
    "遮罩|掩膜|遮蔽": "掩码",
    "位置嵌入": "位置编码",
    "查全率|召回(?!率)": "召回率",
    "零次|零射|零次学习": "零样本",
    "感知野|感受域": "感受野",
    "步长": "步幅",
    "特征映射": "特征图",
    "精调|细调": "微调",
    "学习速率": "学习率",
    "过度拟合|过适应": "过拟合",
    "梯度剪裁|梯度截断": "梯度裁剪",
}


def one_term_for_one_thing(lesson: Lesson) -> Iterator[str]:
    for where, text in lesson.prose:
        for rival, ours in RIVALS.items():
            yield from (f"{where}: {found[0]} is {ours} here" for found in re.finditer(rival, _spoken(text)))


RULES: list[Rule] = [
    every_cell_was_run,
    no_error_is_saved,
    cells_are_short,
    nothing_but_the_lesson_is_saved,
    not_too_large,
    no_place_of_a_machine,
    imports_are_plain,
    the_switch_comes_first,
    what_moves_keeps_its_names,
    what_is_not_compared_is_asserted,
    every_image_is_described,
    links_lead_somewhere,
    both_languages_speak,
    both_languages_say_the_same,
    chinese_has_its_own_punctuation,
    terms_stand_in_the_glossary,
    one_term_for_one_thing,
]
