"""Memory that is freed stays with the process."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest

MIB, ROUNDS = 64, 20  # more than what glibc would ever keep by itself
PAGES = (MIB << 20) // resource.getpagesize()
LOOP = f"""
import resource, sys
from ssa.process import memory
if sys.argv[1] == "kept":
    memory.keep_freed()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range({ROUNDS}):
    bytearray({MIB} << 20)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_a_step_finds_the_pages_that_the_last_one_freed() -> None:
    usual, kept = (
        int(subprocess.run([sys.executable, "-c", LOOP, how], capture_output=True, check=True).stdout)
        for how in ("usual", "kept")
    )
    assert usual >= ROUNDS * PAGES
    assert kept < 2 * PAGES  # once, where 20 rounds asked for all of them anew
