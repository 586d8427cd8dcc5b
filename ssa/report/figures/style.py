"""One look for every figure: a fixed colour, marker and line for each method, print sizes, reproducible bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssa.files import write_atomically
from ssa.study.methods import CATALOGUE, Style, in_order

WIDE, COLUMN = 6.8, 3.3  # inches: both columns of a two-column page, and one of them

STYLES = {name: method.style for name, method in CATALOGUE.items() if method.style}
USER_STYLES = [
    Style(colour, marker)
    for marker, colour in zip("*8Hx+", ("#332288", "#882255", "#117733", "#999933", "#AA4499"), strict=True)
]

LEVEL: dict[str, Any] = {"color": "#000000", "linestyle": (0, (4, 2)), "linewidth": 0.9}
# Above the grid, whose level is 0.5.
THRESHOLD: dict[str, Any] = {"color": "#AA3377", "linestyle": (0, (1, 2)), "linewidth": 0.8, "zorder": 0.6}
END: dict[str, Any] = {"color": "#888888", "linestyle": ":", "linewidth": 0.9}
OPEN: dict[str, Any] = {"color": "#000000", "marker": "o", "markerfacecolor": "white", "linestyle": ""}
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
    users = [name for name in ordered if name not in STYLES]
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


def save_figure(figure: Figure, stem: Path) -> None:
    """Write ``stem``.pdf and ``stem``.png without dates, so that the same numbers give the same bytes."""
    for kind, undated in (("pdf", "CreationDate"), ("png", "Software")):
        draw = partial(figure.savefig, format=kind, metadata={undated: None})
        write_atomically(stem.with_suffix(f".{kind}"), draw)
