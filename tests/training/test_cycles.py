"""Cyclic learning rates by hand, their members' epochs, and the settings that came after results were recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from studies import change, expand

from ssa.data import splits
from ssa.errors import UserError
from ssa.results import aggregate
from ssa.specs.specs import DataSpec, ParentSpec, Recipe
from ssa.study import study
from ssa.training import rates

SNAPSHOT = Recipe(epochs=200, lr=0.1, final_lr=0.0, lr_schedule="cosine-cycles", cycle_epochs=40)
FGE = Recipe(
    **{"epochs": 200, "lr": 0.1, "final_lr": 0.001, "lr_schedule": "fge"},
    **{"cycle_epochs": 4, "cycles_from": 156, "cycle_high_lr": 0.05, "cycle_low_lr": 0.01},
)


@pytest.mark.parametrize(
    ("epoch", "step", "lr"),
    [(0, 0, 0.1), (20, 0, 0.05), (10, 0, 0.0853553), (39, 9, 1.5420e-6), (40, 0, 0.1), (180, 0, 0.05)],
)
def test_snapshots_restart_the_cosine_in_each_cycle(epoch: int, step: int, lr: float) -> None:
    # 10 steps an epoch; the last of a cycle's 400 has 0.05 (1 + cos(pi 399 / 400)) = 0.05 (pi / 400)^2 / 2
    assert rates.at_step(SNAPSHOT, 10 * epoch + step, 10) == rates.Rate(pytest.approx(lr, rel=1e-4))


@pytest.mark.parametrize(
    ("step", "lr"),
    # 156 epochs of 10 steps: lr to 780, final_lr from 1404 on, half way at 1092. Then cycles of 40 steps.
    [
        *((0, 0.1), (780, 0.1), (1092, 0.0505), (1404, 0.001), (1559, 0.001)),
        *((1560, 0.048), (1569, 0.03), (1579, 0.01), (1580, 0.012), (1589, 0.03), (1599, 0.05), (1600, 0.048)),
        *((1979, 0.01), (1999, 0.05)),
    ],
)
def test_fge_trains_as_a_parent_and_then_goes_down_and_up(step: int, lr: float) -> None:
    assert rates.at_step(FGE, step, 10) == rates.Rate(pytest.approx(lr))


def test_members_are_the_published_ones() -> None:
    assert rates.snapshot_epochs(SNAPSHOT) == (40, 80, 120, 160, 200)
    assert rates.snapshot_epochs(FGE) == (156, 158, 162, 166, 170, 174, 178, 182, 186, 190, 194, 198)
    assert rates.snapshot_epochs(Recipe(epochs=200)) == ()


def test_members_of_fge_are_taken_where_the_rate_is_lowest() -> None:
    lowest = [step + 1 for step in range(2000) if rates.at_step(FGE, step, 10).lr == pytest.approx(0.01)]
    assert lowest == [10 * epoch for epoch in rates.snapshot_epochs(FGE)[1:]]


CYCLES = {"lr_schedule": "cosine-cycles", "cycle_epochs": 1}
TRIANGLES = {
    **{"lr_schedule": "fge", "epochs": 6, "cycle_epochs": 2},
    **{"cycles_from": 2, "cycle_high_lr": 0.05, "cycle_low_lr": 0.0005},
}


@pytest.mark.parametrize(
    ("where", "recipe", "message"),
    [
        ("parents.small", {"lr_schedule": "cosine-cycles"}, "cycle_epochs: missing; allowed: a number"),
        ("parents.small", CYCLES | {"epochs": 7, "cycle_epochs": 2}, "cycles that fill the 7 epochs from 0 to 7"),
        ("parents.small", CYCLES | {"cycles_from": 1}, "cycles_from: 1 is not allowed with lr_schedule cosine-cycles"),
        ("parents.small", {"cycle_epochs": 2}, "with lr_schedule step-linear; allowed: cosine-cycles or fge"),
        ("parents.small", TRIANGLES | {"cycle_low_lr": None}, "cycle_low_lr: missing"),
        ("parents.small", TRIANGLES | {"cycle_epochs": 1}, "cycle_epochs: 1 is not allowed; allowed: an even number"),
        ("parents.small", TRIANGLES | {"cycles_from": 6}, "cycles_from: 6 is not allowed; allowed: less than epochs"),
        ("parents.small", TRIANGLES | {"cycle_epochs": 6, "epochs": 9}, "fill the 7 epochs from 2 to 9"),
        ("children", CYCLES | {"epochs": 3, "cycle_epochs": 2}, "cycles that fill the 3 epochs from 0 to 3"),
    ],
)
def test_cycles_that_do_not_fit_are_refused_in_one_line(
    tiny: dict[str, Any], where: str, recipe: dict[str, Any], message: str
) -> None:
    for key, value in recipe.items():
        change(f"{where}.{key}", value)(tiny)
    with pytest.raises(UserError) as caught:
        expand(tiny)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_last_cycle_of_fge_may_end_at_its_low_point(tiny: dict[str, Any]) -> None:
    # published: 22 epochs in cycles of 4, six members
    tiny["parents"]["small"] |= TRIANGLES | {"epochs": 24, "cycle_epochs": 4}
    recipe = next(iter(expand(tiny).all_parents().values())).recipe
    assert rates.snapshot_epochs(recipe) == (2, 4, 8, 12, 16, 20, 24)


def parent(bag: float = 1.0, seed: int = 0, data_seed: int | None = None) -> ParentSpec:
    spec = DataSpec("digits", 200, 100, "parent", bag=bag)
    return ParentSpec(spec, "lenet-s", (), Recipe(epochs=1), seed, data_seed=data_seed)


def test_settings_that_came_later_are_in_ids_only_where_they_are_used() -> None:
    content = parent().content()
    assert not {"cycle_epochs", "cycles_from", "cycle_high_lr", "cycle_low_lr"} & set(content["recipe"])
    assert "bag" not in content["data"]
    assert "data_seed" not in content
    assert parent(bag=0.9).content()["data"]["bag"] == 0.9
    assert parent(data_seed=0).content()["data_seed"] == 0
    assert len({parent().id, parent(bag=0.9).id, parent(data_seed=0).id, parent(data_seed=1).id}) == 4
    used = ParentSpec(DataSpec("cifar10"), "resnet18", (), SNAPSHOT, 0).content()["recipe"]
    assert used["cycle_epochs"] == 40
    assert "cycles_from" not in used


def test_a_value_has_its_defaults_source_where_it_is_the_default_and_the_studys_else(tiny: dict[str, Any]) -> None:
    tiny["blocks"][1] |= {"anneal_epochs": [0.5, 1], "lr": 0.1, "tau": 0.3}
    tiny["provenance"] = {"tau": "reviews"}
    tiny["ensembles"] = [{"name": "pair", "method": "prune-and-tune", "parents": "small", "members": 2, "sparsity": 50}]
    listed = list(aggregate.hyperparameters(study.expand(tiny, Path("tiny.yaml"))))
    found = {(entry["scope"], entry["key"]): (entry["value"], entry["source"]) for entry in listed}
    assert found["block main", "anneal_epochs"] == ("0.5, 1", "assumed")  # and not "paper", as the default
    assert found["block main", "lr"] == ("0.1", "author-code")
    assert found["block main", "tau"] == ("0.3", "reviews")
    assert found["children", "div_factor"] == ("100.0", "PAT")
    assert found["parents small", "model_options"] == ("width: 4, stages: 2", "assumed")
    assert found["ensemble pair", "sparsity"] == ("50", "PAT")
    assert found["ensemble pair", "members"] == ("2", "assumed")
    assert ("children", "batch_size") not in found  # the parent's


def test_hyperparameters_list_them_only_where_a_study_sets_them(tiny: dict[str, Any]) -> None:
    keys = {row["key"] for row in aggregate.hyperparameters(expand(tiny))}
    assert not keys & {"bag", "cycle_epochs"}
    tiny["datasets"]["digits"]["bag"] = 0.9
    tiny["parents"]["small"] |= CYCLES
    rows = {row["key"]: row["value"] for row in aggregate.hyperparameters(expand(tiny))}
    assert (rows["bag"], rows["cycle_epochs"]) == ("0.9", "1")


def loaded(spec: ParentSpec) -> splits.Data:
    return splits.load(spec.data, Path("unused"), spec.seed, spec.data_seed)


def rows(split: splits.Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def test_a_bag_is_nine_tenths_of_the_split_drawn_by_the_parents_seed() -> None:
    whole = loaded(parent(data_seed=7))
    first, again, other = (loaded(parent(bag=0.9, seed=seed, data_seed=7)) for seed in (0, 0, 1))
    assert [len(s) for s in (first.train, first.validation, first.test)] == [180, 100, 1497]
    assert len(rows(first.train)) == 180  # without replacement
    assert rows(first.train) < rows(whole.train)
    assert torch.equal(first.train.images, again.train.images)
    assert rows(first.train) != rows(other.train)
    assert torch.equal(first.test.images, other.test.images)
    assert (first.mean, first.std) == (whole.mean, whole.std)
    assert study.train_images(parent(bag=0.9).data) == 180
    assert study.train_images(DataSpec("cifar10", bag=0.9)) == 40_500


def test_parents_of_one_data_seed_share_their_split() -> None:
    own, same, other = (loaded(parent(seed=seed, data_seed=d)) for seed, d in ((3, None), (5, 3), (3, 5)))
    assert torch.equal(own.train.images, same.train.images)
    assert torch.equal(own.validation.labels, same.validation.labels)
    assert rows(own.train) != rows(other.train)


def test_a_bag_of_nothing_is_refused(tiny: dict[str, Any]) -> None:
    tiny["datasets"]["digits"]["bag"] = 0
    with pytest.raises(UserError, match=r"bag: 0 is not allowed; allowed: float in \[0.01, 1\]"):
        expand(tiny)
