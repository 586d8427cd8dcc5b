"""The one error that is shown to the user as a single line, and the library's check of a choice."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from operator import index
from pathlib import Path


class UserError(Exception):
    """Something that the user can put right; the message names the thing and the way out."""


def check_choice(key: str, value: object, allowed: Collection[str]) -> None:
    """``ValueError`` saying what is allowed unless ``value`` is."""
    if value not in allowed:
        raise ValueError(f"{key} is {value!r}; allowed: {', '.join(allowed)}")


def whole(key: str, value: object) -> int:
    """``value`` as an int, also of NumPy's types; ``TypeError`` if it is no whole number."""
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{key} is {value!r}; it is a whole number") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk, or a folder that cannot be written, into a ``UserError`` that names ``path``."""
    try:
        yield
    except Exception as error:  # safetensors has an error of its own for it
        if isinstance(error, OSError) or "I/O error" in str(error) or "No space" in str(error):
            raise UserError(f"{path} could not be written: {error}; free or change the disk and run again") from error
        raise


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn damage of a results' or a record's file, or another file in its place, into a ``UserError`` that names it.

    The ``FileNotFoundError`` of a missing one and a ``PermissionError`` stay what they are.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # pandas and pyarrow raise many kinds
        recorded = path.with_name("study.yaml").exists()
        way_out = "restore it as it was committed (git checkout)" if recorded else "run ssa aggregate again"
        raise UserError(f"{path} is damaged, or another file ({' '.join(str(error).split())}); {way_out}") from error
