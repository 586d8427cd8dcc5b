"""Score an ensemble: its members' outputs combined, scored, and told apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ssa.errors import check_choice
from ssa.training.scoring import ECE_BINS, bin_of, score
from ssa.vocabulary import CONVENTIONS

TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class EnsembleScores:
    """``accuracy`` and ``ece`` in percent, ``nll`` in nats, ``brier`` in [0, 2]; ``finite``: whether all outputs were.

    The Brier score is the squared distance of the probabilities to the label's, summed over classes.
    """

    accuracy: float
    nll: float
    ece: float
    brier: float
    finite: bool = True


@dataclass(frozen=True)
class Diversity:
    """How much members differ, as means over pairs; NaN for fewer than two members.

    ``disagreement``: the fraction of images whose predicted classes differ. ``kl``: Kullback-Leibler divergence in
    nats, over ordered pairs. ``q_statistic``: Yule's Q of being right, in [-1, 1], 0 where members err independently
    (Kuncheva and Whitaker, 2003, Machine Learning 51, 181-207); pairs for which it is 0 / 0 do not count.
    """

    disagreement: float
    kl: float
    q_statistic: float


@dataclass(frozen=True)
class Reliability:
    """For each equal bin of confidence: how many predictions it holds, their summed confidence, how many are right."""

    count: list[int]
    confidence: list[float]
    correct: list[int]


def combine(logits: Tensor, convention: str = "probabilities") -> Tensor:
    """float64 (n, classes): log-probabilities of the ensemble of members with ``logits`` (members, n, classes).

    A member whose outputs are not all finite counts as a uniform guess. ``ValueError`` for an unknown ``convention``.
    """
    check_choice("convention", convention, CONVENTIONS)
    outputs = logits.double()
    outputs = torch.where(finite_members(logits)[:, None, None], outputs, torch.zeros_like(outputs))
    if convention == "logits":
        return outputs.mean(0).log_softmax(1)
    # In logarithms: a class that all members exclude has a finite NLL.
    return outputs.log_softmax(2).logsumexp(0) - math.log(len(outputs))


def finite_members(logits: Tensor) -> Tensor:
    """bool (members,): whose outputs are all finite."""
    return logits.isfinite().flatten(1).all(1)


def measure(
    logits: Tensor, labels: Tensor, convention: str = "probabilities", bins: int = ECE_BINS, temperature: float = 1.0
) -> EnsembleScores:
    """Scores of the ensemble of members with ``logits`` (members, n, classes), its log-probabilities divided by
    ``temperature`` first.

    ``finite`` is False if a member's outputs were not; an ensemble of such members alone is a uniform guess.
    """
    finite = finite_members(logits)
    combined = combine(logits, convention) / temperature
    scores = score(combined if finite.any() else torch.full_like(combined, math.nan), labels, bins)
    truth = functional.one_hot(labels, combined.shape[1]).double()
    brier = float(((combined.softmax(1) - truth) ** 2).sum(1).mean())
    return EnsembleScores(scores.accuracy, scores.nll, scores.ece, brier, bool(finite.all()))


def temperature(logits: Tensor, labels: Tensor, convention: str = "probabilities") -> float:
    """The temperature in [0.05, 20] at which the ensemble has the lowest NLL on these images (Guo et al., 2017).

    One scalar on the combined log-probabilities; for validation images, never those that are scored with it.
    """
    from scipy.optimize import minimize_scalar

    combined = combine(logits, convention)
    # The NLL is convex in 1 / T, so it has one minimum over log T.
    found = minimize_scalar(
        lambda log_t: float(functional.cross_entropy(combined / math.exp(log_t), labels)),
        bounds=(math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1])),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(found.x)


def measure_diversity(logits: Tensor, labels: Tensor) -> Diversity:
    """How much the members with ``logits`` (members, n, classes) differ; those that are not finite are left out."""
    sound = logits[finite_members(logits)].double()
    if len(sound) < 2:
        return Diversity(math.nan, math.nan, math.nan)
    log_p = sound.log_softmax(2)
    predicted = sound.argmax(2)
    right = predicted == labels
    pairs = list(itertools.combinations(range(len(sound)), 2))
    disagreement = [float((predicted[i] != predicted[j]).double().mean()) for i, j in pairs]
    kl = [float((log_p[i].exp() * (log_p[i] - log_p[j])).sum(1).mean()) for i, j in pairs + [(j, i) for i, j in pairs]]
    q = [value for value in (_yule(right[i], right[j]) for i, j in pairs) if not math.isnan(value)]
    return Diversity(_mean(disagreement), _mean(kl), _mean(q))


def _yule(a: Tensor, b: Tensor) -> float:
    both, neither = int((a & b).sum()), int((~a & ~b).sum())
    first, second = int((a & ~b).sum()), int((~a & b).sum())
    total = both * neither + first * second
    return (both * neither - first * second) / total if total else math.nan


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def reliability(log_probabilities: Tensor, labels: Tensor, bins: int = ECE_BINS) -> Reliability:
    """The reliability diagram of ``log_probabilities`` (n, classes); its ECE is sum |confidence - correct| / n."""
    confidence, predicted = log_probabilities.double().softmax(1).max(1)
    right = (predicted == labels).double()
    where = bin_of(confidence, bins)
    count, summed, correct = (
        torch.zeros(bins, dtype=torch.float64).index_add_(0, where.cpu(), values.cpu())
        for values in (torch.ones_like(right), confidence, right)
    )
    return Reliability([int(x) for x in count], summed.tolist(), [int(x) for x in correct])


def summarise(
    test_logits: Tensor,
    test_labels: Tensor,
    validation_logits: Tensor | None = None,
    validation_labels: Tensor | None = None,
    parent_logits: Tensor | None = None,
) -> dict[str, Any]:
    """Everything about one ensemble on the clean test set, as JSON types (NaN if a number does not exist).

    ``test_logits``, ``validation_logits``: (members, n, classes); ``parent_logits``: the parent's on the test images,
    (n, classes). Temperature scaling needs validation images, the columns with the parent as one more member need it.
    """
    validation = (validation_logits, validation_labels)
    with_parent = None if parent_logits is None else torch.cat([test_logits, parent_logits[None].to(test_logits)])
    members = [score(member, test_labels) for member in test_logits.double()]
    sizes = range(1, len(test_logits) + 1)
    return {
        "members": len(test_logits),
        "images": len(test_labels),
        "classes": test_logits.shape[2],
        "member_accuracy": [member.accuracy for member in members],
        "member_nll": [member.nll for member in members],
        "member_ece": [member.ece for member in members],
        "member_finite": [member.finite for member in members],
        "diversity": asdict(measure_diversity(test_logits, test_labels)),
        "conventions": dict(_by_convention(test_logits, test_labels)),
        "scaled": {name: _scaled(test_logits, test_labels, *validation, name) for name in CONVENTIONS},
        "parent": None if parent_logits is None else asdict(measure(parent_logits[None], test_labels)),
        "with_parent": None if with_parent is None else dict(_by_convention(with_parent, test_labels)),
        "sizes": [{"size": size, **dict(_by_convention(test_logits[:size], test_labels))} for size in sizes],
        "reliability": reliability_by_convention(test_logits, test_labels),
    }


def reliability_by_convention(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """:func:`reliability` under each convention, as JSON types."""
    return {name: asdict(reliability(combine(logits, name), labels)) for name in CONVENTIONS}


def _by_convention(logits: Tensor, labels: Tensor) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in CONVENTIONS:
        yield name, asdict(measure(logits, labels, name))


def _scaled(
    logits: Tensor, labels: Tensor, validation: Tensor | None, validation_labels: Tensor | None, convention: str
) -> dict[str, Any] | None:
    """The scores after temperature scaling, and the temperature; None without validation images."""
    if validation is None or validation_labels is None or not len(validation_labels):
        return None
    fitted = temperature(validation, validation_labels, convention)
    return {"temperature": fitted, **asdict(measure(logits, labels, convention, temperature=fitted))}
