"""The notebooks as a reader sees them: headless Chromium opens JupyterLab, runs each one, moves sliders and types text.

The notebooks run with a different seed than under nbval, so their assertions must hold for both. Screenshots of every
notebook in each language are saved in artifacts/. Without a browser these tests are skipped, unless
CLIPEDU_REQUIRE_BROWSER is set, as it is in CI.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, TimeoutError, expect

from clipedu.data.records import write_records
from tests.conftest import ROOT
from tests.lessons import NOTEBOOKS, Lesson, with_seed

ARTIFACTS = ROOT / "artifacts"
VISIBLE_BLOCKS = """([language, count]) => {
    const blocks = [...document.querySelectorAll(`.jp-Notebook div[lang=${language}]`)]
    return blocks.filter(block => getComputedStyle(block).display != "none").length == count
}"""
# JupyterLab 4.6 shows an error as stderr.
FINISHED = """last => [...document.querySelectorAll('[data-mime-type="application/vnd.jupyter.stderr"]')].some(
        stderr => stderr.innerText.includes("Traceback (most recent call last)"))
    || [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")].at(-1).innerText.trim() == last"""
WHOLE_HEIGHT = """() => {
    const [first, last] = [0, -1].map(place => [...document.querySelectorAll(".jp-Notebook .jp-Cell")].at(place))
    return Math.ceil(last.getBoundingClientRect().bottom - first.getBoundingClientRect().top) + 200
}"""
DEAD = "Error displaying widget"
OUTSIDE_DASHBOARD = ":not(.clipedu-dashboard *)"  # a dashboard's controls do nothing until Run: it has its own test
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # lay out every cell, not only the visible ones
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},  # no pop-ups in screenshots
}
SEED = 1
RUN_TIME = 600_000  # ms; 05 and 06 train models, 00 may, and a busy machine is several times slower
pytestmark = [pytest.mark.slow, pytest.mark.again, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab server."""

    address: str
    token: str
    notebooks: Path

    def page_of(self, path: Path) -> str:
        return f"{self.address}/lab/tree/notebooks/{path.name}?reset&token={self.token}"

    def end_kernels(self) -> None:
        """Shut down all kernels: they outlive their pages, and take gigabytes after 05 and 06."""
        with self._ask("GET", "") as answer:
            kernels = json.load(answer)
        for kernel in kernels:
            self._ask("DELETE", f"/{kernel['id']}").close()

    def _ask(self, method: str, path: str) -> Any:
        headers = {"Authorization": f"token {self.token}"}
        return urllib.request.urlopen(
            urllib.request.Request(f"{self.address}/api/kernels{path}", headers=headers, method=method)
        )


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab that serves a copy of the notebooks and ignores the user's settings."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", home / "served" / "notebooks")
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.source = with_seed(cell.source, SEED)
        nbformat.write(notebook, home / "served" / "notebooks" / path.name)
    for name, settings in SETTINGS.items():
        path = home / "JUPYTERLAB_SETTINGS_DIR/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    folders = "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR"
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", f"--ServerApp.root_dir={home / 'served'}"),
        f"--IdentityProvider.token={token}",
    ]
    # Use one PyTorch thread: on two cores, more would compete with the browser's threads most of the time.
    environment = os.environ | {name: str(home / name) for name in folders} | {"OMP_NUM_THREADS": "1"}
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{address}/api?token={token}", server)
            yield Lab(address, token, home / "served" / "notebooks")
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(120):
        assert server.poll() is None, "JupyterLab did not start"
        try:
            with urllib.request.urlopen(address):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"{address} does not answer")


def opened(browser: Browser, lab: Lab, path: Path) -> Page:
    """The notebook, not yet run."""
    page = browser.new_context(viewport={"width": 1200, "height": 1600}).new_page()
    page.goto(lab.page_of(path))
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=60_000)
    cells = len(Lesson.read(path).notebook.cells)
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(cells, timeout=30_000)
    page.get_by_role("tab", name="File Browser").first.click()  # close it, so that the notebook gets the full width
    return page


@dataclass(frozen=True)
class Reading:
    """A notebook after Run All, and what its page contained before."""

    name: str
    page: Page
    saved_images: int
    still_images: int
    dead_widgets: int


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def reading(request: pytest.FixtureRequest, browser: Browser, lab: Lab) -> Iterator[Reading]:
    path: Path = request.param
    page = opened(browser, lab, path)
    lesson = Lesson.read(path)
    saved = sum(html.count("<img") for _, html in lesson.output_texts("text/html"))
    stills = page.locator(".jp-OutputArea img")
    with contextlib.suppress(TimeoutError):  # outputs are laid out one at a time
        stills.nth(saved - 1).wait_for(timeout=10_000)
    still, dead = stills.count(), page.locator(".widget-slider").count() + page.get_by_text(DEAD).count()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(FINISHED, arg=f"[{len(lesson.code)}]:", timeout=RUN_TIME, polling=500)
    yield Reading(path.stem, page, saved, still, dead)
    page.context.close()
    lab.end_kernels()


class TestNotebook:
    def test_it_shows_still_pictures_before_it_is_run(self, reading: Reading) -> None:
        assert reading.still_images == reading.saved_images  # 01 has none: its tokens are tables
        assert reading.dead_widgets == 0

    def test_it_runs_without_errors(self, reading: Reading) -> None:
        for kind in ("error", "stderr"):
            messages = reading.page.locator(f'[data-mime-type="application/vnd.jupyter.{kind}"]')
            assert messages.all_inner_texts() == []
        expect(reading.page.get_by_text(DEAD)).to_have_count(0)
        images = reading.page.locator(".jp-Notebook img").evaluate_all("all => all.map(i => [i.naturalWidth, i.alt])")
        assert all(width > 0 and alt.strip() for width, alt in images)

    def test_each_language_alone(self, reading: Reading) -> None:
        page = reading.page
        ARTIFACTS.mkdir(exist_ok=True)
        for button, hidden in (("English", "zh"), ("中文", "en"), ("中文 + English", "")):
            page.get_by_role("button", name=button, exact=True).first.click()
            for language in ("zh", "en"):
                blocks = page.locator(f'.jp-Notebook div[lang="{language}"]')
                assert blocks.count() >= 5
                visible = 0 if language == hidden else blocks.count()
                page.wait_for_function(VISIBLE_BLOCKS, arg=[language, visible])
            name = {"zh": "en", "en": "zh", "": "both"}[hidden]
            page.set_viewport_size({"width": 1200, "height": page.evaluate(WHOLE_HEIGHT)})
            page.screenshot(path=ARTIFACTS / f"{reading.name}-{name}.png")
            page.set_viewport_size({"width": 1200, "height": 1600})

    def test_each_slider_moves_its_figure_and_its_number(self, reading: Reading) -> None:
        page = reading.page
        sliders = page.locator(f".jp-Notebook .widget-slider{OUTSIDE_DASHBOARD}")
        for number in range(sliders.count()):
            slider = sliders.nth(number)
            handle, readout, box = slider.locator(".noUi-handle"), slider.locator(".widget-readout"), output_of(slider)
            at_the_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
            # An angle looks the same at both ends, so never jump directly from one end to the other.
            for key in ("Home", "ArrowRight", "End") if at_the_end else ("End", "ArrowLeft", "Home"):
                before, value = content_of(box), readout.inner_text()
                handle.focus()
                handle.press(key)
                expect(readout).not_to_have_text(value)
                expect_change(box, before)

    def test_each_text_box_answers(self, reading: Reading) -> None:
        page = reading.page
        boxes = page.locator(".jp-Notebook .widget-text input")
        for number in range(boxes.count()):
            text, box = boxes.nth(number), output_of(boxes.nth(number))
            for sentence in ("a blue star, 一个蓝色的五角星", "two black rings, 两个黑色的圆环"):
                before = content_of(box)
                text.fill(sentence)
                text.press("Enter")
                expect_change(box, before)
            text.fill("")
            text.press("Enter")
            expect(box).to_contain_text("nothing to show yet")

    def test_each_button_answers(self, reading: Reading) -> None:
        page = reading.page
        rows = page.locator(f".jp-Notebook .widget-toggle-buttons{OUTSIDE_DASHBOARD}")
        for number in range(1, rows.count()):  # the first is the language switch
            row, box = rows.nth(number), output_of(rows.nth(number))
            for button in row.locator("button:not(.mod-active)").all():
                before = content_of(box)
                button.click()
                expect_change(box, before, in_pictures=False)  # another model may say something else of the same ones

    def test_two_runs_of_the_dashboard_are_compared(self, reading: Reading) -> None:
        """Both curves are in the picture, each labelled with its settings."""
        boards = reading.page.locator(".clipedu-dashboard")
        for board in (boards.nth(number) for number in range(boards.count())):
            board.get_by_role("button", name="Clear").click()
            expect(board).to_contain_text("no run yet")
            sliders = board.locator(".noUi-handle")  # lr, temperature, steps
            sliders.nth(0).press("Home")
            sliders.nth(2).press("Home")
            for number, size in enumerate(("8", "32"), 1):
                board.get_by_role("button", name=size, exact=True).click()
                board.get_by_role("button", name="Run").click()
                expect(board.get_by_text(re.compile(rf"^{number}: .* finished"))).to_be_visible(timeout=120_000)
            alt = board.locator("img").last.get_attribute("alt") or ""
            lines = re.findall(r"(\d): lr 1e-05, batch_size (\d+), temperature 0.07\d*, steps 20 (\S+) …", alt)
            assert [line[:2] for line in lines] == [("1", "8"), ("2", "32")], alt
            for _, size, first in lines:
                assert float(first) == pytest.approx(math.log(int(size)), abs=1.5)


def output_of(control: Locator) -> Locator:
    """The whole cell output that a control belongs to."""
    return control.locator("xpath=ancestor::*[contains(@class, 'jp-OutputArea-output')]")


def content_of(output: Locator) -> tuple[list[str], str]:
    """The pictures in an output, and the rest of its HTML, including the pictures' alt texts."""
    content: tuple[list[str], str] = tuple(
        output.locator(".widget-html-content").last.evaluate(
            """element => {
                const copy = element.cloneNode(true), images = [...copy.querySelectorAll("img")]
                const pictures = images.map(image => image.src)
                images.forEach(image => image.removeAttribute("src"))
                return [pictures, copy.innerHTML]
            }"""
        )
    )
    return content


def expect_change(output: Locator, before: tuple[list[str], str], in_pictures: bool = True) -> None:
    """Wait until both the text and the pictures, if there are any, differ from before; or the text alone."""
    for _ in range(100):
        pictures, words = content_of(output)
        if words != before[1] and (pictures != before[0] or not pictures or not in_pictures):
            return
        output.page.wait_for_timeout(100)
    raise AssertionError(f"nothing changed: {before[1]}")


def test_the_switch_works_while_a_cell_is_running(browser: Browser, lab: Lab) -> None:
    path = lab.notebooks / "busy.ipynb"
    prose = new_markdown_cell('<div lang="zh">中文</div>\n\n<div lang="en">English</div>')
    sources = "from clipedu.classroom import *\nlanguage_switch()", "import time\nprint('asleep')\ntime.sleep(600)"
    metadata = Lesson.read(NOTEBOOKS[0]).notebook.metadata
    nbformat.write(new_notebook(cells=[prose, *map(new_code_cell, sources)], metadata=metadata), path)
    page = opened(browser, lab, path)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.get_by_text("asleep", exact=True).wait_for(timeout=60_000)
    for button, zh, en in (("English", 0, 1), ("中文", 1, 0), ("中文 + English", 1, 1)):
        page.get_by_role("button", name=button, exact=True).click()
        page.wait_for_function(VISIBLE_BLOCKS, arg=["zh", zh])
        page.wait_for_function(VISIBLE_BLOCKS, arg=["en", en])
        assert page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts() == ["[1]:", "[*]:"]
    page.context.close()
    lab.end_kernels()


# ------------------------------------------------------------------------------------------- captions that contain HTML

HOSTILE = '<img src=x onerror="window.hacked=1">'
DOLLARS = "from $5 to $9"  # JupyterLab would take the text between two dollar signs for a formula
HALF = "cut in a rocket \ud83d"  # half of an emoji, which cannot be sent to a page
START = """
import torch
from clipedu import ImageTextDataset
from clipedu.classroom import check, card, dashboard, environment_card, explore, lessons, plots, show_source
from clipedu.classroom.recorded import Recording
from clipedu.commands.check import Finding
from clipedu.ground.errors import ClipEduError, DatasetError

record = ImageTextDataset("hostile", language="both").records[0]
(english, dollars, half), (chinese,), label = record.captions["en"], record.captions["zh"], record.labels["en"]
several = [english, dollars, half]
def fail(sentence):
    raise ValueError(sentence)
"""
SHOWN_AS_TEXT = [  # cells that show the caption as text
    "print(english)",
    "plots.pictures([record.image_path] * 3, several, [chinese, *several[1:]], [label, *several[1:]])",
    "plots.tokens(several, [1, 2, 3])",
    "card(False, f'{chinese} {several}', ' '.join(several))",
    "explore(lambda sentence: plots.pictures([record.image_path], [sentence]), sentence=english)",
    "explore(lambda choice: plots.tokens([choice, dollars]), choice=[english, dollars])",
    "explore(fail, sentence=english)",
    "check.normalize(lambda x: fail(english))",
    "Recording({}, {'command': english})",
    "lessons.check_environment = lambda folder: [Finding(label, False, english, chinese, english)]\nenvironment_card()",
    "board = dashboard(lambda words: fail(words), words=[english, 'b'])\nboard.start()\nboard",
    "board = dashboard(lambda words: iter([2.0, 1.0]), words=[english, 'b'])\nboard.start()\nboard",
    f"def example():\n    return {HOSTILE!r}\n\nshow_source(example)",
    "plots.similarity(torch.eye(2), [record.image_path] * 2, [english, dollars], english)",
    "plots.heat_map(torch.eye(2), [english, half], [english, dollars], english)",
    "plots.bars({english: {label: 1.0}, dollars: {label: 2.0}}, english)",
    "plots.curves({english: ([1, 2], [2.0, 1.0])}, 'x', 'y', {label: 1.5})",
    "raise DatasetError(chinese, english)",
]


def test_html_in_captions_is_shown_as_text(browser: Browser, lab: Lab) -> None:
    """In English and Chinese captions, a label and a file name; in everything the classroom displays."""
    folder = lab.notebooks / "hostile"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "images" / f"{HOSTILE}.png")
    captions = {"text": [HOSTILE, DOLLARS, HALF], "text_zh": f"红 {HOSTILE}", "label": HOSTILE}
    write_records(folder, [{"image_path": f"images/{HOSTILE}.png", **captions}])
    path = lab.notebooks / "hostile.ipynb"
    cells = [new_code_cell(source) for source in (START, *SHOWN_AS_TEXT)]
    nbformat.write(new_notebook(cells=cells, metadata=Lesson.read(NOTEBOOKS[0]).notebook.metadata), path)
    page = opened(browser, lab, path)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(FINISHED, arg=f"[{len(cells)}]:", timeout=RUN_TIME)
    outputs = [cell.locator(".jp-OutputArea-output") for cell in page.locator(".jp-CodeCell").all()[1:]]
    for source, output in zip(SHOWN_AS_TEXT, outputs, strict=True):
        expect(output.filter(has_text=HOSTILE).first, source).to_be_visible()
        if "several" in source:
            expect(output.first, source).to_contain_text(DOLLARS)
            expect(output.first, source).to_contain_text("cut in a rocket \\ud83d")
    assert page.locator("mjx-container, .MathJax").count() == 0, "prices must not be shown as formulas"
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("window.hacked") is None
    page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", HOSTILE)
    page.wait_for_function("window.hacked === 1")  # proves that running the HTML would have been detected
    page.context.close()
    lab.end_kernels()
