import math
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from ssa.errors import UserError
from ssa.files import digest
from ssa.process import gpus as ssa_gpus
from ssa.process import locks as ssa_locks
from ssa.process import provenance
from ssa.report.outputs import outputs as ssa_outputs
from ssa.results import planned as ssa_planned
from ssa.store.store import Store
from ssa.study import own_tables
from ssa.study import study as ssa_study
from ssa.study import wandb as ssa_tracking
from ssa.tracking.follower import Follower
from ssa.workflow import options as ssa_options
from ssa.workflow import size as ssa_size
from ssa.workflow import status as ssa_status
from ssa.workflow.marks import Marks

# Jobs call `python -m ssa` with the interpreter that runs Snakemake, whether or not its environment is activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))


def checked(read, *args, **named):
    """What ``read`` returns, or Snakemake's error with the one line that says what is wrong."""
    try:
        return read(*args, **named)
    except UserError as error:
        raise WorkflowError(str(error))


# The study is read from its file, not from Snakemake's config, which would merge two studies into one.
PAPER = os.path.relpath(Path(workflow.basedir) / "config" / "paper.yaml")
OPTIONS = checked(ssa_options.read, workflow.config_settings.config)
RECORDED = OPTIONS.recorded
if RECORDED:
    STUDY_FILE = f"recorded/{RECORDED}/study.yaml"
else:
    if len(workflow.configfiles) > 1:
        raise WorkflowError("one study at a time: give one --configfile")
    STUDY_FILE = os.path.relpath(workflow.configfiles[0]) if workflow.configfiles else PAPER
ENSEMBLE_TABLES = ("ensembles", "ensemble_sizes", "ensemble_bins", "corruptions")


def share_gpus():
    """On one machine: as many GPU jobs at a time as there are GPUs, or as --resources gpu=N says; returns how many.

    Each job leases a GPU, or where N is larger a share of one. On a cluster the scheduler gives each job its own.
    """
    limit = workflow.global_resources.get("gpu").value
    if workflow.resource_settings.nodes is None and study.device != "cpu":
        gpus = len(ssa_gpus.devices())
        if limit is None and gpus:
            workflow.register_resource("gpu", gpus)
        limit = limit or gpus
        os.environ.setdefault(ssa_gpus.SHARES, str(max(1, math.ceil(limit / max(gpus, 1)))))
    return limit


def worker_count():
    """How many jobs can run side by side: GPUs where there are any or a limit is given, else cores or cluster jobs."""
    gpus = share_gpus()
    limits = workflow.resource_settings
    return (study.device != "cpu" and gpus) or limits.nodes or limits.cores or 1


study = checked(
    ssa_study.load, Path(STUDY_FILE), data_root=OPTIONS.data_root, children_per_job=OPTIONS.children_per_job
)
store = Store(Path("results"))
counted = worker_count()
workers = OPTIONS.workers or counted
# Not where an executor sends jobs elsewhere, nor there.
ONE_MACHINE = workflow.resource_settings.nodes is None and not workflow.remote_exec
MARKS = Marks(study, store, workers, ONE_MACHINE)

if RECORDED == study.name:
    raise WorkflowError(
        f"recorded/{RECORDED} is named as its study, whose tables it would overwrite; rename the folder"
    )
if not RECORDED:
    checked(own_tables.check, study, store)
NAME = RECORDED or study.name
RESULTS = f"results/{NAME}"
SOURCE = f"recorded/{RECORDED}" if RECORDED else RESULTS  # where children.csv and its companions lie
# A record has only the ensembles that were finished when it was made.
HAS_ENSEMBLES = Path(f"{SOURCE}/ensembles.csv").exists() if RECORDED else bool(study.ensembles)
LOGS = f"logs/{NAME}"
GPU = 0 if study.device == "cpu" else 1
DATA_ROOT = str(study.data_root)
# Named after what it stands for, and never out of date: Snakemake forgets the jobs behind one that runs again where
# its output is ancient() to the next.
DATA_SETS = sorted({str(parent.data) for parent in study.all_parents().values()})
DATA_MARK = f"data-{digest([DATA_ROOT, *DATA_SETS])}"
LOCK = Path(RESULTS) / ".lock"
# Holds the digest of the package's source: what the package wrote is made anew where that has changed.
NOTED = Path("results/.source")
# Which attempt at a job a mark is of, where what an earlier one made was lost: .2, .3, ...
AGAIN = r"(\.\d+)?"


def code():
    """The file that holds the digest of the package's source; a new one of Snakemake's own where it holds another.

    Who only looks sees what would be made anew, and leaves the file of the results as it is; who runs notes the source
    as the run starts, so that it is older than what is made of it.
    """
    if provenance.is_noted(NOTED):
        return str(NOTED)
    changed = workflow.snakemake_tmp_dir / "source"
    provenance.note_source(changed)
    return str(changed)


CODE = code()

if workflow.is_main_process and not RECORDED:
    logger.info(ssa_size.summary(study, workers))


def training_memory(wildcards, attempt):
    """MB for a job that trains; more at each attempt."""
    return attempt * 8000


def parent_minutes(wildcards, attempt):
    """A parent is saved as it goes: what one attempt does not finish, the next does."""
    return attempt * OPTIONS.minutes_per_parent


def children_minutes(wildcards, attempt):
    """Minutes for all children of a job, which its name counts, and a quarter of an hour to begin with."""
    start, stop = map(int, wildcards.job.split("-")[:2])
    return attempt * (15 + (stop - start) * OPTIONS.minutes_per_child)


def ensemble_minutes(wildcards, attempt):
    """A member that was trained is kept: what one attempt does not finish, the next does."""
    return attempt * OPTIONS.minutes_per_ensemble


def ancient_files(paths):
    return [ancient(str(path)) for path in paths]


def before_masks(wildcards):
    return ancient_files(MARKS.before_masks(wildcards.parent))


def before_children(wildcards):
    return ancient_files(MARKS.before_children(wildcards.parent, wildcards.job))


def before_ensemble(wildcards):
    return ancient_files(MARKS.before_ensemble(wildcards.ensemble))


def ensembles_too(wildcards):
    return "--ensembles" if MARKS.makes_all(wildcards.parent, wildcards.job) else ""


def lock_study():
    """Refuse a second run of the study; unlike Snakemake's own lock, this one goes with the process, even if killed."""
    locks.append(checked(ssa_locks.only_one, LOCK, f"study {study.name}"))


locks = []


wildcard_constraints:
    parent=r"[^/]+-[0-9a-f]{10}",
    job=r"\d+-\d+-[0-9a-f]{10}",
    ensemble=r"[^/]+-[0-9a-f]{10}",
    again=AGAIN,


def say_how_far():
    """A line with what is done, what runs and the time left: every 10 seconds on a terminal, every minute in a log."""
    if RECORDED:
        logger.info(f"recorded/{RECORDED}: its tables, figures and page are made; nothing is trained")
        return
    logger.info(f"To watch the study from elsewhere: ssa status {os.path.relpath(STUDY_FILE)} --watch")
    every = 10.0 if sys.stderr.isatty() else ssa_status.LINE_SECONDS
    ssa_status.say_while_running(study, Store(store.root), logger.info, every)


def newer_records(wildcards):
    """What was recorded after the tables were made."""
    return [str(path) for path in MARKS.newer_records()]


def job_marks(wildcards):
    """The marks of the jobs and ensembles that have anything to do, and of those that were done."""
    return [str(mark) for mark in MARKS.wanted()]


def follower():
    """What logs the study to W&B while it runs; None where that is disabled, or nothing is trained."""
    if RECORDED:
        return None
    mode = checked(ssa_tracking.resolve, study.raw, study.name).mode
    return None if mode == "disabled" else Follower(Path(STUDY_FILE), Path(LOGS) / "tracking.log")


FOLLOWER = follower()


def start_following():
    if FOLLOWER:
        FOLLOWER.start()


def finish_following():
    """Let the runs of what was recorded last be written; a failure is said, and is no reason to fail."""
    said = FOLLOWER.finish() if FOLLOWER else ""
    if said:
        logger.warning(said)


def page(wildcards=None):
    return f"{RESULTS}/report.html"


def ensemble_results():
    """What is collected from the records of ensembles, where the study has any."""
    return expand("{folder}/{table}.csv", folder=SOURCE, table=ENSEMBLE_TABLES if HAS_ENSEMBLES else ())


def shown():
    """All that the study's results are shown in, with captions where Snakemake's report shows it too."""
    plan = ssa_planned.of(study, Path(SOURCE) if RECORDED else None)
    reported = report  # a line that begins with the word itself is a statement of Snakemake's
    return [
        (
            reported(one.path, caption=caption_file(one), category=one.category, labels=dict(one.labels))
            if one.caption
            else one.path
        )
        for one in ssa_outputs(NAME, page(), plan)
    ]


def caption_file(output):
    """The file that Snakemake reads the caption from, anew in a folder of its own; who only looks leaves no other."""
    path = workflow.snakemake_tmp_dir / "captions" / f"{Path(output.path).name}.rst"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{output.caption}\n", encoding="utf-8")
    return str(path)


def tables_folder(wildcards):
    return f"paper_tables/{NAME}"


def figures_folder(wildcards):
    return f"figures/{NAME}"
