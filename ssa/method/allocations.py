"""Allocations: how many units of each weight are pruned; which ones is the criterion's to say.

A unit is a weight, or a neuron where whole neurons are pruned. Every allocation is called with the weights, the
criterion's scores, one for each unit, and the sparsity in [0, 1), and answers with a count for each weight. All but
``layerwise``, which rounds for each weight, remove exactly ``round(sparsity * units)`` over all weights together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import torch
from torch import Tensor

from ssa.method.criteria import lowest, over_units

Counts = dict[str, int]
Allocation = Callable[..., Counts]


def layerwise(weights: Mapping[str, Tensor], scores: Mapping[str, Tensor], sparsity: float) -> Counts:
    """The same fraction of each weight: ``round(sparsity * n)`` of its n units."""
    return {name: round(sparsity * score.numel()) for name, score in scores.items()}


def by_score(
    weights: Mapping[str, Tensor], scores: Mapping[str, Tensor], sparsity: float, floor: float = 0.0
) -> Counts:
    """The lowest scores over all weights together; of equals the earlier one.

    Of the n units of each weight the highest ``ceil(floor * n)`` stay; ``ValueError`` if that leaves too few to go.
    """
    if floor:
        scores = {name: _with_floor(score, floor) for name, score in scores.items()}
    joined = torch.cat([score.flatten() for score in scores.values()])
    spare = int((joined < math.inf).sum()) if floor else len(joined)
    if round(sparsity * len(joined)) > spare:
        raise ValueError(
            f"sparsity {sparsity} is not to be had where each tensor keeps a fraction {floor}: lower either"
        )
    parts = lowest(joined, round(sparsity * len(joined))).split([score.numel() for score in scores.values()])
    return {name: int(part.sum()) for name, part in zip(scores, parts, strict=True)}


def _with_floor(score: Tensor, floor: float) -> Tensor:
    """The scores in float64, the highest fraction of them, rounded up, above all others."""
    stay = math.ceil(Fraction(str(floor)) * score.numel())  # 0.07 of 100 is 7; in floats it is a bit more
    return score.double().masked_fill(~lowest(score, score.numel() - stay), math.inf)


def normalised(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float64: each weight's scores divided by their mean, so that weights of other fan-in can be compared.

    As structured pruners do (Fang et al., 2023, section 3.3, arXiv 2301.12900). Scores below 0, of what has gone, stay
    so and do not count in the mean; where the mean is 0 scores stay as they are.
    """
    means = {name: score.double().clamp(min=0).sum() / (score >= 0).sum() for name, score in scores.items()}
    return {name: score.double() / torch.where(means[name] > 0, means[name], 1.0) for name, score in scores.items()}


def lamp(weights: Mapping[str, Tensor], scores: Mapping[str, Tensor], sparsity: float, floor: float = 0.0) -> Counts:
    """The lowest layer-adaptive scores over all weights together (Lee et al., 2021, arXiv 2010.07611).

    A unit's layer-adaptive score is its w^2 (the mean over a neuron's weights) divided by the sum of w^2 over it and
    all units of its weight that rank above it. The highest unit of each weight scores 1 and all others at most 1/2,
    so that every weight keeps one unit as long as there are units to keep for each.
    """
    energies = {name: over_units(_scaled(weights[name]) ** 2, score.shape) for name, score in scores.items()}
    return by_score(weights, {name: _layer_adaptive(energy) for name, energy in energies.items()}, sparsity, floor)


def _scaled(weight: Tensor) -> Tensor:
    """The weight in float64, by a power of two so that the largest is near 1: squares keep their digits and range."""
    value = weight.detach().double()
    exponent = value.abs().amax().frexp().exponent.double().clamp(-1000, 1000)
    return value / 2.0**exponent


def _layer_adaptive(energy: Tensor) -> Tensor:
    """float64, flat and ascending: each of the sorted energies divided by the sum of itself and those after it."""
    ascending = energy.flatten().sort().values
    rest = ascending.flip(0).cumsum(0).flip(0)
    score = torch.where(rest > 0, ascending / rest, 0.0)
    score[-1] = 1.0  # also where all weights are 0
    return score


def erk(weights: Mapping[str, Tensor], scores: Mapping[str, Tensor], sparsity: float) -> Counts:
    """Erdős-Rényi-Kernel: densities proportional to sum(dims) / product(dims) (Evci et al., 2020, arXiv 1911.11134).

    A weight whose density would exceed 1 stays dense and the others share what is left. Counts are rounded by the
    largest remainder, of equals the earlier, in exact arithmetic.
    """
    units = {name: score.numel() for name, score in scores.items()}
    total = sum(units.values())
    kept = total - round(sparsity * total)
    share = {name: Fraction(units[name] * sum(weight.shape), weight.numel()) for name, weight in weights.items()}
    dense: set[str] = set()
    while True:
        free = [name for name in units if name not in dense]
        budget = Fraction(kept - sum(units[name] for name in dense))
        scale = budget / sum(share[name] for name in free)
        exceeding = {name for name in free if scale * share[name] > units[name]}  # never all of them: kept <= total
        if not exceeding:
            break
        dense |= exceeding
    quota = {name: Fraction(units[name]) if name in dense else scale * share[name] for name in units}
    return {name: units[name] - count for name, count in _rounded(quota, kept).items()}


def _rounded(quota: Mapping[str, Fraction], total: int) -> Counts:
    """``quota`` as whole numbers that sum to ``total``, by the largest remainder."""
    counts = {name: int(share) for name, share in quota.items()}
    by_remainder = sorted(quota, key=lambda name: counts[name] - quota[name])  # stable: of equals the earlier
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


FLOORED = ("global", "lamp")  # the allocations that take a floor
FUNCTIONS: dict[str, Allocation] = {"layerwise": layerwise, "global": by_score, "erk": erk, "lamp": lamp}
