"""How large a study is, before anything runs."""

from __future__ import annotations

from collections import Counter

from ssa.study.study import Study, all_children, total_epochs, train_images
from ssa.training.models import mega_macs
from ssa.workflow.jobs import plan

TERAFLOPS = 100  # what a Hopper GPU is assumed to sustain in bf16, for estimates alone


def in_one_line(study: Study, workers: int) -> str:
    """Parents, jobs, children, epochs, and where it is known the GPU time, in one line."""
    children = Counter(child.parent for child in study.children)
    parts = ", ".join(f"{count} of {name}" for name, count in children.items())
    hours = gpu_hours(study)
    estimate = f", about {hours:.1f} GPU-hours at {TERAFLOPS} TFLOP/s sustained" if hours else ""
    ensembles = f", {len(study.ensembles)} ensembles" if study.ensembles else ""
    return (
        f"study {study.name}: {len(study.all_parents())} parents, {len(plan(study, workers))} jobs, "
        f"{len(study.children)} children ({parts}){ensembles}, {total_epochs(study)} epochs{estimate}"
    )


def gpu_hours(study: Study) -> float | None:
    """Training FLOPs (three forward passes an image) over an assumed rate; None for models of unknown cost."""
    total = 0.0
    runs = [(spec, spec.recipe) for spec in study.all_parents().values()]
    runs += [(child.parent, child.recipe) for child in all_children(study)]
    for parent, recipe in runs:
        images = train_images(parent.data)
        macs = mega_macs(parent.model, dict(parent.model_options))
        if macs is None or images is None:
            return None
        total += recipe.epochs * images * 3 * 2 * macs * 1e6
    return total / (TERAFLOPS * 1e12) / 3600
