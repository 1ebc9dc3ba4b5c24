"""The notebooks in one language, for VS Code, Colab and print, where the language switch cannot act.

`python -m clipedu.classroom.edition --language zh --out DIR` writes them with the outputs that are saved in the
bilingual ones, beside their figures and the glossary. Their code is the same, but for the switch: its cell calls
`use_language` instead, so that what they show when they are run is in one language too.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from clipedu.classroom.monolingual import html_in, prose_in, text_in
from clipedu.classroom.source import ROOT
from clipedu.ground.errors import ClipEduError
from clipedu.ground.files import read_text, whole_folder

LANGUAGES = {"zh": "中文", "en": "English"}
FOLDER = ROOT / "notebooks"
_FOR_BOTH_ONLY = re.compile(  # sentences that only hold where both languages are
    "上面的按钮选择语言。|The buttons (?:above )?choose the language\\. ?"
    "| Where a new term first appears, both languages stand in bold\\."
)
_OUT_OF_THE_FOLDER = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")
_NOTES = {
    "zh": "> 这是 `notebooks/{name}` 的中文版。要运行它：克隆整个仓库，在仓库根目录执行 `python -m pip install -e .`，"
    "再用装好的这个 Python 作内核；`clipedu/` 开头的文件名都从仓库根目录算起。",
    "en": "> This is the English edition of `notebooks/{name}`. To run it, clone the whole repository, install it from "
    "its root with `python -m pip install -e .`, and choose that Python as the kernel. File names that begin with "
    "`clipedu/` are relative to the root, too.",
}


def notebooks() -> list[Path]:
    """The bilingual notebooks in the order of the map in notebook 00, which comes first.

    Raises:
        ClipEduError: they are not there, as after an ordinary `pip install`.
    """
    first = next(FOLDER.glob("00_*.ipynb"), None)
    if first is None:
        raise ClipEduError(
            f"{FOLDER} 里没有笔记本；请克隆整个仓库，再用 pip install -e . 安装",
            f"there are no notebooks in {FOLDER}: clone the whole repository and install it with pip install -e .",
        )
    linked = re.findall(r"\| \[[^\]]+\]\((\w+\.ipynb)\)", "\n".join(cell.source for cell in _read(first).cells))
    return [first, *(FOLDER / name for name in dict.fromkeys(linked))]


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def in_one_language(notebook: NotebookNode, language: str) -> NotebookNode:
    """A copy of a bilingual notebook with prose, outputs and the cell of the switch in "zh" or "en"; code is kept."""
    notebook = deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = prose_in(_FOR_BOTH_ONLY.sub("", cell.source), language)
        elif "language_switch()" in cell.source:
            call = f'use_language("{language}")'
            cell.source = cell.source.replace("language_switch()", call).replace("language_switch", "use_language")
            cell.outputs = []
        for output in cell.get("outputs", []):
            _cut(output.get("data", {}), language)
    return notebook


def _cut(data: dict[str, str], language: str) -> None:
    """Cut what an output shows, in place: its text only if there is no HTML, as `use_language` does."""
    if "text/html" in data:
        data["text/html"] = html_in(data["text/html"], language)
    elif "text/plain" in data:
        data["text/plain"] = text_in(data["text/plain"], language)


def glossary_in(language: str) -> str:
    """The Markdown of the glossary, explained in one language."""
    return prose_in(_FOR_BOTH_ONLY.sub("", read_text(FOLDER / "glossary.md")), language)


def write_edition(language: str, out: Path, outputs: bool = True) -> None:
    """Write all notebooks, their figures and the glossary in one language into the new folder `out`.

    Args:
        language: "zh" or "en".
        out: does not exist, or is empty.
        outputs: whether they show what is saved in the bilingual ones; without, they are a tenth of the size.

    Raises:
        ClipEduError: there are no notebooks, or `out` is not empty or cannot be written.
    """
    paths = notebooks()
    with whole_folder(out) as folder:
        for path in paths:
            notebook = in_one_language(_read(path), language)
            for cell in notebook.cells:
                _unlink_sources(cell)
                if not outputs and cell.cell_type == "code":
                    cell.outputs, cell.execution_count = [], None
            notebook.cells.insert(0, new_markdown_cell(_NOTES[language].format(name=path.name), id="edition"))
            nbformat.write(notebook, folder / path.name)
        (folder / "glossary.md").write_text(glossary_in(language) + "\n", encoding="utf-8", newline="\n")
        shutil.copytree(FOLDER / "figures", folder / "figures")


def _unlink_sources(cell: NotebookNode) -> None:
    """Leave the names of files outside of the notebooks' folder without a link: an edition may be anywhere."""
    if cell.cell_type == "markdown":
        cell.source = _OUT_OF_THE_FOLDER.sub(r"\1", cell.source)
    for output in cell.get("outputs", []):
        if text := output.get("data", {}).get("text/markdown"):
            output.data["text/markdown"] = _OUT_OF_THE_FOLDER.sub(r"\1", text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 2 after an error, which is printed in one line."""
    parser = argparse.ArgumentParser(prog="python -m clipedu.classroom.edition", description=__doc__)
    parser.add_argument("--language", choices=LANGUAGES, required=True, help="语言 · language: zh, en")
    parser.add_argument("--out", type=Path, required=True, help="新文件夹 · a new folder")
    options = parser.parse_args(arguments)
    try:
        write_edition(options.language, options.out)
    except ClipEduError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(notebooks())} -> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
