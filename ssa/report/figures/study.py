"""The study's figures along sparsity and along training. Intervals and pairing come from elsewhere."""

from __future__ import annotations

import textwrap
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ssa.analysis.statistics import over_parents
from ssa.method import laws
from ssa.report.figures.panels import (
    REESTIMATED,
    RUNNING,
    band,
    by_method,
    columns_of,
    diverged_entry,
    estimates,
    fit,
    grid,
    legend,
    letters,
    n_of,
    outer_labels,
    ring,
    sparsity_axis,
    titles,
)
from ssa.report.figures.style import COLUMN, END, LEVEL, OPEN, Style, blank
from ssa.report.selection import CELL, PANEL, gradual, of_main, over_sparsity, split
from ssa.results.children import USED, collapsed
from ssa.study.methods import CATALOGUE, in_order, label

CUT = [name for name, method in CATALOGUE.items() if not laws.find(method.law).gradual]  # they jump at the end


def accuracy_vs_sparsity(children: pd.DataFrame, drawn: dict[str, Style]) -> Figure | None:
    """Accuracy of the main methods against sparsity, a panel for each arm and criterion with two sparsities or more."""
    panels = over_sparsity(children)
    if not panels:
        return None
    shown = pd.concat(panels)
    columns = columns_of(len(panels), most=2)
    figure, axes = grid(len(panels), columns, height=2.2)
    lines, every = _lines(panels, "sparsity", "accuracy")
    dense = [over_parents(panel, "dense_accuracy").mean for panel in panels]
    for i, (ax, panel, title) in enumerate(zip(axes, panels, titles(panels, PANEL, letters(columns)), strict=True)):
        ax.set_title(title)
        sparsity_axis(ax, sorted(panel["sparsity"].unique()), named=i < columns)
        fit(ax, "y", every, *dense)
        for method, line in lines[i].items():
            band(ax, 100 - line.index, line, drawn[method])
            for sparsity, mean in line.loc[line["diverged"], "mean"].items():
                ring(ax, 100 - sparsity, mean, f"{mean:.1f}")
        ax.axhline(dense[i], **LEVEL)
    outer_labels(figure, "Sparsity (%)", RUNNING)
    levels = {"Dense child": LEVEL} if shown["dense_accuracy"].notna().any() else {}
    legend(figure, drawn, in_order(shown["method"]), levels | diverged_entry(shown))
    return figure


def learning_curves(history: pd.DataFrame, drawn: dict[str, Style]) -> Figure | None:
    """Accuracy per epoch at the two highest sparsities of each arm and criterion, as :func:`as_used` has it."""
    scored = as_used(of_main(history)).dropna(subset="test_accuracy")
    scored = scored.assign(diverged=scored["diverged"] | collapsed(scored))
    highest = [arm[arm["sparsity"].isin(sorted(arm["sparsity"].unique())[-2:])] for arm in split(scored, PANEL)]
    panels = [panel for panel in split(pd.concat([scored[:0], *highest]), CELL) if panel["epoch"].nunique() > 1]
    if not panels:
        return None
    shown = pd.concat(panels)
    columns = columns_of(len(panels))
    figure, axes = grid(len(panels), columns, height=1.85)
    lines, every = _lines(panels, "epoch", "test_accuracy")
    parents = [over_parents(panel, "parent_accuracy").mean for panel in panels]
    for i, (ax, panel, title) in enumerate(zip(axes, panels, titles(panels, CELL, letters(columns)), strict=True)):
        ax.set_title(title)
        fit(ax, "y", every, *parents)
        for method, line in lines[i].items():
            used = line.index.isin(panel.loc[panel["used"] & (panel["method"] == method), "epoch"])
            for part, face in ((line[used], "white"), (line[~used], drawn[method].colour)):
                band(ax, part.index, part, drawn[method], every=max(1, len(line) // 6), face=face)
            if line["diverged"].any():
                ring(ax, line.index[-1], line["mean"].iloc[-1], f"{line['mean'].iloc[-1]:.1f}")
        ax.axhline(parents[i], **LEVEL)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        for end in panel["anneal_epochs"].dropna().unique():
            ax.axvline(end, **END)
    outer_labels(figure, "Epoch", REESTIMATED)
    levels = {"Parent": LEVEL, "Annealing ends": END} | ({"As training uses it": OPEN} if shown["used"].any() else {})
    legend(figure, drawn, in_order(shown["method"]), levels | diverged_entry(shown))
    return figure


def _lines(panels: list[pd.DataFrame], along: str, column: str) -> tuple[list[dict[str, pd.DataFrame]], pd.DataFrame]:
    """Of each panel the estimates of ``column`` by method, indexed by ``along``; and all estimates together."""
    lines = [
        {method: estimates(cells, [along], column).set_index(along) for method, cells in by_method(panel)}
        for panel in panels
    ]
    return lines, pd.concat([line for each in lines for line in each.values()])


def as_used(history: pd.DataFrame) -> pd.DataFrame:
    """``history`` with the test accuracy of the network as training uses it until annealing ends, then the target's.

    While a child is annealed, its target subnetwork is not the network that is trained. ``used``: whether a row is of
    the former; none is if the study did not score it.
    """
    if USED not in history or history[USED].isna().all():
        return history.assign(used=False)
    used = history["epoch"] < history["anneal_epochs"].fillna(0)
    exact = history["test_accuracy"].fillna(history[USED])
    return history.assign(test_accuracy=history[USED].where(used, exact), used=used)


def keep_probability(history: pd.DataFrame, drawn: dict[str, Style]) -> Figure | None:
    """Mean keep-probability of the pruned weights per epoch, for the arm and sparsity that share the most laws."""
    panels = split(gradual(history).dropna(subset="keep_pruned"), CELL)
    panels = [panel for panel in panels if (panel["keep_pruned"] > 0).any()]
    if not panels:
        return None
    panel = max(panels, key=lambda part: (part["method"].nunique(), part["child_id"].nunique(), part["sparsity"].max()))
    means = panel.pivot_table(index="epoch", columns="method", values="keep_pruned")
    for method, end in panel.groupby("method")["anneal_epochs"].max().dropna().items():
        means.loc[end, method] = 0.0  # from there on masks are exact; it need not be the end of an epoch
    means = means.sort_index()[in_order(panel["method"])]
    curves = means.interpolate(method="index")
    curves = curves.assign(**{name: means[name].ffill() for name in CUT if name in means})
    last = curves.index[(curves > 0).any(axis=1)].max()
    curves = curves[curves.index <= 1.25 * last + 1].round(3)  # where all is zero there is nothing to see
    alike = {
        name: [other for other in curves if curves[other].equals(curves[name]) and (other in CUT) == (name in CUT)]
        for name in curves
    }
    names = {same[0]: _also(same) for same in alike.values()}
    figure = blank(COLUMN, 2.1 + 0.16 * "\n".join(names.values()).count("\n"))
    ax = figure.subplots()
    for name, text in names.items():
        style = drawn[name]
        line: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": style.line, "label": text}
        line |= {"markevery": max(1, len(curves) // 20), "clip_on": False}
        ax.plot(curves.index, curves[name], drawstyle="steps-post" if name in CUT else "default", **line)
    ax.set(xlabel="Epoch", ylabel="Keep-probability", xlim=(0, max(curves.index.max(), 1)), ylim=(0, 1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.set_title(f"Pruned weights, {panel['sparsity'].iloc[0]:g}% sparsity, n = {n_of(panel)}")
    figure.legend(loc="outside lower left")
    return figure


def _also(methods: list[str]) -> str:
    """The first method's name and, in brackets, the others'."""
    first, *others = [label(method) for method in methods]
    return textwrap.fill(first + (f" (also: {', '.join(others)})" if others else ""), 45)
