"""File locks among processes. The kernel drops those of a process that ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ssa.errors import UserError

POLL_SECONDS = 0.5


def only_one(path: Path, what: str) -> IO[str]:
    """A lock on ``what`` until the file is closed or the process ends; ``UserError`` if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = locked(path, wait=False)
    if lock.closed:
        raise UserError(f"{what} is being run by another process ({path} is locked); wait for it, or stop it")
    return lock


@contextmanager
def one_at_a_time(path: Path, what: str, give_up: Callable[[], bool]) -> Iterator[bool]:
    """Within it this process has the lock ``path`` on ``what``; where another has it, one line says so, and this waits.

    Yields False, without the lock, where ``give_up()`` came first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = locked(path, wait=False)
    if lock.closed:
        print(f"{what} is being trained by another process; waiting for it", file=sys.stderr)
    while lock.closed and not give_up():
        time.sleep(POLL_SECONDS)
        lock = locked(path, wait=False)
    try:
        yield not lock.closed
    finally:
        lock.close()


def locked(path: Path, wait: bool) -> IO[str]:
    """The locked file; closed where another process has the lock and there is no ``wait``.

    Some shared file systems have no locks: then one line says so, and all go on.
    """
    file = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        print(f"{path} cannot be locked ({error.strerror}): see to it that no two runs share results", file=sys.stderr)
    return file
