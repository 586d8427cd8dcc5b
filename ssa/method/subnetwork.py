"""A model whose layers compute their weights from a mask that is annealed to its target."""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
import struct
import weakref
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from ssa.errors import choose
from ssa.method import criteria, masks
from ssa.method.criteria import lowest
from ssa.method.laws import Law, OneShot
from ssa.method.layout import Layout
from ssa.method.masked import Attached, Masked, check_free, places, product
from ssa.method.masks import Mask
from ssa.method.sampling import LEVELS, Bits, either

PRUNED_WEIGHTS = ("train", "freeze", "shuffle")
MASKED_WEIGHTS = ("update", "freeze")
ANOTHER = (
    "this state was saved by a child of another law, seed or mask's names, and would not go on as that one did: build "
    "the child as it was, or load the state of its module alone"
)
MOVED = (
    "at(), train() or eval() was called between a forward pass and its backward pass, which would be another mask's: "
    "call backward() first"
)

Pass = tuple[int, bool]  # what a forward pass was computed under: how often the mask had moved, and the module's mode


class Subnetwork(nn.Module):
    """``module`` as a child: from now on its masked layers compute their weights from ``mask``, annealed by ``law``.

    The module stays the object that it is, with its parameters, and may be used, wrapped and trained by itself. This is
    its handle, which moves time, folds and saves; calling it calls the module. The module is changed until
    :meth:`remove`; ``ValueError`` where it is a child already, since masks would multiply.

    Call :meth:`at` before each training step with the time in epochs: it fixes one sampled mask for all forward
    passes until the next call. The sampled mask is a pure function of ``seed`` and the time, so that ranks of a
    data-parallel job agree and a resumed child goes on bit for bit; ``ValueError`` where ranks were given different
    seeds, laws or masks. A child begins in training mode, as any new module. In eval mode, and from ``law.epochs`` on,
    the network is exactly the target subnetwork.
    ``epochs``, where given, is the length of training: a law that anneals for longer is refused, and so is a time
    beyond it.

    ``pruned_weights``: ``train`` them while they are sampled, ``freeze`` them at their starting values, or
    ``shuffle`` them within their tensor at the start. ``masked_weights``: whether momentum and weight decay
    ``update`` the weights that a step's mask hides, or ``freeze`` leaves them as they were. ``rescale`` divides
    sampled weights by p (the paper does not). ``regenerate`` draws anew at each step what the law otherwise keeps for
    each weight, such as random annealing's u: less memory, more time, the same numbers.
    """

    target: Tensor  # bool, the entries of all weights laid end to end by ``_layout``
    multiplier: Tensor  # of the coming training steps, laid so too; written in place as long as the child lives
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
        if not any(True for _ in module.parameters()):
            raise ValueError(f"{type(module).__name__} has no parameters, so that there is nothing to fine-tune")
        if any(isinstance(each, (Masked, Subnetwork)) for each in module.modules()):
            raise ValueError(
                f"{type(module).__name__} is, or holds, a child already, and masks would multiply: end that with its "
                "remove(), or wrap a deep copy of the parent"
            )
        masks.check(module, mask)
        self.__class__ = _calling(type(module))
        self.module = module
        self._attached: list[Attached] = []
        self._places: dict[str, tuple[Attached, str]] = {}
        self._lay(mask, _factor_type(law, rescale))
        self._start(
            mask,
            law,
            seed=seed,
            epochs=epochs,
            pruned_weights=pruned_weights,
            masked_weights=masked_weights,
            rescale=rescale,
            regenerate=regenerate,
        )
        self._attach()
        self.module.train()  # as any new module: in eval mode it would train under the target only
        _LIVE.add(self)

    def _lay(self, mask: Mapping[str, Tensor], factor: torch.dtype) -> None:
        """Lay the mask's entries end to end, so that one random draw and one comparison serve all tensors.

        In one order, whatever the mask's is: by name, and what is tied after what it is tied to.
        """
        weights = dict(self.module.named_parameters())
        if any(_sharded(weight) for weight in weights.values()):
            raise ValueError("the model is sharded already: make the child first, then shard it")
        self._order = list(weights)
        self._sizes = {name: weight.numel() for name, weight in weights.items()}
        self.tied = _tied(mask, self._order)
        entries = {name: mask[name] for name in sorted(mask) if name not in self.tied}
        self._kind = _kind(mask, factor)
        self._layout = Layout(
            {name: weights[name] if weights[name].shape == entry.shape else entry for name, entry in entries.items()}
        )
        device = next(iter(weights.values())).device
        self.target = torch.zeros(self._layout.count, dtype=torch.bool, device=device)
        self.multiplier = torch.zeros(self._layout.count, dtype=factor, device=device)

    def _start(
        self,
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
        """Begin at the start of training: the mask written in place, what the law draws drawn."""
        _check_settings(law, epochs, pruned_weights, masked_weights, regenerate)
        self.law = law
        self.seed = seed
        self.epochs = epochs
        self.pruned_weights = pruned_weights
        self.masked_weights = masked_weights
        self.rescale = rescale
        self.regenerate = regenerate
        self._held: dict[str, Tensor] = {}
        for name in self._layout:
            self._layout.view(self.target, name).copy_(mask[name])
        self.alive = torch.ones_like(self.target) if law.ranking else None
        self.movement = torch.zeros_like(self.target, dtype=torch.float32) if law.ranking == "movement" else None
        self._begin()
        self.drawn = None if regenerate else self._prepare()
        if type(law).__module__ != Law.__module__ and not law.ranking:
            self._check_law()
        self._check_ranks()
        if pruned_weights == "shuffle":
            self._shuffle()

    def _begin(self) -> None:
        """Forget all that depends on time: the next step shows the target until :meth:`at` is called."""
        self.time: float | None = None
        self._moves = 0  # how often the mask of a step has been drawn
        self._updated = False  # whether an optimiser has moved the weights since then
        self._unseen: Pass | None = None  # the first pass without gradients since then, which may be checkpointed
        self._seen = False  # whether it has been computed again
        self._fingerprint: tuple[int, ...] | None = None
        self._held.clear()
        self._pruned = {name: int((~self._layout.view(self.target, name)).sum()) for name in self._layout}
        self.multiplier.copy_(self.target)

    def _attach(self) -> None:
        """Let every layer that uses a masked weight compute it, tied ones too."""
        where, parameters = places(self.module), dict(self.module.named_parameters())
        owners: dict[nn.Module, dict[str, str]] = {}
        for name in (*self._layout, *self.tied):
            for owner, key in where[id(parameters[name])]:
                check_free(owner, name)
                owners.setdefault(owner, {})[key] = name
        for owner, names in owners.items():
            first = next(iter(names)) if not self._attached else None
            attached = Attached(owner, {key: Masked(self, name, key == first) for key, name in names.items()})
            self._attached.append(attached)
            self._places |= {name: (attached, key) for key, name in names.items()}

    def _check_law(self) -> None:
        state = self._state()
        for name in self._layout:
            own = None if state is None else self._layout.view(state, name)
            self.law.check(self._layout.view(self.target, name), own)

    def _check_ranks(self) -> None:
        """``ValueError`` where processes that train together would sample different masks."""
        if _ranks() == 1 or not self._layout:
            return
        drawn = () if self.drawn is None else (self.drawn,)
        own = [value.cpu().numpy().tobytes() for value in (self._digest(), self.target, *drawn)]
        found: list[Any] = [None] * _ranks()
        torch.distributed.all_gather_object(found, hashlib.blake2b(b"".join(own)).digest())
        if any(one != found[0] for one in found):
            raise ValueError("ranks differ in seed, law, mask or what is drawn: give all the same seed= and mask")

    def _prepare(self) -> Tensor | None:
        """What the law draws once for each weight: for each tensor a function of the seed and its name alone."""
        states = {}
        for name in self._layout:
            target, weight = self._layout.view(self.target, name), self._weight(name).detach()
            state = self.law.prepare(target, weight, self._generator("draw", name))
            if state is None:
                return None
            states[name] = state
        return self._layout.flatten(states) if states else None

    # --- being a module ---------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's output under the mask of this step (training) or the target mask (eval)."""
        self._running()
        if torch.is_grad_enabled() and not torch.compiler.is_compiling() and (overdue := self._overdue()):
            raise RuntimeError(overdue)
        return self.module(*args, **kwargs)

    def _running(self) -> Subnetwork:
        if "module" not in self._modules:
            raise RuntimeError("this child has ended with remove(): wrap the module anew")
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Subnetwork:
        super()._apply(fn, recurse)
        if not self._attached:
            self.move(fn)
        return self

    def move(self, fn: Any) -> None:
        """Take part in a move to another device or type: what counts and draws keeps its type."""
        for name in ("target", "multiplier", "alive", "movement", "drawn"):
            value = getattr(self, name)
            if value is not None:
                moved = fn(value)
                setattr(self, name, moved if moved.dtype == value.dtype else value.to(moved.device))
        self._held = {name: fn(value) for name, value in self._held.items()}

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *more: Any) -> None:
        """``RuntimeError``, before anything is loaded, where the state is another child's."""
        own = self._digest()
        for name, module in self.named_modules():
            if isinstance(module, Masked) and not torch.equal(state.get(f"{prefix}{name}.digest", own).cpu(), own):
                raise RuntimeError(ANOTHER)
        super()._load_from_state_dict(state, prefix, *more)

    def kept_state(self) -> dict[str, Tensor]:
        """What the child keeps beside the weights, as copies: an average of states does not reach it."""
        self._check_average()
        kept = {name: getattr(self, name) for name in ("target", "alive", "movement", "drawn")}
        kept |= {"strides": self._layout.strides(), "digest": self._digest()}
        return {name: value.clone() for name, value in kept.items() if value is not None}

    def load_kept_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`kept_state` returned; ``RuntimeError`` where it is another child's."""
        own = self._digest()
        if not torch.equal(state.get("digest", own).cpu(), own):
            raise RuntimeError(ANOTHER)
        if not torch.equal(state["strides"].cpu(), self._layout.strides()):
            raise RuntimeError(
                "this state was saved for weights in another memory format (channels-last or not): its masks would be "
                "misread; convert the module as it was then and wrap it anew"
            )
        for name in ("target", "alive", "movement", "drawn"):
            own, value = getattr(self, name), state.get(name)
            if (own is None) != (value is None):
                raise RuntimeError(f"this state and the child differ in {name}: give the child the same regenerate=")
            if value is not None:
                own.copy_(value)
        self._begin()

    def _digest(self) -> Tensor:
        """What a state is of: the law, the seed and the names of the masked tensors."""
        law = [type(self.law).__qualname__, *(_worded(getattr(self.law, each.name)) for each in fields(self.law))]
        said = "\n".join([*law, str(self.seed), *self._layout])
        return torch.tensor(list(hashlib.blake2b(said.encode(), digest_size=8).digest()), dtype=torch.uint8)

    def __deepcopy__(self, memo: dict[int, Any]) -> Subnetwork:
        twin = self.__new__(type(self))
        memo[id(self)] = twin
        fingerprint = (self._fingerprint or self._weights_now()) if self._ranks_anew() else None
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        twin._fingerprint = fingerprint
        _LIVE.add(twin)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """For ``torch.save`` and processes: the plain module, and what the child knows."""
        twin = copy.deepcopy(self)
        module = twin.remove()
        state = {key: value for key, value in twin.__dict__.items() if key not in ("_attached", "_places")}
        return _restored, (module, state)

    # --- what the mask is -------------------------------------------------------------------------------------

    def at(self, t: float) -> None:
        """Set the time to ``t`` epochs since the child's first step and draw the mask of the coming step.

        ``ValueError`` where a mask that is ranked anew would go back in time. A pass that was begun before cannot be
        gone back through after it: its backward pass is a ``RuntimeError``.
        """
        self._running()
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
        if self.law.ranking and self.time is not None and t < self.time:
            raise ValueError(
                f"at({t:g}) goes back from {self.time:g}, but a mask that is ranked anew has lost what was before: "
                "build the child again, or load a state of then"
            )
        self._check_sharding()
        self._restore()
        exact = self.time is not None and self.law.epochs <= min(self.time, t)
        self.time = t
        if not exact:
            if self.alive is not None:
                self._rerank(t, self.alive)
            self.multiplier.copy_(self._multiplier(t))
            self._moves += 1
        if self.masked_weights == "freeze" or self.movement is not None or not self._held:
            self._hold()
        if self._seen:
            self._unseen, self._seen = None, False
        self._updated = False
        self._fingerprint = None

    def sample(self, generator: torch.Generator) -> Mask:
        """A mask drawn with the keep-probabilities of the present time."""
        seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
        return self._expand(self._draw(0.0 if self.time is None else self.time, seed))

    @property
    def mask(self) -> Mask:
        """The target mask."""
        self._running()._check_average()
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
            each = self._sizes[name] // self._layout.shape(name).numel()
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
            size, weights = self._layout.shape(name).numel(), self._sizes[name]
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
        counts = torch.tensor([round(a * number) for number in self._pruned.values()]).int()
        if self.target.is_cuda:  # no step waits for the copy
            counts = counts.pin_memory().to(self.target.device, non_blocking=True)
        return counts.repeat_interleave(self._layout.sizes(self.target.device), output_size=self._layout.count)

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
                score = criteria.magnitude(self._weight(name), target.shape)
            ranked = score.masked_fill(~here, -math.inf).flatten()
            target.copy_(~lowest(ranked, number).view(target.shape))
            here.copy_(~lowest(ranked, round(a * number)).view(target.shape))

    def _follow(self, stepped: set[int]) -> None:
        """Add ``-w * gradient`` of the ``stepped`` weights, as the optimiser saw both, to the movement."""
        assert self.movement is not None
        if self.time is None or self.time >= self.law.epochs:
            return
        for name in self._layout:
            weight, movement = self._weight(name), self._layout.view(self.movement, name)
            if id(weight) in stepped and weight.grad is not None:
                moved = (self._held[name] * weight.grad).float()
                movement.sub_(moved if moved.shape == movement.shape else moved.flatten(1).sum(1).view(movement.shape))

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

    @property
    def weights(self) -> dict[str, Tensor]:
        """The module's own parameters, masked ones as they are without the mask, by the names of a plain module."""
        return {name: self._weight(name) for name in self._order}

    def _weight(self, name: str) -> Tensor:
        if name in self._places:
            attached, key = self._places[name]
            return attached.weight(key)
        return self.module.get_parameter(name)

    def masked(self, name: str, weight: Tensor) -> Tensor:
        """``weight``, called ``name``, as a forward pass that runs now uses it."""
        if torch.compiler.is_compiling():
            return product(weight, self._entry(self._shown(), name))
        under = (self._moves, self.module.training)
        wrong = self._look(under)
        masked = product(weight, self._entry(self._shown(), name))
        if masked.requires_grad:  # only now is the weight used, and not just read
            masked.register_hook(partial(self._check_backward, under, wrong))
        return masked

    def folded(self, name: str, weight: Tensor) -> Tensor:
        """``weight``, called ``name``, under the target mask."""
        self._check_average()
        return torch.where(self._entry(self.target, name), weight, 0)

    def _entry(self, flat: Tensor, name: str) -> Tensor:
        """What of ``flat`` belongs to the weight ``name``."""
        return self._layout.part(flat, self.tied[name]) if name in self.tied else self._layout.view(flat, name)

    def _shown(self) -> Tensor:
        """What weights are multiplied by now: in training by the step's mask, in eval by the target."""
        if self.module.training:
            return self.multiplier
        if not torch.compiler.is_compiling():
            self._check_average()
        return _factor(self.target)

    def _look(self, under: Pass) -> str | None:
        """What is wrong with going backward through a pass that uses a weight ``under`` these."""
        if torch._C._current_graph_task_id() != -1:  # a backward pass computes a checkpointed part again
            self._seen = True
            return None if self._unseen in (None, under) else MOVED
        if torch.is_grad_enabled():
            return self._overdue()
        if self.module.training and not self._updated and self._unseen is None:
            self._unseen = under
        return None

    def _check_backward(self, under: Pass, wrong: str | None, _: Tensor) -> None:
        wrong = wrong or (None if under == (self._moves, self.module.training) else MOVED)
        if wrong:
            raise RuntimeError(wrong)

    def _overdue(self) -> str | None:
        """What to do where the weights have moved on and the mask of the step has not."""
        if not (self.module.training and self._layout and self.law.epochs > 0):
            return None
        if self.time is None:
            return "call at(t), with t in epochs, before the first training step"
        if self.time < self.law.epochs and self._updated:
            return (
                f"the weights have been updated since at({self.time:g}): call at(t) before every training step, "
                f"at least until the annealing ends at t = {self.law.epochs:g}"
            )
        return None

    def _check_sharding(self) -> None:
        """``RuntimeError`` where FSDP has sharded weights whose values the child itself must see."""
        sees = self.law.ranking or "freeze" in (self.pruned_weights, self.masked_weights)
        if sees and any(_sharded(self._weight(name)) for name in self._places):
            raise RuntimeError(
                f"the weights are sharded, but {self.law} with pruned_weights={self.pruned_weights!r} and "
                f"masked_weights={self.masked_weights!r} must see them whole: train without FSDP, or choose another law"
            )

    def _ranks_anew(self) -> bool:
        """Whether the target may still change."""
        return bool(self.law.ranking) and not (self.time is not None and self.time >= self.law.epochs)

    def _weights_now(self) -> tuple[int, ...]:
        """A number for each masked weight, which any change of its values changes."""
        weights = (self._weight(name).detach().double() for name in self._layout)
        return tuple(int(weight.view(torch.int64).sum()) for weight in weights)

    def _check_average(self) -> None:
        """``RuntimeError`` where this is a copy into which weights were averaged, whose mask did not come along."""
        if self._fingerprint is not None and self._fingerprint != self._weights_now():
            raise RuntimeError(
                "the weights of this copy were changed by no optimiser, as an average's are, and a mask that is still "
                f"ranked anew did not follow: begin averages when the annealing is over, at t = {self.law.epochs:g}"
            )

    def fold(self) -> nn.Module:
        """A copy of the module as an ordinary one, with the target mask applied: pruned weights are exactly 0."""
        mask = self.mask
        if any(_sharded(weight) for weight in self.weights.values()):
            raise RuntimeError("the weights are sharded: gather them first, and load them into an unsharded child")
        plain = copy.deepcopy(self).remove()
        masks.apply(plain, mask)
        return plain

    def remove(self) -> nn.Module:
        """End the child: the module as an ordinary one again, its weights as they are, pruned ones too."""
        module: nn.Module = self._running().module
        if any(_sharded(weight) for weight in self.weights.values()):
            raise RuntimeError("the weights are sharded, and FSDP holds on to the layers as they are: keep the child")
        for attached in self._attached:
            attached.restore()
        self._attached.clear()
        self._places.clear()
        del self.module
        _LIVE.discard(self)
        return module

    def takes(self, mask: Mapping[str, Tensor], law: Law, rescale: bool = False) -> bool:
        """Whether :meth:`restart` could go on with ``mask`` and ``law``: masks of the same weights and of one type."""
        return self._kind == _kind(mask, _factor_type(law, rescale))

    def restart(self, parent: nn.Module, mask: Mapping[str, Tensor], law: Law, **settings: Any) -> None:
        """Become a fresh child of ``parent`` in the same module: no tensor moves, and nothing is compiled again.

        Weights and buffers of ``parent``, a plain model of the module's architecture, are copied in, and the mask is
        written in place; gradients are gone, and the optimiser should be a fresh one. ``settings``: as of the class.
        ``ValueError`` where the child does not take them (see :meth:`takes`) or ``parent`` is of another architecture.
        """
        masks.check(parent, mask)
        if not self._running().takes(mask, law, settings.get("rescale", False)):
            raise ValueError("a mask of other weights, or multipliers of another type: wrap a copy of the parent anew")
        theirs = dict(parent.named_parameters()) | dict(parent.named_buffers())
        own = self.weights | dict(self.module.named_buffers())
        if {name: value.shape for name, value in theirs.items()} != {name: value.shape for name, value in own.items()}:
            raise ValueError(f"{type(parent).__name__} is of another architecture than the child's module")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(theirs[name])
                value.grad = None
        self.module.train()
        self._start(mask, law, **settings)

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
        with torch.no_grad():
            for name in probe._places:
                weight = probe._weight(name)
                weight.copy_(product(weight, probe._entry(probe.multiplier, name)))
        return probe.remove()

    def _shuffle(self) -> None:
        generator = self._generator("shuffle")
        with torch.no_grad():
            for name, entry in self.mask.items():
                weight = self._weight(name)
                pruned = (~entry).expand_as(weight)
                values = weight[pruned]
                weight[pruned] = values[torch.randperm(len(values), generator=generator, device=values.device)]

    def _hold(self) -> None:
        """Remember the weights, for :meth:`_restore` to undo an update of those that must not move."""
        if self.movement is not None or "freeze" in (self.pruned_weights, self.masked_weights):
            self._held = {name: self._weight(name).detach().clone() for name in self._places}

    def _restore(self) -> None:
        """Put held weights back: the pruned ones, or those that the last step's mask hid."""
        frozen = "freeze" in (self.pruned_weights, self.masked_weights)
        if not (frozen and self._held) or self.time is None:
            return
        shown = torch.ones_like(self.target)
        if self.pruned_weights == "freeze":
            shown &= self.target
        if self.masked_weights == "freeze":
            shown &= self.multiplier.bool()
        with torch.no_grad():
            for name, value in self._held.items():
                weight = self._weight(name)  # an optimiser may step within the backward pass
                weight.copy_(torch.where(self._entry(shown, name), weight, value.to(weight.device)))

    def after_step(self, stepped: set[int], found_inf: Tensor | None) -> None:
        """Follow an optimiser that has updated the weights of these ids: count, and undo what must not move.

        ``found_inf``: 1 where a GradScaler had an optimiser that looks at it itself change nothing; None for others,
        whose step is not called then.
        """
        if self.movement is not None and not bool(found_inf):
            self._follow(stepped)
        self._updated = True
        self._unseen, self._seen, self._fingerprint = None, False, None
        self._restore()


def within(model: nn.Module) -> Subnetwork | None:
    """The child that ``model`` is, also without its handle, or wraps, as ``torch.compile`` and DataParallel do.

    None for a plain model. ``ValueError`` where it holds several children, part of one, or weights beside one.
    """
    found = {id(child): child for child in map(_child_of, model.modules()) if child is not None}
    if not found:
        return None
    child = next(iter(found.values()))
    own = child._running().weights.values()
    if {id(weight) for weight in model.parameters()} != {id(weight) for weight in own}:
        raise ValueError(f"{type(model).__name__} holds more than one subnetwork's weights; ask for a subnetwork alone")
    return child


def _calling(kind: type[nn.Module]) -> type[Subnetwork]:
    """The class of children of ``kind``: programs such as transformers' Trainer look at what its ``forward`` takes."""

    def forward(self: Subnetwork, *args: Any, **kwargs: Any) -> Any:
        return Subnetwork.forward(self, *args, **kwargs)

    if kind not in _CALLING:
        forward.__signature__ = inspect.signature(kind.forward)  # type: ignore[attr-defined]
        own = {"forward": forward, "__module__": Subnetwork.__module__}
        _CALLING[kind] = type(Subnetwork.__name__, (Subnetwork,), own)
    return _CALLING[kind]


def _child_of(module: nn.Module) -> Subnetwork | None:
    if isinstance(module, Masked):
        return module.child
    return module if isinstance(module, Subnetwork) else None


def _check_settings(law: Law, epochs: float, pruned_weights: str, masked_weights: str, regenerate: bool) -> None:
    """``TypeError`` or ``ValueError`` naming the setting of a child that cannot be."""
    if not isinstance(law, Law):
        raise TypeError(f"law is {law!r}; it is an instance such as ssa.TemperatureAnnealing(epochs=5)")
    if law.epochs == 0 and not isinstance(law, OneShot):
        raise ValueError(f"{law} anneals for 0 epochs, as OneShot does: give it epochs=, or choose OneShot")
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
        raise ValueError(f"{law} chooses the pruned weights anew: they cannot be frozen, leave pruned_weights at train")


def _factor_type(law: Law, rescale: bool) -> torch.dtype:
    """The type of the numbers that weights are multiplied by: bytes, by which CPUs multiply faster than by bools."""
    return torch.float32 if getattr(law, "expected", False) or rescale else torch.uint8


def _kind(mask: Mapping[str, Tensor], factor: torch.dtype) -> tuple[Any, ...]:
    """What children of one module share: which weights are masked and tied, how, and by numbers of which type."""
    tied = getattr(mask, "tied", {})
    return sorted((name, tuple(entry.shape)) for name, entry in mask.items()), sorted(tied.items()), factor


def _tied(mask: Mapping[str, Tensor], order: list[str]) -> dict[str, str]:
    """What is tied to what, in the model's order of leaders and then of what goes with them."""
    number = {name: place for place, name in enumerate(order)}
    tied = getattr(mask, "tied", {})
    return dict(sorted(tied.items(), key=lambda each: (number[each[1]], number[each[0]])))


def _sharded(weight: Tensor) -> bool:
    """Whether FSDP has given each process a part of it."""
    return hasattr(weight, "full_tensor")


def _worded(value: object) -> str:
    """A law's setting as text that is the same in every process."""
    if isinstance(value, partial):
        return f"{_worded(value.func)} {value.args} {value.keywords}"
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return repr(float(value)) if isinstance(value, (int, float)) else repr(value)


def _factor(mask: Tensor) -> Tensor:
    """The same bytes as numbers."""
    return mask.view(torch.uint8)


def _restored(module: nn.Module, state: dict[str, Any]) -> Subnetwork:
    """The child that :meth:`Subnetwork.__reduce__` took apart."""
    child = Subnetwork.__new__(_calling(type(module)))
    child.__dict__.update(state, _attached=[], _places={})
    child.module = module
    child._attach()
    _LIVE.add(child)
    return child


def _note_update(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """After any optimiser's step, which a GradScaler may have made it skip: let the children that it updates follow."""
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for child in list(_LIVE):
        if any(id(parameter) in stepped for parameter in child.module.parameters()):
            child.after_step(stepped, getattr(optimizer, "found_inf", None))


_CALLING: weakref.WeakKeyDictionary[type[nn.Module], type[Subnetwork]] = weakref.WeakKeyDictionary()
_LIVE: weakref.WeakSet[Subnetwork] = weakref.WeakSet()
register_optimizer_step_post_hook(_note_update)


def _ranks() -> int:
    """How many processes train together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
