"""What every interactive figure shows for each value of its controls, computed by the notebook's own functions.

For the K-th interactive cell of a notebook there are two files: `frames/NAME-K.json` describes its controls, and
`frames/NAME-K.frames` (JSON, compressed by gzip) holds the views, or a dashboard's runs. A page reads the second one
only when a control is touched.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import multiprocessing
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets
import nbformat
import torch
from PIL import Image

from clipedu.classroom.edition import LANGUAGES, notebooks
from clipedu.classroom.lessons import emoji_model, trained_model
from clipedu.classroom.monolingual import html_in
from clipedu.classroom.site.needed import (
    DASHBOARD,
    EXPLORER,
    executed,
    live_cells,
    needed_cells,
    with_its_last_value,
)
from clipedu.classroom.view import Card
from clipedu.classroom.widgets import Dashboard, Explorer
from clipedu.ground.errors import ClipEduError

MOST_FRAMES = 350  # of one figure
FEWER: dict[str, dict[str, Sequence[float]]] = {  # the stops of sliders that would have too many frames together
    "01 three_ways": {"merges": (0, 8, 20, 40, 80, 120, 200, 300, 400, 600, 800, 1000, 1244)},
    "03 turn": {"angle": range(-180, 181, 15), "length": (0.2, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0)},
    "03 spread": {"D": (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 320, 384, 448, 512)},
    "04 first_loss": {"D": (16, 32, 64, 128, 256, 512), "temperature": [10 ** (tenth / 10) for tenth in range(-20, 1)]},
    "05 memory_at": {"batch_size": (16, *range(32, 1025, 32))},
}
SENTENCES: dict[str, tuple[list[str], list[str]]] = {  # what the text boxes answer beside their first text: zh, en
    "00 find": (
        ["绿色的三角形", "一个黄色的五角星在一个蓝色的圆的左边", "蓝色的大方块", "一只紫色的斑马"],
        ["a green triangle", "a yellow star left of a blue circle", "something big and blue", "a purple zebra"],
    ),
    "01 look": (
        ["一个红色的小五角星在一个绿色的圆环的左边", "红色 red 的 circle", "一只斑马"],
        ["Two RED circles?", "a small red star left of a green ring", "a zebra", "red,green;blue"],
    ),
    "01 three_ways": (
        ["微笑的猫", "滑雪的人", "冰岛 flag"],
        ["grinning cat with smiling eyes", "people skiing", "flag Iceland 旗"],
    ),
    "02 attend": (
        ["一个红色的小五角星", "一个紫色的大圆环在一个黑色的小十字的下面"],
        ["a small red star", "a big purple ring below a small black cross", "star star star circle"],
    ),
    "07 find": (
        ["骑自行车的女人", "笑着哭", "红色的圆", "下雪的天气"],
        ["smiling cat", "flag with a star", "woman cooking", "a snowy day"],
    ),
    "09 look_up": (["红心", "笑脸", "时钟", "恐龙"], ["broken heart", "smiling cat", "clock", "dinosaur"]),
    "ca find": (["红心", "黑猫", "拿着书的人"], ["red heart", "black cat", "a person with a book"]),
    "ca classify": (["男，女", "脸，手，心", "猫，独角兽"], ["man, woman", "face, hand, heart", "cat, unicorn"]),
}
SEARCHES = ("00 find", "07 find")  # any other text can be typed in the playground
RUNS = [  # the settings that the dashboard of 05 has run with: lr, batch_size, temperature, steps
    *product((1e-5, 1e-4, 1e-3, 1e-2, 1e-1), (8, 32), (0.07,), (40,)),
    *product((1e-4, 1e-3, 1e-2), (8, 32), (0.01, 1.0), (40,)),
    *product((1e-4, 1e-3, 1e-2), (128,), (0.07,), (40,)),
    *product((1e-3, 1e-2), (32,), (0.07,), (20, 100)),
]
FIRST_RUN = (1e-3, 32, 0.07, 40)
_PNG = re.compile(r'src="data:image/png;base64,([^"]+)"')
_PROCESSES = 2


class Control(NamedTuple):
    """A control and what it can be set to on a page.

    Args:
        kind: "range", "buttons" or "text".
        values: what the drawing function gets.
        labels: for each language, how a page names each value.
        start: for each language, the place of the first value.
        fewer: whether the notebook's own slider has more stops.
    """

    name: str
    kind: str
    values: list[Any]
    labels: dict[str, list[str]]
    start: dict[str, int]
    fewer: bool = False

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if name != "values"}


def build_frames(out: Path) -> None:
    """Write the frames of all notebooks into the folder `out`; two notebooks at a time run the cells that they need.

    A notebook whose cells fail for something that is not on this computer, such as an emoji font, is left out with a
    word; its pages say so too.
    """
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(ClipEduError):
        trained_model()  # now, so that not both processes train it
        emoji_model()
    folder = (out / "frames").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(path.absolute(), folder) for path in notebooks()]
    jobs.sort(key=lambda job: not job[0].stem.startswith(("08", "05")))  # they take longest
    with multiprocessing.get_context("spawn").Pool(_PROCESSES, torch.set_num_threads, (1,), maxtasksperchild=1) as pool:
        for note in pool.starmap(write_frames, jobs, chunksize=1):
            if note:
                print(note)


def write_frames(notebook: Path, folder: Path) -> str:
    """Write the frames of one notebook, running its cells in its own folder; returns what was left out, if any.

    This is for a process of its own: it changes the working directory.

    Raises:
        AssertionError: a figure does not show what is saved in the notebook.
    """
    code = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    live = live_cells([cell.source for cell in code])
    try:
        os.chdir(notebook.parent)
        with contextlib.redirect_stdout(io.StringIO()):
            shown = show([cell.source for cell in code])
    except ClipEduError as error:
        for number in range(len(live)):
            _write(folder / f"{notebook.stem}-{number}.json", {"kind": "absent"})
        return f"{notebook.name}: 没有滑块 · left out: {error}"
    for number, (place, figure) in enumerate(zip(live, shown, strict=True)):
        if isinstance(figure, Dashboard):
            described, content = recorded_runs(figure)
        else:
            key = f"{notebook.stem[:2]} {figure.draw.__name__}"
            described, content, first = frames_of(figure, key)
            saved = code[place].outputs[-1].data["text/plain"]
            depends_on_training = "nbval-ignore-output" in code[place].metadata.get("tags", [])
            assert depends_on_training or first == saved, f"{key} shows\n{first}\nand the notebook\n{saved}"
        _write(folder / f"{notebook.stem}-{number}.json", described)
        packed = gzip.compress(_json(content), mtime=0)
        (folder / f"{notebook.stem}-{number}.frames").write_bytes(packed)
    return ""


def show(sources: Sequence[str]) -> list[Explorer | Dashboard]:
    """The interactive figures that code cells show, after running the cells that they need, in order."""
    live = live_cells(sources)
    needed = needed_cells(sources, (EXPLORER, DASHBOARD))
    cells = [with_its_last_value(sources[at], f"shown_{at}") if at in live else sources[at] for at in needed]
    names = executed(*cells, display=lambda *_: None)
    return [names[f"shown_{place}"] for place in live]


def frames_of(explorer: Explorer, key: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """An explorer's controls and frames, and the text of its first view.

    Args:
        explorer: the figure; its controls are moved.
        key: its name in `FEWER`, `SENTENCES` and `SEARCHES`.
    """
    controls = [_control(explorer, name, key) for name in explorer.controls]
    if (count := math.prod(len(control.values) for control in controls)) > MOST_FRAMES:
        raise ValueError(f"{key} has {count} frames: choose fewer stops in FEWER")
    images: dict[str, int] = {}
    frames: dict[str, dict[str, str]] = {}
    texts: dict[tuple[int, ...], str] = {}
    for places in product(*(range(len(control.values)) for control in controls)):
        for control, place in zip(controls, places, strict=True):
            explorer.controls[control.name].value = control.values[place]
        view = explorer.view
        assert not (isinstance(view, Card) and view.passed is False), f"{key} {places}: {view.text}"
        html = _PNG.sub(lambda match: f'src="#{images.setdefault(match[1], len(images))}"', view.html)
        frames[",".join(map(str, places))] = {language: html_in(html, language) for language in LANGUAGES}
        texts[places] = view.text
    first = {language: texts[tuple(control.start[language] for control in controls)] for language in LANGUAGES}
    own_texts = all(control.start["zh"] != control.start["en"] for control in controls)
    described = {
        "kind": "explorer",
        "controls": [control.as_json() for control in controls],
        "search": key in SEARCHES,
    }
    content = {"images": [_as_webp(image) for image in images], "frames": frames}
    return described, content, f"{first['zh']}\n{first['en']}" if own_texts else first["en"]


def _control(explorer: Explorer, name: str, key: str) -> Control:
    widget = explorer.controls[name]
    if isinstance(widget, ipywidgets.Text):
        return _text_box(explorer, name, key)
    if isinstance(widget, ipywidgets.ToggleButtons):
        values = list(widget.options)
        labels = {language: [_cut(str(value), language) for value in values] for language in LANGUAGES}
        return Control(name, "buttons", values, labels, dict.fromkeys(LANGUAGES, values.index(widget.value)))
    stops = FEWER.get(key, {}).get(name) or slider_stops(widget)
    values = sorted({*stops, widget.value})
    own = [slider_label(widget, value) for value in values]
    start = values.index(widget.value)
    fewer = name in FEWER.get(key, {})
    return Control(name, "range", values, dict.fromkeys(LANGUAGES, own), dict.fromkeys(LANGUAGES, start), fewer)


def _text_box(explorer: Explorer, name: str, key: str) -> Control:
    widget = explorer.controls[name]
    twins = (child for child in explorer.children if isinstance(child, ipywidgets.Text) and child is not widget)
    chinese = next((child.value for child in twins if child.description == name), widget.value)
    zh, en = SENTENCES[key]
    values = list(dict.fromkeys([chinese, *zh, widget.value, *en, ""]))
    start = {"zh": values.index(chinese), "en": values.index(widget.value)}
    return Control(name, "text", values, dict.fromkeys(LANGUAGES, values), start)


def _cut(label: str, language: str) -> str:
    """A button's label, `中文 · English`, in one language."""
    zh, _, en = label.partition(" · ")
    return (en or zh) if language == "en" else zh


def slider_stops(slider: Any) -> list[float]:
    """Where a reader can put an ipywidgets slider, from the least to the most."""
    count = math.floor((slider.max - slider.min) / slider.step + 1e-9)
    stops = [*(round(slider.min + index * slider.step, 9) for index in range(count + 1)), slider.max]
    if isinstance(slider, ipywidgets.FloatLogSlider):  # whose minimum and maximum are exponents
        stops = [slider.base**exponent for exponent in stops]
    return list(dict.fromkeys(stops))


def slider_label(slider: Any, value: float) -> str:
    """How ipywidgets writes the value beside the slider."""
    if isinstance(slider, ipywidgets.FloatLogSlider):
        return f"{value:#.2g}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def recorded_runs(board: Dashboard) -> tuple[dict[str, Any], dict[str, Any]]:
    """A dashboard's controls and the losses of its runs at the settings in `RUNS`, for pages to play."""
    names = list(board.controls)
    columns = [sorted({settings[place] for settings in RUNS}) for place in range(len(names))]
    controls = []
    for name, values, value in zip(names, columns, FIRST_RUN, strict=True):
        labels = [f"{one:g}" for one in values]
        start = dict.fromkeys(LANGUAGES, values.index(value))
        controls.append(Control(name, "buttons", values, dict.fromkeys(LANGUAGES, labels), start))
    runs = {}
    for settings in RUNS:
        arguments = dict(zip(names, settings, strict=True))
        losses = [round(loss, 3) for loss in board.run(**arguments)]
        places = (column.index(value) for column, value in zip(columns, settings, strict=True))
        runs[",".join(map(str, places))] = {"losses": losses, "chance": board.chance and board.chance(**arguments)}
    described = {"kind": "dashboard", "controls": [control.as_json() for control in controls], "recorded": list(runs)}
    return described, {"runs": runs}


def _as_webp(png: str) -> str:
    """A PNG picture in base64 as a data URI: lossless WebP, unless PNG is smaller."""
    data = b64decode(png)
    with Image.open(io.BytesIO(data)) as picture:
        buffer = io.BytesIO()
        picture.save(buffer, "webp", lossless=True, method=4)
    if len(buffer.getvalue()) < len(data):
        return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"
    return f"data:image/png;base64,{png}"


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(_json(content))


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
