"""How noisy the gradient of a training step is, and how much of that noise the sampled mask makes."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ssa.data.batches import Batches
from ssa.method.subnetwork import Subnetwork
from ssa.seeds import derive, seed_layers
from ssa.training import step


@dataclass(frozen=True)
class Noise:
    """Of the gradient of all parameters, under steps that each draw a batch and a mask.

    ``variance``: the trace of its covariance. ``mask_variance``: the part of it that is left where the batch is known.
    ``square``: the mean of its squared norm. All in (nats per unit of weight) squared; NaN if it cannot be known.
    """

    variance: float
    mask_variance: float
    square: float


UNKNOWN = Noise(math.nan, math.nan, math.nan)


def measure_noise(child: Subnetwork, batches: Batches, time: float, count: int, seed: int) -> Noise:
    """The noise at ``time``, in epochs, over ``count`` whole batches (fewer if there are fewer) with two masks each.

    Two gradients of one batch differ by their masks alone, since dropout draws the same for both: half their squared
    distance is unbiased for the part of the variance that masks make. Nothing of ``child`` changes; ``variance`` is NaN
    for less than two batches.
    """
    probe = copy.deepcopy(child).train()
    first, second = (_Sum() for _ in range(2))
    apart, pairs = 0.0, 0
    whole = (batch for batch in batches.epoch(seed, 0) if len(batch[1]) == batches.recipe.batch_size)
    with torch.random.fork_rng([child.target.device] if child.target.is_cuda else []):
        for number, batch in enumerate(islice(whole, count)):
            one, two = (_gradient(probe, batch, batches, time, (seed, number), mask) for mask in (0, 1))
            first.add(one)
            second.add(two)
            apart += float((one - two).square().sum()) / 2
            pairs += 1
    if not pairs:
        return UNKNOWN
    variance = (first.variance() + second.variance()) / 2
    return Noise(variance, apart / pairs, (first.squares + second.squares) / (2 * pairs))


def _gradient(
    probe: Subnetwork, batch: tuple[Tensor, Tensor], batches: Batches, time: float, of: tuple[int, int], mask: int
) -> Tensor:
    """float64: the gradient of the loss of batch ``of`` (seed, number) under one mask, all parameters end to end."""
    probe.reseed(derive("noise", *of, mask))
    probe.at(time)
    seed_layers("noise of layers", *of)
    parameters = [parameter for parameter in probe.weights.values() if parameter.requires_grad]
    loss = step.loss(probe, *batch, batches.recipe.precision)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return torch.cat([gradient.flatten().double() for gradient in gradients])


class _Sum:
    """Vectors added up, and their squared norms."""

    def __init__(self) -> None:
        self.count, self.squares = 0, 0.0
        self.total: Tensor | None = None

    def add(self, vector: Tensor) -> None:
        self.count += 1
        self.squares += float(vector.square().sum())
        self.total = vector.clone() if self.total is None else self.total.add_(vector)

    def variance(self) -> float:
        """The trace of the sample covariance; NaN for less than two vectors."""
        if self.total is None or self.count < 2:
            return math.nan
        return (self.squares - float(self.total.square().sum()) / self.count) / (self.count - 1)
