"""Masks that are ranked anew as training goes: what weights score now, and which of them go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ssa.method import criteria
from ssa.method.child.layout import Layout


def magnitudes(layout: Layout, weights: Mapping[str, Tensor]) -> Tensor:
    """``|w|`` of all weights, or of their neurons, laid end to end."""
    return layout.flatten({name: criteria.magnitude(weights[name], layout.shape(name)) for name in layout})


def cut(layout: Layout, score: Tensor, alive: Tensor, counts: Sequence[int]) -> Tensor:
    """bool, laid end to end: without so many of each tensor's weights, those that are gone and the lowest ``score``."""
    ranked = score.masked_fill(~alive, -math.inf)
    kept = torch.empty_like(alive)
    for name, count in zip(layout, counts, strict=True):
        torch.logical_not(criteria.lowest(layout.view(ranked, name), count), out=layout.view(kept, name))
    return kept


def follow(
    layout: Layout, movement: Tensor, before: Mapping[str, Tensor], weights: Mapping[str, Tensor], stepped: set[int]
) -> None:
    """Add ``-w * gradient`` of the ``stepped`` weights, as the optimiser saw both, to ``movement``."""
    for name in layout:
        weight, total = weights[name], layout.view(movement, name)
        if id(weight) in stepped and weight.grad is not None:
            moved = (before[name] * weight.grad).float()
            total.sub_(moved if moved.shape == total.shape else moved.flatten(1).sum(1).view(total.shape))


def check_trained(weights: Mapping[str, Tensor]) -> None:
    """``ValueError`` if a weight is frozen, which has no gradient to rank by."""
    for name, weight in weights.items():
        if not weight.requires_grad:
            raise ValueError(
                f"movement ranks by gradients, and {name!r} has none, since it is frozen: leave it out with select=, "
                "or re-rank by magnitude"
            )
