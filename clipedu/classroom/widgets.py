"""Things to move: sliders, menus and text boxes around a function, and a live curve for training."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ipywidgets

from clipedu.classroom.plots import loss_curve
from clipedu.classroom.view import View, card
from clipedu.errors import ClipEduError
from clipedu.history import Record


class Explorer(ipywidgets.VBox):
    """Controls above the view that a function draws from their values; also a still picture where no kernel runs."""

    def __init__(self, draw: Callable[..., View], controls: dict[str, ipywidgets.Widget]) -> None:
        self.draw, self.controls = draw, controls
        self.output = ipywidgets.HTML()
        super().__init__([*controls.values(), self.output])
        for control in controls.values():
            control.observe(self._update, "value")
        self._update()

    def _update(self, _: Any = None) -> None:
        self.view = self._draw({name: control.value for name, control in self.controls.items()})
        self.output.value = self.view.html

    def _draw(self, values: dict[str, Any]) -> View:
        if any(isinstance(value, str) and not value.strip() for value in values.values()):
            return card(
                None, "还没有内容：请写点什么，再按回车", "nothing to show yet: write something, then press Enter"
            )
        try:
            return self.draw(**values)
        except ClipEduError as error:
            return card(False, error.zh, error.en)
        except Exception as error:  # a widget's error would vanish in the log
            said = f"{type(error).__name__}: {error}"
            return card(False, f"这一步出错了：{said}", f"this went wrong: {said}")

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        return bundle | {"text/html": self.view.html, "text/plain": self.view.text}


def explore(draw: Callable[..., View], **controls: Any) -> Explorer:
    """Move a value and see `draw(**values)` follow.

    Each control is named like the argument it sets: `(least, most, step, start)` makes a slider, a list a row of
    buttons, a str a text box (Enter sends it). The first view is drawn from the starting values.
    """
    return Explorer(draw, {name: _control(name, given) for name, given in controls.items()})


def _control(name: str, given: Any) -> ipywidgets.Widget:
    style = {"description_width": "9em"}
    layout = ipywidgets.Layout(width="36em", max_width="95%")
    if isinstance(given, str):
        return ipywidgets.Text(given, description=name, continuous_update=False, style=style, layout=layout)
    if isinstance(given, list):
        return ipywidgets.ToggleButtons(options=given, description=name, style=style | {"button_width": "auto"})
    least, most, step, start = given
    kind = ipywidgets.IntSlider if all(isinstance(number, int) for number in given) else ipywidgets.FloatSlider
    return kind(start, min=least, max=most, step=step, description=name, style=style, layout=layout)


class TrainingMonitor(ipywidgets.VBox):
    """A callback for `train`: a bar, a line of numbers and the loss so far, redrawn at most twice a second.

    Args:
        steps: of the whole run.
        chance: the loss of a guess, ln(batch size), drawn as a dashed line.
    """

    def __init__(self, steps: int, chance: float) -> None:
        self.chance, self.losses, self.drawn = chance, list[float](), 0.0
        self.bar = ipywidgets.IntProgress(max=steps, layout=ipywidgets.Layout(width="36em", max_width="95%"))
        self.line, self.curve = ipywidgets.Label(), ipywidgets.HTML()
        super().__init__([self.bar, self.line, self.curve])

    def __call__(self, record: Record) -> None:
        if "val" in record:
            return
        self.losses.append(record["loss"])
        self.bar.value = record["step"]
        if time.monotonic() - self.drawn > 0.5 or record["step"] == self.bar.max:
            self.line.value = f"step {record['step']}/{self.bar.max}  loss {record['loss']:.3f}"
            self.curve.value = loss_curve(self.losses, self.chance).html
            self.drawn = time.monotonic()
