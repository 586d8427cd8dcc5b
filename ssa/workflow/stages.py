"""The stages that train: a job of the workflow is one call, or several."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar

from ssa.errors import UserError
from ssa.process import devices, gpus, locks, memory
from ssa.process.deadline import Deadline
from ssa.store.store import Store
from ssa.study.blocks import Child
from ssa.study.study import Study, all_children

if TYPE_CHECKING:
    import torch

    from ssa.data.splits import Data
    from ssa.method.masks import Mask
    from ssa.specs.specs import ChildSpec, DataSpec, EnsembleSpec

T = TypeVar("T")


def train_parent(study: Study, store: Store, parent_id: str, deadline: Deadline | None = None) -> bool:
    """Train one parent and write its weights and record; False if ``deadline`` came first."""
    from ssa.runs import parent as parents

    spec = study.parent(parent_id)
    keep = study.start_epochs_of(parent_id)
    if parents.trained(store, spec, keep):
        return True
    deadline = deadline or Deadline()
    if deadline.passed():
        return False
    device = choose_device(study)
    lock = store.parent_folder(parent_id) / ".lock"  # another study may train it right now

    def attempt() -> bool:
        with locks.one_at_a_time(lock, parent_id, deadline.passed) as mine:
            if not mine:
                return False
            if parents.trained(store, spec, keep):
                return True
            content = parents.content_of(spec, study.data_root, device)
            return parents.train(store, spec, content, device, deadline, keep, study.compile)

    return with_room(attempt, parent_id)  # which lets go of the lock before it waits for the GPU


def write_masks(study: Study, store: Store, parent_id: str) -> None:
    """Write all masks that the study's children of one parent need, members of ensembles included."""
    import torch

    from ssa.runs import masks as masking
    from ssa.runs import parent as parents

    spec, wanted = study.parent(parent_id), study.masks_of(parent_id)
    content = parents.content_of(spec, study.data_root, torch.device("cpu"))
    model = parents.load(store, spec, content)
    masks = {mask.id: masking.make(model, mask, spec.seed, content) for mask in wanted}
    masking.write(store.masks(parent_id, wanted), spec, masks)


def train_children(
    study: Study, store: Store, parent_id: str, children: Sequence[Child], deadline: Deadline | None = None
) -> int:
    """Train those of ``children`` that are not recorded; returns how many ``deadline`` left undone.

    A child that a warning cuts short is trained anew by the next attempt, or from its checkpoint if it takes long.
    """
    recorded = store.recorded_children(parent_id)
    pending = [child for child in children if child.spec.id not in recorded]
    if not pending:
        return 0
    for child in pending:
        if lost := store.records(parent_id).damaged.get(child.spec.id):
            print(f"the record of {child.spec.id} is damaged ({lost}); training it again", file=sys.stderr)
    deadline = deadline or Deadline()
    from ssa.process import progress
    from ssa.runs import checkpoints
    from ssa.runs import child as child_training
    from ssa.runs import parent as parents

    if not ready(study, store, parent_id, deadline):
        return len(pending)
    spec, device = study.parent(parent_id), choose_device(study)
    content = parents.content_of(spec, study.data_root, device)
    starts = {
        epoch: child_training.Start(parents.load(store, spec, content, epoch), content, device, study.compile)
        for epoch in {child.spec.start_epoch for child in pending}
    }
    for child in children:
        if child.spec.id in recorded:
            store.check_data(parent_id, store.records(parent_id).read(child.spec.id), content.digest)
            store.child_checkpoint(child.spec).unlink(missing_ok=True)  # of a process killed right after its record
    masks = _read_masks(study, store, [child.spec for child in pending])
    longest = 0.0
    with progress.Progress(store.root, parent_id, len(pending), "child") as bar:
        for done, child in enumerate(pending):
            started = time.monotonic()
            start = starts[child.spec.start_epoch]
            train = partial(child_training.train, store, child.spec, masks[child.spec.mask.id], start, deadline)
            ahead = 1.2 * longest if longest < checkpoints.SECONDS else 0.0  # else it can stop at any epoch
            if deadline.passed(ahead) or deadline.attempt(partial(with_room, train, child.spec.id)) is None:
                return len(pending) - done
            longest = max(longest, time.monotonic() - started)
            bar.update()
    return 0


def train_all_of(
    study: Study, store: Store, parent_id: str, children: Sequence[Child], ensembles: Sequence[str], deadline: Deadline
) -> int:
    """The same, and then the ``ensembles`` with these ids; returns how many children or ensembles are left undone."""
    left = train_children(study, store, parent_id, children, deadline)
    return left or sum(not train_ensemble(study, store, one, deadline) for one in ensembles)


def train_ensemble(study: Study, store: Store, ensemble_id: str, deadline: Deadline | None = None) -> bool:
    """Train what is missing of one ensemble and score it; False if ``deadline`` came first.

    A member that several of the study's ensembles have is trained once, unless two of them are made side by side.
    """
    spec = study.ensemble(ensemble_id).spec
    if store.ensemble_record(spec.id).exists():
        store.read_ensemble(spec)
    elif not _make_ensemble(study, store, spec, deadline or Deadline()):
        return False
    _drop_members(study, store, spec.children)
    return True


def _make_ensemble(study: Study, store: Store, spec: EnsembleSpec, deadline: Deadline) -> bool:
    for parent in spec.parents:
        if not ready(study, store, parent.id, deadline):
            return False
    from ssa.runs import ensemble

    masks = _read_masks(study, store, spec.children)
    environment = ensemble.Environment(store, study.data_root, choose_device(study), study.compile)
    return with_room(lambda: ensemble.train(environment, spec, masks, deadline), spec.id)


def _drop_members(study: Study, store: Store, children: Sequence[ChildSpec]) -> None:
    """Remove the weights of ``children`` that no unfinished ensemble of the study asks."""
    unfinished = [one.spec for one in study.ensembles if not store.ensemble_record(one.spec.id).exists()]
    asked = {child.id for spec in unfinished for child in spec.children}
    for child in children:
        if child.id not in asked:
            store.member(child).unlink(missing_ok=True)


def with_room(train: Callable[[], T], name: str) -> T:
    """The result of ``train``. If GPU memory runs out it is tried once more, with the GPU to itself."""
    import torch

    try:
        return train()
    except torch.OutOfMemoryError:
        print(f"{name}: out of GPU memory; waiting to have the GPU alone, then once more", file=sys.stderr)
    gpus.have_alone()
    torch.cuda.empty_cache()
    try:
        return train()
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{name} needs more memory than its GPU has, even alone ({str(error).splitlines()[0]}); "
            "lower its batch_size in the study, or use a larger GPU"
        ) from error


def ready(study: Study, store: Store, parent_id: str, deadline: Deadline) -> bool:
    """Make the parent and its masks if they are missing; False if ``deadline`` came first."""
    if not train_parent(study, store, parent_id, deadline):
        return False
    wanted = study.masks_of(parent_id)
    if wanted and not store.masks(parent_id, wanted).exists():
        write_masks(study, store, parent_id)
    return True


def _read_masks(study: Study, store: Store, children: Sequence[ChildSpec]) -> dict[str, Mask]:
    """The masks, by id, of ``children`` of one parent that is ready."""
    if not children:
        return {}
    from ssa.runs import masks as masking

    parent = children[0].parent
    path = store.masks(parent.id, study.masks_of(parent.id))
    return masking.read(path, parent, [child.mask for child in children])


def run(
    study: Study,
    store: Store,
    seeds: Sequence[int] | None,
    deadline: Deadline,
    kinds: Sequence[str] | None = None,
) -> int:
    """Parent by parent, each with its masks and children, then ensembles, until ``deadline``.

    Of all ``kinds`` of parents and ``seeds``, or those named. Returns how many children, ensembles and parents are left
    undone.
    """
    for kind in kinds or ():
        if kind not in study.parents:
            raise UserError(f"{study.path} has no parents {kind!r}; allowed: {', '.join(study.parents)}")
    chosen = {kind: specs for kind, specs in study.parents.items() if kinds is None or kind in kinds}
    there = sorted({spec.seed for specs in chosen.values() for spec in specs})
    for seed in seeds or ():
        if seed not in there:
            raise UserError(f"{study.path} has no parent of seed {seed} there; allowed: {', '.join(map(str, there))}")
    parents = [spec.id for specs in chosen.values() for spec in specs if seeds is None or spec.seed in seeds]
    left = sum(train_children(study, store, key, study.children_of(key), deadline) for key in parents)
    for ensemble in study.ensembles:
        if ensemble.parent in chosen and (seeds is None or ensemble.spec.seed in seeds):
            left += not train_ensemble(study, store, ensemble.spec.id, deadline)
    for key in parents:  # whose children were all there, or that have none
        if not store.parent_record(key).exists():
            left += not train_parent(study, store, key, deadline)
    return left


def fetch_data(study: Study) -> None:
    """Load every data set of the study and say what is in it; build every network once and ask it.

    What fails is said before any job.

    Corrupted test sets that cannot be fetched are generated by the ensembles that are scored on them.
    """
    import torch

    from ssa.data import splits
    from ssa.runs import parent as parents
    from ssa.training import models

    loaded: dict[DataSpec, Data] = {}
    built = set()
    for spec in study.all_parents().values():
        if spec.data not in loaded:
            loaded[spec.data] = parents.content_of(spec, study.data_root, torch.device("cpu"))
            print(splits.describe(spec.data, loaded[spec.data]))
        content = loaded[spec.data]
        if (kind := (spec.data, spec.model, spec.model_options)) not in built:
            models.check_takes(parents.untrained(spec, content), spec.model, content.test.images[:1])
            built.add(kind)
    for source in dict.fromkeys(e.spec.parents[0].data.source for e in study.ensembles if e.spec.corruptions):
        from ssa.data.corruptions import official

        if reason := official.fetch(source, study.data_root):
            print(f"corrupted test images of {source} are generated: {reason}", file=sys.stderr)


def choose_device(study: Study) -> torch.device:
    """The study's device; ``UserError`` if it asks for a GPU and there is none, or none that can be used."""
    device = devices.choose(study.device, str(study.path))
    recipes = [spec.recipe for spec in study.all_parents().values()] + [spec.recipe for spec in all_children(study)]
    if device.type == "cuda" and any(recipe.precision == "bf16" for recipe in recipes):
        _warn_of_emulation(device)
    return device


@cache
def _warn_of_emulation(device: torch.device) -> None:
    """Say it once for a process, before hours of it."""
    from ssa.training import bf16

    if not bf16.has_units(device):
        print(
            "this GPU has no bf16 units and is several times slower in bf16 than in fp32; "
            "set precision: fp32 in the study",
            file=sys.stderr,
        )


def use_threads(count: int) -> None:
    """Train on ``count`` CPU threads from now on: more would make parallel jobs fight for the cores.

    Memory that one training step frees is kept for the next.
    """
    memory.keep_freed()
    os.environ["OMP_NUM_THREADS"] = str(count)
    import torch

    torch.set_num_threads(count)
