"""中文 + English, or one of them: a switch for the whole notebook."""

from __future__ import annotations

from typing import Any

import ipywidgets

CHOICES = {"中文 + English": "", "中文": "en", "English": "zh"}  # what the button says -> the language it hides


class LanguageSwitch(ipywidgets.VBox):
    """Three buttons; a style sheet hides the blocks `<div lang="...">` of the language not chosen."""

    def __init__(self) -> None:
        self.buttons = ipywidgets.ToggleButtons(options=list(CHOICES), style={"button_width": "10em"})
        self.sheet = ipywidgets.HTML()
        super().__init__([self.buttons, self.sheet])
        self.mark = f"clipedu-language-{self.model_id}"
        self.add_class(self.mark)
        self.buttons.observe(self._hide, "value")

    def _hide(self, _: Any) -> None:
        hidden = CHOICES[self.buttons.value]
        # In JupyterLab only the notebook that holds this switch, for several may be open in one page.
        places = f".jp-Notebook:has(.{self.mark})", "body:not(:has(.jp-Notebook))"
        selectors = ", ".join(f'{place} div[lang="{hidden}"]' for place in places)
        self.sheet.value = f"<style>{selectors} {{ display: none }}</style>" if hidden else ""

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        return bundle | {"text/plain": " | ".join(CHOICES)}


def language_switch() -> LanguageSwitch:
    """Choose the notebook's language: 中文 + English | 中文 | English. It works at once, without a restart."""
    return LanguageSwitch()
