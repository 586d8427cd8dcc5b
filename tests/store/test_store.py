"""Results on disk: whole or not at all, and never another run's."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ssa import files as ssa_files
from ssa.errors import UserError
from ssa.store import store
from ssa.store.store import Store
from ssa.study import study


@pytest.fixture
def child(tiny: dict[str, Any]) -> Any:
    return study.expand(tiny, Path("tiny.yaml")).children[0].spec


@pytest.fixture
def other(tiny: dict[str, Any]) -> Any:
    return study.expand(tiny, Path("tiny.yaml")).children_of(child_parent(tiny))[1].spec


def child_parent(tiny: dict[str, Any]) -> str:
    return study.expand(tiny, Path("tiny.yaml")).children[0].spec.parent.id


def files(folder: Path) -> list[Path]:
    return sorted((folder / "children").rglob("*.jsonl"))


def test_a_record_comes_back_with_its_specification(tmp_path: Path, child: Any) -> None:
    Store(tmp_path).record_child(child, {"result": {"accuracy": 50.0, "nll": float("nan")}})
    record = Store(tmp_path).read_child(child)
    assert record["result"] == {"accuracy": 50.0, "nll": None}
    assert record["spec"]["recipe"]["epochs"] == 2
    assert record["id"].startswith("none-0-dense-one-cycle-E2-s0-")
    assert files(tmp_path)[0].parent.name.startswith("resnet-small-digits-s0-")


def test_a_process_appends_to_one_file_and_another_to_its_own(tmp_path: Path, child: Any, other: Any) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    first.record_child(child, {"result": {"accuracy": 1.0}})
    first.record_child(other, {"result": {"accuracy": 2.0}})
    assert second.recorded_children(child.parent.id) == {child.id, other.id}
    second.record_child(child, {"result": {"accuracy": 1.0}})
    assert [len(path.read_bytes().splitlines()) for path in files(tmp_path)] in ([2, 1], [1, 2])
    assert Store(tmp_path).recorded_children(child.parent.id) == {child.id, other.id}


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2] + b"\n",
        lambda line: line.replace(b"50.0", b"51.0"),
        lambda line: line[:-1] + b" \n",
    ],
)
def test_a_damaged_record_is_named_and_not_counted_and_its_siblings_are(
    tmp_path: Path, child: Any, other: Any, damage: Any
) -> None:
    store = Store(tmp_path)
    store.record_child(child, {"result": {"accuracy": 50.0}})
    store.record_child(other, {"result": {"accuracy": 50.0}})
    first, second = files(tmp_path)[0].read_bytes().splitlines(True)
    files(tmp_path)[0].write_bytes(damage(first) + second)
    store = Store(tmp_path)
    assert store.recorded_children(child.parent.id) == {other.id}
    with pytest.raises(UserError, match=r"none-0-dense.*is damaged \(.*\.jsonl, line 1\); run the study again"):
        store.read_child(child)
    store.record_child(child, {"result": {"accuracy": 52.0}})
    assert store.read_child(child)["result"] == {"accuracy": 52.0}


def test_a_bit_that_flips_after_the_record_was_found_is_noticed(tmp_path: Path, child: Any) -> None:
    store = Store(tmp_path)
    store.record_child(child, {"result": {"accuracy": 50.0}})
    assert store.recorded(child)
    files(tmp_path)[0].write_bytes(files(tmp_path)[0].read_bytes().replace(b"50.0", b"58.0"))
    with pytest.raises(UserError, match="is damaged"):
        store.read_child(child)


def test_the_half_line_of_a_killed_process_is_not_counted(tmp_path: Path, child: Any, other: Any) -> None:
    store = Store(tmp_path)
    store.record_child(child, {"result": {}})
    store.record_child(other, {"result": {}})
    path = files(tmp_path)[0]
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:cut])
        assert Store(tmp_path).recorded_children(child.parent.id) == {child.id}
    watching = Store(tmp_path)
    assert watching.recorded_children(child.parent.id) == {child.id}
    path.write_bytes(whole)  # it was being written
    assert watching.recorded_children(child.parent.id) == {child.id, other.id}


@pytest.mark.parametrize(
    "damage", [lambda line: line[:40], lambda line: line.replace(b"50.0", b"51.0"), lambda line: b""]
)
def test_a_parents_damaged_record_is_named_and_refused(tmp_path: Path, child: Any, damage: Any) -> None:
    path = Store(tmp_path).parent_record(child.parent.id)
    store.write_record(path, child.parent, {"result": {"accuracy": 50.0}})
    assert Store(tmp_path).read_parent(child.parent)["result"] == {"accuracy": 50.0}
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"record\.json is damaged"):
        Store(tmp_path).read_parent(child.parent)


def test_a_missing_record_is_named(tmp_path: Path, child: Any) -> None:
    with pytest.raises(UserError, match=r"none-0-dense.* is missing"):
        Store(tmp_path).read_child(child)


def test_tensors_come_back_and_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = {"a": torch.arange(12.0).view(3, 4), "b": torch.tensor([True, False])}
    ssa_files.write_tensors(path, tensors, {"id": "x"})
    read, metadata = ssa_files.read_tensors(path)
    assert metadata["id"] == "x"
    assert all(torch.equal(read[name], value) for name, value in tensors.items())
    content = bytearray(path.read_bytes())
    content[-1] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights.safetensors is damaged.*delete it and run again"):
        ssa_files.read_tensors(path)
    path.write_bytes(content[:-5])
    with pytest.raises(UserError, match=r"weights.safetensors cannot be read"):
        ssa_files.read_tensors(path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before", encoding="utf-8")

    def fails(partial: Path) -> None:
        partial.write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"file could not be written.*No space left.*free or change the disk"):
        ssa_files.write_atomically(path, fails)
    assert path.read_text(encoding="utf-8") == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A file size limit makes the real writer fail in the middle of a real file."""
    code = (
        "import sys, torch; from pathlib import Path; from ssa import files; from ssa.errors import UserError\n"
        "try: files.write_tensors(Path(sys.argv[1]), {'a': torch.zeros(100_000)}, {})\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "w.safetensors")],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        encoding="utf-8",
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert "w.safetensors could not be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_json_is_written_without_nan(tmp_path: Path) -> None:
    ssa_files.write_json(tmp_path / "x.json", {"a": float("inf"), "b": [1.5, float("nan")]})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"a": None, "b": [1.5, None]}
