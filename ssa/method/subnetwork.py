"""A module whose weights are multiplied by a mask that is annealed to its target."""

from __future__ import annotations

import copy
import hashlib
import math
import struct
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.stateless import _reparametrize_module
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._pytree import tree_leaves

from ssa.errors import choose
from ssa.method import criteria, masks
from ssa.method.criteria import lowest
from ssa.method.laws import Law, OneShot
from ssa.method.layout import Layout
from ssa.method.masks import Mask
from ssa.method.sampling import LEVELS, Bits, either

PRUNED_WEIGHTS = ("train", "freeze", "shuffle")
MASKED_WEIGHTS = ("update", "freeze")


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
    strides: Tensor
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
        if not isinstance(law, Law):
            raise TypeError(f"law is {law!r}; it is an instance such as ssa.TemperatureAnnealing(epochs=5)")
        if law.epochs == 0 and not isinstance(law, OneShot):
            raise ValueError(f"{law} anneals for 0 epochs, as OneShot does: give it epochs=, or choose OneShot")
        if not any(True for _ in module.parameters()):
            raise ValueError(f"{type(module).__name__} has no parameters, so that there is nothing to fine-tune")
        if law.epochs > epochs:
            raise ValueError(
                f"{type(law).__name__} anneals for {law.epochs:g} epochs, longer than the training of {epochs:g}; "
                "shorten the law's epochs"
            )
        if regenerate and not law.regenerable:
            raise ValueError(f"{law} depends on the starting weights, which move: leave regenerate at False")
        choose("pruned_weights", pruned_weights, PRUNED_WEIGHTS)
        choose("masked_weights", masked_weights, MASKED_WEIGHTS)
        if law.ranking and pruned_weights == "freeze":
            raise ValueError(
                f"{law} chooses the pruned weights anew: they cannot be frozen, leave pruned_weights at train"
            )
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
        self._register(mask)
        if type(law).__module__ != Law.__module__ and not law.ranking:
            self._check_law()
        self._held: dict[str, Tensor] = {}
        if pruned_weights == "shuffle":
            self._shuffle()
        elif pruned_weights == "freeze":
            self._hold()
        self.register_state_dict_pre_hook(_settle)
        self.register_load_state_dict_pre_hook(_check_state)
        self.register_load_state_dict_post_hook(_start_anew)
        _LIVE.add(self)

    def _register(self, mask: Mapping[str, Tensor]) -> None:
        """Lay the mask's entries end to end, so that one random draw and one comparison serve all tensors."""
        weights = dict(self.module.named_parameters())
        leaders = {name: entry for name, entry in mask.items() if name not in self.tied}
        self._layout = Layout(
            {name: weights[name] if weights[name].shape == entry.shape else entry for name, entry in leaders.items()}
        )
        device = next(iter(weights.values())).device
        target = torch.zeros(self._layout.count, dtype=torch.bool, device=device)
        for name, entry in leaders.items():
            self._layout.view(target, name).copy_(entry)
        self.register_buffer("target", target)
        self._count()
        self.register_buffer("multiplier", _factor(target), persistent=False)
        self.register_buffer("strides", self._layout.strides())
        self.register_buffer("alive", torch.ones_like(target) if self.law.ranking else None)
        moves = self.law.ranking == "movement"
        self.register_buffer("movement", torch.zeros_like(target, dtype=torch.float32) if moves else None)
        self.register_buffer("drawn", None if self.regenerate else self._prepare())

    def _count(self) -> None:
        """How many weights (or neurons) of each tensor the target prunes."""
        self._pruned = {name: int((~self._layout.view(self.target, name)).sum()) for name in self._layout}

    def _check_law(self) -> None:
        state = self._state()
        for name in self._layout:
            own = None if state is None else self._layout.view(state, name)
            self.law.check(self._layout.view(self.target, name), own)

    def get_extra_state(self) -> Tensor:
        """A digest of what a state is of: the law, the seed and the names of the masked tensors."""
        law = [type(self.law).__qualname__, *(_worded(getattr(self.law, each.name)) for each in fields(self.law))]
        said = "\n".join([*law, str(self.seed), *self._layout])
        return torch.tensor(list(hashlib.blake2b(said.encode(), digest_size=8).digest()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing is to be set: :func:`_check_state` has compared it."""

    def _apply(self, fn: Any, recurse: bool = True) -> Subnetwork:
        """As of any module, but what counts and draws keeps its type where weights become half as long."""
        own = {name: getattr(self, name) for name in ("multiplier", "movement", "drawn")}
        super()._apply(fn, recurse)
        self._held = {name: fn(value) for name, value in self._held.items()}
        for name, value in own.items():
            moved = getattr(self, name)
            if value is not None and moved.dtype != value.dtype:
                setattr(self, name, value.to(moved.device))
        return self

    def __getstate__(self) -> dict[str, Any]:
        """For ``torch.save``, which refuses the same bytes under two types."""
        buffers = {**self._buffers, "multiplier": self.multiplier.clone()}
        return {**super().__getstate__(), "_buffers": buffers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """For copies and what was loaded, which optimisers update too."""
        super().__setstate__(state)
        _LIVE.add(self)

    def _prepare(self) -> Tensor | None:
        """What the law draws once for each weight: for each tensor a function of the seed and its name alone."""
        states = {}
        for name in self._layout:
            target, weight = self._layout.view(self.target, name), self.module.get_parameter(name).detach()
            state = self.law.prepare(target, weight, self._generator("draw", name))
            if state is None:
                return None
            states[name] = state
        return self._layout.flatten(states) if states else None

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
        exact = self.time is not None and self.law.epochs <= min(self.time, t)
        self.time = t
        if not exact:
            if self.alive is not None:
                self._rerank(t, self.alive)
            self.multiplier = self._multiplier(t)
        if self.masked_weights == "freeze":
            self._hold()
        self._updated = False

    def sample(self, generator: torch.Generator) -> Mask:
        """A mask drawn with the keep-probabilities of the present time."""
        seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
        return self._expand(self._draw(0.0 if self.time is None else self.time, seed))

    @property
    def mask(self) -> Mask:
        """The target mask."""
        return self._expand(self.target)

    def keep_probability(self, name: str) -> Tensor:
        """p of each weight (of each neuron) of ``name`` at the present time: float32 of the mask's shape."""
        leader = self.tied.get(name, name)
        if leader not in self._layout:
            raise KeyError(f"{name!r} has no mask; masked are {', '.join(self._layout)}")
        p = self._keep(leader, 0.0 if self.time is None else self.time, self._state())
        return p if name == leader else p.flatten()

    def keep_pruned(self, t: float) -> float:
        """The mean keep-probability of all pruned weights at time ``t``; NaN where nothing is pruned."""
        total, count = 0.0, 0
        state = self._state()
        for name, number in self._pruned.items():
            each = self.module.get_parameter(name).numel() // self._layout.shape(name).numel()
            if self.law.ranking:  # whichever they are, so many are still here
                kept = float(number - round(self.law.progress(t) * number))
            else:
                pruned = ~self._layout.view(self.target, name)
                kept = float(self._keep(name, t, state)[pruned].double().sum())
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
            size, weights = self._layout.shape(name).numel(), self.module.get_parameter(name).numel()
            if self.law.ranking:
                kept = float(size - round(self.law.progress(t) * number))
            else:
                p = self._keep(name, t, state)
                kept = float((p > 0 if self.law.expected else p).sum(dtype=torch.float64))
            total += kept * (weights // size)
            count += weights
        return total / count if count else 1.0

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
        """What the weights are multiplied by in the step at time ``t``, laid end to end."""
        if self.law.expected:
            return self._expected(t)
        drawn = self._draw(t, self._seed("mask", t))
        if self.rescale:
            return drawn / self._expected(t).clamp_min(1 / LEVELS)
        return _factor(drawn)

    def _expected(self, t: float) -> Tensor:
        state = self._state()
        return self._layout.flatten({name: self._keep(name, t, state) for name in self._layout} or {"": self.target})

    def _draw(self, t: float, seed: int) -> Tensor:
        """One mask drawn with the keep-probabilities of time ``t``: bool, laid end to end."""
        if not self._layout or t >= self.law.epochs:
            return self.target
        if self.alive is not None:
            return self.alive.clone()
        a, state, device = self.law.progress(t), self._state(), self.target.device
        if self.law.elementwise:
            return self.law.sample(a, self.target, state, Bits(self.target.shape, seed, device))
        drawn = {}
        for number, name in enumerate(self._layout):
            target = self._layout.view(self.target, name)
            own = None if state is None else self._layout.view(state, name)
            drawn[name] = self.law.sample(a, target, own, Bits(target.shape, seed + number, device))
        return self._layout.flatten(drawn)

    def _rerank(self, t: float, alive: Tensor) -> None:
        """Remove the weights whose turn has come, and let the target be what a cut at this moment would leave."""
        a = self.law.progress(t)
        if a == 0:  # nothing has moved yet: the mask that was given is the target
            return
        for name, number in self._pruned.items():
            target, here = (self._layout.view(flat, name) for flat in (self.target, alive))
            if self.movement is not None:
                score = self._layout.view(self.movement, name)
            else:
                score = criteria.magnitude(self.module.get_parameter(name), target.shape)
            ranked = score.masked_fill(~here, -math.inf).flatten()
            target.copy_(~lowest(ranked, number).view(target.shape))
            here.copy_(~lowest(ranked, round(a * number)).view(target.shape))

    def _follow(self, name: str, weight: Tensor, masked: Tensor) -> None:
        """Add ``-w * gradient`` of the coming backward pass to the movement of ``name``."""
        assert self.movement is not None
        movement = self._layout.view(self.movement, name)

        def accumulate(gradient: Tensor) -> None:
            moved = (weight.detach() * gradient).float()
            movement.sub_(moved if moved.shape == movement.shape else moved.flatten(1).sum(1).view(movement.shape))

        masked.register_hook(accumulate)

    def _expand(self, flat: Tensor) -> Mask:
        leaders = {name: self._layout.view(flat, name) for name in self._layout}
        return Mask({**leaders, **{name: leaders[of].flatten() for name, of in self.tied.items()}}, self.tied)

    def _generator(self, *purpose: str | float) -> torch.Generator:
        """A generator of this child's own, a function of its seed and ``purpose`` alone."""
        return torch.Generator(self.target.device).manual_seed(self._seed(*purpose))

    def _seed(self, *purpose: str | float) -> int:
        """A number in [0, 2^63), a function of this child's seed and ``purpose`` alone."""
        key = b"".join(struct.pack("<d", p) if isinstance(p, float) else p.encode() for p in purpose)
        digest = hashlib.blake2b(key + str(self.seed).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

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
        names, multiplier = set(masked), self._shown()

        def hold(_: Tensor) -> None:
            own: dict[str, Tensor] = {n: weight for n, weight in self.module.named_parameters() if n in names}
            if not all(isinstance(weight, nn.Parameter) for weight in own.values()):  # it does already
                return
            if not masked:  # the second backward pass of one forward pass
                with torch.enable_grad():
                    masked.update(self._masked(multiplier))
            stack = ExitStack()
            stack.enter_context(self._holding(masked, own))
            # Called when the pass is done. Where it fails the engine drops it, which ends the context too.
            torch.autograd.Variable._execution_engine.queue_callback(stack.close)

        for tensor in _tensors(output):
            if tensor.grad_fn is not None:
                tensor.register_hook(hold)

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

    def _masked(self, multiplier: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        """The masked weights of a forward pass, by default of one that begins now."""
        multiplier = self._shown() if multiplier is None else multiplier
        for name in self._layout:
            weight = self._weight(name)
            masked = (weight * self._layout.view(multiplier, name)).to(weight.dtype)
            if self.movement is not None and masked.requires_grad and self.training:
                self._follow(name, weight, masked)
            yield name, masked
        for name, leader in self.tied.items():
            weight = self._weight(name)
            yield name, (weight * self._layout.part(multiplier, leader)).to(weight.dtype)

    def _shown(self) -> Tensor:
        """What weights are multiplied by now: in training by the step's mask, in eval by the target."""
        return self.multiplier if self.training else _factor(self.target)

    def _weight(self, name: str) -> Tensor:
        """The module's own parameter, also while the module holds a masked one in its place."""
        if name in self._own:
            return self._own[name]
        owner, _, key = name.rpartition(".")
        weight: Tensor = getattr(self.module.get_submodule(owner), key)  # no Parameter within functional_call
        return weight

    def _check_time(self) -> None:
        """``RuntimeError`` where the weights have moved on and the mask of the step has not."""
        if not (self.training and self._layout and self.law.epochs > 0 and torch.is_grad_enabled()):
            return
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

    def samples_at(self, t: float) -> bool:
        """Return whether chance decides the mask of a step at time ``t``: whether any p lies between 0 and 1."""
        if t >= self.law.epochs or self.law.expected or self.law.ranking:
            return False
        p = self._expected(t)
        return bool(((p > 0) & (p < 1)).any())

    def as_used(self, t: float, seed: int) -> nn.Module:
        """A copy of the module with the weights that a training step at time ``t`` uses, its mask drawn with ``seed``.

        The child itself stays as it is.
        """
        probe = copy.deepcopy(self)
        probe.seed = seed
        probe.at(t)
        plain = copy.deepcopy(self.module)
        with torch.no_grad():
            for name, masked in probe._masked(probe.multiplier):
                plain.get_parameter(name).copy_(masked)
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
        self._held = {name: self._weight(name).detach().clone() for name in self.mask}

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
                entry = (
                    self._layout.part(shown, self.tied[name]) if name in self.tied else self._layout.view(shown, name)
                )
                weight = self._weight(name)  # an optimiser may step within the backward pass
                weight.copy_(torch.where(entry, weight, value.to(weight.device)))


def within(model: nn.Module) -> Subnetwork | None:
    """``model`` if it is a subnetwork, or the one that it wraps, as ``torch.compile`` and DataParallel do.

    ``ValueError`` where it holds several, or weights beside one.
    """
    found = [module for module in model.modules() if isinstance(module, Subnetwork)]
    if not found:
        return None
    if {id(weight) for weight in model.parameters()} != {id(weight) for weight in found[0].parameters()}:
        raise ValueError(f"{type(model).__name__} holds more than one subnetwork's weights; ask for a subnetwork alone")
    return found[0]


def _worded(value: object) -> str:
    """A law's setting as text that is the same in every process."""
    if isinstance(value, partial):
        return f"{_worded(value.func)} {value.args} {value.keywords}"
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return repr(float(value)) if isinstance(value, (int, float)) else repr(value)


def _tensors(output: Any, depth: int = 3) -> list[Tensor]:
    """The tensors of ``output``, those too that lie ``depth`` objects deep, into which PyTorch does not look."""
    found = []
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif not depth or isinstance(leaf, (type, nn.Module)):
            continue
        elif is_dataclass(leaf):
            found += _tensors([getattr(leaf, each.name) for each in fields(leaf)], depth - 1)
        elif hasattr(leaf, "__dict__") and not callable(leaf):
            found += _tensors(vars(leaf), depth - 1)
    return found


def _factor(mask: Tensor) -> Tensor:
    """The same bytes as numbers, by which CPUs multiply three times faster than by bools."""
    return mask.view(torch.uint8)


def _check_state(child: Subnetwork, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """``RuntimeError``, before anything is loaded, where the state is another child's; older ones do not say."""
    own = child.get_extra_state()
    if not torch.equal(state.setdefault(f"{prefix}_extra_state", own).cpu(), own):
        raise RuntimeError(
            "this state was saved by a child of another law, seed or mask's names, and would not go on as that one "
            "did: build the child as it was, or load the state of its module alone"
        )


def _settle(child: Subnetwork, *_: Any) -> None:
    """Before its state is read: undo the last update of weights that must not move, as the next ``at`` would."""
    child._restore()


def _start_anew(child: Subnetwork, *_: Any) -> None:
    """After a state is loaded: what was drawn and held before it counts no more."""
    if not torch.equal(child.strides.cpu(), child._layout.strides()):
        raise RuntimeError(
            "this state was saved for weights in another memory format (channels-last or not): its masks would be "
            "misread; convert the module as it was then and wrap it anew"
        )
    child.time = None
    child._count()
    child.multiplier = _factor(child.target)
    if child.pruned_weights == "freeze":
        child._hold()


def _note_update(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """After any optimiser's step: remember which subnetworks it has updated, and undo what must not move."""
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for child in _LIVE:
        if any(id(parameter) in stepped for parameter in child.module.parameters()):
            child._updated = True
            child._restore()


_LIVE: weakref.WeakSet[Subnetwork] = weakref.WeakSet()
register_optimizer_step_post_hook(_note_update)


def _ranks() -> int:
    """How many processes train together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
