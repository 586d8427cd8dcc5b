"""Numbers from the target masks of one parent's children: sparsity by layer, and keep-probabilities over time.

No record holds these; they follow from the masks and the law. Where a mask file is gone, a run goes without them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ssa.files import read_tensors
from ssa.method import laws
from ssa.specs.specs import ChildSpec
from ssa.store.store import Store
from ssa.study.study import Study

if TYPE_CHECKING:
    from torch import Tensor

    from ssa.method.laws import Law
    from ssa.method.masks import Mask

TIMES, BINS, SAMPLE = 5, 32, 4096  # of the histograms: how many, of what, and from how many weights of a tensor
EDGES = np.linspace(0, 1, BINS + 1)


@dataclass(frozen=True)
class Derived:
    """The numbers of a run that its record lacks. ``histograms``: counts over :data:`EDGES` by epoch and metric."""

    summary: dict[str, float] = field(default_factory=dict)
    histograms: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)


class ParentMasks:
    """The masks of one parent that one study has, read when they are first asked for."""

    def __init__(self, study: Study, store: Store, parent_id: str) -> None:
        self.study, self.store, self.parent_id = study, store, parent_id
        self._weights: dict[int | None, dict[str, Tensor]] = {}

    @cached_property
    def _masks(self) -> dict[str, Mask]:
        from ssa.runs import masks

        parent, wanted = self.study.all_parents()[self.parent_id], self.study.masks_of(self.parent_id)
        found: dict[str, Mask] = {}
        for path in self.store.mask_files(self.parent_id):  # another study's too, which may have trained the children
            left = [mask for mask in wanted if mask.id not in found]
            if left:
                found |= masks.read_some(path, parent, left)
        return found

    def derive(self, child: ChildSpec) -> Derived:
        """Everything that can be said of ``child``."""
        sparsity = {f"sparsity/{name}": value for name, value in self.sparsity(child).items()}
        return Derived(sparsity, self.keep_probabilities(child))

    def sparsity(self, child: ChildSpec) -> dict[str, float]:
        """The percentage that is pruned of each weight tensor that the child's mask names."""
        mask = self._masks.get(child.mask.id)
        if mask is None:
            return {}
        return {name: 100 * float((~entry).float().mean()) for name, entry in mask.items() if name not in mask.tied}

    def keep_probabilities(self, child: ChildSpec) -> dict[int, dict[str, np.ndarray]]:
        """Of the weights that the target mask keeps, and of those that it prunes, by epoch while the child anneals.

        Counted are up to :data:`SAMPLE` weights of each tensor, evenly spaced; what a law draws for each weight is
        drawn anew, with a seed of its own.
        """
        law = laws.find(child.law)(**dict(child.law_args))
        mask = self._masks.get(child.mask.id)
        if not mask or not law.epochs:
            return {}
        weights = self._start(child.start_epoch) if not law.ranking else {}
        samples = [
            _Sample(law, entry, weights.get(name), (child.id, name))
            for name, entry in mask.items()
            if name not in mask.tied
        ]
        times = np.unique(np.linspace(0, np.ceil(law.epochs), TIMES).round().astype(int))
        return {int(t): _count([sample.at(float(t)) for sample in samples]) for t in times}

    def _start(self, epoch: int | None) -> dict[str, Tensor]:
        """The weights that children start from; none if their file is gone."""
        if epoch not in self._weights:
            store, parent_id = self.store, self.parent_id
            path = store.weights(parent_id) if epoch is None else store.early_weights(parent_id, epoch)
            self._weights[epoch] = read_tensors(path)[0] if path.exists() else {}
        return self._weights[epoch]


class _Sample:
    """Some weights of one tensor under one law."""

    def __init__(self, law: Law, mask: Tensor, weight: Tensor | None, seed: tuple[str, str]) -> None:
        import torch

        from ssa.seeds import torch_generator

        flat = mask.flatten()
        index = torch.linspace(0, len(flat) - 1, min(SAMPLE, len(flat))).round().long()
        self.law, self.mask = law, flat[index]
        known = weight is not None and weight.shape == mask.shape
        values = weight.flatten()[index] if known and weight is not None else torch.ones(len(index))
        self.state = law.prepare(self.mask, values, torch_generator("keep-probability", *seed))

    def at(self, t: float) -> tuple[Tensor, Tensor]:
        """The mask, and the keep-probability of each weight at ``t`` epochs."""
        import torch

        if self.law.ranking and t < self.law.epochs:  # which weights are gone depends on training; how many does not
            gone = round(self.law.progress(t) * int((~self.mask).sum()))
            p = torch.ones(len(self.mask))
            p[(~self.mask).nonzero()[:gone]] = 0.0
            return self.mask, p
        kept, pruned = self.law.probability(t, self.mask, self.state)
        return self.mask, torch.where(self.mask, torch.as_tensor(kept), torch.as_tensor(pruned)).float()


def _count(samples: list[tuple[Tensor, Tensor]]) -> dict[str, np.ndarray]:
    mask, p = (np.concatenate([each.numpy() for each in side]) for side in zip(*samples, strict=True))
    sides = {"kept": mask, "pruned": ~mask}
    return {f"keep_probability/{name}": np.histogram(p[where], BINS, (0, 1))[0] for name, where in sides.items()}
