"""Where and with what a run was made."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssa.files import write_text

if TYPE_CHECKING:
    import torch

FOLDER = Path(__file__).resolve().parents[1]
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")  # the widest first, as /proc/cpuinfo calls them
SOURCE = {".py", ".csv", ".j2", ".css", ".js"}
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
    """The commit of the source tree, with ``+`` where it was changed; empty outside a checkout.

    A copy that was unpacked inside another project's checkout, which does not track it, has none.
    """
    try:
        _git("ls-files", "--error-unmatch", "--", "__init__.py")
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed else "")


def whereabouts(commit: str, started: str) -> str:
    """Where the source of a run is, in words: its ``commit``, or if the repository has it no longer, a guess.

    The guess is the last commit before the run ``started`` (ISO time), and is called a guess.
    """
    name = commit.removesuffix("+")
    changed = " with changes that were not committed" if commit.endswith("+") else ""
    if not name:
        return "not recorded"
    try:
        _git("rev-parse", "--git-dir")
    except (OSError, subprocess.CalledProcessError):
        return "not known here: this is no checkout"
    try:
        _git("cat-file", "-e", f"{name}^{{commit}}")
        return f"in this repository{changed}"
    except subprocess.CalledProcessError:
        near = _git("log", "-1", f"--before={started}", "--format=%h of %cs") if started else ""
        guess = f"; the last commit before the run began is {near}, a guess by date" if near else ""
        return f"not kept: this repository has no commit {name}{guess}"


def _git(*args: str) -> str:
    return subprocess.run(
        ("git", *args), cwd=FOLDER, check=True, capture_output=True, text=True, encoding="utf-8"
    ).stdout.strip()


@cache
def source() -> str:
    """Sixteen hexadecimal digits that stand for this package's source."""
    total = hashlib.sha256()
    for file in sorted(FOLDER.rglob("*")):
        if file.is_file() and file.suffix in SOURCE:
            total.update(f"{file.relative_to(FOLDER)}\n".encode() + file.read_bytes())
    return total.hexdigest()[:16]


def note(path: Path, text: str) -> None:
    """Let ``path`` hold ``text``; where it does already, it is not touched."""
    if not is_noted(path, text):
        write_text(path, text)


def is_noted(path: Path, text: str) -> bool:
    """Whether ``path`` holds ``text``."""
    return path.exists() and path.read_text(encoding="utf-8") == text


def noted(path: Path, text: str, otherwise: Path) -> Path:
    """``path`` if it holds ``text``, such as :func:`source`, else the file ``otherwise``, which then does.

    Who only looks sees what would be made anew, and leaves ``path`` as it is; who runs notes the text there as the run
    starts, so that it is older than what is made of it.
    """
    if is_noted(path, text):
        return path
    note(otherwise, text)
    return otherwise


def hardware(device: torch.device, earlier: Iterable[Sequence[str]] = ()) -> list[list[str]]:
    """Names and instruction sets of the devices of a run, each once: those of ``earlier``, then ``device``."""
    return [list(one) for one in dict.fromkeys((*map(tuple, earlier), (device_name(device), instructions(device))))]


def device_name(device: torch.device) -> str:
    """The model of the GPU, or of the CPU, and to which instructions oneDNN is held there: both decide the last bit."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    held_to = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return _cpu_name() + (f" ({held_to})" if held_to else "")


def instructions(device: torch.device) -> str:
    """The GPU's compute capability, such as sm_90, or the CPU's widest instructions for products, such as amx_bf16.

    Networks of the same settings come out otherwise on others, also where the model's name is the same.
    """
    import torch

    if device.type == "cuda":
        return "sm_{}{}".format(*torch.cuda.get_device_capability(device))
    flags = cpu_flags()
    return next((name for name in INSTRUCTIONS if name in flags), platform.machine())


def cpu_flags() -> set[str]:
    """The words of /proc/cpuinfo, the CPU's instruction sets among them; none where there is no such file."""
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return set()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "CPU"


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def of_run(
    device: torch.device, started: str, compile: str, data: str, earlier: Iterable[Sequence[str]] = ()
) -> dict[str, Any]:
    """The part of each record that says how it was made; ``data``: the digest of the images.

    ``earlier``: the :func:`hardware` that the run was on before it went on here.
    """
    import torch

    names, sets = (list(dict.fromkeys(each)) for each in zip(*hardware(device, earlier), strict=True))
    return {
        "device": "; ".join(names),
        "instructions": "; ".join(sets),
        "source": source(),
        "compile": compile,
        "data": data,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "versions": versions(),
        "git_commit": git_commit(),
        "started": started,
        "finished": now(),
    }
