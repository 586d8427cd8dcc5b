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
from ssa.report.selection import SSA, compared, gradual, of_main, over_sparsity, swept, usual_recipe
from ssa.report.tables.published import has_published
from ssa.results.children import CELL
from ssa.results.ensembles import twins
from ssa.results.planned import Planned
from ssa.study.questions import FINDINGS as QUESTIONS

STUDY, ENSEMBLES, FINDINGS = "Study", "Ensembles", "Findings"  # the sections


@dataclass(frozen=True)
class Entry:
    """One figure or table.

    ``caption``: what it shows, in a sentence; ``reading``: how it is read, where docs/figures.md does not say so.
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
    reading: str = ""

    @property
    def told(self) -> str:
        """The caption, and how the figure is read."""
        return f"{self.caption} {self.reading}".strip()


def _several_settings(plan: Planned) -> bool:
    """Whether SSA is run at several settings in a cell."""
    setting = ["tau", "anneal_epochs", "anneal_schedule"]
    rows = plan.children[plan.children["method"] == SSA]
    return any(len(cells[setting].drop_duplicates()) > 1 for _, cells in rows.groupby(CELL))


def _scored(plan: Planned) -> bool:
    return not plan.ensembles.empty


def _of_several(plan: Planned) -> bool:
    return _scored(plan) and bool((plan.ensembles["members"] > 1).any())


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
        "Every difference by which a claim is judged, and the probability of improvement.",
        lambda plan: plan.claims,
        numbers="claims",
        reading=(
            "Left: the mean paired difference; dotted: the thresholds that the verdict asks for beside 0. Right: the "
            "share of parents whose difference is above 0, with Wilson's interval. Single cells and the verdicts of "
            "C3, C4, C7, C8 and C10 are adjusted by Holm's method over several: an interval may lie on one side, and "
            "the verdict stay undecided. If there are too many comparisons, the arms beside those that were named "
            "beforehand are left to claims.csv."
        ),
    ),
    "accuracy_vs_sparsity": Entry(
        STUDY,
        "ssa.report.figures.study.accuracy_vs_sparsity",
        ("usual", "drawn"),
        "accuracy against sparsity",
        "Test accuracy of each method against sparsity.",
        _of_usual(over_sparsity),
        numbers="table1_accuracy",
        reading="Dashed: the dense children of the same parents.",
    ),
    "learning_curves": Entry(
        STUDY,
        "ssa.report.figures.study.learning_curves",
        ("usual_epochs", "drawn"),
        "accuracy of the target subnetwork per epoch",
        "Test accuracy of the target subnetwork after each epoch, at the two highest sparsities.",
        _of_usual(lambda children: of_main(children).query("points > 1")),
        numbers="test_accuracy",
        reading=(
            "BatchNorm's statistics are re-estimated. Dashed: the parents; dotted: the end of annealing. Open marks: "
            "until then, the network as training uses it, if the study scored it so; filled: the target subnetwork. A "
            "ring also marks a curve with a child that loses more than 5 points when its statistics are re-estimated."
        ),
    ),
    "ablation_heatmap": Entry(
        STUDY,
        "ssa.report.figures.differences.ablation_heatmap",
        ("usual",),
        "tau and annealing epochs",
        "Gain over one-shot by initial probability tau and length of annealing.",
        _of_usual(swept),
        numbers="table2_ablation",
        reading=(
            "Percentage points, each child minus the one-shot child of its parent and mask. Framed or filled: the "
            "setting that was fixed beforehand; blank: not run; *: with a diverged child. If only one of the two "
            "varies, lines stand for the map."
        ),
    ),
    "keep_probability": Entry(
        STUDY,
        "ssa.report.figures.study.keep_probability",
        ("usual_epochs", "drawn"),
        "keep-probability over time",
        "Keep-probability of the weights to be pruned, along fine-tuning.",
        _of_usual(lambda children: gradual(children).dropna(subset="anneal_epochs").query("sparsity > 0 and tau != 0")),
        numbers="keep_pruned",
        reading=(
            "Mean over these weights and over the children of the arm and sparsity that most methods share, at the "
            "ends of epochs and of annealing. Methods whose curves coincide are drawn once."
        ),
    ),
    "forest_differences": Entry(
        STUDY,
        "ssa.report.figures.differences.forest_differences",
        ("usual", "drawn"),
        "paired differences to one-shot",
        "Difference in test accuracy to one-shot, paired by parent.",
        _of_usual(compared),
        numbers="table3_differences",
        reading="Percentage points; right of zero: better than one-shot.",
    ),
    "ensemble_accuracy": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensembles.ensemble_accuracy",
        ("ensembles",),
        "accuracy of every ensemble",
        "Test accuracy of each ensemble.",
        _scored,
        numbers="table_ensembles",
        reading="The mean of the members' probabilities is scored. Small points: the seeds.",
    ),
    "ensemble_cost": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensembles.ensemble_cost",
        ("ensembles",),
        "accuracy and NLL against training",
        "Accuracy and NLL of each ensemble against the cost of its training.",
        _scored,
        numbers="table_ensembles",
        reading=(
            "FLOPs do not count weights that are zero; the axis names the ensemble whose dense training is 1. Dashed: "
            "the Pareto front, the best at no more than a cost."
        ),
    ),
    "ensemble_size": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensembles.ensemble_size",
        ("ensembles", "sizes"),
        "accuracy and NLL against size",
        "Accuracy and NLL against the number of members.",
        _of_several,
        numbers="sizes",
        reading="The first so many members are combined.",
    ),
    "ensemble_reliability": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensemble_panels.ensemble_reliability",
        ("ensembles", "bins"),
        "reliability diagrams",
        "Reliability diagrams on the clean test set: accuracy against confidence.",
        _scored,
        numbers="bins",
        reading=(
            "15 bins hold all seeds' predictions together; bins of fewer than 25 have no point. Dashed: perfect "
            "calibration; columns: the share of predictions in each bin; ECE: mean over seeds, in percentage points."
        ),
    ),
    "ensemble_diversity": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensembles.ensemble_diversity",
        ("ensembles",),
        "members' accuracy against disagreement",
        "Accuracy of single members against how much they disagree.",
        _of_several,
        numbers="table_ensembles_diversity",
        reading=(
            "Disagreement: the share of test images on which two members predict different classes. Faint: the seeds; "
            "numbers: the accuracy of the ensemble (%)."
        ),
    ),
    "ensemble_corruptions": Entry(
        ENSEMBLES,
        "ssa.report.figures.ensemble_panels.ensemble_corruptions",
        ("ensembles", "corrupted"),
        "accuracy against severity",
        "Accuracy of each ensemble against the severity of each corruption.",
        _corrupted,
        numbers="corrupted",
        reading=(
            "Means over seeds. Severity 0: the whole clean test set. The title says of how many test images, and "
            "whether they are the official ones or were generated here."
        ),
    ),
}

TABLES: dict[str, Entry] = {
    "table1_accuracy": Entry(
        STUDY,
        "ssa.report.tables.study.accuracy",
        ("children",),
        "accuracy by method and sparsity",
        "Test accuracy in percent by method and sparsity.",
        lambda plan: bool((plan.children["reference"] & (plan.children["method"] != "dense")).any()),
    ),
    "table2_ablation": Entry(
        STUDY,
        "ssa.report.tables.study.ablation",
        ("children",),
        "tau, annealing epochs and schedule",
        "Test accuracy in percent by temperature tau, annealing epochs e and annealing schedule.",
        _several_settings,
    ),
    "table3_differences": Entry(
        STUDY,
        "ssa.report.tables.study.paired_differences",
        ("children",),
        "paired differences to one-shot",
        "Paired differences to one-shot pruning in percentage points.",
        lambda plan: bool(compared(plan.children)),
    ),
    "table4_sanity": Entry(
        STUDY,
        "ssa.report.tables.sanity.sanity",
        ("children", "ensembles"),
        "our numbers beside known ones",
        "Dense parents, one-shot magnitude pruning and published ensembles beside what is known of them.",
        lambda plan: has_published(plan.children, plan.ensembles),
    ),
    "table_ensembles": Entry(
        ENSEMBLES,
        "ssa.report.tables.ensembles.scores",
        ("ensembles",),
        "scores and costs, beside published ones",
        "Scores and costs of the ensembles, and published scores of the same data set and model.",
        _scored,
    ),
    "table_ensembles_conventions": Entry(
        ENSEMBLES,
        "ssa.report.tables.ensembles.conventions",
        ("ensembles",),
        "how members are combined",
        "Scores of the ensembles under each way of combining the members.",
        _scored,
    ),
    "table_ensembles_differences": Entry(
        ENSEMBLES,
        "ssa.report.tables.ensembles.differences",
        ("ensembles",),
        "paired differences to plain twins",
        "Paired differences of ensembles to their twins that are tuned one-shot.",
        lambda plan: _scored(plan) and bool(twins(plan.ensembles)),
    ),
    "table_ensembles_diversity": Entry(
        ENSEMBLES,
        "ssa.report.tables.ensembles.diversity",
        ("ensembles",),
        "diversity of the members",
        "How much members differ, and their own accuracy, beside what was published.",
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
        reading=_finding.reading,
    )
