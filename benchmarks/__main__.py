"""Run every measurement that this machine allows, print a table, and write ``benchmarks/<device>.json``.

python -m benchmarks [--quick] [--only NAME ...]

Each number is written as soon as it is measured, a part in the place of what was measured of it before; ``--quick``
writes none.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import agreement, epochs, job, machine, profiling, scaling, tracking
from benchmarks.epochs import Case
from ssa.files import write_atomically

HERE = Path(__file__).resolve().parent
NOISE = 1.05  # the most that annealing may cost over one-shot
SECONDS = {"resnet18": 1.0, "resnet18-maxpool": 0.4, "wrn-28-10": 6.0, "vit": 1.5}  # an epoch of CIFAR on a Hopper GPU
PER_HOUR = {"resnet18": 150, "resnet18-maxpool": 350}


@dataclass(frozen=True)
class Row:
    """One measured number: of ``n`` the median, or what ``measure`` says, the least and the greatest; its target."""

    measure: str
    network: str
    unit: str
    value: float
    low: float
    high: float
    n: int
    target: str = ""
    met: bool | None = None

    def cells(self) -> list[str]:
        """As the table prints it."""
        met = {None: "", True: "met", False: "MISSED"}[self.met]
        spread = f"{self.low:.3g} to {self.high:.3g}" if self.n > 1 else ""
        return [self.measure, self.network, f"{self.value:.3g}", self.unit, spread, str(self.n), self.target, met]


def at_most(limit: float, value: float) -> dict[str, Any]:
    """A target that is met at or under ``limit``."""
    return {"target": f"at most {limit:g}", "met": value <= limit}


def at_least(limit: float, value: float) -> dict[str, Any]:
    """A target that is met at or over ``limit``."""
    return {"target": f"at least {limit:g}", "met": value >= limit}


def one(value: float) -> dict[str, float]:
    """A number that was measured once."""
    return epochs.spread([value])


def cases(quick: bool) -> list[Case]:
    """The cases that this machine trains in the time: on a GPU epochs of CIFAR's size, on a CPU a part of one."""
    if torch.cuda.is_available():
        images = 10_000 if quick else 50_000
        return [Case(network, 128, images) for network in SECONDS]
    small = [Case("resnet-small", 64, 64 * 8)]  # short: the best of many is then undisturbed by neighbours
    return small if quick else [*small, Case("lenet-l", 128, 128 * 6), Case("resnet18-maxpool", 128, 128 * 2)]


def rounds(case: Case) -> int:
    """How often an epoch is measured under each law: on a CPU for a minute or two of a small network."""
    return 40 if torch.cuda.is_available() else 60 if case.network == "resnet-small" else 12


def each(listed: Iterable[Case], measure: Callable[[Case], Iterator[Row]]) -> Iterator[Row]:
    """The rows of every case; one that needs more memory than the GPU has is left out, and a line says so."""
    for case in listed:
        try:
            yield from measure(case)
        except torch.OutOfMemoryError as error:
            print(f"{case.network} is left out: {str(error).splitlines()[0]}", file=sys.stderr)
        gc.collect()
        if torch.cuda.is_available():
            torch.compiler.reset()  # whose graphs hold memory
            torch.cuda.empty_cache()


def epoch_rows(quick: bool) -> Iterator[Row]:
    """Epochs by network and law, and what share of the device's matrix rate they reach."""
    precision = machine.precision()
    rate = machine.matrix_rate(torch.bfloat16 if precision == "bf16" else torch.float32)
    yield Row(f"matrix rate, {precision}, one thread", "", "TFLOP/s", **one(rate / 1e12))

    def measure(case: Case) -> Iterator[Row]:
        found = epochs.by_law(case, precision, rounds(case))
        base = epochs.spread(found["one-shot"])
        target = at_most(SECONDS[case.network], base["value"]) if case.images == 50_000 else {}
        yield Row(f"epoch of {case.images} images, {precision}", case.network, "s", **base, **target)
        yield Row("images", case.network, "1/s", **epochs.spread([case.images / s for s in found["one-shot"]]))
        flops = 3 * 2 * epochs.macs(case) * case.images / base["value"]
        yield Row("share of the matrix rate", case.network, "", **one(flops / rate))
        for law in ("temperature", "random"):
            ratio = epochs.spread([a / b for a, b in zip(found[law], found["one-shot"], strict=True)])
            yield Row(f"epoch of {law} over one-shot", case.network, "x", **ratio, **at_most(NOISE, ratio["value"]))

    yield from each(cases(quick), measure)
    yield Row("peak memory", "all of the above", "GB", **one(machine.peak_memory()))


def profile_rows(quick: bool) -> Iterator[Row]:
    """Where an epoch of temperature annealing goes."""

    def measure(case: Case) -> Iterator[Row]:
        for kind, share in profiling.shares(case, machine.precision()).items():
            yield Row(f"share of an epoch: {kind}", case.network, "", **one(share))

    yield from each(cases(quick), measure)


def plain_rows(quick: bool) -> Iterator[Row]:
    """The whole machine's throughput beside the plain way's, with its best number of workers."""
    cuda, bf16 = torch.cuda.is_available(), machine.has_bf16()
    wanted = 15.0 if cuda else 2.0 if bf16 else 1.2

    def measure(case: Case) -> Iterator[Row]:
        workers = (0, 2) if quick else (0, 1, 2, 4, 8, 16)
        fast, slow = epochs.against_plain(case, machine.precision(), 3 if quick else 7, workers)
        best = max(slow, key=lambda n: epochs.spread(slow[n])["value"])
        yield Row("images, all cores, ours", case.network, "1/s", **epochs.spread(fast))
        yield Row(f"images, the plain way, best of workers: {best}", case.network, "1/s", **epochs.spread(slow[best]))
        ratio = epochs.spread([a / b for a, b in zip(fast, slow[best], strict=True)])
        yield Row("ours over the plain way", case.network, "x", **ratio, **at_least(wanted, ratio["value"]))

    yield from each(cases(quick)[: 2 if cuda else 1], measure)


def sharing_rows(quick: bool) -> Iterator[Row]:
    """Several children at once on one GPU, each in a process of its own, as ``--resources gpu=N`` runs them."""
    if not torch.cuda.is_available():
        return

    def measure(case: Case) -> Iterator[Row]:
        for count in (1, 2, 4):
            found = epochs.at_once(case, machine.precision(), (count,), 3)[count]
            yield Row(f"images, children at once on the card: {count}", case.network, "1/s", **epochs.spread(found))

    yield from each(cases(quick)[:1], measure)


def job_rows(quick: bool) -> Iterator[Row]:
    """Children an hour, and what a job spends on neither training nor scoring."""
    cuda = torch.cuda.is_available()
    networks = ("resnet18", "resnet18-maxpool") if cuda else ("resnet-small",)
    length, images = (20, 50_000) if cuda else (4, 1_250)
    children = 3 if quick else 12

    def measure(case: Case) -> Iterator[Row]:
        network = case.network
        found = job.shares(network, length, children, case.images)
        rest = 1 - (found["training"] + found["scoring"]) / found["whole"]
        what = f"a job of {children} children of {length} epochs, {case.images} images"
        hourly = 3600 * children / found["whole"]
        yield Row(f"{what}: children an hour", network, "", **one(hourly), **_hourly(network, hourly, cuda))
        limit = at_most(0.1, rest) if cuda and not quick else {}
        yield Row(f"{what}: neither training nor scoring", network, "", **one(rest), **limit)
        if cuda:
            yield Row(f"{what}: peak memory", network, "GB", **one(found["memory"]), **at_most(4, found["memory"]))

    yield from each([Case(network, 128, images) for network in networks[: 1 if quick else None]], measure)


def _hourly(network: str, value: float, cuda: bool) -> dict[str, Any]:
    return at_least(PER_HOUR[network], value) if cuda else {}


def scaling_rows(quick: bool) -> Iterator[Row]:
    """A study's cost by its number of children, and aggregation."""
    for count, seconds in scaling.children((1, 10) if quick else (1, 10, 100, 1000)).items():
        yield Row(f"a study of {count} children of 2 epochs", "the demo's", "s a child", **one(seconds / count))
    rows = 10_000 if quick else 100_000
    seconds, memory = scaling.aggregation(rows)
    yield Row(f"aggregation of {rows} children", "", "s", **one(seconds), **at_most(30, seconds))
    yield Row(f"aggregation of {rows} children: peak memory", "", "GB", **one(memory), **at_most(2, memory))


def tracking_rows(quick: bool) -> Iterator[Row]:
    """The cost of logging a job of ``config/reduced.yaml`` to W&B; that study is made for a CPU."""
    if torch.cuda.is_available():
        return
    found = tracking.measure("resnet-small", 20, 1 if quick else 6, 5_000)
    yield Row("a reduced child, processor time", "resnet-small", "s", **one(found.child))
    yield Row("its W&B run, processor time", "", "s", **one(found.run))
    yield Row("a look for new records, processor time", "", "s", **one(found.look))
    yield Row("logging over a reduced job", "resnet-small", "", **one(found.share), **at_most(0.02, found.share))


def agreement_rows(quick: bool) -> Iterator[Row]:
    """Test accuracy of ours minus the plain way's, in points; the interval must lie inside +- 0.3."""
    if quick:
        return
    found = agreement.differences(agreement.SEEDS, machine.precision())
    mean, low, high = agreement.interval(found)
    inside = {"target": "interval inside -0.3 to 0.3", "met": low > -0.3 and high < 0.3}
    measure = "accuracy, ours minus the plain way: mean and 95% interval"
    yield Row(measure, "resnet-small, digits", "points", mean, low, high, len(found), **inside)


PARTS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "epochs": epoch_rows,
    "profile": profile_rows,
    "plain": plain_rows,
    "sharing": sharing_rows,
    "job": job_rows,
    "scaling": scaling_rows,
    "tracking": tracking_rows,
    "agreement": agreement_rows,
}


def main() -> int:
    """1 where a target was missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--quick", action="store_true", help="fewer rounds and sizes: five minutes; nothing is written"
    )
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="some parts")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    about = machine.description()
    print(f"{about['device']}, {about['cores']} cores, PyTorch {torch.__version__}", flush=True)
    rows = []
    for part in chosen.only:
        beside, found = machine.circumstances(), []
        for row in PARTS[part](chosen.quick):
            found.append(row)
            print(" | ".join(cell for cell in row.cells() if cell), flush=True)
            if not chosen.quick:
                write(about, part, {**beside, "rows": [asdict(row) for row in found]})
        rows += found
    missed = [row for row in rows if row.met is False]
    print(f"{len(missed)} of {sum(row.met is not None for row in rows)} targets missed")
    return 1 if missed else 0


def write(about: dict[str, Any], part: str, found: dict[str, Any]) -> None:
    """Put ``found`` in the place of ``part`` in the device's file."""
    units = "" if about["bf16"] else " no bf16"  # processors of one name differ in it
    name = re.sub(r"[^a-z0-9]+", "-", f"{about['device']} {about['cores']} cores{units}".lower()).strip("-")
    path = HERE / f"{name}.json"
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}
    parts[part] = found
    ordered = {known: parts[known] for known in PARTS if known in parts}
    text = json.dumps({**about, "parts": ordered}, indent=1) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
