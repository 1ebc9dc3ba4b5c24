"""Teaching aids, imported only by the notebooks and their tests; training does not need them."""

from clipedu.classroom import bpe, plots, word_order
from clipedu.classroom import checks as check
from clipedu.classroom.language import language_switch, use_language
from clipedu.classroom.lessons import (
    all_captions,
    coloured_star,
    eight_pairs,
    emoji_data,
    emoji_model,
    emoji_name_lists,
    environment_card,
    never_seen,
    recalls,
    sample_data,
    show_guess,
    show_pairs,
    show_records,
    small_clip,
    trained_model,
    training_moments,
    unseen_scenes,
)
from clipedu.classroom.recorded import has_recording, mean_and_range, recorded
from clipedu.classroom.source import show_source
from clipedu.classroom.view import View, card, errors_as_cards, together
from clipedu.classroom.widgets import Log, TrainingMonitor, dashboard, explore

errors_as_cards()

__all__ = [
    "Log",
    "TrainingMonitor",
    "View",
    "all_captions",
    "bpe",
    "card",
    "check",
    "coloured_star",
    "dashboard",
    "eight_pairs",
    "emoji_data",
    "emoji_model",
    "emoji_name_lists",
    "environment_card",
    "explore",
    "has_recording",
    "language_switch",
    "mean_and_range",
    "never_seen",
    "plots",
    "recalls",
    "recorded",
    "sample_data",
    "show_guess",
    "show_pairs",
    "show_records",
    "show_source",
    "small_clip",
    "together",
    "trained_model",
    "training_moments",
    "unseen_scenes",
    "use_language",
    "word_order",
]
