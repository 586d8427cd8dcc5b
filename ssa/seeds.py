"""Random streams: each a pure function of its purpose, so that no stream shifts another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(*purpose: object) -> int:
    """A seed in [0, 2^63) that is a pure function of ``purpose``."""
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def numpy_generator(*purpose: object) -> np.random.Generator:
    """A numpy generator for ``purpose``."""
    import numpy as np

    return np.random.default_rng(derive(*purpose))


def torch_generator(*purpose: object) -> torch.Generator:
    """A torch generator on the CPU for ``purpose``."""
    import torch

    return torch.Generator("cpu").manual_seed(derive(*purpose))


def seed_layers(*purpose: object) -> None:
    """Begin anew for ``purpose`` the streams that layers such as dropout draw from, on the CPU and the GPUs in use.

    ``torch.manual_seed`` does the same, and keeps a call, with its stack, for each kind of accelerator not in use.
    """
    import torch

    seed = derive(*purpose)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
