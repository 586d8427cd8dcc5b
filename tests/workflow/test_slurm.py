"""Studies on a real Slurm of one node, undisturbed and disturbed, compared with the same study without Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from faults import STUDY, compare, jobs, lines, middle_of_a_child, snakemake, wait, write_study

from ssa.files import read_tensors
from ssa.store.store import Store
from ssa.study import study

sys.path.insert(0, str(ROOT / "tests" / "slurm"))
import cluster

pytestmark = pytest.mark.slow
PROFILE = ("--workflow-profile", str(ROOT / "profiles" / "slurm"), "--slurm-init-seconds-before-status-checks", "3")


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    if reason := cluster.why_not():
        pytest.skip(reason)
    cluster.start()
    yield
    cluster.stop()


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout


def test_a_study_runs_from_submission_to_its_page(slurm: None, undisturbed: Path, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study")
    run = snakemake(folder, *PROFILE, target="all")
    assert run.wait(timeout=400) == 0, (folder / "snakemake.log").read_text(encoding="utf-8")[-3000:]
    done = [
        line
        for line in (cluster.STATE / "jobs.txt").read_text(encoding="utf-8").splitlines()
        if f"WorkDir={folder}" in line
    ]
    print(f"{len(done)} Slurm jobs, all completed; no job for a light stage")
    assert len(done) == 4  # two parents with their masks, two batches of four children
    assert all("JobState=COMPLETED" in line for line in done)
    assert {part for line in done for part in line.split() if part.startswith("TimeLimit=")} == {
        "TimeLimit=270",  # a parent's four hours and its masks' half
        "TimeLimit=35",  # 15 minutes and 5 for each of four children
    }
    assert "<title>" in (folder / "results/faults/report.html").read_text(encoding="utf-8")
    compare(folder, undisturbed, [])


def test_what_clusters_differ_in_is_set_in_the_profile_and_holds_for_all_that_trains(
    slurm: None, tmp_path: Path
) -> None:
    profile = tmp_path / "profile"
    profile.mkdir()
    text = (ROOT / "profiles" / "slurm" / "profile.yaml").read_text(encoding="utf-8")
    for line in ("slurm_partition: gpu", "gpu_model: h100"):
        assert text.count(f"# {line}") == 1
        text = text.replace(f"# {line}", line)
    (profile / "profile.yaml").write_text(text, encoding="utf-8")
    pair = {"name": "pair", "method": "prune-and-tune", "parents": "small", "members": 2, "masks": "anti-random"}
    parent = {"small": {**STUDY["parents"]["small"], "seeds": [0], "epochs": 1}}
    folder = write_study(tmp_path / "study", parents=parent, ensembles=[{**pair, "epochs": 1}])
    run = snakemake(folder, "--workflow-profile", str(profile), *PROFILE[2:])
    assert run.wait(timeout=400) == 0, (folder / "snakemake.log").read_text(encoding="utf-8")[-3000:]
    described = said("scontrol", "show", "job", "--oneliner").splitlines()
    asked = [dict(word.partition("=")[::2] for word in job.split()) for job in described if f"WorkDir={folder}" in job]
    print([(job["Partition"], job["TresPerJob"], job["TimeLimit"], job["MinMemoryNode"]) for job in asked])
    assert len(asked) == 3  # a parent with its masks, its children, the ensemble
    assert {(job["Partition"], job["TresPerJob"]) for job in asked} == {("gpu", "gres:gpu:h100:1")}
    assert len(pd.read_csv(folder / "results/faults/ensembles.csv")) == 1


def test_a_cancelled_job_and_a_lost_node(slurm: None, undisturbed: Path, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", undisturbed)
    run = snakemake(folder, *PROFILE, "--jobs", "1", "--retries", "4", "--config", "workers=2")
    middle_of_a_child(folder)
    first = said("squeue", "-h", "-t", "RUNNING", "-o", "%A").split()
    subprocess.run(["scancel", *first], check=True)
    kept = lines(folder)
    print(f"cancelled Slurm job {first} after {len(kept)} records")
    wait("the cancelled job to end", lambda: not jobs(folder, "children"))
    wait("the next attempt", lambda: jobs(folder, "children"))
    daemon = cluster.pid("slurmd")
    assert daemon
    os.kill(daemon, signal.SIGKILL)
    kept = lines(folder)
    print(f"killed slurmd, process {daemon}, after {len(kept)} records")
    wait("the node to be given up", lambda: "down" in said("sinfo", "-h", "-o", "%T"))
    cluster.start_daemon("slurmd")
    assert run.wait(timeout=400) == 0, (folder / "snakemake.log").read_text(encoding="utf-8")[-3000:]
    states = [
        part
        for part in (cluster.STATE / "jobs.txt").read_text(encoding="utf-8").split()
        if part.startswith("JobState=")
    ]
    print(f"Slurm's jobs ended as {states}")
    assert "JobState=CANCELLED" in states  # the other job may outlive its daemon, or fail with its node
    done = [
        line
        for line in (cluster.STATE / "jobs.txt").read_text(encoding="utf-8").splitlines()
        if f"WorkDir={folder}" in line
    ]
    asked = {
        (dict(part.partition("=")[::2] for part in line.split())["TimeLimit"], "mem=16000M" in line) for line in done
    }
    print(f"minutes, and whether twice the memory: {sorted(asked)}")
    assert {("35", False), ("70", True)} <= asked  # each attempt asks for more than the one before
    compare(folder, undisturbed, kept)


def test_a_parent_is_warned_before_its_time_limit_and_saves_its_epoch(slurm: None, tmp_path: Path) -> None:
    """The limit is two minutes; Slurm warns of it up to a minute before, whole minutes being its measure."""
    long = {"small": {**STUDY["parents"]["small"], "epochs": 20_000, "seeds": [0]}}
    folder = write_study(tmp_path / "study", parents=long)
    parent = next(iter(study.load(folder / "faults.yaml").all_parents()))
    limits = ("--set-resources", "parent:runtime=2", "parent:slurm_extra='--signal=TERM@30'")
    mark = f"results/faults/marks/parents/{parent}.done"
    run = snakemake(folder, *PROFILE, *limits, "--retries", "0", target=mark)
    assert run.wait(timeout=300) != 0
    logs = "".join(path.read_text(encoding="utf-8") for path in (folder / "logs/faults/parents").glob("*.log"))
    assert "ssa: stopped by SIGTERM: its last epoch is saved; the next attempt goes on from there" in logs
    epoch = int(read_tensors(Store(folder / "results").checkpoint(parent))[1]["epoch"])
    print(f"warned before its limit, the parent saved epoch {epoch} of 20,000")
    assert 0 < epoch < 20_000
