"""The engine's speed on pages: tables of ``benchmarks/*.json``, which ``make bench`` writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ssa.errors import UserError
from ssa.report.tables.style import markdown_grid

if TYPE_CHECKING:
    from ssa.report.readme.records import Page

Measured: TypeAlias = dict[str, Any]
SHARE = "share of an epoch: "


def with_target(page: Page) -> str:
    """Of each device the numbers that have a target."""
    return _each(page, lambda rows: [_cells(row) | _judged(row) for row in rows if row["target"]])


def without_target(page: Page) -> str:
    """Of each device all other numbers, but for the profile."""
    return _each(page, lambda rows: [_cells(row) for row in rows if not row["target"] and not _is_share(row)])


def profile(page: Page) -> str:
    """Of each device where an epoch's time goes: a row for each kind of operation, a column for each network."""
    return _each(page, _shares)


PLACES: dict[str, Callable[[Page], str]] = {"targets": with_target, "measured": without_target, "profile": profile}


def value(root: Path, device: str, measure: str, network: str) -> str:
    """One measured number with its unit, from ``benchmarks/<device>.json``; ``UserError`` if it is not there."""
    path = root / "benchmarks" / f"{device}.json"
    found = [row for row in _rows(_read(path)) if (row["measure"], row["network"]) == (measure, network)]
    if len(found) != 1:
        raise UserError(f"{path} has {len(found)} rows of {measure!r} for {network!r}; one is asked for")
    return _cells(found[0])["value"]


def _each(page: Page, rows: Callable[[list[Measured]], list[dict[str, str]]]) -> str:
    """For each device what was measured on, and the table of ``rows``."""
    parts = []
    for path in sorted((page.root / "benchmarks").glob("*.json")):
        found = _read(path)
        table = rows(_rows(found))
        parts += [_about(path, found, page), markdown_grid(table[0], [row.values() for row in table])] if table else []
    return "\n\n".join(parts) or "Nothing is measured yet: `make bench`."


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _rows(found: dict[str, Any]) -> list[Measured]:
    """The rows of all parts that were measured."""
    return [row for part in found["parts"].values() for row in part["rows"]]


def _about(path: Path, found: dict[str, Any], page: Page) -> str:
    """The device, and when, with what and beside what load its parts were measured."""
    dates, torches, commits = (
        ", ".join(sorted({value(part) for part in found["parts"].values()}))
        for value in (lambda p: p["date"][:10], lambda p: p["versions"]["torch"], lambda p: p["git_commit"])
    )
    loads = [part["load"] for part in found["parts"].values()]
    units = "" if found["bf16"] else " without bf16 units"
    return (
        f"**{found['device']}, {found['cores']} cores{units}** (`{page.link(path)}`: {dates}, "
        f"PyTorch {torches}, commit {commits}; load average when its parts began: {min(loads):g} to {max(loads):g})"
    )


def _cells(row: Measured) -> dict[str, str]:
    """One row: the number with its unit, and of several the least and the greatest."""
    spread = f"{_number(row['low'])} to {_number(row['high'])}" if row["n"] > 1 else ""
    value = f"{_number(row['value'])} {row['unit']}".strip()
    return {"measure": row["measure"], "network": row["network"], "value": value, "spread": spread, "n": str(row["n"])}


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _judged(row: Measured) -> dict[str, str]:
    return {"target": row["target"], "": "met" if row["met"] else "**missed**"}


def _is_share(row: Measured) -> bool:
    return row["measure"].startswith(SHARE)


def _shares(rows: list[Measured]) -> list[dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    for row in filter(_is_share, rows):
        kind = row["measure"].removeprefix(SHARE)
        table.setdefault(kind, {"where an epoch goes": kind})[row["network"]] = f"{100 * row['value']:.1f}%"
    return list(table.values())
