"""Children: pruned from their parent, fine-tuned by their law, scored, and written down the moment they are done."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ssa.data.batches import Batches
from ssa.data.splits import Data
from ssa.files import checksum
from ssa.method import laws
from ssa.method.masks import Mask, realised_sparsity
from ssa.method.subnetwork import Subnetwork
from ssa.process import provenance
from ssa.process.deadline import Deadline
from ssa.runs import checkpoints, modules
from ssa.runs.checkpoints import Checkpoint
from ssa.seeds import derive
from ssa.specs.specs import ChildSpec
from ssa.store.store import Store
from ssa.training import gradients, scoring
from ssa.training.loop import Epoch, Training
from ssa.training.scoring import Scores

SPLITS = ("test", "train", "validation")
DRAWS = 8  # of a sampled mask, where accuracy is that of the network as used: one has a spread of 1 to 2 points


@dataclass(frozen=True)
class Start:
    """The start that siblings share: the network, its data, the device and how steps are compiled.

    ``scores``: of the children before their first step, which those of one mask have in common.
    """

    parent: nn.Module
    content: Data
    device: torch.device
    compile: str = "off"
    scores: dict[Hashable, dict[str, Scores]] = dataclasses.field(default_factory=dict)


def train(
    store: Store, spec: ChildSpec, mask: Mask, start: Start, deadline: Deadline | None = None
) -> Subnetwork | None:
    """Fine-tune one child of ``start.parent`` under ``mask``, write its record, and return it.

    A child that was stopped goes on from its checkpoint. None if ``deadline`` came first: a checkpoint then holds
    what was done, if that is worth one.
    """
    deadline = deadline or Deadline()
    child = untrained_child(spec, mask, start)
    seed, parent_recipe = _seed(spec, "batches"), spec.parent.recipe
    training = Training(child, start.content, spec.recipe, seed, spec.resample, parent_recipe, start.compile)
    scorer = _Scorer(spec, start, child, training.batches)
    checkpoint = Checkpoint(store.child_checkpoint(spec), _origin(spec, mask, start))
    run = _Run(**checkpoint.resume(training, spec.recipe.epochs))
    if not run.history:
        run.accuracy_before = scorer.before()
        run.history.append(scorer.row(0, None))
    run.hardware = provenance.hardware(start.device, run.hardware)
    clock = time.monotonic() - run.seconds
    while training.epoch < spec.recipe.epochs:
        tick = time.monotonic()
        epoch = training.run_epoch()  # which has waited for the device: it returns the losses
        run.train_seconds += time.monotonic() - tick
        if epoch.number == spec.recipe.epochs and epoch.diverged_step is None:
            child.at(spec.recipe.epochs)  # lets a re-ranked mask end in its target
        run.history.append(scorer.row(epoch.number, epoch))
        run.diverged_step = epoch.diverged_step
        if run.diverged_step is not None:
            break
        run.seconds = time.monotonic() - clock
        late = run.seconds > checkpoints.SECONDS and deadline.passed() and epoch.number < spec.recipe.epochs
        if late or checkpoint.due():
            checkpoint.save(training, dataclasses.asdict(run))
        if late:
            return None
    result = {
        **scorer.final(training.epoch),
        "accuracy_before": run.accuracy_before,
        **_sparsities(child, start.content.test.images[:1]),
        "train_seconds": run.train_seconds,
        "diverged_step": run.diverged_step,
    }
    origin = provenance.of_run(start.device, run.started, training.ran, start.content.digest, run.hardware)
    made = {**origin, "seconds": time.monotonic() - clock}
    content = {"method": spec.method, "result": result, "history": run.history, "made": made}
    store.record_child(spec, content)
    checkpoint.drop()
    return child


def _origin(spec: ChildSpec, mask: Mask, start: Start) -> dict[str, str]:
    """The origin that a checkpoint of the child must have: the child, and the images, weights and mask of its start."""
    tensors = {**start.parent.state_dict(), **{f"mask {name}": entry for name, entry in mask.items()}}
    return {"id": spec.id, "data": start.content.digest, "start": checksum(tensors)}


@dataclass
class _Run:
    """The record of a child's training so far; times in seconds, accuracy in percent.

    ``hardware``: see :func:`ssa.process.provenance.hardware`.
    """

    started: str = dataclasses.field(default_factory=provenance.now)
    hardware: list[list[str]] = dataclasses.field(default_factory=list)
    accuracy_before: float = math.nan
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    train_seconds: float = 0.0
    seconds: float = 0.0
    diverged_step: int | None = None


def untrained_child(spec: ChildSpec, mask: Mask, start: Start) -> Subnetwork:
    """A fresh child of ``start.parent``, ready to train, in the module of an earlier one where it can be."""
    law = laws.find(spec.law)(**dict(spec.law_args))
    settings: dict[str, Any] = {
        "seed": _seed(spec, "masks"),
        "epochs": spec.recipe.epochs,
        "pruned_weights": spec.pruned_weights,
        "masked_weights": spec.masked_weights,
        "rescale": spec.rescale,
    }
    return modules.subnetwork(spec.parent, start.parent, start.content, mask, law, start.device, **settings)


def evaluated(spec: ChildSpec, start: Start, child: Subnetwork) -> nn.Module:
    """The trained ``child`` as an ordinary network, with the BatchNorm statistics that its primary scores are of."""
    if spec.batchnorm == "running":
        return child.fold()
    batches = Batches(start.content.train, start.content, spec.recipe)
    with scoring.reestimated_batchnorm(child, batches, spec.bn_images, _seed(spec, "batchnorm")):
        return child.fold()


def _seed(spec: ChildSpec, purpose: str) -> int:
    """The same for all methods at one seed of one parent, so that siblings see the same batches."""
    return derive(purpose, spec.parent.seed, spec.seed)


def _sparsities(child: Subnetwork, example: Tensor) -> dict[str, float]:
    """In percent, after asserting that each pruned weight is exactly 0 in the network that is evaluated."""
    plain, mask = child.fold(), child.mask
    folded = dict(plain.named_parameters())
    for name, entry in mask.items():
        if folded[name].masked_fill(entry, 0.0).any():
            raise RuntimeError(f"pruned weights of {name} are not 0 in the network that is evaluated")
    return {
        "realised_sparsity": 100 * realised_sparsity(plain, mask),
        "effective_sparsity": 100 * scoring.effective_sparsity(plain, mask, example),
    }


class _Scorer:
    """Scores one child's target subnetwork, during training and after it."""

    def __init__(self, spec: ChildSpec, start: Start, child: Subnetwork, batches: Batches) -> None:
        self.spec, self.start, self.child, self.batches = spec, start, child, batches
        self.splits = [name for name in SPLITS if len(getattr(start.content, name))]
        self._number, self._known = 0, self._at_first("re-estimated")

    def _at_first(self, batchnorm: str) -> dict[str, Scores]:
        """Scores of the network before its first step that are known: by split, the same for siblings of one mask."""
        spec = self.spec
        return self.start.scores.setdefault((batchnorm, spec.mask.id, spec.seed, spec.bn_images, spec.recipe), {})

    def before(self) -> float:
        """The test accuracy, in percent, before the first step, with the parent's BatchNorm statistics."""
        known = self._at_first("running")
        if "test" not in known:
            known["test"] = self.scores("test")
        return known["test"].accuracy

    def scores(self, split_name: str, network: nn.Module | None = None) -> Scores:
        """Of ``network``, or else of the child's target subnetwork."""
        split = getattr(self.start.content, split_name)
        outputs = scoring.logits(network or self.child, split, self.start.content, self.spec.recipe.precision)
        return scoring.score(outputs, split.labels)

    def _with_batchnorm(self, network: nn.Module) -> AbstractContextManager[None]:
        """Within it, BatchNorm's statistics in ``network`` are re-estimated."""
        return scoring.reestimated_batchnorm(network, self.batches, self.spec.bn_images, _seed(self.spec, "batchnorm"))

    def reestimated(self, number: int, *names: str) -> dict[str, Scores]:
        """With re-estimated BatchNorm after ``number`` epochs, of the splits that have images; each is scored once."""
        if number != self._number:
            self._number, self._known = number, {}
        missing = [name for name in names if name in self.splits and name not in self._known]
        if missing:
            with parametrize.cached(), self._with_batchnorm(self.child):  # each masked weight is computed once
                self._known.update({name: self.scores(name) for name in missing})
        return {name: self._known[name] for name in names if name in self._known}

    def row(self, number: int, epoch: Epoch | None) -> dict[str, Any]:
        """One line of the history; the curves are of the target subnetwork with re-estimated BatchNorm."""
        row: dict[str, Any] = {
            "epoch": number,
            "train_loss": epoch.loss if epoch else None,
            "lr": epoch.lr if epoch else None,
            "keep_pruned": self.child.keep_pruned(float(number)),
            "validation_accuracy": None,
            "test_accuracy": None,
        }
        wanted = self.spec.score_epochs
        scored = wanted is None or number in wanted or number == self.spec.recipe.epochs
        if scored:
            found = self.reestimated(number, "test", "validation")
            row |= {f"{name}_accuracy": scores.accuracy for name, scores in found.items()}
        return row | self._used(number) | self._gradient_noise(float(number), scored)

    def _used(self, number: int) -> dict[str, float | None]:
        """Nothing unless the study asks for it: the mean test accuracy, in percent, of the network as a step uses it.

        Under sampled masks it is that of DRAWS networks, each with BatchNorm re-estimated under its own mask.
        """
        wanted = self.spec.score_used
        if wanted is None:
            return {}
        if number not in wanted:
            return {"test_accuracy_used": None}
        draws = DRAWS if self.child.samples_at(float(number)) else 1
        found = [self._score_used(number, draw) for draw in range(draws)]
        return {"test_accuracy_used": math.fsum(found) / draws}

    def _score_used(self, number: int, draw: int) -> float:
        network = self.child.as_used(float(number), derive("used", _seed(self.spec, "masks"), number, draw))
        with self._with_batchnorm(network):
            return self.scores("test", network).accuracy

    def _gradient_noise(self, time: float, scored: bool) -> dict[str, float | None]:
        """Nothing unless the study asks for it; the same keys at every epoch, without values where not scored."""
        count, seed = self.spec.gradient_batches, _seed(self.spec, "gradients")
        if not count:
            return {}
        noise = gradients.measure_noise(self.child, self.batches, time, count, seed) if scored else gradients.UNKNOWN
        values = dataclasses.asdict(noise).items()
        return {f"gradient_{key}": value if math.isfinite(value) else None for key, value in values}

    def final(self, number: int) -> dict[str, Any]:
        """The scores after the last step, which was in epoch ``number``."""
        if self.spec.batchnorm == "reestimated":
            primary = self.reestimated(number, *self.splits)
        else:
            primary = {name: self.scores(name) for name in self.splits}
        validation = primary.get("validation")
        return {
            "accuracy": primary["test"].accuracy,
            "nll": primary["test"].nll,
            "ece": primary["test"].ece,
            "accuracy_bn": self.reestimated(number, "test")["test"].accuracy,
            "validation_accuracy": validation.accuracy if validation else None,
            "train_loss_clean": primary["train"].nll,
            "train_accuracy_clean": primary["train"].accuracy,
            "finite": primary["test"].finite,
        }
