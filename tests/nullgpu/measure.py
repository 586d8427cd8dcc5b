"""Count what training asks of the GPU, on the null GPU: python measure.py CASES, a JSON list of :class:`Case`.

Prints a JSON line for each child: what each step of its third epoch cost, and the memory when it was gone.
"""

from __future__ import annotations

import copy
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nullgpu
import torch

from ssa.data.splits import STATISTICS, Data, Split
from ssa.method import laws, pruning
from ssa.method.masks import Mask
from ssa.method.subnetwork import Subnetwork
from ssa.process import devices
from ssa.runs import modules
from ssa.specs.specs import DataSpec, ParentSpec, Recipe
from ssa.training import models
from ssa.training.loop import Training

EPOCHS = 3  # the last of which is counted
LENGTH = 64  # epochs of a child, were it trained to the end: all that are trained anneal
# Milliseconds of :func:`plain_step` on an EPYC core that nothing disturbs, where a one-shot child's step takes 0.61.
YARDSTICK = 0.55

LAWS: dict[str, Callable[[], laws.Law]] = {
    "one-shot": laws.OneShot,
    "temperature": lambda: laws.TemperatureAnnealing(epochs=LENGTH),
    "temperature-all": lambda: laws.TemperatureAnnealing(epochs=LENGTH, scope="all"),
    "random": lambda: laws.RandomAnnealing(epochs=LENGTH),
    "random-independent": lambda: laws.RandomAnnealing(epochs=LENGTH, draw="independent"),
    "dense-then-cut": lambda: laws.DenseThenCut(epochs=LENGTH),
    "constant-temperature": lambda: laws.ConstantTemperature(epochs=LENGTH),
    "iterative": lambda: laws.Iterative(epochs=LENGTH),
    "iterative-magnitude": lambda: laws.Iterative(epochs=LENGTH, order="magnitude"),
    "gradual": lambda: laws.Iterative(epochs=LENGTH, order="reranked"),
    "movement": lambda: laws.Iterative(epochs=LENGTH, order="movement"),
    "expected": lambda: laws.TemperatureAnnealing(epochs=LENGTH, expected=True),
}


@dataclass(frozen=True)
class Case:
    """A network and its children, trained one after the other, each by one of ``laws``; "dense" has no mask.

    ``parents``: how many of one kind the children take in turn. ``timed``: epochs in turn with what is compared.
    ``fault``: what is planted, so that the counts must notice it; see :data:`FAULTS`.
    """

    network: str
    laws: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    structure: str = "connections"
    augment: str = "crop-flip"
    batch: int = 32
    steps: int = 6
    side: int = 32
    parents: int = 1
    timed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def main(cases: list[Case]) -> None:
    """Measure all ``cases``, in this process."""
    device = devices.choose("cuda", "measure.py")
    for case in cases:
        content = random_images(case, device)
        parents = [parent(case, seed) for seed in range(case.parents)]
        plain = one_shot(*parents[0]) if case.timed else None
        for number, law in enumerate(case.laws):
            child = subnetwork(case, law, content, *parents[number % case.parents])
            found = train(case, child, content, plain)
            child.__dict__.pop("at", None)  # what was planted: the next child has the same module
            print(json.dumps({"network": case.network, "law": law, "fault": case.fault, **found}), flush=True)


def parent(case: Case, seed: int) -> tuple[torch.nn.Module, Mask]:
    """A network and a mask of it."""
    model = models.build(case.network, case.options, 3, 10, case.side, seed).to(memory_format=torch.channels_last)
    example = torch.zeros(1, 3, case.side, case.side)
    return model, pruning.prune(model, 0.9, "random", structure=case.structure, seed=seed, example=example)


def random_images(case: Case, device: torch.device) -> Data:
    """As many as an epoch takes: what they show does not matter to kernels that do nothing."""
    count = case.batch * case.steps
    split = Split(torch.zeros(count, 3, case.side, case.side, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))
    return Data(split, split, split, 10, *STATISTICS["cifar10"]).to(device)


def train(case: Case, network: Subnetwork, content: Data, plain: Subnetwork | None) -> dict[str, Any]:
    """Train a child for three epochs; what the last of them cost, by the step unless it says otherwise.

    ``captures`` and ``waits`` are of the whole epoch, ``grown`` and ``left`` are MB: of it, and when the child is done.
    ``recorded``: graphs since the process began. With a ``plain`` child also what :func:`compared` returns.
    """
    run = training(case, network, content)
    FAULTS[case.fault](network)
    for _ in range(EPOCHS - 1):
        run.run_epoch()
    memory, before = torch.cuda.memory_allocated(), nullgpu.counts()
    run.run_epoch()
    found = nullgpu.counts() - before
    grown = torch.cuda.memory_allocated() - memory
    per_step = {name: round(getattr(found, name) / case.steps, 2) for name in ("launches", "copies", "graph_launches")}
    ran = run.ran
    beside = compared(case, run, training(case, plain, content)) if plain else {}
    del run
    gc.collect()
    return {
        **per_step,
        "captures": found.captures,
        "waits": found.waits,
        **beside,
        "grown": grown / 1e6,
        "left": torch.cuda.memory_allocated() / 1e6,
        "recorded": nullgpu.counts().captures,
        "variants": torch._dynamo.utils.counters["stats"]["unique_graphs"],
        "ran": ran,
    }


def training(case: Case, network: Subnetwork, content: Data) -> Training:
    """The training of a child."""
    recipe = Recipe(epochs=LENGTH, batch_size=case.batch, precision="bf16", augment=case.augment)
    return Training(network, content, recipe, 0, compile="auto")


def compared(case: Case, run: Training, plain: Training) -> dict[str, float]:
    """The CPU's time of an epoch of ``run``, measured in turn with others, since other processes disturb all alike.

    ``times``: how many times that of ``plain``, the median. ``milliseconds``: of a step, on a core where the yardstick
    takes :data:`YARDSTICK`: the lower quartile of how many times the yardstick of the same moment it took.
    """
    yardstick = plain_step()
    actions = (run.run_epoch, plain.run_epoch, lambda: [yardstick() for _ in range(case.steps)])
    for action in actions[1:] * EPOCHS:
        action()
    found = [[cpu_time(action) for action in actions] for _ in range(case.timed)]
    times = statistics.median(own / one_shot for own, one_shot, _ in found)
    quartile, *_ = statistics.quantiles((own / plainly for own, _, plainly in found), n=4)
    return {"times": round(times, 2), "milliseconds": round(YARDSTICK * quartile, 2)}


def plain_step() -> Callable[[], None]:
    """A training step as PyTorch's tutorials write it, of 12 small layers: nothing of it is this project's."""
    layers = (layer for _ in range(12) for layer in (torch.nn.Linear(8, 8), torch.nn.ReLU()))
    network = torch.nn.Sequential(*layers).cuda()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    images, labels = torch.zeros(32, 8, device="cuda"), torch.zeros(32, dtype=torch.int64, device="cuda")

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


def cpu_time(action: Callable[[], object]) -> float:
    """Seconds of CPU that ``action`` takes, of all this process's threads."""
    start = time.process_time()
    action()
    return time.process_time() - start


def one_shot(model: torch.nn.Module, mask: Mask) -> Subnetwork:
    """A child without annealing, in a module of its own."""
    return Subnetwork(copy.deepcopy(model).cuda(), mask.to(torch.device("cuda")), laws.OneShot())


def subnetwork(case: Case, law: str, content: Data, model: torch.nn.Module, mask: Mask) -> Subnetwork:
    """A child on the GPU, in a module of one before where that takes it, as a job's children are."""
    options = tuple(sorted(case.options.items()))
    spec = ParentSpec(DataSpec("digits", 1, 1, "parent"), case.network, options, Recipe(epochs=1), 0)
    chosen, entries = (laws.OneShot(), Mask({})) if law == "dense" else (LAWS[law](), mask)
    return modules.subnetwork(
        spec, model, content, entries, chosen, torch.device("cuda"), epochs=LENGTH, **case.settings
    )


def _after_each_at(network: Subnetwork, fault: Callable[[Subnetwork], object]) -> None:
    real = network.at

    def at(t: float) -> None:
        real(t)
        fault(network)

    network.at = at  # type: ignore[method-assign]


def _new_multiplier(network: Subnetwork) -> None:
    _after_each_at(network, lambda child: setattr(child, "multiplier", child.multiplier.clone()))


def _item(network: Subnetwork) -> None:
    _after_each_at(network, lambda child: child.multiplier.sum().item())


def _from_the_cpu(network: Subnetwork) -> None:
    _after_each_at(network, lambda child: child.multiplier.mul_(torch.ones(1, dtype=torch.uint8).to("cuda")))


def _leak(network: Subnetwork) -> None:
    kept: list[torch.Tensor] = []
    _after_each_at(network, lambda child: kept.append(child.multiplier.new_zeros(1 << 20)))


def _slow(network: Subnetwork) -> None:
    _after_each_at(network, lambda child: sum(range(200_000)))


FAULTS: dict[str, Callable[[Subnetwork], None]] = {
    "": lambda network: None,
    "new multiplier": _new_multiplier,
    "item": _item,
    "from the CPU": _from_the_cpu,
    "leak": _leak,
    "slow": _slow,
}


if __name__ == "__main__":
    main([Case(**each) for each in json.loads(sys.argv[1])])
