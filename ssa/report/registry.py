"""Every figure and table of a study, each in one entry; Snakemake, the page and the texts read them here.

An entry names the function that makes it, what that takes of a record (:class:`ssa.report.record.Record`), its caption,
and whether a study that is planned will have it. A function returns None if there is nothing to show, and nothing is
written. Reading this file loads neither Matplotlib nor SciPy: Snakemake does so each time it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from ssa.report.selection import (
    CELL,
    compared,
    gradual,
    of_main,
    over_sparsity,
    swept,
    usual_recipe,
)
from ssa.report.tables.published import has_published
from ssa.results.children import PAIRING, having
from ssa.results.ensembles import twins
from ssa.results.planned import Planned
from ssa.study.methods import ANNEALED, CONTROLS
from ssa.study.questions import FINDINGS as QUESTIONS

SSA, BASELINE = "temperature", "one-shot"
STUDY, ENSEMBLES, FINDINGS = "Study", "Ensembles", "Findings"  # the sections


@dataclass(frozen=True)
class Entry:
    """One figure or table.

    ``make``: the import path of a function; ``takes``: the parts of a record that it is called with. ``numbers``: where
    the numbers that a figure draws are, for the page to give them as CSV: the name of a table here or of the results,
    or a column of history.parquet.
    """

    section: str
    make: str
    takes: tuple[str, ...]
    label: str
    caption: str
    has: Callable[[Planned], bool]
    numbers: str = ""


def _pruned(plan: Planned) -> pd.DataFrame:
    """The pruned children at the fixed setting."""
    children = plan.children
    return children[children["reference"] & (children["method"] != "dense")]


def _runs(*methods: str) -> Callable[[Planned], bool]:
    """Whether one of ``methods`` is run."""
    return lambda plan: bool(_pruned(plan)["method"].isin(methods).any())


def _paired(method: str, *others: str) -> Callable[[Planned], bool]:
    """Whether ``method`` is run in a cell in which one of ``others`` is."""

    def has(plan: Planned) -> bool:
        rows = _pruned(plan)
        mine, theirs = rows[rows["method"] == method], rows[rows["method"].isin(others)]
        return not mine[PAIRING].merge(theirs[PAIRING]).empty

    return has


def _several_lengths(plan: Planned) -> bool:
    """Whether SSA's length alone varies within a cell."""
    for _, cells in plan.children[plan.children["method"] == SSA].groupby(CELL):
        fixed = cells.loc[cells["reference"], ["tau", "anneal_schedule"]].to_dict("records")
        if fixed and having(cells, fixed[0])["anneal_epochs"].nunique() > 1:
            return True
    return False


def _several_settings(plan: Planned) -> bool:
    """Whether SSA is run at several settings in a cell."""
    setting = ["tau", "anneal_epochs", "anneal_schedule"]
    rows = plan.children[plan.children["method"] == SSA]
    return any(len(cells[setting].drop_duplicates()) > 1 for _, cells in rows.groupby(CELL))


def _scored(plan: Planned) -> bool:
    return not plan.ensembles.empty


def _of_several(plan: Planned) -> bool:
    return _scored(plan) and bool(plan.ensembles["several"].any())


def _corrupted(plan: Planned) -> bool:
    return _scored(plan) and bool(plan.ensembles["corrupted_set"].notna().any())


def _calibrated(plan: Planned) -> bool:
    """Whether SSA's ensembles and others that are not annealed have validation images, on one data set and model."""
    if plan.ensembles.empty:
        return False
    rows = plan.ensembles[plan.ensembles["validated"]]
    groups = [part["tuning"] for _, part in rows.groupby(["dataset", "model"])]
    return any((tuning == SSA).any() and (~tuning.isin(ANNEALED)).any() for tuning in groups)


def _of_usual(select: Callable[[pd.DataFrame], object]) -> Callable[[Planned], bool]:
    """Whether ``select`` finds anything among the children at their arm's usual recipe."""
    return lambda plan: len(select(usual_recipe(plan.children))) > 0  # type: ignore[arg-type]


FIGURES: dict[str, Entry] = {
    "accuracy_vs_sparsity": Entry(
        STUDY,
        "ssa.report.figures.study.accuracy_vs_sparsity",
        ("usual", "drawn"),
        "accuracy against sparsity",
        "Test accuracy, with BatchNorm's running statistics, against sparsity and the weights that remain, spaced by "
        "their logarithm. Lines: mean over n parents; bands: 95% t-interval over parents; dashed: the dense children "
        "of the same parents. A ring marks a cell with a diverged child: it has no band, and stands at the edge with "
        "its value if it lies outside.",
        _of_usual(over_sparsity),
        numbers="table1_accuracy",
    ),
    "learning_curves": Entry(
        STUDY,
        "ssa.report.figures.study.learning_curves",
        ("usual_epochs", "drawn"),
        "accuracy of the target subnetwork per epoch",
        "Test accuracy of the target subnetwork, with re-estimated batch-norm statistics, after each epoch (0: before "
        "the first step), at the two highest sparsities. Lines and bands: mean and 95% t-interval over parents; "
        "dashed: the parents themselves; dotted: the end of the annealing. Until then the network is drawn as training "
        "uses it, if the study scored it so. A ring marks a curve with a diverged child, or with one that loses more "
        "than 5 points when its statistics are re-estimated.",
        _of_usual(lambda children: of_main(children).query("points > 1")),
        numbers="test_accuracy",
    ),
    "ablation_heatmap": Entry(
        STUDY,
        "ssa.report.figures.differences.ablation_heatmap",
        ("usual",),
        "tau and annealing epochs",
        "The initial probability tau and the length of the annealing: test accuracy minus that of the one-shot child "
        "of the same parent and mask, in percentage points, mean over n parents. Framed or filled: the setting that "
        "the study fixed beforehand; blank: not run; *: with a diverged child. If only one of the two varies: lines, "
        "with 95% t-intervals; dotted as in the forest plot.",
        _of_usual(swept),
        numbers="table2_ablation",
    ),
    "keep_probability": Entry(
        STUDY,
        "ssa.report.figures.study.keep_probability",
        ("usual_epochs", "drawn"),
        "keep-probability over time",
        "Keep-probability of the weights to be pruned at the ends of epochs and of annealing, mean over them and over "
        "the children of the arm and sparsity that most methods share. Methods whose curves coincide are drawn once.",
        _of_usual(gradual),
        numbers="keep_pruned",
    ),
    "forest_differences": Entry(
        STUDY,
        "ssa.report.figures.differences.forest_differences",
        ("usual", "drawn"),
        "paired differences to one-shot",
        "Paired difference in test accuracy to one-shot, in percentage points: mean and 95% t-interval over n "
        "parents. Right of zero: better than one-shot; dotted: 0.2, the smallest difference that matters, 0.5, below "
        "which it is called little, and the 4 points quoted at 98% sparsity. Intervals with arrowheads go on beyond "
        "the axis, and a mean that lies there is written at its edge. A ring marks a cell with a diverged child.",
        _of_usual(compared),
        numbers="table3_differences",
    ),
    "ensemble_accuracy": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensembles.ensemble_accuracy",
        ("ensembles",),
        "accuracy of every ensemble",
        "Test accuracy of the ensembles. Mean and 95% t-interval over seeds; small points: the seeds. The mean of the "
        "members' probabilities is scored.",
        _scored,
        numbers="table_ensembles",
    ),
    "ensemble_cost": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensembles.ensemble_cost",
        ("ensembles",),
        "accuracy and NLL against training",
        "Accuracy and NLL of the ensembles against what their training took: FLOPs that count no weight that is zero, "
        "relative to those of the ensemble that the axis names, with all its weights. Mean and 95% t-interval over "
        "seeds; dashed: the Pareto front, the best at no more than a cost.",
        _scored,
        numbers="table_ensembles",
    ),
    "ensemble_size": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensembles.ensemble_size",
        ("ensembles", "sizes"),
        "accuracy and NLL against size",
        "Accuracy and NLL of ensembles of the first so many members. Lines and bands: mean and 95% t-interval over "
        "seeds.",
        _of_several,
        numbers="ensemble_sizes",
    ),
    "ensemble_reliability": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensemble_panels.ensemble_reliability",
        ("ensembles", "bins"),
        "reliability diagrams",
        "Reliability diagrams of the ensembles on the clean test set: accuracy against confidence in 15 bins, all "
        "seeds' predictions together; bins of fewer than 25 have no point. Dashed: perfect calibration; columns: the "
        "share of predictions in each bin; ECE: mean over seeds, in percentage points.",
        _scored,
        numbers="ensemble_bins",
    ),
    "ensemble_diversity": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensembles.ensemble_diversity",
        ("ensembles",),
        "members' accuracy against disagreement",
        "Accuracy of the members alone against their disagreement, the share of test images on which two members "
        "predict different classes; means over seeds, which are faint. Numbers: the accuracy of the ensemble (%).",
        _of_several,
        numbers="table_ensembles_diversity",
    ),
    "ensemble_corruptions": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensemble_panels.ensemble_corruptions",
        ("ensembles", "corrupted"),
        "accuracy against severity",
        "Accuracy of the ensembles against the severity of each corruption (0: the whole clean test set); means over "
        "seeds. The title says of how many test images, and whether they are the official ones or were generated here.",
        _corrupted,
        numbers="corruptions",
    ),
}

TABLES: dict[str, Entry] = {
    "table1_accuracy": Entry(
        STUDY,
        "ssa.report.tables.study.accuracy",
        ("children",),
        "accuracy by method and sparsity",
        "Test accuracy in percent by method and sparsity: mean ± 95% confidence half-width over parents, with n.",
        lambda plan: not _pruned(plan).empty,
    ),
    "table2_ablation": Entry(
        STUDY,
        "ssa.report.tables.study.ablation",
        ("children",),
        "tau, annealing epochs and schedule",
        "The temperature tau, the annealing epochs e and the annealing schedule: test accuracy in percent, mean ± 95% "
        "confidence half-width over parents.",
        _several_settings,
    ),
    "table3_differences": Entry(
        STUDY,
        "ssa.report.tables.study.paired_differences",
        ("children",),
        "paired differences to one-shot",
        "Paired differences to one-shot pruning in percentage points, averaged within a parent, with the 95% "
        "t-interval over parents.",
        lambda plan: bool(compared(plan.children)),
    ),
    "table4_sanity": Entry(
        STUDY,
        "ssa.report.tables.sanity.sanity",
        ("children", "ensembles"),
        "our numbers beside known ones",
        "Dense parents, one-shot magnitude pruning and published ensembles beside what is known of them: to be looked "
        "at before any claim is believed.",
        lambda plan: has_published(plan.children, plan.ensembles),
    ),
    "table_ensembles": Entry(
        ENSEMBLES,
        "ssa.report.tables.ensembles.scores",
        ("ensembles",),
        "scores and costs, beside published ones",
        "Scores and training costs of the ensembles, means over seeds with 95% t-intervals; published results of the "
        "same data set and model stand below, marked with their source. Results on generated corruptions and on "
        "official ones never share a column.",
        _scored,
    ),
    "table_ensembles_conventions": Entry(
        ENSEMBLES,
        "ssa.report.tables.ensembles.conventions",
        ("ensembles",),
        "how members are combined",
        "Scores of the ensembles under each way of combining the members: mean of probabilities (primary) or of "
        "logits, with the parent as one more member, after temperature scaling.",
        _scored,
    ),
    "table_ensembles_differences": Entry(
        ENSEMBLES,
        "ssa.report.tables.ensembles.differences",
        ("ensembles",),
        "paired differences to plain twins",
        "Paired differences of ensembles to their twins that are tuned one-shot, with the 95% t-interval over seeds.",
        lambda plan: _scored(plan) and bool(twins(plan.ensembles)),
    ),
    "table_ensembles_diversity": Entry(
        ENSEMBLES,
        "ssa.report.tables.ensembles.diversity",
        ("ensembles",),
        "diversity of the members",
        "Disagreement, Kullback-Leibler divergence and Yule's Q between members, and the members' own accuracy, beside "
        "what was published.",
        _of_several,
    ),
}

# A finding has a table, which its figure draws: what the table takes, whether there is anything to fill it, and what
# the figure shows.
_ASKED: dict[str, tuple[str, Callable[[Planned], bool], str]] = {
    "controls": (
        "children",
        _runs(*CONTROLS),
        "Gain over one-shot, a row for each method; a control is SSA with one part taken out.",
    ),
    "losses": (
        "children",
        _runs("iterative", "random", SSA),
        "Gain in test accuracy over one-shot against the difference in clean training loss; lines run up to the "
        "sparsity that is written.",
    ),
    "criteria": (
        "children",
        _paired(SSA, BASELINE, "iterative", "random"),
        "SSA's lead over each other method, by sparsity and by what masks are made of.",
    ),
    "rates": (
        "children",
        lambda plan: not _pruned(plan).empty,
        "Test accuracy against the peak learning rate; filled: the rate that validation images chose.",
    ),
    "lengths": (
        "children",
        _several_lengths,
        "SSA's gain over one-shot against the share e / E of fine-tuning that is annealed; filled: the share that "
        "validation images chose.",
    ),
    "regime": (
        "children",
        _paired(SSA, BASELINE),
        "SSA's gain over one-shot against training images, by the number of epochs.",
    ),
    "allocation": (
        "children",
        lambda plan: bool((~_pruned(plan)["method"].isin([BASELINE])).any()),
        "Gain over one-shot, a row for each way to spread sparsity over layers.",
    ),
    "gradients": (
        "epochs",
        lambda plan: bool((_pruned(plan)["gradient_batches"] > 0).any()),
        "How the gradient of a step varies along training: its variance, that as a part of its square, and the part of "
        "it that sampled masks make.",
    ),
    "calibration": (
        "ensembles",
        _calibrated,
        "Gains of SSA's ensembles in NLL and ECE over other ensembles, as they are (filled) and temperature-scaled "
        "(open). Right of zero: SSA's is lower.",
    ),
}


def _asks(finding: str, answered: Callable[[Planned], bool]) -> Callable[[Planned], bool]:
    return lambda plan: finding in plan.findings and answered(plan)


for _name, (_takes, _answered, _caption) in _ASKED.items():
    _has = _asks(_name, _answered)
    TABLES[f"finding_{_name}"] = Entry(
        FINDINGS, f"ssa.analysis.findings.{_name}", (_takes,), QUESTIONS[_name], _caption, _has
    )
    FIGURES[f"finding_{_name}"] = Entry(
        *(FINDINGS, f"ssa.report.figures.findings.{_name}", (f"finding_{_name}",), QUESTIONS[_name], _caption, _has),
        numbers=f"finding_{_name}",
    )
