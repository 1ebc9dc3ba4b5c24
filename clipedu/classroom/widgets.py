"""Interactive widgets: controls for a function's arguments, a live loss curve, and a training dashboard."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import ipywidgets

from clipedu.classroom.language import language_class, used_language, words
from clipedu.classroom.plots import curves, loss_curve
from clipedu.classroom.view import View, both, card
from clipedu.ground.errors import ClipEduError
from clipedu.runs.history import StepRecord

_MOST_REDRAWS = 200  # of a live curve: a cell that sends more than a thousand messages overruns the kernel's queue


class Log(NamedTuple):
    """A logarithmic slider from `least` to `most` that starts at `start`; all three are positive."""

    least: float
    most: float
    start: float


class _WithView(ipywidgets.VBox):
    """A widget around a view; without a kernel, the view is shown as a static picture."""

    def show(self, view: View) -> None:
        self.view = view
        self.output.value = view.html

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        return bundle | self.view._repr_mimebundle_()


class Explorer(_WithView):
    """Controls, and below them the view that a function draws from their values."""

    def __init__(
        self, draw: Callable[..., View], controls: dict[str, ipywidgets.Widget], others: Sequence[ipywidgets.Text] = ()
    ) -> None:
        self.draw, self.controls = draw, controls
        self.output = ipywidgets.HTML()
        super().__init__([*controls.values(), *others, self.output])
        for control in controls.values():
            control.observe(self._update, "value")
        for text in others:  # the same text box in another language: what is typed there is shown too
            text.observe(lambda change: setattr(controls[change.owner.description], "value", change.new), "value")
        self._update()
        if others and len(others) == len(controls):  # the first view answers each language's own text
            zh, en = self._draw({text.description: text.value for text in others}), self.view
            self.show(View(both(zh.html, en.html), f"{zh.text}\n{en.text}"))

    def _update(self, _: Any = None) -> None:
        self.show(self._draw({name: control.value for name, control in self.controls.items()}))

    def _draw(self, values: dict[str, Any]) -> View:
        if any(isinstance(value, str) and not value.strip() for value in values.values()):
            return card(
                None, "还没有内容：请输入文字，再按回车", "nothing to show yet: type something, then press Enter"
            )
        try:
            return self.draw(**values)
        except ClipEduError as error:
            return card(False, error.zh, error.en)
        except Exception as error:  # otherwise it would only reach the log
            message = f"{type(error).__name__}: {error}"
            return card(False, f"运行出错：{message}", f"something went wrong: {message}")


def explore(draw: Callable[..., View], **controls: Any) -> Explorer:
    """Show `draw(**values)`, redrawn whenever a control changes.

    Each control is named after the argument that it sets: `(least, most, step, start)` makes a slider, `Log(least,
    most, start)` a logarithmic slider, a list a row of buttons, a str a text box (submitted with Enter), and
    `{"zh": ..., "en": ...}` a text box in each language with its own starting text. The first view is drawn from the
    starting values: one in each language if there are only such boxes, else in English for such a box.
    """
    if language := used_language():
        controls = {name: spec[language] if isinstance(spec, dict) else spec for name, spec in controls.items()}
    boxes = {name: spec for name, spec in controls.items() if isinstance(spec, dict)}
    chinese = [_in("zh", _control(name, spec["zh"])) for name, spec in boxes.items()]
    others = {name: _in("en", _control(name, spec["en"])) for name, spec in boxes.items()}
    return Explorer(draw, {name: others.get(name) or _control(name, spec) for name, spec in controls.items()}, chinese)


def _in(language: str, control: ipywidgets.Widget) -> ipywidgets.Widget:
    control.add_class(language_class(language))
    return control


def _control(name: str, spec: Any) -> ipywidgets.Widget:
    style = {"description_width": "9em"}
    layout = ipywidgets.Layout(width="36em", max_width="95%")
    if isinstance(spec, str):
        return ipywidgets.Text(spec, description=name, continuous_update=False, style=style, layout=layout)
    if isinstance(spec, list):
        return ipywidgets.ToggleButtons(options=spec, description=name, style=style | {"button_width": "auto"})
    if isinstance(spec, Log):
        ends = {"min": math.log10(spec.least), "max": math.log10(spec.most), "step": 0.05, "readout_format": ".2g"}
        return ipywidgets.FloatLogSlider(spec.start, **ends, description=name, style=style, layout=layout)
    least, most, step, start = spec
    kind = ipywidgets.IntSlider if all(isinstance(number, int) for number in spec) else ipywidgets.FloatSlider
    return kind(start, min=least, max=most, step=step, description=name, style=style, layout=layout)


class _Pace:
    """Decides when a live curve is redrawn: at most twice a second, using at most a fifth of the time."""

    def __init__(self) -> None:
        self.next = 0.0

    def is_due(self) -> bool:
        return time.monotonic() >= self.next

    def draw(self, redraw: Callable[[], None]) -> None:
        begin = time.monotonic()
        redraw()
        end = time.monotonic()
        self.next = end + max(0.5, 4 * (end - begin))


class TrainingMonitor(ipywidgets.VBox):
    """For `Callback(on_step=...)`: a progress bar, the latest numbers and the loss curve, at most twice a second.

    A run redraws at most 200 times, however long it takes.

    Args:
        steps: number of steps in the whole run.
        chance: the loss of random guessing, ln(batch size), drawn as a dashed line.
    """

    def __init__(self, steps: int, chance: float) -> None:
        self.chance, self.losses, self.pace = chance, list[float](), _Pace()
        self.stride = max(1, math.ceil(steps / _MOST_REDRAWS))
        self.bar = ipywidgets.IntProgress(max=steps, layout=ipywidgets.Layout(width="36em", max_width="95%"))
        self.line, self.curve = ipywidgets.Label(), ipywidgets.HTML()
        super().__init__([self.bar, self.line, self.curve])

    def __call__(self, record: StepRecord) -> None:
        self.losses.append(record["loss"])
        if record["step"] == self.bar.max or (record["step"] % self.stride == 0 and self.pace.is_due()):
            self.bar.value = record["step"]
            self.line.value = (
                f"{words('步', 'step')} {record['step']}/{self.bar.max}  {words('损失', 'loss')} {record['loss']:.3f}"
            )
            self.pace.draw(self._draw)

    def _draw(self) -> None:
        self.curve.value = loss_curve(self.losses, self.chance).html

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        return bundle | {"text/plain": f"{self.bar.max} {words('步', 'steps', ' | ')}"}


class Dashboard(_WithView):
    """Sliders and a Run button for training; the loss curves of all runs share one figure.

    Args:
        run: called with the sliders' values; returns an iterator over the loss of each step.
        chance: the loss of random guessing as a function of the same values; None draws no line.
        controls: see `explore`.

    The kernel's stop button ends a run early; its losses so far are kept and drawn.
    """

    def __init__(
        self, run: Callable[..., Iterator[float]], chance: Callable[..., float] | None, controls: dict[str, Any]
    ) -> None:
        self.run, self.chance = run, chance
        self.controls = {name: _control(name, spec) for name, spec in controls.items()}
        self.runs: dict[str, list[float]] = {}
        self.levels: dict[str, float] = {}
        self.button = ipywidgets.Button(description=words("运行", "Run", " · "), icon="play", button_style="primary")
        self.clear = ipywidgets.Button(description=words("清空", "Clear", " · "), icon="trash")
        self.line, self.output = ipywidgets.Label(), ipywidgets.HTML()
        super().__init__([*self.controls.values(), ipywidgets.HBox([self.button, self.clear]), self.line, self.output])
        self.add_class("clipedu-dashboard")  # its controls change nothing until Run is pressed
        self.button.on_click(lambda _: self.start())
        self.clear.on_click(lambda _: self.forget())
        self.forget()

    def start(self, **values: Any) -> None:
        """Set the sliders named in `values`, then run once with the values of all sliders."""
        for name, value in values.items():
            self.controls[name].value = value
        settings = {name: control.value for name, control in self.controls.items()}
        self.count += 1
        name = f"{self.count}: " + ", ".join(f"{key} {_short(value)}" for key, value in settings.items())
        losses: list[float] = []
        self.button.disabled = self.clear.disabled = True
        try:
            if self.chance:
                level = self.chance(**settings)
                self.levels[f"随机猜测 {level:.2f} | chance {level:.2f}"] = level
            self._follow(name, losses, self.run(**settings))
            outcome = words("一步也没有运行", "no steps run", " · ")
            if losses:
                last = f"{losses[-1]:.3f}"
                outcome = words(f"已完成，最后的损失 {last}", f"finished, last loss {last}", " · ")
        except KeyboardInterrupt:
            outcome = words(f"已停止于第 {len(losses)} 步", f"stopped at step {len(losses)}", " · ")
        except ClipEduError as error:
            outcome = str(error)
        except Exception as error:  # otherwise it would only reach the log
            outcome = f"{words('运行出错', 'something went wrong', ' · ')}: {type(error).__name__}: {error}"
        self._draw()
        self.line.value = f"{name}  {outcome}"
        self.button.disabled = self.clear.disabled = False

    def _follow(self, name: str, losses: list[float], steps: Iterator[float]) -> None:
        pace = _Pace()
        for loss in steps:
            losses.append(loss)
            self.runs[name] = losses
            if pace.is_due():
                self.line.value = f"{name}  step {len(losses)}  loss {loss:.3f}"
                pace.draw(self._draw)

    def forget(self) -> None:
        """Drop all runs."""
        self.count = 0
        self.runs.clear()
        self.levels.clear()
        self._draw()

    def _draw(self) -> None:
        if self.runs:
            series = {name: (range(1, len(losses) + 1), losses) for name, losses in self.runs.items()}
            self.show(curves(series, "步 | step", "损失 | loss", self.levels))
        else:
            self.show(card(None, "还没有运行：按「运行」", "no run yet: press Run"))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def dashboard(
    run: Callable[..., Iterator[float]], chance: Callable[..., float] | None = None, **controls: Any
) -> Dashboard:
    """Plot the losses of `run(**values)` each time Run is pressed, next to earlier runs; see `Dashboard`."""
    return Dashboard(run, chance, controls)
