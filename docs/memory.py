"""Print what a child keeps beside its weights, in bytes per prunable weight: measured, law by law.

python docs/memory.py
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from ssa.method import laws, pruning, selection
from ssa.method.subnetwork import Subnetwork
from ssa.training import models

NETWORKS = {"ResNet-18": "resnet18", "WRN-28-10": "wrn-28-10"}
LAWS: dict[str, tuple[laws.Law, bool]] = {
    "one-shot": (laws.OneShot(), False),
    "temperature": (laws.TemperatureAnnealing(epochs=5), False),
    "random, u kept": (laws.RandomAnnealing(epochs=5), False),
    "random, u regenerated": (laws.RandomAnnealing(epochs=5), True),
    "iterative, random order kept": (laws.Iterative(epochs=5), False),
    "iterative, order regenerated": (laws.Iterative(epochs=5), True),
    "iterative, re-ranked": (laws.Iterative(epochs=5, order="reranked"), False),
    "expected mask": (laws.TemperatureAnnealing(epochs=5, expected=True), False),
}


def bytes_per_weight(model: nn.Module, law: laws.Law, regenerate: bool) -> float:
    """Bytes of all tensors that a child of ``model`` holds during annealing beside the model's own, per weight."""
    mask = pruning.prune(model, 0.9, "random")
    child = Subnetwork(model, mask, law, regenerate=regenerate)
    child.at(1.0)
    own = (child.target, child.multiplier, child.alive, child.movement, child.drawn)
    found = sum(tensor.nbytes for tensor in own if tensor is not None) / child.target.numel()
    child.remove()
    return found


def float_matrices(model: nn.Module) -> float:
    """The same for a float32 keep-probability and a float32 sampled mask of every weight."""
    child = Subnetwork(model, pruning.prune(model, 0.9, "random"), laws.TemperatureAnnealing(epochs=5))
    child.at(1.0)
    probabilities = [child.keep_probability(name) for name in child.mask]
    kept = [*probabilities, *(torch.bernoulli(p) for p in probabilities)]
    child.remove()
    return sum(tensor.numel() * tensor.element_size() for tensor in kept) / child.target.numel()


def parent(model: nn.Module) -> float:
    """The same for the weights themselves."""
    weights = list(selection.prunable(model).values())
    return sum(w.numel() * w.element_size() for w in weights) / sum(w.numel() for w in weights)


def table() -> str:
    """A reStructuredText table: a row for each law, a column for each network."""
    built = {title: models.build(name, {}, 3, 10, 32, 0) for title, name in NETWORKS.items()}
    measures: dict[str, Callable[[nn.Module], float]] = {"the parent's weights themselves": parent}
    for title, (law, regenerate) in LAWS.items():
        measures[title] = partial(bytes_per_weight, law=law, regenerate=regenerate)
    measures["float matrices of p and of the mask"] = float_matrices
    lines = [".. csv-table::", "   :header-rows: 1", "", "   " + ", ".join(["bytes per weight", *built])]
    for title, measure in measures.items():
        lines.append("   " + ", ".join([f'"{title}"', *(f"{measure(model):.2f}" for model in built.values())]))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
