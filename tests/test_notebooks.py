"""Every notebook keeps every rule, and every rule refuses what it is there for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests import lessons
from tests.conftest import ROOT
from tests.lessons import FOLDER, NOTEBOOKS, RIVALS, RULES, Lesson, Rule, glossary

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}


def test_the_series_is_there() -> None:
    numbers = [path.name[:2] for path in NOTEBOOKS]
    assert numbers == [f"{number:02}" for number in range(len(numbers))]
    assert len(numbers) >= 4


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path: Path, rule: Rule) -> None:
    assert list(rule(Lesson.read(path))) == []


def test_glossary() -> None:
    """One English term has one Chinese term, and no Chinese term is another one's rival."""
    terms = glossary()
    english = [one.lower() for one, _ in terms]
    chinese = [other for _, other in terms]
    assert len(terms) > 25
    assert len(set(english)) == len(english)
    assert len(set(chinese)) == len(chinese)
    words = new(prose("## 词 · Words", ", ".join(chinese), "words"))
    assert list(lessons.one_term_for_one_thing(words)) == []
    assert {ours for ours in RIVALS.values() if not any(ours in term for term in chinese)} == set()


# --------------------------------------------------------------------------------- the rules refuse what they should


def prose(heading: str, zh: str, en: str) -> NotebookNode:
    return new_markdown_cell(f'{heading}\n\n<div lang="zh">\n\n{zh}\n\n</div>\n\n<div lang="en">\n\n{en}\n\n</div>')


def both(zh: str, en: str) -> NotebookNode:
    return prose("", zh, en)


def code(source: str, *outputs: NotebookNode, ignored: bool = False) -> NotebookNode:
    cell = new_code_cell(source, outputs=list(outputs))
    if ignored:
        cell.metadata["tags"] = ["nbval-ignore-output"]
    return cell


def printed(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


def shown(html: str, **kinds: str) -> NotebookNode:
    return new_output("display_data", data={"text/html": html, "text/plain": "said", **kinds})


SWITCH = "from clipedu.classroom import language_switch\n\nlanguage_switch()"


def new(*cells: NotebookNode, folder: Path = FOLDER) -> Lesson:
    """A notebook of these cells after the switch, run once."""
    copies = [NotebookNode(cell) for cell in (code(SWITCH), *cells)]
    for number, cell in enumerate(copies):
        cell["id"] = f"cell-{number}"
    for count, cell in enumerate((cell for cell in copies if cell.cell_type == "code"), 1):
        cell.execution_count = count
    notebook = new_notebook(cells=copies)
    notebook.metadata = METADATA
    return Lesson(notebook, folder)


GOOD = [
    prose(
        "## 温度 · Temperature",
        r"**温度 (temperature)** $\tau$ 为 0.07 时，4,800 句，2 万对，见 [`loss.py`](../clipedu/loss.py#L1)、"
        "[下文](#温度-·-Temperature)。",
        r"A **temperature (温度)** of $\tau$ = 0.07: 4800 captions, 20,000 pairs, [`loss.py`](../clipedu/loss.py#L1), "
        "[below](#温度-·-Temperature).",
    ),
    code("print(1 + 1)", printed("2\n")),
    code("1 + 1", shown('<img src="data:image/png;base64,/tmp/" alt="two"> <a href="../README.md">two</a>')),
    code("value = 2\nassert value == 2", printed("0.3 s"), ignored=True),
    new_markdown_cell(
        "**先猜 · Predict**\n\n<details><summary>答案 · Answer</summary>\n\n$$x = 2$$\n\n"
        "```python\nx = 2\n```\n\n</details>"
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_notebook_passes(rule: Rule) -> None:
    assert list(rule(new(*GOOD))) == []


def spoilt(**change: Any) -> Lesson:
    lesson = new(*GOOD)
    for name, value in change.items():
        lesson.notebook.cells[2][name] = value
    return lesson


def with_metadata(**metadata: Any) -> Lesson:
    lesson = new()
    lesson.notebook.metadata = NotebookNode({**METADATA, **metadata})
    return lesson


BAD: list[tuple[Rule, Lesson, str]] = [
    (lessons.every_cell_was_run, spoilt(execution_count=None), "cell 2 has the count None"),
    (lessons.every_cell_was_run, spoilt(execution_count=7), "cell 2 has the count 7, not 2"),
    (lessons.every_cell_was_run, new(code("")), "cell 1 is empty"),
    (
        lessons.no_error_is_saved,
        new(code("1 / 0", new_output("error", ename="ZeroDivisionError", evalue="", traceback=[]))),
        "cell 1 failed: ZeroDivisionError",
    ),
    (lessons.no_error_is_saved, new(code("1", printed("FutureWarning: soon", "stderr"))), "FutureWarning"),
    (lessons.cells_are_short, new(code("a = 1\n\n" * 16)), "cell 1 has 16 lines"),
    (lessons.nothing_but_the_lesson_is_saved, with_metadata(widgets={}), "widgets"),
    (lessons.nothing_but_the_lesson_is_saved, spoilt(metadata={"tags": ["nbval-skip"]}), "nbval-skip"),
    (lessons.nothing_but_the_lesson_is_saved, spoilt(metadata={"execution": {}}), "execution"),
    (lessons.nothing_but_the_lesson_is_saved, spoilt(id="cell-0"), "cell-0 occurs 2 times"),
    (lessons.nothing_but_the_lesson_is_saved, spoilt(id="not an id"), "not a valid notebook"),
    (
        lessons.nothing_but_the_lesson_is_saved,
        new(code("slider", shown("", **{lessons.WIDGET_VIEW: "{}"}))),
        "widget-view",
    ),
    (lessons.nothing_but_the_lesson_is_saved, new(code("figure", shown("", **{"image/png": "iVBO"}))), "image/png"),
    (lessons.not_too_large, new(code("long", printed("a" * 3_000_000))), "3.0 MB"),
    (lessons.no_place_of_a_machine, new(code("open('/home/me/data')")), "/home/me"),
    (lessons.no_place_of_a_machine, new(code("path", printed("read /tmp/tmp1/x"))), "/tmp"),
    (lessons.no_place_of_a_machine, new(code("path", shown("<b>/home/ada/clipedu</b>"))), "/home"),
    (lessons.no_place_of_a_machine, new(both("在 C:\\Users\\me", "in C:\\Users\\me")), "C:"),
    (lessons.imports_are_plain, new(code("import sys\nsys.path.append('..')")), "sys.path"),
    (lessons.imports_are_plain, new(code("import matplotlib.pyplot as plt")), "pyplot"),
    (lessons.imports_are_plain, new(code("!pip install torch")), "!pip"),
    (lessons.imports_are_plain, new(code("%matplotlib inline")), "%matplotlib"),
    (lessons.the_switch_comes_first, Lesson(new_notebook(cells=[code("1 + 1")])), "no language_switch"),
    (
        lessons.what_moves_keeps_its_names,
        new(code("N = 2\ndef f(x): return N * x\ndef g(x): return f(x)\nexplore(g, x=1)"), code("for N in 1, 2: pass")),
        "cell 2 rebinds N, which the figure of cell 1 reads",
    ),
    (lessons.what_is_not_compared_is_asserted, new(code("print(time())", ignored=True)), "cell 1 is neither"),
    (
        lessons.what_is_not_compared_is_asserted,
        new(code("train()\nexplore(draw)", ignored=True), code("1")),
        "cell 1 is neither",
    ),
    (lessons.every_image_is_described, new(code("plot", shown('<img src="data:,">'))), "cell 1"),
    (lessons.every_image_is_described, new(code("plot", shown('<img src="data:," alt=" ">'))), "cell 1"),
    (lessons.every_image_is_described, new(both("![](../README.md)", "![](../README.md)")), "cell 1"),
    (lessons.links_lead_somewhere, new(both("[源码](../clipedu/no.py)", "[code](../clipedu/no.py)")), "no.py"),
    (lessons.links_lead_somewhere, new(both("[源码](../README.md#L9999)", "")), "L9999"),
    (lessons.links_lead_somewhere, new(both("[见下](#nowhere)", "[below](#nowhere)")), "#nowhere"),
    (lessons.links_lead_somewhere, new(both("[别处](http://a.b)", "")), "http://a.b"),
    (lessons.links_lead_somewhere, new(both("[出去](../../shared)", "")), "../../shared"),
    (lessons.links_lead_somewhere, new(code("show", shown('<a href="../no.py#L1">no</a>'))), "../no.py"),
    (lessons.both_languages_speak, new(new_markdown_cell('<div lang="zh">\n\n只有中文。\n\n</div>')), "['zh']"),
    (lessons.both_languages_speak, new(new_markdown_cell("English alone.")), "English alone"),
    (lessons.both_languages_speak, new(new_markdown_cell("## 只有中文")), "只有中文"),
    (lessons.both_languages_speak, new(new_markdown_cell("```python\nx = 1\n```")), "says nothing"),
    (lessons.both_languages_speak, new(both("Not Chinese.", "Not Chinese.")), "wrong language"),
    (lessons.both_languages_speak, new(both("中文。", "还是中文。")), "wrong language"),
    (
        lessons.both_languages_speak,
        new(new_markdown_cell('<div lang="en">\n\nfirst\n\n</div>\n\n<div lang="zh">\n\n后\n\n</div>')),
        "['en', 'zh']",
    ),
    (
        lessons.both_languages_speak,
        new(new_markdown_cell('<div lang="zh">\n中\n</div>\n\n<div lang="en">\nno blank lines\n</div>')),
        "blank lines",
    ),
    (lessons.both_languages_speak, new(code("card", shown('<div lang="en">one</div>'))), "one language"),
    (lessons.both_languages_say_the_same, new(both("共 512 维。", "256 dimensions.")), "numbers: zh has ['512']"),
    (lessons.both_languages_say_the_same, new(both("是 $x^2$。", "is $x^3$.")), "formulas"),
    (lessons.both_languages_say_the_same, new(both("用 `dim=0`。", "with `dim=1`.")), "code: zh has ['dim=0']"),
    (lessons.both_languages_say_the_same, new(both("```\na\n```", "```\nb\n```")), "fenced code"),
    (lessons.both_languages_say_the_same, new(both("[甲](a.md)", "[one](b.md)")), "links"),
    (lessons.both_languages_say_the_same, new(both("![甲](a.png)", "none")), "a.png"),
    (lessons.chinese_has_its_own_punctuation, new(both("好,对。", "Good.")), "好,"),
    (lessons.chinese_has_its_own_punctuation, new(both("是 0.06,1 对。", "0.06, 1 pair.")), "6,1"),
    (lessons.chinese_has_its_own_punctuation, new(code("card(None, '不对:再试', 'wrong')")), "对:"),
    (lessons.terms_stand_in_the_glossary, new(both("**气温 (temperature)**", "**temperature (气温)**")), "not in the"),
    (lessons.terms_stand_in_the_glossary, new(both("**温度 (temperature)**", "temperature")), "in English"),
    (
        lessons.terms_stand_in_the_glossary,
        new(*2 * [both("**温度 (temperature)**", "**temperature (温度)**")]),
        "introduces 温度 again",
    ),
    (lessons.one_term_for_one_thing, new(both("每个标记", "each token")), "标记 is 词元"),
    (lessons.one_term_for_one_thing, new(prose("## 投影头 · Projection head", "", "")), "投影头 is 投射头"),
]


@pytest.mark.parametrize(("rule", "lesson", "fault"), BAD, ids=[f"{rule.__name__}-{fault}" for rule, _, fault in BAD])
def test_a_bad_notebook_is_refused(rule: Rule, lesson: Lesson, fault: str) -> None:
    found = list(rule(lesson))
    assert found
    assert any(fault in one for one in found), found


def test_what_figures_need() -> None:
    """Up to the last line that binds or changes what they read; what merely shows, or trains for a table, is left."""
    lesson = new(
        code("from clipedu import SimpleTokenizer\nsize = 3"),
        code("size = 4"),
        code("words = SimpleTokenizer()"),
        code("words.build_vocab(['a'])"),
        code("def length(text): return size * len(words(text))"),
        code("scores = train(words)\nprint(scores)"),
        code("for text in scores: print(text)"),
        code("def draw(text): return length(text)"),
        code("explore(draw, text='a')"),
    )
    assert [where for where, _ in lessons.needed_by_figures(lesson)] == [f"cell {n}" for n in (1, 2, 3, 4, 5, 8, 9)]


def test_every_rule_can_fail() -> None:
    assert {rule for rule, *_ in BAD} == set(RULES)


def test_saved_outputs_are_compared(tmp_path: Path) -> None:
    """With the settings of `make test`, nbval forgives other bytes of a picture, and not one other letter."""
    start = "from clipedu.classroom.view import View"
    cells = [code(start), code("View('one', 'one')"), code("View('<img src=\"data:image/png;base64,AA==\">', 'two')")]
    cells[1].outputs = [new_output("execute_result", {"text/html": "two", "text/plain": "one"}, execution_count=2)]
    picture = {"text/html": '<img src="data:image/png;base64,BBBB">', "text/plain": "two"}
    cells[2].outputs = [new_output("execute_result", picture, execution_count=3)]
    for count, cell in enumerate(cells, 1):
        cell.execution_count = count
    nbformat.write(new_notebook(cells=cells, metadata=METADATA), tmp_path / "small.ipynb")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    settings = re.findall(r"--nbval[\w-]*=?\S*", makefile)
    assert "--nbval-sanitize-with=tests/nbval_sanitize.cfg" in settings
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *settings, str(tmp_path / "small.ipynb")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "1 failed, 2 passed" in result.stdout
    assert "Cell 1" in result.stdout
