"""Settings read from a file: a frozen dataclass whose fields say what is allowed and where their default comes from."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

from ssa.errors import UserError

BLANKS = ("na", "n/a", "#na", "#n/a", "<na>", "nan", "-nan", "null", "none")  # what pandas and R read as no value
SOURCES = ("paper", "summary", "reviews", "PAT", "author-code", "assumed")
T = TypeVar("T")


def setting(
    default: Any = dataclasses.MISSING,
    *,
    source: str = "assumed",
    choices: tuple[Any, ...] | None = None,
    low: float = -math.inf,
    high: float = math.inf,
    below: float = math.inf,
    added: bool = False,
    permits: bool = False,
    percent: bool = False,
    listed: bool = False,
    meaning: str = "",
) -> Any:
    """A field that allows ``choices``, or numbers in [low, high] and under ``below``; ``source`` labels its default.

    ``listed``: a list is one of allowed values, at least one, each once.

    ``added``: the setting came after results had been recorded. Its default is what they were made with, for good, and
    is left out of ids and listings. ``permits``: it only lets something through or not, which makes no other result,
    and is in no id. ``percent``: a value above 0 and below 1 is taken for a fraction, and asked about.
    """
    metadata: dict[str, Any] = {"source": source, "choices": choices, "low": low, "high": high, "below": below}
    metadata |= {
        "added": added or permits,
        "permits": permits,
        "percent": percent,
        "listed": listed,
        "meaning": meaning,
    }
    return dataclasses.field(default=default, metadata=metadata)


def names(cls: type) -> list[str]:
    """The settings that ``cls`` takes."""
    return [field.name for field in dataclasses.fields(cls)]


@cache
def left_out(cls: type) -> tuple[tuple[str, Any], ...]:
    """Each setting of ``cls`` that ids have, and the value at which it is left out: an ``added`` one's default."""
    never = object()  # equal to no value
    fields = [field for field in dataclasses.fields(cls) if not field.metadata.get("permits")]
    return tuple((field.name, field.default if field.metadata.get("added") else never) for field in fields)


def read(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """``cls(**values)`` after checking every key and value; ``UserError`` with one line that begins with ``where``."""
    check_mapping(values, f"a mapping of {', '.join(names(cls))}", where)
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        check_key(key, known, where)
    for name, field in known.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise UserError(f"{where}.{name}: missing; allowed: {allowed(cls, field)}")
    return cls(**{key: check(cls, key, value, f"{where}.{key}") for key, value in values.items()})


def check_mapping(value: Any, words: str, where: str) -> Mapping[str, Any]:
    """``value`` if it is a mapping, as ``words`` describe it; else a ``UserError`` that begins with ``where``."""
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: {value!r} is not allowed; allowed: {words}")
    return value


def check_list(value: Any, words: str, where: str) -> list[Any]:
    """``value`` if it is a list, as ``words`` describe it; else a ``UserError`` that begins with ``where``."""
    if not isinstance(value, list):
        raise UserError(f"{where}: {value!r} is not allowed; allowed: {words}")
    return value


def check_name(value: object, where: str) -> str:
    """``value`` if it can name a thing in tables, pages and files; else a ``UserError`` that begins with ``where``."""
    if isinstance(value, str) and value.lower() in BLANKS:
        raise UserError(f"{where}: {value!r} is not allowed as a name; a table with it reads as if there were none")
    if not (isinstance(value, str) and value.isprintable() and value.strip() == value and value and "/" not in value):
        raise UserError(
            f"{where}: {value!r} is not allowed as a name; allowed: text on one line without / (quote a number)"
        )
    return value


def check_key(key: object, known: Iterable[str], where: str) -> None:
    """``UserError`` naming the nearest known key where ``key`` is unknown."""
    choices = list(known)
    if key not in choices:
        near = difflib.get_close_matches(str(key), choices, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"{where}: unknown key {key!r}; {hint}allowed: {', '.join(choices)}")


def check(cls: type, name: str, value: Any, where: str) -> Any:
    """``value`` as the setting ``name`` of ``cls`` holds it, or a ``UserError`` saying what is allowed."""
    field = next(field for field in dataclasses.fields(cls) if field.name == name)
    meta = field.metadata
    try:
        converted = _convert(value, _types(cls)[name])
    except TypeError:
        converted = dataclasses.MISSING
    items = converted if meta.get("listed") and isinstance(converted, tuple) else (converted,)
    if not items or len(set(items)) < len(items) or not _holds(meta, converted):
        raise UserError(f"{where}: {value!r} is not allowed; allowed: {allowed(cls, field)}")
    if meta.get("percent") and 0 < converted < 1:
        raise UserError(
            f"{where}: {value!r} is below one percent; did you mean {100 * converted:.10g}? It is in percent"
        )
    return converted


def _holds(meta: Mapping[str, Any], value: Any) -> bool:
    """Whether a field with this metadata may hold ``value``."""
    if value is None and meta.get("listed"):
        return True
    if isinstance(value, tuple):
        return all(_holds(meta, item) for item in value)
    if value is dataclasses.MISSING or (meta.get("choices") and value not in meta["choices"]):
        return False
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return True
    return bool(meta.get("low", -math.inf) <= value <= meta.get("high", math.inf)) and (
        "below" not in meta or value < meta["below"]
    )


@cache
def _types(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _convert(value: Any, kind: Any) -> Any:
    """``value`` as ``kind``; ``TypeError`` if it is something else (a bool is no number, 5.5 no integer)."""
    if isinstance(kind, types.UnionType):
        for option in typing.get_args(kind):
            try:
                return _convert(value, option)
            except TypeError:
                continue
        raise TypeError
    if kind is type(None) and value is None:
        return None
    if typing.get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(item, typing.get_args(kind)[0]) for item in value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind in (str, bool) and isinstance(value, kind):
        return value
    raise TypeError


def _words(kind: Any) -> str:
    """A type as a user of YAML calls it."""
    if isinstance(kind, types.UnionType):
        return " or ".join(map(_words, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return f"list of {_words(typing.get_args(kind)[0])}"
    return {"NoneType": "null"}.get(kind.__name__, kind.__name__)


def allowed(cls: type, field: dataclasses.Field[Any]) -> str:
    """The allowed values of ``field`` of ``cls``, in words."""
    meta, kind = field.metadata, _types(cls)[field.name]
    if not meta.get("listed"):
        return _allowed(meta, kind)
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    lists = [option for option in options if typing.get_origin(option) is tuple]
    single = [_allowed(meta, option) for option in options if option not in (*lists, type(None))]
    return " or ".join(
        [*single, *(f"a list, each once, of: {_allowed(meta, typing.get_args(one)[0])}" for one in lists)]
    )


def _allowed(meta: Mapping[str, Any], kind: Any) -> str:
    """The allowed values of ``kind``, in words."""
    if meta.get("choices"):
        return ", ".join(str(choice) for choice in meta["choices"])
    words = _words(kind)
    low, high, below = meta.get("low", -math.inf), meta.get("high", math.inf), meta.get("below", math.inf)
    if below < math.inf:
        return f"{words} in [{low:g}, {below:g})"
    if low > -math.inf and high < math.inf:
        return f"{words} in [{low:g}, {high:g}]"
    return f"{words}, at least {low:g}" if low > -math.inf else words
