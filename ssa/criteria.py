"""Scores that rank what to prune: the lowest scores go first."""

from __future__ import annotations

import torch
from torch import Size, Tensor


def magnitude(weight: Tensor, shape: Size) -> Tensor:
    """``|w|`` as float32 of ``shape``; where ``shape`` is (out, 1, ..., 1), the mean over each output row."""
    score = weight.detach().abs().float()
    return score if score.shape == shape else score.flatten(1).mean(1).view(shape)


def uniform(weight: Tensor, shape: Size, generator: torch.Generator) -> Tensor:
    """Independent uniform scores in [0, 1): random pruning. Drawn on the CPU, so that devices agree."""
    return torch.rand(shape, generator=generator).to(weight.device)
