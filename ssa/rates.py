"""Learning-rate schedules: pure functions of how far training stands, so that resuming needs no state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssa.specs import Recipe


@dataclass(frozen=True)
class Rate:
    """The learning rate of a step, and its momentum (None: as the optimiser has it)."""

    lr: float
    momentum: float | None = None


def at_step(recipe: Recipe, step: int, steps_per_epoch: int, parent: Recipe | None = None) -> Rate:
    """The rate of optimisation step ``step``, counted from 0, of ``recipe``.

    ``rewound`` repeats the last epochs of the ``parent``'s schedule (Renda et al., 2020, arXiv 2003.02389).
    """
    total = recipe.epochs * steps_per_epoch
    if recipe.lr_schedule == "rewound":
        if parent is None:
            raise ValueError("lr_schedule 'rewound' repeats a parent's schedule, and there is no parent")
        return at_step(parent, (parent.epochs - recipe.epochs) * steps_per_epoch + step, steps_per_epoch)
    if recipe.lr_schedule == "constant":
        return Rate(recipe.lr)
    if recipe.lr_schedule == "one-cycle":
        return one_cycle(recipe, step, total)
    if recipe.lr_schedule == "step-linear":
        return Rate(step_linear(recipe, step / total))
    return Rate(warmup_cosine(recipe, step, total, steps_per_epoch))


def one_cycle(recipe: Recipe, step: int, total: int) -> Rate:
    """Smith's one-cycle with cosine arms, as torch.optim.lr_scheduler.OneCycleLR does it step by step.

    From ``lr / div_factor`` up to ``lr`` at ``pct_start`` of the steps, down to ``final_lr``; momentum goes
    0.95, 0.85, 0.95 where ``cycle_momentum`` is set.
    """
    top, last = recipe.pct_start * total - 1, total - 1
    low, high = recipe.lr / recipe.div_factor, recipe.lr
    if step <= top:
        x = step / top if top > 0 else 1.0
        lr, momentum = _cosine(low, high, x), _cosine(0.95, 0.85, x)
    else:
        x = (step - top) / (last - top)
        lr, momentum = _cosine(high, recipe.final_lr, x), _cosine(0.85, 0.95, x)
    return Rate(lr, momentum if recipe.cycle_momentum else None)


def step_linear(recipe: Recipe, x: float) -> float:
    """``lr`` for half of training, then linear to ``final_lr`` at 90%, then constant (PAT)."""
    return recipe.lr + (recipe.final_lr - recipe.lr) * min(max((x - 0.5) / 0.4, 0.0), 1.0)


def warmup_cosine(recipe: Recipe, step: int, total: int, steps_per_epoch: int) -> float:
    """Linear over ``warmup_epochs``, then a cosine from ``lr`` to ``final_lr``."""
    warm = recipe.warmup_epochs * steps_per_epoch
    if step < warm:
        return recipe.lr * (step + 1) / warm
    return _cosine(recipe.lr, recipe.final_lr, (step - warm) / max(total - warm, 1))


def _cosine(start: float, end: float, x: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * x)) / 2
