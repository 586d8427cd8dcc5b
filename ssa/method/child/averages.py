"""Averages of a child: copies into which weights are averaged, whose mask must be the child's."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ssa.method.laws import Law


def fingerprint(weights: Iterable[Tensor]) -> tuple[int, ...]:
    """A number for each of ``weights``, which any change of its values changes."""
    return tuple(int(weight.double().view(torch.int64).sum()) for weight in weights)


def check(copied: tuple[int, ...], weights: Iterable[Tensor], law: Law) -> None:
    """``RuntimeError`` if ``weights`` are no longer those of the fingerprint that was ``copied``."""
    if copied != fingerprint(weights):
        raise RuntimeError(
            "the weights of this copy were changed by no optimiser, as an average's are, and a mask that is still "
            f"ranked anew did not follow: begin averages when the annealing is over, at t = {law.epochs:g}"
        )
