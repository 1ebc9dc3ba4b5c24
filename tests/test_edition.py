"""Notebooks in one language: what is cut, what stays, and what they show when they run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from clipedu.classroom import card, explore, language, plots, use_language
from clipedu.classroom.edition import FOLDER, in_one_language, main, notebooks, write_edition
from clipedu.classroom.monolingual import html_in, prose_in, text_in
from clipedu.classroom.view import View, both
from clipedu.classroom.widgets import Dashboard
from tests.lessons import FENCED, HAN, INLINE_CODE, NOTEBOOKS, Lesson
from tests.shortened import run_cells, shorten_trainings, small_classroom  # noqa: F401


@pytest.fixture
def both_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the test, the classroom shows both languages again."""
    monkeypatch.setattr(language, "_used", "")


@pytest.fixture(params=["zh", "en"])
def only(request: pytest.FixtureRequest, both_again: None) -> str:
    """What the classroom shows is in this language alone."""
    chosen: str = request.param
    use_language(chosen)
    return chosen


@pytest.fixture(scope="module", params=["zh", "en"])
def edition(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("edition") / "notebooks"
    assert main(["--language", request.param, "--out", str(out)]) == 0
    return request.param, out


def test_prose() -> None:
    markdown = (
        "# 01 分词器 · Tokenizer\n\n![一幅图 · a figure](figures/a.svg)\n\n"
        '<div lang="zh">\n\n**词元 (token)** · 一\n\n</div>\n\n<div lang="en">\n\n**token (词元)** · one\n\n</div>\n\n'
        "### 练习 1.1 · Exercise 1.1 ★☆☆ 6 min\n\n<details><summary>提示 · Hint</summary>\n\n"
        "```python\n# 一 · one\n```\n\n</details>"
    )
    code = "```python\n# 一 · one\n```\n\n</details>"
    assert prose_in(markdown, "zh") == (
        "# 01 分词器\n\n![一幅图](figures/a.svg)\n\n**词元 (token)** · 一\n\n### 练习 1.1 ★☆☆ 6 分钟\n\n"
        f"<details><summary>提示</summary>\n\n{code}"
    )
    assert prose_in(markdown, "en") == (
        "# 01 Tokenizer\n\n![a figure](figures/a.svg)\n\n**token** · one\n\n### Exercise 1.1 ★☆☆ 6 min\n\n"
        f"<details><summary>Hint</summary>\n\n{code}"
    )


@pytest.mark.parametrize(
    ("text", "zh", "en"),
    [
        ("损失 | loss 4.39 … 0.27", "损失 4.39 … 0.27", "loss 4.39 … 0.27"),
        ("猜测 = 4.16 | chance = 4.16 4.16", "猜测 = 4.16 4.16", "chance = 4.16 4.16"),
        ("→ 步 | step ↑ 损失 | loss\n中 | zh: 1", "→ 步 ↑ 损失\n中: 1", "→ step ↑ loss\nzh: 1"),
        ("没有，英文 | none, English 0.5; 0.5 0.50", "没有，英文 0.5; 0.5 0.50", "none, English 0.5; 0.5 0.50"),
        ("RGB: 颜色 | colour 0.8, 形状 | shape 0.3", "RGB: 颜色 0.8, 形状 0.3", "RGB: colour 0.8, shape 0.3"),
        ("句子 | texts μ = 0.69, σ = 0.10", "句子 μ = 0.69, σ = 0.10", "texts μ = 0.69, σ = 0.10"),
        ("600 步 | steps", "600 步", "600 steps"),
        ("0.0013 | 52.0", "0.0013 | 52.0", "0.0013 | 52.0"),
    ],
)
def test_labels(text: str, zh: str, en: str) -> None:
    assert (text_in(text, "zh"), text_in(text, "en")) == (zh, en)


def test_html() -> None:
    nested = both("<div>一</div>" + both("二", "two"), "one")
    picture = '<img src="" alt="红 | red 1 &lt; 2"><div lang="zh">红</div><div lang="en">red</div>'
    assert (
        html_in(nested + picture, "zh")
        == '<div><div>一</div><div>二</div></div><img src="" alt="红 1 &lt; 2"><div>红</div>'
    )
    assert html_in(nested + picture, "en") == '<div>one</div><img src="" alt="red 1 &lt; 2"><div>red</div>'
    captioned = '<img src="" alt="a star" width="96"><div lang="zh">一颗星</div><div lang="en">a star</div>'
    assert html_in(captioned, "zh") == '<img src="" alt="一颗星" width="96"><div>一颗星</div>'


def test_what_the_classroom_shows(only: str) -> None:
    other = "English" if only == "zh" else "中文"
    view = plots.bars({"中文 | English": {"R@1": 0.5}}, "召回率 | recall")
    assert other not in view.html and "lang=" not in view.html and "中文 | English" in view.text
    assert ("没有" in card(True, "没有", "nothing").html) == (only == "zh")
    explorer = explore(lambda text: View(text, text), text={"zh": "圆", "en": "circle"})
    assert explorer.view.text == {"zh": "圆", "en": "circle"}[only]
    assert len(explorer.children) == 2, "one text box, and the view"
    board = Dashboard(lambda: iter([1.0]), None, {})
    board.start()
    for text in (board.button.description, board.clear.description, board.line.value):
        assert bool(re.search(f"[{HAN}]", text)) == (only == "zh")


def test_only_two_languages() -> None:
    with pytest.raises(ValueError, match="'fr'"):
        use_language("fr")


def test_the_original_is_kept() -> None:
    data = {"text/html": both("红", "red")}
    cells = [new_code_cell("language_switch()", outputs=[new_output("execute_result", {"text/plain": "| |"})])]
    cells.append(new_code_cell("show()", outputs=[new_output("display_data", data)]))
    notebook = new_notebook(cells=[*cells, new_markdown_cell("## 红 · Red")])
    cut = in_one_language(notebook, "en")
    assert [cell.source for cell in cut.cells] == ['use_language("en")', "show()", "## Red"]
    assert cut.cells[0].outputs == []
    assert cut.cells[1].outputs[0].data == {"text/html": "<div>red</div>"}
    assert notebook.cells[1].outputs[0].data == data and notebook.cells[2].source == "## 红 · Red"


def test_every_notebook_in_the_order_of_the_map() -> None:
    names = [path.name[:2] for path in notebooks()]
    assert sorted(notebooks()) == NOTEBOOKS
    assert names == ["00", "01", "02", "03", "04", "05", "06", "07", "ca", "08", "09"]


def test_no_other_language_is_left(edition: tuple[str, Path]) -> None:
    chosen, out = edition
    for path in NOTEBOOKS:
        lesson, original = Lesson.read(out / path.name), Lesson.read(path)
        nbformat.validate(lesson.notebook)
        assert "edition" in lesson.notebook.cells[0].source or "版" in lesson.notebook.cells[0].source
        for where, text in [*lesson.prose, *lesson.output_texts("text/html")]:
            assert "lang=" not in text, where
        for where, text in lesson.prose:
            words = INLINE_CODE.sub("", FENCED.sub("", text))
            assert "](../" not in words, where
            if chosen == "en":
                share = len("".join(re.findall(f"[{HAN}]", words))) / len(words)
                assert share < 0.1 and not re.search(rf"[{HAN}][，。；：]", words), f"{path.name}, {where}"
            else:
                assert re.search(f"[{HAN}]", text) or FENCED.search(text) or "$$" in text, f"{path.name}, {where}"
        first, *rest = [cell for _, cell in lesson.code]
        assert first.source.endswith(f'\n\nuse_language("{chosen}")') and "switch" not in first.source
        sources = [(cell.source, cell.metadata) for _, cell in original.code[1:]]
        assert [(cell.source, cell.metadata) for cell in rest] == sources


def test_files_beside_an_edition(edition: tuple[str, Path]) -> None:
    chosen, out = edition
    assert {path.name for path in out.iterdir()} == {*(path.name for path in NOTEBOOKS), "figures", "glossary.md"}
    assert ("一个英文术语" in (out / "glossary.md").read_text("utf-8")) == (chosen == "zh")
    for path in NOTEBOOKS:
        for _, text in Lesson.read(out / path.name).prose:
            for target in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", INLINE_CODE.sub("", FENCED.sub("", text))):
                assert (out / target).is_file(), f"{path.name}: {target}"


def test_without_outputs(tmp_path: Path) -> None:
    write_edition("zh", tmp_path / "out", outputs=False)
    for path in NOTEBOOKS:
        lesson = Lesson.read(tmp_path / "out" / path.name)
        nbformat.validate(lesson.notebook)
        assert lesson.outputs == [] and all(cell.execution_count is None for _, cell in lesson.code)


def test_a_folder_with_something_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    assert main(["--language", "zh", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("clipedu.classroom.edition.FOLDER", tmp_path / "none")
    assert main(["--language", "en", "--out", str(tmp_path / "out")]) == 2
    assert "clone" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.again
@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["zh", "en"])
def test_running_it_gives_what_is_saved_in_it(chosen: str, tmp_path: Path) -> None:
    write_edition(chosen, tmp_path / "out")
    path = tmp_path / "out" / NOTEBOOKS[0].name
    saved = Lesson.read(path)
    notebook: Any = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(FOLDER)}}).execute()
    fresh = Lesson(notebook)
    compared = 0
    for (_, before), (where, after) in zip(saved.code, fresh.code, strict=True):
        for old, new in zip(before.outputs, after.outputs, strict=True):
            assert "lang=" not in new.get("data", {}).get("text/html", ""), where
            if "nbval-ignore-output" not in before.metadata.get("tags", []):
                compared += 1
                assert old.get("text") == new.get("text"), where
                assert old.get("data", {}).get("text/html") == new.get("data", {}).get("text/html"), where
    assert compared >= 4


@pytest.mark.slow
@pytest.mark.again
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_shows_one_language(
    path: Path,
    edition: tuple[str, Path],
    small_classroom: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    both_again: None,
) -> None:
    """Every code cell; a training takes at most 16 steps, or one per epoch."""
    shorten_trainings(monkeypatch, small_classroom)
    _, out = edition
    monkeypatch.chdir(out)
    for where, error, shown in run_cells(Lesson.read(out / path.name)):
        assert error is None, where
        view = getattr(shown, "view", shown)
        assert "lang=" not in (view.html if isinstance(view, View) else ""), where
