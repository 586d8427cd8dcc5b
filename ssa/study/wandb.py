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
FORBIDDEN = "/\\#?%:"  # in a project's name


@dataclass(frozen=True)
class TrackingSettings:
    """``offline``: files only; ``online``: uploaded as they come. ``project`` null: ``ssa-`` and the study's name."""

    mode: str = setting("offline", choices=MODES)
    project: str | None = setting(None)
    entity: str | None = setting(None)


def read(section: Any, where: str) -> TrackingSettings:
    """The study's section ``wandb``; ``UserError`` that begins with ``where`` and says what is allowed."""
    found = settings.read(TrackingSettings, {} if section is None else section, where)
    if found.project is not None and (not found.project or set(found.project) & set(FORBIDDEN)):
        raise UserError(f"{where}.project: {found.project!r} is not allowed; allowed: a name without {FORBIDDEN}")
    return found


def resolve(raw: Mapping[str, Any], name: str) -> TrackingSettings:
    """The settings of the checked study ``raw`` called ``name``, where the environment's ``WANDB_MODE`` goes first."""
    found = read(raw.get("wandb"), "wandb")
    mode = os.environ.get("WANDB_MODE") or found.mode
    if mode not in MODES:
        raise UserError(f"WANDB_MODE: {mode!r} is not allowed; allowed: {', '.join(MODES)}")
    return TrackingSettings(mode, found.project or f"ssa-{name}", found.entity)
