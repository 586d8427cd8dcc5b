"""The state of a child beside the weights: whose it is, and the flat tensors that its mask needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import partial

import torch
from torch import Tensor

from ssa.method.laws import Law

ANOTHER = (
    "this state was saved by a child of another law, seed or mask's names, and would not go on as that one did: build "
    "the child as it was, or load the state of its module alone"
)


def owner_digest(law: Law, seed: int, names: Iterable[str]) -> Tensor:
    """A digest of 8 bytes of whose state it is: the law, the seed and the names of the masked tensors."""
    settings = [type(law).__qualname__, *(_worded(getattr(law, each.name)) for each in fields(law))]
    said = "\n".join([*settings, str(seed), *names])
    return torch.tensor(list(hashlib.blake2b(said.encode(), digest_size=8).digest()), dtype=torch.uint8)


def check_owner(saved: Tensor | None, own: Tensor) -> None:
    """``RuntimeError`` if the digest that was ``saved``, None if none was, is another child's than ``own``."""
    if saved is not None and not torch.equal(saved.cpu(), own):
        raise RuntimeError(ANOTHER)


def copy_into(state: Mapping[str, Tensor], own: Mapping[str, Tensor | None], strides: Tensor) -> None:
    """Copy flat tensors of ``state`` into ``own`` ones; ``strides``: how the weights lie in memory now.

    ``RuntimeError``, before anything is copied, where the two do not fit.
    """
    if not torch.equal(state["strides"].cpu(), strides):
        raise RuntimeError(
            "this state was saved for weights in another memory format (channels-last or not): its masks would be "
            "misread; convert the module as it was then and wrap it anew"
        )
    for name, value in own.items():
        if (value is None) != (name not in state):
            raise RuntimeError(f"this state and the child differ in {name}: give the child the same regenerate=")
    for name, value in own.items():
        if value is not None:
            value.copy_(state[name])


def _worded(value: object) -> str:
    """A law's setting as text that is the same in every process."""
    if isinstance(value, partial):
        return f"{_worded(value.func)} {value.args} {value.keywords}"
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return repr(float(value)) if isinstance(value, (int, float)) else repr(value)
