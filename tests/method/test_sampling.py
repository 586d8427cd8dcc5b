"""Random bits and the masks they make, against cases worked out by hand and against binomial bounds."""

from __future__ import annotations

import math

import pytest
import torch

from ssa.method.laws import RandomAnnealing, TemperatureAnnealing
from ssa.method.sampling import LEVELS, Bits, either, sample

SHAPE = torch.Size([1000, 257])  # no multiple of the eight bytes of a draw


def bits(seed: int = 0) -> Bits:
    return Bits(SHAPE, seed, torch.device("cpu"))


class Given(Bits):
    """Numbers in [0, 65536) that are given, not drawn."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__(torch.Size([len(numbers)]), 0, torch.device("cpu"))
        self.uniform = (torch.tensor(numbers) - LEVELS // 2).to(torch.int16)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.5, [True, False, False, False]),  # below 32768
        (128.5 / 256, [True, True, False, False]),  # below 32896
        (0.0, [False] * 4),
        (1.0, [True] * 4),
        (1 - 1 / LEVELS, [True, True, True, False]),  # all but 65535
    ],
)
def test_a_number_is_below_its_share_of_65536(p: float, expected: list[bool]) -> None:
    given = Given([32767, 32895, 32896, 65535])
    assert given.below(p).tolist() == expected
    assert given.below(torch.full((4,), p)).tolist() == expected


@pytest.mark.parametrize("p", [1 / LEVELS, 0.003, 0.25, 0.5001, 1 - 1 / 512])
def test_frequencies_are_exact_to_a_65536th(p: float) -> None:
    n = SHAPE.numel()
    sd = math.sqrt(n * p * (1 - p))
    for drawn in (bits().below(p), bits(1).below(torch.full(SHAPE, p))):
        # 5 sd fails once in 1.7 million correct runs; half a level of rounding comes on top.
        assert abs(int(drawn.sum()) - n * p) <= 5 * sd + n / LEVELS / 2 + 1


def test_weights_and_seeds_are_uncorrelated() -> None:
    drawn, other = (bits(seed).below(0.501).flatten().double() - 0.501 for seed in (0, 1))
    n, variance = len(drawn), 0.501 * 0.499
    for lag in (1, 2, 4, 8):
        correlation = float((drawn[lag:] * drawn[:-lag]).mean()) / variance
        assert abs(correlation) < 5 / math.sqrt(n - lag)
    assert abs(float((drawn * other).mean()) / variance) < 5 / math.sqrt(n)
    assert torch.equal(bits(0).uniform, bits(0).uniform)


@pytest.mark.parametrize("a", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("law", [RandomAnnealing(epochs=1), TemperatureAnnealing(epochs=1, scope="all")], ids=str)
def test_the_integer_path_samples_what_anneal_says(law: RandomAnnealing | TemperatureAnnealing, a: float) -> None:
    """The law's own sampling against the plain one, from float probabilities: the same frequencies."""
    target = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3)) < 0.1
    state = law.prepare(target, torch.zeros(SHAPE), torch.Generator().manual_seed(4))
    kept, pruned = law.anneal(a, target, state)
    p = either(target, kept, pruned).double()
    fast = law.sample(a, target, state, bits())
    plain = sample(target, torch.as_tensor(kept), torch.as_tensor(pruned), bits(1))
    for side in (target, ~target):
        n = int(side.sum())
        sd = math.sqrt(float((p * (1 - p))[side].sum()))
        for drawn in (fast, plain):
            assert abs(float(drawn[side].sum()) - float(p[side].sum())) <= 5 * sd + n / LEVELS + 1e-6
