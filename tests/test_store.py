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

from ssa import store, study
from ssa.errors import UserError
from ssa.store import Store


@pytest.fixture
def child(tiny: dict[str, Any]) -> Any:
    return study.expand(tiny, Path("tiny.yaml")).children[0].spec


def test_a_record_comes_back_with_its_specification(tmp_path: Path, child: Any) -> None:
    path = Store(tmp_path).child_record(child)
    store.write_record(path, child, {"result": {"accuracy": 50.0, "nll": float("nan")}})
    record = Store(tmp_path).read_child(child)
    assert record["result"] == {"accuracy": 50.0, "nll": None}
    assert record["spec"]["recipe"]["epochs"] == 2
    assert path.name.startswith("none-0-dense-one-cycle-E2-s0-")
    assert path.parent.name.startswith("resnet-small-digits-s0-")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("50.0", "51.0"),
        lambda text: text.replace('"id": "none', '"id": "some'),
        lambda text: "[]",
        lambda text: "",
    ],
)
def test_damaged_records_are_named_and_refused(tmp_path: Path, child: Any, damage: Any) -> None:
    path = Store(tmp_path).child_record(child)
    store.write_record(path, child, {"result": {"accuracy": 50.0}})
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=f"{path.name} is damaged"):
        Store(tmp_path).read_child(child)


def test_a_missing_record_is_named(tmp_path: Path, child: Any) -> None:
    with pytest.raises(UserError, match="is missing: the run none-0-dense"):
        Store(tmp_path).read_child(child)


def test_tensors_come_back_and_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = {"a": torch.arange(12.0).view(3, 4), "b": torch.tensor([True, False])}
    store.write_tensors(path, tensors, {"id": "x"})
    read, metadata = store.read_tensors(path)
    assert metadata["id"] == "x"
    assert all(torch.equal(read[name], value) for name, value in tensors.items())
    content = bytearray(path.read_bytes())
    content[-1] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights.safetensors is damaged.*delete it and run again"):
        store.read_tensors(path)
    path.write_bytes(content[:-5])
    with pytest.raises(UserError, match=r"weights.safetensors cannot be read"):
        store.read_tensors(path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def fails(partial: Path) -> None:
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"file could not be written.*No space left.*free or change the disk"):
        store.write_atomically(path, fails)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A file size limit makes the real writer fail in the middle of a real file."""
    code = (
        "import sys, torch; from pathlib import Path; from ssa import store; from ssa.errors import UserError\n"
        "try: store.write_tensors(Path(sys.argv[1]), {'a': torch.zeros(100_000)}, {})\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "w.safetensors")],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert "w.safetensors could not be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_json_is_written_without_nan(tmp_path: Path) -> None:
    store.write_json(tmp_path / "x.json", {"a": float("inf"), "b": [1.5, float("nan")]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [1.5, None]}
