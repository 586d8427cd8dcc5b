"""W&B's transaction log of a run, a ``.wandb`` file: whether all of it is there.

W&B's service says nothing when the disk is full; only the file tells. It has the layout of LevelDB's log (blocks of
32 KiB; records of checksum, length, kind and content) after seven bytes of its own, and ends in the run's exit.
"""

from __future__ import annotations

import time
from pathlib import Path

BLOCK, HEADER, PREFIX = 1 << 15, 7, b":W&B"
FULL, FIRST, LAST = 1, 2, 4  # kinds of record; the middle of one is 3
WAIT_SECONDS = 5.0  # for the service, which may close the file a moment after it says that the run is finished


def ends(path: Path) -> bool:
    """Whether the log at ``path`` is complete, or is so within :data:`WAIT_SECONDS`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_complete(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_complete(path: Path) -> bool:
    """Whether the log at ``path`` is whole and ends in the exit of its run."""
    content = path.read_bytes()
    if not content.startswith(PREFIX):
        return False
    offset, kind, record = HEADER, 0, b""
    while offset < len(content):
        room = BLOCK - offset % BLOCK
        if room < HEADER:  # the rest of a block that is too short for a record
            offset += room
            continue
        start = offset + HEADER
        if start > len(content):
            return False
        kind, length = content[offset + 6], int.from_bytes(content[offset + 4 : offset + 6], "little")
        offset = start + length
        if offset > len(content):
            return False
        record = content[start:offset] if kind in (FULL, FIRST) else record + content[start:offset]
    return kind in (FULL, LAST) and _kind_of(record) == "exit"


def _kind_of(record: bytes) -> str:
    """The kind of a record of the log: ``run``, ``history``, ``exit`` and so on."""
    from wandb.proto import wandb_internal_pb2

    return str(wandb_internal_pb2.Record.FromString(record).WhichOneof("record_type"))  # type: ignore[attr-defined]
