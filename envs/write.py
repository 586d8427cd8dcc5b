"""Write envs/ssa.yaml, a conda environment, from the pins of requirements.txt; --check only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = """\
# Made by `make lock` from requirements.txt: the same pins, for `snakemake --sdm conda`.
name: ssa
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def pins(requirements: str) -> list[str]:
    """The ``package==version ; marker`` part of each entry of a hashed requirements file."""
    return [match.strip() for match in re.findall(r"^([\w.\-]+==[^\\\n]*?)\s*\\?$", requirements, re.MULTILINE)]


def environment(requirements: str) -> str:
    """The text of the conda environment."""
    return HEADER + "".join(f'      - "{pin}"\n' for pin in pins(requirements))


if __name__ == "__main__":
    wanted = environment((HERE.parent / "requirements.txt").read_text(encoding="utf-8"))
    target = HERE / "ssa.yaml"
    if "--check" not in sys.argv:
        target.write_text(wanted, encoding="utf-8")
    elif not target.exists() or target.read_text(encoding="utf-8") != wanted:
        sys.exit("envs/ssa.yaml and requirements.txt disagree: run make lock")
