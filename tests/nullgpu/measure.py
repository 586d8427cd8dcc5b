"""Count what training asks of the GPU, on the null GPU: python measure.py CASES, a JSON list of :class:`Case`.

Prints a JSON line for each child: what each step of its last epoch cost, and the memory when it was gone.
"""

from __future__ import annotations

import copy
import gc
import json
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
from ssa.specs.specs import Recipe
from ssa.training import models
from ssa.training.loop import Training

LAWS: dict[str, Callable[[], laws.Law]] = {
    "one-shot": laws.OneShot,
    "temperature": lambda: laws.TemperatureAnnealing(epochs=4),
    "temperature-all": lambda: laws.TemperatureAnnealing(epochs=4, scope="all"),
    "random": lambda: laws.RandomAnnealing(epochs=4),
    "random-independent": lambda: laws.RandomAnnealing(epochs=4, draw="independent"),
    "dense-then-cut": lambda: laws.DenseThenCut(epochs=4),
    "constant-temperature": lambda: laws.ConstantTemperature(epochs=4),
    "iterative": lambda: laws.Iterative(epochs=4),
    "iterative-magnitude": lambda: laws.Iterative(epochs=4, order="magnitude"),
    "gradual": lambda: laws.Iterative(epochs=4, order="reranked"),
    "movement": lambda: laws.Iterative(epochs=4, order="movement"),
    "expected": lambda: laws.TemperatureAnnealing(epochs=4, expected=True),
}
EPOCHS = 3


@dataclass(frozen=True)
class Case:
    """A network and its children, trained one after the other, each by one of ``laws``; "dense" has no mask.

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
    settings: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def main(cases: list[Case]) -> None:
    """Measure all ``cases``, in this process."""
    device = devices.choose("cuda", "measure.py")
    for case in cases:
        model = models.build(case.network, case.options, 3, 10, case.side, 0).to(memory_format=torch.channels_last)
        example = torch.zeros(1, 3, case.side, case.side)
        mask = pruning.prune(model, 0.9, "random", structure=case.structure, example=example)
        content = random_images(case, device)
        kept: list[Subnetwork] = []
        for law in case.laws:
            found = train(case, subnetwork(case, model, mask, law, kept), content)
            print(json.dumps({"network": case.network, "law": law, "fault": case.fault, **found}), flush=True)


def random_images(case: Case, device: torch.device) -> Data:
    """As many as an epoch takes: what they show does not matter to kernels that do nothing."""
    count = case.batch * case.steps
    split = Split(torch.zeros(count, 3, case.side, case.side, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))
    return Data(split, split, split, 10, *STATISTICS["cifar10"]).to(device)


def train(case: Case, network: Subnetwork, content: Data) -> dict[str, Any]:
    """Train a child for three epochs; what the last of them cost, by the step unless it says otherwise.

    ``captures`` and ``waits`` are of the whole epoch, ``grown`` and ``left`` are MB: of it, and when the child is done.
    """
    recipe = Recipe(epochs=EPOCHS + 1, batch_size=case.batch, precision="bf16", augment=case.augment)
    run = Training(network, content, recipe, 0, compile="auto")
    FAULTS[case.fault](network)
    for _ in range(EPOCHS - 1):
        run.run_epoch()
    memory, before, start = torch.cuda.memory_allocated(), nullgpu.counts(), time.process_time()
    run.run_epoch()
    seconds, found = time.process_time() - start, nullgpu.counts() - before
    grown = torch.cuda.memory_allocated() - memory
    per_step = {name: round(getattr(found, name) / case.steps, 2) for name in ("launches", "copies", "graph_launches")}
    ran = run.ran
    del run
    gc.collect()
    return {
        **per_step,
        "captures": found.captures,
        "waits": found.waits,
        "milliseconds": round(1000 * seconds / case.steps, 2),
        "grown": grown / 1e6,
        "left": torch.cuda.memory_allocated() / 1e6,
        "variants": torch._dynamo.utils.counters["stats"]["unique_graphs"],
        "ran": ran,
    }


def subnetwork(case: Case, model: torch.nn.Module, mask: Mask, law: str, kept: list[Subnetwork]) -> Subnetwork:
    """One child on the GPU, in a module that is ``kept`` where one takes it, as a job's children are."""
    chosen, entries = (laws.OneShot(), Mask({})) if law == "dense" else (LAWS[law](), mask.to(torch.device("cuda")))
    for child in kept:
        if child.takes(entries, chosen, case.settings.get("rescale", False)):
            child.restart(model, entries, chosen, epochs=EPOCHS + 1, **case.settings)
            return child
    kept.append(Subnetwork(copy.deepcopy(model).cuda(), entries, chosen, epochs=EPOCHS + 1, **case.settings))
    return kept[-1]


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


FAULTS: dict[str, Callable[[Subnetwork], None]] = {
    "": lambda network: None,
    "new multiplier": _new_multiplier,
    "item": _item,
    "from the CPU": _from_the_cpu,
    "leak": _leak,
}


if __name__ == "__main__":
    main([Case(**each) for each in json.loads(sys.argv[1])])
