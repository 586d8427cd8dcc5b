"""The loss of one batch: as it is written, or compiled once for all children that a process trains."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssa.errors import UserError
from ssa.vocabulary import COMPILE

Loss = Callable[[nn.Module, Tensor, Tensor, str], Tensor]


def loss(network: nn.Module, images: Tensor, labels: Tensor, precision: str) -> Tensor:
    """Cross-entropy of ``network`` on one batch, a scalar; ``precision``: fp32, or bf16 by autocast."""
    with autocast(precision, images.device):
        return cross_entropy(network(images), labels)


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy of ``outputs`` (n, classes), a scalar.

    Outputs with k n rows are those of k members or repetitions, one after the other: the mean is over all. Those of
    heads that learn apart, (n, heads, classes), are summed over heads.
    """
    heads = outputs.shape[1] if outputs.dim() == 3 else 1
    if outputs.dim() == 3 or len(outputs) > len(labels):
        labels = labels.repeat(len(outputs) // len(labels)).repeat_interleave(heads)
        return heads * functional.cross_entropy(outputs.reshape(len(labels), -1), labels)
    return functional.cross_entropy(outputs, labels)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """bf16 autocast, or none for fp32. Masks multiply the fp32 weights before any cast."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def has_bf16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bf16 in hardware; others emulate it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(words)  # the last is Arm's


def resolve(mode: str, device: torch.device) -> str:
    """``mode`` with "auto" decided: CUDA graphs on a GPU that Triton knows, no compilation on a CPU.

    On CPUs compiling takes half a minute and gains a tenth.
    """
    if mode not in COMPILE:
        raise ValueError(f"compile is {mode!r}; allowed: {', '.join(COMPILE)}")
    if mode != "auto":
        return mode
    known = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0) and find_spec("triton")
    return "reduce-overhead" if known else "off"


@cache
def compiled(mode: str) -> Loss:
    """:func:`loss` compiled by ``mode``, "default" or "reduce-overhead".

    One function for the whole process: what children differ by (weights, masks, probabilities, rates) are its inputs,
    so that it is compiled for the first of them alone. ``UserError`` where compilation fails.
    """
    fast = torch.compile(loss, mode=mode, dynamic=False)

    def call(network: nn.Module, images: Tensor, labels: Tensor, precision: str) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        try:
            # A copy: under CUDA graphs the next step would overwrite it.
            return fast(network, images, labels, precision).clone()
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).strip().split("\n\n")[0].split())
            raise UserError(f"the training step could not be compiled ({reason}); set compile: 'off'") from error

    return call
