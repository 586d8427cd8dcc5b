"""The device that trains: whether PyTorch can use the GPU that is here, and what is promised of its results."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from ssa.errors import UserError
from ssa.process import gpus

if TYPE_CHECKING:
    import torch


def choose(wanted: str, where: str) -> torch.device:
    """The device that ``wanted`` (auto, cpu or cuda) asks for; ``where``: what asks, the first words of an error.

    ``UserError`` if a GPU is asked for and there is none, and if there is one that PyTorch cannot use: a study
    would train for days on the CPU without a word.
    """
    import torch

    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return _checked()
    if gpus.usable() and (seen := gpus.listed()):
        raise UserError(
            f"{where}: the driver lists a GPU ({seen[0]}), but PyTorch {torch.__version__} cannot use it "
            f"({_reason()}); install a newer driver or a PyTorch for it, or set device: cpu"
        )
    if wanted == "cuda":
        raise UserError(f"{where}: device is cuda, but PyTorch finds no GPU here; set device: auto or cpu")
    return torch.device("cpu")


def _reason() -> str:
    """Why CUDA does not start, in PyTorch's words: their first sentence."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0].split(". ")[0].rstrip(".")
    return f"it was made for CUDA {torch.version.cuda}"


@cache
def _checked() -> torch.device:
    """The GPU, once it is known that this PyTorch has kernels for it; its sums have an order from then on."""
    import torch

    device, kernels = torch.device("cuda"), torch.cuda.get_arch_list()
    major, minor = torch.cuda.get_device_capability(device)
    if not has_kernels((major, minor), kernels):
        raise UserError(
            f"{torch.cuda.get_device_name(device)} is sm_{major}{minor}, and PyTorch {torch.__version__} has kernels "
            f"for {', '.join(kernels)} alone; install a PyTorch that was built for it, or set device: cpu"
        )
    be_deterministic()
    return device


def has_kernels(capability: tuple[int, int], kernels: Iterable[str]) -> bool:
    """Whether a GPU of ``capability`` runs any of ``kernels``, such as sm_80 or compute_90; an empty list says nothing.

    Machine code (sm) runs on GPUs of its own generation, no older than itself; compute is compiled for any newer one.
    """
    found = [parsed.groups() for each in kernels if (parsed := re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", each))]
    return not found or any(_runs(capability, *made_for) for made_for in found)


def _runs(capability: tuple[int, int], kind: str, major: str, minor: str, last: str) -> bool:
    made_for = (int(major), int(minor))
    if made_for >= capability or last == "a":  # for that GPU alone
        return made_for == capability
    return kind == "compute" or made_for[0] == capability[0]


def be_deterministic() -> None:
    """Let the GPU give the same bits for the same steps, as a CPU does: a parent trained again is the same network.

    An operation that has no such way says so in a warning and goes on. Algorithms are not chosen by measuring them,
    since another might win the next time.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)  # cuDNN's and the compiler's too
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # which nothing reads
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.enable_cudnn_sdp(False)  # whose attention has no deterministic way back; the others' have
    warnings.filterwarnings("ignore", "kthvalue CUDA")  # whose values are the same; which of equals it took, none asks
