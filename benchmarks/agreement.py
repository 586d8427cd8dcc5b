"""Whether the engine is as accurate as the plain way: one-shot children of both, over seeds, on real digits.

Children of trained parents, as in a study, whose rate ends near 0: networks that are pruned untrained are far from done
after so few epochs, and at a constant rate the last steps decide.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import machine, plain
from ssa.analysis import statistics
from ssa.data import splits
from ssa.data.splits import Data
from ssa.method import pruning
from ssa.method.laws import OneShot
from ssa.method.masks import Mask
from ssa.method.subnetwork import Subnetwork
from ssa.specs.specs import DataSpec, Recipe
from ssa.training import models, scoring
from ssa.training.loop import Training

PARENT = Recipe(epochs=30, batch_size=64, lr=0.1, lr_schedule="one-cycle", augment="none")
RECIPE = Recipe(epochs=20, batch_size=64, lr=0.1, lr_schedule="one-cycle", augment="none", padding=0)
SPARSITY = 0.8
SEEDS = 240  # differences of one seed have a standard deviation of about 0.9 points: the interval is then +- 0.12


def differences(seeds: int, precision: str) -> list[float]:
    """Points of test accuracy, ours minus the plain way's, for each seed: the same start and mask, other batches."""
    return [accuracy_of_ours(seed, precision) - accuracy_of_plain(seed) for seed in range(seeds)]


def interval(found: list[float]) -> tuple[float, float, float]:
    """Mean, and the 95% t-interval over seeds."""
    estimate = statistics.t_interval(np.array(found))
    return estimate.mean, estimate.low, estimate.high


def accuracy_of_ours(seed: int, precision: str) -> float:
    """By the engine."""
    content, model, mask = _start(seed)
    device = machine.device()
    child, content = Subnetwork(model.to(device), mask.to(device), OneShot()), content.to(device)
    run = Training(child, content, replace(RECIPE, precision=precision), seed, compile="auto")
    for _ in range(RECIPE.epochs):
        run.run_epoch()
    return _accuracy(child, content, precision)


def accuracy_of_plain(seed: int) -> float:
    """By DataLoader, torchvision and torch.nn.utils.prune."""
    content, model, mask = _start(seed)
    torch.manual_seed(seed)
    transform = plain.transform(8, RECIPE.padding, content.mean, content.std)
    images = content.train.images.permute(0, 2, 3, 1).numpy()
    run = plain.Plain(model, mask, plain.Images(images, content.train.labels.tolist(), transform), RECIPE, 0)
    run.follow_one_cycle(RECIPE)
    for _ in range(RECIPE.epochs):
        run.run_epoch()
    return _accuracy(run.model, content.to(run.device), "fp32")


def _accuracy(network: nn.Module, content: Data, precision: str) -> float:
    return scoring.score(scoring.logits(network, content.test, content, precision), content.test.labels).accuracy


@cache
def _parent(seed: int) -> tuple[Data, nn.Module]:
    content = splits.load(DataSpec("digits", 900, 0, "parent"), Path("unused"), seed)
    model = models.build("resnet-small", {"width": 16, "stages": 2, "stem_stride": 2}, 1, 10, 8, seed)
    run = Training(Subnetwork(model, Mask({}), OneShot()), content, PARENT, seed)
    for _ in range(PARENT.epochs):
        run.run_epoch()
    return content, model


def _start(seed: int) -> tuple[Data, nn.Module, Mask]:
    content, model = _parent(seed)
    mask = pruning.prune(model, SPARSITY, "random", seed=seed)
    return content, copy.deepcopy(model), mask
