"""bf16 on every CPU: by its units, or by the same rounding around fp32 products where it has none."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

from ssa.process import provenance

PRODUCTS = (
    *("linear", "conv1d", "conv1d.padding", "conv2d", "conv2d.padding", "conv3d", "conv3d.padding"),
    *("matmul", "mm", "bmm", "addmm", "baddbmm"),
)
UNITS = {"avx512_bf16", "amx_bf16", "bf16"}  # as /proc/cpuinfo calls them; the last is Arm's
CAST = (torch.float32, torch.bfloat16, torch.float16)  # what autocast casts: others stay as they are


def has_units(device: torch.device) -> bool:
    """Whether ``device`` multiplies bf16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return not provenance.cpu_flags().isdisjoint(UNITS)


@cache
def prepare() -> Library | None:
    """Let this process's autocast round by itself if the CPU has no units: see :func:`by_rounding`."""
    return None if has_units(torch.device("cpu")) else by_rounding()


def by_rounding() -> Library:
    """Let autocast to bf16 on a CPU take as long as fp32, as long as what is returned is kept.

    Factors are rounded to bf16, products summed in fp32 and their sums rounded to bf16, forwards and backwards, as
    oneDNN does with units; without, it is many times slower than in fp32. What :data:`PRODUCTS` leaves out, such as
    attention, stays as autocast has it, and so does a compiled step, since Inductor would leave out the rounding. Sums
    run in another order than with units, as between any two CPUs.
    """
    library = Library("aten", "IMPL")
    for name in PRODUCTS:
        packet, _, overload = name.partition(".")
        product = getattr(getattr(torch.ops.aten, packet), overload or "default")
        library.impl(name, _rounded(product), "AutocastCPU")
    return library


def _rounded(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function that autocast calls in the place of ``product``."""

    def rounded(*args: Any, **kwargs: Any) -> Tensor:
        values = [*args, *kwargs.values()]
        wanted = torch.get_autocast_dtype("cpu")
        by_fp32 = wanted == torch.bfloat16 and not torch.compiler.is_compiling() and all(map(_is_plain, values))

        def cast(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.dtype not in CAST:
                return value
            lower = value.to(wanted)
            return lower.to(torch.float32) if by_fp32 else lower

        with torch.autocast("cpu", enabled=False):
            found = product(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})
            return found.to(wanted) if by_fp32 else found

    return rounded


def _is_plain(value: Any) -> bool:
    return not isinstance(value, Tensor) or (value.dtype in CAST and value.layout == torch.strided)
