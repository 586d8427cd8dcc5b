"""Published results, as printed by others: they stand beside a study's own, always marked so."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

# What the sources' short names stand for.
SOURCES = {
    "PAT": "Whitaker and Whitley, Prune and Tune Ensembles (AAAI 2022)",
    "PAT, from earlier papers": (
        "as PAT, which took the row over from Havasi et al., MIMO (ICLR 2021) or Liu et al., FreeTickets (ICLR 2022)"
    ),
    "uncertainty-baselines": "Nado et al., Uncertainty Baselines (2021), the repository's own table",
    "low-cost ensembles survey": "the lead author of PAT's survey of low-cost ensembles",
    "reviews": "the public reviews of the paper's earlier version, which quote its table of magnitude masks",
}


def published(dataset: str, model: str) -> list[dict[str, str]]:
    """Return the published rows of ensembles for a data set and a model, in the order of the sources' tables.

    A blank cell is ``""``. Cells are text, with the digits that were printed. Accuracy and ECE in percent, NLL in nats,
    on the official test set; ``corrupted_...``: on corrupted ones, means over the types that ``corruptions`` tells of;
    ``accuracy_se``: standard error over ``n`` runs; ``disagreement``: a fraction; ``kl``: nats; ``epochs``: of all
    members' training; ``flops``: relative to the independent model's, masked.
    """
    return [row for row in _of(dataset, model) if row["members"]]


def published_children(dataset: str, model: str) -> list[dict[str, str]]:
    """Return the published rows of single pruned networks, as :func:`published`; ``method`` is a method's key here."""
    return [row for row in _of(dataset, model) if not row["members"]]


def _of(dataset: str, model: str) -> list[dict[str, str]]:
    return [dict(row) for row in _rows() if (row["dataset"], row["model"]) == (dataset, model)]


@cache
def _rows() -> list[dict[str, str]]:
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
