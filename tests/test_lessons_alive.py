"""The interactive figures: the cells they need are run with a different seed, then every control is moved."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import ipywidgets
import pytest
from IPython.display import display

from clipedu.classroom import recorded
from clipedu.classroom.races import LABELS
from clipedu.classroom.site.needed import executed
from clipedu.classroom.view import Card, View
from clipedu.classroom.widgets import Explorer
from tests.lessons import NOTEBOOKS, Lesson, needed_by_figures, with_seed

pytestmark = [pytest.mark.slow, pytest.mark.again]


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def explorers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Explorer]]:
    """All interactive figures in a notebook."""
    path: Path = request.param
    created: list[Explorer] = []
    initialize = Explorer.__init__

    def record(explorer: Explorer, *arguments: Any) -> None:
        initialize(explorer, *arguments)
        created.append(explorer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Explorer, "__init__", record)
        patch.setenv("CLIPEDU_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(path.parent)
        cells = [with_seed(cell.source, seed=1) for _, cell in needed_by_figures(Lesson.read(path))]
        executed(*cells, display=display)
        yield created


def at(explorer: Explorer, **values: Any) -> View:
    """What it shows at these values; checks that there is no failure, and that there is text for a screen reader."""
    for name, value in values.items():
        explorer.controls[name].value = value
    view: View = explorer.view
    assert getattr(view, "passed", None) is not False, view.text
    assert view.text.strip()
    assert explorer.output.value == view.html
    return view


def positions(control: Any) -> list[Any]:
    """A slider's minimum, middle and maximum; every button; the initial text and two bilingual ones."""
    if isinstance(control, ipywidgets.ToggleButtons):
        return list(control.options)
    if isinstance(control, ipywidgets.Text):
        return [control.value, "a blue star, 一个蓝色的五角星", "two black rings, 两个黑色的圆环"]
    half = round((control.max - control.min) / control.step) // 2 * control.step
    values = [control.min, control.min + half, control.max]
    is_log = isinstance(control, ipywidgets.FloatLogSlider)  # whose minimum and maximum are exponents
    return [control.base**exponent for exponent in values] if is_log else values


def test_every_control_changes_what_is_shown(explorers: list[Explorer]) -> None:
    for explorer, (name, control) in ((each, item) for each in explorers for item in each.controls.items()):
        start = control.value
        views = {at(explorer, **{name: value}).html for value in positions(control)}
        assert len(views) > 1, f"{name} of {explorer.draw.__name__} changes nothing"
        if isinstance(control, ipywidgets.Text):
            for text in ("", "  "):
                control.value = text
                assert isinstance(explorer.view, Card)
                assert explorer.view.passed is None
            for text in ("?!", "<b>", "zebra", "x" * 400):  # no words, HTML, unknown, too long
                assert "<b>&lt;b" not in at(explorer, **{name: text}).html
        at(explorer, **{name: start})


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", text)]


def truncate(explorer: Explorer) -> None:
    for length in (2, 9, 14):
        ids = numbers(at(explorer, max_length=length).text.splitlines()[-1])
        assert (ids[0], ids[-1], len(ids)) == (2, 3, length), "[CLS] and [SEP] stay"


def show_merges(explorer: Explorer) -> None:
    rows = [at(explorer, merges=merges).text.split() for merges in (0, 3, 6)]
    assert {"".join(row) for row in rows} == {"ringstringkingstar"}
    assert 18 == len(rows[0]) > len(rows[1]) > len(rows[2])
    assert "ing" in rows[1]


def three_ways(explorer: Explorer) -> None:
    """More merges make fewer pieces; without any, BPE of both languages spells bytes."""
    counts = []
    for merges in (0, 400, 1244):
        text = at(explorer, merges=merges).text
        counts.append([int(number) for number in re.findall(r"(?:English BPE|BPE of both): (\d+)", text)])
        assert "[UNK]" in text
    assert counts[0][0] == counts[0][1] > counts[1][0] >= counts[2][0]
    assert counts[0][1] > counts[1][1] > counts[2][1]


def turn(explorer: Explorer) -> None:
    for angle in (-180, 0, 90, 180):
        for length in (0.2, 1.6, 3.0):
            title = at(explorer, angle=angle, length=length).text.splitlines()[0]
            dot, cosine = numbers(title)[-2:]
            assert cosine == pytest.approx(math.cos(math.radians(angle)), abs=0.006), "the length does not matter"
            assert dot == pytest.approx(length * math.cos(math.radians(angle)), abs=0.006), "the length matters"


def spread(explorer: Explorer) -> None:
    for width in (2, 256, 512):
        _, measured, _, predicted, *_ = numbers(at(explorer, D=width).text)
        assert predicted == pytest.approx(width**-0.5, abs=0.001)
        assert measured == pytest.approx(predicted, rel=0.05)


def recolour(explorer: Explorer) -> None:
    for blue, expected in ((0.0, "red"), (0.5, ""), (1.0, "blue")):
        text = at(explorer, blue=blue).text
        guess = text.splitlines()[0].partition(" | ")[2]
        cosines = {name: float(value) for name, value in re.findall(r"(\w+): cos (-?[\d.]+)", text)}
        assert guess == max(cosines, key=lambda name: cosines[name])
        assert expected in ("", guess)
        assert all(-1 <= value <= 1 for value in cosines.values())


def show_step(explorer: Explorer) -> None:
    row, middle = [2.0, 2.0, 0.0, -2.0], [3.0, 3.0, 0.0, -3.0]
    for step in (1, 8, 16):
        result = at(explorer, step=step).text.partition("结果 | result ")[2]
        assert numbers(result) == (row + middle + middle + row)[:step], "one number per step"
        assert result.count("nan") == 16 - step


def look_back(explorer: Explorer) -> None:
    widths = [numbers(at(explorer, stage=stage).text.partition("one cell sees")[2])[0] for stage in (1, 3, 4)]
    assert widths == [7, 67, 147]


def attend(explorer: Explorer) -> None:
    for head in (1, 5, 8):
        text = at(explorer, head=head).text
        words = text.splitlines()[0].split()
        assert f"head {head}:" in text
        assert f"{len(words)} × {len(words)}" in text


def with_data(explorer: Explorer) -> None:
    """The mean over the seeds; on a log scale, 1,200 pictures are half-way between 600 and 2,400."""
    record = recorded("starts")
    for arm in dict.fromkeys(run["arm"] for run in record.where(purpose="share")):
        means = {}
        for amount in (120, 600, 2400):
            runs = [run for run in record.where(arm=arm, pictures=amount) if run["purpose"] in ("share", "race")]
            means[amount] = mean(run["test"]["i2t_R@1"] for run in runs)
        for pictures, expected in (*means.items(), (1200, (means[600] + means[2400]) / 2)):
            text = at(explorer, pictures=pictures).text
            assert f"{pictures:,} " in text
            (recall,) = re.findall(rf"\| {LABELS[arm].split(' | ')[1]} ([\d.]+) ", text)
            assert float(recall) == pytest.approx(expected, abs=0.006)


def memory_at(explorer: Explorer) -> None:
    """Memory is linear in the batch size and roughly in the pixels (12.25 times); Adam keeps two values per weight."""
    kept = {}
    for size in (64, 224):
        for batch in (16, 512, 1024):
            text = at(explorer, batch_size=batch, size=size, precision="fp32").text
            gib = {name: float(value) for name, value in re.findall(r"(\w+): GiB ([\d.]+)", text)}
            assert gib["total"] == pytest.approx(sum(gib.values()) - gib["total"], rel=0.02)
            assert gib["Adam"] == pytest.approx(2 * gib["gradients"], rel=0.02)
            kept[size, batch] = gib["kept"]
        assert kept[size, 1024] == pytest.approx(64 * kept[size, 16], rel=0.05)
        assert at(explorer, precision="bf16").text != text
    assert 9 < kept[224, 1024] / kept[64, 1024] < 13


def temperature_panel(explorer: Explorer) -> None:
    """At each moment the gradient leads to the marked minimum, which moves left during training, in both directions."""
    for direction in ("I → T", "T → I"):
        steps = sorted(explorer.controls["step"].options, key=int)
        marks = re.findall(r"step \d+ ▼ τ = ([\d.]+)", at(explorer, direction=direction, temperature=0.07).text)
        lowest = [float(mark) for mark in marks]
        assert lowest[0] == 1 and lowest == sorted(lowest, reverse=True) and len(set(lowest)) == len(lowest)
        losses = []
        for step, best in zip(steps, lowest, strict=True):
            for temperature, sign in ((0.01, 1), (1.0, -1 if best < 0.9 else 1)):
                push = float(
                    re.findall(r"1/τ\) = ([-+][\d.]+)", at(explorer, step=step, temperature=temperature).text)[0]
                )
                assert push * sign > 0, "below the minimum the temperature rises, above it it falls"
            losses.append(float(re.findall(r"L = ([\d.]+)", at(explorer, step=step, temperature=0.07).text)[0]))
        assert losses == sorted(losses, reverse=True)


def sure(explorer: Explorer) -> None:
    """A lower temperature makes it surer and not more accurate."""
    rows = [numbers(" ".join(at(explorer, temperature=tau).text.splitlines()[1:3])) for tau in (0.01, 0.07, 0.3)]
    seen, unseen = zip(*((row[:2], row[2:]) for row in rows), strict=True)
    for part in (seen, unseen):
        confidences, accuracies = zip(*part, strict=True)
        assert list(confidences) == sorted(confidences, reverse=True)
        assert len(set(accuracies)) == 1
    assert seen[1][0] < seen[1][1] and unseen[0][0] > unseen[0][1] + 0.2


def first_loss(explorer: Explorer) -> None:
    for width, temperature in ((16, 1.0), (256, 0.1), (512, 1.0)):
        text = at(explorer, D=width, temperature=temperature).text
        ends = dict(re.findall(r"(L|ln N|ln N \+ [^ ]*?) [\d.]+ … ([\d.]+)", text))
        assert float(ends["ln N"]) == pytest.approx(math.log(1024), abs=0.006)
        predicted = math.log(1024) + 1 / (2 * temperature**2 * width)
        assert float(ends["ln N + 1/(2τ²D)"]) == pytest.approx(predicted, abs=0.006)
        assert float(ends["L"]) == pytest.approx(predicted, abs=0.15)
    text = at(explorer, D=16, temperature=0.01).text
    assert float(re.findall(r"L [\d.]+ … ([\d.]+)", text)[0]) < 0.5 * 1 / (2 * 0.01**2 * 16)


def at_threshold(explorer: Explorer) -> None:
    """A higher threshold joins fewer pictures; at 1, only equal files are one series, or nothing is."""
    found = []
    for threshold in (0.6, 0.88, 1.0):
        found.append(numbers(at(explorer, threshold=threshold).text.splitlines()[1]))
    pictures, series, alone, largest = zip(*found, strict=True)
    assert len({*pictures}) == 1 and list(series) == sorted(series) and list(alone) == sorted(alone)
    assert list(largest) == sorted(largest, reverse=True) and series[-1] >= pictures[-1] - 1


def interval_for(explorer: Explorer) -> None:
    for share in (0.0, 0.5, 1.0):
        assert f"R@1 {share:.2f} … {share:.2f}" in at(explorer, share=share).text


def rare(explorer: Explorer) -> None:
    """Every sentence is in one of the two rows; a higher demand on its words moves sentences to the second."""
    counts = []
    for times in (2, 10, 20):
        rows = at(explorer, times=times).text.splitlines()[1:]
        counts.append([int(row.split(" / ")[1]) for row in rows])
    assert len({sum(pair) for pair in counts}) == 1
    assert [often for often, _ in counts] == sorted((often for often, _ in counts), reverse=True)


def test_numbers_at_minimum_middle_and_maximum(explorers: list[Explorer]) -> None:
    """Calls the function above that has the same name as the notebook's drawing function."""
    for explorer in explorers:
        if any(hasattr(control, "min") for control in explorer.controls.values()):
            globals()[explorer.draw.__name__](explorer)
