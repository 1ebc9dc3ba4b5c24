"""Frames of interactive figures on the site: toy figures, whose controls and views can be checked by hand."""

from __future__ import annotations

import base64
import gzip
import io
import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from clipedu.classroom import explore
from clipedu.classroom.plots.drawing import img
from clipedu.classroom.site import frames
from clipedu.classroom.site.needed import live_cells, with_its_last_value
from clipedu.classroom.view import View, both, card
from clipedu.classroom.widgets import Dashboard, Log
from clipedu.ground.errors import ClipEduError


def times(a: int, b: float) -> View:
    return View(both(f"积 {a * b:g}", f"product {a * b:g}"), f"product {a * b:g}")


def test_a_frame_for_each_combination_in_each_language() -> None:
    described, content, first = frames.frames_of(explore(times, a=(1, 4, 1, 2), b=[0.5, 10.0]), "toy times")
    a, b = described["controls"]
    assert (a["kind"], a["labels"]["en"], a["start"]) == ("range", ["1", "2", "3", "4"], {"zh": 1, "en": 1})
    assert (b["kind"], b["labels"]["zh"], b["start"]) == ("buttons", ["0.5", "10.0"], {"zh": 0, "en": 0})
    assert len(content["frames"]) == 8
    assert content["frames"]["3,1"] == {"zh": "<div>积 40</div>", "en": "<div>product 40</div>"}
    assert first == "product 1"


def test_fewer_stops_have_the_ends_and_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = explore(times, a=(0, 1000, 1, 7), b=(0.0, 1.0, 0.5, 0.5))
    with pytest.raises(ValueError, match="toy times has 3003 frames"):
        frames.frames_of(figure, "toy times")
    monkeypatch.setitem(frames.FEWER, "toy times", {"a": (0, 500, 1000)})
    described, content, first = frames.frames_of(figure, "toy times")
    a, b = described["controls"]
    assert a["labels"]["en"] == ["0", "7", "500", "1000"] and a["fewer"] and a["start"]["en"] == 1
    assert b["labels"]["en"] == ["0.00", "0.50", "1.00"] and not b["fewer"]
    assert len(content["frames"]) == 12 and first == "product 3.5"


def test_stops_of_sliders_are_those_of_ipywidgets() -> None:
    steps = explore(times, a=(-180, 180, 5, 50), b=(0.2, 3.0, 0.1, 2.0)).controls
    assert frames.slider_stops(steps["a"]) == list(range(-180, 181, 5))
    assert frames.slider_stops(steps["b"]) == [round(0.1 * number, 1) for number in range(2, 31)]
    log = explore(lambda b: times(1, b), b=Log(0.01, 0.3, 0.07)).controls["b"]
    stops = frames.slider_stops(log)
    assert stops[:2] == pytest.approx([0.01, 10**-1.95]) and stops[-1] == pytest.approx(0.3) and len(stops) == 31
    log.value = stops[5]
    assert log.value == stops[5], "ipywidgets takes it as it is"
    assert [frames.slider_label(log, value) for value in (0.01, 0.0708, 1.0)] == ["0.010", "0.071", "1.0"]


def test_a_text_box_answers_the_sentences_of_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(frames.SENTENCES, "toy echo", (["圆"], ["<b>"]))
    figure = explore(lambda text: card(None, text, text), text={"zh": "星", "en": "star"})
    saved = figure.view.text
    described, content, first = frames.frames_of(figure, "toy echo")
    (box,) = described["controls"]
    assert box["labels"]["en"] == box["labels"]["zh"] == ["星", "圆", "star", "<b>", ""]
    assert box["start"] == {"zh": 0, "en": 2}
    assert "&lt;b&gt;" in content["frames"]["3"]["en"]
    assert "press Enter" in content["frames"]["4"]["en"]
    assert first == saved


def test_pictures_are_kept_once_without_loss() -> None:
    pictures = [Image.effect_noise((40, 30), 60).convert("RGB"), Image.new("RGB", (40, 30), "#0072b2")]
    data = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "png")
        data.append(buffer.getvalue())
    views = {which: View(img(data[which == "blue"], "图 | picture"), which) for which in ("grey", "blue")}
    figure = explore(lambda which, again: views[which], which=["grey", "blue"], again=[1, 2, 3])
    _, content, _ = frames.frames_of(figure, "toy pictures")
    assert len(content["images"]) == 2 and len(content["frames"]) == 6
    assert 'src="#1" alt="图"' in content["frames"]["1,2"]["zh"]
    for packed, picture in zip(content["images"], pictures, strict=True):
        _, _, encoded = packed.partition("base64,")
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as kept:
            assert kept.convert("RGB").tobytes() == picture.tobytes()


def test_a_figure_that_fails_is_not_published() -> None:
    figure = explore(lambda n: times(1, 1 / n), n=(0, 2, 1, 1))
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        frames.frames_of(figure, "toy fails")


def test_a_dashboard_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Dashboard(lambda lr, size: iter([lr * 3, lr / 3]), lambda size, **_: size / 2, {"lr": [0.1], "size": [8]})
    monkeypatch.setattr(frames, "RUNS", [(0.1, 8), (0.2, 8), (0.1, 32)])
    monkeypatch.setattr(frames, "FIRST_RUN", (0.1, 8))
    described, content = frames.recorded_runs(board)
    assert described["recorded"] == ["0,0", "1,0", "0,1"]
    assert content["runs"]["1,0"] == {"losses": [0.6, 0.067], "chance": 4}


SOURCES = [
    "from clipedu.classroom import explore, card\nSEED = 0",
    "raise ValueError('no figure needs this cell')",
    "def draw(n: int):\n    return card(None, f'{n} 个', f'{n}')",
    "explore(\n    draw, n=(1, 3, 1, 2)\n)",
]


def test_a_notebook_runs_the_cells_that_its_figures_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert live_cells(SOURCES) == [3]
    assert with_its_last_value(SOURCES[3], "shown").startswith("shown = explore(\n")
    monkeypatch.chdir(tmp_path)
    for name, saved in (("agrees", "[…] 2 个\n[…] 2"), ("drifted", "[…] 9")):
        output = new_output("execute_result", {"text/plain": saved})
        cells = [new_code_cell(source) for source in SOURCES[:-1]] + [new_code_cell(SOURCES[-1], outputs=[output])]
        nbformat.write(new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    assert frames.write_frames(tmp_path / "agrees.ipynb", tmp_path) == ""
    assert json.loads((tmp_path / "agrees-0.json").read_text("utf-8"))["controls"][0]["name"] == "n"
    content = json.loads(gzip.decompress((tmp_path / "agrees-0.frames").read_bytes()))
    assert "3 个" in content["frames"]["2"]["zh"] and "3 个" not in content["frames"]["2"]["en"]
    with pytest.raises(AssertionError, match="and the notebook"):
        frames.write_frames(tmp_path / "drifted.ipynb", tmp_path)


def test_what_this_computer_lacks_is_left_out_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ClipEduError("没有字体", "no font")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(frames, "show", fail)
    nbformat.write(new_notebook(cells=[new_code_cell(SOURCES[3])]), tmp_path / "small.ipynb")
    assert "no font" in frames.write_frames(tmp_path / "small.ipynb", tmp_path)
    assert json.loads((tmp_path / "small-0.json").read_text("utf-8")) == {"kind": "absent"}
    assert not (tmp_path / "small-0.frames").exists()
