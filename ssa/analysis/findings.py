"""The tables behind the findings: small, one row for each thing compared, differences paired and over parents.

Columns that end in ``_low`` and ``_high`` are the bounds of the 95% t-interval over ``n`` parents of the column before
them; differences are in percentage points of test accuracy unless the column says otherwise.
"""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pandas as pd

from ssa.analysis.statistics import PARENT, over_parents, t_interval
from ssa.errors import UserError
from ssa.results.children import CELL, having, pairs
from ssa.results.ensembles import by_name, groups, paired
from ssa.study.methods import ANNEALED, CONTROLS, in_order

BASELINE, SSA = "one-shot", "temperature"
# The columns that tell the cells of each finding apart: what is compared within a cell is left out.
CELLS = {
    "controls": CELL,
    "losses": [key for key in CELL if key != "sparsity"],
    "criteria": CELL,
    "rates": [key for key in CELL if key not in ("lr_schedule", "lr")],
    "lengths": CELL,
    "regime": ["train_images", *(key for key in CELL if key != "parent")],
    "allocation": [key for key in CELL if key not in ("allocation", "stem")],
    "gradients": CELL,
    "calibration": ["dataset", "model"],
}
RIVALS = ("one-shot", "iterative", "random")
CALIBRATED = ("nll", "nll_scaled", "ece", "ece_scaled")
USUAL = {"allocation": "layerwise", "stem": "pruned"}


def controls(children: pd.DataFrame) -> pd.DataFrame:
    """Each method's ``gain`` over one-shot, and SSA's ``lead`` over it, in the cells where a control was run."""
    rows = []
    for at, cells in _groups(children[children["reference"]], CELLS["controls"]):
        if not set(cells["method"]) & set(CONTROLS):
            continue
        base, ssa = (cells[cells["method"] == name] for name in (BASELINE, SSA))
        for method in in_order(set(cells["method"]) - {BASELINE}):
            own = cells[cells["method"] == method]
            gain = pairs(own, base)
            lead = {} if method == SSA else _estimate("lead", pairs(ssa, own))
            rows.append({**at, "method": method, **_estimate("gain", gain), **lead, "n": _parents(gain)})
    columns = [*CELLS["controls"], "method", *_triple("gain"), *_triple("lead"), "n"]
    return pd.DataFrame(rows, columns=columns)


def losses(children: pd.DataFrame) -> pd.DataFrame:
    """Each method's difference to one-shot in clean training ``loss`` (nats) and in test accuracy (``gain``).

    By sparsity, then over all of them (``sparsity`` is empty): one parent's cells are averaged first.
    """
    rows = []
    for at, cells in _groups(children[children["reference"]], CELLS["losses"]):
        base = cells[cells["method"] == BASELINE]
        for method in in_order(set(cells["method"]) & {"iterative", "random", SSA}):
            own = cells[cells["method"] == method]
            gain, loss = pairs(own, base), pairs(own, base, "train_loss_clean")
            for sparsity in (*sorted(own["sparsity"].unique()), None):
                here = [part if sparsity is None else part[part["sparsity"] == sparsity] for part in (gain, loss)]
                numbers = {**_estimate("loss", here[1]), **_estimate("gain", here[0]), "n": _parents(here[0])}
                rows.append({**at, "method": method, "sparsity": sparsity, **numbers})
    columns = [*CELLS["losses"], "method", "sparsity", *_triple("loss"), *_triple("gain"), "n"]
    return pd.DataFrame(rows, columns=columns)


def criteria(children: pd.DataFrame) -> pd.DataFrame:
    """SSA's ``lead`` over each of :data:`RIVALS`, in every cell of the study."""
    rows = []
    for at, cells in _groups(children[children["reference"]], CELLS["criteria"]):
        ssa = cells[cells["method"] == SSA]
        for method in in_order(set(cells["method"]) & set(RIVALS)):
            lead = pairs(ssa, cells[cells["method"] == method])
            if not lead.empty:
                rows.append({**at, "method": method, **_estimate("lead", lead), "n": _parents(lead)})
    return pd.DataFrame(rows, columns=[*CELLS["criteria"], "method", *_triple("lead"), "n"])


def rates(children: pd.DataFrame) -> pd.DataFrame:
    """Test ``accuracy`` of each method and schedule at each peak rate, and its ``gain`` over the tuned one-shot.

    ``chosen``: the rate at which the method's mean validation accuracy is highest. It is chosen for each method, on all
    parents, and for one-shot in the same way. ``lead``: of the tuned SSA over each other method that is tuned too.
    """
    rows = []
    for at, cells in _groups(children[children["reference"]], CELLS["rates"]):
        base, ssa = (_tuned(having(cells, {"method": name, "lr_schedule": "one-cycle"})) for name in (BASELINE, SSA))
        for (method, schedule), tuned in cells.groupby(["method", "lr_schedule"]):
            best = _best(tuned, "lr")
            for lr, part in tuned.groupby("lr"):
                head = {**at, "method": method, "lr_schedule": schedule, "lr": lr, "chosen": lr == best}
                validation = {"validation": part["validation_accuracy"].mean()}
                numbers = {**_estimate("accuracy", part, "accuracy"), **_estimate("gain", _same_seeds(part, base))}
                own = (method, schedule) == (SSA, "one-cycle")
                lead = _estimate("lead", _same_seeds(ssa, part)) if lr == best and not own else {}
                rows.append({**head, **validation, **numbers, **lead, "n": _parents(part)})
    columns = [*CELLS["rates"], "method", "lr_schedule", "lr", "chosen", "validation"]
    return pd.DataFrame(rows, columns=[*columns, *_triple("accuracy"), *_triple("gain"), *_triple("lead"), "n"])


def lengths(children: pd.DataFrame) -> pd.DataFrame:
    """SSA's ``gain`` over one-shot by the share e/E of fine-tuning that is annealed, and which share is ``best``.

    Of children with the tau and the schedule of those that stand for SSA. ``best``: highest mean validation accuracy.
    ``behind``: test accuracy minus that of the best share, paired.
    """
    rows = []
    for at, cells in _groups(children, CELLS["lengths"]):
        ssa = cells[cells["method"] == SSA]
        standing = ssa.loc[ssa["reference"], ["tau", "anneal_schedule"]].to_dict("records")
        ssa = having(ssa, standing[0]) if standing else ssa[:0]
        if ssa["anneal_epochs"].nunique() < 2:
            continue
        best = _best(ssa, "anneal_epochs")
        top = ssa[ssa["anneal_epochs"] == best]
        for e, part in ssa.groupby("anneal_epochs"):
            gain = pairs(part, cells[cells["method"] == BASELINE])
            behind = {} if e == best else _estimate("behind", pairs(part, top))
            share = {"share": cast(float, e) / at["epochs"], "best": e == best}
            rows.append({**at, **share, **_estimate("gain", gain), **behind, "n": _parents(gain)})
    columns = [*CELLS["lengths"], "share", "best", *_triple("gain"), *_triple("behind"), "n"]
    return pd.DataFrame(rows, columns=columns)


def regime(children: pd.DataFrame) -> pd.DataFrame:
    """SSA's ``gain`` over one-shot by training images and epochs, with one-shot's accuracies in test and training."""
    rows = []
    for at, cells in _groups(children[children["reference"]], CELLS["regime"]):
        base = cells[cells["method"] == BASELINE]
        gain = pairs(cells[cells["method"] == SSA], base)
        if gain.empty:
            continue
        levels = {"one_shot": base["accuracy"].mean(), "one_shot_train": base["train_accuracy_clean"].mean()}
        rows.append({**at, **levels, **_estimate("gain", gain), "n": _parents(gain)})
    columns = [*CELLS["regime"], "one_shot", "one_shot_train", *_triple("gain"), "n"]
    return pd.DataFrame(rows, columns=columns)


def allocation(children: pd.DataFrame) -> pd.DataFrame:
    """Each method's ``gain`` over one-shot by how sparsity is spread, and its ``change`` against :data:`USUAL`.

    ``effective``: percent of the prunable weights that are pruned or on no path from the input to the output, dead
    channels among them, of one-shot's masks.
    """
    rows = []
    for at, cells in _groups(children[children["reference"]], CELLS["allocation"]):
        base = cells[cells["method"] == BASELINE]
        for method in in_order(set(cells["method"]) - {BASELINE, "dense"}):
            gains = pairs(cells[cells["method"] == method], base)
            usual = having(gains, USUAL)
            for arm, part in _groups(gains, list(USUAL)):
                same = having(base, arm)
                levels = {"one_shot": same["accuracy"].mean(), "effective": same["effective_sparsity"].mean()}
                change = {} if arm == USUAL else _estimate("change", _same_seeds(part, usual, "difference"))
                rows.append(
                    {**at, **arm, "method": method, **levels, **_estimate("gain", part), **change, "n": _parents(part)}
                )
    columns = [*CELLS["allocation"], *USUAL, "method", "one_shot", "effective"]
    return pd.DataFrame(rows, columns=[*columns, *_triple("gain"), *_triple("change"), "n"])


def gradients(epochs: pd.DataFrame) -> pd.DataFrame:
    """How the gradient of a training step varies, by method and ``epoch`` (:mod:`ssa.training.gradients`).

    ``variance``: log10 of the trace of its covariance. ``noise``: that trace as percent of the mean squared norm.
    ``masks``: percent of it that sampled masks make. ``lead``: SSA's ``variance`` minus the method's, paired.
    ``epochs``: children with a row for each epoch. Where nothing was measured there are no rows.
    """
    columns = [*CELLS["gradients"], "method", "epoch", *_triple("variance"), *_triple("noise"), *_triple("masks")]
    columns += [*_triple("lead"), "n"]
    if "gradient_variance" not in epochs:
        return pd.DataFrame(columns=columns)
    seen = epochs[epochs["reference"] & (epochs["gradient_variance"] > 0)]
    seen = seen.assign(
        variance=np.log10(seen["gradient_variance"]),
        noise=100 * seen["gradient_variance"] / seen["gradient_square"],
        masks=100 * seen["gradient_mask_variance"] / seen["gradient_variance"],
    )
    rows = []
    for at, cells in _groups(seen, [*CELLS["gradients"], "epoch"]):
        ssa = cells[cells["method"] == SSA]
        for method in in_order(set(cells["method"])):
            own = cells[cells["method"] == method]
            lead = {} if method == SSA else _estimate("lead", pairs(ssa, own, "variance"))
            levels = [_estimate(name, own, name) for name in ("variance", "noise", "masks")]
            numbers = {key: value for level in (*levels, lead) for key, value in level.items()}
            rows.append({**at, "method": method, **numbers, "n": _parents(own)})
    return pd.DataFrame(rows, columns=columns)


def calibration(ensembles: pd.DataFrame | None) -> pd.DataFrame:
    """Gains of SSA's ensembles over others in NLL (nats) and ECE (points), as they are and temperature-scaled.

    The others: all that are not annealed. Above 0 where SSA's is lower; paired by seed, ``n`` seeds. ``_scaled``: each
    divided by the one temperature that suits its validation images best. Ensembles are those of
    :func:`ssa.results.ensembles.read_ensembles`; None for a study without any.
    """
    rows = []
    scaled = () if ensembles is None else groups(ensembles[ensembles["nll_scaled"].notna()])
    for dataset, model, cells in scaled:
        ours = [name for name, mine in by_name(cells) if mine["tuning"].iloc[0] == SSA]
        others = [name for name, one in by_name(cells) if one["tuning"].iloc[0] not in ANNEALED]
        for name, other in itertools.product(ours, others):
            row: dict[str, Any] = {"dataset": dataset, "model": model, "ensemble": name, "other": other}
            for column in CALIBRATED:
                gain = t_interval(-paired(cells, name, other, column))  # lower is better
                row |= dict(zip(_triple(column), (gain.mean, gain.low, gain.high), strict=True)) | {"n": gain.n}
            rows.append(row)
    numbers = [number for column in CALIBRATED for number in _triple(column)]
    return pd.DataFrame(rows, columns=[*CELLS["calibration"], "ensemble", "other", *numbers, "n"])


def _groups(frame: pd.DataFrame, keys: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The pruned children of ``frame`` by the values of ``keys``, in order."""
    pruned = frame[frame["sparsity"] > 0]
    return [(dict(zip(keys, values, strict=True)), part) for values, part in pruned.groupby(keys)]


def _tuned(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of ``rows`` at the best rate."""
    return rows[rows["lr"] == _best(rows, "lr")]


def _best(frame: pd.DataFrame, column: str) -> Any:
    """The value of ``column`` with the highest mean validation accuracy; None if there are no children."""
    if frame.empty:
        return None
    validation = frame.groupby(column)["validation_accuracy"].mean()
    if validation.isna().any():
        raise UserError("nothing can be chosen without validation images: set validation in the study's datasets")
    return validation.idxmax()


def _estimate(name: str, frame: pd.DataFrame, column: str = "difference") -> dict[str, float]:
    """Mean and bounds over parents as columns that begin with ``name``."""
    interval = over_parents(frame, column)
    return dict(zip(_triple(name), (interval.mean, interval.low, interval.high), strict=True))


def _triple(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _parents(frame: pd.DataFrame) -> int:
    return len(frame[PARENT].drop_duplicates())


def _same_seeds(rows: pd.DataFrame, base: pd.DataFrame, column: str = "accuracy") -> pd.DataFrame:
    """``rows`` minus ``base`` for the same parent and child seed, whatever else differs: ``difference``."""
    partner = base[[*PARENT, "seed", column]].rename(columns={column: "partner"})
    paired = rows.merge(partner, on=[*PARENT, "seed"], validate="many_to_one")
    return paired.assign(difference=paired[column] - paired["partner"])
