"""The published tables, spot-checked against the papers' numbers."""

from __future__ import annotations

import tomllib

import pytest
from conftest import ROOT

from ssa.report.tables.published import SOURCES, _rows, published, published_children
from ssa.training.models import BUILDERS


def one(dataset: str, model: str, method: str, source: str) -> dict[str, str]:
    found = [row for row in published(dataset, model) if (row["method"], row["source"]) == (method, source)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("dataset", "model", "method", "source", "cells"),
    [
        ("cifar10", "lenet-l", "PAT (AR)", "PAT", {"accuracy": "75.75", "accuracy_se": "0.06", "n": "30"}),
        ("cifar100", "resnet18-maxpool", "Bagged", "PAT", {"accuracy": "46.18", "accuracy_se": "0.06", "n": "10"}),
        ("cifar10", "wrn-28-10", "PAT (AR, one-cycle)", "PAT", {"accuracy": "96.48", "ece": "0.5", "flops": "0.85"}),
        ("cifar100", "wrn-28-10", "DST", "PAT, from earlier papers", {"corrupted_nll": "2.280", "epochs": "750"}),
        ("cifar10", "wrn-28-10", "BatchEnsemble", "uncertainty-baselines", {"accuracy": "96.3", "ece": "1.77"}),
        ("cifar100", "wrn-28-10", "MC-dropout (30 samples)", "uncertainty-baselines", {"ece": "4.87", "nll": "0.785"}),
        ("cifar10", "wrn-28-10", "EDST", "low-cost ensembles survey", {"disagreement": "0.026", "kl": "0.057"}),
    ],
)
def test_rows_say_what_the_papers_print(
    dataset: str, model: str, method: str, source: str, cells: dict[str, str]
) -> None:
    row = one(dataset, model, method, source)
    assert {key: row[key] for key in cells} == cells


def test_the_only_accuracies_known_of_the_paper_are_those_of_children() -> None:
    found = published_children("cifar100", "resnet18-maxpool")
    assert [(row["method"], row["accuracy"], row["source"]) for row in found] == [
        ("iterative", "56.4", "reviews"),
        ("temperature", "56.6", "reviews"),
    ]
    assert all("sparsity not known" in row["budget"] for row in found)
    assert not any(row["source"] == "reviews" for row in published("cifar100", "resnet18-maxpool"))


def test_every_row_names_a_model_of_ours_and_a_source() -> None:
    # small budget; large budget with two rows more; diversity; children
    assert len(_rows()) == 20 + 2 * 13 + 7 + 2
    for row in _rows():
        assert row["model"] in BUILDERS
        assert row["source"] in SOURCES
        assert row["accuracy"] or row["disagreement"]
        assert bool(row["corruptions"]) == bool(row["corrupted_accuracy"])


def test_numbers_are_in_their_units() -> None:
    for row in _rows():
        for key in ("accuracy", "corrupted_accuracy"):
            assert not row[key] or 25 < float(row[key]) < 100
        for key in ("nll", "corrupted_nll"):
            assert not row[key] or 0.1 < float(row[key]) < 3
        for key in ("ece", "corrupted_ece"):
            assert not row[key] or 0.4 < float(row[key]) < 25


def test_a_model_without_published_rows_has_none() -> None:
    assert published("digits", "resnet-small") == []
    assert published("cifar10", "resnet18") == []  # published: the net with the max-pool alone


def test_the_file_is_part_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "published.csv" in project["tool"]["setuptools"]["package-data"]["ssa.report.tables"]
