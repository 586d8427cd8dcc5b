"""Draw the laws: the keep-probability p(t) that each of them answers, and the schedules that they anneal along.

python docs/draw_laws.py FILE.svg
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssa.method import laws
from ssa.method.schedules import SCHEDULES
from ssa.report.figures.style import STYLES, WIDE, blank, look

EPOCHS, END, SPARSITY, TAU, WEIGHTS = 5, 6.0, 0.9, 0.5, 4000
LAWS: dict[str, laws.Law] = {
    "one-shot": laws.OneShot(),
    "iterative": laws.Iterative(EPOCHS),
    "random": laws.RandomAnnealing(EPOCHS),
    "temperature": laws.TemperatureAnnealing(EPOCHS, tau=TAU),
    "temperature-all": laws.TemperatureAnnealing(EPOCHS, tau=TAU, scope="all"),
    "dense-then-cut": laws.DenseThenCut(EPOCHS),
    "constant-temperature": laws.ConstantTemperature(EPOCHS, tau=TAU),
}
TIMES = np.unique([*np.linspace(0, END, 121), EPOCHS - 1e-6])  # the last moment before a cut, for an upright edge


class Curve(NamedTuple):
    """The mean keep-probability over weights at each of TIMES, and the range that holds all of them."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curves(law: laws.Law) -> tuple[Curve, Curve]:
    """The curves of kept and of pruned weights, as ``law`` itself answers for a tensor of 4000 weights."""
    mask = torch.zeros(WEIGHTS, dtype=torch.bool)
    mask[: round((1 - SPARSITY) * WEIGHTS)] = True
    state = law.prepare(mask, torch.zeros(WEIGHTS), torch.Generator().manual_seed(0))
    answers = [law.probability(t, mask, state) for t in TIMES]
    kept, pruned = (
        torch.stack([torch.as_tensor(p).expand(WEIGHTS) for p in side]) for side in zip(*answers, strict=True)
    )
    return _curve(kept[:, mask]), _curve(pruned[:, ~mask])


def _curve(p: torch.Tensor) -> Curve:
    return Curve(*(part.double().numpy() for part in (p.mean(1), p.amin(1), p.amax(1))))


def draw(path: Path) -> None:
    """Write the figure to ``path``; the same laws, the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with look(), matplotlib.rc_context({"svg.hashsalt": "ssa"}):
        figure().savefig(path, metadata={"Date": None})


def figure() -> Figure:
    """Pruned weights, kept weights and schedules, side by side."""
    page = blank(WIDE, 2.9)
    pruned, kept, schedules = page.subplots(1, 3, sharey=True)
    for name, law in LAWS.items():
        for ax, curve in zip((kept, pruned), curves(law), strict=True):
            _line(ax, name, curve)
    for name, dashes in zip(SCHEDULES, ("-", "--", ":", "-."), strict=True):
        law = laws.Law(EPOCHS, name)
        schedules.plot(TIMES, [law.progress(t) for t in TIMES], color="#444444", linestyle=dashes, label=name)
    pruned.set(title="Pruned weights (M = 0)", ylabel="Keep-probability p(t)", ylim=(-0.02, 1.02))
    kept.set(title="Kept weights (M = 1)")
    schedules.set(title="Schedules a(t)")
    schedules.legend(loc="lower right")
    for ax in (pruned, kept, schedules):
        ax.set(xlabel="t (epochs)", xlim=(0, END))
    page.legend(*pruned.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return page


def _line(ax: Axes, name: str, curve: Curve) -> None:
    style = STYLES[name]
    ax.plot(TIMES, curve.mean, color=style.colour, linestyle=style.line, label=name)
    if name == "random":  # the one whose weights differ at the start and move together
        ax.fill_between(TIMES, curve.low, curve.high, color=style.colour, alpha=0.15, linewidth=0)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
