"""Laws for the keep-probability p(t) of each prunable weight; every fine-tuning method is one of them.

A law is asked for one tensor at a time. It answers with two probabilities, one for the kept weights
(mask 1) and one for the pruned weights (mask 0), each a float in [0, 1] or a tensor that broadcasts to
the mask. From ``epochs`` on the answer is always ``(1, 0)``: exactly the target subnetwork. Where the answer for a
weight depends on that weight alone (``elementwise``), all tensors are asked at once, laid end to end.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ssa.errors import check_choice
from ssa.method.schedules import TINY, Schedule, as_function
from ssa.method.schedules import check as check_schedule

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from ssa.method.sampling import Bits, Probability


@dataclass(frozen=True)
class Law:
    """Anneal over the first ``epochs`` epochs along ``schedule``; ``expected`` multiplies by p instead of sampling.

    A law of your own subclasses this and defines :meth:`anneal`; it is used in a study by its import
    path, ``package.module.ClassName``.
    """

    epochs: float = 0.0
    schedule: str | Schedule = "linear"
    expected: bool = False
    gradual: ClassVar[bool] = True  # whether the schedule matters
    elementwise: ClassVar[bool] = False  # whether a weight's probability depends on its own mask and state alone

    def __post_init__(self) -> None:
        if not (isinstance(self.epochs, Real) and math.isfinite(self.epochs) and self.epochs >= 0):
            raise ValueError(f"{type(self).__name__}: epochs is {self.epochs!r}; it is a length in epochs, at least 0")
        check_schedule(self.schedule)

    @property
    def ranking(self) -> str | None:
        """The score that the target mask follows as training goes, ``magnitude`` or ``movement``; None if it stays."""
        return None

    @property
    def ordered(self) -> bool:
        """Whether the state is each pruned weight's turn, from 0: at progress a, ``round(a * pruned)`` have had it."""
        return False

    @property
    def regenerable(self) -> bool:
        """Whether :meth:`prepare` gives the same whenever it is asked, whatever the weights are by then."""
        return True

    @property
    def prepares_together(self) -> bool:
        """Whether :meth:`prepare_together` draws the states of all tensors at once, as a GPU does."""
        return False

    def progress(self, t: float) -> float:
        """a(t), in [0, 1]: how far the annealing stands ``t`` epochs after the child's first step."""
        return 1.0 if t >= self.epochs else as_function(self.schedule)(t / self.epochs)

    def prepare(self, mask: Tensor, weight: Tensor, generator: Generator) -> Tensor | None:
        """The state drawn once per weight and child, of the mask's shape; None for most laws."""
        return None

    def prepare_together(self, mask: Tensor, kept: Tensor, generator: Generator) -> Tensor:
        """The state of all tensors, laid end to end; ``kept``: at each weight the fraction of its tensor's that is."""
        raise NotImplementedError(f"{type(self).__name__} draws its state tensor by tensor")

    def anneal(self, a: float, mask: Tensor, state: Tensor | None) -> tuple[Probability, Probability]:
        """The keep-probabilities of kept and pruned weights when the annealing stands at ``a`` < 1."""
        raise NotImplementedError(f"{type(self).__name__} must define anneal()")

    def check(self, mask: Tensor, state: Tensor | None) -> None:
        """``ValueError`` or ``TypeError`` if :meth:`anneal` gives no probabilities, soon or late."""
        import torch

        for a in (0.0, 0.5, 0.999):
            found, name = self.anneal(a, mask, state), f"{type(self).__name__}.anneal() at a = {a:g}"
            if not (isinstance(found, tuple) and len(found) == 2):
                raise TypeError(
                    f"{name} returned {type(found).__name__}; it returns a pair, for kept and pruned weights"
                )
            for p in map(torch.as_tensor, found):
                if not (p.is_meta or bool(((p >= -TINY) & (p <= 1 + TINY)).all())):
                    low, high = p.min().item(), p.max().item()
                    raise ValueError(f"{name} gave {low:g} to {high:g}; probabilities are in [0, 1]")

    def sample(self, a: float, mask: Tensor, state: Tensor | None, bits: Bits) -> Tensor:
        """One mask drawn with the probabilities of :meth:`anneal`: bool, of the mask's shape."""
        from ssa.method.sampling import sample

        return sample(mask, *self.anneal(a, mask, state), bits)

    def probability(self, t: float, mask: Tensor, state: Tensor | None) -> tuple[Probability, Probability]:
        """The keep-probabilities of kept and pruned weights at ``t`` epochs; exactly (1, 0) from ``epochs`` on."""
        return (1.0, 0.0) if t >= self.epochs else self.anneal(self.progress(t), mask, state)


@dataclass(frozen=True)
class OneShot(Law):
    """The target mask from the first step on."""

    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs:
            raise ValueError(f"OneShot: epochs is {self.epochs!r}; it does not anneal, so leave epochs at 0")


@dataclass(frozen=True)
class Iterative(Law):
    """Nested binary masks: each pruned weight is kept until its turn, then removed.

    At progress a, exactly ``round(a * pruned)`` weights of each tensor are gone. ``order`` says whose turn
    it is: ``random``, a fixed random order; ``magnitude``, a fixed order by the starting weights,
    smallest first. Two orders are ranked anew as training goes, so that the final mask may differ from the
    one that was given: ``reranked``, smallest current magnitude first; ``movement``, lowest accumulated
    ``-w * gradient`` first (Sanh et al., 2020, arXiv 2005.07683).
    """

    order: Literal["random", "magnitude", "reranked", "movement"] = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("Iterative: order", self.order, ("random", "magnitude", "reranked", "movement"))

    @property
    def ranking(self) -> str | None:
        """The score that the order follows as training goes."""
        return {"reranked": "magnitude", "movement": "movement"}.get(self.order)

    @property
    def ordered(self) -> bool:
        """Unless it is ranked anew, or a law of one's own anneals in another way."""
        return not self.ranking and type(self).anneal is Iterative.anneal and type(self).sample is Law.sample

    @property
    def regenerable(self) -> bool:
        """Not where the starting weights decide."""
        return self.order != "magnitude"

    def prepare(self, mask: Tensor, weight: Tensor, generator: Generator) -> Tensor | None:
        """The turn of each pruned weight, an int32 rank from 0; kept weights come after all of them."""
        import torch

        if self.ranking:
            return None
        if self.order == "magnitude":
            from ssa.method.criteria import magnitude

            key = magnitude(weight, mask.shape)
        else:
            key = torch.rand(mask.shape, generator=generator, dtype=torch.float32, device=mask.device)
        order = key.masked_fill(mask, math.inf).flatten().argsort(stable=True)
        rank = torch.empty_like(order, dtype=torch.int32)
        rank[order] = torch.arange(order.numel(), dtype=torch.int32, device=mask.device)
        return rank.view(mask.shape)

    def anneal(self, a: float, mask: Tensor, state: Tensor | None) -> tuple[Probability, Probability]:
        """1 until a weight's turn, then 0."""
        import torch

        assert state is not None
        gone = (a * (~mask).sum(dtype=torch.float64)).round().int()  # stays on the device: no step waits for it
        return 1.0, state >= gone


@dataclass(frozen=True)
class RandomAnnealing(Law):
    """Kept weights ``u + (1 - u) a``, pruned weights ``u (1 - a)``; u is drawn once per weight and child.

    ``coupled``: u ~ U(s, 1) for kept and U(0, s) for pruned weights, s the tensor's sparsity, as if the mask
    were the thresholded u. ``independent``: u ~ U(0, 1) for all. Kept in 8 bits is how far p starts from the target,
    1 - u for kept and u for pruned weights, rounded up or down at random so that its mean stays.
    """

    draw: Literal["coupled", "independent"] = "coupled"
    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("RandomAnnealing: draw", self.draw, ("coupled", "independent"))

    @property
    def prepares_together(self) -> bool:
        """Unless a law of one's own draws in another way."""
        return type(self).prepare is RandomAnnealing.prepare

    def prepare(self, mask: Tensor, weight: Tensor, generator: Generator) -> Tensor | None:
        """The distance of p from the target at the start, in 1/256, as uint8."""
        return self.prepare_together(mask, mask.count_nonzero().float() / mask.numel(), generator)

    def prepare_together(self, mask: Tensor, kept: Tensor, generator: Generator) -> Tensor:
        """The same of one tensor or of all, laid end to end."""
        import torch

        u, rounding = torch.rand((2, *mask.shape), generator=generator, dtype=torch.float32, device=mask.device)
        if self.draw == "coupled":
            u *= torch.where(mask, kept, 1 - kept)
        return (u * 256 + rounding).clamp_max_(255).to(torch.uint8)

    def anneal(self, a: float, mask: Tensor, state: Tensor | None) -> tuple[Probability, Probability]:
        """``1 - d (1 - a)`` and ``d (1 - a)``: as in the table of the method's documentation, d the distance."""
        assert state is not None
        far = state.float().mul_((1 - a) / 256)
        return 1 - far, far

    def sample(self, a: float, mask: Tensor, state: Tensor | None, bits: Bits) -> Tensor:
        """A weight differs from the target where two independent events fall together, of 1 - a and of d."""
        assert state is not None
        return (bits.byte() < state).logical_and_(bits.below(1 - a)).logical_xor_(mask)


@dataclass(frozen=True)
class TemperatureAnnealing(Law):
    """The paper's "reverse dropout": pruned weights are kept with probability ``tau (1 - a)``, kept ones with 1.

    ``scope="all"`` lets tau scale both sides: kept weights ``1 - tau (1 - a)``.
    """

    tau: float = 0.5
    scope: Literal["pruned", "all"] = "pruned"
    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_tau(self)
        check_choice("TemperatureAnnealing: scope", self.scope, ("pruned", "all"))

    def anneal(self, a: float, mask: Tensor, state: Tensor | None) -> tuple[Probability, Probability]:
        """Linear in tau (1 - a)."""
        heat = self.tau * (1 - a)
        return (1 - heat if self.scope == "all" else 1.0), heat


@dataclass(frozen=True)
class DenseThenCut(Law):
    """Control: everything is kept until ``epochs``, then the mask at once; tells what late pruning alone does."""

    gradual: ClassVar[bool] = False
    elementwise: ClassVar[bool] = True

    def anneal(self, a: float, mask: Tensor, state: Tensor | None) -> tuple[Probability, Probability]:
        """1 for all."""
        return 1.0, 1.0


@dataclass(frozen=True)
class ConstantTemperature(Law):
    """Control: pruned weights are kept with probability ``tau`` until ``epochs``, then cut; noise without annealing."""

    tau: float = 0.5
    gradual: ClassVar[bool] = False
    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_tau(self)

    def anneal(self, a: float, mask: Tensor, state: Tensor | None) -> tuple[Probability, Probability]:
        """Tau, whatever ``a``."""
        return 1.0, self.tau


def find(path: str) -> type[Law]:
    """The law called ``path``: a class of this module, or ``package.module.ClassName``; ``ValueError`` if none."""
    candidate: Any
    if "." not in path:
        candidate = globals().get(path)
    else:
        module, _, name = path.rpartition(".")
        try:
            candidate = getattr(importlib.import_module(module), name, None)
        except Exception as error:  # whatever the module of a user raises
            raise ValueError(f"law {path!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(candidate, type) and issubclass(candidate, Law)):
        names = ", ".join(sorted(law.__name__ for law in Law.__subclasses__() if law.__module__ == __name__))
        raise ValueError(f"unknown law {path!r}; allowed: {names} or the import path of a subclass of ssa.Law")
    if candidate.anneal is Law.anneal and candidate is not OneShot:  # which never anneals
        raise ValueError(f"law {path!r} has no anneal() of its own, which says how its probabilities move")
    return candidate


def _check_tau(law: TemperatureAnnealing | ConstantTemperature) -> None:
    if not (isinstance(law.tau, Real) and 0 <= law.tau <= 1):
        raise ValueError(f"{type(law).__name__}: tau is {law.tau!r}; it is a probability in [0, 1]")
