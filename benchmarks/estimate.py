"""How long a study takes on a GPU that is not at hand, from launches, FLOPs and bytes: no measurement.

python -m benchmarks.estimate STUDY [--kinds KIND ...] [--parents SEED ...]
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssa.specs.specs import ParentSpec, Recipe
from ssa.study import study as studies
from ssa.study.study import Study
from ssa.training import models


@dataclass(frozen=True)
class Assumed:
    """The assumed powers of one Hopper card and its host; what is halved in the cautious column is marked."""

    teraflops: float = 989.0  # bf16, dense, by the data sheet
    reached: float = 0.3  # of that by convolutions and products of CIFAR's size: halved
    gigabytes: float = 3350.0  # a second, by the data sheet
    streamed: float = 0.6  # of that by all other kernels: halved
    passes: float = 4.0  # each activation crosses memory: written and read, forwards and back
    kernel: float = 1.5e-6  # seconds from one kernel of a graph to the next
    launch: float = 6e-6  # seconds of the host for a kernel beside the graphs: doubled in the cautious column
    step: float = 4e-4  # seconds of the host for the rest of a step, Python's: doubled
    beside: float = 20.0  # launches beside the graphs, a step: counted on the null GPU
    compiling: float = 90.0  # seconds for each kind of network: doubled
    starting: float = 30.0  # seconds of a process: imports, data, the first parent's files

    def cautious(self) -> Assumed:
        """Half the rates, twice the host's times."""
        half, double = {"reached", "streamed"}, {"launch", "step", "compiling"}
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return Assumed(**{n: v / 2 if n in half else 2 * v if n in double else v for n, v in values.items()})


@dataclass(frozen=True)
class Network:
    """Of one 32 x 32 image in a forward pass: FLOPs, and bytes of activations in bf16. ``kernels``: of a step."""

    flops: float
    bytes: float
    kernels: float


@cache
def network(name: str, options: tuple[tuple[str, Any], ...], classes: int = 100) -> Network:
    """The cost of a network, counted on its layers; a step has a kernel or two for each of them, forwards and back."""
    model = models.build(name, dict(options), 3, classes, 32, 0).eval()
    sizes: list[int] = []

    def note(_: nn.Module, __: object, output: object) -> None:
        sizes.append(output.numel() if isinstance(output, Tensor) else 0)

    leaves = [module for module in model.modules() if not any(True for _ in module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return Network(counter.get_total_flops(), 2.0 * sum(sizes), 3.0 * len(sizes))


def seconds_of_step(one: Network, batch: int, assumed: Assumed) -> tuple[float, float]:
    """Of a training step: the GPU's, and the host's. The longer of them is what a step takes."""
    products = 3 * batch * one.flops / (assumed.teraflops * 1e12 * assumed.reached)
    memory = assumed.passes * batch * one.bytes / (assumed.gigabytes * 1e9 * assumed.streamed)
    return products + memory + one.kernels * assumed.kernel, assumed.step + assumed.beside * assumed.launch


def seconds_of_run(one: Network, recipe: Recipe, images: int, scored: int, assumed: Assumed) -> tuple[float, float]:
    """Of a parent or child: training, and scoring on test images and for BatchNorm's statistics ``scored`` times."""
    steps = images // recipe.batch_size
    training = recipe.epochs * steps * max(seconds_of_step(one, recipe.batch_size, assumed))
    device, host = seconds_of_step(one, 500, assumed)
    batches = (10_000 + 10_000) / 500  # a third of a training step's work, uncompiled: a launch for each kernel
    return training, scored * batches * max(device / 3, host + one.kernels / 3 * assumed.launch)


def parts(study: Study, kinds: list[str], seeds: list[int], assumed: Assumed) -> dict[str, float]:
    """Seconds by part of the study, as one process would run it."""
    found: Counter[str] = Counter()
    chosen = {kind: [s for s in specs if not seeds or s.seed in seeds] for kind, specs in study.parents.items()}
    chosen = {kind: specs for kind, specs in chosen.items() if not kinds or kind in kinds}
    ids = {spec.id for specs in chosen.values() for spec in specs}
    for kind, specs in chosen.items():
        found[f"{kind}: compiling"] += assumed.compiling
        for spec in specs:
            training, scoring = seconds_of_run(_network(spec), spec.recipe, 50_000, 1, assumed)
            found[f"{kind}: {len(specs)} parents"] += training + scoring
    for child in (child.spec for child in study.children if child.spec.parent.id in ids):
        (kind,) = (name for name, specs in chosen.items() if child.parent in specs)
        epochs = range(child.recipe.epochs + 1)
        scored = len(epochs) if child.score_epochs is None else len({*child.score_epochs, child.recipe.epochs})
        training, scoring = seconds_of_run(_network(child.parent), child.recipe, 50_000, scored + 4, assumed)
        found[f"{kind}: children, training"] += training
        found[f"{kind}: children, scoring"] += scoring
    return {"starting": assumed.starting, **found}


def _network(spec: ParentSpec) -> Network:
    return network(spec.model, spec.model_options)


def main() -> None:
    """Print a row for each part: seconds as assumed, and cautiously."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("study", type=Path)
    options.add_argument("--kinds", nargs="+", default=[], help="some kinds of parents")
    options.add_argument("--parents", nargs="+", type=int, default=[], help="some seeds")
    chosen = options.parse_args()
    study = studies.load(chosen.study)
    usual, cautious = (parts(study, chosen.kinds, chosen.parents, a) for a in (Assumed(), Assumed().cautious()))
    for part in usual:
        print(f"| {part} | {usual[part]:.0f} s | {cautious[part]:.0f} s |")
    print(f"| all | {sum(usual.values()):.0f} s | {sum(cautious.values()):.0f} s |")


if __name__ == "__main__":
    main()
