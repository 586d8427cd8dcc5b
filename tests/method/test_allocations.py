"""Allocations: counts by hand, against the papers' formulas written out, and exact for every shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ssa.method import pruning, selection
from ssa.method.allocations import FUNCTIONS, by_score, erk, lamp, layerwise, normalised

SHAPES = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=5,
)
SPARSITIES = st.floats(0, 1, exclude_max=True)


def tensors(*shapes: tuple[int, ...], seed: int = 0) -> dict[str, Tensor]:
    """Weights of different scales, by a letter."""
    generator = torch.Generator().manual_seed(seed)
    return {chr(97 + i): torch.randn(shape, generator=generator) * 2**i for i, shape in enumerate(shapes)}


def weights(**values: list[float]) -> dict[str, Tensor]:
    return {name: torch.tensor([row]) for name, row in values.items()}


def allocated(name: str, given: dict[str, Tensor], sparsity: float) -> dict[str, int]:
    return FUNCTIONS[name](given, {key: weight.abs() for key, weight in given.items()}, sparsity)


@settings(max_examples=150, deadline=None)
@given(shapes=SHAPES, sparsity=SPARSITIES, name=st.sampled_from(sorted(FUNCTIONS)), neurons=st.booleans())
def test_counts_are_exact(shapes: list[tuple[int, ...]], sparsity: float, name: str, neurons: bool) -> None:
    given_ = tensors(*shapes)
    scores = {key: w.abs().flatten(1).mean(1) if neurons else w.abs() for key, w in given_.items()}
    if neurons:
        scores = {key: s.view(len(s), *[1] * (given_[key].dim() - 1)) for key, s in scores.items()}
    counts = FUNCTIONS[name](given_, scores, sparsity)
    sizes = {key: score.numel() for key, score in scores.items()}
    assert list(counts) == list(given_)
    assert all(0 <= counts[key] <= sizes[key] for key in sizes)
    if name == "layerwise":
        assert counts == {key: round(sparsity * size) for key, size in sizes.items()}
    else:
        assert sum(counts.values()) == round(sparsity * sum(sizes.values()))


def test_layerwise_and_global_by_hand() -> None:
    given_ = weights(a=[1.0, 2.0, 3.0, 4.0], b=[3.0, 3.0])
    assert layerwise(given_, given_, 0.5) == {"a": 2, "b": 1}
    assert by_score(given_, given_, 0.5) == {"a": 3, "b": 0}  # 1, 2 and, of the three 3s, the first


# --- ERK ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shapes", "sparsity", "removed"),
    [
        # 34 of 136 stay, in proportion 16 : 12 of the sums of dims: 19.43 and 14.57, rounded to 19 and 15
        ([(8, 8), (4, 2, 3, 3)], 0.75, [45, 57]),
        # 36 of 72 stay; in proportion 16 : 6 the second would keep 9.8 of its 8, so it stays dense
        ([(8, 8), (2, 4)], 0.5, [36, 0]),
        # 9 of 18 stay, 4.5 each: the earlier one keeps more
        ([(3, 3), (3, 3)], 0.5, [4, 5]),
        ([(8, 8), (2, 4)], 0.0, [0, 0]),
    ],
)
def test_erk_by_hand(shapes: list[tuple[int, ...]], sparsity: float, removed: list[int]) -> None:
    assert list(allocated("erk", tensors(*shapes), sparsity).values()) == removed


def test_erk_of_neurons_shares_them_by_the_densities_of_the_weights() -> None:
    # Densities in proportion 16/64 : 12/72, so neurons in proportion 8/4 : 4/6 = 3 : 1. Six stay: 4.5 and 1.5.
    given_ = tensors((8, 8), (4, 2, 3, 3))
    scores = {name: torch.rand(len(w), *[1] * (w.dim() - 1)) for name, w in given_.items()}
    assert erk(given_, scores, 0.5) == {"a": 3, "b": 3}  # 5 and 1: of equal remainders the earlier


def densities_of_the_paper(shapes: list[tuple[int, ...]], density: float) -> list[float]:
    """Evci et al., 2020, section 3 and appendix: one layer at a time is made dense until no density exceeds 1."""
    raw = [sum(shape) / math.prod(shape) for shape in shapes]
    sizes = np.array([math.prod(shape) for shape in shapes], dtype=float)
    is_dense = np.zeros(len(shapes), dtype=bool)
    while True:
        budget = density * sizes.sum() - sizes[is_dense].sum()
        epsilon = budget / (sizes * raw)[~is_dense].sum()
        probabilities = np.where(is_dense, 1.0, epsilon * np.array(raw))
        if probabilities.max() <= 1 + 1e-9:
            return list(probabilities)
        is_dense[int(np.where(is_dense, 0, probabilities).argmax())] = True


@settings(max_examples=150, deadline=None)
@given(shapes=SHAPES, sparsity=st.floats(0.01, 0.99))
def test_erk_agrees_with_the_paper(shapes: list[tuple[int, ...]], sparsity: float) -> None:
    total = sum(math.prod(shape) for shape in shapes)
    kept = total - round(sparsity * total)
    if kept == 0:
        return
    counts = allocated("erk", tensors(*shapes), sparsity)
    for count, shape, density in zip(
        counts.values(), shapes, densities_of_the_paper(shapes, kept / total), strict=True
    ):
        assert abs((math.prod(shape) - count) - density * math.prod(shape)) < 1  # largest remainder: up or down


# --- LAMP -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sparsity", "removed"), [(0.0, (0, 0)), (0.2, (1, 0)), (0.4, (2, 0)), (0.6, (2, 1)), (0.8, (3, 1))]
)
def test_lamp_by_hand(sparsity: float, removed: tuple[int, int]) -> None:
    # Squares 1, 4, 9 score 1/14, 4/13, 1; squares 100, 100 score 1/2, 1. One weight for two layers empties the first.
    given_ = weights(a=[-3.0, 1.0, 2.0], b=[10.0, -10.0])
    assert tuple(lamp(given_, given_, sparsity).values()) == removed


def lamp_of_the_paper(layers: list[np.ndarray], removed: int) -> list[int]:
    """Lee et al., 2021, equation 2, term by term; then the lowest scores of all layers go."""
    scored = []
    for i, layer in enumerate(layers):
        w = sorted(np.abs(layer.astype(np.float64)).ravel())
        for u in range(len(w)):
            scored.append((w[u] ** 2 / sum(w[v] ** 2 for v in range(u, len(w))), i))
    gone = [i for _, i in sorted(scored)[:removed]]
    return [gone.count(i) for i in range(len(layers))]


@settings(max_examples=60, deadline=None)
@given(shapes=SHAPES, sparsity=SPARSITIES, seed=st.integers(0, 10**6))
def test_lamp_agrees_with_the_paper(shapes: list[tuple[int, ...]], sparsity: float, seed: int) -> None:
    given_ = tensors(*shapes, seed=seed)
    total = sum(weight.numel() for weight in given_.values())
    expected = lamp_of_the_paper([weight.numpy() for weight in given_.values()], round(sparsity * total))
    assert list(allocated("lamp", given_, sparsity).values()) == expected


@settings(max_examples=60, deadline=None)
@given(
    layers=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=4),
    spare=st.integers(0, 3),
)
def test_lamp_keeps_a_weight_of_each_layer_even_among_equals_and_zeros(layers: list[list[int]], spare: int) -> None:
    given_ = weights(**{chr(97 + i): [float(v) for v in layer] for i, layer in enumerate(layers)})
    total = sum(map(len, layers))
    kept = min(len(layers) + spare, total)
    counts = lamp(given_, given_, 1 - kept / total)
    assert sum(counts.values()) == total - kept
    assert all(count < len(layer) for count, layer in zip(counts.values(), layers, strict=True))


# --- together with a criterion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("allocation", ["erk", "lamp"])
def test_the_criterion_decides_which_weights_go(allocation: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10), nn.Linear(10, 2))
    given_ = selection.prunable(model)
    counts = allocated(allocation, given_, 0.8)
    assert counts["0.weight"] / 600 != pytest.approx(counts["1.weight"] / 300, abs=0.02)
    for criterion in ("random", "magnitude"):
        mask = pruning.prune(model, 0.8, criterion, allocation=allocation, seed=7)
        assert {name: int((~entry).sum()) for name, entry in mask.items()} == counts
    assert given_["0.weight"][~pruning.prune(model, 0.8, allocation=allocation)["0.weight"]].abs().max() < (
        given_["0.weight"][pruning.prune(model, 0.8, allocation=allocation)["0.weight"]].abs().min()
    )


def test_an_allocation_that_empties_a_layer_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-3.0, 1.0, 2.0]]))
        model[1].weight.copy_(torch.tensor([[10.0], [-10.0]]))
    assert int(pruning.prune(model, 0.6, allocation="lamp")["0.weight"].sum()) == 1
    with pytest.raises(ValueError, match=r"leave nothing of '0.weight' \(3 to prune\).*another allocation than 'lamp'"):
        pruning.prune(model, 0.8, allocation="lamp")


# --- scores of layers of other fan-in ---------------------------------------------------------------------------


def test_normalised_scores_by_hand() -> None:
    scores = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([-1.0, 20.0, 60.0]), "c": torch.zeros(2)}
    assert {name: score.tolist() for name, score in normalised(scores).items()} == {
        "a": [0.5, 1.5],
        "b": [-1 / 40, 0.5, 1.5],  # -1 is what has gone
        "c": [0.0, 0.0],
    }


def test_neurons_of_other_fan_in_are_compared_by_their_layers_mean() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [3.0, 3.0]]))  # 1/2 and 3/2 of the mean 2
        model[1].weight.copy_(torch.tensor([[10.0, 10.0], [40.0, 40.0], [70.0, 70.0]]))  # 1/4, 1 and 7/4 of 40
    mask = pruning.prune(model, 0.4, structure="neurons", allocation="global")
    assert mask["0.weight"].flatten().tolist() == [False, True]
    assert mask["1.weight"].flatten().tolist() == [False, True, True]
    with pytest.raises(ValueError, match=r"leave nothing of '0\.weight'.*give each tensor a floor="):
        pruning.prune(model, 0.4, structure="neurons", allocation="global", normalise=False)


def untrained() -> nn.Sequential:
    """Of three fan-ins: weights are up to 1/8, 1/16 and 1/32 in size."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 64), nn.Linear(64, 2)
    )


@pytest.mark.parametrize(("sparsity", "floor"), [(0.1, 0.0), (0.5, 0.0), (0.8, 0.05)])
def test_neurons_of_untrained_networks_are_pruned_globally(sparsity: float, floor: float) -> None:
    mask = pruning.prune(untrained(), sparsity, structure="neurons", allocation="global", floor=floor)
    leaders = [mask[name] for name in mask if name not in mask.tied]
    assert sum(int((~entry).sum()) for entry in leaders) == round(sparsity * 1344)
    assert all(int(entry.sum()) >= max(1, floor * len(entry)) for entry in leaders)


def test_connections_of_untrained_networks_too_where_scores_are_normalised_or_have_a_floor() -> None:
    with pytest.raises(ValueError, match=r"would leave nothing of '4\.weight'"):
        pruning.prune(untrained(), 0.97, allocation="global")
    even = pruning.prune(untrained(), 0.97, allocation="global", normalise=True)
    for entry in even.values():  # each layer's weights are uniform, and so are a share of it
        assert float(entry.float().mean()) == pytest.approx(0.03, abs=0.005)
    floored = pruning.prune(untrained(), 0.97, allocation="global", floor=0.01)
    assert int(floored["4.weight"].sum()) == 656  # ceil(0.01 * 65,536), where without a floor none would stay
    assert sum(int((~entry).sum()) for entry in floored.values()) == round(0.97 * 344064)


def test_a_floor_is_exact_whatever_floats_make_of_it() -> None:
    """0.07 * 100 is 7.000000000000001 in floats."""
    assert by_score({}, {"a": torch.arange(100.0)}, 0.93, floor=0.07) == {"a": 93}


def test_scores_of_ones_own_that_have_no_size_are_not_scaled() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    scores = {"0.weight": torch.tensor([-4, -3, -2, 0.001]), "1.weight": torch.tensor([-40.0, -30, -20, 10])}
    own = {name: score.view(4, 1) for name, score in scores.items()}
    options: dict[str, Any] = {"criterion": own, "structure": "neurons", "allocation": "global"}
    with pytest.raises(ValueError, match=r"the scores of '0\.weight' go below 0.*normalise=False"):
        pruning.prune(model, 3 / 8, **options)
    mask = pruning.prune(model, 3 / 8, **options, normalise=False)
    assert mask["1.weight"].flatten().tolist() == [False, False, False, True]


def test_a_floor_by_hand() -> None:
    given_ = weights(a=[1.0, 2.0, 3.0, 4.0], b=[5.0, 6.0])
    assert by_score(given_, given_, 0.5, floor=0.5) == {"a": 2, "b": 1}  # 3 and 4 stay, and so does 6
    with pytest.raises(ValueError, match=r"sparsity 0\.6 is not to be had where each tensor keeps a fraction 0\.5"):
        by_score(given_, given_, 0.6, floor=0.5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"floor": 1.0}, "floor is 1.0; allowed"),
        ({"floor": 0.1, "allocation": "erk"}, "floor goes with allocation global or"),
    ],
)
def test_a_wrong_floor_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pruning.prune(untrained(), 0.5, **wrong)  # type: ignore[arg-type]
