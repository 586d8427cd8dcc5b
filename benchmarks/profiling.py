"""Where an epoch's time goes, by kind of operation, as PyTorch's profiler sees it."""

from __future__ import annotations

import re
from typing import Any

import torch
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


def shares(case: Case, precision: str) -> dict[str, float]:
    """The share of each kind in an epoch of temperature annealing; they add up to 1."""
    run = ours(case, LAWS["temperature"], precision)
    run.run_epoch()
    scopes = {Subnetwork: "at", Batches: "_batch"}
    originals = {kind: getattr(kind, name) for kind, name in scopes.items()}
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    try:
        Subnetwork.at = _scoped(originals[Subnetwork], "ssa: at")  # type: ignore[method-assign]
        Batches._batch = _scoped(originals[Batches], "ssa: batch")  # type: ignore[method-assign]
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
    for event in events:
        total[_kind(event)] += _own_time(event)
    whole = sum(total.values())
    return {kind: value / whole for kind, value in total.items()}


def _kind(event: Any) -> str:
    """By the outermost scope that has a kind of its own, or else by the operation itself."""
    named, scope = event.name, event
    while scope is not None:
        if re.search("^ssa: |^Optimizer", scope.name):
            named = scope.name
        scope = scope.cpu_parent
    return next(kind for kind, pattern in KINDS.items() if re.search(pattern, named))


def _own_time(event: Any) -> float:
    return event.self_device_time_total if torch.cuda.is_available() else event.self_cpu_time_total
