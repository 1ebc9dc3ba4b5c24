"""Every notebook follows every rule, and every rule rejects the notebooks it is meant to reject."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests import lessons as rules
from tests import reading
from tests.conftest import ROOT
from tests.lessons import METADATA, NOTEBOOKS, RIVALS, RULES, Lesson, Rule, glossary

SWITCH = "from clipedu.classroom import language_switch\n\nlanguage_switch()"


ALL_RULES = RULES + reading.RULES
MOST_MINUTES = {
    "00": 15,
    "01": 60,
    "02": 75,
    "03": 60,
    "04": 75,
    "05": 75,
    "06": 60,
    "07": 60,
    "08": 60,
    "ca": 60,
    "09": 60,
}


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path: Path, rule: Rule) -> None:
    assert list(rule(Lesson.read(path))) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_main_path_is_short(path: Path) -> None:
    assert max(reading.minutes(Lesson.read(path)).values()) <= MOST_MINUTES[path.stem[:2]] + 0.5


def test_glossary() -> None:
    """Each English term has one Chinese term, and no Chinese term is one that we avoid."""
    english, chinese = zip(*glossary(), strict=True)
    assert len({term.lower() for term in english}) == len(english)
    assert len(set(chinese)) == len(chinese)
    assert list(rules.one_chinese_term_per_concept(new(both(", ".join(chinese), "words")))) == []
    assert {ours for ours in RIVALS.values() if not any(ours in term for term in chinese)} == set()


def both(zh: str, en: str, heading: str = "") -> NotebookNode:
    return new_markdown_cell(f'{heading}\n\n<div lang="zh">\n\n{zh}\n\n</div>\n\n<div lang="en">\n\n{en}\n\n</div>')


def code(source: str, *outputs: NotebookNode, ignored: bool = False) -> NotebookNode:
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": ["nbval-ignore-output"]} if ignored else {})


def displayed(html: str, **kinds: str) -> NotebookNode:
    return new_output("display_data", data={"text/html": html, "text/plain": "in words", **kinds})


def new(*cells: NotebookNode, first: str = SWITCH) -> Lesson:
    """A notebook with the language switch and these cells, run once."""
    copies = [NotebookNode({**cell, "id": f"cell-{number}"}) for number, cell in enumerate((code(first), *cells))]
    for count, cell in enumerate((cell for cell in copies if cell.cell_type == "code"), 1):
        cell.execution_count = count
    return Lesson(new_notebook(cells=copies, metadata=NotebookNode(METADATA)))


GOOD = [
    both("大约 1 分钟。", "About 1 minutes."),
    both(
        "**温度 (temperature)** `t` $\\tau$ 为 0.07，4,800，2 万，[甲](../clipedu/loss.py#L1)、[乙](#温度-·-Heat)。",
        "**temperature (温度)** `t` $\\tau$ 0.07, 4800, 20,000, [one](../clipedu/loss.py#L1), [two](#温度-·-Heat).",
        "## 温度 · Heat",
    ),
    code("print(1 + 1)", new_output("stream", name="stdout", text="2\n")),
    code("1 + 1", displayed('<img src="data:image/png;base64,/tmp/" alt="two"> <a href="../README.md">two</a>')),
    code("value = 2\nassert value == 2", displayed("0.3 s"), ignored=True),
    new_markdown_cell("**先猜 · Predict**\n\n<details><summary>答案 · Answer</summary>\n\n$$x = 2$$\n\n</details>"),
    new_markdown_cell("```python\nx = 2\n```\n\n**代码 · Code**"),
    code("half = [0.5 * x for x in range(9)]"),
    both("一半是 0.50，即 50%（Lin 等，2014）。", "A half is 0.50, or 50% (Lin 2014).", "## 选读 · Optional"),
]


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.__name__)
def test_a_good_notebook_passes(rule: Rule) -> None:
    assert list(rule(new(*GOOD))) == []


unrun, spoilt = new(code("1")), new(code("1"), code("2"))
unrun.notebook.cells[1].execution_count = None
spoilt.notebook.cells[1].update(metadata={"tags": ["nbval-skip"]}, id="cell-0")
warning = new_output("stream", name="stderr", text="FutureWarning")
error = new_output("error", ename="ZeroDivisionError", evalue="", traceback=[])
figure = code("N = 2\ndef f(x): return N * x\ndef g(x): return f(x)\nexplore(g, x=1)")
no_blank_lines = new_markdown_cell('<div lang="zh">\n中\n</div>\n\n<div lang="en">\nno blank lines\n</div>')
term = both("**温度 (temperature)**", "**temperature (温度)**")
BAD: list[tuple[Rule, Lesson, list[str]]] = [
    (rules.every_cell_was_run, unrun, ["count None, not 2"]),
    (rules.every_cell_was_run, new(code(""), code("1 / 0", error), code("1", warning)), ["empty", "Zero", "Future"]),
    (rules.only_the_lesson_is_saved, spoilt, ["nbval-skip", "cell-0 occurs 2 times"]),
    (rules.only_the_lesson_is_saved, new(code("1", displayed("", **{"image/png": "iVBO"}))), ["image/png"]),
    (rules.only_the_lesson_is_saved, new(code("1", displayed("a" * 3_000_000))), ["3.0 MB"]),
    (rules.no_local_paths, new(code("open('/home/me')", displayed("<b>/tmp</b>"))), ["/home", "/tmp"]),
    (rules.no_local_paths, new(both("在 C:\\Users\\me", "in C:\\Users\\me")), ["C:"]),
    (rules.code_is_plain, new(code("a = 1\n\n" * 16), first="1 + 1"), ["16 lines", "no language_switch"]),
    (rules.code_is_plain, new(code("import sys\nsys.path.pop()"), code("!pip install x")), ["sys.path", "!pip"]),
    (rules.figures_read_stable_names, new(figure, code("for N in 1, 2: pass")), ["cell 2 rebinds N"]),
    (rules.ignored_outputs_are_asserted, new(code("print(time())", ignored=True)), ["cell 1 is neither"]),
    (rules.ignored_outputs_are_asserted, new(code("train()\nexplore(f)", ignored=True)), ["cell 1 is neither"]),
    (rules.every_image_is_described, new(code("plot", displayed('<img src="data:," alt=" ">'))), ["cell 1"]),
    (rules.every_image_is_described, new(both("![](../README.md)", "![](../README.md)")), ["cell 1"]),
    (rules.links_resolve, new(both("[一](../no.py) [二](#no)", "[a](../../..)")), ["no.py", "#no", "../../.."]),
    (rules.links_resolve, new(both("[一](../README.md#L9999)", "[a](http://a.b)")), ["L9999", "http://"]),
    (rules.all_text_is_bilingual, new(no_blank_lines, new_markdown_cell("English")), ["blank lines", "'English'"]),
    (rules.all_text_is_bilingual, new(both("中文。", "还是中文。"), new_markdown_cell("## 中")), ["wrong", "## 中"]),
    (rules.all_text_is_bilingual, new(code("card", displayed('<div lang="en">one</div>'))), ["one language"]),
    (rules.both_languages_say_the_same, new(both("512 维 $x^2$", "256 $x^3$")), ["zh has ['512']", "formulas"]),
    (rules.both_languages_say_the_same, new(both("`a` [甲](a.md)", "`b` [one](b.md)")), ["zh has ['a']", "links"]),
    (rules.chinese_punctuation_is_full_width, new(both("好,对。", "Good."), code("card('不对:再试')")), ["好,", "对:"]),
    (rules.new_terms_are_in_the_glossary, new(both("**气温 (temperature)**", "air")), ["not in the", "in English"]),
    (rules.new_terms_are_in_the_glossary, new(term, term), ["introduces 温度 again"]),
    (
        reading.the_promised_time_is_true,
        new(both("大约 9 分钟", "About 9 minutes")),
        ["promises 9 minutes, and takes 0"],
    ),
    (reading.the_promised_time_is_true, new(both("大约 1 分钟", "About 2 minutes")), ["['1', '2']"]),
    (reading.the_promised_time_is_true, new(GOOD[0], *[code("1")] * 90), ["92 cells"]),
    (
        reading.numbers_are_shown,
        new(*[both(f"{n}", f"{n}.") for n in (0.1, 0.2, 0.3, 40, 55)]),
        ["cell 1: 0.1", "cell 5"],
    ),
    (
        reading.code_reads_aloud,
        new(*[code("[[1 for a in b] for c in d]")] * 6, code("x" * 89)),
        ["cell 1: [[1", "cell 7"],
    ),
    (reading.english_is_by_ear, new(both("中", "It fell, for it was at hand.")), [", for it", "at hand"]),
    (rules.one_chinese_term_per_concept, new(both("每个标记", "each token")), ["use 词元 for 标记"]),
]


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.__name__)
def test_a_bad_notebook_is_rejected(rule: Rule) -> None:
    examples = [(lesson, faults) for broken, lesson, faults in BAD if broken is rule]
    assert examples, "add a notebook that this rule rejects"
    for lesson, faults in examples:
        report = "\n".join(rule(lesson))
        assert [fault for fault in faults if fault not in report] == []


def test_cells_needed_by_figures() -> None:
    """Cells that bind or change what figures read; not cells that only print, or train for a table."""
    needed = ["from clipedu import SimpleTokenizer\nsize = 3", "size = 4", "words = SimpleTokenizer()"]
    needed += ["words.build_vocab(['a'])", "def length(text): return size * len(words(text))"]
    unneeded = ["scores = train(words)\nprint(scores)", "for text in scores: print(text)"]
    last = ["def draw(text): return length(text)", "explore(draw, text='a')"]
    cells = rules.needed_by_figures(new(*map(code, needed + unneeded + last)))
    assert [cell.source for _, cell in cells] == needed + last


@pytest.mark.slow
def test_saved_outputs_are_compared(tmp_path: Path) -> None:
    """With the settings of `make test`, nbval ignores a picture's bytes but no change in the text."""
    text = new_output("execute_result", {"text/html": "two", "text/plain": "one"}, execution_count=2)
    image = {"text/html": '<img src="data:image/png;base64,BBBB">', "text/plain": "two"}
    picture = new_output("execute_result", image, execution_count=3)
    cells = [code("View('one', 'one')", text), code("View('<img src=\"data:image/png;base64,AA==\">', 'two')", picture)]
    lesson = new(*cells, first="from clipedu.classroom.view import View")
    nbformat.write(lesson.notebook, tmp_path / "small.ipynb")
    settings = re.findall(r"--nbval[\w-]*=?\S*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *settings, str(tmp_path / "small.ipynb")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "1 failed, 2 passed" in result.stdout and "Cell 1" in result.stdout
