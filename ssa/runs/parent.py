"""Parents: trained once for each seed, resumed where they were interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NoReturn

import torch
from torch import nn

from ssa.data import splits
from ssa.data.splits import Data
from ssa.errors import UserError
from ssa.files import read_tensors, write_tensors
from ssa.method.laws import OneShot
from ssa.method.masks import Mask
from ssa.process import progress, provenance
from ssa.process.deadline import Deadline
from ssa.runs import modules
from ssa.runs.checkpoints import Checkpoint
from ssa.seeds import derive
from ssa.specs.specs import ParentSpec
from ssa.store.store import Store, write_record
from ssa.training import models, scoring
from ssa.training.loop import Training


def untrained(spec: ParentSpec, content: Data) -> nn.Module:
    """The parent as it is initialised, on the CPU."""
    channels, size = content.test.images.shape[1], content.test.images.shape[2]
    seed = derive("initialisation", spec.seed)
    model = models.build(spec.model, dict(spec.model_options), channels, content.classes, size, seed)
    return model.to(memory_format=torch.channels_last)


def load(store: Store, spec: ParentSpec, content: Data, epoch: int | None = None) -> nn.Module:
    """The trained parent, or as it was after ``epoch`` epochs, on the CPU.

    ``UserError`` if its file is missing or damaged, or ``content`` is not what it was trained on.
    """
    model = untrained(spec, content)
    path = store.weights(spec.id) if epoch is None else store.early_weights(spec.id, epoch)
    tensors, metadata = read_tensors(path)
    if metadata.get("id") != spec.id:
        raise UserError(f"{path} holds another parent, {metadata.get('id')}; delete it and run again")
    if metadata.get("data", content.digest) != content.digest:
        raise UserError(
            f"the images of data set {spec.data.folder or spec.data.source} are not those that {spec.id} was trained "
            f"on: a file was changed, added or removed; restore it, or delete {store.all_of(spec.id)} to train anew"
        )
    model.load_state_dict(tensors)
    return model


def trained(store: Store, spec: ParentSpec, keep: Iterable[int] = ()) -> bool:
    """Whether the parent's weights, those of the epochs to ``keep`` and its record are there.

    ``UserError`` if the record is damaged.
    """
    if not store.has_parent(spec.id, keep):
        return False
    store.read_parent(spec)
    return True


def train(
    store: Store,
    spec: ParentSpec,
    content: Data,
    device: torch.device,
    deadline: Deadline,
    keep: Collection[int] = (),
    compile: str = "off",
) -> bool:
    """Train the parent and write its weights, then its record; ``keep``: epochs whose weights are written too.

    False if ``deadline`` came first: a checkpoint then holds what was done. ``UserError`` if the parent diverges,
    or was trained before and now comes out as another network.
    """
    started, clock = provenance.now(), time.monotonic()
    network = modules.subnetwork(spec, untrained(spec, content), content, Mask({}), OneShot(), device)
    model, seed = network.module, derive("parent", spec.seed)
    training = Training(network, content, spec.recipe, seed, compile=compile)
    origin = {"id": spec.id, "data": content.digest}
    known, before = store.parent_record(spec.id).exists(), _loss_before(store, spec, content)
    lacking = [epoch for epoch in keep if not (known and store.early_weights(spec.id, epoch).exists())]
    to_pass = [epoch for epoch in lacking if not store.unchecked_weights(spec.id, epoch).exists()]
    checkpoint = Checkpoint(store.checkpoint(spec.id), origin)
    said = checkpoint.resume(training, min(to_pass, default=spec.recipe.epochs))
    earlier, loss = said.get("seconds", 0.0), math.nan
    hardware = provenance.hardware(device, said.get("hardware", ()))
    with progress.Progress(store.root, spec.id, spec.recipe.epochs, "epoch", training.epoch) as bar:
        while training.epoch < spec.recipe.epochs:
            if training.epoch in lacking:
                write_tensors(store.unchecked_weights(spec.id, training.epoch), model.state_dict(), origin)
            epoch = training.run_epoch()
            if epoch.diverged_step is not None:
                raise UserError(f"parent {spec.id} diverged at step {epoch.diverged_step}; lower its lr in the study")
            loss = epoch.loss
            bar.update(f"loss {loss:.3f}")
            late = deadline.passed() and epoch.number < spec.recipe.epochs
            if late or checkpoint.due():
                done = {"seconds": earlier + time.monotonic() - clock, "hardware": hardware}
                checkpoint.save(training, done)
            if late:
                return False
    trained_for = {"train_loss": loss, "train_seconds": earlier + time.monotonic() - clock}
    result = _scores(model, spec, content) | trained_for
    made = provenance.of_run(device, started, training.ran, content.digest, hardware)
    if before not in (None, result["nll"]):
        _refuse_another(store, spec, lacking)
    for number in lacking:
        store.unchecked_weights(spec.id, number).replace(store.early_weights(spec.id, number))
    write_tensors(store.weights(spec.id), model.state_dict(), origin)
    if not known:
        write_record(store.parent_record(spec.id), spec, {"result": result, "made": made})
    checkpoint.drop()
    return True


def _scores(model: nn.Module, spec: ParentSpec, content: Data) -> dict[str, float | None]:
    """The scores of the trained parent on each split."""
    scores = {
        name: scoring.score(scoring.logits(model, split, content, spec.recipe.precision), split.labels)
        for name, split in (("test", content.test), ("validation", content.validation), ("train", content.train))
        if len(split)
    }
    validation = scores.get("validation")
    return {
        "accuracy": scores["test"].accuracy,
        "nll": scores["test"].nll,
        "ece": scores["test"].ece,
        "validation_accuracy": validation.accuracy if validation else None,
        "train_loss_clean": scores["train"].nll,
    }


def _loss_before(store: Store, spec: ParentSpec, content: Data) -> float | None:
    """The test loss of the network that the parent was before, of its weights where masks or children have outlived
    its record; None for a new one.
    """
    if store.parent_record(spec.id).exists():
        return store.read_parent(spec)["result"]["nll"]
    if store.weights(spec.id).exists() and (store.mask_files(spec.id) or store.recorded_children(spec.id)):
        old = load(store, spec, content).to(content.test.images.device)
        return _scores(old, spec, content)["nll"]
    return None


def _refuse_another(store: Store, spec: ParentSpec, lacking: Iterable[int]) -> NoReturn:
    """``UserError``: a parent that was trained again, for files that it lacks, is not the one that it was."""
    for path in (store.checkpoint(spec.id), *(store.unchecked_weights(spec.id, epoch) for epoch in lacking)):
        path.unlink(missing_ok=True)
    raise UserError(
        f"parent {spec.id} was trained again and came out as another network (on other hardware, or with other "
        "versions or threads): its children would not be comparable. Train it where it was trained, or delete "
        f"{store.all_of(spec.id)} and start it over"
    )


def content_of(spec: ParentSpec, data_root: Path, device: torch.device) -> Data:
    """The parent's data set on ``device``."""
    return splits.load(spec.data, data_root, spec.seed, spec.data_seed).to(device)
