"""Questions beyond the paper's claims: a study names those that it answers; each has a table and a figure.

``findings: [controls, losses]`` in a study's file. What they say is told in ``docs/findings.md``.
"""

from __future__ import annotations

from ssa.errors import UserError

# By name, which is that of its function in ssa.analysis.findings and ssa.report.figures.findings too. Imports nothing
# heavy: reading a study checks the names.
FINDINGS: dict[str, str] = {
    "controls": "Noise, gradual change, or what pruned weights learn?",
    "losses": "Optimisation or regularisation?",
    "criteria": "Does it depend on how weights are chosen?",
    "rates": "Does it survive against baselines tuned as hard?",
    "lengths": "How does the best length of annealing move?",
    "regime": "Where does the effect live?",
    "allocation": "Is a gain a matter of how sparsity is spread?",
    "gradients": "How noisy are gradients while masks are annealed?",
    "calibration": "Is the calibration of SSA's ensembles more than a temperature would give?",
}
# What is not asked of the ends of children: of their epochs, and of ensembles.
ALONG_TRAINING, OF_ENSEMBLES = ("gradients",), ("calibration",)


def check(names: object, where: str) -> list[str]:
    """``names`` as a list of findings; ``UserError`` naming what is not one."""
    allowed = f"allowed: a list, each once, of {', '.join(FINDINGS)}"
    if not isinstance(names, list) or len(set(map(str, names))) < len(names):
        raise UserError(f"{where}: {names!r} is not allowed; {allowed}")
    for name in names:
        if not isinstance(name, str) or name not in FINDINGS:
            raise UserError(f"{where}: {name!r} is not allowed; {allowed}")
    return names
