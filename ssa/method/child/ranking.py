"""Masks that are ranked anew as training goes: what weights score now, and which of them go.

A CPU takes one tensor after the other. A GPU takes all at once, in as many launches for a hundred tensors as for one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from ssa.method import criteria
from ssa.method.child.layout import Layout
from ssa.method.child.recorded import Recorded


class Ranking:
    """Ranks the weights of ``layout``, or their neurons, on ``device``; ``weights`` are those that it will be given."""

    def __init__(self, layout: Layout, weights: Mapping[str, Tensor], device: torch.device) -> None:
        self.device = device
        self._layout = layout
        self._each = {name: weights[name].numel() // layout.shape(name).numel() for name in layout}
        self._whole = max(self._each.values()) == 1  # weights, no neurons
        at_once = device.type == "cuda"
        self._ends = unit_ends(layout, self._each, device) if at_once else None
        self._selection = Recorded(Selection(layout, device)) if at_once else None

    def magnitudes(self, weights: Mapping[str, Tensor]) -> Tensor:
        """``|w|`` of all weights, or its mean over each neuron, laid end to end."""
        own = {name: weights[name].detach() for name in self._layout}
        own = {name: weight if weight.dtype == torch.float64 else weight.float() for name, weight in own.items()}
        if self._whole:
            return self._layout.flatten(own).abs_()
        if self._ends is not None:
            return reduce_units(torch._foreach_abs(list(own.values())), self._ends, "mean")
        return self._layout.flatten({name: criteria.magnitude(own[name], self._layout.shape(name)) for name in own})

    def follow(
        self, movement: Tensor, before: Mapping[str, Tensor], weights: Mapping[str, Tensor], stepped: set[int]
    ) -> None:
        """Add ``-w * gradient`` of the ``stepped`` weights, as the optimiser saw both, to ``movement``."""
        gradients = {name: each.grad for name, each in weights.items() if id(each) in stepped and each.grad is not None}
        if self._ends is not None and len(gradients) == len(self._each):
            products = torch._foreach_mul([before[name] for name in gradients], list(gradients.values()))
            moved = [product.float() for product in products]
            if self._whole:
                torch._foreach_sub_([self._layout.view(movement, name) for name in gradients], moved)
            else:
                movement.sub_(reduce_units(moved, self._ends, "sum"))
            return
        for name, gradient in gradients.items():
            total = self._layout.view(movement, name)
            one = (before[name] * gradient).float()
            total.sub_(one if one.shape == total.shape else one.flatten(1).sum(1).view(total.shape))

    def cut(self, score: Tensor, alive: Tensor, counts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Without the ``alive`` weights of lowest ``score``, for each of ``counts``: bool, laid end to end.

        A count has a number for each tensor: how many of its weights are gone then, those that are not ``alive`` first
        and those that are NaN last, so that a child that diverged has as many as any.
        """
        ranked = score.masked_fill(~alive, -math.inf)
        if self._selection is None:
            ranked.nan_to_num_(math.inf, math.inf, -math.inf)
            return [cut(self._layout, ranked, each) for each in counts]
        gone = torch.tensor(counts).pin_memory().to(self.device, non_blocking=True)  # no step waits for the copy
        return list(self._selection(ranked, gone))


def cut(layout: Layout, score: Tensor, counts: Sequence[int]) -> Tensor:
    """bool, laid end to end: without so many of each tensor's weights, those of lowest ``score``."""
    kept = torch.empty_like(score, dtype=torch.bool)
    for name, count in zip(layout, counts, strict=True):
        torch.logical_not(criteria.lowest(layout.view(score, name), count), out=layout.view(kept, name))
    return kept


class Selection:
    """As :func:`cut`, for all tensors by one sort and several counts: nothing is asked of a tensor by itself."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self._sizes = layout.sizes(device)
        self._count = layout.count
        number = torch.arange(len(self._sizes), device=device)
        small = torch.uint8 if len(self._sizes) <= 256 else torch.int32  # of few bits, which sort faster
        self._owner = number.to(small).repeat_interleave(self._sizes)
        # Equals go in the order of a tensor's entries, which is not that of the memory of a channels-last weight.
        memory = torch.arange(self._count, device=device)
        self._places = torch.cat([layout.view(memory, name).flatten() for name in layout])
        starts = self._sizes.cumsum(0) - self._sizes
        self._turns = (memory - starts.repeat_interleave(self._sizes)).int()

    def __call__(self, score: Tensor, counts: Tensor) -> Tensor:
        """bool (k, entries): what is left without so many of each tensor's, as ``counts`` (k, tensors) has them."""
        order = score[self._places].argsort(stable=True)
        order = order[self._owner[order].argsort(stable=True)]  # by tensor, and in each the lowest first
        places = self._places[order]
        gone = counts.repeat_interleave(self._sizes, 1, output_size=self._count)
        kept = score.new_ones((len(counts), self._count + 1), dtype=torch.bool)  # the last is nobody's
        for own, number in zip(kept, gone, strict=True):
            own.index_fill_(0, places.masked_fill(self._turns >= number, self._count), False)
        return kept[:, : self._count]


def unit_ends(layout: Layout, each: Mapping[str, int], device: torch.device) -> Tensor:
    """int64: where each unit's weights begin, and end, where all weights lie end to end; ``each`` unit has so many."""
    sizes = (each[name] for name in layout for _ in range(layout.shape(name).numel()))
    return torch.tensor([0, *accumulate(sizes)], device=device)


def reduce_units(values: Sequence[Tensor], ends: Tensor, reduce: str) -> Tensor:
    """The mean or sum of each unit of all ``values``, laid end to end; ``ends``: of :func:`unit_ends`."""
    rows = [value if value.stride(0) * value.shape[0] == value.numel() else value.contiguous() for value in values]
    flat = torch.cat([row.as_strided((row.numel(),), (1,)) for row in rows])
    return torch.segment_reduce(flat, reduce, offsets=ends, unsafe=True)


def check_trained(weights: Mapping[str, Tensor]) -> None:
    """``ValueError`` if a weight is frozen, which has no gradient to rank by."""
    for name, weight in weights.items():
        if not weight.requires_grad:
            raise ValueError(
                f"movement ranks by gradients, and {name!r} has none, since it is frozen: leave it out with select=, "
                "or re-rank by magnitude"
            )
