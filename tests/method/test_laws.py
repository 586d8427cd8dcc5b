"""Laws against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ssa.method import laws, schedules
from ssa.method.laws import ConstantTemperature, DenseThenCut, Iterative, OneShot, RandomAnnealing, TemperatureAnnealing

MASK = torch.tensor([True, False, False, True, False])
WEIGHT = torch.tensor([0.9, 0.3, 0.1, 0.8, 0.2])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("schedule", "x", "expected"),
    [
        ("linear", 0.25, 0.25),
        ("cosine", 0.5, 0.5),
        ("cosine", 1 / 3, 0.25),  # (1 - cos 60 deg) / 2
        ("exponential", 0.2, (1 - math.exp(-1)) / (1 - math.exp(-5))),
        ("cubic", 0.5, 0.875),  # 1 - 0.5^3
    ],
)
def test_schedules_by_hand(schedule: str, x: float, expected: float) -> None:
    assert schedules.SCHEDULES[schedule](x) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", schedules.SCHEDULES)
def test_schedules_run_from_0_to_1_without_turning_back(schedule: str) -> None:
    values = [schedules.SCHEDULES[schedule](i / 50) for i in range(51)]
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert values[-1] == pytest.approx(1, abs=1e-12)
    assert values == sorted(values)


def test_one_shot_is_the_mask_from_the_first_step() -> None:
    assert OneShot().probability(0.0, MASK, None) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("law", "t", "kept", "pruned"),
    [
        (TemperatureAnnealing(epochs=5, tau=0.6), 0.0, 1.0, 0.6),  # "an activation probability of 0.6"
        (TemperatureAnnealing(epochs=5, tau=0.5), 2.5, 1.0, 0.25),
        (TemperatureAnnealing(epochs=4, tau=0.5, schedule="cosine"), 2.0, 1.0, 0.25),
        (TemperatureAnnealing(epochs=5, tau=0.5, scope="all"), 2.5, 0.75, 0.25),
        (DenseThenCut(epochs=5), 4.999, 1.0, 1.0),
        (ConstantTemperature(epochs=5, tau=0.3), 4.999, 1.0, 0.3),
    ],
)
def test_scalar_laws_by_hand(law: laws.Law, t: float, kept: float, pruned: float) -> None:
    assert law.probability(t, MASK, None) == pytest.approx((kept, pruned))


@pytest.mark.parametrize("kind", [Iterative, RandomAnnealing, TemperatureAnnealing, DenseThenCut, ConstantTemperature])
def test_every_law_is_exact_from_e_on(kind: type[laws.Law]) -> None:
    law = kind(epochs=20)  # e = E: the first exact step would be the first after training
    state = law.prepare(MASK, WEIGHT, generator())
    assert law.probability(20.0, MASK, state) == (1.0, 0.0)
    _kept, pruned = law.probability(19.999, MASK, state)
    assert (torch.as_tensor(pruned) > 0).any() or kind is Iterative


def test_iterative_removes_round_a_n_in_the_order_of_magnitude() -> None:
    law = Iterative(epochs=3, order="magnitude")
    state = law.prepare(MASK, WEIGHT, generator())
    gone = {}
    for t in (0.0, 1.0, 2.0):
        _, pruned = law.probability(t, MASK, state)
        gone[t] = {i for i in range(5) if not MASK[i] and pruned[i] == 0}
    # weights 0.1, 0.2 and 0.3 sit at 2, 4 and 1
    assert gone == {0.0: set(), 1.0: {2}, 2.0: {2, 4}}


def test_iterative_random_order_is_nested_and_exact() -> None:
    mask = torch.rand(1000, generator=generator()) < 0.1
    law = Iterative(epochs=10)
    state = law.prepare(mask, torch.zeros(1000), generator())
    before = torch.ones(1000, dtype=torch.bool)
    for step in range(100):
        kept, pruned = law.probability(step / 10, mask, state)
        now = torch.where(mask, torch.tensor(kept), pruned).bool()
        assert int((~now).sum()) == round(step / 100 * int((~mask).sum()))
        assert not (now & ~before).any()
        before = now


def test_random_annealing_by_hand() -> None:
    law = RandomAnnealing(epochs=4)
    far = torch.tensor([64, 128, 0, 32, 255], dtype=torch.uint8)  # 1/4, 1/2, 0, 1/8 and 255/256 from the target
    kept, pruned = law.probability(0.0, MASK, far)
    assert torch.equal(torch.where(MASK, kept, pruned), torch.tensor([0.75, 0.5, 0.0, 0.875, 255 / 256]))
    kept, pruned = law.probability(2.0, MASK, far)
    assert torch.equal(torch.where(MASK, kept, pruned), torch.tensor([0.875, 0.25, 0.0, 0.9375, 255 / 512]))


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("draw", "low", "high"), [("coupled", 0.9, 0.1), ("independent", 1.0, 1.0)])
def test_random_annealings_draw_is_uniform_from_the_target_on(
    draw: str, low: float, high: float, together: bool
) -> None:
    """Pruned weights start in [0, low), kept ones in [1 - high, 1); with sparsity 90%, low is 0.9 and high is 0.1.

    ``together``: as a GPU draws it, beside a tensor of another sparsity.
    """
    law = RandomAnnealing(epochs=4, draw=draw)
    mask = torch.arange(200_000) % 10 == 0
    if together:
        fractions = torch.tensor([0.5, 0.1]).repeat_interleave(200_000)
        state = law.prepare_together(torch.cat([mask.roll(1), mask]), fractions, generator())[200_000:]
    else:
        state = law.prepare(mask, torch.zeros(200_000), generator())
    kept, pruned = law.probability(0.0, mask, state)
    for far, end in ((pruned[~mask], low), (1 - kept[mask], high)):
        n = len(far)
        assert far.max() <= end + 1 / 256  # rounded to 1/256, up or down
        # A uniform draw on [0, end) has sd end / sqrt(12); 5 sd fails once in 1.7 million correct runs. The clamp at
        # 255/256 takes at most 1/131072 off the mean.
        assert abs(float(far.double().mean()) - end / 2) < 5 * (end + 1 / 256) / math.sqrt(12 * n) + 2**-17
        # Its quarters are met alike, but for what the rounding carries across a border (1/512 of the range 1).
        share = float((far < end / 4).double().mean())
        assert abs(share - 0.25) < 5 * math.sqrt(0.25 * 0.75 / n) + 1 / 256 / end


def test_independent_draw_starts_both_sides_at_one_half_on_average() -> None:
    law = RandomAnnealing(epochs=4, draw="independent")
    mask = torch.arange(100_000) % 10 == 0
    kept, pruned = law.probability(0.0, mask, law.prepare(mask, torch.zeros(100_000), generator()))
    # sd of a mean of n uniform draws is 1 / sqrt(12 n); 5 sd fails once in 1.7 million correct runs
    assert abs(float(kept[mask].mean()) - 0.5) < 5 / math.sqrt(12 * 10_000)
    assert abs(float(pruned[~mask].mean()) - 0.5) < 5 / math.sqrt(12 * 90_000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneShot(epochs=3), "leave epochs at 0"),
        (lambda: TemperatureAnnealing(tau=1.5), r"tau is 1.5; it is a probability in \[0, 1\]"),
        (lambda: TemperatureAnnealing(scope="some"), "allowed: pruned, all"),
        (lambda: TemperatureAnnealing(epochs=-1), "at least 0"),
        (lambda: Iterative(order="best"), "allowed: random, magnitude, reranked, movement"),
        (lambda: RandomAnnealing(draw="x"), "allowed: coupled, independent"),
        (lambda: TemperatureAnnealing(schedule="step"), "unknown annealing schedule 'step'"),
        (lambda: laws.find("NoSuchLaw"), "unknown law 'NoSuchLaw'"),
        (lambda: laws.find("no.such.Law"), "cannot be imported"),
    ],
)
def test_wrong_use_says_what_is_allowed(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_a_law_of_ones_own_is_found_by_its_import_path() -> None:
    assert laws.find("ssa.method.laws.TemperatureAnnealing") is TemperatureAnnealing
