"""Each file of this folder holds a question beyond the paper's claims, its table, and the figure drawn from it.

A file defines ``FINDING``, ``table``, and ``figure``, which takes what ``table`` returns. Snakemake reads these files
each time it starts, so what draws and what computes intervals is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ssa.report.selection import pruned
from ssa.results.children import PAIRING
from ssa.results.planned import Planned


@dataclass(frozen=True)
class Finding:
    """A question, and what the registry says of its table and figure.

    ``caption``: what the figure shows, in a sentence; ``reading``: how it is read. ``takes``: the part of a record that
    the table is made of. ``answered``: whether a planned study will have anything to fill the table.
    """

    question: str
    takes: str
    answered: Callable[[Planned], bool]
    caption: str
    reading: str = ""


def runs_one_of(*methods: str) -> Callable[[Planned], bool]:
    """Whether one of ``methods`` is run."""
    return lambda plan: bool(pruned(plan)["method"].isin(methods).any())


def paired_with(method: str, *others: str) -> Callable[[Planned], bool]:
    """Whether ``method`` is run in a cell in which one of ``others`` is."""

    def has(plan: Planned) -> bool:
        rows = pruned(plan)
        mine, theirs = rows[rows["method"] == method], rows[rows["method"].isin(others)]
        return not mine[PAIRING].merge(theirs[PAIRING]).empty

    return has
