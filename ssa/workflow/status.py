"""A study in progress: what is recorded, what runs, how fast, and how long it will take. Imports no PyTorch."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from ssa.process.progress import Beat, running
from ssa.specs.specs import ParentSpec
from ssa.store.store import Store
from ssa.study.study import Study, train_images
from ssa.training.models import mega_macs

BAR = 24
REDRAW_SECONDS, LINE_SECONDS = 2.0, 60.0
TERMINAL_LINE_SECONDS = 10.0  # between lines among Snakemake's


@dataclass(frozen=True)
class Status:
    """How far ``study`` is at one moment: (done, all) for parents, children, ensembles; its jobs, and the epochs left.

    ``others``: jobs of other studies on the same results. ``seconds``: until all is trained at the present rate, None
    where nothing trains now or no epoch has been timed.
    """

    study: str
    parents: tuple[int, int]
    children: tuple[int, int]
    ensembles: tuple[int, int]
    jobs: list[Beat]
    others: int
    epochs_left: int
    seconds: float | None

    @property
    def rate(self) -> float:
        """Epochs per second, all jobs together."""
        return sum(job.rate for job in self.jobs)

    @property
    def complete(self) -> bool:
        """Whether everything is recorded."""
        return all(done == total for done, total in (self.parents, self.children, self.ensembles))


def read(study: Study, store: Store) -> Status:
    """The state of ``study`` now, from its records and the running jobs' files."""
    parents = study.all_parents()
    beats = running(store.root)
    jobs = [beat for beat in beats if beat.run in parents]
    costs = _costs(parents)
    trained = {key for key in parents if store.parent_record(key).exists()}
    begun = {job.run: job.done for job in jobs if job.unit == "epoch"}
    left = {key: spec.recipe.epochs - begun.get(key, 0) for key, spec in parents.items() if key not in trained}
    recorded = 0
    for key in parents:
        done = store.recorded_children(key)
        for child in study.children_of(key):
            if child.spec.id in done:
                recorded += 1
            else:
                left[key] = left.get(key, 0) + child.spec.recipe.epochs
    unscored = [one.spec for one in study.ensembles if not store.ensemble_record(one.spec.id).exists()]
    for member in {member.id: member for spec in unscored for member in spec.children}.values():
        if not store.recorded(member):
            left[member.parent.id] = left.get(member.parent.id, 0) + member.recipe.epochs
    work = sum(epochs * costs[key] for key, epochs in left.items())
    speed = sum(job.rate * costs[job.run] for job in jobs)
    return Status(
        study.name,
        (len(trained), len(parents)),
        (recorded, len(study.children)),
        (len(study.ensembles) - len(unscored), len(study.ensembles)),
        jobs,
        len(beats) - len(jobs),
        sum(left.values()),
        work / speed if speed else None,
    )


def _costs(parents: dict[str, ParentSpec]) -> dict[str, float]:
    """The relative cost of an epoch of each parent: images times the model's MACs, as far as all are known."""
    images = {key: train_images(spec.data) for key, spec in parents.items()}
    macs = {key: mega_macs(spec.model, dict(spec.model_options)) for key, spec in parents.items()}
    costs = dict.fromkeys(parents, 1.0)
    for factors in (images, macs):
        if None not in factors.values():
            costs = {key: cost * float(factors[key] or 1) for key, cost in costs.items()}
    return costs


def line(status: Status) -> str:
    """The state in one line, for a log."""
    done = f"{_of(status.parents)} parents, {_of(status.children)} children"
    if status.ensembles[1]:
        done += f", {_of(status.ensembles)} ensembles"
    if status.complete:
        return f"{status.study}: {done}: all are recorded"
    jobs = f"{len(status.jobs)} job{'' if len(status.jobs) == 1 else 's'}, {_rate(status.rate)}"
    return f"{status.study}: {done}; {jobs if status.jobs else 'nothing trains now'}; {_left(status)}"


def text(status: Status, blocks: str = "█░") -> str:
    """The state in a few lines: bars of the characters ``blocks``, a line for each job, and the time left."""
    lines = [f"study     {status.study}"]
    counts = {"parents": status.parents, "children": status.children, "ensembles": status.ensembles}
    for name, (done, total) in counts.items():
        if name == "ensembles" and not total:
            continue
        full = BAR * done // total if total else BAR
        lines.append(f"{name:9} {blocks[0] * full}{blocks[1] * (BAR - full)} {done:,} of {total:,}")
    for i, job in enumerate(status.jobs):
        head = "running" if i == 0 else ""
        since = clock(job.at - job.started)
        lines.append(f"{head:9} {job.run}: {job.unit} {job.done} of {job.total}, {_rate(job.rate)}, {since}")
    if status.others:
        lines.append(f"          and {status.others} of other studies")
    if not status.jobs and not status.complete:
        lines.append("running   nothing of this study trains now")
    lines.append(f"time      {'all is recorded' if status.complete else _left(status)}")
    return "\n".join(lines)


def watch(study: Study, store: Store, stream: TextIO, every: float | None = None) -> None:
    """Show the state on ``stream`` until all is recorded: redrawn in place on a terminal, else a line a minute.

    ``every``: seconds between two looks, instead of 2 and 60.
    """
    drawn = 0
    while True:
        status = read(study, store)
        if stream.isatty():
            drawn = _redraw(stream, text(status, blocks_of(stream)), drawn)
        else:
            print(line(status), file=stream, flush=True)
        if status.complete:
            return
        time.sleep(every or (REDRAW_SECONDS if stream.isatty() else LINE_SECONDS))


def log_seconds(stream: TextIO) -> float:
    """How often the workflow's log on ``stream`` says the state."""
    return TERMINAL_LINE_SECONDS if stream.isatty() else LINE_SECONDS


def say_while_running(study: Study, store: Store, say: Callable[[str], object], every: float) -> None:
    """Give ``say`` the state in a line every so many seconds, beside whatever else this process does, until it ends."""

    def loop() -> None:
        while not (status := read(study, store)).complete:
            say(line(status))
            time.sleep(every)

    threading.Thread(target=loop, daemon=True, name="status").start()


def blocks_of(stream: TextIO) -> str:
    """Characters for a bar that ``stream`` can write."""
    try:
        "█░".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#."
    return "█░"


def clock(seconds: float) -> str:
    """``2:05`` minutes and seconds, ``3 h 20 min``, or ``2 d 4 h``."""
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _redraw(stream: TextIO, shown: str, before: int) -> int:
    """Write ``shown`` over the ``before`` lines above, each cut to the terminal's width; returns its lines."""
    width = os.get_terminal_size(stream.fileno()).columns or 80
    lines = [text[: width - 1] for text in shown.splitlines()]
    up = f"\x1b[{before}F\x1b[J" if before else ""
    stream.write(up + "\n".join(lines) + "\n")
    stream.flush()
    return len(lines)


def _of(pair: tuple[int, int]) -> str:
    return f"{pair[0]:,} of {pair[1]:,}"


def _rate(rate: float) -> str:
    """Epochs in a second, or in a minute or an hour if they are long."""
    if not rate:
        return "no epoch yet"
    unit, seconds = next(((u, s) for u, s in (("s", 1), ("min", 60)) if rate * s >= 1), ("h", 3600))
    return f"{rate * seconds:.3g} epochs/{unit}"


def _left(status: Status) -> str:
    left = f"{status.epochs_left:,} epochs left"
    if status.seconds is None:
        return left
    until = time.localtime(time.time() + status.seconds)
    form = "%H:%M" if status.seconds < 12 * 3600 else "%a %d %b, %H:%M"
    return f"{left}, about {clock(status.seconds)}, until {time.strftime(form, until)}"
