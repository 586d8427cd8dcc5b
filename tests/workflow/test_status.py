from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssa import cli
from ssa.process import progress
from ssa.process.progress import Beat, Progress
from ssa.store.store import Store
from ssa.study.study import Study, expand
from ssa.workflow import status

HERE = socket.gethostname()


@pytest.fixture
def study(tiny: dict[str, Any], tmp_path: Path) -> Study:
    """Two parents of 2 epochs, and 5 children of 2 epochs each."""
    return expand(tiny, tmp_path / "tiny.yaml")


def say(root: Path, run: str, **values: Any) -> Beat:
    """Leave in ``root`` the files of a job that trains ``run`` in this process."""
    now = time.time()
    told = {"unit": "child", "done": 0, "total": 5, "epochs": 0, "started": now, "at": now, "host": HERE}
    beat = Beat(**{"run": run, "pid": os.getpid(), **told, **values})
    (root / progress.FOLDER).mkdir(exist_ok=True)
    (root / progress.FOLDER / f"{beat.host}-{beat.pid}.json").write_text(json.dumps(vars(beat)), encoding="utf-8")
    return beat


def finish(store: Store, study: Study, parent: int, children: int) -> str:
    """Record the first ``children`` of a parent, and the parent."""
    parent_id = list(study.all_parents())[parent]
    store.parent_record(parent_id).parent.mkdir(parents=True)
    store.parent_record(parent_id).write_text("{}", encoding="utf-8")
    for child in study.children_of(parent_id)[:children]:
        store.record_child(child.spec, {})
    return parent_id


def test_nothing_is_done_before_a_study_runs(study: Study, tmp_path: Path) -> None:
    found = status.read(study, Store(tmp_path))
    assert (found.parents, found.children, found.epochs_left) == ((0, 2), (0, 10), 24)
    assert found.seconds is None
    assert status.line(found) == "tiny: 0 of 2 parents, 0 of 10 children; nothing trains now; 24 epochs left"


def test_the_time_left_is_the_epochs_left_over_the_rate_of_all_jobs(study: Study, tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = finish(store, study, 0, 3)
    other = list(study.all_parents())[1]
    say(tmp_path, run, done=1, epochs=20, started=1000.0, at=1010.0)
    say(tmp_path, other, unit="epoch", done=1, total=2, epochs=5, started=1000.0, at=1010.0, pid=os.getppid())
    found = status.read(study, store)
    assert (found.parents, found.children) == ((1, 2), (3, 10))
    assert found.epochs_left == 2 * 2 + 1 + 5 * 2  # two children; one epoch of the parent that trains; its children
    assert found.rate == pytest.approx(2.5)
    assert found.seconds == pytest.approx(15 / 2.5)
    assert "3 of 10 children; 2 jobs, 2.5 epochs/s; 15 epochs left, about 0:06, until" in status.line(found)
    shown = status.text(found)
    assert f"{run}: child 1 of 5, 2 epochs/s, 0:10" in shown
    assert f"{other}: epoch 1 of 2, 30 epochs/min, 0:10" in shown


def test_an_epoch_counts_by_what_it_costs(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["datasets"]["more"] = {**tiny["datasets"]["digits"], "train": 600}
    tiny["parents"]["big"] = {**tiny["parents"]["small"], "dataset": "more"}
    tiny["blocks"] = [{"name": "dense", "parents": ["small", "big"], "method": "dense"}]
    study = expand(tiny, tmp_path / "tiny.yaml")
    small = study.parents["small"][0].id
    say(tmp_path, small, unit="epoch", total=2, epochs=10, started=0.0, at=10.0)
    found = status.read(study, Store(tmp_path))
    assert found.epochs_left == 16  # four parents and four children
    assert found.seconds == pytest.approx(8 * 1 + 8 * 10)  # ten times the images: ten seconds an epoch, not one


def test_jobs_that_were_killed_and_other_studies_jobs_do_not_count(study: Study, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    run = next(iter(study.all_parents()))
    say(tmp_path, run, pid=ended.pid)
    say(tmp_path, run, host="elsewhere", pid=1, at=time.time() - progress.LOST_SECONDS - 1)
    say(tmp_path, run, host="elsewhere", pid=2)
    say(tmp_path, "another-parent")
    (tmp_path / progress.FOLDER / "half.json").write_text('{"run"', encoding="utf-8")
    found = status.read(study, Store(tmp_path))
    assert [job.pid for job in found.jobs] == [2]
    assert found.others == 1


def test_a_job_tells_how_far_it_is_and_takes_its_file_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "BEAT_SECONDS", 0.0)
    killed = say(tmp_path, "left", pid=2**22 + 1)  # above the largest process id
    assert not killed.alive
    with Progress(tmp_path, "parent", 3, "child") as bar:
        progress.epoch()
        progress.epoch()
        bar.update()
        (beat,) = progress.running(tmp_path)
        assert (beat.run, beat.done, beat.total, beat.epochs, beat.pid) == ("parent", 1, 3, 2, os.getpid())
    assert list((tmp_path / progress.FOLDER).iterdir()) == []
    progress.epoch()  # without a job: training in a user's own program
    assert "parent" in capsys.readouterr().err


def test_a_disk_that_refuses_the_file_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / progress.FOLDER).write_text("in the way", encoding="utf-8")
    with Progress(tmp_path, "parent", 1, "child") as bar:
        bar.update()
    assert progress.running(tmp_path) == []


def test_watching_ends_when_all_is_recorded(study: Study, tmp_path: Path) -> None:
    store, stream = Store(tmp_path), io.StringIO()
    finish(store, study, 0, 5)
    finish(store, study, 1, 5)
    status.watch(study, store, stream, every=60)
    assert stream.getvalue() == "tiny: 2 of 2 parents, 10 of 10 children: all are recorded\n"


def test_a_log_has_a_line_a_minute_and_a_terminal_one_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    assert status.log_seconds(stream) == 60
    monkeypatch.setattr(stream, "isatty", lambda: True)
    assert status.log_seconds(stream) == 10


def test_the_workflow_says_a_line_every_so_often_and_ends_with_the_study(study: Study, tmp_path: Path) -> None:
    store, said = Store(tmp_path), list[str]()
    status.say_while_running(study, store, said.append, every=0.05)
    finish(store, study, 0, 5)
    last = finish(store, study, 1, 4)
    deadline = time.monotonic() + 10
    while not any("9 of 10" in line for line in said) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "9 of 10 children" in said[-1]
    store.record_child(study.children_of(last)[4].spec, {})
    while any(thread.name == "status" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(thread.name == "status" for thread in threading.enumerate())


def test_on_a_terminal_the_same_lines_are_drawn_again(tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    command = [sys.executable, "-m", "ssa", "status", "tiny.yaml", "--watch", "--every", "0.1"]
    ours, theirs = pty.openpty()
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background inherit that it is ignored
    watching = subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=tmp_path, preexec_fn=heed)
    shown = b""
    deadline = time.monotonic() + 60
    while shown.count(b"children") < 3 and time.monotonic() < deadline:
        if select.select([ours], [], [], 1)[0]:
            shown += os.read(ours, 65536)
    watching.send_signal(signal.SIGINT)  # Ctrl-C ends it without a word
    deadline = time.monotonic() + 60
    while watching.poll() is None and time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:  # a terminal that nobody reads would hold it up
            shown += os.read(ours, 65536)
    assert watching.poll() == 0
    assert shown.count(b"\x1b[5F\x1b[J") == shown.count(b"children") - 1  # up over its own five lines, and anew
    assert b"Traceback" not in shown


def test_the_command_prints_once_where_it_is_not_told_to_watch(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    assert cli.main(["status", str(tmp_path / "tiny.yaml"), "--results", str(tmp_path / "results")]) == 0
    assert "0 of 10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "0:05"), (125, "2:05"), (3600, "1 h 00 min"), (12_000, "3 h 20 min"), (187_200, "2 d 4 h")],
)
def test_times_are_in_words(seconds: float, text: str) -> None:
    assert status.clock(seconds) == text


def test_a_bar_is_drawn_in_characters_that_the_terminal_has() -> None:
    assert status.blocks_of(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == "█░"
    assert status.blocks_of(io.TextIOWrapper(io.BytesIO(), encoding="ascii")) == "#."
