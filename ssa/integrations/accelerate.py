"""Anneal a child in a loop with accelerate (``pip install '.[hf]'`` in a checkout)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Protocol, TypeVar

from accelerate import Accelerator

from ssa.method.subnetwork import Subnetwork

T_co = TypeVar("T_co", covariant=True)


class Loader(Iterable[T_co], Sized, Protocol[T_co]):
    """Batches, and how many there are in an epoch."""


def annealed(
    loader: Loader[T_co], child: Subnetwork, accelerator: Accelerator, epoch: int, skipped: int = 0
) -> Iterator[T_co]:
    """Yield the batches of ``epoch`` (from 0), with ``child`` moved to the time of each optimiser step.

    Prepare the model that the child was made of, and use this in place of the prepared ``loader``. ``skipped``: how
    many batches ``accelerate.skip_first_batches`` left out of ``loader`` when an epoch is resumed. One mask serves all
    batches that a step accumulates.
    """
    count = len(loader) + skipped
    for number, batch in enumerate(loader, skipped):
        if number % accelerator.gradient_accumulation_steps == 0:
            child.at(epoch + number / count)
        yield batch
