"""Studies of the tests: expanded, and changed in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssa.study import study


def expand(raw: dict[str, Any]) -> study.Study:
    return study.expand(raw, Path("tiny.yaml"))


def change(path: str, value: Any) -> Any:
    """A function that puts ``value`` at the dotted ``path`` of a study."""

    def apply(raw: dict[str, Any]) -> None:
        *folders, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        for key in folders:
            raw = raw[key]
        raw[last] = value

    return apply
