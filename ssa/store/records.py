"""Records: a sealed line of JSON each. The children's are appended to files, whole or not at all.

A parent has a folder of files ``<time>-<random>.jsonl``, one for each process that trained its children. A process
appends to a file of its own alone, so that two never share one, on any file system. The line is on the disk before the
child counts; the half line of a process that was killed is not counted, and neither is a line whose seal is broken.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ssa.errors import UserError, writing
from ssa.files import finite

ID = re.compile(rb'\{"id": ("(?:[^"\\]|\\.)*")')


class Place(NamedTuple):
    """Where a record lies: its file, the line's first byte and its length in bytes."""

    path: Path
    start: int
    length: int

    def read(self) -> bytes:
        """The bytes that lie there now."""
        descriptor = os.open(self.path, os.O_RDONLY)  # without the buffer of a file, which costs as much as the rest
        try:
            return os.pread(descriptor, self.length, self.start)
        finally:
            os.close(descriptor)


def sealed(record: Mapping[str, Any]) -> bytes:
    """``record``, whose first key is ``id``, as a line that ends in a digest of itself; what is not finite is null."""
    text = json.dumps(finite(record), allow_nan=False)[:-1]
    return f'{text}, "seal": "{_digest(text.encode())}"}}\n'.encode()


def is_whole(line: bytes) -> bool:
    """Whether ``line`` is, byte for byte, what :func:`sealed` made."""
    text, _, end = line.rpartition(b', "seal": "')
    return end == f'{_digest(text)}"}}\n'.encode()


def opened(line: bytes, wanted: str) -> dict[str, Any] | None:
    """The record in ``line``; None unless it is whole and its id is ``wanted``."""
    if not is_whole(line):
        return None
    record: dict[str, Any] = json.loads(line)
    return record if record["id"] == wanted else None


@dataclass
class Records:
    """The children's records of one parent, in ``folder``."""

    folder: Path
    places: dict[str, Place] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)  # file and line by the id that the line seems to have
    _scanned: dict[Path, tuple[int, int]] = field(default_factory=dict)  # bytes and lines that were looked at
    _own: Path | None = None

    def ids(self) -> set[str]:
        """The ids of all records that are on the disk now."""
        self._refresh()
        return set(self.places)

    def has(self, record_id: str) -> bool:
        """Whether there is such a record; looks at the disk again only where none was known."""
        if record_id not in self.places:
            self._refresh()
        return record_id in self.places

    def read(self, record_id: str) -> dict[str, Any]:
        """One record; ``UserError`` naming it where it is missing or damaged."""
        if not self.has(record_id):
            lost = self.damaged.get(record_id)
            state = f"is damaged ({lost})" if lost else f"is missing in {self.folder}: the run has not finished"
            raise UserError(f"the record of {record_id} {state}; run the study again")
        place = self.places[record_id]
        try:
            line = place.read()
        except OSError as error:
            raise UserError(f"the record of {record_id} cannot be read: {error}; run the study again") from error
        record = opened(line, record_id)
        if record is None:
            raise UserError(f"the record of {record_id} is damaged ({place.path}); run the study again")
        return record

    def append(self, record: Mapping[str, Any]) -> None:
        """Write ``record`` and wait until it is on the disk; where that fails, nothing of it is left there."""
        path = self._own or self.folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}.jsonl"
        line = sealed(record)
        with writing(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            start = os.fstat(descriptor).st_size
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, start)
                raise
            finally:
                os.close(descriptor)
        self._own = path

    def _refresh(self) -> None:
        """Look at what was appended since the last time, and forget what is gone."""
        sizes = {path: path.stat().st_size for path in sorted(self.folder.glob("*.jsonl"))}
        if any(sizes.get(path, 0) < size for path, (size, _) in self._scanned.items()):
            self.places.clear()
            self.damaged.clear()
            self._scanned.clear()
        for path, size in sizes.items():
            if size > self._scanned.get(path, (0, 0))[0]:
                self._scan(path)

    def _scan(self, path: Path) -> None:
        start, number = self._scanned.get(path, (0, 0))
        with path.open("rb") as file:
            file.seek(start)
            for line in file:
                found = ID.match(line)
                if found and is_whole(line):
                    self.places.setdefault(_text(found[1]), Place(path, start, len(line)))
                elif found:
                    self.damaged[found[1][1:-1].decode(errors="replace")] = f"{path}, line {number + 1}"
                if not line.endswith(b"\n"):  # of a process that was killed, or that is writing it now
                    return
                start, number = start + len(line), number + 1
                self._scanned[path] = (start, number)


def _text(literal: bytes) -> str:
    """The string that JSON writes as ``literal``; an id rarely has anything to unescape."""
    return str(json.loads(literal)) if b"\\" in literal else literal[1:-1].decode()


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]
