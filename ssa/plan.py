"""How large a study is, before anything runs."""

from __future__ import annotations

from collections import Counter

from ssa.jobs import plan
from ssa.models import MEGA_MACS
from ssa.study import Study, total_epochs, train_images

TERAFLOPS = 100  # what a Hopper GPU is assumed to sustain in bf16, for estimates alone


def summary(study: Study, workers: int) -> str:
    """Parents, jobs, children, epochs, and where it is known the GPU time, in one line."""
    children = Counter(child.parent for child in study.children)
    parts = ", ".join(f"{count} of {name}" for name, count in children.items())
    hours = gpu_hours(study)
    estimate = f", about {hours:.1f} GPU-hours at {TERAFLOPS} TFLOP/s sustained" if hours else ""
    return (
        f"study {study.name}: {len(study.all_parents())} parents, {len(plan(study, workers))} jobs, "
        f"{len(study.children)} children ({parts}), {total_epochs(study)} epochs{estimate}"
    )


def gpu_hours(study: Study) -> float | None:
    """Training FLOPs (three forward passes an image) over an assumed rate; None for models of unknown cost."""
    total = 0.0
    runs = [(spec, spec.recipe) for spec in study.all_parents().values()]
    runs += [(child.spec.parent, child.spec.recipe) for child in study.children]
    for parent, recipe in runs:
        images = train_images(parent.data)
        if parent.model not in MEGA_MACS or images is None:
            return None
        total += recipe.epochs * images * 3 * 2 * MEGA_MACS[parent.model] * 1e6
    return total / (TERAFLOPS * 1e12) / 3600
