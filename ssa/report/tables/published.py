"""Results that others published: they stand beside a study's own, always marked so, and ranges to expect."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from ssa.results.children import having

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
ALL_IMAGES = 50_000  # CIFAR's training images; what is known is known of networks that saw all of them
# Test accuracy (%) of augmented dense networks, trained for 100 epochs or more: lowest and highest, and who says so.
DENSE = {
    ("cifar10", "resnet18"): (94.7, 95.27, "public training logs"),
    ("cifar10", "resnet18-maxpool"): (93.07, 93.07, "the network's upstream repository"),
    ("cifar100", "resnet18"): (75.6, 77.4, "public training logs"),
}
PRUNED = 90  # percent of the weights that one-shot magnitude pruning takes
# What is known of children: of magnitude masks of single weights.
KNOWN = {"criterion": "magnitude", "structure": "connections"}


def has_published(children: pd.DataFrame, ensembles: pd.DataFrame) -> bool:
    """Whether anything is known of the parents, of the ``children`` or of the ``ensembles``."""
    whole = children[children["train_images"] == ALL_IMAGES]
    networks = whole.loc[whole["augment"], ["dataset", "model"]].itertuples(index=False, name=None)
    dense = any(network in DENSE for network in networks)
    pruned = not having(children, {**KNOWN, "method": "one-shot", "sparsity": PRUNED}).empty
    quoted = having(whole, {**KNOWN, "reference": True})[["dataset", "model", "method"]].drop_duplicates()
    told = any(row["method"] == method for *of, method in quoted.to_numpy() for row in published_children(*of))
    return dense or pruned or told or any(_known(*of) for of in _kinds(ensembles))


def _kinds(ensembles: pd.DataFrame) -> list[list[Any]]:
    if ensembles.empty:
        return []
    whole = ensembles[ensembles["train_images"] == ALL_IMAGES]
    return whole[["dataset", "model", "ensemble", "members", "epochs"]].drop_duplicates().to_numpy().tolist()


def _known(dataset: str, model: str, ensemble: str, members: float, epochs: float) -> bool:
    """Whether somebody published an ensemble of this name, size and budget with a standard error."""
    rows = [row for row in published(dataset, model) if row["accuracy_se"] and row["method"] == ensemble]
    return any([float(row["members"]), float(row["epochs"])] == [members, epochs] for row in rows)


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
