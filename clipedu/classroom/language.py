"""A language switch for the whole notebook: 中文 + English, or only one of them."""

from __future__ import annotations

from typing import Any

import ipywidgets

CHOICES = {"中文 + English": "", "中文": "en", "English": "zh"}  # button label -> the language that it hides


class LanguageSwitch(ipywidgets.VBox):
    """Three buttons; a style sheet hides every `<div lang="...">` of the language not chosen."""

    def __init__(self) -> None:
        self.buttons = ipywidgets.ToggleButtons(options=list(CHOICES), style={"button_width": "10em"})
        self.sheet = ipywidgets.HTML()
        super().__init__([self.buttons, self.sheet])
        self.mark = f"clipedu-language-{self.model_id}"
        self.add_class(self.mark)
        self.buttons.observe(self._hide, "value")

    def _hide(self, _: Any) -> None:
        hidden = CHOICES[self.buttons.value]
        # JupyterLab may show several notebooks in one page: hide only in the one with this switch.
        scopes = f".jp-Notebook:has(.{self.mark})", "body:not(:has(.jp-Notebook))"
        selectors = ", ".join(f'{scope} div[lang="{hidden}"]' for scope in scopes)
        self.sheet.value = f"<style>{selectors} {{ display: none }}</style>" if hidden else ""

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        return bundle | {"text/plain": " | ".join(CHOICES)}


def language_switch() -> LanguageSwitch:
    """Choose the notebook's language: 中文 + English | 中文 | English. It takes effect at once, without a restart."""
    return LanguageSwitch()
