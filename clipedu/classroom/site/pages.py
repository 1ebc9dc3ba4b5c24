"""Notebooks as pages, one for each language, and the site's first page.

A page shows what is saved in its notebook. What is the same in both languages is kept once: pictures, as lossless WebP
files named by their content; figures; styles and scripts. Cells have the same ids in both languages (`c12`, its first
heading `c12-1`), so that a link leads from a place on one page to the same place on the other.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from base64 import b64decode
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, FileSystemLoader
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from traitlets.config import Config

from clipedu.classroom.edition import FOLDER, LANGUAGES, glossary_in, in_one_language, notebooks
from clipedu.classroom.site.needed import DASHBOARD, live_cells
from clipedu.classroom.source import ROOT
from clipedu.export.vendor import vendored

_PNG = re.compile(r'<img src="data:image/png;base64,([^"]+)"([^>]*)>')
_SMALL = 2_000  # characters of base64: the swatch of a legend stays in the page
_PROGRESS = re.compile(r"IntProgress\(|\d+ (?:步|steps)$")  # a bar without its widget says nothing
_HEADING = re.compile(r"<h([1-6])[^>]*>(.*?)</h\1>", re.DOTALL)


@dataclass(frozen=True)
class Lesson:
    """What the index and the neighbours of a page say about it, in one language."""

    name: str
    title: str
    minutes: str
    question: str


def build_pages(out: Path) -> None:
    """Write `index.html`, `zh/`, `en/`, `source/` and `assets/` into the folder `out`.

    Raises:
        ClipEduError: there are no notebooks, or KaTeX is neither here nor can it be fetched.
    """
    paths = notebooks()
    read = {path.stem: nbformat.read(path, as_version=4) for path in paths}
    with as_file(files("clipedu.classroom.site") / "web") as web:
        _write_assets(web, out / "assets")
        builder = PageBuilder(web, out)
        lessons = {}
        for language in LANGUAGES:
            cut = {name: in_one_language(notebook, language) for name, notebook in read.items()}
            lessons[language] = [_lesson(name, notebook, language) for name, notebook in cut.items()]
            for place, notebook in enumerate(cut.values()):
                builder.write_page(notebook, lessons[language], place, language)
            builder.write_glossary(language)
        builder.write_index(lessons)
        builder.write_sources()


def _write_assets(web: Path, out: Path) -> None:
    shutil.copytree(FOLDER / "figures", out / "figures")
    for path in [*web.glob("*.css"), *web.glob("*.js")]:
        shutil.copyfile(path, out / path.name)
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "monokai"))
    (out / "code.css").write_text(f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n")
    vendored("katex", ["katex.mjs", "katex.min.css", "contrib/auto-render.mjs", "fonts/*.woff2"], out / "katex")


def _lesson(name: str, notebook: NotebookNode, language: str) -> Lesson:
    first = notebook.cells[0].source
    title = re.search(r"^# (.+)$", first, re.MULTILINE)
    minutes = re.search(r"(?:大约|About) (\d+) ", first)
    question = re.search(r"^\*\*(?:一个问题|One question):?\*\*[：:]? ?(.+)$", first, re.MULTILINE)
    assert title and minutes and question, f"{name} has no title, minutes or question"
    asked = re.sub(r"学完之后.*| Afterwards you can$", "", question[1])
    return Lesson(name, title[1], minutes[1], asked[0].upper() + asked[1:])


class PageBuilder:
    """Writes pages into `out`, and remembers which source files they link to."""

    def __init__(self, web: Path, out: Path) -> None:
        self.out = out
        self.sources: set[str] = set()
        self.headings: list[tuple[int, str, str]] = []  # of the page being written: level, id, HTML
        off = {name: {"enabled": False} for name in ("CSSHTMLHeaderPreprocessor", "HighlightMagicsPreprocessor")}
        self.exporter = HTMLExporter(
            template_file=str(web / "page.html.j2"), exclude_anchor_links=True, config=Config(off)
        )
        self.exporter.register_filter("numbered", self._numbered)
        self.exporter.environment.globals["headings"] = self.headings
        self.templates = Environment(loader=FileSystemLoader(web), autoescape=True, trim_blocks=True)

    def write_page(self, notebook: NotebookNode, lessons: list[Lesson], place: int, language: str) -> None:
        """Write the page of a notebook that is in one language; `place` is its number in `lessons`."""
        name = lessons[place].name
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        live = live_cells([cell.source for cell in code])
        for number, position in enumerate(live):
            cell = code[position]
            cell.metadata["frames"] = f"../frames/{name}-{number}.json"
            cell.metadata["kind"] = "dashboard" if DASHBOARD in cell.source else "explorer"
        for cell in notebook.cells:
            cell.outputs = [self._shown(output) for output in cell.get("outputs", []) if not _is_progress(output)]
        neighbours = {
            "before": lessons[place - 1] if place else None,
            "after": lessons[place + 1] if place + 1 < len(lessons) else None,
        }
        self._write(name, notebook, language, lesson=lessons[place], **neighbours)

    def write_glossary(self, language: str) -> None:
        """Write the glossary's page."""
        self._write("glossary", new_notebook(cells=[new_markdown_cell(glossary_in(language), id="c")]), language)

    def _write(self, name: str, notebook: NotebookNode, language: str, **page: Any) -> None:
        self.headings.clear()
        words = {"name": name, "language": language, "other": "en" if language == "zh" else "zh", **page}
        html, _ = self.exporter.from_notebook_node(notebook, {"page": words})
        self._save(f"{language}/{name}.html", self._linked(html))

    def write_index(self, lessons: dict[str, list[Lesson]]) -> None:
        """Write the first page: both languages, of which one is shown."""
        exported = {
            language: [{**vars(lesson), "question": self._inline(lesson.question)} for lesson in each]
            for language, each in lessons.items()
        }
        viewbox = re.search(r'width="(\d+)" height="(\d+)"', (FOLDER / "figures" / "clip.svg").read_text("utf-8"))
        assert viewbox
        page = self.templates.get_template("index.html.j2")
        self._save("index.html", page.render(lessons=exported, figure=viewbox.groups()))

    def write_sources(self) -> None:
        """Write a page for each file of the library that a page links to, with a place for each line."""
        formatter = HtmlFormatter(linenos="inline", lineanchors="L", anchorlinenos=True)
        template = self.templates.get_template("source.html.j2")
        for name in sorted(self.sources):
            code = highlight((ROOT / name).read_text(encoding="utf-8"), PythonLexer(), formatter)
            code = re.sub(r'(id|name|href)="(#?)L-(\d+)"', r'\1="\2L\3"', code)
            up = "../" * (name.count("/") + 1)
            self._save(f"source/{name}.html", template.render(name=name, code=code, up=up))

    def _save(self, name: str, html: str) -> None:
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html.strip() + "\n", encoding="utf-8", newline="\n")

    def _inline(self, markdown: str) -> str:
        return re.sub(r"^<p>|</p>$", "", self.exporter.markdown2html({}, markdown).strip())

    def _numbered(self, html: str, cell: int) -> str:
        """The HTML of a cell's prose with ids for its headings that are the same in every language."""

        def numbered(match: re.Match[str]) -> str:
            level, content = match.groups()
            name = f"c{cell}-{next(count)}"
            self.headings.append((int(level), name, content))
            return f'<h{level} id="{name}">{content}</h{level}>'

        count = iter(range(1, 100))
        return _HEADING.sub(numbered, html)

    def _shown(self, output: NotebookNode) -> NotebookNode:
        if html := output.get("data", {}).get("text/html"):
            output.data["text/html"] = _PNG.sub(self._as_file, html)
        return output

    def _as_file(self, match: re.Match[str]) -> str:
        data, attributes = match.groups()
        if len(data) < _SMALL:
            return match[0]
        name = hashlib.sha256(data.encode()).hexdigest()[:16]
        path = self.out / "assets" / "outputs" / f"{name}.webp"
        with Image.open(io.BytesIO(b64decode(data))) as picture:
            width, height = picture.size
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path, lossless=True, method=4)
        if wanted := re.search(r'width="(\d+)"', attributes):
            height = round(height * int(wanted[1]) / width)
        else:
            attributes += f' width="{width}"'
        lazily = 'loading="lazy" decoding="async"'
        return f'<img src="../assets/outputs/{name}.webp"{attributes} height="{height}" {lazily}>'

    def _linked(self, html: str) -> str:
        """The page with links that lead to other pages, to figures and to sources on this site."""

        def page_of_source(match: re.Match[str]) -> str:
            self.sources.add(match[1])
            return f'href="../source/{match[1]}.html{match[2]}"'

        html = re.sub(r'href="\.\./(clipedu/[\w/]+\.py)((?:#L\d+)?)"', page_of_source, html)
        html = re.sub(r'href="(\w+)\.(?:ipynb|md)(#[^"]*)?"', r'href="\1.html"', html)
        return html.replace('src="figures/', 'src="../assets/figures/')


def _is_progress(output: NotebookNode) -> bool:
    data = output.get("data", {})
    return set(data) == {"text/plain"} and bool(_PROGRESS.match(data["text/plain"]))
