"""Uploads by the real W&B client to the server of ``wandb_server``: nothing is lost, nothing is there twice."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tracked import RUNS, environment, ssa, wait_for
from wandb_server import ENTITY, KEY, Fault, Server

from ssa.tracking.ledger import Ledger

CHILD_ROWS = 3  # of a child's history: before the first epoch, and after each of two


def uploaded(again: Path) -> set[str]:
    """The runs that are noted as uploaded."""
    return set(Ledger(again / "results/tiny/wandb/uploaded.jsonl").read())


def middle_of_an_upload(again: Path, server: Server) -> subprocess.Popen[str]:
    """An upload, slowed down, of which one run has arrived whole; in a process group of its own."""
    server.faults = [Fault("/file_stream", 10_000, None, delay=0.5)]
    env = environment(again, **server.environment())
    command = [sys.executable, "-m", "ssa", "sync", "tiny.yaml"]
    process = subprocess.Popen(
        command, cwd=again, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True, encoding="utf-8"
    )
    wait_for(lambda: any(run.complete for run in server.runs.values()))
    return process


def check_whole(server: Server) -> None:
    """The server has every run once and whole."""
    assert server.unknown == []
    assert len(server.runs) == RUNS
    assert all((run.created, run.complete) == (1, True) for run in server.runs.values())
    kinds = Counter(run.fields["jobType"] for run in server.runs.values())
    assert kinds == {"parent": 2, "child": 10, "study": 1}
    for run in server.runs.values():
        if run.fields["jobType"] == "child":
            assert [row["epoch"] for row in run.history()] == list(range(CHILD_ROWS))
            assert run.summary()["accuracy"] > 0
            assert run.settings()["spec"]["law"] in ("OneShot", "TemperatureAnnealing")
    artifacts = {a["name"]: a["state"] for a in server.artifacts.values()}
    assert artifacts["study-tiny"] == "COMMITTED"
    assert set(artifacts.values()) == {"COMMITTED"}


def test_everything_is_uploaded_once(again: Path) -> None:
    with Server() as server:
        done = ssa(again, "sync", "tiny.yaml", **server.environment())
        assert done.stderr == ""  # shown whole where it fails, as a pair would not be
        assert done.returncode == 0
        assert done.stdout == f"{RUNS} W&B runs uploaded; every run that is recorded is now there\n"
        check_whole(server)
        child = next(run for run in server.runs.values() if "80-temperature" in run.name)
        assert (child.entity, child.project) == (ENTITY, "ssa-tiny")
        assert child.fields["groupName"].split("/")[1].startswith("random-80-")
        assert child.fields["tags"] == ["tiny", "digits", "resnet-small", "random", "temperature"]
        assert child.history()[0]["keep_probability/pruned"]["_type"] == "histogram"
        study_run = server.runs["study-tiny"]
        assert {"tables/table3_differences", "figures/accuracy_vs_sparsity"} <= set(study_run.history()[0])
        artifact = next(a for a in server.artifacts.values() if a["name"] == "study-tiny")
        assert artifact["files"]["children.csv"] == (again / "results/tiny/children.csv").read_bytes()
        before = len(server.requests)
        second = ssa(again, "sync", "tiny.yaml", **server.environment())
        assert second.stdout.startswith("0 W&B runs uploaded")
        assert len(server.requests) == before


@pytest.mark.slow
def test_a_second_study_does_not_take_the_first_ones_runs_in_a_project_of_both(again: Path) -> None:
    text = (again / "tiny.yaml").read_text(encoding="utf-8")
    (again / "other.yaml").write_text(text.replace("name: tiny", "name: other"), encoding="utf-8")
    with Server() as server:
        shared = {"WANDB_PROJECT": "shared", **server.environment()}
        assert ssa(again, "sync", "tiny.yaml", **shared).returncode == 0
        refused = ssa(again, "sync", "other.yaml", **shared)
        assert refused.returncode == 2
        assert "give this study a project of its own (wandb.project)" in refused.stderr
        assert {run.fields["tags"][0] for run in server.runs.values()} == {"tiny"}


@pytest.mark.slow
def test_errors_limits_and_cut_connections_are_survived(again: Path) -> None:
    with Server() as server:
        for path in ("/graphql", "/file_stream", "/storage"):
            server.faults += [Fault(path, 1, status) for status in (500, 429, 0)]
        done = ssa(again, "sync", "tiny.yaml", **server.environment())
        assert done.returncode == 0, done.stderr
        assert all(fault.times == 0 for fault in server.faults)
        check_whole(server)


@pytest.mark.slow
def test_after_an_outage_the_rest_is_uploaded(again: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    away = {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": KEY}
    started = time.monotonic()
    failed = ssa(again, "sync", "tiny.yaml", **away)
    assert time.monotonic() - started < 30
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1
    assert "cannot be reached" in failed.stderr
    assert "nothing is lost: run ssa sync later" in failed.stderr
    with Server(port) as server:
        assert ssa(again, "sync", "tiny.yaml", **away).returncode == 0
        check_whole(server)


@pytest.mark.slow
def test_an_outage_in_the_middle_of_an_upload_is_waited_out(again: Path) -> None:
    with Server() as server:
        process = middle_of_an_upload(again, server)
        there = sum(run.complete for run in server.runs.values())
        outage = Fault("/", 10_000, 0)
        server.faults = [outage]
        time.sleep(5)
        server.faults = []
        _, said = process.communicate(timeout=120)
        cut = 10_000 - outage.times
        print(f"{there} of {RUNS} runs were there when W&B went away; {cut} requests were cut off")
        assert (process.returncode, said) == (0, "")
        assert there < RUNS
        assert cut > 0
        check_whole(server)


@pytest.mark.slow
def test_what_the_server_refused_is_not_taken_for_uploaded(again: Path) -> None:
    """The client marks a run as synced also where its data were refused."""
    with Server() as server:
        server.faults = [Fault("/storage/artifact", 10_000, 403)]
        refused = ssa(again, "sync", "tiny.yaml", **server.environment())
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        assert "did not take study-tiny whole" in refused.stderr
        assert len(uploaded(again)) == RUNS - 1
        server.faults = []
        assert ssa(again, "sync", "tiny.yaml", **server.environment()).stdout.startswith("1 W&B runs uploaded")
        check_whole(server)


@pytest.mark.slow
def test_where_no_data_are_taken_nothing_counts_as_uploaded(again: Path) -> None:
    with Server() as server:
        server.faults = [Fault("/file_stream", 10_000, 400)]
        refused = ssa(again, "sync", "tiny.yaml", **server.environment())
        assert refused.returncode == 2
        assert "run ssa sync again" in refused.stderr
        assert uploaded(again) == set()
        server.faults = []
        assert ssa(again, "sync", "tiny.yaml", **server.environment()).returncode == 0
        check_whole(server)


@pytest.mark.slow
def test_a_killed_upload_is_taken_up_where_it_was(again: Path) -> None:
    with Server() as server:
        process = middle_of_an_upload(again, server)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"killed an upload; {sum(run.complete for run in server.runs.values())} of {RUNS} runs were there whole")
        assert not all(run.complete for run in server.runs.values()) or len(server.runs) < RUNS
        server.faults = []
        assert ssa(again, "sync", "tiny.yaml", **server.environment()).returncode == 0
        check_whole(server)


@pytest.mark.slow
def test_online_runs_are_uploaded_while_the_study_is_followed(folder: Path) -> None:
    with Server() as server:
        env = environment(folder, WANDB_MODE="online", **server.environment())
        command = [sys.executable, "-m", "ssa", "track", "tiny.yaml", "--follow"]
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        wait_for(lambda: len(server.runs) == RUNS)
        _, said = process.communicate(timeout=90)
        assert (process.returncode, said) == (0, "")
        check_whole(server)
        assert len(uploaded(folder)) == RUNS


@pytest.mark.slow
def test_the_key_is_written_nowhere(again: Path) -> None:
    with Server() as server:
        server.faults = [Fault("/graphql", 1, 500)]
        env = {**server.environment(), "WANDB_MODE": "online", "WANDB_DEBUG": "true", "WANDB_CORE_DEBUG": "true"}
        done = ssa(again, "sync", "tiny.yaml", **env)
        assert done.returncode == 0
    secrets = (KEY.encode(), base64.b64encode(f"api:{KEY}".encode()))
    assert not [secret for secret in secrets if secret in (done.stdout + done.stderr).encode()]
    files = [path for path in again.rglob("*") if path.is_file()]
    print(f"looked for the key, plain and encoded, in what was said and in {len(files)} files")
    assert len(files) > RUNS
    assert not [path for path in files if any(secret in path.read_bytes() for secret in secrets)]


def test_without_a_key_one_line_says_what_to_do(again: Path) -> None:
    with Server() as server:
        done = ssa(again, "sync", "tiny.yaml", WANDB_BASE_URL=server.url)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "wandb login" in done.stderr
    assert uploaded(again) == set()
