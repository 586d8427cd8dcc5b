"""The one error that is shown to the user as a single line, and the library's check of a choice."""

from __future__ import annotations

from collections.abc import Collection


class UserError(Exception):
    """Something that the user can put right; the message names the thing and the way out."""


def choose(key: str, value: object, allowed: Collection[str]) -> None:
    """``ValueError`` saying what is allowed unless ``value`` is."""
    if value not in allowed:
        raise ValueError(f"{key} is {value!r}; allowed: {', '.join(allowed)}")
