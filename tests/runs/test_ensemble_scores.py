"""Ensembles' measures against numbers worked out by hand and against torchmetrics."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error
from torchmetrics.functional.regression import kl_divergence

from ssa.runs.ensemble_scores import (
    CONVENTIONS,
    Diversity,
    EnsembleScores,
    combine,
    measure,
    measure_diversity,
    reliability,
    summarise,
    temperature,
)
from ssa.training.scoring import Scores, score


def log(*rows: list[float]) -> Tensor:
    return torch.log(torch.tensor(rows, dtype=torch.float64))


# Two members, two images of two classes; the labels are 0 and 1.
FIRST, SECOND = log([0.8, 0.2], [0.6, 0.4]), log([0.4, 0.6], [0.2, 0.8])
PAIR, LABELS = torch.stack([FIRST, SECOND]), torch.tensor([0, 1])


def random_logits(members: int = 3, images: int = 500, classes: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (images,), generator=generator)
    logits = 2 * torch.randn(members, images, classes, generator=generator)
    return logits + 2 * torch.nn.functional.one_hot(labels, classes), labels


def test_the_two_conventions_by_hand() -> None:
    assert combine(PAIR, "probabilities").exp().tolist() == [pytest.approx([0.6, 0.4]), pytest.approx([0.4, 0.6])]
    # geometric means: sqrt(0.8 * 0.4) against sqrt(0.2 * 0.6), and sqrt(0.6 * 0.2) against sqrt(0.4 * 0.8)
    first, second = math.sqrt(0.32), math.sqrt(0.12)
    share = first / (first + second)
    assert combine(PAIR, "logits").exp().tolist() == [
        pytest.approx([share, 1 - share]),
        pytest.approx([1 - share, share]),
    ]
    with pytest.raises(ValueError, match="convention is 'mean'; allowed: probabilities, logits"):
        combine(PAIR, "mean")


def test_scores_by_hand() -> None:
    scores = measure(PAIR, LABELS)
    assert scores.accuracy == 100
    assert scores.nll == pytest.approx(-math.log(0.6))
    assert scores.ece == pytest.approx(40)
    assert scores.brier == pytest.approx(2 * 0.4**2)
    assert scores.finite
    assert measure(PAIR, 1 - LABELS).brier == pytest.approx(2 * 0.6**2)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("bins", [10, 15, 30])
def test_scores_against_torchmetrics(convention: str, bins: int) -> None:
    logits, labels = random_logits()
    mean = logits.double().softmax(2).mean(0) if convention == "probabilities" else logits.double().mean(0).softmax(1)
    scores = measure(logits, labels, convention, bins)
    ece = multiclass_calibration_error(mean, labels, 10, n_bins=bins)
    accuracy = multiclass_accuracy(mean, labels, 10, average="micro")
    assert scores.accuracy == pytest.approx(100 * float(accuracy), abs=1e-4)
    assert scores.ece == pytest.approx(100 * float(ece), abs=1e-4)
    assert scores.nll == pytest.approx(float(-mean.log().gather(1, labels[:, None]).mean()))
    # the Brier score is the squared Euclidean distance to the one-hot label
    assert scores.brier == pytest.approx(float(((mean - torch.eye(10)[labels]) ** 2).sum(1).mean()))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_identical_members_are_worth_as_much_as_one(convention: str) -> None:
    logits, labels = random_logits(members=1)
    alone, together = (measure(logits.expand(k, -1, -1), labels, convention) for k in (1, 4))
    assert vars(together) == pytest.approx(vars(alone))
    single = vars(score(logits[0], labels))
    assert single == pytest.approx({key: vars(alone)[key] for key in single})
    assert measure_diversity(logits.expand(4, -1, -1), labels) == Diversity(0.0, pytest.approx(0.0), 1.0)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_order_of_members_does_not_matter(convention: str) -> None:
    logits, labels = random_logits(members=5)
    order = [3, 0, 4, 2, 1]
    assert vars(measure(logits[order], labels, convention)) == pytest.approx(vars(measure(logits, labels, convention)))
    assert vars(measure_diversity(logits[order], labels)) == pytest.approx(vars(measure_diversity(logits, labels)))


def test_a_class_that_every_member_excludes_has_a_finite_nll() -> None:
    logits = torch.tensor([[[2000.0, 0.0]], [[2000.0, 0.0]]])
    assert measure(logits, torch.tensor([1])).nll == pytest.approx(2000)


def test_a_member_that_is_not_finite_counts_as_a_uniform_guess() -> None:
    broken = PAIR.clone()
    broken[1, 0, 0] = math.nan
    assert combine(broken).exp().tolist() == [pytest.approx([0.65, 0.35]), pytest.approx([0.55, 0.45])]
    scores = measure(broken, LABELS)
    assert (scores.accuracy, scores.finite) == (50, False)
    assert math.isnan(measure_diversity(broken, LABELS).disagreement)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_an_ensemble_of_broken_members_alone_scores_as_a_guess(convention: str) -> None:
    broken = torch.full((2, 5, 10), math.inf)
    labels = torch.zeros(5, dtype=torch.long)
    guess = score(broken[0], labels)
    assert guess == Scores(10, math.log(10), 0, finite=False)
    assert measure(broken, labels, convention) == EnsembleScores(10, math.log(10), 0, pytest.approx(0.9), finite=False)


def test_diversity_by_hand() -> None:
    # right: first member on images 0, 2, 3; second on 1, 2, and neither on 4
    labels = torch.tensor([0, 0, 0, 0, 0])
    first, second = (
        torch.tensor(rows, dtype=torch.float64).log()
        for rows in (
            [[0.8, 0.2], [0.2, 0.8], [0.8, 0.2], [0.8, 0.2], [0.2, 0.8]],
            [[0.2, 0.8], [0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.2, 0.8]],
        )
    )
    found = measure_diversity(torch.stack([first, second]), labels)
    assert found.disagreement == pytest.approx(3 / 5)
    assert found.kl == pytest.approx(3 / 5 * 0.6 * math.log(4))
    # both right 1, both wrong 1, only the first 2, only the second 1: (1 - 2) / (1 + 2)
    assert found.q_statistic == pytest.approx(-1 / 3)


def test_diversity_is_the_mean_over_pairs_and_kl_agrees_with_torchmetrics() -> None:
    logits, labels = random_logits()
    pairs = [(0, 1), (0, 2), (1, 2)]
    found, each = measure_diversity(logits, labels), [measure_diversity(logits[[i, j]], labels) for i, j in pairs]
    for name in ("disagreement", "kl", "q_statistic"):
        assert getattr(found, name) == pytest.approx(sum(getattr(one, name) for one in each) / 3)
    p = logits.double().softmax(2)
    both_ways = [float(kl_divergence(p[i], p[j])) for i, j in pairs + [(j, i) for i, j in pairs]]
    assert found.kl == pytest.approx(sum(both_ways) / 6, rel=1e-6)


def test_independent_errors_have_a_q_statistic_of_zero() -> None:
    right = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=torch.float64)
    logits = torch.stack([right, 1 - right], 2)
    assert measure_diversity(logits, torch.zeros(4, dtype=torch.long)).q_statistic == 0


def test_reliability_counts_and_its_ece() -> None:
    logits, labels = random_logits()
    log_p = combine(logits)
    found = reliability(log_p, labels)
    assert sum(found.count) == len(labels)
    gaps = [abs(confidence - correct) for confidence, correct in zip(found.confidence, found.correct, strict=True)]
    assert 100 * sum(gaps) / len(labels) == pytest.approx(measure(logits, labels).ece)
    by_hand = reliability(log([0.7, 0.3], [0.4, 0.6], [0.35, 0.65]), torch.tensor([0, 0, 1]), bins=4)
    assert by_hand.count == [0, 0, 3, 0]
    assert by_hand.confidence == pytest.approx([0, 0, 0.7 + 0.6 + 0.65, 0])
    assert by_hand.correct == [0, 0, 2, 0]


def test_the_temperature_by_hand() -> None:
    # three of four images right at odds of 9:1: the best probability is 3/4, odds of 3 = 9 ** (1 / T), so T = 2
    logits = log([0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1])[None]
    labels = torch.tensor([0, 0, 0, 1])
    for convention in CONVENTIONS:
        assert temperature(logits, labels, convention) == pytest.approx(2, rel=1e-4)
    assert measure(logits, labels, temperature=2).nll == pytest.approx(-(3 * math.log(0.75) + math.log(0.25)) / 4)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_temperature_has_the_lowest_nll_of_a_grid(convention: str) -> None:
    logits, labels = random_logits()
    fitted = temperature(logits, labels, convention)
    best = measure(logits, labels, convention, temperature=fitted)
    for other in torch.linspace(-3, 3, 61).exp().tolist():
        assert best.nll <= measure(logits, labels, convention, temperature=other).nll + 1e-9
    assert best.accuracy == measure(logits, labels, convention).accuracy


def test_the_summary_holds_every_convention_and_is_json() -> None:
    logits, labels = random_logits(members=4)
    parent, validation = logits[0] / 2, logits.flip(1)
    found = json.loads(json.dumps(summarise(logits, labels, validation, labels.flip(0), parent)))
    assert (found["members"], found["images"], found["classes"]) == (4, 500, 10)
    for name in CONVENTIONS:
        assert found["conventions"][name] == vars(measure(logits, labels, name))
        assert found["with_parent"][name] == vars(measure(torch.cat([logits, parent[None]]), labels, name))
        assert found["sizes"][1][name] == vars(measure(logits[:2], labels, name))
        assert found["scaled"][name]["temperature"] == pytest.approx(temperature(logits, labels, name), rel=1e-4)
        assert found["scaled"][name]["nll"] < found["conventions"][name]["nll"]
        assert sum(found["reliability"][name]["count"]) == 500
    assert [row["size"] for row in found["sizes"]] == [1, 2, 3, 4]
    assert found["member_accuracy"] == [score(member, labels).accuracy for member in logits]
    assert found["sizes"][3]["logits"] == found["conventions"]["logits"]
    assert found["parent"]["accuracy"] == found["member_accuracy"][0]


def test_a_study_without_validation_images_or_parent_has_blanks() -> None:
    logits, labels = random_logits()
    found = summarise(logits, labels, logits[:, :0], labels[:0])
    assert found["scaled"] == {name: None for name in CONVENTIONS}
    assert found["parent"] is None
    assert found["with_parent"] is None


def test_half_precision_keeps_the_scores() -> None:
    """Members' logits are kept as fp16: what that costs is far below any spread over seeds."""
    logits, labels = random_logits(images=2000)
    kept, exact = (measure(some, labels) for some in (logits.half(), logits))
    assert kept.accuracy == pytest.approx(exact.accuracy, abs=0.1)
    assert kept.nll == pytest.approx(exact.nll, abs=1e-4)
    assert kept.ece == pytest.approx(exact.ece, abs=0.05)
