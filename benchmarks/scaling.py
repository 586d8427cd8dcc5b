"""How the cost of a study grows with its children, and what aggregating 100,000 of them takes."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks import machine

HERE = Path(__file__).resolve().parent


def study(name: str, parents: int, children: int, methods: tuple[str, ...] = ("one-shot",)) -> Any:
    """The demo's network on digits: ``children`` of each parent and method, of two epochs."""
    from ssa.study.study import expand

    demo = yaml.safe_load((HERE.parent / "config" / "demo.yaml").read_text(encoding="utf-8"))
    small = {**demo["parents"]["small"], "seeds": list(range(parents)), "epochs": 2}
    block = {"name": "all", "parents": "small", "method": list(methods), "sparsity": 90, "seed": list(range(children))}
    raw = {
        **{"name": name, "device": "cpu", "datasets": demo["datasets"], "parents": {"small": small}},
        **{"children": {"epochs": 2, "anneal_epochs": 0.5, "score_epochs": []}, "blocks": [block]},
    }
    return expand(raw, Path(f"{name}.yaml"))


def children(counts: tuple[int, ...]) -> dict[int, float]:
    """Seconds of a whole study, parent and masks included, by its number of children; one thread, one process."""
    from ssa.process.deadline import Deadline
    from ssa.store.store import Store
    from ssa.workflow import stages

    stages.use_threads(1)
    found = {}
    for count in (1, *counts):  # the first pays for what is loaded once
        with tempfile.TemporaryDirectory() as folder:
            plan, start = study("scaling", 1, count), time.perf_counter()
            assert stages.run(plan, Store(Path(folder)), None, Deadline()) == 0
            found[count] = time.perf_counter() - start
    return found


def aggregation(rows: int) -> tuple[float, float]:
    """Seconds and peak GB of aggregating ``rows`` children of 100 parents, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1) as pool:
        with multiprocessing.get_context("spawn").Pool(1) as writer:
            writer.apply(_write, (Path(folder), rows))
        return pool.apply(_aggregate, (Path(folder), rows))


def _write(folder: Path, rows: int) -> None:
    """A store in which one child was trained and all others have its result."""
    from ssa.process.deadline import Deadline
    from ssa.store.records import sealed
    from ssa.store.store import Store
    from ssa.workflow import stages

    store, plan = Store(folder), study("rows", 100, rows // 200, ("one-shot", "temperature"))
    first = plan.children[0]
    stages.train_children(plan, store, first.spec.parent.id, [first], Deadline())
    parent, child = store.read_parent(first.spec.parent), store.read_child(first.spec)
    for spec in plan.all_parents().values():
        store.parent_record(spec.id).parent.mkdir(parents=True, exist_ok=True)
        record = {**parent, "id": spec.id, "spec": spec.content()}
        record.pop("seal", None)
        store.parent_record(spec.id).write_bytes(sealed(record))
        lines = []
        for each in plan.children_of(spec.id):
            record = {**child, "id": each.spec.id, "spec": each.spec.content(), "method": each.spec.method}
            record.pop("seal", None)
            lines.append(sealed(record))
        target = folder / "children" / spec.id / "benchmark.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"".join(lines))


def _aggregate(folder: Path, rows: int) -> tuple[float, float]:
    from ssa.results.aggregate import aggregate
    from ssa.store.store import Store

    start = time.perf_counter()
    aggregate(study("rows", 100, rows // 200, ("one-shot", "temperature")), Store(folder))
    return time.perf_counter() - start, machine.peak_memory()
