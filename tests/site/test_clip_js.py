"""The model's arithmetic in the browser against Python's: words, pictures, embeddings; and the folder that searches."""

from __future__ import annotations

import base64
import json
import random
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from clipedu import SimpleTokenizer
from clipedu.classroom import trained_model
from clipedu.data.pictures import load_pixels
from clipedu.embedding import embed_images, embed_texts
from clipedu.export import pages
from clipedu.search import ImageIndex
from tests.conftest import small_model
from tests.site.conftest import SITE, Serving, guarded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SENTENCES = ["a red circle", "左边是红色的圆，右边是Ｂｌｕｅ square", "", "zebra's", "green " * 100]
# Code points whose class or case changed after Unicode 14, that of Python 3.11: browsers know the newer one.
CHANGED = {0x295, 0x2E4}
SIZES = [(64, 64, 64), (500, 375, 224), (375, 500, 64), (31, 20, 64), (640, 480, 96), (3, 5, 32)]


@pytest.fixture
def playground(page: Page, site: str) -> Page:
    page.goto(f"{site}/play.html?lang=en")
    page.get_by_text("The model is ready").wait_for(timeout=60_000)  # so that nothing is under way when a test ends
    return page


def strings() -> list[str]:
    """Every letter, mark, number and sign that Python knows, between others; and thousands of random strings."""
    known = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co") and code not in CHANGED
    ]
    rng = random.Random(0)
    likely = [*known[:1500], *"'’ -_.İßΣςσǅŉﬁÅ가각ｱﾞＡ１²½①〇々〆红色的圆" * 20]
    mixed = ["".join(rng.choices(likely, k=rng.randint(0, 12))) for _ in range(5000)]
    return [*(f"a{sign}b {sign} {sign}{sign}Σ" for sign in known), *mixed, "\ud800a\udfff"]


def test_words_are_python_s(playground: Page) -> None:
    texts = strings()
    found = playground.evaluate(
        """async texts => {
            const { tokenize } = await import("./play/clip.js")
            return JSON.stringify(JSON.parse(texts).map(tokenize))
        }""",
        json.dumps(texts),
    )
    wrong = [
        text
        for text, words in zip(texts, json.loads(found), strict=True)
        if words != SimpleTokenizer.tokenize_text(text)
    ]
    assert wrong == []


def test_pictures_are_scaled_as_in_python(playground: Page, tmp_path: Path) -> None:
    """Bit by bit, except that Pillow 13 starts with the columns of tall pictures: there, noise differs a little."""
    rng = np.random.default_rng(0)
    for width, height, size in SIZES:
        for alpha in (255, 0):
            pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
            pixels[..., 3] |= alpha
            Image.fromarray(pixels).save(tmp_path / "picture.png")
            found = playground.evaluate(
                """async ([bytes, width, height, size]) => {
                    const { square } = await import("./play/pictures.js")
                    const data = Uint8Array.from(atob(bytes), character => character.charCodeAt(0))
                    return JSON.stringify([...square({ data, width, height }, size)])
                }""",
                [base64.b64encode(pixels.tobytes()).decode(), width, height, size],
            )
            expected = load_pixels(tmp_path / "picture.png", size).flatten().int()
            difference = (torch.tensor(json.loads(found)) - expected).abs()
            assert difference.max() <= (1 if height > width else 0), (width, height, size, alpha)


def test_embeddings_are_pytorch_s(playground: Page) -> None:
    model, tokenizer = trained_model()
    pictures = torch.randint(0, 256, (3, 3, model.image_size, model.image_size), dtype=torch.uint8)
    found = playground.evaluate(
        """async ([texts, pictures]) => {
            const { loadModel, loadRuntime } = await import("./play/clip.js")
            loadRuntime("play/ort")
            const clip = await loadModel("play/scenes")
            const rows = [clip.embedTexts(texts), clip.embedImages(Uint8Array.from(pictures)), clip.embedTexts(["red"])]
            const [texts_, images, red] = await Promise.all(rows) // at once: one waits for the other
            return {
                texts: texts_.map(row => [...row]), images: images.map(row => [...row]), red: [...red[0]],
                ids: texts.map(text => clip.encode(text)), unknown: texts.map(text => clip.unknownWords(text)),
            }
        }""",
        [SENTENCES, pictures.flatten().tolist()],
    )
    expected = embed_texts(model, tokenizer, [*SENTENCES, "red"])
    assert torch.allclose(torch.tensor([*found["texts"], found["red"]]), expected, atol=1e-5)
    assert torch.allclose(torch.tensor(found["images"]), embed_images(model, pictures), atol=1e-5)
    assert found["ids"] == [tokenizer(text, padding=False, return_tensors=None)["input_ids"][0] for text in SENTENCES]
    assert found["unknown"] == [tokenizer.unknown_words(text) for text in SENTENCES]


def test_what_goes_wrong_has_a_code(playground: Page) -> None:
    playground.route("**/broken/card.json", lambda route: route.fulfill(body='{"format": "another"}'))
    playground.route("**/broken/*.onnx", lambda route: route.fulfill(body="not a model"))
    playground.route("**/broken/vocabulary.json", lambda route: route.fulfill(body='{"words": []}'))
    codes = playground.evaluate(
        """async () => {
            const { loadModel, loadRuntime } = await import("./play/clip.js?alone")
            const code = promise => promise.then(() => "fine", error => error.code)
            const kept = WebAssembly
            delete globalThis.WebAssembly
            const absent = await code(loadRuntime("play/ort"))
            globalThis.WebAssembly = kept
            loadRuntime("play/ort")
            return [absent, await code(loadModel("broken"))]
        }"""
    )
    assert codes == ["no-wasm", "wrong"]


# ------------------------------------------------------------------------------------------- the search folder

WORDS = SimpleTokenizer.from_texts(["a red circle and a blue square", "红色的圆"])


@pytest.fixture
def search(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ImageIndex]]:
    """The address of a search folder of an untrained model, and the index behind it; the site must have been built."""
    monkeypatch.setattr(pages, "write_runtime", lambda out: shutil.copytree(SITE / "play/ort", out))
    shutil.copyfile(data_dir / "images/train_0.png", data_dir / "images/<img src=x onerror=alert(1)>.png")
    index = pages.export_search(small_model(WORDS), WORDS, data_dir / "images", tmp_path / "search")
    with Serving(tmp_path / "search") as address:
        yield address, index


def opened(browser: Browser, address: str, **context: Any) -> tuple[Page, list[str]]:
    page, faults = guarded(browser.new_context(**{"locale": "en-US", **context}), address)
    page.goto(address)
    expect(page.locator("#about")).not_to_be_empty(timeout=60_000)
    return page, faults


def names(page: Page) -> list[str]:
    return page.locator("#hits li span").all_inner_texts()


def test_the_search_page(browser: Browser, search: tuple[str, ImageIndex]) -> None:
    address, index = search
    page, faults = opened(browser, address)
    told = page.locator("#told")
    expect(told).to_have_text("Type a sentence.")
    page.keyboard.type("a red circle")  # the box has the focus
    expect(told).to_contain_text(f"24 of {len(index.paths)}")
    page.get_by_role("button", name="Show more").press("Enter")
    expect(page.locator("#hits li")).to_have_count(len(index.paths))
    assert names(page)[:5] == [hit.path.name for hit in index.search("a red circle", 5)]
    assert "<img src=x onerror=alert(1)>.png" in names(page)
    page.get_by_role("button", name="中文").click()
    page.get_by_role("searchbox").fill("红色的斑")
    expect(page.locator("mark")).to_have_text("斑")
    expect(told).to_contain_text("与句子最接近的 24 张")
    assert names(page)[:5] == [hit.path.name for hit in index.search("红色的斑", 5)]
    page.get_by_role("searchbox").fill("斑马")
    expect(told).to_have_text("模型一个词也不认识：请换一种说法或语言。")
    expect(page.locator("#hits li")).to_have_count(0)
    picture = next(path for path in index.paths if path.name == "test_3.png")
    page.locator("#picture").set_input_files(picture)
    expect(page.locator("#hits li").first).to_contain_text("1.00")
    assert names(page)[0] == "test_3.png"
    expect(page.get_by_text("Search these pictures")).to_be_hidden()
    assert faults == []


def test_the_search_page_on_a_phone_and_broken(browser: Browser, search: tuple[str, ImageIndex]) -> None:
    address, _ = search
    page, faults = opened(browser, address, viewport={"width": 390, "height": 844}, locale="zh-CN")
    page.get_by_role("searchbox").fill("red")
    expect(page.locator("#hits li")).to_have_count(24)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert faults == []
    page.route("**/text.onnx", lambda route: route.abort())
    page.reload()
    expect(page.locator("#told")).to_have_text("模型没有载入：请检查网络，再刷新页面。")
