"""What ``--config``, or a workflow profile, may say beside the study; none of it changes a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssa.specs import settings
from ssa.specs.settings import setting


@dataclass(frozen=True)
class Options:
    """``recorded``: a folder of recorded/ to make tables, figures and the page from. ``workers``: jobs side by side.

    ``threads``: CPU threads of a job that trains. The minutes are what a cluster is asked for, a job's first attempt.
    """

    recorded: str | None = setting(None)
    data_root: str | None = setting(None)
    children_per_job: int | None = setting(None, low=1)
    workers: int | None = setting(None, low=1)
    threads: int = setting(1, low=1)
    minutes_per_parent: int = setting(240, low=1)
    minutes_per_child: int = setting(5, low=1)
    minutes_per_ensemble: int = setting(240, low=1)


def read(given: Mapping[str, Any]) -> Options:
    """The options of ``given``; ``UserError`` naming an unknown key, or what is allowed for a value."""
    return settings.read(Options, given, "--config")
