"""Where results lie, and how they are written: whole or not at all.

::

    results/parents/<parent>/{weights,checkpoint,masks-<digest>}.safetensors, record.json
    results/children/<parent>/<child>.json
    results/<study>/...

Parents and children are filed by their ids, so that studies share them. A record carries the specification that
it was made from, and is refused where that is another.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssa.errors import UserError
from ssa.specs import ChildSpec, ParentSpec, Spec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Store:
    """The files under ``root``, the results folder."""

    root: Path

    def parent_folder(self, parent_id: str) -> Path:
        """All files of one parent."""
        return self.root / "parents" / parent_id

    def weights(self, parent_id: str) -> Path:
        """The parent's trained weights."""
        return self.parent_folder(parent_id) / "weights.safetensors"

    def early_weights(self, parent_id: str, epoch: int) -> Path:
        """The weights that the parent had after ``epoch`` epochs, kept where a study rewinds to them."""
        return self.parent_folder(parent_id) / f"epoch-{epoch}.safetensors"

    def checkpoint(self, parent_id: str) -> Path:
        """What an interrupted parent resumes from."""
        return self.parent_folder(parent_id) / "checkpoint.safetensors"

    def parent_record(self, parent_id: str) -> Path:
        """What the parent scored, and its specification."""
        return self.parent_folder(parent_id) / "record.json"

    def masks(self, parent_id: str, mask_ids: Iterable[str]) -> Path:
        """The masks of one parent for one study, in one file that is named after them."""
        return self.parent_folder(parent_id) / f"masks-{digest(mask_ids)}.safetensors"

    def child_record(self, child: ChildSpec) -> Path:
        """What a child scored, its history and its specification."""
        return self.root / "children" / child.parent.id / f"{child.id}.json"

    def recorded(self, child: ChildSpec) -> bool:
        """Whether the child is finished."""
        return self.child_record(child).exists()

    def recorded_children(self, parent_id: str) -> set[str]:
        """The ids of all finished children of one parent."""
        return {path.stem for path in (self.root / "children" / parent_id).glob("*.json")}

    def study_folder(self, study: str) -> Path:
        """The tables of one study, and its jobs' marks."""
        return self.root / study

    def read_parent(self, parent: ParentSpec) -> dict[str, Any]:
        """The record of ``parent``; ``UserError`` where it is missing, damaged or another parent's."""
        return read_record(self.parent_record(parent.id), parent)

    def read_child(self, child: ChildSpec) -> dict[str, Any]:
        """The record of ``child``; ``UserError`` where it is missing, damaged or another child's."""
        return read_record(self.child_record(child), child)


def digest(ids: Iterable[str]) -> str:
    """Ten hexadecimal digits that stand for a list of ids, in its order."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:10]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in ``path``'s place in one step.

    ``UserError`` where the disk is full or the folder cannot be written; ``path`` is then as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) or "I/O error" in str(error) or "No space" in str(error):
            raise UserError(f"{path} could not be written: {error}; free or change the disk and run again") from error
        raise


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON; numbers that are not finite become null."""
    text = json.dumps(_finite(content), indent=1, sort_keys=True, allow_nan=False)
    write_atomically(path, lambda partial: partial.write_text(text + "\n"))


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write ``tensors`` as safetensors, with a checksum of their bytes beside ``metadata``."""
    from safetensors.torch import save_file

    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {**metadata, "checksum": checksum(tensors)}
    write_atomically(path, lambda partial: save_file(tensors, str(partial), metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of ``path``; ``UserError`` naming it where it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and run again to rebuild it") from error
    if metadata.get("checksum") != checksum(tensors):
        raise UserError(f"{path} is damaged: its checksum does not match; delete it and run again to rebuild it")
    return tensors, metadata


def checksum(tensors: dict[str, Tensor]) -> str:
    """A digest of names and bytes."""
    import torch

    total = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def read_record(path: Path, spec: Spec) -> dict[str, Any]:
    """The record at ``path`` after checking that it was made from ``spec``."""
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: the run {spec.id} has not finished; run the study again") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from error
    if not isinstance(record, dict) or record.get("id") != spec.id or record.get("seal") != seal(record):
        raise UserError(f"{path} is damaged or was made by another specification; delete it and run again")
    return record


def seal(record: dict[str, Any]) -> str:
    """A digest of everything else in ``record``, that tells when a bit has flipped."""
    content = {key: value for key, value in record.items() if key != "seal"}
    return hashlib.sha256(json.dumps(_finite(content), sort_keys=True).encode()).hexdigest()[:16]


def write_record(path: Path, spec: Spec, content: dict[str, Any]) -> None:
    """Write ``content`` with the id and the whole specification that it came from."""
    record = {"id": spec.id, "spec": spec.content(), **content}
    write_json(path, {**record, "seal": seal(json.loads(json.dumps(_finite(record))))})


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:  # NaN and infinities
        return None
    return value
