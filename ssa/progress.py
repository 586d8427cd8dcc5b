"""Progress bars with an estimate of the time that is left: lively on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys

from tqdm import tqdm


def bar(total: int, name: str, unit: str, initial: int = 0) -> tqdm:
    """A bar on standard error over ``total`` units, of which ``initial`` are done."""
    interval = 0.5 if sys.stderr.isatty() else 60.0
    return tqdm(total=total, initial=initial, desc=name, unit=unit, mininterval=interval, maxinterval=interval)
