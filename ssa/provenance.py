"""Where and with what a run was made."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "safetensors", "snakemake")


@cache
def versions() -> dict[str, str]:
    """Python's version and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str:
    """The commit of the source tree, with ``+`` where it was changed; empty outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed else "")


def _git(folder: Path, *args: str) -> str:
    return subprocess.run(("git", *args), cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def device_name(device: torch.device) -> str:
    """The model of the GPU, or of the CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "CPU"


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def of_run(device: torch.device, started: str, compile: str) -> dict[str, Any]:
    """What each record says about its making."""
    import torch

    return {
        "device": device_name(device),
        "compile": compile,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "versions": versions(),
        "git_commit": git_commit(),
        "started": started,
        "finished": now(),
    }
