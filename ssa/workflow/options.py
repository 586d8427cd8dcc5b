"""Options of ``--config``, or of a workflow profile, beside the study; none of them changes what is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssa.specs import settings
from ssa.specs.settings import setting


@dataclass(frozen=True)
class Options:
    """The options of ``--config``."""

    recorded: str | None = setting(
        None, meaning="a folder of recorded/ from which tables, figures and the page are made"
    )
    data_root: str | None = setting(None, meaning="the folder of the data sets' files")
    children_per_job: int | None = setting(None, low=1, meaning="how many children a job trains; null to choose")
    workers: int | None = setting(
        None, low=1, meaning="training jobs side by side; null for as many as the machine holds"
    )
    threads: int = setting(1, low=1, meaning="CPU threads of a job that trains")
    minutes_per_parent: int = setting(240, low=1, meaning="asked of a cluster for a parent's first attempt")
    minutes_per_child: int = setting(5, low=1, meaning="the same for each child of a job")
    minutes_per_ensemble: int = setting(240, low=1, meaning="the same for an ensemble")


def read(given: Mapping[str, Any]) -> Options:
    """The options of ``given``; ``UserError`` naming an unknown key, or what is allowed for a value."""
    return settings.read(Options, given, "--config")
