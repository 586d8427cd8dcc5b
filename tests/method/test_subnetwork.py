"""The annealed subnetwork: what it samples, what it computes, what it leaves alone."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

import ssa
from ssa.method import pruning
from ssa.method.child import drawing
from ssa.method.laws import (
    ConstantTemperature,
    DenseThenCut,
    Iterative,
    Law,
    OneShot,
    RandomAnnealing,
    TemperatureAnnealing,
)
from ssa.method.schedules import SCHEDULES
from ssa.method.subnetwork import Subnetwork
from ssa.training.networks.resnet_small import SmallResNet

LAWS: list[Law] = [
    OneShot(),
    *(Iterative(epochs=2, order=order) for order in ("random", "magnitude", "reranked", "movement")),
    *(RandomAnnealing(epochs=2, schedule=schedule) for schedule in ("linear", "cosine", "exponential")),
    RandomAnnealing(epochs=2, draw="independent"),
    *(TemperatureAnnealing(epochs=2, scope=scope, schedule="cosine") for scope in ("pruned", "all")),
    TemperatureAnnealing(epochs=2, expected=True),
    RandomAnnealing(epochs=2, expected=True),
    DenseThenCut(epochs=2),
    ConstantTemperature(epochs=2),
]


def small() -> SmallResNet:
    torch.manual_seed(0)
    return SmallResNet(1, 10, 8, 2)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 1, 8, 8, generator=generator), torch.randint(0, 10, (16,), generator=generator)


def steps(child: Subnetwork, times: list[float]) -> None:
    optimizer = torch.optim.SGD(child.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    images, labels = batch()
    child.train()
    for t in times:
        child.at(t)
        loss = nn.functional.cross_entropy(child(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def steps_without_at(child: Subnetwork) -> None:
    steps(child, [0.0])
    child(batch()[0])


@pytest.mark.parametrize("structure", ["connections", "neurons"])
@pytest.mark.parametrize("law", LAWS, ids=str)
def test_after_annealing_and_in_eval_the_output_is_the_folded_modules(law: Law, structure: str) -> None:
    model = small()
    mask = pruning.prune(model, 0.7, structure=structure, example=torch.zeros(1, 1, 8, 8))
    child = Subnetwork(model, mask, law)
    steps(child, [0.0, 0.5, 1.0, 1.5, 2.0])
    images, _ = batch()
    plain = child.fold()
    for name, entry in child.mask.items():
        weight = plain.get_parameter(name)
        assert torch.equal(weight[(~entry).expand_as(weight)], torch.zeros(int((~entry).expand_as(weight).sum())))
        assert int((~entry).sum()) == int((~mask[name]).sum())
    assert torch.equal(child.eval()(images), plain.eval()(images))
    child.train()
    child.at(2.0)  # the first exact step
    assert torch.equal(child(images), plain.train()(images))


@pytest.mark.parametrize("structure", ["connections", "neurons"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("law", LAWS, ids=str)
def test_probabilities_lie_in_the_unit_interval_and_move_one_way(law: Law, schedule: str, structure: str) -> None:
    law = dataclasses.replace(law, schedule=schedule)
    model = small()
    mask = pruning.prune(model, 0.5, "random", structure, example=torch.zeros(1, 1, 8, 8))
    child = Subnetwork(model, mask, law)
    name = "stages.0.first.0.weight"
    target = child.mask[name]
    series = []
    for t in (0.0, 0.3, 1.0, 1.9, 2.0):
        child.at(t)
        series.append(child.keep_probability(name))
    stacked = torch.stack(series)
    assert stacked.min() >= 0
    assert stacked.max() <= 1
    assert (stacked.diff(dim=0)[:, ~target] <= 0).all() or law.ranking
    assert (stacked.diff(dim=0)[:, target] >= 0).all() or law.ranking
    assert torch.equal(stacked[-1], child.mask[name].float())
    assert child.keep_pruned(2.0) == 0.0
    if isinstance(law, Iterative):
        n = sum(int((~entry).sum()) * child.weights[k][0].numel() for k, entry in mask.items() if k not in mask.tied)
        n = n if structure == "neurons" else sum(int((~entry).sum()) for entry in mask.values())
        assert child.keep_pruned(0.5) == pytest.approx(1 - SCHEDULES[schedule](0.25), abs=0.5 * 5 * 144 / n)


def test_gradual_pruning_removes_what_its_published_formula_says() -> None:
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3 (Zhu and Gupta, 2017), with s_i = 0 and t_0 = 0."""
    model = nn.Sequential(nn.Linear(100, 50), nn.Linear(50, 2))
    child = Subnetwork(model, pruning.prune(model, 0.9), Iterative(epochs=10, schedule="cubic", order="reranked"))
    for t in range(10):
        child.at(t)
        published = 0.9 + (0 - 0.9) * (1 - t / 10) ** 3
        removed = int((child.multiplier == 0).sum())
        assert abs(removed - 5000 * published) <= 0.5 + 1e-6  # the nearest whole number, whichever way a half goes


@pytest.mark.parametrize("law", [law for law in LAWS if not law.expected and not law.ranking], ids=str)
def test_sampled_frequencies_match_p(law: Law) -> None:
    model = small()
    child = Subnetwork(model, pruning.prune(model, 0.7, "random"), law)
    child.at(0.8)
    generator = torch.Generator().manual_seed(5)
    draws = 400
    for name in child.mask:
        p = child.keep_probability(name).double()
        count = sum(child.sample(generator)[name].double() for _ in range(draws // 20)) if p.numel() > 5000 else None
        if count is None:
            count = sum(child.sample(generator)[name].double() for _ in range(draws))
            n = draws
        else:
            n = draws // 20
        fixed = (p == 0) | (p == 1)
        assert torch.equal(count[fixed] / n, p[fixed])
        # The sum over a tensor's weights is close to normal; 5.5 sd fails once in 26 million correct checks.
        sd = math.sqrt(float((n * p * (1 - p)).sum()))
        assert abs(float((count - n * p).sum())) <= 5.5 * sd + n * p.numel() / 65536
        # No single weight may be off: Bonferroni over 4,400 weights at the same rate is 7 sd plus a count.
        each = (n * p * (1 - p)).sqrt()
        assert ((count - n * p).abs() <= 7 * each + 1).all()


def test_masks_of_different_weights_and_steps_are_independent() -> None:
    model = nn.Sequential(nn.Linear(200, 200), nn.Linear(200, 2))
    child = Subnetwork(model, pruning.prune(model, 0.9, "random"), ConstantTemperature(epochs=9, tau=0.5))
    drawn = []
    for step in range(40):
        child.at(step / 10)
        drawn.append(child.multiplier[~child.target].double() - 0.5)
    stacked = torch.stack(drawn)
    n = stacked.shape[1]
    for lag in (1, 2, 4, 8):  # neighbours share a 64-bit draw
        correlation = float((stacked[:, lag:] * stacked[:, :-lag]).mean()) * 4
        assert abs(correlation) < 5 / math.sqrt(40 * (n - lag))  # 5 sd: once in 1.7 million
    correlation = float((stacked[1:] * stacked[:-1]).mean()) * 4
    assert abs(correlation) < 5 / math.sqrt(39 * n)


def test_the_mask_stays_until_the_next_at_and_is_a_function_of_seed_and_time() -> None:
    model = small()
    mask = pruning.prune(model, 0.7)
    child = Subnetwork(model, mask, TemperatureAnnealing(epochs=2), seed=1)
    child.at(0.5)
    first = child.multiplier.clone()
    child(batch()[0])
    child.eval()(batch()[0])
    assert torch.equal(child.multiplier, first)
    child.at(0.6)
    assert not torch.equal(child.multiplier, first)
    other = Subnetwork(small(), mask, TemperatureAnnealing(epochs=2), seed=1)
    torch.rand(5)
    other.at(0.5)
    assert torch.equal(other.multiplier, first)
    another = Subnetwork(small(), mask, TemperatureAnnealing(epochs=2), seed=2)
    another.at(0.5)
    assert not torch.equal(another.multiplier, first)


def test_a_neuron_and_its_batchnorm_are_sampled_together() -> None:
    model = small()
    mask = pruning.prune(model, 0.5, structure="neurons", example=torch.zeros(1, 1, 8, 8))
    child = Subnetwork(model, mask, TemperatureAnnealing(epochs=2))
    child.at(0.0)
    drawn = child.sample(torch.Generator().manual_seed(0))
    for name, leader in mask.tied.items():
        assert torch.equal(drawn[name], drawn[leader].flatten())
    assert not torch.equal(drawn["stem.0.weight"], mask["stem.0.weight"])


def test_gradients_of_a_fixed_mask_match_finite_differences() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    weight = model[0].weight
    child = Subnetwork(model, pruning.prune(model, 0.5), TemperatureAnnealing(epochs=2))
    child.train()
    child.at(0.5)
    x = torch.randn(3, 4, dtype=torch.float64)
    child(x).square().sum().backward()
    shown = child.multiplier.view(5, 4).bool()
    assert torch.equal(weight.grad[~shown], torch.zeros(int((~shown).sum()), dtype=torch.float64))
    for i, j in ((0, 0), (1, 3), (4, 2), (2, 1)):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[i, j] += sign * 1e-6
                ends.append(float(child(x).square().sum()))
                weight[i, j] -= sign * 1e-6
        assert float(weight.grad[i, j]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


def test_reranked_removal_is_nested_and_follows_current_magnitude() -> None:
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    mask = pruning.prune(model, 0.5)
    child = Subnetwork(model, mask, Iterative(epochs=2, order="reranked"))
    child.at(1.0)
    assert child.multiplier.tolist() == [False, True, True, True]
    assert child.target.tolist() == [False, False, True, True]
    with torch.no_grad():
        child.weights["0.weight"].copy_(torch.tensor([[9.0, 0.5, 0.3, 0.4]]))
    child.at(2.0)  # the removed one stays removed, and now 0.3 is the smallest of the rest
    assert child.multiplier.tolist() == [False, True, False, True]
    assert child.mask["0.weight"].tolist() == [[False, True, False, True]]


def test_frozen_pruned_weights_keep_their_values_and_others_move() -> None:
    model = small()
    before = copy.deepcopy(model.state_dict())
    mask = pruning.prune(model, 0.7)
    child = Subnetwork(model, mask, TemperatureAnnealing(epochs=4), pruned_weights="freeze")
    steps(child, [0.0, 0.5, 1.0])
    child.at(1.5)
    for name, entry in mask.items():
        weight = child.weights[name]
        assert torch.equal(weight[~entry], before[name][~entry])
        assert not torch.equal(weight[entry], before[name][entry])


def test_masked_weights_can_be_left_as_they_were() -> None:
    model = small()
    child = Subnetwork(model, pruning.prune(model, 0.7), TemperatureAnnealing(epochs=4), masked_weights="freeze")
    steps(child, [0.0])
    shown = child._expand(child.multiplier.bool())  # in the step that was taken
    hidden = {name: ~shown[name] for name in child.mask}
    before = {name: p.detach().clone() for name, p in small().named_parameters()}
    child.at(0.5)
    for name, entry in hidden.items():
        assert torch.equal(child.weights[name][entry], before[name][entry])
        assert not torch.equal(child.weights[name], before[name])


@pytest.mark.parametrize("how", [{"pruned_weights": "freeze"}, {"masked_weights": "freeze"}], ids=str)
def test_pruned_weights_are_frozen_without_at_too(how: dict[str, str]) -> None:
    model = small()
    child = Subnetwork(model, pruning.prune(model, 0.7), OneShot(), **how)
    child.load_state_dict(child.state_dict())  # after which the weights are other ones than at first
    before = {name: p.detach().clone() for name, p in small().named_parameters()}
    optimizer = torch.optim.SGD(child.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    images, labels = batch()
    for _ in range(3):
        nn.functional.cross_entropy(child(images), labels).backward()
        optimizer.step()
    for name, entry in child.mask.items():
        assert torch.equal(child.weights[name][~entry], before[name][~entry])
        assert not torch.equal(child.weights[name][entry], before[name][entry])


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("how", [{}, {"masked_weights": "freeze"}, {"pruned_weights": "freeze"}], ids=str)
def test_at_within_inference_mode_is_at(law: Law, how: dict[str, str]) -> None:
    if law.ranking and how.get("pruned_weights") == "freeze":
        pytest.skip("refused")
    found = []
    for inference in ((), (0.0, 0.5, 1.5, 2.0), (0.0,), (0.5,)):
        model = small()
        child = Subnetwork(model, pruning.prune(model, 0.7), law, **how)
        optimizer = torch.optim.SGD(child.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
        images, labels = batch()
        for t in (0.0, 0.5, 1.5, 2.0):
            with torch.inference_mode(t in inference):
                child.at(t)
            optimizer.zero_grad()
            nn.functional.cross_entropy(child(images), labels).backward()
            optimizer.step()
        found.append({name: value.detach() for name, value in child.weights.items()})
    for other in found[1:]:
        assert all(torch.equal(value, other[name]) for name, value in found[0].items())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_without_gradients_inputs_in_any_order_are_multiplied_as_by_the_folded_module(mode: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 2))
    child = Subnetwork(model, pruning.prune(model, 0.5), OneShot())
    inputs, plain = torch.randn(2, 8, 16).transpose(0, 1), child.eval().fold()
    with mode():
        outputs = child(inputs)
        assert torch.equal(outputs, plain(inputs))
    assert outputs.requires_grad == (mode is torch.enable_grad)


def test_what_is_made_within_inference_mode_is_refused() -> None:
    outside = small()
    with torch.inference_mode():
        inside, mask = small(), pruning.prune(outside, 0.7)
        with pytest.raises(RuntimeError, match="make the model and the child outside of it"):
            Subnetwork(outside, mask, OneShot())
    with pytest.raises(RuntimeError, match="make the model and the child outside of it"):
        Subnetwork(inside, mask, OneShot())


def test_shuffled_pruned_weights_are_a_permutation_within_their_tensor() -> None:
    model = small()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    mask = pruning.prune(model, 0.7)
    child = Subnetwork(model, mask, TemperatureAnnealing(epochs=4), pruned_weights="shuffle")
    for name, entry in mask.items():
        weight = child.weights[name].detach()
        assert torch.equal(weight[entry], before[name][entry])
        assert not torch.equal(weight[~entry], before[name][~entry])
        assert torch.equal(weight[~entry].sort().values, before[name][~entry].sort().values)


def test_rescaled_weights_have_the_right_mean() -> None:
    model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 2))
    child = Subnetwork(
        model, pruning.prune(model, 0.5, "random"), ConstantTemperature(epochs=2, tau=0.25), rescale=True
    )
    child.at(0.0)
    pruned = child.multiplier[~child.target]
    assert set(pruned.unique().tolist()) == {0.0, 4.0}
    # variance of a Bernoulli(1/4) divided by 1/4 is 3; 5 sd
    assert abs(float(pruned.mean()) - 1) < 5 * math.sqrt(3 / pruned.numel())


def test_shared_weights_are_masked_everywhere() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.b(self.a(x)))

    model = Tied()
    mask = pruning.prune(model, 0.5)
    assert list(mask) == ["a.weight"]
    child = Subnetwork(model, mask, OneShot()).eval()
    x = torch.randn(2, 6)
    plain = child.fold()
    assert plain.a.weight is plain.b.weight
    assert torch.equal(child(x), plain(x))


def test_the_public_names_are_the_ones_used_here() -> None:
    assert ssa.Subnetwork is Subnetwork
    assert ssa.prune is pruning.prune
    with pytest.raises(AttributeError):
        ssa.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda c: c.at(-1), ValueError, "number of epochs, at least 0"),
        (lambda c: c.at(float("nan")), ValueError, "number of epochs"),
        (lambda c: c.train()(batch()[0]), RuntimeError, r"call at\(t\)"),
        (lambda c: c.at(3.5), ValueError, "said to last 3 epochs"),
        (steps_without_at, RuntimeError, r"updated since at\(0\): call at\(t\) before every training step"),
        (lambda c: c.keep_probability("head.weight"), KeyError, "head.weight"),
    ],
)
def test_wrong_use_says_what_to_do(wrong: object, error: type[Exception], message: str) -> None:
    model = small()
    child = Subnetwork(model, pruning.prune(model, 0.5), TemperatureAnnealing(epochs=2), epochs=3)
    with pytest.raises(error, match=message):
        wrong(child)  # type: ignore[operator]


def test_annealing_longer_than_training_is_refused() -> None:
    model = small()
    with pytest.raises(ValueError, match="anneals for 5 epochs, longer than the training of 3; shorten"):
        Subnetwork(model, pruning.prune(model, 0.5), TemperatureAnnealing(epochs=5), epochs=3)


@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_a_forgotten_at_is_noticed_whatever_the_optimizer(how: dict[str, bool]) -> None:
    model = small()
    child = Subnetwork(model, pruning.prune(model, 0.5), TemperatureAnnealing(epochs=2))
    optimizer = torch.optim.SGD(child.parameters(), 0.1, **how)
    images, labels = batch()
    child.at(0.0)
    for _ in range(2):  # gradient accumulation: two passes at one time
        nn.functional.cross_entropy(child(images), labels).backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="updated since"):
        child(images)
    with torch.no_grad():
        child(images)  # nothing is trained: no harm
    child.at(2.0)
    nn.functional.cross_entropy(child(images), labels).backward()
    optimizer.step()
    child(images)  # the annealing is over: nothing to call


@pytest.mark.parametrize(
    "law", [RandomAnnealing(epochs=2), Iterative(epochs=2), TemperatureAnnealing(epochs=2)], ids=str
)
def test_what_is_drawn_once_can_be_regenerated(law: Law) -> None:
    model = small()
    mask = pruning.prune(model, 0.7, "random")
    stored, again = (Subnetwork(copy.deepcopy(model), mask, law, seed=3, regenerate=how) for how in (False, True))
    assert again.drawn is None
    for t in (0.0, 0.7, 1.9):
        stored.at(t)
        again.at(t)
        assert torch.equal(stored.multiplier, again.multiplier)


def test_what_a_gpu_draws_at_once_lies_by_each_tensors_own_sparsity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random annealing, coupled: pruned weights start within s of the target, kept ones within 1 - s, to 1/256.

    Slices of 1,000 weights cut through the tensors.
    """
    monkeypatch.setattr(drawing, "TOGETHER", 1000)
    model = nn.Sequential(nn.Linear(60, 50, bias=False), nn.Linear(50, 40, bias=False))
    mask = {"0.weight": torch.arange(3000).view(50, 60) % 4 == 0, "1.weight": torch.arange(2000).view(40, 50) % 10 > 0}
    child = Subnetwork(model, mask, RandomAnnealing(epochs=2))
    state = child._prepare_together()
    assert state.shape == (5000,)
    assert torch.equal(state, child._prepare_together())
    for own, entry, sparsity in zip(state.split([3000, 2000]), mask.values(), (0.75, 0.1), strict=True):
        for far, limit in ((own[~entry.flatten()], 256 * sparsity), (own[entry.flatten()], 256 * (1 - sparsity))):
            # 200 draws or more all lie below 0.95 of their range once in 28,000 seeds
            assert 0.95 * limit < far.max() <= limit + 1


def test_a_law_of_ones_own_that_draws_in_another_way_is_asked_tensor_by_tensor() -> None:
    class Own(RandomAnnealing):
        def prepare(self, mask: torch.Tensor, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return torch.zeros_like(mask, dtype=torch.uint8)

    assert RandomAnnealing(epochs=2).prepares_together
    assert not Own(epochs=2).prepares_together


def test_an_order_by_the_starting_weights_cannot_be_regenerated() -> None:
    model = small()
    with pytest.raises(ValueError, match="leave regenerate at False"):
        Subnetwork(model, pruning.prune(model, 0.7), Iterative(epochs=2, order="magnitude"), regenerate=True)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_an_interrupted_child_goes_on_bit_for_bit(law: Law) -> None:
    mask = pruning.prune(small(), 0.7)
    whole = Subnetwork(small(), mask, law, seed=3)
    steps(whole, [0.0, 0.5])
    resumed = Subnetwork(small(), mask, law, seed=3)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for child in (whole, resumed):  # fresh momentum for both: the optimiser's own state is the optimiser's to keep
        steps(child, [1.0, 1.5, 2.0])
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert all(torch.equal(whole.mask[name], entry) for name, entry in resumed.mask.items())


def test_movement_removes_what_moves_towards_zero() -> None:
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0, 1.0, 1.0]]))
        model[1].weight.fill_(1.0)
    child = Subnetwork(model, pruning.prune(model, 0.5), Iterative(epochs=2, order="movement"))
    child.train()
    child.at(0.0)
    child(torch.tensor([[3.0, -2.0, 1.0, -4.0]])).sum().backward()  # the gradient is the input
    torch.optim.SGD(child.parameters(), 0.0).step()
    assert child.movement.tolist() == [-3.0, 2.0, -1.0, 4.0]
    child.at(1.0)
    assert child.multiplier.tolist() == [False, True, True, True]
    assert child.target.tolist() == [False, True, False, True]


def test_movement_of_a_frozen_layer_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    with pytest.raises(ValueError, match=r"'0\.weight' has none, since it is frozen: leave it out with select="):
        Subnetwork(model, pruning.prune(model, 0.5), Iterative(epochs=1, order="movement"))
    child = Subnetwork(model, pruning.prune(model, 0.5, select="1"), Iterative(epochs=1, order="movement"))
    child.module[1].requires_grad_(False)  # type: ignore[operator,index]
    with pytest.raises(ValueError, match=r"'1\.weight' has none"):
        child.at(0.0)


def test_movement_is_refused_where_ranks_would_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    child = Subnetwork(model, pruning.prune(model, 0.5), Iterative(epochs=2, order="movement"))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(RuntimeError, match="re-rank by magnitude"):
        child.at(0.0)


def test_channels_last_weights_have_masks_that_lie_alike() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)).to(memory_format=torch.channels_last)
    mask = pruning.prune(model, 0.5, "random")
    child = Subnetwork(model, mask, TemperatureAnnealing(epochs=1))
    assert torch.equal(child.mask["0.weight"], mask["0.weight"])
    assert child.mask["0.weight"].stride() == model[0].weight.stride()
    last = [mask["0.weight"].permute(0, 2, 3, 1).flatten()]  # the order in memory: rows, columns, then channels
    assert torch.equal(child.target, torch.cat(last))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(child.eval()(images), child.fold().eval()(images))


def test_a_state_of_another_memory_format_is_refused() -> None:
    def wrapped(memory_format: torch.memory_format) -> Subnetwork:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)).to(memory_format=memory_format)
        return Subnetwork(model, pruning.prune(model, 0.5), TemperatureAnnealing(epochs=1))

    saved = wrapped(torch.channels_last).state_dict()
    wrapped(torch.channels_last).load_state_dict(saved)
    with pytest.raises(RuntimeError, match="convert the module as it was then"):
        wrapped(torch.contiguous_format).load_state_dict(saved)


def test_a_child_of_a_model_that_was_evaluated_last_trains_under_sampled_masks() -> None:
    model = small().eval()
    mask = pruning.prune(model, 0.7)
    with pytest.raises(ValueError, match="longer than the training"):
        Subnetwork(model, mask, TemperatureAnnealing(epochs=2), epochs=1)
    assert not model.training
    child = Subnetwork(model, mask, TemperatureAnnealing(epochs=2, tau=0.5))
    child.at(0.0)
    assert model.training
    assert child.multiplier.sum() > child.target.sum()
    name = next(iter(mask))
    assert torch.equal(
        model.get_submodule(name.rpartition(".")[0]).weight != 0, child._expand(child.multiplier.bool())[name]
    )
    child.eval()
    child.restart(small().eval(), mask, OneShot())
    assert model.training
