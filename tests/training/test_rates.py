"""Learning rates beside the authors': what the studies say of the difference is its size."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from conftest import ROOT

from ssa.specs.specs import Recipe
from ssa.study import study
from ssa.study.study import train_images
from ssa.training import rates


def furthest(recipe: Recipe, steps: int) -> float:
    """How far the rate of a step lies below that of its epoch's first, which the authors' code keeps for the epoch."""
    first = [rates.at_step(recipe, epoch * steps, steps).lr for epoch in range(recipe.epochs)]
    last = [rates.at_step(recipe, (epoch + 1) * steps - 1, steps).lr for epoch in range(recipe.epochs)]
    return max(a - b for a, b in zip(first, last, strict=True))


def test_a_step_linear_rate_lies_below_the_authors_by_less_than_an_epochs_fall() -> None:
    recipe = Recipe(epochs=40, lr_schedule="step-linear", final_lr=0.001)
    # it falls by 0.1 - 0.001 in 0.4 x 40 epochs of 79 steps: 0.0061875 an epoch, of which the last step has 78/79
    assert furthest(recipe, 79) == pytest.approx(0.0061875 * 78 / 79)


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_with_such_a_rate_lists_the_deviation_and_its_size(path: Path) -> None:
    plan = study.load(path)
    told = " ".join(" ".join(plan.raw.get("deviations") or ()).split())
    for spec, *_ in plan.parents.values():
        if spec.recipe.lr_schedule == "step-linear":
            steps = math.ceil(train_images(spec.data) / spec.recipe.batch_size)
            assert f"{furthest(spec.recipe, steps):.4f} over {spec.recipe.epochs} epochs" in told
