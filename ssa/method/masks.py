"""A mask: which weights of a model are kept, by parameter name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn


class Mask(dict[str, Tensor]):
    """Parameter name to bool tensor, True where a weight is kept.

    An entry has its parameter's shape, or (out, 1, ..., 1) where whole neurons are pruned. ``tied`` maps a
    parameter that goes with a pruned neuron (its BatchNorm scale and shift, its bias) to that neuron's weight;
    a tied entry repeats its weight's mask as a vector of length out.
    """

    def __init__(self, entries: Mapping[str, Tensor], tied: Mapping[str, str] | None = None) -> None:
        super().__init__(entries)
        self.tied = dict(tied or {})

    def copy(self) -> Mask:
        """A mask of the same entries."""
        return Mask(self, self.tied)

    def __or__(self, other: Mapping[str, Tensor]) -> Mask:  # type: ignore[override]
        """The entries of both, the right one's where both have one. What is tied follows its weight's mask.

        A tie to a weight whose mask no longer goes by whole neurons is dropped, with its entry.
        """
        kept = {name: of for name, of in self.tied.items() if name not in other}
        joined = Mask({**self, **other}, {**kept, **getattr(other, "tied", {})})
        for name, of in list(joined.tied.items()):
            if len(joined[of]) == joined[of].numel():
                joined[name] = joined[of].flatten()
            else:
                del joined[name], joined.tied[name]
        return joined

    def __ror__(self, other: Mapping[str, Tensor]) -> Mask:  # type: ignore[override]
        """As above, from the left."""
        return Mask(other) | self

    def __ior__(self, other: Mapping[str, Tensor]) -> Mask:  # type: ignore[override]
        """As above, in place."""
        joined = self | other
        self.clear()
        self.update(joined)
        self.tied = joined.tied
        return self

    def to(self, device: torch.device | str) -> Mask:
        """The same mask on ``device``."""
        return Mask({name: entry.to(device) for name, entry in self.items()}, self.tied)


def check(model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """``KeyError``, ``ValueError`` or ``TypeError`` naming the entry that does not fit ``model``."""
    if not isinstance(mask, Mapping):
        raise TypeError(f"mask is {mask!r}; it maps names of parameters to bool tensors, as ssa.prune makes it")
    parameters = dict(model.named_parameters())
    for name, entry in mask.items():
        if name not in parameters:
            raise KeyError(
                f"mask entry {name!r} is no parameter of the model; its parameters begin {list(parameters)[:3]}"
            )
        if not isinstance(entry, Tensor):
            raise TypeError(f"mask of {name!r} is {entry!r}; it is a bool tensor: leave out what is not pruned")
        shape = parameters[name].shape
        rows = (*shape[:1], *[1] * (len(shape) - 1))
        if tuple(entry.shape) not in (tuple(shape), rows):
            raise ValueError(
                f"mask of {name!r} has shape {tuple(entry.shape)}; expected {tuple(shape)}, or {rows} for neurons"
            )
        if entry.dtype != torch.bool:
            raise ValueError(f"mask of {name!r} has dtype {entry.dtype}; expected torch.bool")
    for name, of in getattr(mask, "tied", {}).items():
        if not (name in mask and of in mask and mask[name].numel() == mask[of].numel()):
            raise ValueError(f"mask of {name!r} is tied to that of {of!r}, which does not go by whole neurons")


def apply(model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Set the pruned weights of ``model`` to exactly 0, in place."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, entry in mask.items():
            parameters[name].masked_fill_(~entry, 0.0)


def realised_sparsity(model: nn.Module, mask: Mask) -> float:
    """The fraction of pruned weights among all weights that the mask covers; tied entries do not count."""
    parameters = dict(model.named_parameters())
    names = [name for name in mask if name not in mask.tied]
    total = sum(parameters[name].numel() for name in names)
    gone = sum(int((~mask[name]).sum()) * (parameters[name].numel() // mask[name].numel()) for name in names)
    return gone / total if total else 0.0


def pack(mask: Tensor) -> Tensor:
    """A bool tensor as uint8, eight elements to a byte, the first in the highest bit."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1)))


def unpack(packed: Tensor, shape: torch.Size) -> Tensor:
    """The bool tensor of ``shape`` that :func:`pack` packed."""
    return torch.from_numpy(np.unpackbits(packed.numpy(), count=shape.numel()).astype(bool)).view(shape)
