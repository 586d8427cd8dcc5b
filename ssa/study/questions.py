"""Questions beyond the paper's claims: a study names those that it answers; each has a file with a table and a figure.

``findings: [controls, losses]`` in a study's file. What they say is told in ``docs/findings.md``.
"""

from __future__ import annotations

from ssa.errors import UserError

# Each is a file of ssa.report.findings.
FINDINGS = (
    "controls",
    "losses",
    "criteria",
    "rates",
    "lengths",
    "regime",
    "allocation",
    "gradients",
    "calibration",
)
CHOOSING = ("rates", "lengths")  # which choose on validation images


def check(names: object, where: str) -> list[str]:
    """``names`` as a list of findings; ``UserError`` naming what is not one."""
    allowed = f"allowed: a list, each once, of {', '.join(FINDINGS)}"
    if not isinstance(names, list) or len(set(map(str, names))) < len(names):
        raise UserError(f"{where}: {names!r} is not allowed; {allowed}")
    for name in names:
        if not isinstance(name, str) or name not in FINDINGS:
            raise UserError(f"{where}: {name!r} is not allowed; {allowed}")
    return names
