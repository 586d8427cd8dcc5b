"""A module whose weights are multiplied by a mask that is annealed to its target."""

from __future__ import annotations

import copy
import hashlib
import math
import struct
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.stateless import _reparametrize_module
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._pytree import tree_leaves

from ssa import criteria, masks
from ssa.errors import choose
from ssa.laws import Law, Probability
from ssa.masks import Mask
from ssa.pruning import lowest

PRUNED_WEIGHTS = ("train", "freeze", "shuffle")
MASKED_WEIGHTS = ("update", "freeze")
RANDOM_LEVELS = 1 << 16  # p is resolved to 1/65536


class Subnetwork(nn.Module):
    """``module`` under ``mask``, fine-tuned by ``law``; shares the module's parameters and never replaces them.

    Call :meth:`at` before each training step with the time in epochs: it fixes one sampled mask for all forward
    passes until the next call. The sampled mask is a pure function of ``seed`` and the time, so that ranks of a
    data-parallel job agree and a resumed child goes on bit for bit. In eval mode, and from ``law.epochs`` on, the
    network is exactly the target subnetwork. ``epochs``, where given, is the length of training: a law that anneals
    for longer is refused, and so is a time beyond it.

    ``pruned_weights``: ``train`` them while they are sampled, ``freeze`` them at their starting values, or
    ``shuffle`` them within their tensor at the start. ``masked_weights``: whether momentum and weight decay
    ``update`` the weights that a step's mask hides, or ``freeze`` leaves them as they were. ``rescale`` divides
    sampled weights by p (the paper does not). ``regenerate`` draws anew at each step what the law otherwise keeps for
    each weight, such as random annealing's u: less memory, more time, the same numbers.
    """

    target: Tensor
    multiplier: Tensor
    alive: Tensor | None
    movement: Tensor | None
    drawn: Tensor | None

    def __init__(
        self,
        module: nn.Module,
        mask: Mapping[str, Tensor],
        law: Law,
        *,
        seed: int = 0,
        epochs: float = math.inf,
        pruned_weights: str = "train",
        masked_weights: str = "update",
        rescale: bool = False,
        regenerate: bool = False,
    ) -> None:
        super().__init__()
        masks.check(module, mask)
        if law.epochs > epochs:
            raise ValueError(
                f"{type(law).__name__} anneals for {law.epochs:g} epochs, longer than the training of {epochs:g}; "
                "shorten the law's epochs"
            )
        if regenerate and not law.regenerable:
            raise ValueError(f"{law} depends on the starting weights, which move: leave regenerate at False")
        choose("pruned_weights", pruned_weights, PRUNED_WEIGHTS)
        choose("masked_weights", masked_weights, MASKED_WEIGHTS)
        self.module = module
        self.law = law
        self.seed = seed
        self.epochs = epochs
        self.pruned_weights = pruned_weights
        self.masked_weights = masked_weights
        self.rescale = rescale
        self.regenerate = regenerate
        self.time: float | None = None
        self._updated = False
        self._own: dict[str, Tensor] = {}
        self.tied = dict(mask.tied) if isinstance(mask, Mask) else {}
        self._slices: dict[str, tuple[slice, torch.Size]] = {}
        self._register(mask)
        self._held: dict[str, Tensor] = {}
        if pruned_weights == "shuffle":
            self._shuffle()
        elif pruned_weights == "freeze":
            self._hold()
        self.register_state_dict_pre_hook(_settle)
        self.register_load_state_dict_post_hook(_start_anew)

    def _register(self, mask: Mapping[str, Tensor]) -> None:
        """Lay the mask's entries end to end, so that one random draw and one comparison serve all tensors."""
        weights = dict(self.module.named_parameters())
        leaders = {name: entry for name, entry in mask.items() if name not in self.tied}
        device = next(iter(weights.values())).device
        start = 0
        for name, entry in leaders.items():
            self._slices[name] = (slice(start, start + entry.numel()), entry.shape)
            start += entry.numel()
        empty = torch.zeros(0, dtype=torch.bool, device=device)
        target = torch.cat([empty, *(entry.flatten().to(device) for entry in leaders.values())])
        self.register_buffer("target", target)
        self.register_buffer("multiplier", target, persistent=False)
        self.register_buffer("alive", torch.ones_like(target) if self.law.ranking else None)
        moves = self.law.ranking == "movement"
        self.register_buffer("movement", torch.zeros_like(target, dtype=torch.float32) if moves else None)
        states = [] if self.regenerate else [self._prepare(name) for name in self._slices]
        drawn = [state.flatten() for state in states if state is not None]
        self.register_buffer("drawn", torch.cat(drawn) if drawn else None)

    def _prepare(self, name: str) -> Tensor | None:
        """What the law draws once for each weight of ``name``: a function of the seed and the name alone."""
        where, shape = self._slices[name]
        weight = self.module.get_parameter(name).detach()
        return self.law.prepare(self.target[where].view(shape), weight, self._generator("draw", name))

    # --- what the mask is -------------------------------------------------------------------------------------

    def at(self, t: float) -> None:
        """Set the time to ``t`` epochs since the child's first step and draw the mask of the coming step."""
        t = float(t)
        if not (math.isfinite(t) and t >= 0):
            raise ValueError(f"at({t}): the time is a number of epochs, at least 0")
        if t > self.epochs:
            raise ValueError(f"at({t:g}): training was said to last {self.epochs:g} epochs; raise epochs= to go on")
        if self.movement is not None and _ranks() > 1:
            raise RuntimeError(
                "movement adds up each rank's own gradients, so that ranks would disagree on the mask: "
                "train on one process, or re-rank by magnitude"
            )
        self._restore()
        self.time = t
        if self.alive is not None:
            self._rerank(t, self.alive)
        if self.law.expected:
            self.multiplier = self._expected()
        else:
            self.multiplier = self._draw(self._generator("mask", t))
        if self.masked_weights == "freeze":
            self._hold()
        self._updated = False

    def sample(self, generator: torch.Generator) -> Mask:
        """A mask drawn with the keep-probabilities of the present time."""
        drawn = self._draw(generator)
        return self._expand({name: drawn[where].view(shape) for name, (where, shape) in self._slices.items()})

    @property
    def mask(self) -> Mask:
        """The target mask."""
        return self._expand({name: self.target[where].view(shape) for name, (where, shape) in self._slices.items()})

    def keep_probability(self, name: str) -> Tensor:
        """p of each weight (of each neuron) of ``name`` at the present time: float32 of the mask's shape."""
        leader = self.tied.get(name, name)
        if leader not in self._slices:
            raise KeyError(f"{name!r} has no mask; masked are {', '.join(self._slices)}")
        kept, pruned = self._probability(leader)
        where, shape = self._slices[leader]
        p = _either(self.target[where].view(shape), kept, pruned)
        return p if name == leader else p.flatten()

    def keep_pruned(self, t: float) -> float:
        """The mean keep-probability of all pruned weights at time ``t``; NaN where nothing is pruned."""
        total, count = 0.0, 0
        for name, (where, shape) in self._slices.items():
            pruned = ~self.target[where].view(shape)
            number = int(pruned.sum())
            each = self.module.get_parameter(name).numel() // pruned.numel()
            if self.law.ranking:  # whichever they are, so many are still here
                kept = float(number - round(self.law.progress(t) * number))
            else:
                kept = float(_either(~pruned, *self._probability(name, t))[pruned].double().sum())
            total += kept * each
            count += number * each
        return total / count if count else math.nan

    def _probability(self, name: str, t: float | None = None) -> tuple[Probability, Probability]:
        where, shape = self._slices[name]
        time = self.time if t is None else t
        if time is None:
            time = 0.0
        if self.alive is not None and time < self.law.epochs:  # re-ranked: here or gone, whatever the target says
            alive = self.alive[where].view(shape).float()
            return alive, alive
        if self.regenerate:
            state = self._prepare(name)
        else:
            state = None if self.drawn is None else self.drawn[where].view(shape)
        return self.law.probability(time, self.target[where].view(shape), state)

    def _expected(self) -> Tensor:
        parts = [self.keep_probability(name).flatten() for name in self._slices]
        return torch.cat(parts) if parts else self.target.float()

    def _draw(self, generator: torch.Generator) -> Tensor:
        """One sampled mask, laid end to end: bool, or float where kept weights are rescaled."""
        if not self._slices or (self.time is not None and self.time >= self.law.epochs):
            return self.target.float() if self.rescale else self.target
        bits = _random_bits(self.target.numel(), generator, self.target.device)
        parts = []
        for name, (where, shape) in self._slices.items():
            target = self.target[where].view(shape)
            kept, pruned = self._probability(name)
            low = bits[where].view(shape)
            drawn = _sample(low, target, kept, pruned)
            if self.rescale:
                drawn = drawn / _either(target, kept, pruned).clamp_min(1 / RANDOM_LEVELS)
            parts.append(drawn.flatten())
        return torch.cat(parts)

    def _rerank(self, t: float, alive: Tensor) -> None:
        """Remove the weights whose turn has come, and let the target be what a cut at this moment would leave."""
        a = self.law.progress(t)
        if a == 0:  # nothing has moved yet: the mask that was given is the target
            return
        for name, (where, shape) in self._slices.items():
            if self.movement is not None:
                score = self.movement[where].clone()
            else:
                score = criteria.magnitude(self.module.get_parameter(name), shape).flatten()
            score[~alive[where]] = -math.inf
            pruned = int((~self.target[where]).sum())
            self.target[where] = ~lowest(score, pruned)
            alive[where] = ~lowest(score, round(a * pruned))

    def _follow(self, name: str, weight: Tensor, masked: Tensor) -> None:
        """Add ``-w * gradient`` of the coming backward pass to the movement of ``name``."""
        where, shape = self._slices[name]
        movement = self.movement

        def accumulate(gradient: Tensor) -> None:
            assert movement is not None
            moved = (weight.detach() * gradient).float()
            moved = moved if moved.shape == shape else moved.flatten(1).sum(1)
            movement[where] -= moved.flatten()

        masked.register_hook(accumulate)

    def _expand(self, leaders: dict[str, Tensor]) -> Mask:
        return Mask({**leaders, **{name: leaders[of].flatten() for name, of in self.tied.items()}}, self.tied)

    def _generator(self, *purpose: str | float) -> torch.Generator:
        """A generator of this child's own, a function of its seed and ``purpose`` alone."""
        key = b"".join(struct.pack("<d", p) if isinstance(p, float) else p.encode() for p in purpose)
        digest = hashlib.blake2b(key + str(self.seed).encode(), digest_size=8).digest()
        return torch.Generator(self.target.device).manual_seed(int.from_bytes(digest, "little") >> 1)

    # --- what the weights are ---------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's output under the mask of this step (training) or the target mask (eval)."""
        if torch.compiler.is_compiling():
            return functional_call(self.module, dict(self._masked()), args, kwargs)
        self._check_time()
        masked = dict(self._masked())
        output = functional_call(self.module, masked, args, kwargs)
        if torch.is_grad_enabled():
            self._mask_backward(output, masked)
        return output

    def _mask_backward(self, output: Any, masked: dict[str, Tensor]) -> None:
        """Let the module hold ``masked`` in the backward pass too, where checkpointing computes parts of it again."""
        names = set(masked)

        def hold(_: Tensor) -> None:
            own: dict[str, Tensor] = {n: weight for n, weight in self.module.named_parameters() if n in names}
            if not all(isinstance(weight, nn.Parameter) for weight in own.values()):  # it does already
                return
            if not masked:  # the second backward pass of one forward pass
                with torch.enable_grad():
                    masked.update(self._masked())
            stack = ExitStack()
            stack.enter_context(self._holding(masked, own))
            # Called when the pass is done. Where it fails the engine drops it, which ends the context too.
            torch.autograd.Variable._execution_engine.queue_callback(stack.close)

        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
                leaf.register_hook(hold)

    @contextmanager
    def _holding(self, masked: dict[str, Tensor], own: dict[str, Tensor]) -> Iterator[None]:
        """Within it the module holds ``masked``, and this the module's ``own`` parameters."""
        self._own = own
        try:
            with _reparametrize_module(self.module, masked, tie_weights=True):
                yield
        finally:
            self._own = {}
            masked.clear()

    def _masked(self) -> Iterator[tuple[str, Tensor]]:
        multiplier = self.multiplier if self.training else self.target
        for name, (where, shape) in self._slices.items():
            weight = self._weight(name)
            masked = weight * multiplier[where].view(shape)
            if self.movement is not None and masked.requires_grad and self.training:
                self._follow(name, weight, masked)
            yield name, masked
        for name, leader in self.tied.items():
            yield name, self._weight(name) * multiplier[self._slices[leader][0]]

    def _weight(self, name: str) -> Tensor:
        """The module's own parameter, also while the module holds a masked one in its place."""
        return self._own[name] if name in self._own else self.module.get_parameter(name)

    def _check_time(self) -> None:
        """``RuntimeError`` where the weights have moved on and the mask of the step has not."""
        if not (self.training and self._slices and self.law.epochs > 0 and torch.is_grad_enabled()):
            return
        _LIVE.add(self)
        if self.time is None:
            raise RuntimeError("call at(t), with t in epochs, before the first training step")
        if self.time < self.law.epochs and self._updated:
            raise RuntimeError(
                f"the weights have been updated since at({self.time:g}): call at(t) before every training step, "
                f"at least until the annealing ends at t = {self.law.epochs:g}"
            )

    def fold(self) -> nn.Module:
        """A copy of the module with the target mask applied: pruned weights are exactly 0."""
        plain = copy.deepcopy(self.module)
        masks.apply(plain, self.mask)
        return plain

    def _shuffle(self) -> None:
        generator = self._generator("shuffle")
        with torch.no_grad():
            for name, entry in self.mask.items():
                weight = self.module.get_parameter(name)
                pruned = (~entry).expand_as(weight)
                values = weight[pruned]
                weight[pruned] = values[torch.randperm(len(values), generator=generator, device=values.device)]

    def _hold(self) -> None:
        """Remember the weights, for :meth:`_restore` to undo an update of those that must not move."""
        self._held = {name: self.module.get_parameter(name).detach().clone() for name in self.mask}

    def _restore(self) -> None:
        """Put held weights back: the pruned ones, or those that the last step's mask hid."""
        if not self._held or self.time is None:
            return
        shown = torch.ones_like(self.target)
        if self.pruned_weights == "freeze":
            shown &= self.target
        if self.masked_weights == "freeze":
            shown &= self.multiplier.bool()
        with torch.no_grad():
            for name, value in self._held.items():
                where, shape = self._slices[self.tied.get(name, name)]
                entry = shown[where].view(shape) if name not in self.tied else shown[where]
                weight = self.module.get_parameter(name)
                weight.copy_(torch.where(entry, weight, value.to(weight.device)))


def _settle(child: Subnetwork, *_: Any) -> None:
    """Before its state is read: undo the last update of weights that must not move, as the next ``at`` would."""
    child._restore()


def _start_anew(child: Subnetwork, *_: Any) -> None:
    """After a state is loaded: what was drawn and held before it counts no more."""
    child.time = None
    child.multiplier = child.target
    if child.pruned_weights == "freeze":
        child._hold()


def _note_update(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Remember, after any optimiser's step, which subnetworks it has updated."""
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for child in _LIVE:
        child._updated |= any(id(parameter) in stepped for parameter in child.module.parameters())


_LIVE: weakref.WeakSet[Subnetwork] = weakref.WeakSet()
register_optimizer_step_post_hook(_note_update)


def _ranks() -> int:
    """How many processes train together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _random_bits(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """``count`` uniform int16 values, four to each 64-bit draw."""
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=device)
    return words.random_(-(1 << 63), None, generator=generator).view(torch.int16)[:count]


def _sample(bits: Tensor, mask: Tensor, kept: Probability, pruned: Probability) -> Tensor:
    """One draw from uniform int16 ``bits``: True with probability ``kept`` where ``mask`` is, else ``pruned``."""
    if isinstance(kept, Tensor) or isinstance(pruned, Tensor):
        return _below(bits, _either(mask, kept, pruned))
    return mask | _below(bits, pruned) if kept == 1 else torch.where(mask, _below(bits, kept), _below(bits, pruned))


def _below(bits: Tensor, p: Probability) -> Tensor:
    """True with probability ``p``, to 1/65536, from uniform int16 ``bits``; exact at 0 and 1."""
    half = RANDOM_LEVELS // 2
    if isinstance(p, Tensor):
        return bits < p * RANDOM_LEVELS - half
    level = round(p * RANDOM_LEVELS)
    if level >= RANDOM_LEVELS:  # the comparison would overflow int16
        return torch.ones_like(bits, dtype=torch.bool)
    return bits < level - half


def _either(mask: Tensor, kept: Probability, pruned: Probability) -> Tensor:
    """float32 of the mask's shape: ``kept`` where it is True, ``pruned`` elsewhere."""
    kept, pruned = (torch.as_tensor(p, dtype=torch.float32, device=mask.device) for p in (kept, pruned))
    return torch.where(mask, kept, pruned)
