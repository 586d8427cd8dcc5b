"""The loss of one batch: as it is written, or compiled once for all children that a process trains."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Hashable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssa.errors import UserError
from ssa.training import bf16
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
    if precision == "bf16" and device.type == "cpu" and not torch.compiler.is_compiling():
        bf16.prepare()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def resolve_compile(mode: str, device: torch.device) -> str:
    """``mode`` with "auto" decided: CUDA graphs on a GPU where Triton works, no compilation on a CPU.

    On CPUs compiling takes half a minute and gains a tenth.
    """
    if mode not in COMPILE:
        raise ValueError(f"compile is {mode!r}; allowed: {', '.join(COMPILE)}")
    if mode != "auto":
        return mode
    known = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
    return "reduce-overhead" if known and _can_compile() else "off"


@cache
def _can_compile() -> bool:
    """Whether Triton has what it builds with; one line says what is missing, and what that costs."""
    compiler = (os.environ.get("CC", "").split() or ["gcc"])[0]
    needed = {
        "Triton": find_spec("triton"),
        "a C compiler (gcc or clang)": shutil.which(compiler) or shutil.which("clang"),
        "Python.h (python3-dev)": Path(sysconfig.get_path("include"), "Python.h").exists(),
    }
    lacking = [name for name, found in needed.items() if not found]
    if lacking:
        what = f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing here"
        print(f"training steps are not compiled, and take longer: {what}", file=sys.stderr)
    return not lacking


class Compiled:
    """:func:`loss` compiled by ``mode``, "default" or "reduce-overhead", for one kind of network.

    What children in one module differ by (weights, masks, probabilities, rates) are its inputs, so that it is compiled
    for the first of them only; once more for a module whose masks are numbers instead of bytes, or that has none.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        import torch._dynamo  # which takes seconds

        torch._dynamo.config.fail_on_recompile_limit_hit = True
        self._fast = torch.compile(loss, mode=mode, dynamic=False)
        self._without_graphs = _graphs_skipped()

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, precision: str) -> Tensor:
        """The loss of one batch; ``UserError`` if compilation fails, or is asked for again and again."""
        torch.compiler.cudagraph_mark_step_begin()
        try:
            # A copy: under CUDA graphs the next step would overwrite it.
            return self._fast(network, images, labels, precision).clone()
        except torch._dynamo.exc.FailOnRecompileLimitHit as error:
            reason = f"something else each time: more than {torch._dynamo.config.recompile_limit} variants of one step"
            raise UserError(f"the training step is compiled for {reason}; set compile: 'off'") from error
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).strip().split("\n\n")[0].split())
            raise UserError(f"the training step could not be compiled ({reason}); set compile: 'off'") from error

    def ran(self) -> str:
        """How steps really ran: ``mode``, or "default" where CUDA graphs were asked for and left out."""
        return "default" if self.mode == "reduce-overhead" and _graphs_skipped() > self._without_graphs else self.mode


MODULES = 7  # modules that one compiled step serves: Dynamo keeps eight variants of it


class _Held:
    """The compiled ``step``, by one mode for one kind of network, and the layers of the modules that it has seen."""

    def __init__(self, mode: str, kind: Hashable) -> None:
        self.of = (mode, kind)
        self.step = Compiled(mode)
        self.seen: set[Hashable] = set()


_held: _Held | None = None


def compiled(mode: str, kind: Hashable, layers: Hashable) -> Compiled:
    """The step compiled by ``mode`` for networks of one ``kind``: one for the whole process, as long as these stay.

    ``layers``: the types of the module's layers. Masked layers have types of their own in each module, so that each
    module is a variant. Another kind's step takes its place, and so does a new one after :data:`MODULES` modules:
    graphs hold GPU memory, and Dynamo counts variants to a limit, after which it would go on without compiling and
    without a word. Here that is an error.
    """
    global _held
    full = _held is not None and layers not in _held.seen and len(_held.seen) >= MODULES
    if _held is None or _held.of != (mode, kind) or full:
        if _held is not None:
            torch.compiler.reset()
        _held = _Held(mode, kind)
    _held.seen.add(layers)
    return _held.step


def _graphs_skipped() -> int:
    """How often Inductor has left out CUDA graphs, for a tensor on the CPU for example."""
    return int(torch._dynamo.utils.counters["inductor"]["cudagraph_skips"])
