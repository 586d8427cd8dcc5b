"""bf16 on every device: by its units, or by the same rounding around fp32 products on a CPU that has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

PRODUCTS = {torch.conv2d, functional.linear}


def _cpu_has_units() -> bool:
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(words)  # the last is Arm's


CPU_HAS_UNITS = _cpu_has_units()  # once, since each step asks


def has_units(device: torch.device) -> bool:
    """Whether ``device`` multiplies bf16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return CPU_HAS_UNITS


class Rounded(TorchFunctionMode):
    """bf16 autocast of a CPU without bf16 units, at the speed of fp32.

    Factors are rounded to bf16, products summed in fp32 and their sums rounded to bf16, forwards and backwards, as
    oneDNN does with units; without, it is many times slower than in fp32. What :data:`PRODUCTS` leaves out, such as
    attention, stays as autocast has it. Sums run in another order than with units, as between any two CPUs.
    """

    def __init__(self) -> None:
        self._autocast = torch.autocast("cpu", dtype=torch.bfloat16)

    def __enter__(self) -> Rounded:
        self._autocast.__enter__()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._autocast.__exit__(kind, error, trace)

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """The value of ``func``, in bf16 if it is one of :data:`PRODUCTS` and the network leaves autocast on."""
        kwargs = kwargs or {}
        if func not in PRODUCTS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            product = func(*map(_rounded, args), **{name: _rounded(value) for name, value in kwargs.items()})
            return product.to(torch.bfloat16)


def _rounded(value: Any) -> Any:
    """A tensor's values of bf16 as float32, and so its gradient's; anything else as it is."""
    return value.to(torch.bfloat16).to(torch.float32) if isinstance(value, Tensor) else value
