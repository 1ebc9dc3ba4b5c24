"""Wrong answers that readers give, a module per notebook; each must be refused for the right reason."""

from collections.abc import Callable
from typing import Any

# by exercise: what is wrong with it, the reason that the check gives, the answer
WrongAnswers = dict[str, list[tuple[str, str, Callable[..., Any]]]]
