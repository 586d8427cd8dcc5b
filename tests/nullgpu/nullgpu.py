"""Counts, and operators in the place of cuDNN's: a process on the null GPU imports this first.

cuDNN plans with the GPU at hand, and here is none: its operators answer with zeros of the right shape and layout.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, fields

import torch
from torch import Tensor

_library = ctypes.CDLL(os.environ["LD_PRELOAD"])
_operators = torch.library.Library("aten", "IMPL")


@dataclass(frozen=True)
class Counts:
    """How often something was asked of the GPU: the fields in the order in which runtime.cpp has them.

    ``waits``: the CPU waited for the GPU. ``nodes``: launches that became part of a captured graph.
    """

    launches: int
    copies: int
    waits: int
    captures: int
    graph_launches: int
    allocations: int
    nodes: int
    copies_to_host: int

    def __sub__(self, before: Counts) -> Counts:
        return Counts(*(getattr(self, each.name) - getattr(before, each.name) for each in fields(self)))


def counts() -> Counts:
    """All since the process began."""
    found = (ctypes.c_ulonglong * len(fields(Counts)))()
    _library.null_counts(found)
    return Counts(*found)


def _zeros(like: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout).zero_()


def _convolution(x, w, padding, stride, dilation, groups, *_):  # type: ignore[no-untyped-def]
    sides = [
        (x.shape[i + 2] + 2 * padding[i] - dilation[i] * (w.shape[i + 2] - 1) - 1) // stride[i] + 1 for i in range(2)
    ]
    last = x.is_contiguous(memory_format=torch.channels_last)
    return _zeros(x if last else w, (x.shape[0], w.shape[0], *sides)).to(x.dtype)


def _convolution_backward(gradient, x, w, bias, stride, padding, dilation, transposed, output, groups, wanted):  # type: ignore[no-untyped-def]
    like = x if x.is_contiguous(memory_format=torch.channels_last) else w
    to_bias = torch.zeros(w.shape[0], dtype=w.dtype, device=w.device) if wanted[2] else None
    return *(_zeros(like, each.shape) if on else None for each, on in zip((x, w), wanted, strict=False)), to_bias


def _batch_norm(x, w, b, mean, variance, training, momentum, epsilon):  # type: ignore[no-untyped-def]
    reserve = torch.empty(0, dtype=torch.uint8, device=x.device)
    return torch.empty_like(x).zero_(), torch.zeros_like(w), torch.zeros_like(w), reserve


def _batch_norm_backward(x, gradient, w, mean, variance, saved_mean, saved_variance, epsilon, reserve):  # type: ignore[no-untyped-def]
    return torch.empty_like(x).zero_(), torch.zeros_like(w), torch.zeros_like(w)


def _nonzero(x: Tensor) -> Tensor:
    """None: the kernel that counts them does nothing. As on a GPU the number is waited for."""
    torch.cuda.current_stream().synchronize()
    return torch.empty((0, x.dim()), dtype=torch.int64, device=x.device)


def _read(x: Tensor) -> bool | int | float:
    """The value that the CPU reads of a tensor of one element, and waits for: none was written, so False or 1."""
    torch.cuda.current_stream().synchronize()
    return False if x.dtype == torch.bool else 1 if not x.is_floating_point() else 1.0


for _name, _operator in {
    "cudnn_convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "cudnn_batch_norm": _batch_norm,
    "cudnn_batch_norm_backward": _batch_norm_backward,
    "nonzero": _nonzero,
    "_local_scalar_dense": _read,
}.items():
    _operators.impl(_name, _operator, "CUDA")
