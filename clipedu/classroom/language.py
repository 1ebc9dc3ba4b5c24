"""The language of a notebook: a switch for 中文 + English, or one of them for a notebook in one language."""

from __future__ import annotations

from typing import Any

import ipywidgets

from clipedu.classroom.monolingual import html_in

CHOICES = {"中文 + English": "", "中文": "en", "English": "zh"}  # button label -> the language that it hides


def language_class(language: str) -> str:
    """The class of a widget that the switch shows in this language ("zh" or "en") only."""
    return f"clipedu-{language}"


class LanguageSwitch(ipywidgets.VBox):
    """Three buttons, and a style sheet that hides every `<div lang="...">` of the language not chosen.

    The sheet looks at which button is pressed, so the switch also works while a cell is running, and without a kernel.
    """

    def __init__(self) -> None:
        self.buttons = ipywidgets.ToggleButtons(options=list(CHOICES), style={"button_width": "10em"})
        self.mark = f"clipedu-language-{self.buttons.model_id}"
        rules = [self._rule(number, hidden) for number, hidden in enumerate(CHOICES.values(), 1) if hidden]
        super().__init__([self.buttons, ipywidgets.HTML(f"<style>{' '.join(rules)}</style>")])
        self.add_class(self.mark)

    def _rule(self, number: int, hidden: str) -> str:
        pressed = f".{self.mark} .widget-toggle-button:nth-of-type({number}).mod-active"
        # JupyterLab may show several notebooks in one page: hide only in the one with this switch.
        scopes = f".jp-Notebook:has({pressed})", f"body:not(:has(.jp-Notebook)):has({pressed})"
        block = f':is(div[lang="{hidden}"], .{language_class(hidden)})'
        return ", ".join(f"{scope} {block}" for scope in scopes) + " { display: none !important }"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        return bundle | {"text/plain": " | ".join(CHOICES)}


def language_switch() -> LanguageSwitch:
    """Choose the notebook's language: 中文 + English | 中文 | English. It takes effect at once, without a restart."""
    return LanguageSwitch()


_used = ""  # the only language of this notebook, or "" for both


def use_language(language: str) -> None:
    """Show everything from here on in one language, "zh" or "en": what a notebook in one language does first.

    Raises:
        ValueError: `language` is neither.
    """
    global _used
    if language not in ("zh", "en"):
        raise ValueError(f'language is "zh" or "en", not {language!r}')
    _used = language


def used_language() -> str:
    """ "zh" or "en" after `use_language`, else "" for both."""
    return _used


def in_use(html: str) -> str:
    """A view's HTML in the language of this notebook. (Its text stays: a notebook's code may read labels there.)"""
    return html_in(html, _used) if _used else html


def words(zh: str, en: str, between: str = " ") -> str:
    """The words of a widget in the language of this notebook, or in both with `between` between them."""
    return {"zh": zh, "en": en}.get(_used, f"{zh}{between}{en}")
