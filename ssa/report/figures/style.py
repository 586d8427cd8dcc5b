"""One look for every figure: a fixed colour, marker and line for each method, print sizes, reproducible bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssa.study.methods import CATALOGUE, in_order

WIDE, COLUMN = 6.8, 3.3  # inches: both columns of a two-column page, and one of them


@dataclass(frozen=True)
class Style:
    """How one method is drawn, in every figure: its colour, its marker and its line."""

    colour: str
    marker: str
    line: Any = "-"


# Okabe and Ito's colour-blind safe set, its yellow darkened for print. Eight colours do not tell all methods
# apart: variants share their method's, controls share one in pairs, and marker and line differ. The baseline is grey.
STYLES: dict[str, Style] = {
    "dense": Style("#000000", "", (0, (4, 2))),
    "one-shot": Style("#666666", "s"),
    "weight-rewinding": Style("#666666", "D", (0, (3, 1.5))),
    "iterative": Style("#0072B2", "^"),
    "iterative-fixed": Style("#0072B2", "v", (0, (3, 1.5))),
    "movement": Style("#0072B2", "<", (0, (1, 1))),
    "gradual": Style("#0072B2", ">", (0, (5, 1, 1, 1))),
    "random": Style("#009E73", "D"),
    "random-independent": Style("#009E73", "d", (0, (3, 1.5))),
    "temperature": Style("#D55E00", "o"),
    "temperature-all": Style("#D55E00", "p", (0, (3, 1.5))),
    "expected": Style("#CC79A7", "P"),
    "dense-then-cut": Style("#56B4E9", ">", (0, (5, 1, 1, 1))),
    "constant-temperature": Style("#B8860B", "<", (0, (5, 1, 1, 1))),
    "frozen": Style("#CC79A7", "X", (0, (1, 1))),
    "shuffled": Style("#B8860B", "h", (0, (1, 1))),
}
USER_STYLES = [
    Style(colour, marker)
    for marker, colour in zip("*8Hx+", ("#332288", "#882255", "#117733", "#999933", "#AA4499"), strict=True)
]

LEVEL: dict[str, Any] = {"color": "#000000", "linestyle": (0, (4, 2)), "linewidth": 0.9}
END: dict[str, Any] = {"color": "#888888", "linestyle": ":", "linewidth": 0.9}
DIVERGED: dict[str, Any] = {
    "marker": "o",
    "markersize": 7,
    "markerfacecolor": "none",
    "color": "#000000",
    "linestyle": "",
}
RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.6,
    "lines.solid_capstyle": "butt",  # an interval ends where its bound is
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar sign in a user's method name is no formula
    "savefig.dpi": 200,
}


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """A style for each of ``methods``, in the catalogue's order; a user's methods take the spare styles by name."""
    ordered = in_order(methods)
    users = [name for name in ordered if name not in CATALOGUE]
    spare = {name: USER_STYLES[i % len(USER_STYLES)] for i, name in enumerate(users)}
    return {name: STYLES[name] if name in STYLES else spare[name] for name in ordered}


@contextmanager
def look() -> Iterator[None]:
    """Matplotlib's defaults and our own settings on top, whatever the reader's own configuration says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        with matplotlib.rc_context(RC):
            yield


def blank(width: float, height: float) -> Figure:
    """An empty figure of ``width`` x ``height`` inches, outside pyplot's global list."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def sentence(text: str) -> Figure:
    """A figure that says in words why there is nothing to draw."""
    figure = blank(COLUMN, 1.0)
    figure.text(0.5, 0.5, textwrap.fill(text, 48), ha="center", va="center")
    return figure


def save(figure: Figure, stem: Path) -> None:
    """Write ``stem``.pdf and ``stem``.png without dates, so that the same numbers give the same bytes."""
    figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
    figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
