"""Where results lie, and how they are written: whole or not at all.

::

    results/parents/<parent>/{weights,epoch-<n>,checkpoint,masks-<digest>}.safetensors, record.json
    results/children/<parent>/{*.jsonl, <child>.checkpoint.safetensors}
    results/ensembles/<ensemble>/{record.json, logits.safetensors}
    results/members/<parent>/<child>.safetensors
    results/.running/..., results/<study>/...

Parents, children and ensembles are filed by their ids, so that studies share them. A record carries the specification
that it was made from, and is refused where that is another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssa.errors import UserError
from ssa.files import short_digest, write_atomically
from ssa.specs.specs import ChildSpec, EnsembleSpec, MaskSpec, ParentSpec, Spec
from ssa.store.records import Records, opened, sealed


@dataclass(frozen=True)
class Store:
    """The files under ``root``, the results folder."""

    root: Path
    _records: dict[str, Records] = field(default_factory=dict, init=False, repr=False, compare=False)

    def parent_folder(self, parent_id: str) -> Path:
        """All files of one parent."""
        return self.root / "parents" / parent_id

    def weights(self, parent_id: str) -> Path:
        """The parent's trained weights."""
        return self.parent_folder(parent_id) / "weights.safetensors"

    def early_weights(self, parent_id: str, epoch: int) -> Path:
        """The weights that the parent had after ``epoch`` epochs, kept where a study rewinds to them."""
        return self.parent_folder(parent_id) / f"epoch-{epoch}.safetensors"

    def unchecked_weights(self, parent_id: str, epoch: int) -> Path:
        """The same while training goes on: whether it ends as the network on record is not known yet."""
        return self.parent_folder(parent_id) / f"epoch-{epoch}.unchecked.safetensors"

    def has_parent(self, parent_id: str, keep: Iterable[int] = ()) -> bool:
        """Whether all files of a trained parent are there, the weights of the epochs to ``keep`` among them."""
        early = (self.early_weights(parent_id, epoch) for epoch in keep)
        return all(path.exists() for path in (self.weights(parent_id), self.parent_record(parent_id), *early))

    def checkpoint(self, parent_id: str) -> Path:
        """The file from which an interrupted parent resumes."""
        return self.parent_folder(parent_id) / "checkpoint.safetensors"

    def parent_record(self, parent_id: str) -> Path:
        """The file of the parent's scores and its specification."""
        return self.parent_folder(parent_id) / "record.json"

    def masks(self, parent_id: str, masks: Iterable[MaskSpec]) -> Path:
        """The masks of one parent for one study, in one file that is named after them."""
        return self.parent_folder(parent_id) / f"masks-{short_digest(mask.id for mask in masks)}.safetensors"

    def mask_files(self, parent_id: str) -> list[Path]:
        """All files of one parent's masks, of whichever study."""
        return sorted(self.parent_folder(parent_id).glob("masks-*.safetensors"))

    def records(self, parent_id: str) -> Records:
        """The records of one parent's children: what each scored, its history and its specification."""
        if parent_id not in self._records:
            self._records[parent_id] = Records(self.root / "children" / parent_id)
        return self._records[parent_id]

    def record_files(self, parent_id: str) -> list[Path]:
        """The files of the records of one parent and of its children."""
        return [self.parent_record(parent_id), *sorted(self.records(parent_id).folder.glob("*.jsonl"))]

    def recorded(self, child: ChildSpec) -> bool:
        """Whether the child is finished."""
        return self.records(child.parent.id).has(child.id)

    def recorded_children(self, parent_id: str) -> set[str]:
        """The ids of all finished children of one parent."""
        return self.records(parent_id).ids()

    def record_child(self, child: ChildSpec, content: dict[str, Any]) -> None:
        """Write the record of ``child``; ``UserError`` if the disk does not take it."""
        self.records(child.parent.id).append({"id": child.id, "spec": child.content(), **content})

    def ensemble_record(self, ensemble_id: str) -> Path:
        """The file of the ensemble's scores and cost, and its specification."""
        return self.root / "ensembles" / ensemble_id / "record.json"

    def ensemble_logits(self, ensemble_id: str) -> Path:
        """The outputs of all its members on the clean images, from which all scores on them can be computed again."""
        return self.root / "ensembles" / ensemble_id / "logits.safetensors"

    def child_checkpoint(self, child: ChildSpec) -> Path:
        """Where a child that trains for long stands, until its record is there."""
        return self.records(child.parent.id).folder / f"{child.id}.checkpoint.safetensors"

    def member(self, child: ChildSpec) -> Path:
        """The weights of a child that ensembles ask, kept until all of these are complete."""
        return self.root / "members" / child.parent.id / f"{child.id}.safetensors"

    def all_of(self, parent_id: str) -> str:
        """The folders of all that was made from one parent, as a list in words; its ensembles are not among them."""
        folders = [self.root / kind / parent_id for kind in ("parents", "children", "members")]
        return ", ".join(str(folder) for folder in folders if folder.exists())

    def check_data(self, parent_id: str, record: Mapping[str, Any], digest: str | None) -> None:
        """``UserError`` if ``record``, of something made from the parent, is of other images than ``digest``.

        Where one of the two does not say (records of older versions), nothing can be compared.
        """
        its = record["made"].get("data")
        if its and digest and its != digest:
            raise UserError(
                f"the parent {parent_id} and {record['id']} were trained on different images: files of the data set "
                f"were changed in between; restore them, or delete {self.all_of(parent_id)} and the ensembles of that "
                "parent to train them anew"
            )

    def study_folder(self, study: str) -> Path:
        """The tables of one study, and its jobs' marks."""
        return self.root / study

    def read_parent(self, parent: ParentSpec) -> dict[str, Any]:
        """The record of ``parent``; ``UserError`` if it is missing, damaged or another parent's."""
        return read_record(self.parent_record(parent.id), parent)

    def read_ensemble(self, ensemble: EnsembleSpec) -> dict[str, Any]:
        """The record of ``ensemble``; ``UserError`` if it is missing, damaged or another ensemble's."""
        return read_record(self.ensemble_record(ensemble.id), ensemble)

    def read_child(self, child: ChildSpec) -> dict[str, Any]:
        """The record of ``child``; ``UserError`` if it is missing, damaged or another child's."""
        return self.records(child.parent.id).read(child.id)


def read_record(path: Path, spec: Spec) -> dict[str, Any]:
    """The record at ``path`` after checking that it was made from ``spec``."""
    try:
        line = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: the run {spec.id} has not finished; run the study again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    record = opened(line, spec.id)
    if record is None:
        raise UserError(f"{path} is damaged or was made by another specification; delete it and run again")
    return record


def write_record(path: Path, spec: Spec, content: dict[str, Any]) -> None:
    """Write ``content`` with the id and the whole specification that it came from."""
    line = sealed({"id": spec.id, "spec": spec.content(), **content})
    write_atomically(path, lambda partial: partial.write_bytes(line))
