"""The classroom: what it shows, in both languages, to the eye and to the screen reader; nothing fails silently."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import torch
from matplotlib import colormaps
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from torch import nn

from benchmarks import steps
from clipedu import CLIP, SimpleTokenizer, save_checkpoint
from clipedu.classroom import (
    Log,
    TrainingMonitor,
    View,
    card,
    dashboard,
    environment_card,
    explore,
    language_switch,
    lessons,
    plots,
    recorded,
    show_source,
)
from clipedu.classroom.execute import WIDGET, execute
from clipedu.classroom.measure import kept_bytes, seconds, step_memory
from clipedu.classroom.plots.drawing import COSINE_MAP, font_for
from clipedu.classroom.widgets import Dashboard
from clipedu.ground.errors import ClipEduError, ConfigError, DatasetError
from clipedu.loss import contrastive_loss
from tests.conftest import ROOT

# ----------------------------------------------------------------------------------------------- cards and switch


def test_a_card_speaks_both_languages_and_obeys_no_html() -> None:
    shown = card(False, "<b>错</b>", 'a & "b"\nsecond <script>', "reason")
    assert shown.html.count("<div lang=") == 2
    assert "&lt;b&gt;错&lt;/b&gt;" in shown.html
    assert "a &amp; &quot;b&quot;<br>second &lt;script&gt;" in shown.html
    assert shown.text == '[FAIL] <b>错</b>\n[FAIL] a & "b"\nsecond <script>'
    assert (shown.passed, shown.reason) == (False, "reason")
    assert shown._repr_mimebundle_() == {"text/html": shown.html, "text/plain": shown.text}
    assert repr(shown) == shown.text


def test_cards_differ_by_more_than_colour() -> None:
    marks = {passed: card(passed, "好", "well").text[:4] for passed in (True, False, None)}
    edges = {re.findall("#[0-9A-F]{6}", card(passed, "好", "well").html)[0] for passed in (True, False, None)}
    assert marks == {True: "[OK]", False: "[FAI", None: "[…] "}
    assert len(edges) == 3


def test_the_switch_hides_the_other_language_only() -> None:
    switch = language_switch()
    assert switch.sheet.value == ""
    switch.buttons.value = "中文"
    assert 'div[lang="en"]' in switch.sheet.value
    assert 'div[lang="zh"]' not in switch.sheet.value
    assert "display: none" in switch.sheet.value
    switch.buttons.value = "English"
    assert 'div[lang="zh"]' in switch.sheet.value
    assert 'div[lang="en"]' not in switch.sheet.value
    switch.buttons.value = "中文 + English"
    assert switch.sheet.value == ""


def test_two_switches_do_not_meddle() -> None:
    """JupyterLab keeps several notebooks in one page; a switch names the notebook that it stands in."""
    one, other = language_switch(), language_switch()
    one.buttons.value = "中文"
    assert one.mark in one.sheet.value
    assert other.mark not in one.sheet.value
    assert one.mark in one._dom_classes


def test_the_switch_where_no_kernel_runs() -> None:
    bundle = language_switch()._repr_mimebundle_()
    assert bundle["text/plain"] == "中文 + English | 中文 | English"
    assert WIDGET in bundle


# --------------------------------------------------------------------------------------------------- living source


def test_source_is_the_library_as_it_is_now() -> None:
    shown = show_source(contrastive_loss)
    file, line = re.findall(r"\]\(\.\./(.+)#L(\d+)\)", shown.link)[0]
    text = (ROOT / file).read_text(encoding="utf-8")
    assert text.splitlines()[int(line) - 1] == shown.code.splitlines()[0]
    assert shown.code in text
    assert shown._repr_mimebundle_()["text/markdown"] == f"{shown.link}\n\n```python\n{shown.code}\n```"
    assert (ROOT / "notebooks" / ".." / file).is_file()


def test_a_method_loses_its_indent_and_a_region_keeps_its_line() -> None:
    assert show_source(SimpleTokenizer.encode).code.startswith("def encode(")
    whole = show_source(SimpleTokenizer)
    part = show_source(SimpleTokenizer, start="def encode", stop="return [CLS")
    assert part.code == show_source(SimpleTokenizer.encode).code
    first, line = (int(re.findall(r"#L(\d+)", one.link)[0]) for one in (whole, part))
    assert whole.code.splitlines()[line - first].strip() == part.code.splitlines()[0]
    rest = show_source(SimpleTokenizer, start="def decode").code
    assert rest.splitlines()[-1].strip() == whole.code.splitlines()[-1].strip()
    assert show_source(SimpleTokenizer, stop="class SimpleTokenizer").code == "class SimpleTokenizer:"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((SimpleTokenizer, "no such line"), "no such line"),
        ((SimpleTokenizer, "", "no such line"), "no such line"),
        ((SimpleTokenizer.encode, "return [CLS", "def encode"), "def encode"),  # stop before start
        ((len,), "no Python source"),
        ((3,), "no Python source"),
    ],
)
def test_source_that_is_not_there(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        show_source(*arguments)
    assert re.search("[\u4e00-\u9fff]", caught.value.zh)


def test_source_outside_the_project_shows_no_path() -> None:
    link = show_source(re.sub).link
    assert re.fullmatch(r"`\w+\.py:\d+`", link)


# ------------------------------------------------------------------------------------------------------- explorers


def squares(number: int) -> View:
    return View(f'<img src="data:,{number}" alt="{number**2}">', str(number**2))


def test_a_slider_redraws() -> None:
    explorer = explore(squares, number=(-3, 3, 1, 2))
    slider = explorer.controls["number"]
    assert (slider.min, slider.max, slider.step, slider.value) == (-3, 3, 1, 2)
    assert explorer.view.text == "4"
    slider.value = 3
    assert explorer.view.text == "9"
    assert explorer.output.value == explorer.view.html == '<img src="data:,3" alt="9">'
    assert isinstance(explore(squares, number=(0.0, 1.0, 0.1, 0.5)).controls["number"].value, float)


def test_buttons_and_text() -> None:
    explorer = explore(lambda word, times: View("", word * times), word="ab", times=[1, 2])
    assert explorer.view.text == "ab"
    explorer.controls["times"].value = 2
    assert explorer.view.text == "abab"
    explorer.controls["word"].value = "c"
    assert explorer.view.text == "cc"
    assert explorer.controls["word"].continuous_update is False


@pytest.mark.parametrize("nothing", ["", "   ", "\t"])
def test_nothing_to_show_says_so(nothing: str) -> None:
    explorer = explore(lambda word: View(word, word), word="something")
    explorer.controls["word"].value = nothing
    assert "还没有内容" in explorer.output.value
    assert "nothing to show yet" in explorer.output.value
    explorer.controls["word"].value = "again"
    assert explorer.output.value == "again"


def test_an_error_is_shown_where_the_reader_looks() -> None:
    def draw(number: int) -> View:
        if number == 1:
            raise ConfigError("一不行", "not one")
        return View("", str(1 / number))

    explorer = explore(draw, number=(0, 2, 1, 2))
    assert explorer.view.text == "0.5"
    explorer.controls["number"].value = 0
    assert "ZeroDivisionError: division by zero" in explorer.output.value
    assert "这一步出错了" in explorer.output.value
    explorer.controls["number"].value = 1
    assert explorer.view.text == "[FAIL] 一不行\n[FAIL] not one"


def test_an_explorer_stays_a_picture_without_a_kernel() -> None:
    bundle = explore(squares, number=(0, 3, 1, 2))._repr_mimebundle_()
    assert bundle["text/html"] == '<img src="data:,2" alt="4">'
    assert bundle["text/plain"] == "4"


def test_training_monitor() -> None:
    monitor = TrainingMonitor(4, chance=2.0)
    monitor({"step": 1, "loss": 2.5})
    first = monitor.curve.value
    assert "step 1/4  loss 2.500" in monitor.line.value
    monitor({"step": 2, "loss": 2.0})
    assert monitor.curve.value == first, "drawn at most twice a second"
    monitor({"epoch": 1, "loss": 9.0, "val": None})
    monitor({"step": 3, "loss": 1.5})
    monitor({"step": 4, "loss": 1.0})
    assert monitor.bar.value == 4
    assert "step 4/4  loss 1.000" in monitor.line.value
    assert "loss from 2.50 to 1.00" in monitor.curve.value
    assert "chance ln(B) = 2.00" in monitor.curve.value


def falling(start: float, steps: int) -> Iterator[float]:
    for step in range(steps):
        yield start / (1 + step)


def small_board(run: Callable[..., Iterator[float]] = falling, **changes: Any) -> Dashboard:
    chance = changes.pop("chance", lambda start, steps: start)
    return dashboard(run, chance, start=Log(0.1, 10, 1.0), steps=(0, 6, 1, 4))


def test_a_dashboard_keeps_what_its_runs_yield() -> None:
    board = small_board()
    assert "还没有运行" in board.output.value
    board.button.click()
    board.start(start=10, steps=2)
    assert board.runs == {
        "1: start 1, steps 4": [1.0, 1 / 2, 1 / 3, 1 / 4],
        "2: start 10, steps 2": [10.0, 5.0],
    }
    for said in ("1: start 1, steps 4 from 1.00 to 0.25", "2: start 10, steps 2 from 10.00 to 5.00"):
        assert said in board.view.text
    assert "dashed line chance 1.00 at 1.00; dashed line chance 10.00 at 10.00" in board.view.text
    assert board.output.value == board.view.html
    assert board.output.value.count("<img") == 1
    assert "finished, last loss 5.000" in board.line.value
    assert (board.controls["start"].value, board.controls["steps"].value) == (10, 2)


def test_a_dashboard_is_cleared() -> None:
    board = small_board()
    board.start()
    board.clear.click()
    assert (board.runs, board.levels) == ({}, {})
    assert "no run yet" in board.output.value
    board.start()
    assert list(board.runs) == ["1: start 1, steps 4"]


def test_a_stopped_run_keeps_what_it_had() -> None:
    def stopped(start: float, steps: int) -> Iterator[float]:
        yield from falling(start, 3)
        raise KeyboardInterrupt

    board = small_board(stopped)
    board.start()
    assert list(board.runs.values()) == [[1.0, 1 / 2, 1 / 3]]
    assert "from 1.00 to 0.33" in board.view.text
    assert "stopped at step 3" in board.line.value
    assert not board.button.disabled


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError("不行", "no good"), "不行 | no good"),
        (ValueError("odd"), "出错了 · this went wrong: ValueError: odd"),
    ],
)
def test_an_error_in_a_run_is_shown(error: Exception, said: str) -> None:
    def failing(start: float, steps: int) -> Iterator[float]:
        if steps > 1:
            yield start
        raise error

    board = small_board(failing)
    board.start()
    assert said in board.line.value
    assert list(board.runs.values()) == [[1.0]]
    board.start(steps=1)
    assert list(board.runs.values()) == [[1.0]], "nothing came, nothing is drawn"
    assert not board.button.disabled


def test_buttons_sleep_while_a_run_goes() -> None:
    seen: list[bool] = []

    def watching(start: float, steps: int) -> Iterator[float]:
        seen.extend([board.button.disabled, board.clear.disabled])
        yield from falling(start, steps)

    board = small_board(watching)
    board.start()
    assert seen == [True, True]
    assert not board.button.disabled
    assert not board.clear.disabled


def test_a_run_without_steps_says_so() -> None:
    board = small_board()
    board.start(steps=0)
    assert board.runs == {}
    assert "没有一步" in board.line.value
    assert "no run yet" in board.view.text


def test_a_dashboard_stays_a_picture_without_a_kernel() -> None:
    board = dashboard(falling, start=Log(0.1, 10, 1.0), steps=[2, 4])
    assert "no run yet" in board._repr_mimebundle_()["text/plain"]
    board.start(steps=4)
    bundle = board._repr_mimebundle_()
    assert bundle["text/html"] == board.view.html
    assert bundle["text/plain"] == "Curves of loss over step: 1: start 1, steps 4 from 1.00 to 0.25"
    assert "clipedu-dashboard" in board._dom_classes


# --------------------------------------------------------------------------------------------- memory and time


def test_kept_bytes_by_hand() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.zeros(16, 4)
    # x for the first weight's gradient; the result of ReLU once, though two layers want it; no weights
    assert kept_bytes(lambda: model(x).sum(), without=model.parameters()) == 4 * (16 * 4 + 16 * 8)
    assert kept_bytes(lambda: model(x).sum()) == 4 * (16 * 4 + 16 * 8 + 8 * 2)
    with torch.no_grad():
        assert kept_bytes(lambda: model(x).sum()) == 0


def test_counting_changes_no_gradient() -> None:
    model, x = nn.Sequential(nn.Linear(4, 8), nn.Tanh()), torch.ones(2, 4)
    model(x).sum().backward()
    wanted = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    kept_bytes(lambda: model(x).sum().backward())
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert gradient is not None
        torch.testing.assert_close(parameter.grad, gradient)


def test_step_memory() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model[2].requires_grad_(False)
    trained, fixed = 4 * (8 * 4 + 8 + 8 + 8), 4 * (2 * 8 + 2) + 4 * (8 + 8) + 8  # with the norm's statistics
    found = step_memory(model, lambda: model(torch.ones(3, 4)).sum())
    assert found["weights"] == trained + fixed
    assert (found["gradients"], found["Adam"]) == (trained, 2 * trained)
    assert found["kept"] > 0


def test_seconds_is_the_median_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, naps = [0.0], iter([9.0, 1.0, 5.0, 2.0, 9.0, 3.0])

    def step() -> None:
        clock[0] += next(naps)

    monkeypatch.setattr("clipedu.classroom.measure.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert seconds(step, torch.device("cpu"), repeats=3) == 2
    assert seconds(step, torch.device("cpu"), repeats=3, enough=0.5) == 3, "once is enough"


def test_steps_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.steps.FOLDER", tmp_path)
    options = {"--batch-sizes": "2", "--image-size": "32", "--repeats": "1", "--device": "cpu"}
    monkeypatch.setattr("sys.argv", ["steps", *itertools.chain(*options.items())])
    steps.main()
    monkeypatch.setattr(sys.modules["clipedu.classroom.recorded"], "FOLDER", tmp_path)
    found = recorded("steps_cpu")
    assert [(run["precision"], run["layout"]) for run in found.results] == [
        (precision, layout) for precision in ("fp32", "bf16") for layout in ("channels first", "channels last")
    ]
    assert all(run["images_per_second"] > 0 and run["kept_bytes"] > 0 for run in found.results)
    assert all(run["peak_bytes"] is None for run in found.results), "a CPU tells nothing of its peak"
    assert found.origin["command"].startswith("python -m benchmarks.steps --batch-sizes 2")


# ----------------------------------------------------------------------------------------------------------- plots

PICTURE = Image.new("RGB", (8, 8), "red")
UNIT = torch.nn.functional.normalize(torch.tensor([[1.0, 2.0, 2.0], [0.0, 3.0, 4.0]]), dim=-1)
BOX = torch.zeros(8, 8)
BOX[2:5, 1:3] = 0.5
PLOTS: dict[str, Callable[[], View]] = {
    "pictures": lambda: plots.pictures([PICTURE, torch.zeros(3, 8, 8, dtype=torch.uint8)], ["a", "b"], ["甲", "乙"]),
    "feature_maps": lambda: plots.feature_maps({"stem": torch.rand(4, 8, 8), "last": torch.rand(9, 2, 2)}),
    "filters": lambda: plots.filters({"a": torch.randn(5, 3, 3, 3), "b": torch.zeros(2, 3, 7, 7)}, 4),
    "gradient_map": lambda: plots.gradient_map(PICTURE, BOX, "stage 1"),
    "grids": lambda: plots.grids({"a": torch.eye(2), "b": torch.tensor([[torch.nan, 2.0]])}, {"a": (0, 0, 1, 2)}),
    "similarity": lambda: plots.similarity(torch.eye(3), [PICTURE] * 3, ["one", "two", "three"]),
    "heat_map": lambda: plots.heat_map(torch.rand(2, 3), ["a", "b"], ["c", "d", "e"], "attention"),
    "on_the_circle": lambda: plots.on_the_circle(torch.eye(2), -torch.eye(2), "four"),
    "on_the_sphere": lambda: plots.on_the_sphere(UNIT, UNIT.flip(1), "two"),
    "curves": lambda: plots.curves(
        {"a": ([1, 2], [3.0, 4.0])}, "across", "up", {"level": 3.5}, ranges={"a": ([2.9, 3.8], [3.1, 4.2])}
    ),
    "loss_curve": lambda: plots.loss_curve([3.0, 2.0], 2.77, predicted=3.1),
    "dots": lambda: plots.dots({"a": [0.1, 0.2], "b": [0.3]}, "recall", {"chance": 0.5}, band="a"),
    "bars": lambda: plots.bars({"one": {"a": 1.0, "b": 2.0}, "two": {"a": 3.0}}, "height", {"chance": 0.5}),
    "histogram": lambda: plots.histogram({"x": torch.tensor([1.0, 2.0, 3.0])}, "value"),
    "temperature_panel": lambda: plots.temperature_panel(
        torch.eye(3),
        1,
        torch.tensor([0.2, 0.6, 0.2]),
        torch.tensor([0.2, -0.4, 0.2]),
        {"loss": ([0.1, 1], [0.5, 2])},
        0.1,
    ),
    "tokens": lambda: plots.tokens(["[CLS]", "red", "圆", "<b>"], [2, 7, 9, 1]),
}


def decoded(view: View) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", view.html)
    ]


def test_all_plots_are_tested() -> None:
    functions = {
        name
        for name, f in vars(plots).items()
        if callable(f) and getattr(f, "__module__", "").startswith(plots.__name__) and not name.startswith("_")
    }
    assert functions == set(PLOTS)


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_seen_and_told(name: str) -> None:
    view = PLOTS[name]()
    assert isinstance(view, View)
    assert view.text.strip()
    assert all(alt.strip() for alt in re.findall(r'alt="(.*?)"', view.html))
    for picture in decoded(view):
        low, high = (channel for channel in picture.convert("L").getextrema())
        assert low != high or picture.size == (8, 8), "nothing is drawn"
    if name == "tokens":
        assert all(word in view.text for word in ("[CLS]", "red", "圆", "<b>"))
        assert "<b>" not in view.html.replace("<b>[", "")
    else:
        assert decoded(view)
        assert view.html.count("<img") == view.html.count("alt=")


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_the_same_each_time(name: str) -> None:
    torch.manual_seed(1)
    first = PLOTS[name]()
    torch.manual_seed(1)
    assert PLOTS[name]() == first


def test_similarity_tells_its_diagonal_and_the_rest() -> None:
    view = plots.similarity(torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.6, -0.3], [0.3, 0.0, 0.3]]))
    assert "3 x 3" in view.text
    assert "the diagonal averages 0.60, the rest 0.05" in view.text  # (0.9+0.6+0.3)/3 and (0.1+0.2-0.3+0.3)/6


def test_similarity_of_more_than_can_be_labelled() -> None:
    assert "12 x 12" in plots.similarity(torch.eye(12)).text
    assert "diagonal" not in plots.similarity(torch.zeros(2, 3)).text


def test_the_similarity_scale_is_fixed() -> None:
    """A cosine of 0.5 has the colour three quarters up the scale, even where nothing is more similar."""
    wanted = tuple(round(255 * part) for part in colormaps[COSINE_MAP](0.75)[:3])
    for value, found in ((0.5, True), (1.0, False)):
        picture = decoded(plots.similarity(torch.full((12, 12), value)))[0].convert("RGB")
        near = [
            count
            for count, colour in picture.getcolors(1 << 20) or []
            if isinstance(colour, tuple) and max(abs(a - b) for a, b in zip(colour, wanted, strict=True)) <= 2
        ]
        assert (sum(near) > 10_000) is found


def test_circle_and_sphere_tell_places_and_angles() -> None:
    said = plots.on_the_circle(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.5]])).text
    assert "I1 (3.00, 4.00)" in said
    assert "T1 (0.00, 0.50)" in said
    axes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert "2 pairs on the unit sphere, 90 degrees" in plots.on_the_sphere(axes, axes.flip(0)).text


def test_gradient_and_tables_tell_their_numbers() -> None:
    assert "box of 2 x 3 pixels. stage 1" in PLOTS["gradient_map"]().text
    assert "box of 0 x 0 pixels" in plots.gradient_map(PICTURE, torch.zeros(8, 8)).text
    assert PLOTS["grids"]().text == "Tables of numbers: a [[1.0, 0.0], [0.0, 1.0]]; b [[nan, 2.0]]"


def test_curves_bars_and_histogram_tell_their_numbers() -> None:
    assert "a from 3.00 to 4.00; dashed line level at 3.50" in PLOTS["curves"]().text
    assert "loss from 3.00 to 2.00" in PLOTS["loss_curve"]().text
    assert "predicted start 3.10" in PLOTS["loss_curve"]().text
    assert "one: a 1, b 2; two: a 3; dashed line chance at 0.50" in PLOTS["bars"]().text
    assert "a 0.1, 0.2; b 0.3; dashed line chance at 0.50" in PLOTS["dots"]().text
    assert "x: mean 2.00, standard deviation 1.00" in PLOTS["histogram"]().text


def test_captions_are_text_not_html() -> None:
    view = plots.pictures([PICTURE], ['<script>"one"</script>'], ["<b>一</b>"], ["a < b"])
    assert "<script>" not in view.html
    assert "<b>一" not in view.html
    assert 'alt="&lt;script&gt;&quot;one&quot;&lt;/script&gt;"' in view.html
    assert '<div lang="zh">&lt;b&gt;一&lt;/b&gt;</div>' in view.html
    assert "a &lt; b" in view.html


def test_no_pictures_says_so() -> None:
    view = plots.pictures([])
    assert '<div lang="zh">没有图片</div>' in view.html
    assert '<div lang="en">no pictures</div>' in view.html


def test_without_a_chinese_font_labels_stay_legible(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["red", "红色", "圆"]
    monkeypatch.setattr("clipedu.classroom.plots.drawing.find_cjk_font", lambda: None)
    assert font_for(labels) == (["red", "#1", "#2"], None)
    monkeypatch.setattr("clipedu.classroom.plots.drawing.find_cjk_font", lambda: Path("font.ttf"))
    assert font_for(labels)[0] == labels
    assert font_for(["red"]) == (["red"], None)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("font", [True, False])
def test_chinese_labels_leave_no_warning(font: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a glyph matplotlib warns and draws a box; neither may happen, with a font or without."""
    if not font:
        monkeypatch.setattr("clipedu.classroom.plots.drawing.find_cjk_font", lambda: None)
    labels = ["红色", "圆"]
    assert plots.similarity(torch.eye(2), texts=labels)
    assert plots.heat_map(torch.eye(2), labels, labels, "attention")
    assert plots.bars({"红色": {"a": 1.0}, "圆": {"a": 2.0}}, "height")


# --------------------------------------------------------------------------------------------- data and environment


def test_eight_pairs_are_the_same_each_time() -> None:
    pairs = lessons.eight_pairs()
    assert len(pairs) == 8
    assert [pair.english for pair in pairs] == [pair.english for pair in lessons.eight_pairs()]
    assert len({pair.english for pair in pairs}) == len({pair.chinese for pair in pairs}) == 8
    assert all(re.search("[\u4e00-\u9fff]", pair.chinese) and pair.english.isascii() for pair in pairs)


def test_all_captions() -> None:
    english, chinese, both = (lessons.all_captions("train", language) for language in ("en", "zh", "both"))
    assert len(english) == len(chinese) > 1000
    assert sorted(both) == sorted(english + chinese)


def test_a_model_without_its_losses_is_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off between the two, or by the stop button, the next call starts anew; then it reads what is there."""
    ends: list[Any] = [RuntimeError("killed"), [], [{}, {}, {}]]

    def train(model: CLIP, tokenizer: SimpleTokenizer, *_: Any, run_dir: Path, callbacks: Any, **__: Any) -> Any:
        callbacks[0]({"step": 1, "loss": float(len(ends))})
        end = ends.pop(0)
        if end != []:
            save_checkpoint(run_dir / "checkpoints/final_model.pt", model, tokenizer)
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(lessons, "train", train)
    with pytest.raises(RuntimeError, match="killed"):
        lessons.trained_model(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        lessons.trained_model(tmp_path)
    assert not (tmp_path / "losses.json").exists()
    for _ in range(2):
        lessons.trained_model(tmp_path)
    assert ends == []
    assert json.loads((tmp_path / "losses.json").read_text()) == [1.0]


def test_missing_sample_data_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "ROOT", tmp_path)
    for start in (lessons.sample_data, lessons.eight_pairs, lessons.all_captions):
        with pytest.raises(DatasetError, match="create-dataset --kind scenes --out sample_data") as caught:
            start()
        assert "找不到示例数据" in caught.value.zh
        assert str(tmp_path) not in str(caught.value)


def test_environment_card_shows_every_line_and_no_path() -> None:
    shown = environment_card()
    names = re.findall(r"^\[(?:OK|FAIL)\] (.+?):", shown.text, re.MULTILINE)
    assert {"Python", "torch", "device", "memory", "sample_data", "Chinese font", "emoji font"} <= set(names)
    assert shown.html.count("<tr") == len(names)
    assert str(ROOT) not in shown.html + shown.text
    assert "[OK] sample_data" in shown.text


def test_environment_card_shows_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipedu.ground.environment.CJK_FONTS", ())
    monkeypatch.setattr("clipedu.ground.environment._PACKAGES", ("no-such-package",))
    monkeypatch.setattr("clipedu.classroom.lessons.ROOT", Path("<elsewhere>"))
    shown = environment_card()
    for name in ("no-such-package", "Chinese font", "sample_data"):
        assert f"[FAIL] {name}" in shown.text
    assert '<div lang="zh">请运行 pip install no-such-package</div>' in shown.html
    assert '<div lang="en">run: pip install no-such-package</div>' in shown.html
    assert "create-dataset" in shown.html
    assert "<elsewhere>" not in shown.html


# --------------------------------------------------------------------------------------- execution for the commit


def notebook_of(path: Path, *sources: str) -> Path:
    notebook = new_notebook(cells=[new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources)])
    nbformat.write(notebook, path)
    return path


def test_execution_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    path = notebook_of(
        tmp_path / "small.ipynb",
        "from pathlib import Path\nfrom clipedu.classroom import View, explore, language_switch\nlanguage_switch()",
        "explore(lambda x: View(f'<b>{x}</b>', str(x)), x=(0, 4, 1, 3))",
        "print(Path.cwd().name)",
    )
    execute(path)
    first = path.read_bytes()
    execute(path)
    assert path.read_bytes() == first
    notebook = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.cells[1].outputs[0].data == {"text/html": "<b>3</b>", "text/plain": "3"}
    assert notebook.cells[2].outputs[0].text.strip() == tmp_path.name
    assert b"widget" not in first.replace(b"ipywidgets", b"")
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.ipynb"]


def test_a_failing_notebook_stays_as_it_was(tmp_path: Path) -> None:
    path = notebook_of(tmp_path / "bad.ipynb", "print(1)", "1 / 0")
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(path)
    assert path.read_bytes() == before


def test_errors_of_the_library_are_bilingual() -> None:
    for error in (ConfigError("中", "en"), DatasetError("中", "en")):
        assert isinstance(error, ClipEduError)
        assert str(error) == "中 | en"
