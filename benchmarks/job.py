"""Where the time of one job goes: training, scoring, and all the rest, from the start of its process to its end."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarks import machine
from ssa.errors import UserError

T = TypeVar("T")


def shares(network: str, epochs: int, children: int, images: int) -> dict[str, float]:
    """Seconds of the ``whole`` job of so many children, of its ``training`` and of its ``scoring``.

    CIFAR's place is taken by random images, which cost the same; the parent, of one epoch, is there beforehand.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            pool.apply(within_memory, (run, folder, network, epochs, 0, images))
        start = time.time()
        with context.Pool(1) as pool:
            found = pool.apply(within_memory, (run, folder, network, epochs, children, images))
        return {**found, "whole": time.time() - start}


def within_memory(action: Callable[..., T], *given: Any) -> T:
    """The result of ``action``; ``OutOfMemoryError`` also where a job says it in words for its user."""
    try:
        return action(*given)
    except UserError as error:
        if isinstance(error.__cause__, torch.OutOfMemoryError):
            raise error.__cause__ from None
        raise


def run(folder: str, network: str, epochs: int, children: int, images: int) -> dict[str, float]:
    """Train so many children and keep them in ``folder``, or for none their parent; to be called in a fresh process.

    Seconds of ``training`` and ``scoring``, ``processor`` seconds in all, and the peak ``memory`` in GB.
    """
    from ssa.data import splits
    from ssa.data.splits import Source, Split
    from ssa.process.deadline import Deadline
    from ssa.runs import parent
    from ssa.store.store import Store
    from ssa.study.study import expand
    from ssa.training import loop, scoring
    from ssa.workflow import stages

    spent = {"training": 0.0, "scoring": 0.0}

    def timed(function: Callable[..., Any], what: str) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            result: list[Any] = []
            spent[what] += machine.clock(lambda: result.append(function(*args, **kwargs)))
            return result[0]

        return call

    loop.Training.run_epoch = timed(loop.Training.run_epoch, "training")  # type: ignore[method-assign]
    scoring.logits = timed(scoring.logits, "scoring")
    scoring.update_bn = timed(scoring.update_bn, "scoring")
    splits._cifar = lambda spec, root: Source(Split(*_images(images)), Split(*_images(images // 5)), 10)
    stages.use_threads(1)
    plan, store = expand(study(network, epochs, max(children, 1)), Path("job.yaml")), Store(Path(folder))
    (key,) = plan.all_parents()
    if children:
        assert stages.train_children(plan, store, key, plan.children_of(key), Deadline()) == 0
    else:
        stages.ready(plan, store, key, Deadline())
    assert parent.trained(store, plan.all_parents()[key])
    return {**spent, "processor": time.process_time(), "memory": machine.peak_memory()}


def _images(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 10, (count,), generator=generator)


def study(network: str, epochs: int, children: int) -> dict[str, Any]:
    """The study of one job: a parent, and so many children that differ in their seed."""
    from benchmarks.epochs import OPTIONS

    common = {"precision": machine.precision()}
    block = {"name": "all", "parents": "one", "method": "temperature", "sparsity": 90, "seed": list(range(children))}
    return {
        "name": "job",
        "datasets": {"cifar": {"source": "cifar10", "validation": 0}},
        "parents": {
            "one": {
                **{"dataset": "cifar", "model": network, "model_options": OPTIONS.get(network, {}), "seeds": [0]},
                **{"epochs": 1, **common},
            }
        },
        "children": {"epochs": epochs, "anneal_epochs": epochs / 4},
        "blocks": [block],
    }
