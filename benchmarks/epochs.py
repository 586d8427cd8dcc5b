"""Time an epoch: by network, by law, and beside the plain way, always side by side in one run."""

from __future__ import annotations

import copy
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import machine, plain
from ssa.data.splits import STATISTICS, Data, Split
from ssa.method import laws, pruning
from ssa.method.laws import Law
from ssa.method.masks import Mask
from ssa.method.subnetwork import Subnetwork
from ssa.specs.specs import Recipe
from ssa.training import models
from ssa.training.loop import Training
from ssa.workflow import stages

LAWS: dict[str, Law] = {
    "one-shot": laws.OneShot(),
    "temperature": laws.TemperatureAnnealing(epochs=10_000),
    "random": laws.RandomAnnealing(epochs=10_000),
}
LONGEST = 600  # seconds that a process waits for the others: one that died is noticed
AUGMENT = {"vit": "autoaugment"}  # as config/paper.yaml trains it; all others with crops and flips
OPTIONS: dict[str, dict[str, Any]] = {"resnet-small": {"width": 16, "stages": 4, "stem_stride": 2}}


@dataclass(frozen=True)
class Case:
    """A network, its batch size, and how many random images of CIFAR's size an epoch of the measurement has."""

    network: str
    batch: int
    images: int

    def recipe(self, precision: str) -> Recipe:
        """The authors' recipe at this batch size, with the augmentation that studies use."""
        augment = AUGMENT.get(self.network, "crop-flip")
        return Recipe(epochs=100_000, batch_size=self.batch, precision=precision, augment=augment)

    def model(self) -> nn.Module:
        """The untrained network, channels last."""
        model = models.build(self.network, OPTIONS.get(self.network, {}), 3, 10, 32, 0)
        return model.to(memory_format=torch.channels_last)

    def images_and_labels(self) -> tuple[Tensor, Tensor]:
        """uint8 (n, 3, 32, 32), and (n,): what they show does not change what they cost."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (self.images, 3, 32, 32), generator=generator, dtype=torch.uint8)
        return images, torch.randint(0, 10, (self.images,), generator=generator)

    def data(self) -> Data:
        """The same as a data set on the device."""
        split = Split(*self.images_and_labels()).to(machine.device())
        return Data(split, split, split, 10, *STATISTICS["cifar10"])


def ours(case: Case, law: Law, precision: str, mask: Mask | None = None, model: nn.Module | None = None) -> Training:
    """One child of ``case`` in training by the engine."""
    model = copy.deepcopy(model) if model is not None else case.model()
    mask = pruning.prune(model, 0.9, "random") if mask is None else mask
    device = machine.device()
    child = Subnetwork(model.to(device), mask.to(device), law)
    return Training(child, case.data(), case.recipe(precision), 0, compile="auto")


def by_law(case: Case, precision: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of an epoch under each law, ``rounds`` times each in turn; CPU time on a CPU, which neighbours spare.

    The first round, which compiles and warms up, is not counted.
    """
    model = case.model()
    mask = pruning.prune(model, 0.9, "random")
    runs = {name: ours(case, law, precision, mask, model) for name, law in LAWS.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            seconds = machine.undisturbed(run.run_epoch)
            if number:
                found[name].append(seconds)
    return found


def against_plain(
    case: Case, precision: str, rounds: int, workers: Sequence[int]
) -> tuple[list[float], dict[int, list[float]]]:
    """Images a second of the whole machine: ours, and the plain way's by number of workers; all in turn.

    On a CPU ours are as many processes as cores, each with a child, as the workflow runs them; the plain way trains one
    child on all cores.
    """
    images, labels = case.images_and_labels()
    transform = plain.transform(32, 4, *STATISTICS["cifar10"])
    dataset = plain.Images(images.permute(0, 2, 3, 1).numpy(), labels.tolist(), transform)
    model = models.build(case.network, OPTIONS.get(case.network, {}), 3, 10, 32, 0)
    mask = pruning.prune(model, 0.9, "random")
    baselines = {n: plain.Plain(copy.deepcopy(model), mask, dataset, case.recipe("fp32"), n) for n in workers}
    fast: list[float] = []
    slow: dict[int, list[float]] = {n: [] for n in workers}
    count = 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))
    with _together(case, precision, count) as run:
        for number in range(rounds + 1):
            torch.set_num_threads(1)
            seconds = machine.clock(run)
            torch.set_num_threads(len(os.sched_getaffinity(0)))
            slower = {n: machine.clock(baseline.run_epoch) for n, baseline in baselines.items()}
            if number:
                fast.append(count * case.images / seconds)
                for n, value in slower.items():
                    slow[n].append(case.images / value)
    return fast, slow


def at_once(case: Case, precision: str, counts: Sequence[int], rounds: int) -> dict[int, list[float]]:
    """Images a second of so many children at once on one device, each in a process of its own."""
    found = {}
    for count in counts:
        with _together(case, precision, count) as run:
            run()  # compiles and warms up
            found[count] = [count * case.images / machine.clock(run) for _ in range(rounds)]
    return found


@contextmanager
def _together(case: Case, precision: str, count: int) -> Iterator[Callable[[], None]]:
    """A function that trains a child for an epoch in each of ``count`` processes of one thread."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count + 1, timeout=LONGEST)
    processes = [context.Process(target=_epochs, args=(case, precision, barrier), daemon=True) for _ in range(count)]
    for process in processes:
        process.start()

    def run() -> None:
        try:
            barrier.wait()
            barrier.wait()
        except threading.BrokenBarrierError as error:
            raise torch.OutOfMemoryError(f"{count} at once need more memory than the GPU has") from error

    try:
        yield run
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _epochs(case: Case, precision: str, barrier: Any) -> None:
    stages.use_threads(1)
    try:
        run = ours(case, LAWS["one-shot"], precision)
        while True:
            barrier.wait()
            run.run_epoch()
            barrier.wait()
    except torch.OutOfMemoryError:
        barrier.abort()  # which ends the wait of all others


def macs(case: Case) -> float:
    """Multiply-accumulates of one forward pass on one image."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        case.model().eval()(torch.zeros(1, 3, 32, 32))
    return counter.get_total_flops() / 2


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median (``value``), least, greatest and number."""
    return {
        "value": float(np.median(values)),
        "low": float(min(values)),
        "high": float(max(values)),
        "n": len(values),
    }
