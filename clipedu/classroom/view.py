"""What a cell displays: HTML in the notebook, plain text elsewhere (screen readers, terminals, comparisons)."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from IPython import get_ipython
from IPython.display import display

from clipedu.classroom.language import in_use
from clipedu.ground.errors import ClipEduError

_BORDERS = {True: "#009E73", False: "#D55E00", None: "#E69F00"}  # Okabe and Ito's green, vermillion, orange
_MARKS = {True: "[OK]", False: "[FAIL]", None: "[…]"}


@dataclass(frozen=True)
class View:
    """Something to display: `html`, and the same content as `text`. To show it, make it the last line of a cell."""

    html: str
    text: str

    def __post_init__(self) -> None:
        for name, content in (("html", in_use(self.html)), ("text", self.text)):
            # escape lone surrogates, as in a truncated caption: they cannot be sent
            object.__setattr__(self, name, content.encode(errors="backslashreplace").decode())

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, repr=False)
class Card(View):
    """A short message in both languages; `passed` is True, False, or None for "not yet".

    `reason` names the property that failed, for tests and for looking it up.
    """

    passed: bool | None = None
    reason: str = ""


def together(*views: View) -> View:
    """Several views as one, stacked vertically."""
    html = "".join(f"<div>{view.html}</div>" for view in views)
    return View(html, "\n".join(view.text for view in views))


def as_text(text: str) -> str:
    """HTML that shows `text` literally: tags are escaped, and a dollar sign does not start a formula."""
    return escape(text).replace("$", "<span>$</span>")


def both(zh: str, en: str) -> str:
    """HTML with a message in both languages; the language switch can hide either."""
    return f'<div lang="zh">{zh}</div><div lang="en">{en}</div>'


def in_language(label: str, language: str) -> str:
    """The part of a label in this language ("zh" or "en"): `"中文 | English"`, or the same text for both."""
    zh, _, en = label.partition(" | ")
    return (en or zh) if language == "en" else zh


def line(*items: tuple[str, str]) -> str:
    """HTML with one line of (mark, label) pairs in each language; one line for both if no label differs.

    A mark is HTML, such as a legend's swatch or an arrow.
    """
    zh, en = (
        "&emsp;".join(f"{mark} {as_text(in_language(label, language))}".strip() for mark, label in items)
        for language in ("zh", "en")
    )
    return f"<div>{zh}</div>" if zh == en else both(zh, en)


def card(passed: bool | None, zh: str, en: str, reason: str = "") -> Card:
    """A card with a coloured border, marked [OK], [FAIL] or […]. The messages are plain text: HTML is escaped."""
    mark = _MARKS[passed]
    body = both(*(f"{mark} {as_text(text)}".replace("\n", "<br>") for text in (zh, en)))
    html = f'<div style="border-left: 6px solid {_BORDERS[passed]}; padding: 4px 12px; margin: 4px 0">{body}</div>'
    return Card(html, f"{mark} {zh}\n{mark} {en}", passed, reason)


def errors_as_cards() -> None:
    """In a notebook, show the library's own errors as a card and one line instead of a traceback."""
    shell = get_ipython()
    if shell is None:
        return

    def show(_shell: Any, _kind: type, error: ClipEduError, _traceback: Any, tb_offset: int | None = None) -> list[str]:
        display(card(False, error.zh, error.en))
        return [str(error)]

    shell.set_custom_exc((ClipEduError,), show)
