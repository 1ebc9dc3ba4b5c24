"""Interactive figures on the built site, in a real browser: every control moves, and shows what Python shows."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from playwright.sync_api import Locator, Page, expect

from clipedu.classroom.monolingual import text_in
from clipedu.classroom.site.frames import RUNS, show, slider_label
from clipedu.classroom.site.needed import DASHBOARD, live_cells
from tests.lessons import NOTEBOOKS, Lesson

LANGUAGES = "zh", "en"
NOTHING = {"zh": "还没有内容", "en": "nothing to show yet"}
TYPED = {"zh": "这一页只备好了这几句的结果", "en": "This page only has answers to the sentences above"}
UNRECORDED = {"zh": "没有录下来", "en": "No run was recorded"}
WAIT = 20_000  # ms


def sources(name: str) -> list[str]:
    (path,) = (path for path in NOTEBOOKS if path.stem == name)
    return [cell.source for _, cell in Lesson.read(path).code]


LIVE = [path.stem for path in NOTEBOOKS if live_cells(sources(path.stem))]


def opened(page: Page, site: str, language: str, name: str) -> list[Locator]:
    """The page's interactive figures, with their controls."""
    page.set_default_timeout(WAIT)
    page.goto(f"{site}/{language}/{name}.html")
    boxes = page.locator(".live.moves")
    expect(boxes).to_have_count(len(live_cells(sources(name))))
    return boxes.all()


def content_of(box: Locator) -> tuple[list[str], str]:
    """The pictures of a figure, and the rest of its HTML, including the pictures' descriptions."""
    content: tuple[list[str], str] = tuple(
        box.locator(".output").evaluate(
            """output => {
                const copy = output.cloneNode(true), images = [...copy.querySelectorAll("img")]
                const pictures = images.map(image => image.src)
                images.forEach(image => image.removeAttribute("src"))
                return [pictures, copy.innerHTML]
            }"""
        )
    )
    return content


def expect_change(box: Locator, before: tuple[list[str], str], in_pictures: bool = True) -> None:
    """Wait until the text and the pictures, if there are any, differ from before; or the text alone."""
    for _ in range(WAIT // 50):
        pictures, words = content_of(box)
        if words != before[1] and (pictures != before[0] or not pictures or not in_pictures):
            return
        box.page.wait_for_timeout(50)
    raise AssertionError(f"nothing changed: {before[1]}")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", LIVE)
def test_every_control_moves_its_figure(page: Page, site: str, name: str, language: str) -> None:
    for box in opened(page, site, language, name):
        if box.get_attribute("data-kind") == "dashboard":
            continue
        for slider in box.locator("input[type=range]").all():
            value = slider.locator("xpath=../output")
            at_the_end = slider.input_value() == slider.get_attribute("max")
            # An angle looks the same at both ends, so never jump directly from one end to the other.
            for key in ("Home", "ArrowRight", "End") if at_the_end else ("End", "ArrowLeft", "Home"):
                before, shown = content_of(box), value.inner_text()
                slider.press(key)
                expect(value).not_to_have_text(shown)
                expect_change(box, before)
        for choice in box.locator(".choices label").all():
            if not choice.locator("input").is_checked():
                before = content_of(box)
                choice.click()
                expect_change(box, before, in_pictures=False)
        for text in box.locator("input[type=text]").all():
            for example in box.locator(".examples button").all():
                if example.inner_text() != text.input_value():
                    before = content_of(box)
                    example.click()
                    expect(text).to_have_value(example.inner_text())
                    expect_change(box, before, in_pictures=False)
            text.fill("  ")
            text.press("Enter")
            expect(box).to_contain_text(NOTHING[language])
            text.fill("<b>seventy zebras</b>")
            text.press("Enter")
            expect(box).to_contain_text(TYPED[language])
            expect(box.locator(".output")).to_be_hidden()
            box.locator(".examples button").first.click()
            expect(box.locator(".output")).to_be_visible()
            expect(box).not_to_contain_text(TYPED[language])
        other = "en" if language == "zh" else "zh"
        assert box.locator(f"[lang={other}]").count() == 0


def words_of(box: Locator) -> str:
    """The words that a figure shows, and those that describe its pictures."""
    descriptions = [image.get_attribute("alt") or "" for image in box.locator(".output img").all()]
    return "\n".join([box.locator(".output").inner_text(), *descriptions])


def numbers(text: str) -> Counter[str]:
    return Counter(re.findall(r"-?\d+\.?\d*", text))


@pytest.mark.parametrize(
    ("name", "figure", "values"),
    [
        ("03_projection_and_normalization", 0, {"angle": 90, "length": 1.5}),
        ("03_projection_and_normalization", 1, {"D": 64}),
        ("04_contrastive_loss", 0, {"step": "30", "direction": "T → I", "temperature": 10**-1.5}),
        ("02_encoders", 1, {"step": 11}),
    ],
)
def test_numbers_are_those_of_python(
    page: Page, site: str, name: str, figure: int, values: dict[str, float | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (path for path in NOTEBOOKS if path.stem == name)
    monkeypatch.chdir(path.parent)
    explorer = show(sources(name))[figure]
    box = opened(page, site, "en", name)[figure]
    for control, value in values.items():
        widget = explorer.controls[control]
        before = content_of(box)
        widget.value = value
        if isinstance(value, str):
            box.get_by_text(value, exact=True).click()
        else:
            row = box.locator("label.control").filter(has=page.locator(f".name:text-is('{control}')"))
            slider, wanted = row.locator("input"), slider_label(widget, value)
            slider.press("Home")
            for _ in range(int(slider.get_attribute("max") or 0)):
                if row.locator("output").inner_text() == wanted:
                    break
                slider.press("ArrowRight")
            expect(row.locator("output")).to_have_text(wanted)
        expect_change(box, before)
    page.wait_for_timeout(300)
    expected = numbers(text_in(explorer.view.text, "en"))
    assert expected and expected <= numbers(words_of(box))


def test_frames_are_fetched_only_when_a_control_is_touched(page: Page, site: str) -> None:
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url) if request.url.endswith(".frames") else None)
    boxes = opened(page, site, "en", "04_contrastive_loss")
    for box in boxes:
        box.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    assert fetched == []
    before = content_of(boxes[1])
    boxes[1].locator("input[type=range]").first.press("End")
    expect_change(boxes[1], before)
    assert fetched == [f"{site}/frames/04_contrastive_loss-1.frames"]


def test_the_keyboard_alone_moves_everything(page: Page, site: str) -> None:
    """From the box's first control on with Tab: buttons and a slider."""
    box = opened(page, site, "en", "04_contrastive_loss")[0]
    box.locator("input").first.focus()
    for key, name in (("ArrowRight", "step"), ("ArrowRight", "direction"), ("ArrowRight", "temperature")):
        row = page.locator(".control:has(:focus)")
        expect(row.locator(".name")).to_have_text(name)
        before = content_of(box)
        page.keyboard.press(key if name != "step" else "ArrowLeft")
        expect_change(box, before)
        page.keyboard.press("Tab")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_dashboard_plays_recorded_runs(page: Page, site: str, language: str) -> None:
    (name,) = (name for name in LIVE if any(DASHBOARD in source for source in sources(name)))
    (box,) = (box for box in opened(page, site, language, name) if box.get_attribute("data-kind") == "dashboard")
    run, clear = box.locator(".run"), box.locator(".run + button")
    box.get_by_text("8", exact=True).click()
    run.click()
    box.get_by_text("0.01", exact=True).first.click()
    run.click()
    lines = box.locator(".key li")
    expect(lines.nth(1)).to_contain_text(re.compile(r"^2: .* \d\.\d{3}$"))
    assert "1: lr 0.001, batch_size 8, temperature 0.07, steps 40" in lines.nth(0).inner_text()
    expect(box.locator("polyline")).to_have_count(2)
    for settings in ((1e-5, 128, 0.07, 40), (1e-3, 8, 0.07, 100)):
        assert settings not in RUNS
    box.get_by_text("128", exact=True).click()
    box.get_by_text("1e-05", exact=True).click()
    expect(box).to_contain_text(UNRECORDED[language])
    expect(run).to_be_disabled()
    box.get_by_text("32", exact=True).click()
    expect(run).to_be_enabled()
    clear.click()
    expect(box.locator("polyline")).to_have_count(0)
