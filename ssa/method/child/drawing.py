"""A mask that a law anneals: laid end to end in flat tensors, and what of it a step at each time sees."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssa.method.child.layout import Layout
from ssa.method.laws import Law
from ssa.method.masks import Mask
from ssa.method.sampling import LEVELS, Bits, either

TOGETHER = 1 << 26  # weights whose states a GPU draws at once: random annealing's pass through 20 bytes for each


class Annealed(nn.Module):
    """The mask of a child without its module: every number is a function of the law, the seed and the time alone.

    All tensors of the mask are laid end to end, so that one random draw and one comparison serve them all.
    """

    target: Tensor  # bool, the entries of all weights laid end to end by ``_layout``
    multiplier: Tensor  # of the coming training steps, laid so too; written in place as long as the child lives
    alive: Tensor | None  # of a mask that is ranked anew: what is still here
    movement: Tensor | None
    drawn: Tensor | None
    tied: dict[str, str]
    law: Law
    seed: int
    rescale: bool
    regenerate: bool
    time: float | None

    def _lay(self, weights: Mapping[str, Tensor], mask: Mapping[str, Tensor], factor: torch.dtype) -> None:
        """Make room for ``mask`` of ``weights``, which are in the model's order.

        In one order, whatever the mask's is: by name, and what is tied after what it is tied to.
        """
        self._sizes = {name: weight.numel() for name, weight in weights.items()}
        self.tied = _tied(mask, list(weights))
        entries = {name: mask[name] for name in sorted(mask) if name not in self.tied}
        self._layout = Layout(
            {name: weights[name] if weights[name].shape == entry.shape else entry for name, entry in entries.items()}
        )
        device = next(iter(weights.values())).device
        self.target = torch.zeros(self._layout.count, dtype=torch.bool, device=device)
        self.multiplier = torch.zeros(self._layout.count, dtype=factor, device=device)

    def _fill(self, mask: Mapping[str, Tensor]) -> None:
        """Write ``mask`` in place, and draw what the law draws once."""
        for name in self._layout:
            self._layout.view(self.target, name).copy_(mask[name])
        self.alive = torch.ones_like(self.target) if self.law.ranking else None
        self.movement = torch.zeros_like(self.target, dtype=torch.float32) if self.law.ranking == "movement" else None
        self._show_target()
        self.drawn = None if self.regenerate else self._prepare()
        if type(self.law).__module__ != Law.__module__ and not self.law.ranking:
            self._check_law()

    def _show_target(self) -> None:
        """Forget all that depends on time: the next step shows the target until another mask is drawn."""
        self.time = None
        self._pruned = {name: int((~self._layout.view(self.target, name)).sum()) for name in self._layout}
        self.multiplier.copy_(self.target)

    def _weight(self, name: str) -> Tensor:
        """The weight called ``name``, without the mask."""
        raise NotImplementedError

    def _check_law(self) -> None:
        state = self._state()
        for name in self._layout:
            own = None if state is None else self._layout.view(state, name)
            self.law.check(self._layout.view(self.target, name), own)

    def _prepare(self) -> Tensor | None:
        """The law's draws, one for each weight: for each tensor a function of the seed and its name only.

        A GPU draws for all tensors at once where the law can, since each operation costs its launch.
        """
        if self._layout and self.target.is_cuda and self.law.prepares_together:
            return self._prepare_together()
        states = {}
        for name in self._layout:
            target, weight = self._layout.view(self.target, name), self._weight(name).detach()
            state = self.law.prepare(target, weight, self._generator("draw", name))
            if state is None:
                return None
            states[name] = state
        return self._layout.flatten(states) if states else None

    def _prepare_together(self) -> Tensor:
        fractions = [1 - number / self._layout.shape(name).numel() for name, number in self._pruned.items()]
        parts = zip(self.target.split(TOGETHER), self._spread(torch.tensor(fractions)).split(TOGETHER), strict=True)
        generator = self._generator("draw")
        return torch.cat([self.law.prepare_together(mask, kept, generator) for mask, kept in parts])

    def sample(self, generator: torch.Generator) -> Mask:
        """A mask drawn with the keep-probabilities of the present time."""
        seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
        return self._expand(self._draw(0.0 if self.time is None else self.time, seed))

    def reseed(self, seed: int) -> None:
        """Draw the coming steps' masks with ``seed``; what the law draws once for all steps stays as it is."""
        if self.regenerate:
            self.drawn, self.regenerate = self._prepare(), False
        self.seed = seed

    def keep_probability(self, name: str) -> Tensor:
        """p of each weight (of each neuron) of ``name`` at the present time: float32 of the mask's shape."""
        leader = self.tied.get(name, name)
        if leader not in self._layout:
            raise KeyError(f"{name!r} has no mask; masked are {', '.join(self._layout)}")
        p = self._keep(leader, 0.0 if self.time is None else self.time, self._state())
        return p if name == leader else p.flatten()

    def keep_pruned(self, t: float) -> float:
        """The mean keep-probability of all pruned weights at time ``t``; NaN if nothing is pruned."""
        if t >= self.law.epochs:
            return 0.0 if any(self._pruned.values()) else math.nan
        total, count = 0.0, 0
        state = self._state()
        for name, number in self._pruned.items():
            each = self._sizes[name] // self._layout.shape(name).numel()
            if self.law.ranking:  # whichever they are, so many are still here
                kept = float(number - round(self.law.progress(t) * number))
            else:
                p = self._keep(name, t, state).masked_fill(self._layout.view(self.target, name), 0.0)
                kept = float(p.sum(dtype=torch.float64))
            total += kept * each
            count += number * each
        return total / count if count else math.nan

    def density(self, t: float) -> float:
        """The mean fraction of the masked tensors' weights that a step at time ``t`` does not multiply by 0.

        A law that multiplies by p instead of sampling leaves a weight out where p is 0 alone. 1 without masks.
        """
        total, count = 0.0, 0
        state = self._state()
        for name, number in self._pruned.items():
            size, weights = self._layout.shape(name).numel(), self._sizes[name]
            if self.law.ranking:
                kept = float(size - round(self.law.progress(t) * number))
            else:
                p = self._keep(name, t, state)
                kept = float((p > 0 if self.law.expected else p).sum(dtype=torch.float64))
            total += kept * (weights // size)
            count += weights
        return total / count if count else 1.0

    def samples_at(self, t: float) -> bool:
        """Return whether chance decides the mask of a step at time ``t``: whether any p lies between 0 and 1."""
        if t >= self.law.epochs or self.law.expected or self.law.ranking:
            return False
        p = self._expected(t)
        return bool(((p > 0) & (p < 1)).any())

    def _keep(self, name: str, t: float, state: Tensor | None) -> Tensor:
        """p of each weight of ``name`` at time ``t``, float32 of the mask's shape; ``state``: of all tensors."""
        target = self._layout.view(self.target, name)
        if self.alive is not None and t < self.law.epochs:  # re-ranked: here or gone, whatever the target says
            return self._layout.view(self.alive, name).float()
        own = None if state is None else self._layout.view(state, name)
        return either(target, *self.law.probability(t, target, own))

    def _state(self) -> Tensor | None:
        return self._prepare() if self.regenerate else self.drawn

    def _multiplier(self, t: float) -> Tensor:
        """The factors of the weights in the step at time ``t``, laid end to end."""
        if self.law.expected:
            return self._expected(t)
        drawn = self._draw(t, self._seed("mask", t))
        if self.rescale:
            return drawn / self._expected(t).clamp_min(1 / LEVELS)
        return as_numbers(drawn)

    def _expected(self, t: float) -> Tensor:
        if not self._layout:
            return self.multiplier
        state = self._state()
        if self.law.elementwise and self.alive is None:
            return either(self.target, *self.law.probability(t, self.target, state))
        return self._layout.flatten({name: self._keep(name, t, state) for name in self._layout})

    def _draw(self, t: float, seed: int) -> Tensor:
        """One mask drawn with the keep-probabilities of time ``t``: bool, laid end to end."""
        if not self._layout or t >= self.law.epochs:
            return self.target
        if self.alive is not None:
            return self.alive.clone()
        a, state, device = self.law.progress(t), self._state(), self.target.device
        if self.law.elementwise:
            return self.law.sample(a, self.target, state, Bits(self.target.shape, seed, device))
        if self.law.ordered and state is not None:
            return (state >= self._gone(a)) | self.target
        drawn = {}
        for number, name in enumerate(self._layout):
            target = self._layout.view(self.target, name)
            own = None if state is None else self._layout.view(state, name)
            drawn[name] = self.law.sample(a, target, own, Bits(target.shape, seed + number, device))
        return self._layout.flatten(drawn)

    def _gone(self, a: float) -> Tensor:
        """int32, laid end to end: how many weights of each one's tensor have had their turn at progress ``a``."""
        return self._spread(torch.tensor([round(a * number) for number in self._pruned.values()]).int())

    def _spread(self, values: Tensor) -> Tensor:
        """``values``, from the CPU and one for each tensor, at each of its entries, laid end to end."""
        if self.target.is_cuda:  # no step waits for the copy
            values = values.pin_memory().to(self.target.device, non_blocking=True)
        return values.repeat_interleave(self._layout.sizes(self.target.device), output_size=self._layout.count)

    def _expand(self, flat: Tensor) -> Mask:
        """The mask that ``flat`` holds, in memory of its own."""
        flat = flat.clone()
        leaders = {name: self._layout.view(flat, name) for name in self._layout}
        return Mask({**leaders, **{name: leaders[of].flatten() for name, of in self.tied.items()}}, self.tied)

    def _entry(self, flat: Tensor, name: str) -> Tensor:
        """The part of ``flat`` that belongs to the weight ``name``."""
        return self._layout.part(flat, self.tied[name]) if name in self.tied else self._layout.view(flat, name)

    def _generator(self, *purpose: str | float) -> torch.Generator:
        """A generator of this child's own, a function of its seed and ``purpose`` alone."""
        return torch.Generator(self.target.device).manual_seed(self._seed(*purpose))

    def _seed(self, *purpose: str | float) -> int:
        """A number in [0, 2^63), a function of this child's seed and ``purpose`` alone."""
        key = b"".join(struct.pack("<d", p) if isinstance(p, float) else p.encode() for p in purpose)
        digest = hashlib.blake2b(key + str(self.seed).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1


def as_numbers(mask: Tensor) -> Tensor:
    """The same bytes as numbers."""
    return mask.view(torch.uint8)


def _tied(mask: Mapping[str, Tensor], order: list[str]) -> dict[str, str]:
    """The leader of each tied weight, in the model's order of leaders and then of what goes with them."""
    number = {name: place for place, name in enumerate(order)}
    tied = getattr(mask, "tied", {})
    return dict(sorted(tied.items(), key=lambda each: (number[each[1]], number[each[0]])))
