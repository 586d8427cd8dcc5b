"""A list of what was done, a line each, that survives being cut off anywhere; and one holder at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssa.process import locks


class Ledger:
    """The lines of ``path`` as JSON objects, each with the key ``run``; a run's last line counts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, dict[str, Any]]:
        """The last line of each run; a line that was cut off, or names none, does not count."""
        found = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and "run" in entry:
                found[entry["run"]] = entry
        return found

    def add(self, **entry: Any) -> None:
        """Write one line, which must name its ``run``; it starts anew where the last one was cut off."""
        with self.path.open("a+b") as file:
            torn = file.tell() > 0 and not _ends_a_line(file)
            file.write(b"\n" * torn + json.dumps(entry, sort_keys=True).encode() + b"\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait until no other process holds this ledger, and hold it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locks.locked(self.path.with_suffix(".lock"), wait=True):
            yield


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, 2)
    return bool(file.read(1) == b"\n")
