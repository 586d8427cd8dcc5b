"""The cost of an ensemble, to train and to ask: in epochs, seconds, and operations, dense and masked.

Masked operations are those of a machine that leaves out weights that are zero, all layers taken for as sparse as their
prunable weights are in the mean; while a mask is annealed, weights count with their keep-probability.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ssa.data.splits import Data
from ssa.method.subnetwork import Subnetwork
from ssa.specs.specs import ChildSpec, EnsembleSpec
from ssa.store.store import Store

PASSES = 3  # forward, and backward to the weights and to the activations: the same products three times
GRID = 20  # moments an epoch at which the density of a child in training is read


@dataclass(frozen=True)
class Run:
    """One run's share: epochs, operations of all its training, and seconds on the device."""

    epochs: int
    dense_flops: float
    masked_flops: float
    seconds: float


def of(
    store: Store,
    spec: EnsembleSpec,
    networks: list[nn.Module],
    contents: Mapping[str, Data],
    subnetwork: Callable[[ChildSpec], Subnetwork],
) -> dict[str, Any]:
    """The cost of training all runs of ``spec``, each once, by their records; and of asking its ``networks`` once.

    ``contents``: each parent's data. ``subnetwork``: a child as it is before its first step.
    """
    shape = contents[spec.parents[0].id].test.images.shape[1:]
    trained = forward_flops(networks[0], shape, training=True)
    runs, sparsity = {}, dict.fromkeys((one.id for one in spec.parents), 0.0)
    for one in spec.parents:
        seconds = store.read_parent(one)["result"]["train_seconds"]
        runs[one.id] = _run(one.recipe.epochs, trained * len(contents[one.id].train), 1.0, seconds)
    for child in spec.children:
        result, content = store.read_child(child)["result"], contents[child.parent.id]
        sparsity[child.id] = result["realised_sparsity"] / 100
        density = density_in_training(subnetwork(child), child.recipe.epochs, sparsity[child.id])
        runs[child.id] = _run(child.recipe.epochs, trained * len(content.train), density, result["train_seconds"])
    asked = spec.samples * forward_flops(networks[0], shape)  # the members of an ensemble are of one model
    return {
        "runs": {name: asdict(run) for name, run in runs.items()},
        **{key: sum(getattr(run, key) for run in runs.values()) for key in ("epochs", "dense_flops", "masked_flops")},
        "train_seconds": sum(run.seconds for run in runs.values()),
        "forward_passes": spec.samples * sum(getattr(network, "passes", 1) for network in networks),
        "inference_flops": asked * len(networks),
        "inference_masked_flops": sum(asked * (1 - sparsity[member.run.id]) for member in spec.members),
        "parameters": sum(int(p.count_nonzero()) for network in networks for p in network.parameters()),
    }


def forward_flops(network: nn.Module, image_shape: torch.Size, training: bool = False) -> int:
    """Operations of one forward pass on one image (channels, height, width): two for each product and its addition.

    ``training``: as in training, where some networks answer an image several times.
    """
    images = 2  # a BatchNorm in training needs more than one value
    network = copy.deepcopy(network).cpu().train(training)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(images, *image_shape))
    return int(counter.get_total_flops()) // images


def density_in_training(child: Subnetwork, epochs: int, sparsity: float) -> float:
    """The fraction of prunable weights at work, in the mean over ``epochs``; in the end it is 1 - ``sparsity``."""
    moments = [i / GRID for i in range(epochs * GRID)]
    return math.fsum(child.density(t) if t < child.law.epochs else 1 - sparsity for t in moments) / len(moments)


def _run(epochs: int, flops: float, density: float, seconds: float) -> Run:
    dense = PASSES * flops * epochs
    return Run(epochs, dense, density * dense, seconds)
