"""The modules that a process trains in: networks of one kind share them, so that nothing is compiled again."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Any

import torch
from torch import nn

from ssa.data.splits import Data
from ssa.method.child import updates
from ssa.method.laws import Law
from ssa.method.masks import Mask
from ssa.method.subnetwork import Subnetwork
from ssa.specs.specs import ParentSpec

_kind: Hashable = None
_held: list[Subnetwork] = []  # one for each type of mask


def subnetwork(
    spec: ParentSpec, network: nn.Module, content: Data, mask: Mask, law: Law, device: torch.device, **settings: Any
) -> Subnetwork:
    """A fresh child of ``network``, the plain model of ``spec`` at any time of its training, on ``device``.

    In the module of an earlier one where that takes it, which then is no more: its weights are written over. Only one
    kind's modules are held at a time, as only one kind's step is compiled. ``settings``: as of :class:`ssa.Subnetwork`.
    """
    global _kind
    kind = (spec.model, spec.model_options, content.test.images.shape[1:], content.classes, device)
    if kind != _kind:
        _held.clear()
        _kind = kind
    for child in _held:
        updates.leave(child)  # of all that are held, one trains: an optimiser's step would look at each
    for child in _held:
        if child.takes(mask, law, settings.get("rescale", False)):
            child.restart(network, mask, law, **settings)
            return child
    _held.append(Subnetwork(copy.deepcopy(network).to(device), mask.to(device), law, **settings))
    return _held[-1]
