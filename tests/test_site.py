"""A notebook as a page in each language, without a browser and without the network."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from clipedu.classroom import plots
from clipedu.classroom.edition import in_one_language
from clipedu.classroom.site import __main__ as command
from clipedu.classroom.site.pages import Lesson, PageBuilder
from clipedu.ground.errors import ClipEduError
from tests.lessons import NOTEBOOKS

WEB = Path(str(files("clipedu.classroom.site") / "web"))
Write = Callable[[NotebookNode], dict[str, str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a notebook's page in each language; returns their HTML."""
    builder = PageBuilder(WEB, tmp_path)

    def write(notebook: NotebookNode) -> dict[str, str]:
        lessons = [Lesson(f"{number:02}_lesson", f"Title {number}", "60", "?") for number in range(3)]
        for language in ("zh", "en"):
            builder.write_page(in_one_language(notebook, language), lessons, 1, language)
        builder.write_sources()
        return {name: (tmp_path / name / "01_lesson.html").read_text("utf-8") for name in ("zh", "en")}

    return write


def ids(html: str) -> list[str]:
    return re.findall(r' id="([^"]+)"', html)


def test_a_notebook_in_both_languages(write: Write, tmp_path: Path) -> None:
    pages = write(nbformat.read(NOTEBOOKS[0], as_version=4))
    assert ids(pages["zh"]) == ids(pages["en"]) and len(ids(pages["en"])) == len(set(ids(pages["en"]))) > 40
    for language, html in pages.items():
        assert len(html) < 200_000
        assert re.search(rf'<html data-language="{language}" lang="{language}(-Hans)?">', html)
        for address in re.findall(r'(?:src|href)="([^"]+)"', html):
            assert address.startswith(("../", "#", "data:image/")) or address.endswith(".html"), address
        for tag in re.findall(r"<img [^>]*>", html):
            assert re.search(r'alt="[^"]+"', tag)
        for name in re.findall(r'src="\.\./(assets/outputs/[^"]+)"', html):
            assert (tmp_path / name).read_bytes()[8:12] == b"WEBP"
        assert html.count('class="live"') == 2
        assert '"../frames/01_lesson-0.json"' in html and '"../frames/01_lesson-1.json"' in html
        assert "Title 0" in html and "Title 2" in html
        other = {"zh": "en", "en": "zh"}[language]
        assert f'href="../{other}/01_lesson.html"' in html
    assert len(list((tmp_path / "assets" / "outputs").iterdir())) > 10
    assert "一个红色的大正方形" in re.findall(r'alt="([^"]+)"', pages["zh"])
    assert "a big red square" in re.findall(r'alt="([^"]+)"', pages["en"])


def test_the_same_bytes_again(write: Write) -> None:
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    assert write(notebook) == write(notebook)


def test_what_a_page_shows(write: Write, tmp_path: Path) -> None:
    link = "[`clipedu/loss.py:3`](../clipedu/loss.py#L3)\n\n```python\nx = 1\n```"
    outputs = [
        new_output("stream", text="1 < 2\n"),
        new_output("display_data", {"text/plain": "600 步 | steps"}),
        new_output("display_data", {"text/markdown": link, "text/plain": ""}),
        new_output("display_data", {"text/html": plots.tokens(["<b>"]).html}),
    ]
    cells = [
        new_markdown_cell("# 一 · One\n\n[次](02_lesson.ipynb) · [Next](02_lesson.ipynb), [terms](glossary.md)"),
        new_code_cell("show()", outputs=outputs),
        new_code_cell("draw()", metadata={"jupyter": {"source_hidden": True}}),
        new_code_cell("dashboard(run)", outputs=[new_output("display_data", {"text/html": "<i>x</i>"})]),
        new_markdown_cell("## 二 · Two\n\n<details><summary>提示 · Hint</summary>\n\n$x < 1$\n\n</details>"),
    ]
    pages = write(new_notebook(cells=cells))
    for html in pages.values():
        assert "1 &lt; 2" in html and "<b>&lt;b&gt;</b>" in html and "steps" not in html
        assert 'href="02_lesson.html"' in html and 'href="glossary.html"' in html and ".ipynb)" not in html
        assert 'href="../source/clipedu/loss.py.html#L3"' in html
        assert '<div class="live" data-frames="../frames/01_lesson-0.json" data-kind="dashboard">' in html
        assert '<h2 id="c4-1">' in html and 'href="#c4-1"' in html
        assert "$x &lt; 1$" in html
    assert "<summary>提示</summary>" in pages["zh"] and "<summary>这张图的代码</summary>" in pages["zh"]
    assert "<summary>Hint</summary>" in pages["en"] and "<summary>Code of this figure</summary>" in pages["en"]
    assert 'id="L3"' in (tmp_path / "source/clipedu/loss.py.html").read_text("utf-8")


def fail(folder: Path) -> None:
    (folder / "index.html").touch()
    raise ClipEduError("坏了", "broken")


def test_a_site_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "site"

    def build(folder: Path) -> None:
        (folder / "assets").mkdir()
        (folder / "index.html").write_text(name, encoding="utf-8")

    for name in ("first", "second"):
        monkeypatch.setattr(command, "STEPS", {"pages": build})
        assert command.main(["--out", str(out)]) == 0
        assert (out / "index.html").read_text("utf-8") == name
    monkeypatch.setattr(command, "STEPS", {"pages": fail})
    capsys.readouterr()
    assert command.main(["--out", str(out)]) == 2
    assert capsys.readouterr().err == "坏了 | broken\n"
    assert (out / "index.html").read_text("utf-8") == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_other_files_are_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    assert command.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and (tmp_path / "mine.txt").exists()
