"""W&B fails while a study runs: training goes on, the study ends, nothing is lost, and a later sync is complete."""

from __future__ import annotations

import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import compare, snakemake, write_study
from tracked import environment
from tracked import ssa as run_ssa
from wandb_server import KEY, Fault, Server

from ssa.tracking.ledger import Ledger
from ssa.tracking.log import is_complete

pytestmark = pytest.mark.slow
PARENTS, CHILDREN = 2, 8
WANDB = Path("results/faults/wandb")


@pytest.fixture
def folder(tmp_path: Path, undisturbed: Path) -> Path:
    """The study with its parents and masks trained, and its children not."""
    return write_study(tmp_path / "study", undisturbed)


def train(folder: Path, **env: str) -> str:
    """Run the study to its end, which W&B must neither stop nor hold up; what Snakemake said."""
    started = time.monotonic()
    run = snakemake(folder, "--cores", "2", env=environment(folder, **env))
    assert run.wait(timeout=240) == 0
    said = (folder / "snakemake.log").read_text(encoding="utf-8")
    print(f"the study ended after {time.monotonic() - started:.0f} s, with: {warnings(said)}")
    return said


def warnings(said: str) -> list[str]:
    """The lines about W&B in what was said."""
    return [line for line in said.splitlines() if line.startswith("ssa:")]


def check_sync(folder: Path, server: Server, **env: str) -> None:
    """Upload later: every run that was recorded is there, once and whole."""
    done = run_ssa(folder, "sync", "faults.yaml", **server.environment(), **env)
    assert done.returncode == 0, done.stderr
    kinds = Counter(run.fields["jobType"] for run in server.runs.values())
    print(f"a later sync: {done.stdout.strip()}; on the server {dict(kinds)}")
    assert kinds == {"parent": PARENTS, "child": CHILDREN}
    assert all((run.created, run.complete) == (1, True) for run in server.runs.values())


def test_wandb_out_of_reach(folder: Path, undisturbed: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    away = {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": KEY}
    said = warnings(train(folder, WANDB_MODE="online", **away))
    assert len(said) == 1
    assert "cannot be reached" in said[0]
    assert said[0].endswith("nothing is lost: run ssa sync later")
    compare(folder, undisturbed, [])
    with Server(port) as server:
        check_sync(folder, server)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    print(f"the key is in none of {len(files)} files")


def test_wandb_that_does_not_answer(folder: Path, undisturbed: Path) -> None:
    with Server() as server:
        server.faults = [Fault("/graphql", 10_000, None, delay=600)]
        train(folder, WANDB_MODE="online", **server.environment())
        assert server.faults[0].times < 10_000  # it was asked
    assert len(Ledger(folder / WANDB / "written.jsonl").read()) == PARENTS + CHILDREN
    compare(folder, undisturbed, [])
    with Server() as server:
        check_sync(folder, server)


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """Where W&B's files go: a disk of 100 kB, too small for all."""
    place = folder / WANDB
    place.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_wandb_out_of_disk(folder: Path, small_disk: Path, undisturbed: Path) -> None:
    said = warnings(train(folder, WANDB_MODE="offline"))
    assert len(said) == 1
    assert "run ssa track again to log what is missing" in said[0]
    compare(folder, undisturbed, [])
    by_hand = run_ssa(folder, "track", "faults.yaml")
    assert (by_hand.returncode, by_hand.stderr.count("\n")) == (2, 1)
    written = Ledger(small_disk / "written.jsonl").read()
    print(f"{len(written)} of {PARENTS + CHILDREN} runs fitted")
    assert 0 < len(written) < PARENTS + CHILDREN
    assert all(is_complete(small_disk / entry["folder"] / f"run-{run}.wandb") for run, entry in written.items())
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    with Server() as server:
        assert run_ssa(folder, "track", "faults.yaml").returncode == 0
        check_sync(folder, server)
