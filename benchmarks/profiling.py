"""Where an epoch's time goes, by kind of operation, as PyTorch's profiler sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.epochs import LAWS, Case, ours
from ssa.data.batches import Batches
from ssa.method.subnetwork import Subnetwork

# The first that matches counts; what happens inside the first two belongs to them.
KINDS = {
    "sampling the mask": r"^ssa: at$",
    "batches, crops, normalisation": r"^ssa: batch$",
    "optimiser": r"^Optimizer\.step",
    "convolutions and matrix products": r"conv|addmm|aten::mm|aten::bmm",
    "batch normalisation": r"batch_norm",
    "weights times mask, forwards and back": r"^aten::mul$|MulBackward",
    "casts and copies": r"aten::copy_|_to_copy",
    "other operations and Python": r"",
}

SCOPES = "^ssa: |^Optimizer"
# Kernels by their names, which is all that is known of those in a CUDA graph; the compiler's say what they fuse.
KERNELS = {
    "batch normalisation": r"batch_norm|bn_[fb]w",
    "optimiser": r"multi_tensor|[Ff]used_?(sgd|adam|Sgd|Adam)",
    "weights times mask, forwards and back": r"^triton_.*(mul|where)",
    "casts and copies": r"^triton_.*(copy|clone)|[Mm]emcpy|copy_kernel",
    "convolutions and matrix products": r"^(?!triton_).*(conv|gemm|cudnn|cutlass|xmma|nvjet|fmha|flash|[dw]grad)",
    "other operations and Python": r"",
}


def shares(case: Case, precision: str) -> dict[str, float]:
    """The share of each kind in an epoch of temperature annealing; they add up to 1."""
    run = ours(case, LAWS["temperature"], precision)
    run.run_epoch()
    scopes = {Subnetwork: "at", Batches: "_images"}
    originals = {kind: getattr(kind, name) for kind, name in scopes.items()}
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    try:
        Subnetwork.at = _scoped(originals[Subnetwork], "ssa: at")  # type: ignore[method-assign]
        Batches._images = _scoped(originals[Batches], "ssa: batch")  # type: ignore[method-assign]
        with profile(activities=activities) as found:
            run.run_epoch()
    finally:
        for kind, name in scopes.items():
            setattr(kind, name, originals[kind])
    return _by_kind(found.events())


def _scoped(method: Any, name: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        with record_function(name):
            return method(*args, **kwargs)

    return call


def _by_kind(events: Any) -> dict[str, float]:
    total = dict.fromkeys(KINDS, 0.0)
    on_gpu = [event for event in events if event.device_type == DeviceType.CUDA]
    for kind, time in (
        _of_kernels(on_gpu) if on_gpu else ((_kind(event), event.self_cpu_time_total) for event in events)
    ):
        total[kind] += time
    whole = sum(total.values())
    return {kind: value / whole for kind, value in total.items()}


def _kind(event: Any) -> str:
    """By the outermost scope that has a kind of its own, or else by the operation itself."""
    named, scope = event.name, event
    while scope is not None:
        if re.search(SCOPES, scope.name):
            named = scope.name
        scope = scope.cpu_parent
    return _first(KINDS, named)


def _of_kernels(events: list[Any]) -> Iterator[tuple[str, float]]:
    """Kind and time of each kernel: by the scope in which the GPU ran it, or else by its name."""
    scopes = [event for event in events if re.search(SCOPES, event.name)]
    for event in events:
        if event not in scopes:
            start = event.time_range.start
            around = [each.name for each in scopes if each.time_range.start <= start < each.time_range.end]
            yield _first(KINDS, around[0]) if around else _first(KERNELS, event.name), event.time_range.elapsed_us()


def _first(kinds: dict[str, str], name: str) -> str:
    return next(kind for kind, pattern in kinds.items() if re.search(pattern, name))
