import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from ssa.errors import UserError
from ssa.process import gpus as ssa_gpus
from ssa.process import locks as ssa_locks
from ssa.process import provenance
from ssa.report.outputs import outputs as ssa_outputs
from ssa.results import planned as ssa_planned
from ssa.store.store import Store
from ssa.study import own_tables
from ssa.study import study as ssa_study
from ssa.tracking import follower as ssa_follower
from ssa.workflow import machine as ssa_machine
from ssa.workflow import options as ssa_options
from ssa.workflow import place as ssa_place
from ssa.workflow import size as ssa_size
from ssa.workflow import status as ssa_status
from ssa.workflow.attempts import Attempts
from ssa.workflow.marks import Marks

# Jobs call `python -m ssa` with the interpreter that runs Snakemake, whether or not its environment is activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))


def checked(read, *args, **named):
    """What ``read`` returns, or Snakemake's error with the one line that says what is wrong."""
    try:
        return read(*args, **named)
    except UserError as error:
        raise WorkflowError(str(error))


OPTIONS = checked(ssa_options.read, workflow.config_settings.config)
RECORDED = OPTIONS.recorded
PAPER = Path(workflow.basedir) / "config" / "paper.yaml"
STUDY_FILE = str(checked(ssa_place.study_file, RECORDED, workflow.configfiles, PAPER))
ENSEMBLE_TABLES = ("ensembles", "ensemble_sizes", "ensemble_bins", "corruptions")


study = checked(
    ssa_study.load, Path(STUDY_FILE), data_root=OPTIONS.data_root, children_per_job=OPTIONS.children_per_job
)
store = Store(Path("results"))
PLACE = checked(ssa_place.Folders, study, RECORDED)
if not RECORDED:
    checked(own_tables.check, study, store)
NAME, RESULTS, SOURCE, LOGS = PLACE.name, PLACE.results, PLACE.source, PLACE.logs
HAS_ENSEMBLES = PLACE.has_ensembles
LOCK = Path(RESULTS) / ".lock"
# Tables are made anew where the package's source, or what the study's file says, is not what it was, however old the file.
SOURCE_NOTED, STUDY_NOTED = Path("results/.source"), Path(RESULTS) / ".study"
NOTED = {SOURCE_NOTED: provenance.source()}
if not RECORDED:
    NOTED[STUDY_NOTED] = Path(STUDY_FILE).read_text(encoding="utf-8")
CODE, *SAID = (str(provenance.noted(path, NOTED[path], workflow.snakemake_tmp_dir / path.name)) for path in NOTED)

# On one machine each GPU job leases a GPU or, where --resources gpu=N is more than there are, a share of one. On a
# cluster the scheduler gives each job its own.
LIMITS = workflow.resource_settings
MACHINE = ssa_machine.of(study.device, LIMITS.cores, LIMITS.nodes, workflow.global_resources.get("gpu").value)
GPU = 0 if study.device == "cpu" else 1
if MACHINE.gpus:
    workflow.register_resource("gpu", MACHINE.gpu_jobs)
    os.environ.setdefault(ssa_gpus.SHARES, str(MACHINE.shares))

WORKERS = OPTIONS.workers or MACHINE.workers
ONE_MACHINE = LIMITS.nodes is None and not workflow.remote_exec  # a job on a cluster's node is no machine of its own
MARKS = Marks(study, store, WORKERS, ONE_MACHINE)
ATTEMPTS = Attempts(OPTIONS)
# Which attempt at a job a mark is of, where what an earlier one made was lost: .2, .3, ...
AGAIN = r"(\.\d+)?"


if workflow.is_main_process and not RECORDED:
    logger.info(ssa_size.in_one_line(study, WORKERS))


def data_root(wildcards):
    """The folder of the data sets' files; as a function, since Snakemake takes braces in a text for wildcards."""
    return str(study.data_root)


def before_masks(wildcards):
    return [str(mark) for mark in MARKS.before_masks(wildcards.parent)]


def before_children(wildcards):
    return [str(mark) for mark in MARKS.before_children(wildcards.parent, wildcards.job)]


def before_ensemble(wildcards):
    return [str(mark) for mark in MARKS.before_ensemble(wildcards.ensemble)]


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
    ssa_status.say_while_running(study, Store(store.root), logger.info, ssa_status.log_seconds(sys.stderr))


def newer_records(wildcards):
    """What was recorded after the tables were made."""
    return [str(path) for path in MARKS.newer_records()]


def job_marks(wildcards):
    """The marks of the jobs and ensembles that have anything to do, and of those that were done."""
    return [str(mark) for mark in MARKS.wanted()]


FOLLOWER = None if RECORDED else checked(ssa_follower.of, study, Path(STUDY_FILE), Path(LOGS) / "tracking.log")


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
    plan = checked(ssa_planned.of, study, Path(SOURCE) if RECORDED else None)
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
