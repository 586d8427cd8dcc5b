"""Whether and where a study is logged to Weights & Biases: its section ``wandb``, and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssa.errors import UserError
from ssa.specs import settings
from ssa.specs.settings import setting

MODES = ("online", "offline", "disabled")
OLD_MODES = {"dryrun": "offline", "run": "online"}  # which W&B still takes
FORBIDDEN, LONGEST = "/\\#?%:", 128  # in a project's name


@dataclass(frozen=True)
class TrackingSettings:
    """``offline``: files only; ``online``: uploaded as they come. ``project`` null: ``ssa-`` and the study's name."""

    mode: str = setting("offline", choices=MODES)
    project: str | None = setting(None)
    entity: str | None = setting(None)


def read(section: Any, where: str) -> TrackingSettings:
    """The study's section ``wandb``; ``UserError`` that begins with ``where`` and says what is allowed."""
    found = settings.read(TrackingSettings, {} if section is None else section, where)
    if found.project is not None:
        _check_project(found.project, f"{where}.project")
    if found.entity is not None:
        settings.check_name(found.entity, f"{where}.entity")
    return found


def _check_project(name: str, where: str) -> None:
    if not 0 < len(name) <= LONGEST or not name.isprintable() or set(name) & set(FORBIDDEN):
        raise UserError(f"{where}: {name!r} is not allowed; allowed: 1 to {LONGEST} characters without {FORBIDDEN}")


def resolve(raw: Mapping[str, Any], name: str) -> TrackingSettings:
    """The settings of the checked study ``raw`` called ``name``, and of the environment as W&B reads it.

    ``WANDB_MODE`` goes before the study's; ``WANDB_PROJECT`` and ``WANDB_ENTITY`` stand in where the study names none.
    """
    found = read(raw.get("wandb"), "wandb")
    said = os.environ.get("WANDB_MODE") or found.mode
    mode = OLD_MODES.get(said.lower(), said.lower())
    if mode not in MODES:
        raise UserError(f"WANDB_MODE: {said!r} is not allowed; allowed: {', '.join((*MODES, *OLD_MODES))}")
    project = found.project or os.environ.get("WANDB_PROJECT") or f"ssa-{name}"
    _check_project(project, "WANDB_PROJECT")
    return TrackingSettings(mode, project, found.entity or os.environ.get("WANDB_ENTITY") or None)
