import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from ssa import jobs as ssa_jobs
from ssa import plan as ssa_plan
from ssa import study as ssa_study
from ssa.errors import UserError
from ssa.store import Store

# Jobs call `python -m ssa` with the interpreter that runs Snakemake, whether or not its environment is activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))


# The study is read from its file, not from Snakemake's config, which would merge two studies into one.
PAPER = os.path.relpath(Path(workflow.basedir) / "config" / "paper.yaml")
STUDY_FILE = str(workflow.configfiles[0] if workflow.configfiles else PAPER)
OVERRIDES = ("data_root", "children_per_job")  # what a profile or --config may set; neither changes a result
FORMATS = ("csv", "md", "tex")
TABLES = ("table1_accuracy", "table2_ablation", "table3_differences")
FIGURES = (
    "accuracy_vs_sparsity",
    "learning_curves",
    "ablation_heatmap",
    "keep_probability",
    "forest_differences",
)


def load_study():
    """The study, or Snakemake's error with the one line that says what is wrong in it."""
    try:
        return ssa_study.load(Path(STUDY_FILE), **{key: config.get(key) for key in OVERRIDES})
    except UserError as error:
        raise WorkflowError(str(error))


def worker_count():
    """How many jobs can run side by side: GPUs where a limit on them is given, else cores or cluster jobs."""
    gpus = workflow.global_resources.get("gpu")
    if study.device != "cpu" and isinstance(gpus, int):
        return gpus
    limits = workflow.resource_settings
    return limits.nodes or limits.cores or 1


study = load_study()
store = Store(Path("results"))
workers = int(config.get("workers") or worker_count())
if workflow.is_main_process:
    logger.info(ssa_plan.summary(study, workers))
ssa_jobs.drop_stale_marks(study, store)

RESULTS = f"results/{study.name}"
LOGS = f"logs/{study.name}"
GPU = 0 if study.device == "cpu" else 1
DATA_ROOT = str(study.data_root)


wildcard_constraints:
    parent=r"[^/]+",
    job=r"\d+-\d+-[0-9a-f]{10}",


def job_marks(wildcards):
    """The marks of the jobs that have anything to do, and of those that were done."""
    return [str(mark) for mark in ssa_jobs.wanted_marks(study, store, workers)]


def page():
    return f"{RESULTS}/report.html"


def tables():
    return expand("paper_tables/{study}/{table}.{format}", study=study.name, table=TABLES, format=FORMATS)


def claims():
    return expand("paper_tables/{study}/claims.{format}", study=study.name, format=("csv", "md"))


def figures():
    return expand("figures/{study}/{figure}.{format}", study=study.name, figure=FIGURES, format=("pdf", "png"))


def modules(*names):
    """Source files whose change makes a result stale."""
    return [f"{workflow.basedir}/ssa/{name}" for name in names]
