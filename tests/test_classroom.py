"""The classroom: what it shows in both languages, on the page and to screen readers; nothing fails silently."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from torch import nn

from clipedu import CLIP, SimpleTokenizer, save_checkpoint
from clipedu.classroom import card, dashboard, explore, language_switch, lessons, plots, recorded, show_source
from clipedu.classroom.execute import WIDGET, execute
from clipedu.classroom.measure import kept_bytes, seconds, step_memory
from clipedu.classroom.plots.drawing import COSINE_MAP, SWATCH, label_log_axis
from clipedu.classroom.recorded import Recording, has_recording, mean_and_range
from clipedu.classroom.source import Source
from clipedu.classroom.view import Card, View, together
from clipedu.classroom.widgets import Dashboard, Log, TrainingMonitor
from clipedu.ground.errors import ConfigError, DatasetError
from tests.conftest import ROOT


def test_cards_are_bilingual_and_escape_html() -> None:
    refused = card(False, "<b>错</b>", 'a & "b"\nsecond <script>', "reason")
    assert "&lt;b&gt;错&lt;/b&gt;" in refused.html
    assert "a &amp; &quot;b&quot;<br>second &lt;script&gt;" in refused.html
    assert (refused.html.count("<div lang="), refused.passed, refused.reason) == (2, False, "reason")
    assert refused._repr_mimebundle_() == {"text/html": refused.html, "text/plain": repr(refused)}
    cards = [card(passed, "好", "well") for passed in (True, False, None)]  # they differ in more than colour
    assert len({view.text for view in cards}) == len({re.findall("#[0-9A-F]{6}", view.html)[0] for view in cards}) == 3
    both = together(*cards[:2])
    assert both.html.index(cards[0].html) < both.html.index(cards[1].html)
    assert both.text == f"{cards[0].text}\n{cards[1].text}"


def test_the_switch_hides_the_other_language_only() -> None:
    """And only in its own notebook: JupyterLab keeps several notebooks in one page."""
    switch, other_switch = language_switch(), language_switch()
    assert switch.mark in switch._dom_classes
    rules = switch.children[1].value.split("}")[:-1]
    for number, hidden, rule in zip((2, 3), ("en", "zh"), rules, strict=True):
        assert rule.count(f"({number}).mod-active") == rule.count(f'div[lang="{hidden}"]') == 2
        assert rule.count(switch.mark) == rule.count(":has(.clipedu-language") == rule.count("div[") == 2
    assert other_switch.mark != switch.mark
    assert WIDGET in switch._repr_mimebundle_()


def test_source_is_the_current_library_code() -> None:
    def line(source: Source) -> int:
        return int(re.findall(r"#L(\d+)", source.link)[0])

    whole, method = show_source(SimpleTokenizer), show_source(SimpleTokenizer.encode)
    text = (ROOT / re.findall(r"\]\(\.\./(.+)#L", whole.link)[0]).read_text(encoding="utf-8")
    assert whole.code in text
    assert text.splitlines()[line(whole) - 1] == whole.code.splitlines()[0] == "class SimpleTokenizer:"
    assert text.splitlines()[line(method) - 1].strip() == method.code.splitlines()[0], "a method is dedented"
    assert whole._repr_mimebundle_()["text/markdown"] == f"{whole.link}\n\n```python\n{whole.code}\n```"
    assert show_source(SimpleTokenizer, start="def encode", stop="return [CLS") == method
    rest = show_source(SimpleTokenizer, start="def decode").code
    assert rest.splitlines()[-1].strip() == whole.code.splitlines()[-1].strip()
    assert show_source(SimpleTokenizer, stop="class SimpleTokenizer").code == "class SimpleTokenizer:"


def test_source_that_cannot_be_found_or_is_outside_the_project() -> None:
    for arguments in ((SimpleTokenizer, "no line"), (SimpleTokenizer, "", "no line"), (len,), (3,)):
        with pytest.raises(ValueError, match=r"'no line'|no Python source"):
            show_source(*arguments)
    with pytest.raises(ValueError, match="'def encode'"):
        show_source(SimpleTokenizer.encode, start="return [CLS", stop="def encode")  # in the wrong order
    assert re.fullmatch(r"`\w+\.py:\d+`", show_source(re.sub).link), "paths outside the project are not shown"


def test_runs_are_selected_by_their_values() -> None:
    runs = [{"arm": arm, "seed": seed, "scores": [seed]} for arm in ("a", "b") for seed in (0, 1)]
    recording = Recording(runs, {"command": "<b>"})
    assert recording.where(arm="a") == runs[:2]
    assert recording.where(arm="b", seed=1) == [runs[3]]
    assert mean_and_range([[1.0, 5.0], [2.0, 0.0], [6.0, 1.0]]) == ([3.0, 2.0], ([1.0, 0.0], [6.0, 5.0]))
    with pytest.raises(ValueError, match="shorter"):
        mean_and_range([[1.0, 2.0], [1.0]])
    assert has_recording("starts")
    assert not has_recording("no_such_run")
    with pytest.raises(ValueError, match="no_such_run"):
        recorded("no_such_run")
    assert "&lt;b&gt;" in recording._repr_mimebundle_()["text/html"]


def test_a_slider_redraws_and_saves_a_picture_for_use_without_a_kernel() -> None:
    explorer = explore(lambda number: View(f"<b>{number}</b>", str(number**2)), number=(-3, 3, 1, 2))
    slider = explorer.controls["number"]
    assert (slider.min, slider.max, slider.step, slider.value) == (-3, 3, 1, 2)
    assert explorer.view.text == "4"
    slider.value = 3
    assert explorer.output.value == explorer.view.html == "<b>3</b>"
    assert explorer.view._repr_mimebundle_().items() <= explorer._repr_mimebundle_().items()
    assert isinstance(explore(lambda x: View("", ""), x=(0.0, 1.0, 0.1, 0.5)).controls["x"].value, float)


def test_buttons_and_text() -> None:
    explorer = explore(lambda word, times: View("", word * times), word="ab", times=[1, 2])
    explorer.controls["times"].value, explorer.controls["word"].value = 2, "c"
    assert explorer.view.text == "cc"
    assert explorer.controls["word"].continuous_update is False
    for nothing in ("", "   ", "\t"):
        explorer.controls["word"].value = nothing
        assert "nothing to show yet" in explorer.output.value


def test_an_error_is_shown_in_place_of_the_figure() -> None:
    def draw(number: int) -> View:
        raise ConfigError("不行", "not one") if number == 1 else ZeroDivisionError("none")

    explorer = explore(draw, number=(0, 2, 1, 0))
    assert "ZeroDivisionError: none" in explorer.output.value
    explorer.controls["number"].value = 1
    assert explorer.view == card(False, "不行", "not one")


def test_a_monitor_draws_at_most_twice_a_second_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("clipedu.classroom.widgets.time", SimpleNamespace(monotonic=lambda: clock.now))
    monitor = TrainingMonitor(8, chance=2.0)
    pictures = [""]
    for step in range(1, 9):
        monitor({"epoch": 1, "step": step, "loss": 3 - step / 10, "lr": 0.1, "logit_scale": 1.0})
        pictures.append(monitor.curve.value)
        clock.now += 0.25
    assert [step for step in range(1, 9) if pictures[step] != pictures[step - 1]] == [1, 3, 5, 7, 8]
    assert monitor.bar.value == 8
    assert "step 8/8  损失 loss 2.200" in monitor.line.value
    assert "loss 2.90 … 2.20" in monitor.curve.value
    assert "chance ln(B) = 2.00" in monitor.curve.value


def test_a_long_run_redraws_at_most_200_times(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("clipedu.classroom.widgets.time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(
        "clipedu.classroom.widgets.loss_curve", lambda losses, _: SimpleNamespace(html=str(len(losses)))
    )
    monitor = TrainingMonitor(1999, chance=2.0)
    drawn = []
    monitor.curve.observe(lambda change: drawn.append(change.new), "value")
    for step in range(1, 2000):
        monitor({"epoch": 1, "step": step, "loss": 1.0, "lr": 0.1, "logit_scale": 1.0})
        clock.now += 10
    assert len(drawn) == 200 and drawn[-1] == "1999"


def falling(start: float, steps: int) -> Iterator[float]:
    for step in range(steps):
        yield start / (1 + step)


def small_board(run: Callable[..., Iterator[float]] = falling) -> Dashboard:
    return dashboard(run, lambda start, steps: start, start=Log(0.1, 10, 1.0), steps=(0, 6, 1, 4))


def test_a_dashboard_keeps_what_its_runs_yield() -> None:
    board = small_board()
    empty = board.view
    assert "还没有运行" in board._repr_mimebundle_()["text/html"]
    board.button.click()
    board.start(start=10, steps=2)
    assert list(board.runs.values()) == [[1.0, 1 / 2, 1 / 3, 1 / 4], [10.0, 5.0]]
    assert "start 1, steps 4 1.00 … 0.25" in board.view.text
    assert "start 10, steps 2 10.00 … 5.00" in board.view.text
    assert "chance 1.00 1.00; 随机猜测 10.00 | chance 10.00 10.00" in board.view.text
    assert board.output.value == board.view.html == board._repr_mimebundle_()["text/html"]
    assert "last loss 5.000" in board.line.value
    assert (board.controls["start"].value, board.controls["steps"].value) == (10, 2)
    board.clear.click()
    assert (board.runs, board.levels, board.view) == ({}, {}, empty)
    board.start(steps=0)
    assert board.runs == {}
    assert "no steps run" in board.line.value


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ConfigError("不行", "no good"), ValueError("odd")])
def test_a_run_that_is_stopped_or_fails_keeps_what_it_had(error: BaseException) -> None:
    disabled: list[bool] = []

    def failing(start: float, steps: int) -> Iterator[float]:
        disabled.extend([board.button.disabled, board.clear.disabled])
        yield from falling(start, 3 if steps > 1 else 0)
        raise error

    board = small_board(failing)
    board.start()
    assert disabled == [True, True], "no second run can start during the first"
    assert (str(error) or "stopped at step 3") in board.line.value
    assert "1.00 … 0.33" in board.view.text
    board.start(steps=1)
    assert list(board.runs.values()) == [[1.0, 1 / 2, 1 / 3]], "a run without steps is not drawn"
    assert (board.button.disabled, board.clear.disabled) == (False, False)


def test_memory_by_hand() -> None:
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.ones(16, 4)
    # x for the first weight's gradient; ReLU's output once, although two layers need it; no weights
    assert kept_bytes(lambda: model(x).sum(), without=model.parameters()) == 4 * (16 * 4 + 16 * 8)
    assert kept_bytes(lambda: model(x).sum()) == 4 * (16 * 4 + 16 * 8 + 8 * 2)
    with torch.no_grad():
        assert kept_bytes(lambda: model(x).sum()) == 0
    expected = torch.autograd.grad(model(x).sum(), list(model.parameters()))
    kept_bytes(lambda: model(x).sum().backward())  # counting does not change the gradients
    torch.testing.assert_close([parameter.grad for parameter in model.parameters()], list(expected))

    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model[2].requires_grad_(False)
    trained, fixed = 4 * (8 * 4 + 8 + 8 + 8), 4 * (2 * 8 + 2) + 4 * (8 + 8) + 8  # including batch-norm statistics
    memory = step_memory(model, lambda: model(torch.ones(3, 4)).sum())
    assert (memory["weights"], memory["gradients"], memory["Adam"]) == (trained + fixed, trained, 2 * trained)
    assert memory["kept"] > 0


def test_seconds_is_the_median_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, durations = [0.0], iter([9.0, 1.0, 5.0, 2.0, 9.0, 3.0])

    def step() -> None:
        clock[0] += next(durations)

    monkeypatch.setattr("clipedu.classroom.measure.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert seconds(step, torch.device("cpu"), repeats=3) == 2
    assert seconds(step, torch.device("cpu"), repeats=3, enough=0.5) == 3, "one repeat is enough"


PICTURE = Image.new("RGB", (8, 8), "red")
BOX = nn.functional.pad(torch.ones(3, 2), (1, 5, 2, 3))  # (8, 8)
LINES = {"a": ([1, 2], [3.0, 4.0])}
PLOTS: dict[str, Callable[[], View]] = {
    "pictures": lambda: plots.pictures([PICTURE, torch.zeros(3, 8, 8, dtype=torch.uint8)], ["a", "b"], ["甲", "乙"]),
    "feature_maps": lambda: plots.feature_maps({"stem": torch.rand(4, 8, 8), "last": torch.rand(9, 2, 2)}),
    "gradient_map": lambda: plots.gradient_map(PICTURE, BOX, "stage 1"),
    "grids": lambda: plots.grids({"a": torch.eye(2), "b": torch.tensor([[torch.nan, 2.0]])}, {"a": (0, 0, 1, 2)}),
    "similarity": lambda: plots.similarity(torch.eye(3), [PICTURE] * 3, ["one", "two", "three"]),
    "heat_map": lambda: plots.heat_map(torch.rand(2, 3), ["a", "b"], ["c", "d", "e"], "attention"),
    "on_the_circle": lambda: plots.on_the_circle(torch.eye(2), -torch.eye(2), "four"),
    "curves": lambda: plots.curves(LINES, "across", "up", {"level": 3.5}, ranges={"a": ([2.9, 3.8], [3.1, 4.2])}),
    "loss_curve": lambda: plots.loss_curve([3.0, 2.0], 2.77),
    "dots": lambda: plots.dots({"a": [0.1, 0.2], "b": [0.3]}, "recall", band="a"),
    "bars": lambda: plots.bars({"一 | one": {"a": 1.0, "b": 2.0}, "two": {"a": 3.0}}, "height", {"chance": 0.5}),
    "histogram": lambda: plots.histogram({"x": torch.tensor([1.0, 2.0, 3.0])}, "value"),
    "temperature_panel": lambda: plots.temperature_panel([0.1, 1], {0: [1, 2]}, 1.1, 0, (0.1, 1.0, 0.5)),
    "tokens": lambda: plots.tokens(["[CLS]", "red", "圆", "<b>"], [2, 7, 9, 1]),
}


def decoded(view: View) -> list[Image.Image]:
    pictures = re.findall(r"base64,([A-Za-z0-9+/=]+)", view.html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in pictures]


DESCRIPTIONS = {
    "gradient_map": "2 × 3",
    "grids": "a [[1.0, 0.0], [0.0, 1.0]]; b [[nan, 2.0]]",
    "curves": "a 3.00 … 4.00; level 3.50",
    "bars": "一 | one: a 1, b 2; two: a 3; chance 0.50",
    "dots": "a 0.1, 0.2; b 0.3",
    "histogram": "x μ = 2.00, σ = 1.00",
    "on_the_circle": "I1 (1.00, 0.00), I2 (0.00, 1.00), T1 (-1.00, -0.00), T2 (-0.00, -1.00)",
    "temperature_panel": "step 0 ▼ τ = 0.100; ln N = 1.10; τ = 0.100, L = 1.000, ∂L/∂ln(1/τ) = +0.500",
    "tokens": "[CLS] red 圆 <b>\n[2, 7, 9, 1]",
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_drawn_and_described_the_same_each_time(name: str) -> None:
    torch.manual_seed(1)
    view = PLOTS[name]()
    torch.manual_seed(1)
    assert PLOTS[name]() == view
    assert view.text.strip()
    assert DESCRIPTIONS.get(name, "") in view.text
    assert name == "tokens" or decoded(view)
    assert len(re.findall(r'alt="[^"]+"', view.html)) == view.html.count("<img")
    for picture in decoded(view):
        low, high = picture.convert("L").getextrema()
        assert low != high or picture.size in ((8, 8), SWATCH), "the picture is blank"


def test_words_stand_around_the_picture_in_both_languages() -> None:
    """A label in two languages is hidden by the switch; a neutral one is there once; a group becomes a number."""
    html = plots.curves({"训练 | training": ([1, 2], [3.0, 4.0])}, "步 | step", "loss", title="标题 | title").html
    chinese, english = ("".join(re.findall(f'<div lang="{each}">(.*?)</div>', html)) for each in ("zh", "en"))
    for words, others in ((("标题", "训练", "步"), english), (("title", "training", "step"), chinese)):
        assert all(word in html and word not in others for word in words)
    assert "↑ loss" in chinese
    assert "↑ loss" in english
    groups = plots.bars({"英文 | English": {"n": 1.0}, "T1": {"n": 2.0}}, "n").html
    assert "① English" in groups
    assert "T1" not in re.sub("<img[^>]*>", "", groups), "it is the tick itself"
    rows = plots.table(["名 | name", "R@1"], [["微调 | fine-tuned", "0.93"]], title="表 | table")
    assert rows.text == "表 | table\n名 | name / R@1\n微调 | fine-tuned / 0.93"
    assert rows.html.count("<td>") == 2


def test_a_text_box_has_a_default_in_each_language() -> None:
    explorer = explore(lambda text: View(text, text), text={"zh": "圆", "en": "ring"})
    english, chinese, _ = explorer.children
    assert explorer.view.html == explorer.output.value == '<div lang="zh">圆</div><div lang="en">ring</div>'
    assert (english.value, chinese.value) == ("ring", "圆")
    assert (english._dom_classes, chinese._dom_classes) == (("clipedu-en",), ("clipedu-zh",))
    chinese.value = "方"
    assert explorer.view.text == "方"
    both = explore(lambda text, n: View("", text * n), text={"zh": "圆", "en": "ring"}, n=(1, 2, 1, 1))
    assert both.view.text == "ring", "next to a slider, only in English"


def test_similarity_describes_its_diagonal_and_has_a_fixed_colour_scale() -> None:
    """A cosine of 0.5 has the colour three quarters up the scale, even if it is the largest value."""
    cosines = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.6, -0.3], [0.3, 0.0, 0.3]])
    # (0.9 + 0.6 + 0.3) / 3 and (0.1 + 0.2 - 0.3 + 0.3) / 6
    assert "mean(i = j) 0.60, mean(i ≠ j) 0.05" in plots.similarity(cosines).text
    assert "mean" not in plots.similarity(torch.zeros(2, 3)).text
    colour = torch.tensor(colormaps[COSINE_MAP](0.75)[:3]) * 255
    for value, is_present in ((0.5, True), (1.0, False)):
        picture = decoded(plots.similarity(torch.full((12, 12), value)))[-1].convert("RGB")
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(-1, 3)
        assert (int(((pixels - colour).abs() <= 2).all(dim=1).sum()) > 10_000) is is_present


def test_captions_are_text_not_html() -> None:
    view = plots.pictures([PICTURE], ['<script>"one"</script>'], ["<b>一</b>"], ["a < b"])
    assert "<script>" not in view.html
    assert 'alt="&lt;script&gt;&quot;one&quot;&lt;/script&gt;"' in view.html
    assert '<div lang="zh">&lt;b&gt;一&lt;/b&gt;</div>' in view.html
    assert "a &lt; b" in view.html
    assert "&lt;b&gt;" in PLOTS["tokens"]().html
    assert {"zh", "en"} <= set(re.findall('lang="(..)"', plots.pictures([]).html)), "a bilingual message"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fonts", [True, False])
def test_labels_of_all_kinds_cause_no_warnings(fonts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    r"""Matplotlib warns about glyphs missing from a font, and fails on $\frac$ if it parses formulas."""
    if not fonts:
        monkeypatch.setattr("clipedu.ground.environment.CJK_FONTS", ())
    words, labels = r"$\frac$", ["红色", r"圆 $\frac$", "half of 😀: \ud83d", "$5 or $10", "红 | red"]
    assert decoded(plots.similarity(torch.eye(5), texts=labels, rows_are=labels, title=words))
    assert decoded(plots.heat_map(torch.eye(5), labels, labels, words))
    assert decoded(plots.bars({label: {words: 1.0} for label in labels}, words, {f"{words} ": 0.5}))


def test_a_log_axis_has_plain_numbers() -> None:
    for ends, expected in ((5, 90), {5, 10, 20, 50}), ((0.001, 20), {0.001, 0.01, 0.1, 1, 10}):
        axes = Figure().subplots()
        axes.plot(ends, ends)
        axes.set_xscale("log")
        label_log_axis(axes.xaxis)
        assert expected <= {float(label.get_text()) for label in axes.get_xticklabels()}
        assert {label.get_text() for label in axes.get_xticklabels(minor=True)} <= {""}


def test_lesson_data_is_the_same_each_time_in_both_languages() -> None:
    pairs = lessons.eight_pairs()
    assert [pair.english for pair in pairs] == [pair.english for pair in lessons.eight_pairs()]
    assert len({pair.english for pair in pairs}) == len({pair.chinese for pair in pairs}) == 8
    assert all(re.search("[\u4e00-\u9fff]", pair.chinese) and pair.english.isascii() for pair in pairs)
    english, chinese, both = (lessons.all_captions("train", language) for language in ("en", "zh", "both"))
    assert len(english) == len(chinese) > 1000
    assert sorted(both) == sorted(english + chinese)


def test_a_small_clip_follows_its_seed() -> None:
    tokenizer = SimpleTokenizer.from_texts(["a red circle"])
    first, again, other = (lessons.small_clip(tokenizer, "resnet18", pretrained=False, seed=seed) for seed in (1, 1, 2))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    for part in ("image_encoder.model.conv1", "text_encoder.token_embedding", "image_projection"):
        assert not torch.equal(first.state_dict()[f"{part}.weight"], other.state_dict()[f"{part}.weight"])


def test_a_model_is_trained_again_if_it_is_unfinished_or_from_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is killed between writing the two files, or stopped, the next call trains again; later calls load it."""
    ends: list[Any] = [RuntimeError("killed"), [], [{}, {}, {}], [{}, {}, {}], [{}, {}, {}]]
    shown: list[Any] = []

    def train(model: CLIP, tokenizer: SimpleTokenizer, *_: Any, run_dir: Path, callbacks: Any, **__: Any) -> Any:
        callbacks[0].on_step({"step": 1, "loss": float(len(ends))})
        end = ends.pop(0)
        if end != []:
            save_checkpoint(run_dir / "checkpoints/final_model.pt", model, tokenizer)
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(lessons, "train", train)
    monkeypatch.setattr(lessons, "display", shown.append)
    two = torch.zeros(2, 3, 64, 64, dtype=torch.uint8), ["a red circle", "a blue ring"]
    monkeypatch.setattr(lessons, "three_hundred_pairs", lambda: two)
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error):
            lessons.trained_model(tmp_path)
        assert not (tmp_path / "losses.json").exists()
    for edited, left, cards in ((b"", 2, 0), (b"", 2, 0), (b"# edited", 1, 1), (b"# edited", 1, 1)):
        monkeypatch.setattr(lessons, "_SOURCES", [edited])
        lessons.trained_model(tmp_path)
        assert (len(ends), sum(isinstance(view, Card) for view in shown)) == (left, cards)
    (tmp_path / "losses.json").write_text("[4.2, 0.3]")  # as an older version wrote it
    lessons.trained_model(tmp_path)
    assert ends == []
    moments = lessons.training_moments(tmp_path)
    assert [(moment.step, tuple(moment.cosines.shape)) for moment in moments] == [(0, (2, 2)), (1, (2, 2))]
    assert moments[0].temperature == pytest.approx(0.07)
    older = next(view for view in reversed(shown) if isinstance(view, Card))
    assert "training it again" in older.text
    assert "重新训练" in older.html


def test_missing_sample_data_error_says_how_to_create_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "SCENES", tmp_path)
    for load in (lessons.sample_data, lessons.eight_pairs, lessons.all_captions):
        with pytest.raises(DatasetError, match="create-dataset --kind scenes --out sample_data") as caught:
            load()
        assert str(tmp_path) not in str(caught.value)


def test_environment_card_shows_findings_remedies_and_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    good = lessons.environment_card()
    assert good.html.count("<tr") == len(good.text.splitlines()) > 10
    assert str(ROOT) not in good.html + good.text
    for zh, en in (("内存", "memory"), ("数据集", "dataset"), ("中文字体", "Chinese font")):
        assert f'<div lang="zh">{zh}</div><div lang="en">{en}</div>' in good.html
    assert "sample_data 里有 3300 张图</div>" in good.html
    monkeypatch.setattr("clipedu.ground.environment.CJK_FONTS", ())
    monkeypatch.setattr("clipedu.commands.check._PACKAGES", ("no-such-package",))
    monkeypatch.setattr(lessons, "ROOT", Path("/else<where>"))
    monkeypatch.setattr(lessons, "SCENES", Path("/else<where>/sample_data"))
    bad = lessons.environment_card()
    for name in ("no-such-package", "Chinese font", "dataset"):
        assert f"[FAIL] {name}" in bad.text
    assert '<div lang="zh">请运行 pip install no-such-package</div>' in bad.html
    assert '<div lang="en">run: pip install no-such-package</div>' in bad.html
    assert "create-dataset" in bad.html
    assert "where" not in bad.html + bad.text


@pytest.mark.slow
def test_execution_is_reproducible_and_leaves_the_file_on_failure(tmp_path: Path) -> None:
    sources = [
        "from pathlib import Path\nfrom clipedu.classroom import View, explore, language_switch\nlanguage_switch()",
        "explore(lambda x: View(f'<b>{x}</b>', str(x)), x=(0, 4, 1, 3))",
        "print(Path.cwd().name, [path.name for path in Path.cwd().iterdir()])",
    ]
    path = tmp_path / "small.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    execute(path)
    first = path.read_bytes()
    execute(path)
    assert path.read_bytes() == first
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[1].outputs[0].data == {"text/html": "<b>3</b>", "text/plain": "3"}
    assert notebook.cells[2].outputs[0].text == f"{tmp_path.name} ['small.ipynb']\n"
    assert b"widget" not in first.replace(b"ipywidgets", b"")
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(path)
    assert path.read_bytes() == before
