"""Where the entries of many tensors lie in one flat buffer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor


class Layout:
    """Tensors laid end to end, the elements of each in the order in which its weight keeps them in memory.

    Weight and mask then have the same strides, which makes their product several times faster where a weight is
    channels-last. ``entries``: a tensor of each mask's shape and strides; all lie on one device.
    """

    def __init__(self, entries: Mapping[str, Tensor]) -> None:
        self._places: dict[str, tuple[int, torch.Size, tuple[int, ...]]] = {}
        self.count = 0
        self._sizes: Tensor | None = None
        for name, entry in entries.items():
            strides = torch.empty_like(entry, device="meta").stride()  # dense, in the entry's own order
            self._places[name] = (self.count, entry.shape, strides)
            self.count += entry.numel()

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __bool__(self) -> bool:
        return bool(self._places)

    def shape(self, name: str) -> torch.Size:
        """The shape of ``name``."""
        return self._places[name][1]

    def sizes(self, device: torch.device) -> Tensor:
        """How many elements each has: int64 on ``device``, where it is kept."""
        if self._sizes is None or self._sizes.device != device:
            self._sizes = torch.tensor([shape.numel() for _, shape, _ in self._places.values()], device=device)
        return self._sizes

    def strides(self) -> Tensor:
        """All strides in one int64 tensor: two layouts of the same tensors are the same where these are."""
        every = [stride for _, _, strides in self._places.values() for stride in strides]
        return torch.tensor(every, device="cpu")

    def view(self, flat: Tensor, name: str) -> Tensor:
        """``name`` within ``flat``, in its own shape."""
        start, shape, strides = self._places[name]
        return flat.as_strided(shape, strides, flat.storage_offset() + start)

    def part(self, flat: Tensor, name: str) -> Tensor:
        """``name`` within ``flat``, still flat."""
        start, shape, _ = self._places[name]
        return flat[start : start + math.prod(shape)]

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """All ``tensors``, one of its shape for each name, laid end to end."""
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors.values()))
        flat = torch.empty(self.count, dtype=dtype, device=next(iter(tensors.values())).device)
        torch._foreach_copy_([self.view(flat, name) for name in tensors], list(tensors.values()))
        return flat

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether ``tensors`` are all of these, each of its shape here."""
        return tensors.keys() == self._places.keys() and all(
            tensor.shape == self.shape(name) for name, tensor in tensors.items()
        )

    def merge(self, first: Tensor, ones: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> list[Tensor]:
        """Each of ``ones``, in their order, with the elements of ``others`` where the flat ``first`` is False."""
        merged = torch.where(first, self.flatten(ones), self.flatten(others))
        return [self.view(merged, name) for name in ones]
