"""The command line: every stage by hand. The workflow calls nothing else."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssa.errors import UserError

if TYPE_CHECKING:
    from ssa.store import Store
    from ssa.study import Study

Command = Callable[[argparse.Namespace], "int | None"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a mistake of the user's prints one line and returns 2."""
    options = parser().parse_args(argv)
    try:
        return options.command(options) or 0
    except UserError as error:
        message = str(error)
    except FileNotFoundError as error:
        message = f"{error.filename} is missing; run the stage that writes it first (ssa --help lists them)"
    print(f"ssa: {message}", file=sys.stderr)
    return 2


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="ssa", description="Stochastic Subnetwork Annealing, stage by stage.")
    stages = top.add_subparsers(required=True, metavar="STAGE")

    def stage(name: str, command: Command, text: str, *, study: bool = True) -> argparse.ArgumentParser:
        sub = stages.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        if study:
            sub.add_argument("study", type=Path, help="a study's YAML file, such as config/demo.yaml")
            sub.add_argument("--results", type=Path, default=Path("results"), help="results folder (default: results)")
        return sub

    def training(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
        sub.add_argument("--data-root", type=Path, help="folder of the data sets' files (default: the study's)")

    plan = stage("plan", _plan, "check a study and print its size")
    plan.add_argument("--workers", type=int, default=1, help="cores or GPUs to balance jobs over (default: 1)")
    plan.add_argument("--jobs", action="store_true", help="list the jobs too")
    fetch = stage("data", _data, "download and check the data sets of a study")
    parent = stage("parent", _parent, "train one parent")
    masks = stage("masks", _masks, "write all masks of one parent")
    children = stage("children", _children, "train the children of one job")
    run = stage("run", _run, "train parent by parent without Snakemake, within a time budget")
    for sub in (parent, masks, children):
        sub.add_argument("--parent", required=True, help="the parent's id, as ssa plan lists it")
    children.add_argument("--job", help="START-STOP-DIGEST, as in ssa plan --jobs (default: all of the parent's)")
    children.add_argument("--done", type=Path, help="a file to touch when all of the job's children are recorded")
    run.add_argument("--parents", type=int, nargs="+", metavar="SEED", help="parent seeds to run (default: all)")
    run.add_argument("--budget", type=float, default=math.inf, metavar="SECONDS", help="start nothing after this long")
    for sub in (fetch, parent, masks, children, run):
        training(sub)
    stage("aggregate", _aggregate, "collect the records of a study into children.csv and its companions")
    for name, command, text in (
        ("tables", _tables, "write the tables of a study"),
        ("claims", _claims, "write the verdict on each claim"),
        ("figures", _figures, "draw the figures of a study"),
    ):
        sub = stage(name, command, text, study=False)
        sub.add_argument("results", type=Path, help="the study's results, such as results/demo")
        sub.add_argument("--out", type=Path, required=True, help="folder to write into")
    diagnose = stage("diagnose", _diagnose, "name the failure signatures in a study's record", study=False)
    diagnose.add_argument("history", type=Path, help="the study's history, such as results/demo/history.parquet")
    report = stage("report", _report, "write the study's page", study=False)
    report.add_argument("results", type=Path, help="the study's results, such as results/demo")
    report.add_argument("--tables", type=Path, required=True, help="folder that ssa tables and ssa claims wrote")
    report.add_argument("--figures", type=Path, required=True, help="folder that ssa figures wrote")
    report.add_argument("--out", type=Path, required=True, help="the page to write")
    return top


def _plan(options: argparse.Namespace) -> None:
    from ssa import jobs, plan, study

    loaded = study.load(options.study)
    print(plan.summary(loaded, options.workers))
    if options.jobs:
        for job in jobs.plan(loaded, options.workers):
            print(f"{job.parent_id} {job.name}")


def _training(options: argparse.Namespace) -> tuple[Study, Store]:
    from ssa import jobs, study
    from ssa.store import Store

    jobs.use_threads(options.threads)
    return study.load(options.study, data_root=options.data_root), Store(options.results)


def _data(options: argparse.Namespace) -> None:
    from ssa import jobs

    jobs.fetch_data(_training(options)[0])


def _parent(options: argparse.Namespace) -> None:
    from ssa import jobs

    jobs.train_parent(*_training(options), options.parent)


def _masks(options: argparse.Namespace) -> None:
    from ssa import jobs

    jobs.write_masks(*_training(options), options.parent)


def _children(options: argparse.Namespace) -> None:
    from ssa import jobs, study
    from ssa.store import Store

    loaded, store = study.load(options.study, data_root=options.data_root), Store(options.results)
    children = jobs.children_of(loaded, options.parent, options.job)
    if not all(store.recorded(child.spec) for child in children):
        jobs.use_threads(options.threads)
    jobs.train_children(loaded, store, options.parent, children)
    if options.done:
        options.done.parent.mkdir(parents=True, exist_ok=True)
        options.done.touch()


def _run(options: argparse.Namespace) -> int:
    from ssa import jobs

    study, store = _training(options)
    left = jobs.run(study, store, options.parents, options.budget)
    print(f"{left} children left: run the same command again to go on" if left else "all children are recorded")
    return 3 if left else 0


def _aggregate(options: argparse.Namespace) -> None:
    from ssa import study
    from ssa.aggregate import aggregate
    from ssa.store import Store

    aggregate(study.load(options.study), Store(options.results))


def _tables(options: argparse.Namespace) -> None:
    from ssa.tables import write_tables

    write_tables(options.results, options.out)


def _claims(options: argparse.Namespace) -> None:
    from ssa.claims import write_claims

    write_claims(options.results, options.out)


def _figures(options: argparse.Namespace) -> None:
    from ssa.figures import write_figures

    write_figures(options.results, options.out)


def _diagnose(options: argparse.Namespace) -> None:
    from ssa.diagnosis import diagnose

    print(diagnose(options.history))


def _report(options: argparse.Namespace) -> None:
    from ssa.report import write_report

    write_report(options.results, options.tables, options.figures, options.out)
