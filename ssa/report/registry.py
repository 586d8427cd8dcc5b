"""Every figure and table of a study, each in one entry; Snakemake, the page and the texts read them here.

An entry names the function that makes it, what that takes of a record (:class:`ssa.report.record.Record`), its caption,
and whether a study that is planned will have it. A function returns None if there is nothing to show, and nothing is
written. Reading this file loads neither Matplotlib nor SciPy: Snakemake does so each time it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import pandas as pd

from ssa.report.findings.finding import Finding
from ssa.report.selection import SSA, compared, gradual, of_main, over_sparsity, pruned, swept, usual_recipe
from ssa.report.tables.published import has_published
from ssa.results.children import CELL
from ssa.results.ensembles import twins
from ssa.results.planned import Planned
from ssa.study.questions import FINDINGS as QUESTIONS

STUDY, ENSEMBLES, FINDINGS = "Study", "Ensembles", "Findings"  # the sections


@dataclass(frozen=True)
class Entry:
    """One figure or table.

    ``make``: the import path of a function; ``takes``: the parts of a record that it is called with. ``numbers``: where
    the numbers that a figure draws are, for the page to give them as CSV: the name of a table here or of a record's
    part, or a column of its epochs.
    """

    section: str
    make: str
    takes: tuple[str, ...]
    label: str
    caption: str
    has: Callable[[Planned], bool]
    numbers: str = ""


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


def _of_usual(select: Callable[[pd.DataFrame], object]) -> Callable[[Planned], bool]:
    """Whether ``select`` finds anything among the children at their arm's usual recipe."""
    return lambda plan: len(select(usual_recipe(plan.children))) > 0  # type: ignore[arg-type]


FIGURES: dict[str, Entry] = {
    "summary": Entry(
        STUDY,
        "ssa.report.figures.summary.summary",
        ("claims", "study"),
        "every claim's differences and probability of improvement",
        "Every comparison by which a claim is judged, by claim and arm. Left: the mean paired difference with its "
        "interval over n parents (ensembles: seeds); dotted: the thresholds that the verdict asks for beside 0. Right: "
        "the probability of improvement, which is the share of parents whose difference is above 0, with Wilson's "
        "interval. Intervals with arrowheads go on beyond the axis. If there are too many comparisons, the arms beside "
        "those that were named beforehand are left to claims.csv.",
        lambda plan: plan.claims,
        numbers="claims",
    ),
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
        numbers="sizes",
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
        numbers="bins",
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
        numbers="corrupted",
    ),
}

TABLES: dict[str, Entry] = {
    "table1_accuracy": Entry(
        STUDY,
        "ssa.report.tables.study.accuracy",
        ("children",),
        "accuracy by method and sparsity",
        "Test accuracy in percent by method and sparsity: mean ± 95% confidence half-width over parents, with n.",
        lambda plan: not pruned(plan).empty,
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


def _asks(name: str, answered: Callable[[Planned], bool]) -> Callable[[Planned], bool]:
    return lambda plan: name in plan.findings and answered(plan)


for _name in QUESTIONS:
    _module = f"ssa.report.findings.{_name}"
    _finding: Finding = import_module(_module).FINDING
    _has = _asks(_name, _finding.answered)
    TABLES[f"finding_{_name}"] = Entry(
        FINDINGS, f"{_module}.table", (_finding.takes,), _finding.question, _finding.caption, _has
    )
    FIGURES[f"finding_{_name}"] = Entry(
        *(FINDINGS, f"{_module}.figure", (f"finding_{_name}",), _finding.question, _finding.caption, _has),
        numbers=f"finding_{_name}",
    )
