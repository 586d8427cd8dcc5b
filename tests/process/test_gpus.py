"""GPUs are shared out by locks: each is used, none beyond its shares, and a dead job's is free. Needs no GPU."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from ssa.errors import UserError
from ssa.process import gpus, locks
from ssa.workflow import stages

HOLD = "import sys, time; from pathlib import Path; from ssa.process import gpus\n" + (
    "held = gpus.take(['a'], 1, Path(sys.argv[1])); print(held.device, flush=True); time.sleep(60)"
)


def test_jobs_spread_over_all_gpus_and_over_their_shares(tmp_path: Path) -> None:
    held = [gpus.take(["a", "b", "c"], 2, tmp_path) for _ in range(6)]
    assert [lease.device for lease in held[:3]] == ["a", "b", "c"]
    assert Counter(lease.device for lease in held) == {"a": 2, "b": 2, "c": 2}
    held[4].release()
    assert gpus.take(["a", "b", "c"], 2, tmp_path).device == "b"


def test_where_nothing_can_be_locked_work_goes_on_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locks.one_at_a_time(tmp_path / "parent" / ".lock", "parent", lambda: False) as mine:
        said = capsys.readouterr().err
    assert mine
    assert said.count("\n") == 1
    assert f"{tmp_path}/parent/.lock cannot be locked (No locks available)" in said
    assert not locks.only_one(tmp_path / ".lock", "study").closed


def test_who_waits_for_another_says_so_once_and_gives_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, asked = tmp_path / "parent" / ".lock", iter([False, False, True])
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.0)
    with locks.one_at_a_time(path, "parent 1", lambda: False) as first:
        with locks.one_at_a_time(path, "parent 1", lambda: next(asked)) as second:
            assert (first, second) == (True, False)
        assert next(asked, None) is None  # it tried again until then
    with locks.one_at_a_time(path, "parent 1", lambda: True) as third:
        assert third
    assert capsys.readouterr().err == "parent 1 is being trained by another process; waiting for it\n"


def test_a_killed_jobs_lease_is_free_at_once(tmp_path: Path) -> None:
    job = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert job.stdout
    assert job.stdout.readline() == "a\n"
    with pytest.raises(TimeoutError):
        take_within(0.3, tmp_path)
    job.kill()
    job.communicate()
    assert take_within(0.3, tmp_path).device == "a"


def take_within(seconds: float, where: Path) -> gpus.Lease:
    """A lease of "a"; ``TimeoutError`` instead of waiting longer."""
    stop = time.monotonic() + seconds

    def sleep(_: float) -> None:
        if time.monotonic() > stop:
            raise TimeoutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", sleep)
        return gpus.take(["a"], 1, where)


def test_a_job_that_waits_takes_what_is_given_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = gpus.take(["a"], 1, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda _: held.release())
        assert gpus.take(["a"], 1, tmp_path).device == "a"
    assert capsys.readouterr().err == "all shares of 1 GPUs are leased; waiting for one\n"


def test_alone_waits_for_the_neighbours_and_keeps_the_whole_gpu(tmp_path: Path) -> None:
    code = HOLD.replace("['a'], 1", "['a'], 2").replace("time.sleep(60)", "time.sleep(1)")
    neighbour = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert neighbour.stdout
    neighbour.stdout.readline()
    mine = gpus.take(["a"], 2, tmp_path)
    mine.alone()
    assert neighbour.poll() is not None or neighbour.wait(1) == 0
    neighbour.communicate()
    with pytest.raises(TimeoutError):
        take_within(0.3, tmp_path)


def test_gpus_are_those_that_are_visible_or_that_the_driver_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for chosen, names in (("0, 2", ["0", "2"]), ("GPU-1f", ["GPU-1f"]), ("", []), ("-1", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert gpus.usable() == names
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.usable() == []
    says(tmp_path, ["GPU 0: NVIDIA A100 (UUID: GPU-aa)", "GPU 1: NVIDIA A100 (UUID: GPU-bb)"])
    assert gpus.usable() == ["GPU-aa", "GPU-bb"]


def test_a_divided_gpu_is_its_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = [
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aa)",
        "  MIG 3g.20gb     Device  0: (UUID: MIG-1)",
        "  MIG 1g.5gb      Device  1: (UUID: MIG-2)",
        "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bb)",
        "GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-cc)",
        "  MIG 7g.40gb     Device  0: (UUID: MIG-3)",
    ]
    says(tmp_path, lines)
    assert gpus.usable() == ["MIG-1", "MIG-2", "GPU-bb", "MIG-3"]


def says(folder: Path, lines: list[str]) -> None:
    """Let ``nvidia-smi -L`` in ``folder`` print ``lines``."""
    script = ["#!/bin/sh", '[ "$*" = -L ] || exit 1', *(f"echo '{line}'" for line in lines)]
    (folder / "nvidia-smi").write_text("\n".join(script), encoding="utf-8")
    (folder / "nvidia-smi").chmod(0o755)


def test_a_share_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus.shares() == 1
    monkeypatch.setenv(gpus.SHARES, "half")
    with pytest.raises(UserError, match="SSA_JOBS_PER_GPU is 'half'; allowed: a whole number from 1"):
        gpus.shares()


def test_locks_are_not_laid_into_a_folder_that_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert gpus.folder().stat().st_mode & 0o777 == 0o700
    own = gpus.folder()
    own.rmdir()
    (tmp_path / "elsewhere").mkdir()
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="belongs to someone else"):
        gpus.folder()


class Memory:
    """A GPU that runs out of memory the first ``failures`` times."""

    def __init__(self, failures: int) -> None:
        self.failures, self.calls = failures, 0

    def train(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore text")
        return "trained"


def test_out_of_memory_is_tried_once_more_with_the_gpu_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpus, "_mine", gpus.take(["a"], 2, tmp_path))
    assert stages.with_room(Memory(1).train, "child-1") == "trained"
    assert "child-1: out of GPU memory; waiting to have the GPU alone" in capsys.readouterr().err
    with pytest.raises(TimeoutError):
        take_within(0.3, tmp_path)


def test_out_of_memory_alone_is_a_clear_failure() -> None:
    memory = Memory(9)
    with pytest.raises(UserError) as failed:
        stages.with_room(memory.train, "child-1")
    assert memory.calls == 2
    assert str(failed.value) == (
        "child-1 needs more memory than its GPU has, even alone (CUDA out of memory. Tried to allocate 2.00 GiB.); "
        "lower its batch_size in the study, or use a larger GPU"
    )
