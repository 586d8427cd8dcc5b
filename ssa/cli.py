"""The command line: every stage by hand. The workflow's jobs are these commands."""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssa import __version__
from ssa.errors import UserError

if TYPE_CHECKING:
    from ssa.process.deadline import Deadline
    from ssa.store.store import Store
    from ssa.study.blocks import Child
    from ssa.study.study import Study
    from ssa.tracking.tracker import Tracker

INTERRUPTED, PIPE_CLOSED = 128 + 2, 128 + 13  # as a shell says of a program that SIGINT or SIGPIPE ended
OPTIONAL = {"jinja2", "matplotlib", "pandas", "plotly", "pooch", "pyarrow", "requests", "yaml", "scipy", "seaborn"}
OPTIONAL |= {"sklearn", "snakemake", "timm", "torchvision", "wandb", "wandb_workspaces"}  # what the extra study brings
Command = Callable[[argparse.Namespace], "int | None"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a mistake of the user's prints one line and returns 2."""
    options = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a locale that lacks a character is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = options.command(options) or 0
        sys.stdout.flush()
        return code
    except UserError as error:
        message = str(error)
    except KeyboardInterrupt:
        print("ssa: interrupted; what is finished is kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # of ``head``, say, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return PIPE_CLOSED
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        message = f"{error.name} is not installed: pip install '.[study]' in a checkout"
    except FileNotFoundError as error:
        message = f"{error.filename} is missing; run the stage that writes it first (ssa --help lists them)"
    except OSError as error:
        if error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}"
    print(f"ssa: {message}", file=sys.stderr)
    return 2


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="ssa", description="Stochastic Subnetwork Annealing, stage by stage.")
    top.add_argument("--version", action="version", version=f"ssa {__version__}")
    stages = top.add_subparsers(required=True, metavar="STAGE")

    def stage(name: str, command: Command, text: str, *, study: bool = True) -> argparse.ArgumentParser:
        sub = stages.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        if study:
            sub.add_argument("study", type=Path, help="a study's YAML file, such as config/demo.yaml")
            sub.add_argument("--results", type=Path, default=Path("results"), help="results folder (default: results)")
        return sub

    def training(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--threads", type=_count, default=1, help="CPU threads (default: 1)")
        sub.add_argument("--data-root", type=Path, help="folder of the data sets' files (default: the study's)")

    plan = stage("plan", _plan, "check a study and print its size")
    plan.add_argument("--workers", type=_count, default=1, help="cores or GPUs to balance jobs over (default: 1)")
    plan.add_argument("--jobs", action="store_true", help="list parents, jobs and ensembles by their ids too")
    status = stage("status", _status, "show how far a study is, what runs, and how long it will take")
    status.add_argument("--watch", action="store_true", help="go on until all is recorded")
    status.add_argument("--every", type=_seconds, metavar="SECONDS", help="between two looks (default: 2, in a log 60)")
    fetch = stage("data", _data, "download and check the data sets of a study, and build its networks once")
    parent = stage("parent", _parent, "train one parent")
    masks = stage("masks", _masks, "write all masks of one parent, which is trained where it is missing")
    children = stage("children", _children, "train the children of one job")
    ensemble = stage("ensemble", _ensemble, "train what is missing of one ensemble, and score it")
    run = stage("run", _run, "train parent by parent without Snakemake, within a time budget")
    for sub in (parent, masks, children):
        sub.add_argument("--parent", required=True, help="the parent's id, as ssa plan --jobs lists it")
    ensemble.add_argument("--ensemble", required=True, help="the ensemble's id, as ssa plan --jobs lists it")
    children.add_argument("--child", help="one child's id, as in children.csv (default: all of the job's)")
    children.add_argument("--job", help="START-STOP-DIGEST, as in ssa plan --jobs (default: all of the parent's)")
    children.add_argument("--ensembles", action="store_true", help="then the ensembles of this parent alone, too")
    run.add_argument("--parents", type=int, nargs="+", metavar="SEED", help="parent seeds to run (default: all)")
    run.add_argument("--kinds", nargs="+", metavar="NAME", help="sections under parents: to run (default: all)")
    run.add_argument(
        "--budget", type=_seconds, default=math.inf, metavar="SECONDS", help="start nothing after this long"
    )
    for sub in (fetch, parent, masks, children, ensemble, run):
        training(sub)
    stage("aggregate", _aggregate, "collect the records of a study into children.csv and its companions")
    record = stage("record", _record, "add finished parents, each with all of its children, to a recorded folder")
    record.add_argument("--out", type=Path, required=True, help="such as recorded/reduced-cpu")
    record.add_argument("--how", required=True, help="how they were run: the command, and what else matters")
    withdraw = stage("withdraw", _withdraw, "take recorded parents back, with the reason", study=False)
    withdraw.add_argument("--parents", nargs="+", required=True, metavar="ID", help="parent ids")
    withdraw.add_argument("--reason", required=True, help="what was wrong")
    show = stage("show", _show, "one recorded child: its row, specification, history, and how to rerun it", study=False)
    for sub in (withdraw, show):
        sub.add_argument("folder", type=Path, help="such as recorded/reduced-cpu")
    show.add_argument("child", help="its id, as in the folder's children.csv")
    summary = stage("summary", _summary, "write pages from their templates and the committed records", study=False)
    summary.add_argument("pages", type=Path, nargs="+", help="such as README.md docs/findings.md")
    track = stage("track", _track, "write W&B runs of what is recorded; upload them where wandb.mode is online")
    track.add_argument("--follow", action="store_true", help="go on until interrupted, or until a pipe to it closes")
    sync = stage("sync", _sync, "upload to W&B every run that is not yet there")
    stage("dashboard", _dashboard, "create or update the study's workspace and report at W&B")
    for sub in (track, sync):
        sub.add_argument("--tables", type=Path, help="folder of the study's tables (default: paper_tables/STUDY)")
        sub.add_argument("--figures", type=Path, help="folder of the study's figures (default: figures/STUDY)")
    diagnose = stage("diagnose", _diagnose, "name the failure signatures in a study's record", study=False)
    diagnose.add_argument("history", type=Path, help="the study's history, such as results/demo/history.parquet")
    report = stage("report", _report, "write a study's tables, verdicts, figures and page", study=False)
    report.add_argument("results", type=Path, help="the study's results, such as results/demo")
    report.add_argument("--tables", type=Path, required=True, help="folder to write tables and verdicts into")
    report.add_argument("--figures", type=Path, required=True, help="folder to draw figures into")
    report.add_argument("--out", type=Path, required=True, help="the page to write")
    report.add_argument("--threads", type=_count, default=1, help="processes that draw figures (default: 1)")
    return top


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: a whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: seconds, above 0")
    return seconds


def _plan(options: argparse.Namespace) -> None:
    from ssa.study import study
    from ssa.workflow import jobs, size

    loaded = study.load(options.study)
    print(size.in_one_line(loaded, options.workers))
    if options.jobs:
        for parent_id in loaded.all_parents():
            print(f"parent {parent_id}")
        for job in jobs.plan(loaded, options.workers):
            print(f"job {job.parent_id} {job.name}")
        for ensemble in loaded.ensembles:
            print(f"ensemble {ensemble.spec.id}")


def _status(options: argparse.Namespace) -> None:
    from ssa.store.store import Store
    from ssa.study import study
    from ssa.workflow import status

    loaded, store = study.load(options.study), Store(options.results)
    if options.watch:
        with contextlib.suppress(KeyboardInterrupt):
            status.watch(loaded, store, sys.stdout, options.every)
    else:
        print(status.text(status.read(loaded, store), status.blocks_of(sys.stdout)))


def _own(options: argparse.Namespace) -> tuple[Study, Store]:
    from ssa.store.store import Store
    from ssa.study import own_tables, study

    root = vars(options).get("data_root")  # which only what trains can name
    loaded, store = study.load(options.study, data_root=root), Store(options.results)
    own_tables.check(loaded, store)
    return loaded, store


def _take_machine(study: Study, options: argparse.Namespace) -> None:
    """Give this process its threads and, where the study runs on GPUs and there are any, its share of one.

    Called before a deadline listens: nothing is to be saved yet, and a signal may end the wait for a GPU.
    """
    from ssa.process import gpus
    from ssa.workflow import stages

    if study.device != "cpu":
        gpus.lease()
    stages.use_threads(options.threads)


def _warned(deadline: Deadline, saved: str) -> int:
    print(f"ssa: stopped by {deadline.warning}: {saved}; the next attempt goes on from there", file=sys.stderr)
    return 3


def _data(options: argparse.Namespace) -> None:
    from ssa.workflow import stages

    stages.use_threads(options.threads)
    stages.fetch_data(_own(options)[0])


def _parent(options: argparse.Namespace) -> int:
    from ssa.workflow import stages

    return _train_one(stages.train_parent, options.parent, options, "its last epoch is saved")


def _train_one(
    train: Callable[[Study, Store, str, Deadline], bool], key: str, options: argparse.Namespace, saved: str
) -> int:
    """Let ``train`` make what is called ``key``, until a warning comes; ``saved`` says what is then kept."""
    from ssa.process.deadline import Deadline

    (study, store), deadline = _own(options), Deadline()
    _take_machine(study, options)
    with deadline.listening():
        done = train(study, store, key, deadline)
    return 0 if done else _warned(deadline, saved)


def _masks(options: argparse.Namespace) -> int:
    from ssa.workflow import stages

    return _train_one(stages.ready, options.parent, options, "its last epoch is saved")


def _children(options: argparse.Namespace) -> int:
    from ssa.process.deadline import Deadline
    from ssa.workflow import jobs, stages

    (study, store), deadline = _own(options), Deadline()
    children = jobs.children_of(study, options.parent, options.job)
    if options.child:
        children = [jobs.find_child(children, options.child)]
    ensembles = [one.spec.id for one in jobs.ensembles_of(study, options.parent)] if options.ensembles else []
    recorded = store.recorded_children(options.parent).issuperset(child.spec.id for child in children)
    if recorded and all(store.ensemble_record(one).exists() for one in ensembles):
        return 0  # without the seconds that PyTorch takes
    _take_machine(study, options)
    with deadline.listening():
        left = stages.train_all_of(study, store, options.parent, children, ensembles, deadline)
    return _warned(deadline, _recorded(store, options.parent, children, ensembles)) if left else 0


def _recorded(store: Store, parent_id: str, children: Sequence[Child], ensembles: Sequence[str]) -> str:
    there = store.recorded_children(parent_id)
    said = f"{sum(child.spec.id in there for child in children)} of {len(children)} children"
    if ensembles:
        said += f" and {sum(store.ensemble_record(one).exists() for one in ensembles)} of {len(ensembles)} ensembles"
    return f"{said} are recorded"


def _ensemble(options: argparse.Namespace) -> int:
    from ssa.workflow import stages

    return _train_one(stages.train_ensemble, options.ensemble, options, "the members that are trained are kept")


def _run(options: argparse.Namespace) -> int:
    from ssa.process.deadline import Deadline
    from ssa.workflow import stages

    (study, store), deadline = _own(options), Deadline(options.budget)
    _take_machine(study, options)
    with deadline.listening():
        left = stages.run(study, store, options.parents, deadline, options.kinds)
    print(f"{left} runs left: run the same command again to go on" if left else "all is recorded")
    return 3 if left else 0


def _aggregate(options: argparse.Namespace) -> None:
    from ssa.results.aggregate import aggregate
    from ssa.store.store import Store
    from ssa.study import study

    aggregate(study.load(options.study), Store(options.results))


def _record(options: argparse.Namespace) -> None:
    from ssa.results import recorded
    from ssa.store.store import Store
    from ssa.study import study

    added = recorded.add(study.load(options.study), Store(options.results), options.out, options.how)
    more = f", and {added.children} children of parents recorded before" if added.children else ""
    print(f"{added.parents} parents and {added.ensembles} ensembles added to {options.out}{more}")


def _withdraw(options: argparse.Namespace) -> None:
    from ssa.results import recorded

    recorded.withdraw(options.folder, options.parents, options.reason)


def _show(options: argparse.Namespace) -> None:
    import json

    from ssa.files import finite
    from ssa.results import recorded

    print(json.dumps(finite(recorded.show(options.folder, options.child)), indent=1, allow_nan=False))


def _summary(options: argparse.Namespace) -> None:
    from ssa.report.readme import text

    for page in options.pages:
        print(f"{page} {'written' if text.fill(page, Path()) else 'is up to date'}")


def _tracker(options: argparse.Namespace) -> Tracker:
    from ssa.tracking.study_run import StudyFiles
    from ssa.tracking.tracker import Tracker

    loaded, store = _own(options)
    tables = options.tables or Path("paper_tables") / loaded.name
    figures = options.figures or Path("figures") / loaded.name
    return Tracker(loaded, store, StudyFiles(store.study_folder(loaded.name), tables, figures))


def _track(options: argparse.Namespace) -> None:
    tracker = _tracker(options)
    if options.follow:
        from ssa.tracking.follow import follow

        return follow(tracker)
    print(f"{tracker.write()} W&B runs written to {tracker.uploads.folder}: wandb leet {tracker.uploads.folder}")
    if tracker.settings.mode == "online":
        print(f"{tracker.uploads.upload()} of them uploaded")


def _sync(options: argparse.Namespace) -> None:
    tracker = _tracker(options)
    tracker.write()
    print(f"{tracker.uploads.upload()} W&B runs uploaded; every run that is recorded is now there")


def _dashboard(options: argparse.Namespace) -> None:
    from ssa.store.store import Store
    from ssa.study import study
    from ssa.study import wandb as tracking_settings
    from ssa.tracking import dashboard

    loaded = study.load(options.study)
    folder = Store(options.results).study_folder(loaded.name) / "wandb"
    made = dashboard.save(loaded, tracking_settings.resolve(loaded.raw, loaded.name), folder)
    print("\n".join(f"{kind}: {address}" for kind, address in made.items()))


def _diagnose(options: argparse.Namespace) -> None:
    from ssa.analysis.diagnosis import diagnose

    print(diagnose(options.history))


def _report(options: argparse.Namespace) -> None:
    from ssa.report.write import write_report

    write_report(options.results, options.tables, options.figures, options.out, options.threads)
