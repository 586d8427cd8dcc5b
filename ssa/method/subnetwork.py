"""A model whose layers compute their weights from a mask that is annealed to its target."""

from __future__ import annotations

import copy
import inspect
import math
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from ssa.method import masks
from ssa.method.child import averages, ranking, ranks, settings, state, updates
from ssa.method.child.drawing import Annealed, as_numbers
from ssa.method.child.layers import Layers, Masked, product
from ssa.method.child.passes import MOVED, Pass, Passes
from ssa.method.child.settings import Settings
from ssa.method.copying import without_history
from ssa.method.laws import Law
from ssa.method.masks import Mask

FLAT = ("target", "alive", "movement", "drawn")  # what is kept of a child beside its weights


class Subnetwork(Annealed):
    """``module`` as a child: from now on its masked layers compute their weights from ``mask``, annealed by ``law``.

    The module stays the object that it is, with its parameters, and may be used, wrapped and trained by itself. This is
    its handle, which moves time, folds and saves; calling it calls the module. The module is changed until
    :meth:`remove`; ``ValueError`` if it is a child already, since masks would multiply.

    Call :meth:`at` before each training step with the time in epochs: it fixes one sampled mask for all forward
    passes until the next call. The sampled mask is a pure function of ``seed`` and the time, so that ranks of a
    data-parallel job agree and a resumed child goes on bit for bit; ``ValueError`` if ranks were given different
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

    epochs: float
    pruned_weights: str
    masked_weights: str

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
        weights = dict(module.named_parameters())
        if not weights:
            raise ValueError(f"{type(module).__name__} has no parameters, so that there is nothing to fine-tune")
        if any(isinstance(each, (Masked, Subnetwork)) for each in module.modules()):
            raise ValueError(
                f"{type(module).__name__} is, or holds, a child already, and masks would multiply: end that with its "
                "remove(), or wrap a deep copy of the parent"
            )
        told: Settings = {
            "seed": seed,
            "epochs": epochs,
            "pruned_weights": pruned_weights,
            "masked_weights": masked_weights,
            "rescale": rescale,
            "regenerate": regenerate,
        }
        settings.check(law, told)
        masks.check(module, mask)
        if any(map(ranks.sharded, weights.values())):
            raise ValueError("the model is sharded already: make the child first, then shard it")
        settings.check_trainable(weights.values())
        self.__class__ = _calling(type(module))
        self.module = module
        self._layers = Layers()
        factor = settings.factor_type(law, rescale)
        self._kind = settings.kind(mask, factor)
        self._ranked: ranking.Ranking | None = None
        self._lay(weights, mask, factor)
        self._start(mask, law, told)
        self._layers = Layers(self, (*self._layout, *self.tied))
        self.module.train()  # as any new module: in eval mode it would train under the target only
        updates.register(self)

    def _start(self, mask: Mapping[str, Tensor], law: Law, told: Settings) -> None:
        """Begin at the start of training: the mask written in place, what the law draws drawn."""
        self.law = law
        for name, value in told.items():
            setattr(self, name, value)
        self._held: dict[str, Tensor] = {}
        self._fill(mask)
        if self._layout:
            ranks.check_same(each for each in (self._digest(), self.target, self.drawn) if each is not None)
        self._check_movement()
        if self.pruned_weights == "shuffle":
            self._shuffle()

    def _check_movement(self) -> None:
        if self.movement is not None:
            ranks.check_movement()
            ranking.check_trained(self._laid)

    def _show_target(self) -> None:
        super()._show_target()
        self._passes = Passes()
        self._fingerprint: tuple[int, ...] | None = None
        self._held.clear()

    # --- being a module ---------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's output under the mask of this step (training) or the target mask (eval)."""
        self._running()
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self._check_sharding()
            if overdue := self._overdue():
                raise RuntimeError(overdue)
        return self.module(*args, **kwargs)

    def _running(self) -> Subnetwork:
        if "module" not in self._modules:
            raise RuntimeError("this child has ended with remove(): wrap the module anew")
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Subnetwork:
        super()._apply(fn, recurse)
        if not self._layers:
            self.move(fn)
        return self

    def move(self, fn: Any) -> None:
        """Take part in a move to another device or type: what counts and draws keeps its type."""
        for name in ("multiplier", *FLAT):
            value = getattr(self, name)
            if value is not None:
                moved = fn(value)
                setattr(self, name, moved if moved.dtype == value.dtype else value.to(moved.device))
        self._held = {name: fn(value) for name, value in self._held.items()}

    def _load_from_state_dict(self, saved: dict[str, Any], prefix: str, *more: Any) -> None:
        """``RuntimeError``, before anything is loaded, where the state is another child's."""
        own = self._digest()
        for name, module in self.named_modules():
            if isinstance(module, Masked):
                state.check_owner(saved.get(f"{prefix}{name}.digest"), own)
        super()._load_from_state_dict(saved, prefix, *more)

    def kept_state(self) -> dict[str, Tensor]:
        """Copies of what the child keeps beside the weights: an average of states does not reach it."""
        self._check_average()
        flat = {name: value.clone() for name in FLAT if (value := getattr(self, name)) is not None}
        return {**flat, "strides": self._layout.strides(), "digest": self._digest()}

    def load_kept_state(self, saved: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`kept_state` returned; ``RuntimeError`` if it is another child's."""
        state.check_owner(saved.get("digest"), self._digest())
        state.copy_into(saved, {name: getattr(self, name) for name in FLAT}, self._layout.strides())
        self._show_target()

    def _digest(self) -> Tensor:
        return state.owner_digest(self.law, self.seed, self._layout)

    def __deepcopy__(self, memo: dict[int, Any]) -> Subnetwork:
        twin = self.__new__(type(self))
        memo.update({id(self): twin, **without_history(self)})
        fingerprint = self._fingerprint or averages.fingerprint(self._masked_weights()) if self._ranks_anew() else None
        twin.__dict__.update(copy.deepcopy({**self.__dict__, "_ranked": None}, memo))
        twin._fingerprint = fingerprint
        updates.register(twin)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """For ``torch.save`` and processes: the plain module, and what the child knows."""
        twin = copy.deepcopy(self)
        module = twin.remove()
        known = {key: value for key, value in twin.__dict__.items() if key != "_layers"}
        return _restored, (module, known)

    # --- time --------------------------------------------------------------------------------------------------

    def at(self, t: float) -> None:
        """Set the time to ``t`` epochs since the child's first step and draw the mask of the coming step.

        ``ValueError`` if a mask that is ranked anew would go back in time. A pass that was begun before cannot be
        gone back through after it: its backward pass is a ``RuntimeError``.
        """
        self._running()
        t = float(t)
        if not (math.isfinite(t) and t >= 0):
            raise ValueError(f"at({t}): the time is a number of epochs, at least 0")
        if t > self.epochs:
            raise ValueError(f"at({t:g}): training was said to last {self.epochs:g} epochs; raise epochs= to go on")
        self._check_movement()
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
                self._rerank(self.alive, self.law.progress(t))
            self.multiplier.copy_(self._multiplier(t))
        if self.masked_weights == "freeze" or self.movement is not None or not self._held:
            self._hold()
        self._passes.begin_step(drawn=not exact)
        self._fingerprint = None

    def _rerank(self, alive: Tensor, a: float) -> None:
        """Remove the weights whose turn has come, and let the target be what a cut at this moment would leave."""
        if a == 0:  # nothing has moved yet: the mask that was given is the target
            return
        score = self._ranking.magnitudes(self._laid) if self.movement is None else self.movement
        numbers = self._pruned.values()
        target, here = self._ranking.cut(score, alive, [[round(p * n) for n in numbers] for p in (1, a)])
        self.target.copy_(target)
        alive.copy_(here)

    @property
    def _ranking(self) -> ranking.Ranking:
        """The ranking of this child's weights where they lie now."""
        if self._ranked is None or self._ranked.device != self.target.device:
            self._ranked = ranking.Ranking(self._layout, self._laid, self.target.device)
        return self._ranked

    @property
    def mask(self) -> Mask:
        """The target mask."""
        self._running()._check_average()
        return self._expand(self.target)

    # --- what the weights are ---------------------------------------------------------------------------------

    @property
    def weights(self) -> dict[str, Tensor]:
        """The module's own parameters, masked ones as they are without the mask, by the names of a plain module."""
        return {name: self._weight(name) for name in self._sizes}

    @property
    def _laid(self) -> dict[str, Tensor]:
        """The weights that have a mask of their own."""
        return {name: self._weight(name) for name in self._layout}

    def _weight(self, name: str) -> Tensor:
        return self._layers.weight(name) if name in self._layers else self.module.get_parameter(name)

    def masked(self, name: str, weight: Tensor) -> Tensor:
        """``weight``, called ``name``, as a forward pass that runs now uses it."""
        if torch.compiler.is_compiling():
            return self._multiplied(name, weight)
        under = (self._passes.moves, self.module.training)
        wrong = self._passes.look(under, self._overdue)
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(weight.is_inference()), torch.no_grad():  # a weight as any other
                masked = self._multiplied(name, weight)
        else:
            masked = self._multiplied(name, weight)
        if masked.requires_grad:  # only now is the weight used, and not just read
            masked.register_hook(partial(self._check_backward, under, wrong))
        elif weight.requires_grad:  # PyTorch may multiply in another order by what needs no gradient; parameters do
            with suppress(RuntimeError):  # of torch.func's transforms, which do not take it
                masked.requires_grad_()
        return masked

    def _multiplied(self, name: str, weight: Tensor) -> Tensor:
        return product(weight, self._entry(self._shown(), name))

    def folded(self, name: str, weight: Tensor) -> Tensor:
        """``weight``, called ``name``, under the target mask."""
        self._check_average()
        return torch.where(self._entry(self.target, name), weight, 0)

    def _shown(self) -> Tensor:
        """The factors of the weights now: in training the step's mask, in eval the target."""
        if self.module.training:
            return self.multiplier
        if not torch.compiler.is_compiling():
            self._check_average()
        return as_numbers(self.target)

    def _check_backward(self, under: Pass, wrong: str | None, _: Tensor) -> None:
        wrong = wrong or (None if under == (self._passes.moves, self.module.training) else MOVED)
        if wrong:
            raise RuntimeError(wrong)

    def _overdue(self) -> str | None:
        """The advice to give if the weights have moved on and the mask of the step has not; None if all is well."""
        if not (self.module.training and self._layout and self.law.epochs > 0):
            return None
        if self.time is None:
            return "call at(t), with t in epochs, before the first training step"
        if self.time < self.law.epochs and self._passes.updated:
            return (
                f"the weights have been updated since at({self.time:g}): call at(t) before every training step, "
                f"at least until the annealing ends at t = {self.law.epochs:g}"
            )
        return None

    def _check_sharding(self) -> None:
        """``RuntimeError`` if FSDP has sharded weights whose values the child itself must see."""
        sees = self.law.ranking or "freeze" in (self.pruned_weights, self.masked_weights)
        if sees and any(ranks.sharded(self._weight(name)) for name in self._layers):
            raise RuntimeError(
                f"the weights are sharded, but {self.law} with pruned_weights={self.pruned_weights!r} and "
                f"masked_weights={self.masked_weights!r} must see them whole: train without FSDP, or choose another law"
            )

    def _ranks_anew(self) -> bool:
        """Whether the target may still change."""
        return bool(self.law.ranking) and not (self.time is not None and self.time >= self.law.epochs)

    def _masked_weights(self) -> Iterator[Tensor]:
        return (weight.detach() for weight in self._laid.values())

    def _check_average(self) -> None:
        """``RuntimeError`` if this is a copy into which weights were averaged, whose mask did not come along."""
        if self._fingerprint is not None:
            averages.check(self._fingerprint, self._masked_weights(), self.law)

    def fold(self) -> nn.Module:
        """A copy of the module as an ordinary one, with the target mask applied: pruned weights are exactly 0."""
        mask = self.mask
        if any(map(ranks.sharded, self.weights.values())):
            raise RuntimeError("the weights are sharded: gather them first, and load them into an unsharded child")
        plain = copy.deepcopy(self).remove()
        masks.apply(plain, mask)
        return plain

    def remove(self) -> nn.Module:
        """End the child: the module as an ordinary one again, its weights as they are, pruned ones too."""
        module: nn.Module = self._running().module
        if any(map(ranks.sharded, self.weights.values())):
            raise RuntimeError("the weights are sharded, and FSDP holds on to the layers as they are: keep the child")
        self._layers.restore()
        del self.module
        updates.leave(self)
        return module

    def takes(self, mask: Mapping[str, Tensor], law: Law, rescale: bool = False) -> bool:
        """Whether :meth:`restart` could go on with ``mask`` and ``law``: masks of the same weights and of one type."""
        return self._kind == settings.kind(mask, settings.factor_type(law, rescale))

    def restart(self, parent: nn.Module, mask: Mapping[str, Tensor], law: Law, **told: Unpack[Settings]) -> None:
        """Become a fresh child of ``parent`` in the same module: no tensor moves, and nothing is compiled again.

        Weights and buffers of ``parent``, a plain model of the module's architecture, are copied in, and the mask is
        written in place; gradients are gone, and the optimiser should be a fresh one. ``told``: as of the class.
        ``ValueError`` if the child does not take them (see :meth:`takes`) or ``parent`` is of another architecture.
        """
        told = {**DEFAULTS, **told}
        settings.check(law, told)
        masks.check(parent, mask)
        if not self._running().takes(mask, law, told["rescale"]):
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
        self._start(mask, law, told)
        updates.register(self)

    def as_used(self, t: float, seed: int) -> nn.Module:
        """A copy of the module with the weights that a training step at time ``t`` uses, its mask drawn with ``seed``.

        The child itself stays as it is.
        """
        probe = copy.deepcopy(self)
        probe.reseed(seed)
        probe.at(t)
        with torch.no_grad():
            for name in probe._layers:
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
        if not (self.movement is not None or "freeze" in (self.pruned_weights, self.masked_weights)):
            return
        weights = {name: self._weight(name).detach() for name in self._layers}
        if self._held:
            torch._foreach_copy_(list(self._held.values()), list(weights.values()))
        else:
            with torch.inference_mode(False):  # outside of it the next step may write over them
                self._held = {name: weight.clone() for name, weight in weights.items()}

    def _restore(self) -> None:
        """Put held weights back: the pruned ones, or those that the last step's mask hid."""
        frozen = "freeze" in (self.pruned_weights, self.masked_weights)
        if not (frozen and self._held):
            return
        shown = self.multiplier.bool() if self.masked_weights == "freeze" else self.target
        if self.pruned_weights == "freeze":
            shown = shown & self.target
        weights = {name: self._weight(name) for name in self._held}
        held = {name: value.to(weights[name].device) for name, value in self._held.items()}
        with torch.no_grad():  # an optimiser may step within the backward pass
            if shown.is_cuda and self._layout.fits(weights):  # in as many launches for a hundred tensors as for one
                torch._foreach_copy_(list(weights.values()), self._layout.merge(shown, weights, held))
                return
            for name, weight in weights.items():
                weight.copy_(torch.where(self._entry(shown, name), weight, held[name]))

    @property
    def holds_late(self) -> bool:
        """Whether weights must not move that are not held yet, since the child was never told a time."""
        return not self._held and "freeze" in (self.pruned_weights, self.masked_weights) and bool(self._layout)

    def before_step(self) -> None:
        """Hold the weights before the first update."""
        self._hold()

    def after_step(self, stepped: set[int], found_inf: Tensor | None) -> None:
        """Follow an optimiser that has updated the weights of these ids: count, and undo what must not move.

        ``found_inf``: 1 where a GradScaler had an optimiser that looks at it itself change nothing; None for others,
        whose step is not called then.
        """
        annealing = self.time is not None and self.time < self.law.epochs
        if annealing and self.movement is not None and not bool(found_inf):
            self._ranking.follow(self.movement, self._held, self._laid, stepped)
        self._passes.end_step()
        self._fingerprint = None
        self._restore()


def within(model: nn.Module) -> Subnetwork | None:
    """The child that ``model`` is, also without its handle, or wraps, as ``torch.compile`` and DataParallel do.

    None for a plain model. ``ValueError`` if it holds several children, part of one, or weights beside one.
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


def _restored(module: nn.Module, known: dict[str, Any]) -> Subnetwork:
    """The child that :meth:`Subnetwork.__reduce__` took apart."""
    child = Subnetwork.__new__(_calling(type(module)))
    child.__dict__.update(known, _layers=Layers())
    child.module = module
    child._layers = Layers(child, (*child._layout, *child.tied))
    updates.register(child)
    return child


_CALLING: weakref.WeakKeyDictionary[type[nn.Module], type[Subnetwork]] = weakref.WeakKeyDictionary()
DEFAULTS: Settings = Subnetwork.__init__.__kwdefaults__  # type: ignore[assignment]
