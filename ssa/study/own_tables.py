"""A study's name is that of its tables: two studies of one name would replace each other's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ssa.errors import UserError
from ssa.specs import yaml_files
from ssa.store.store import Store
from ssa.study.study import Study


def check(study: Study, store: Store) -> None:
    """``UserError`` naming both files where the tables of this name are another study's, or a record's.

    A file that was edited, renamed or copied without a change is the same study's.
    """
    record = Path("recorded") / study.name / "study.yaml"
    owner = record if record.exists() else _owner(study, store)
    if owner is None or owner.resolve() == study.path.resolve():
        return
    its = _content(owner)
    if record.exists() or (its.get("name") == study.name and its != _content(study.path)):
        raise UserError(
            f"{study.path}: name: {study.name!r} is not allowed: {owner} is called so too, and its tables, figures and "
            "page would be replaced; give this study another name"
        )


def _owner(study: Study, store: Store) -> Path | None:
    """The file of the study whose tables are there, if it is still where it was and they tell."""
    path = store.study_folder(study.name) / "study.json"
    if not path.exists():
        return None
    try:
        said = Path(json.loads(path.read_text(encoding="utf-8"))["config_file"])
    except (ValueError, KeyError, TypeError):  # damaged: its tables are made anew from the records, whose ever it was
        return None
    places = (said, store.root.parent / said)
    return next((place for place in places if place.exists()), None)


def _content(path: Path) -> dict[str, Any]:
    """The content of a study's file; nothing if it is none, or cannot be read."""
    try:
        found = yaml_files.load(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
