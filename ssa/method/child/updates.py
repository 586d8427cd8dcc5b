"""Optimisers tell the children whose weights they have updated."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook


class Updated(Protocol):
    """A child, told of each update of its weights."""

    module: nn.Module

    @property
    def holds_late(self) -> bool:
        """Whether weights must not move that are not held yet, since the child was never told a time."""

    def before_step(self) -> None:
        """Hold the weights before the first update."""

    def after_step(self, stepped: set[int], found_inf: Tensor | None) -> None:
        """Follow an update of the parameters with these ids."""


def register(child: Updated) -> None:
    """Tell ``child`` from now on, as long as it lives."""
    _LIVE.add(child)


def leave(child: Updated) -> None:
    """Tell ``child`` no longer."""
    _LIVE.discard(child)


def _announce_update(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Before any optimiser's step: let the children that have held no weights yet hold them now."""
    for child in [each for each in _LIVE if each.holds_late]:
        own = {id(parameter) for parameter in child.module.parameters()}
        if any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
            child.before_step()


def _note_update(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """After any optimiser's step, which a GradScaler may have made it skip: let the children that it updates follow."""
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for child in list(_LIVE):
        if any(id(parameter) in stepped for parameter in child.module.parameters()):
            child.after_step(stepped, getattr(optimizer, "found_inf", None))


_LIVE: weakref.WeakSet[Updated] = weakref.WeakSet()
register_optimizer_step_pre_hook(_announce_update)
register_optimizer_step_post_hook(_note_update)
