"""Sampled masks: keep-probabilities against random bits, in integers wherever the law allows it."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from torch import Tensor

Probability: TypeAlias = "float | Tensor"
LEVELS = 1 << 16  # p is resolved to 1/65536


class Bits:
    """Uniform random bits for tensors of ``shape`` on ``device``, a function of ``seed`` alone, drawn when asked for.

    What costs time on a CPU are passes over memory and calls: one writes the bits, one compares them.
    """

    def __init__(self, shape: torch.Size, seed: int, device: torch.device) -> None:
        self.shape, self.seed, self._device = shape, seed, device

    @cached_property
    def uniform(self) -> Tensor:
        """int16 of the shape, each value as likely as any other."""
        return self._draw(2 * self.shape.numel()).view(torch.int16).view(self.shape)

    def byte(self) -> Tensor:
        """A fresh uniform uint8 of the shape."""
        return self._draw(self.shape.numel()).view(self.shape)

    def below(self, p: Probability) -> Tensor:
        """bool: True with probability ``p``, to 1/65536; exact at 0 and 1. Every call uses the same uniform numbers."""
        if isinstance(p, Tensor):
            return p if p.dtype == torch.bool else self.uniform < p * LEVELS - LEVELS // 2
        level = round(p * LEVELS)
        if level in (0, LEVELS):
            return torch.full(self.shape, level > 0, device=self._device)
        if self._device.type == "cpu":  # NumPy compares 16-bit integers ten times faster than PyTorch
            return torch.from_numpy(np.less(self.uniform.numpy(), level - LEVELS // 2))
        return self.uniform < level - LEVELS // 2

    def _draw(self, count: int) -> Tensor:
        """``count`` random bytes."""
        words = (count + 7) // 8
        if self._device.type == "cpu":  # SFC64 draws twice as fast as PyTorch's Mersenne Twister
            drawn = torch.from_numpy(self._stream.random_raw(words).view(np.int64))
        else:
            drawn = torch.empty(words, dtype=torch.int64, device=self._device)
            drawn.random_(-(1 << 63), None, generator=self._stream)
        return drawn.view(torch.uint8)[:count]

    @cached_property
    def _stream(self) -> Any:
        if self._device.type == "cpu":
            return np.random.SFC64(_Hashed(self.seed))  # type: ignore[arg-type]  # NumPy's stubs forget the interface
        return torch.Generator(self._device).manual_seed(self.seed)


class _Hashed(ISeedSequence):
    """A bit generator's first state by one hash: NumPy's own way takes as long as drawing 100,000 numbers."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        size = n_words * np.dtype(dtype).itemsize
        return np.frombuffer(hashlib.blake2b(self.seed.to_bytes(8, "little"), digest_size=size).digest(), dtype)


def sample(target: Tensor, kept: Probability, pruned: Probability, bits: Bits) -> Tensor:
    """bool of the shape of ``target``: True with probability ``kept`` where it is, else with ``pruned``."""
    if not isinstance(kept, Tensor) and kept == 1:
        return bits.below(pruned) | target
    return torch.where(target, bits.below(kept), bits.below(pruned))


def either(target: Tensor, kept: Probability, pruned: Probability) -> Tensor:
    """float32 of the shape of ``target``: ``kept`` where it is True, ``pruned`` elsewhere."""
    # Filled where they are: no step waits for a number to reach the device.
    kept, pruned = (
        p.float() if isinstance(p, Tensor) else torch.full((), p, dtype=torch.float32, device=target.device)
        for p in (kept, pruned)
    )
    return torch.where(target, kept, pruned)
