"""The figures of ensembles in small panels: reliability diagrams, and accuracy against a corruption's severity."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from ssa.report.figures.ensemble_blocks import key, key_height, titled_blocks
from ssa.report.figures.panels import columns_of, letters
from ssa.report.figures.style import LEVEL, Style
from ssa.results.ensembles import by_name

COLUMNS = 5  # at most
FEWEST = 25  # predictions in a bin, whose accuracy then has a standard error of 10 points at most


def ensemble_reliability(ensembles: pd.DataFrame, bins: pd.DataFrame) -> Figure | None:
    """A reliability diagram for each ensemble on the clean test set, its members' probabilities averaged."""
    shown = bins[(bins["set"] == "clean") & (bins["convention"] == "probabilities")]
    if shown.empty:
        return None
    ece = _means(ensembles, "ece")

    def draw(part: SubFigure, cells: pd.DataFrame, drawn: dict[str, Style]) -> None:
        names = list(cells["ensemble"].unique())
        width = letters(_columns(len(names)))
        for ax, name in zip(_panels(part, len(names), "Confidence", "Accuracy"), names, strict=True):
            _diagram(ax, cells[cells["ensemble"] == name], drawn[name])
            ax.set_title(textwrap.fill(name, width), fontsize=7)
            ax.text(0.05, 0.93, f"ECE {ece[_key(cells, name)]:.1f}", transform=ax.transAxes, va="top", fontsize=7)

    def height(cells: pd.DataFrame) -> float:
        names = cells["ensemble"].unique()
        lines = max(len(textwrap.wrap(name, letters(_columns(len(names))))) for name in names)
        return 0.35 + _height(len(names), lines)

    return titled_blocks(shown, height, draw, ensembles)


def ensemble_corruptions(ensembles: pd.DataFrame, corrupted: pd.DataFrame) -> Figure | None:
    """Accuracy against severity, a panel for each kind of corruption."""
    shown = corrupted[corrupted["convention"] == "probabilities"]
    if shown.empty:
        return None
    clean = _means(ensembles, "accuracy")

    def draw(part: SubFigure, cells: pd.DataFrame, drawn: dict[str, Style]) -> None:
        kinds = list(cells["kind"].unique())
        for ax, kind in zip(_panels(part, len(kinds), "Severity", "Accuracy (%)"), kinds, strict=True):
            for name, mine in by_name(cells[cells["kind"] == kind]):
                line = pd.concat(
                    [pd.Series({0: clean[_key(cells, name)]}), mine.groupby("severity")["accuracy"].mean()]
                )
                style = drawn[name]
                ax.plot(line.index, line, color=style.colour, marker=style.marker, markersize=2.5, linewidth=0.8)
            ax.set_title(kind.replace("_", " "), fontsize=7)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        key(part, drawn, cells["ensemble"].unique())

    def height(cells: pd.DataFrame) -> float:
        return 0.35 + _height(cells["kind"].nunique()) + key_height(cells)

    return titled_blocks(shown, height, draw, ensembles, _corrupted_title)


def _means(ensembles: pd.DataFrame, column: str) -> pd.Series:
    """``column``'s mean over seeds by data set, model and name."""
    return ensembles.groupby(["dataset", "model", "ensemble"])[column].mean()


def _key(cells: pd.DataFrame, name: str) -> tuple[str, str, str]:
    return cells["dataset"].iloc[0], cells["model"].iloc[0], name


def _corrupted_title(cells: pd.DataFrame) -> str:
    labels = " and ".join(sorted(cells["label"].unique()))
    images = " or ".join(f"{count:,.0f}" for count in sorted(cells["corrupted_images"].unique()))
    return f"{cells['dataset'].iloc[0]}, {cells['model'].iloc[0]}: {labels} corruptions of {images} test images"


def _diagram(ax: Axes, cells: pd.DataFrame, style: Style) -> None:
    """Accuracy against confidence over the bins that hold :data:`FEWEST` predictions or more; and how many all hold."""
    total = cells.groupby("bin")[["count", "confidence", "correct"]].sum()
    width = 1 / len(total)
    ax.bar((total.index + 0.5) * width, total["count"] / total["count"].sum(), width, color="#DDDDDD")
    ax.plot([0, 1], [0, 1], **LEVEL)
    held = total[total["count"] >= FEWEST]
    confidence, accuracy = held["confidence"] / held["count"], held["correct"] / held["count"]
    ax.plot(confidence, accuracy, color=style.colour, marker=style.marker, markersize=2.5)
    ax.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))


def _columns(panels: int) -> int:
    return columns_of(max(panels, 2), COLUMNS)  # one alone takes half the width


def _height(panels: int, lines: int = 1) -> float:
    """Inches of all rows of ``panels`` under titles of ``lines``: fewer columns are wider, so taller."""
    columns = _columns(panels)
    return -(-panels // columns) * (0.6 + 3.3 / columns + 0.1 * lines)


def _panels(part: SubFigure, count: int, x: str, y: str) -> Iterable[Axes]:
    """``count`` panels that share their axes, labelled at the outer ones alone."""
    columns = _columns(count)
    axes = list(part.subplots(-(-count // columns), columns, squeeze=False, sharex=True, sharey=True).flat)
    for i, ax in enumerate(axes):
        if i >= count:
            ax.remove()
            continue
        if i + columns >= count:
            ax.set_xlabel(x)
            ax.tick_params(labelbottom=True)
        if i % columns == 0:
            ax.set_ylabel(y)
    return axes[:count]
