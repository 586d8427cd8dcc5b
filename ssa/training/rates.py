"""Learning-rate schedules: pure functions of how far training stands, so that resuming needs no state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssa.errors import UserError

if TYPE_CHECKING:
    from ssa.specs.specs import Recipe

# The settings of cycles that each schedule needs, and no other takes.
CYCLIC = {
    "cosine-cycles": ("cycle_epochs",),
    "fge": ("cycle_epochs", "cycles_from", "cycle_high_lr", "cycle_low_lr"),
}


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
    if recipe.lr_schedule == "cosine-cycles":
        return Rate(cosine_cycles(recipe, step, steps_per_epoch))
    if recipe.lr_schedule == "fge":
        return Rate(fge(recipe, step, steps_per_epoch))
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
        return recipe.lr * min(1.0, (step + 1) / warm)  # a part of an epoch may be less than a step
    return _cosine(recipe.lr, recipe.final_lr, (step - warm) / max(total - warm, 1))


def cosine_cycles(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """A cosine from ``lr`` to ``final_lr`` in each cycle (snapshot ensembles, Huang et al., 2017, arXiv 1704.00109)."""
    length = _cycle(recipe, "cycle_epochs")[0] * steps_per_epoch
    return _cosine(recipe.lr, recipe.final_lr, step % length / length)


def fge(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Fast geometric ensembles, equation 2 of Garipov et al. (2018, arXiv 1802.10026).

    The first ``cycles_from`` epochs train as :func:`step_linear` does in so many. Then each cycle goes linearly from
    ``cycle_high_lr`` to ``cycle_low_lr``, which the last step of its first half has, and back.
    """
    length, first, high, low = _cycle(recipe, *CYCLIC["fge"])
    done = step - first * steps_per_epoch
    if done < 0:
        return step_linear(recipe, step / (first * steps_per_epoch))
    length *= steps_per_epoch
    return low + (high - low) * abs(1 - 2 * (done % length + 1) / length)


def snapshot_epochs(recipe: Recipe) -> tuple[int, ...]:
    """The epochs, from 1, after which the weights are members: none for a schedule without cycles.

    Snapshot ensembles take the end of each cycle; fast geometric ensembles take what the first cycle starts from, and
    the low point in the middle of each cycle. The last may be ``recipe.epochs``.
    """
    if recipe.lr_schedule == "cosine-cycles":
        (length,) = _cycle(recipe, "cycle_epochs")
        return tuple(range(length, recipe.epochs + 1, length))
    if recipe.lr_schedule == "fge":
        length, first = _cycle(recipe, "cycle_epochs", "cycles_from")
        return (first, *range(first + length // 2, recipe.epochs + 1, length))
    return ()


def check_cycles(recipe: Recipe, where: str) -> None:
    """``UserError`` unless the schedule has the cycle settings that it needs, no other has any, and cycles are whole.

    The last cycle of ``fge`` may end in its middle, as published.
    """
    schedule, needs = recipe.lr_schedule, CYCLIC.get(recipe.lr_schedule, ())
    for name in CYCLIC["fge"]:
        value = getattr(recipe, name)
        if value is None and name in needs:
            raise UserError(f"{where}.{name}: missing; allowed: a number, as lr_schedule {schedule} needs one")
        if value is not None and name not in needs:
            takers = " or ".join(key for key, names in CYCLIC.items() if name in names)
            raise UserError(f"{where}.{name}: {value} is not allowed with lr_schedule {schedule}; allowed: {takers}")
    if not needs:
        return
    (length,) = _cycle(recipe, "cycle_epochs")
    first = recipe.cycles_from or 0
    if first >= recipe.epochs:
        raise UserError(f"{where}.cycles_from: {first} is not allowed; allowed: less than epochs, {recipe.epochs}")
    if schedule == "fge" and length % 2:
        raise UserError(f"{where}.cycle_epochs: {length} is not allowed; allowed: an even number, as fge needs")
    unit = length // 2 if schedule == "fge" else length
    if (recipe.epochs - first) % unit:
        raise UserError(
            f"{where}.cycle_epochs: {length} is not allowed; allowed: cycles that fill the {recipe.epochs - first} "
            f"epochs from {first} to {recipe.epochs}"
        )


def _cycle(recipe: Recipe, *names: str) -> list[Any]:
    """These settings of ``recipe``; ``ValueError`` for one that is missing."""
    values = [getattr(recipe, name) for name in names]
    if None in values:
        raise ValueError(f"lr_schedule {recipe.lr_schedule!r} needs {names[values.index(None)]}")
    return values


def _cosine(start: float, end: float, x: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * x)) / 2
