"""Processes that train one child together: they draw the same masks of whole weights, or it is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def world_size() -> int:
    """How many processes train together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def check_same(values: Iterable[Tensor]) -> None:
    """``ValueError`` if processes that train together have other ``values``, and would sample other masks."""
    if world_size() == 1:
        return
    own = b"".join(value.cpu().numpy().tobytes() for value in values)
    found: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(found, hashlib.blake2b(own).digest())
    if any(one != found[0] for one in found):
        raise ValueError("ranks differ in seed, law, mask or what is drawn: give all the same seed= and mask")


def check_movement() -> None:
    """``RuntimeError`` if several processes train: each would rank by gradients of its own."""
    if world_size() > 1:
        raise RuntimeError(
            "movement adds up each rank's own gradients, so that ranks would disagree on the mask: "
            "train on one process, or re-rank by magnitude"
        )


def sharded(weight: Tensor) -> bool:
    """Whether FSDP has given each process a part of it."""
    return hasattr(weight, "full_tensor")
