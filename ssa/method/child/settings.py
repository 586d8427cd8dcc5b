"""Check the settings of a child."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor

from ssa.errors import check_choice
from ssa.method.laws import Law, OneShot

PRUNED_WEIGHTS = ("train", "freeze", "shuffle")
MASKED_WEIGHTS = ("update", "freeze")


class Settings(TypedDict, total=False):
    """The keyword arguments of :class:`ssa.Subnetwork`."""

    seed: int
    epochs: float
    pruned_weights: str
    masked_weights: str
    rescale: bool
    regenerate: bool


def check(law: Law, settings: Settings) -> None:
    """``TypeError`` or ``ValueError`` naming the setting of a child that cannot be."""
    if not isinstance(law, Law):
        raise TypeError(f"law is {law!r}; it is an instance such as ssa.TemperatureAnnealing(epochs=5)")
    for name in settings:
        check_choice("setting", name, tuple(Settings.__annotations__))
    if law.epochs == 0 and not isinstance(law, OneShot):
        raise ValueError(f"{law} anneals for 0 epochs, as OneShot does: give it epochs=, or choose OneShot")
    if law.epochs > settings["epochs"]:
        raise ValueError(
            f"{type(law).__name__} anneals for {law.epochs:g} epochs, longer than the training of "
            f"{settings['epochs']:g}; shorten the law's epochs"
        )
    if settings["regenerate"] and not law.regenerable:
        raise ValueError(f"{law} depends on the starting weights, which move: leave regenerate at False")
    check_choice("pruned_weights", settings["pruned_weights"], PRUNED_WEIGHTS)
    check_choice("masked_weights", settings["masked_weights"], MASKED_WEIGHTS)
    if law.ranking and settings["pruned_weights"] == "freeze":
        raise ValueError(f"{law} chooses the pruned weights anew: they cannot be frozen, leave pruned_weights at train")


def check_trainable(weights: Iterable[Tensor]) -> None:
    """``RuntimeError`` within ``torch.inference_mode``, or if ``weights`` were made in it."""
    if torch.is_inference_mode_enabled() or any(weight.is_inference() for weight in weights):
        raise RuntimeError(
            "what is made within torch.inference_mode cannot be trained: make the model and the child outside of it"
        )


def factor_type(law: Law, rescale: bool) -> torch.dtype:
    """The type of the numbers that weights are multiplied by: bytes, by which CPUs multiply faster than by bools."""
    return torch.float32 if getattr(law, "expected", False) or rescale else torch.uint8


def kind(mask: Mapping[str, Tensor], factor: torch.dtype) -> tuple[Any, ...]:
    """The properties that children of one module share: the masked and tied weights, how, and the type of numbers."""
    tied = getattr(mask, "tied", {})
    return sorted((name, tuple(entry.shape)) for name, entry in mask.items()), sorted(tied.items()), factor
