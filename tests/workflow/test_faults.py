"""Each test does the real thing to a running study, runs it again, and compares it with an undisturbed run by row."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faults
import pandas as pd
import pytest
from faults import compare, finish, jobs, lines, middle_of_a_child, snakemake, ssa, wait, write_study
from PIL import Image
from shared import once
from sklearn.datasets import load_digits

from ssa.files import read_tensors

pytestmark = pytest.mark.slow
LONG_PARENTS = {"small": {**faults.STUDY["parents"]["small"], "epochs": 120}}


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study with parents long enough to stop, run to its end with nothing in its way."""
    return once(tmp_path_factory, "long", lambda folder: finish(write_study(folder, parents=LONG_PARENTS)))


@pytest.fixture
def finished(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of the undisturbed study, to damage."""
    shutil.copytree(undisturbed, tmp_path / "study")
    return tmp_path / "study"


def test_a_job_killed_in_the_middle_of_a_child(tmp_path: Path, undisturbed: Path) -> None:
    folder = write_study(tmp_path / "study", undisturbed)
    run = snakemake(folder, "--cores", "2", "--retries", "0")
    job = middle_of_a_child(folder)
    os.kill(job, signal.SIGKILL)
    kept = lines(folder)
    print(f"killed a job after {len(kept)} records; Snakemake ended with {run.wait(timeout=240)}")
    assert run.returncode != 0
    finish(folder)
    compare(folder, undisturbed, kept)


def test_snakemake_and_its_job_killed(tmp_path: Path, undisturbed: Path) -> None:
    folder = write_study(tmp_path / "study", undisturbed)
    run = snakemake(folder, "--cores", "1")
    middle_of_a_child(folder)
    run.kill()
    run.wait()
    left = jobs(folder, "children")
    kept = lines(folder)
    print(f"killed Snakemake after {len(kept)} records; its jobs {left} went on; the study was run again at once")
    finish(folder)  # beside the job that lived on, which may train the same children: each counts once
    compare(folder, undisturbed, kept)
    wait("the old jobs to end", lambda: not [job for job in left if job in jobs(folder, "children")])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_parent_that_is_warned_saves_its_epoch_and_the_next_attempt_goes_on(
    tmp_path: Path, long: Path, number: Any
) -> None:
    folder = write_study(tmp_path / "study", parents=LONG_PARENTS)
    parent_id = plan(folder)[0]
    checkpoint = folder / "results" / "parents" / parent_id / "checkpoint.safetensors"
    job, log = training_parent(folder, parent_id)
    job.send_signal(number)
    job.wait(timeout=60)
    said = log.read_text(encoding="utf-8").splitlines()[-1]
    assert job.returncode == 3
    assert said == f"ssa: stopped by {number.name}: its last epoch is saved; the next attempt goes on from there"
    epoch = int(epoch_of(checkpoint))
    again = ssa(folder, "parent", "--parent", parent_id)
    assert again.returncode == 0
    assert not checkpoint.exists()
    same = weights(folder, parent_id) == weights(long, parent_id)
    print(f"warned by {number.name}: saved epoch {epoch} of 120, went on from there; weights equal: {same}")
    assert 0 < epoch < 120
    assert same


def test_a_damaged_checkpoint_is_named_and_removed(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", parents=LONG_PARENTS)
    parent_id = plan(folder)[0]
    job, _ = training_parent(folder, parent_id)
    job.send_signal(signal.SIGTERM)
    job.wait(timeout=60)
    damage(folder / "results" / "parents" / parent_id / "checkpoint.safetensors", "flipped")
    again = ssa(folder, "parent", "--parent", parent_id)
    said = [line for line in again.stderr.splitlines() if "checkpoint" in line]
    print(said)
    assert again.returncode == 0
    assert len(said) == 1
    assert "is damaged" in said[0]
    assert said[0].endswith("starting this run from its beginning")


def plan(folder: Path) -> list[str]:
    """The ids of the study's parents."""
    from ssa.study import study

    return list(study.load(folder / "faults.yaml").all_parents())


def training_parent(folder: Path, parent_id: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A job in the middle of its parent's epochs, and where it says so."""
    command = [sys.executable, "-m", "ssa", "parent", "faults.yaml", "--parent", parent_id]
    log = folder / "parent.log"
    with log.open("wb") as file:
        job = subprocess.Popen(command, cwd=folder, stderr=file)
    wait("the parent's epochs", lambda: "0/120" in log.read_text(encoding="utf-8"))
    time.sleep(0.3)
    return job, log


def epoch_of(checkpoint: Path) -> str:
    return read_tensors(checkpoint)[1]["epoch"]


def weights(folder: Path, parent_id: str) -> str:
    """The checksum of all weights; a file's own bytes vary with the order of its metadata."""
    return read_tensors(folder / "results" / "parents" / parent_id / "weights.safetensors")[1]["checksum"]


def test_a_job_that_is_warned_gives_up_its_child_and_snakemakes_next_attempt_goes_on(
    tmp_path: Path, undisturbed: Path
) -> None:
    folder = write_study(tmp_path / "study", undisturbed)
    run = snakemake(folder, "--cores", "1", "--retries", "1")
    os.kill(middle_of_a_child(folder), signal.SIGUSR1)
    kept = lines(folder)
    assert run.wait(timeout=240) == 0
    said = (folder / "snakemake.log").read_text(encoding="utf-8")
    assert "ssa: stopped by SIGUSR1:" in said
    print(f"warned a job after {len(kept)} records; Snakemake started it again by itself")
    compare(folder, undisturbed, kept)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A study's folder whose results lie on a disk of 3 MB."""
    folder = write_study(tmp_path / "study", parents=LONG_PARENTS)
    (folder / "results").mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder / "results")], check=False)
    if done.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder / "results")], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill the disk under ``folder`` up to ``leave`` bytes with one file."""
    ballast = folder / "ballast"
    room = os.statvfs(folder)
    size = room.f_bavail * room.f_frsize - leave
    ballast.write_bytes(b"\1" * max(size, 0))
    return ballast


def test_a_full_disk_is_one_line_and_the_study_goes_on_when_there_is_room(small_disk: Path, long: Path) -> None:
    folder, results, parent_id = small_disk, small_disk / "results", plan(small_disk)[0]

    def fails(stage: str, name: str) -> None:
        done = ssa(folder, stage, "--parent", parent_id)
        said = [line for line in done.stderr.splitlines() if line.startswith("ssa:")]
        print(f"{stage} on a full disk: {said}")
        assert done.returncode == 2
        assert len(said) == 1
        assert name in said[0]
        assert "could not be written" in said[0]
        assert said[0].endswith("free or change the disk and run again")
        assert not list(results.rglob("*.partial"))

    ballast = fill(results, 20_000)
    fails("parent", "weights.safetensors")
    ballast.unlink()
    job, log = training_parent(folder, parent_id)
    ballast = fill(results, 20_000)
    job.send_signal(signal.SIGTERM)  # it saves a checkpoint, for which there is no room
    job.wait(timeout=60)
    said = log.read_text(encoding="utf-8").splitlines()[-1]
    print(f"a checkpoint on a full disk: {said}")
    assert "checkpoint.safetensors could not be written" in said
    ballast.unlink()
    assert ssa(folder, "parent", "--parent", parent_id).returncode == 0
    assert ssa(folder, "masks", "--parent", parent_id).returncode == 0
    ballast = fill(results, 12_000)
    fails("children", ".jsonl")
    kept = lines(folder)
    ballast.unlink()
    finish(folder)
    compare(folder, long, kept)


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_damaged_files_are_named_and_rebuilt_or_asked_for(finished: Path, undisturbed: Path, how: str) -> None:
    parent_id = plan(finished)[0]
    parent = finished / "results" / "parents" / parent_id
    records = next((finished / "results" / "children" / parent_id).glob("*.jsonl"))
    damage(records, how)
    kept = [line for line in lines(finished) if is_whole(line)]
    (finished / faults.TABLE).unlink()
    assert len(kept) < 8
    table = ssa(finished, "aggregate")
    assert table.returncode == 2
    assert "run the study again" in table.stderr
    for path in (parent / "record.json", parent / "weights.safetensors", next(parent.glob("masks-*"))):
        whole = path.read_bytes()
        damage(path, how)
        done = ssa(finished, "run")
        said = [line for line in done.stderr.splitlines() if line.startswith("ssa:")]
        print(f"{path.name}, {how}: {said}")
        assert done.returncode == 2
        assert len(said) == 1
        assert path.name in said[0]
        assert "delete it and run again" in said[0]
        path.write_bytes(whole)
    for path in parent.iterdir():  # as the lines say, though one after the other
        path.unlink()
    finish(finished)
    print(f"{records.name}, {how}: {8 - len(kept)} of 8 children were trained again")
    compare(finished, undisturbed, kept)


@pytest.fixture(scope="module")
def undisturbed_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study on images in files, run to its end."""
    folder = write_study(tmp_path_factory.mktemp("images"), **IMAGES)
    write_images(folder / "data" / "images")
    finish(folder)
    return folder


IMAGES: dict[str, Any] = {
    "datasets": {"digits": {"source": "imagefolder", "folder": "images", "image_size": 8, "validation": 0}},
    "blocks": [{"name": "main", "parents": "small", "method": ["one-shot", "temperature"], "sparsity": 80}],
}


def write_images(folder: Path) -> None:
    """Some digits as bitmaps, which have no checksum of their own."""
    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images[:500], digits.target, strict=False)):
        path = folder / ("train" if i < 300 else "test") / str(label) / f"{i}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype("uint8")).convert("RGB").save(path)


@pytest.mark.parametrize(
    ("how", "says"),
    [("truncated", "0.bmp cannot be read"), ("flipped", "the images of data set images are not those that")],
)
def test_data_that_are_damaged_while_a_study_runs(
    tmp_path: Path, undisturbed_images: Path, how: str, says: str
) -> None:
    folder = write_study(tmp_path / "study", undisturbed_images, **IMAGES)
    shutil.copytree(undisturbed_images / "data", folder / "data")
    run = snakemake(folder, "--cores", "1", "--retries", "0")
    job = middle_of_a_child(folder)
    image = folder / "data/images/train/0/0.bmp"
    whole = image.read_bytes()
    damage(image, how)
    os.kill(job, signal.SIGKILL)
    kept = lines(folder)
    assert run.wait(timeout=240) != 0
    refused = ssa(folder, "run")
    said = [line for line in refused.stderr.splitlines() if line.startswith("ssa:")]
    print(f"{image.name}, {how}, after {len(kept)} records: {said}")
    assert (refused.returncode, len(said)) == (2, 1)
    assert says in said[0]
    assert lines(folder) == kept
    image.write_bytes(whole)
    finish(folder)
    compare(folder, undisturbed_images, kept)


def damage(path: Path, how: str) -> None:
    """Cut the file off at two thirds, or flip one bit in its middle."""
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[len(content) * 2 // 3 :]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


def is_whole(line: bytes) -> bool:
    from ssa.store import records

    return records.is_whole(line)


def test_a_second_snakemake_is_refused_in_one_line_and_the_first_goes_on(tmp_path: Path, undisturbed: Path) -> None:
    folder = write_study(tmp_path / "study", undisturbed)
    first = snakemake(folder, "--cores", "1")
    middle_of_a_child(folder)
    (folder / "snakemake.log").rename(folder / "first.log")  # the first goes on writing there
    second = snakemake(folder, "--cores", "1")
    assert second.wait(timeout=60) == 1
    said = [
        line
        for line in (folder / "snakemake.log").read_text(encoding="utf-8").splitlines()
        if "another process" in line
    ]
    print(said)
    assert said == [
        "study faults is being run by another process (results/faults/.lock is locked); wait for it, or stop it"
    ]
    assert first.wait(timeout=240) == 0
    compare(folder, undisturbed, [])


def test_two_jobs_that_train_the_same_children_at_once_count_each_child_once(tmp_path: Path, undisturbed: Path) -> None:
    folder = write_study(tmp_path / "study", undisturbed)
    command = [sys.executable, "-m", "ssa", "run", "faults.yaml"]
    runs = [subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(timeout=240) for run in runs] == [0, 0]
    assert ssa(folder, "aggregate").returncode == 0
    print(f"two processes wrote {len(lines(folder))} records of 8 children")
    compare(folder, undisturbed, [])


def test_a_diverging_child_is_marked_and_its_siblings_are_as_without_it(tmp_path: Path, undisturbed: Path) -> None:
    wild = {"name": "wild", "parents": "small", "method": "one-shot", "sparsity": 80, "lr": 1e12}
    folder = write_study(tmp_path / "study", trained=undisturbed, blocks=[*faults.STUDY["blocks"], wild])
    target = "paper_tables/faults/table1_accuracy.md"
    run = snakemake(folder, "--cores", "2", target=target)
    assert run.wait(timeout=240) == 0
    children = pd.read_csv(folder / faults.TABLE)
    lost = children[children.diverged]
    assert set(lost.block) == {"wild"}
    assert len(lost) == 2
    assert (lost.accuracy == 10.0).all()
    assert lost.diverged_step.notna().all()
    siblings = faults.rows(folder)[lambda rows: rows.block != "wild"].reset_index(drop=True)
    siblings = siblings.astype(faults.rows(undisturbed).dtypes)
    pd.testing.assert_frame_equal(siblings, faults.rows(undisturbed), check_exact=True)
    marked = [line for line in (folder / target).read_text(encoding="utf-8").splitlines() if "diverged" in line]
    print(f"{len(lost)} diverged at steps {list(lost.diverged_step)}; {len(siblings)} siblings equal; marked: {marked}")
    assert marked


# Stands in for a GPU that is too small: each job's first child runs out of memory, or every one of them.
SCARCE = """
import os, sys
if sys.orig_argv[1:4] == ["-m", "ssa", "children"]:
    import torch
    from ssa.runs import child
    train, failures = child.train, iter(range(10**6 if "ALWAYS" in os.environ else 1))
    def scarce(*args):
        if next(failures, None) is not None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return train(*args)
    child.train = scarce
"""


def test_out_of_gpu_memory_is_tried_again_alone_then_is_a_clear_failure(tmp_path: Path, undisturbed: Path) -> None:
    """Two jobs share a GPU by their leases; what runs out of memory, and is not there, is its memory."""
    folder = write_study(tmp_path / "study", undisturbed)
    (tmp_path / "scarce").mkdir()
    (tmp_path / "scarce" / "sitecustomize.py").write_text(SCARCE, encoding="utf-8")
    scarce = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "scarce"),
        "CUDA_VISIBLE_DEVICES": "0",
        "TMPDIR": str(tmp_path),
    }
    shared = ("--cores", "2", "--resources", "gpu=2", "--retries", "0")
    failed = snakemake(folder, *shared, "--keep-going", env={**scarce, "ALWAYS": "1"})
    assert failed.wait(timeout=240) == 1
    logs = sorted((folder / "logs/faults/children").rglob("*.log"))
    said = [log.read_text(encoding="utf-8").splitlines()[-1] for log in logs]
    print(f"jobs without room, even alone: {said}")
    assert len(said) == 2
    assert all("needs more memory than its GPU has, even alone (CUDA out of memory" in line for line in said)
    assert lines(folder) == []
    again = snakemake(folder, *shared, env=scarce)
    assert again.wait(timeout=240) == 0
    waited = [
        line
        for log in logs
        for line in log.read_text(encoding="utf-8").splitlines()
        if "waiting to have the GPU alone" in line
    ]
    print(f"jobs without room beside each other: {waited}")
    assert len(waited) == 2
    compare(folder, undisturbed, [])
