"""The training loop: rates, batches, paired streams, the same bits every time."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from ssa.data import splits
from ssa.data.batches import Batches, crop_and_flip, pad
from ssa.data.splits import Data
from ssa.method import pruning
from ssa.method.laws import Iterative, Law, OneShot, RandomAnnealing, TemperatureAnnealing
from ssa.method.subnetwork import Subnetwork
from ssa.specs.specs import DataSpec, Recipe
from ssa.training import loop, rates
from ssa.training.loop import Training
from ssa.training.networks.resnet_small import SmallResNet

RECIPE = Recipe(epochs=3, batch_size=40, augment="crop-flip", padding=1)


@pytest.fixture(scope="module")
def digits() -> Data:
    return splits.load(DataSpec("digits", 100, 50, "parent"), Path("unused"), 0)


def small() -> SmallResNet:
    torch.manual_seed(0)
    return SmallResNet(1, 10, 8, 2)


def trained(digits: Data, law: Law, recipe: Recipe = RECIPE, seed: int = 0) -> Subnetwork:
    model = small()
    child = Subnetwork(model, pruning.prune(model, 0.7), law, seed=4)
    run = Training(child, digits, recipe, seed)
    for _ in range(recipe.epochs):
        run.run_epoch()
    return child


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_one_cycle_is_pytorchs() -> None:
    recipe = Recipe(epochs=7, lr=0.1)
    steps, total = 13, 7 * 13
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.1,
        total_steps=total,
        pct_start=0.1,
        div_factor=100,
        final_div_factor=0.001 / 1e-7,
    )
    for step in range(total):
        rate = rates.at_step(recipe, step, steps)
        assert rate.lr == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        assert rate.momentum == pytest.approx(optimizer.param_groups[0]["momentum"], rel=1e-9)
        optimizer.step()
        scheduler.step()
    assert rate.lr == pytest.approx(1e-7)
    assert rates.at_step(dataclasses.replace(recipe, cycle_momentum=False), 3, steps).momentum is None


@pytest.mark.parametrize(("step", "lr"), [(0, 0.1), (500, 0.1), (700, 0.1 - 0.099 / 2), (900, 0.001), (999, 0.001)])
def test_the_parents_schedule_by_hand(step: int, lr: float) -> None:
    recipe = Recipe(epochs=10, lr=0.1, lr_schedule="step-linear", final_lr=0.001)
    assert rates.at_step(recipe, step, 100).lr == pytest.approx(lr)


@pytest.mark.parametrize(("step", "lr"), [(0, 0.001 / 500), (499, 0.001), (500, 0.001), (5250, 0.000505)])
def test_warmup_and_cosine_by_hand(step: int, lr: float) -> None:
    recipe = Recipe(epochs=100, lr=1e-3, lr_schedule="warmup-cosine", final_lr=1e-5, warmup_epochs=5)
    assert rates.at_step(recipe, step, 100).lr == pytest.approx(lr)


def test_a_warmup_of_less_than_a_step_goes_to_the_rate_and_not_beyond() -> None:
    recipe = Recipe(epochs=10, lr=0.1, lr_schedule="warmup-cosine", warmup_epochs=0.1)  # 0.4 of a step
    assert rates.at_step(recipe, 0, 4).lr == 0.1
    assert rates.at_step(recipe, 1, 4).lr < 0.1


def test_constant_rate() -> None:
    assert rates.at_step(Recipe(epochs=2, lr=0.01, lr_schedule="constant"), 5, 10) == rates.Rate(0.01)


def test_one_shot_training_is_bit_identical_to_torch_prune(digits: Data) -> None:
    child = trained(digits, OneShot())
    model = small()
    mask = pruning.prune(model, 0.7)
    for name, entry in mask.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        torch_prune.custom_from_mask(layer, "weight", entry.float())
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True, fused=True)
    batches = Batches(digits.train, digits, RECIPE)
    model.train()
    for epoch in range(RECIPE.epochs):
        for step, (images, labels) in enumerate(batches.epoch(0, epoch)):
            loop.set_rate(optimizer, rates.at_step(RECIPE, epoch * len(batches) + step, len(batches)))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    for name in mask:
        layer = model.get_submodule(name.rpartition(".")[0])
        assert torch.equal(child.weights[name], layer.weight_orig)
    images = digits.test.images[:64].float() / 255
    assert torch.equal(child.eval()(images), model.eval()(images))


@pytest.mark.parametrize(
    "law",
    [TemperatureAnnealing(epochs=2), RandomAnnealing(epochs=2), Iterative(epochs=2, order="reranked")],
    ids=lambda law: type(law).__name__,
)
def test_same_seed_same_bits_whatever_ran_before(digits: Data, law: Law) -> None:
    first = trained(digits, law)
    trained(digits, OneShot(), seed=9)
    torch.rand(3)
    assert same(first, trained(digits, law))
    assert not same(first, trained(digits, law, seed=1))


def test_masks_do_not_shift_batches(digits: Data) -> None:
    batches = Batches(digits.train, digits, RECIPE)
    first = [labels for _, labels in batches.epoch(0, 1)]
    trained(digits, RandomAnnealing(epochs=2))
    again = [labels for _, labels in batches.epoch(0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    "law",
    [OneShot(), TemperatureAnnealing(epochs=2), RandomAnnealing(epochs=2), Iterative(epochs=2, order="reranked")],
    ids=lambda law: type(law).__name__,
)
def test_resumed_training_is_uninterrupted_training(digits: Data, law: Law) -> None:
    """Resumed after one epoch, in the middle of the annealing."""
    whole = trained(digits, law)
    model = small()
    first = Training(Subnetwork(model, pruning.prune(model, 0.7), law, seed=4), digits, RECIPE, 0)
    first.run_epoch()
    saved = copy.deepcopy(first.state())
    model = small()
    second = Training(Subnetwork(model, pruning.prune(model, 0.7), law, seed=4), digits, RECIPE, 0)
    second.resume(1, saved)
    second.run_epoch()
    second.run_epoch()
    assert same(whole, second.network)


def test_every_image_once_an_epoch_and_the_short_batch_is_kept(digits: Data) -> None:
    recipe = Recipe(epochs=1, batch_size=32, augment="none")
    batches = Batches(digits.train, digits, recipe)
    found = list(batches.epoch(0, 0))
    assert [len(labels) for _, labels in found] == [32, 32, 32, 4]
    assert len(batches) == 4
    images = torch.cat([images for images, _ in found])
    wanted = (digits.train.images.float() / 255 - digits.mean[0]) / digits.std[0]
    assert torch.allclose(images.sum((1, 2, 3)).sort().values, wanted.sum((1, 2, 3)).sort().values, atol=1e-3)
    assert len(Batches(digits.train, digits, dataclasses.replace(recipe, drop_last=True))) == 3


def test_crops_and_flips_pixel_for_pixel() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 3, 5, 4), generator=generator, dtype=torch.uint8)
    corners = torch.randint(0, 5, (6, 2), generator=generator)
    flips = torch.tensor([True, False, True, False, True, False])
    which = torch.tensor([5, 0, 3, 1, 1, 4])
    cut = crop_and_flip(pad(images, 2, (0.0, 0.0, 0.0)), which, corners, flips, images.shape[2:])
    for n in range(6):
        for y in range(5):
            for x in range(4):
                source_y = int(corners[n, 0]) + y - 2
                source_x = int(corners[n, 1]) + (3 - x if flips[n] else x) - 2
                inside = 0 <= source_y < 5 and 0 <= source_x < 4
                expected = images[which[n], :, source_y, source_x] if inside else torch.zeros(3, dtype=torch.uint8)
                assert torch.equal(cut[n, y, x], expected)


def test_padding_with_the_mean_colour_is_zero_after_normalisation(digits: Data) -> None:
    recipe = dataclasses.replace(RECIPE, padding_value="mean")
    black, mean = (Batches(digits.train, digits, r).images[:, 0] for r in (RECIPE, recipe))
    assert int(black.max()) == 0
    assert mean.unique().tolist() == [round(digits.mean[0] * 255)]


def test_autoaugment_follows_its_seed_and_changes_images(digits: Data) -> None:
    recipe = dataclasses.replace(RECIPE, augment="autoaugment")
    plain, first, again = (
        torch.cat([images for images, _ in Batches(digits.train, digits, used).epoch(0, 0)])
        for used in (RECIPE, recipe, recipe)
    )
    assert torch.equal(first, again)
    changed = (first != plain).flatten(1).any(1)
    assert 20 < int(changed.sum()) < 100  # the policy leaves some images as they are


def test_weight_decay_on_all_parameters_or_on_weights_only() -> None:
    model = small()
    everything = loop.optimizer(model, Recipe(epochs=1))
    assert [len(group["params"]) for group in everything.param_groups] == [len(list(model.parameters()))]
    weights = loop.optimizer(model, Recipe(epochs=1, decay="weights"))
    assert [group["weight_decay"] for group in weights.param_groups] == [5e-4, 0.0]
    assert all(p.dim() > 1 for p in weights.param_groups[0]["params"])


def test_without_momentum_nothing_looks_ahead() -> None:
    plain = loop.optimizer(small(), Recipe(epochs=1, momentum=0.0))
    assert not any(group["nesterov"] for group in plain.param_groups)
    assert all(group["nesterov"] for group in loop.optimizer(small(), Recipe(epochs=1)).param_groups)


def test_a_diverging_run_says_at_which_step(digits: Data) -> None:
    model = small()
    run = Training(
        Subnetwork(model, {}, OneShot()), digits, Recipe(epochs=2, batch_size=40, lr=1e12, lr_schedule="constant"), 0
    )
    assert run.run_epoch().diverged_step in (1, 2)
