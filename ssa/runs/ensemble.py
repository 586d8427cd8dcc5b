"""Ensembles: their members trained or fetched one by one, asked together, and scored the moment the last is there."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssa.data.corruptions import sets as corruptions
from ssa.data.splits import Data, Split
from ssa.errors import UserError
from ssa.files import read_tensors, write_tensors
from ssa.method.masks import Mask
from ssa.method.subnetwork import Subnetwork
from ssa.process import progress, provenance
from ssa.process.deadline import Deadline
from ssa.runs import child, corrupted_scores, ensemble_cost, parent
from ssa.runs.ensemble_scores import summarise
from ssa.seeds import seed_layers
from ssa.specs.specs import ChildSpec, EnsembleSpec, ParentSpec
from ssa.store.store import Store, write_record
from ssa.training import scoring, step
from ssa.training.networks.dropout import sampling
from ssa.training.networks.members import Members


@dataclass(frozen=True)
class Environment:
    """Where an ensemble is made: the results, the files of the data sets, the device, and how steps are compiled."""

    store: Store
    data_root: Path
    device: torch.device
    compile: str = "off"


def train(environment: Environment, spec: EnsembleSpec, masks: Mapping[str, Mask], deadline: Deadline) -> bool:
    """Make what is missing of the ensemble, whose parents are trained, and write its logits and record.

    ``masks``: those of its children, by id.

    False if ``deadline`` came first. Members that were trained are kept, for this ensemble and others with the same.
    """
    store, started, clock = environment.store, provenance.now(), time.monotonic()
    making, networks = _Making(environment, spec, masks), []
    with progress.Progress(store.root, spec.parents[0].id, len(spec.members), "member") as bar:
        for number in range(len(spec.members)):
            network = making.network(number, deadline)
            if network is None:
                return False
            networks.append(network)
            bar.update()
    result = _score(environment, spec, making.contents[spec.parents[0].id], networks)
    result["cost"] = ensemble_cost.of(store, spec, networks, making.contents, making.subnetwork)
    runs = {run.id: run.content() for run in (*spec.parents, *spec.children)}
    compiled = step.resolve_compile(environment.compile, environment.device)
    data = making.contents[spec.parents[0].id].digest
    made = {**provenance.of_run(environment.device, started, compiled, data), "seconds": time.monotonic() - clock}
    write_record(store.ensemble_record(spec.id), spec, {"runs": runs, "result": result, "made": made})
    return True


class _Making:
    """Trains or fetches the members of one ensemble. ``contents``: the data of each parent."""

    def __init__(self, environment: Environment, spec: EnsembleSpec, masks: Mapping[str, Mask]) -> None:
        self.environment, self.spec, self.masks = environment, spec, masks
        self.contents = {
            one.id: parent.content_of(one, environment.data_root, environment.device) for one in spec.parents
        }
        self._starts: dict[int | None, child.Start] = {}

    def network(self, number: int, deadline: Deadline) -> nn.Module | None:
        """One member, ready to be asked; None if ``deadline`` came first."""
        run, epoch = self.spec.members[number].run, self.spec.members[number].epoch
        if isinstance(run, ParentSpec):
            return self._load(run, epoch).to(self.environment.device)
        path = self.environment.store.member(run)
        kept = self._kept(path, run) if path.exists() and self.environment.store.recorded(run) else None
        if kept is not None:
            return kept.to(self.environment.device)
        tuned = None if deadline.passed() else deadline.attempt(lambda: self._tune(run, deadline))
        if tuned is not None:
            write_tensors(path, tuned.state_dict(), {"id": run.id})
        return tuned

    def _tune(self, run: ChildSpec, deadline: Deadline) -> nn.Module | None:
        """A child's record is written as that of any other child; of its weights the record says nothing."""
        start = self._start(run)
        trained = child.train(self.environment.store, run, self.masks[run.mask.id], start, deadline)
        return None if trained is None else child.evaluated(run, start, trained)

    def subnetwork(self, run: ChildSpec) -> Subnetwork:
        """A child as it is before its first step."""
        return child.untrained_child(run, self.masks[run.mask.id], self._start(run))

    def _load(self, run: ParentSpec, epoch: int | None) -> nn.Module:
        return parent.load(self.environment.store, run, self.contents[run.id], epoch)

    def _kept(self, path: Path, run: ChildSpec) -> nn.Module | None:
        """A member that was trained before; None if its file is damaged, since it can be trained again."""
        try:
            tensors, metadata = read_tensors(path)
        except UserError as error:
            print(f"{error}; training this member again", file=sys.stderr)
            return None
        if metadata.get("id") != run.id:
            raise UserError(f"{path} holds another network, {metadata.get('id')}; delete it and run again")
        network = parent.untrained(run.parent, self.contents[run.parent.id])
        network.load_state_dict(tensors)
        return network

    def _start(self, run: ChildSpec) -> child.Start:
        """The start that a child shares with its siblings; children of one ensemble have one parent."""
        epoch, environment = run.start_epoch, self.environment
        if epoch not in self._starts:
            network, content = self._load(run.parent, epoch), self.contents[run.parent.id]
            self._starts[epoch] = child.Start(network, content, environment.device, environment.compile)
        return self._starts[epoch]


class _Asked:
    """The members of an ensemble, asked for their logits on a split: (members, n, classes), in the members' order."""

    def __init__(self, spec: EnsembleSpec, networks: list[nn.Module], content: Data) -> None:
        self.spec, self.networks, self.content = spec, networks, content

    def __call__(self, split: Split) -> Tensor:
        split = split.to(self.content.test.images.device)
        return torch.cat([self._answers(network, split) for network in self.networks])

    def _answers(self, network: nn.Module, split: Split) -> Tensor:
        """A member's logits: of each of its heads or, where it is sampled, of each pass."""
        precision = self.spec.parents[0].recipe.precision
        asked = _Heads(network) if isinstance(network, Members) else network
        drops = sampling(network) if self.spec.samples > 1 else nullcontext()
        with drops, torch.random.fork_rng(devices=[split.images.device] if split.images.is_cuda else []):
            seed_layers("dropout samples", self.spec.seed)
            each = [scoring.logits(asked, split, self.content, precision) for _ in range(self.spec.samples)]
        return torch.cat([found if found.dim() == 3 else found[:, None] for found in each], 1).transpose(0, 1)


class _Heads(nn.Module):
    """A network of several members, as one that answers (n, members, classes)."""

    def __init__(self, network: Members) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.member_logits(images).transpose(0, 1)


def _score(environment: Environment, spec: EnsembleSpec, content: Data, networks: list[nn.Module]) -> dict[str, Any]:
    """Scores on the clean and the corrupted test set, from logits rounded as they are kept."""
    ask, ask_parent = _Asked(spec, networks, content), _ask_parent(environment, spec, content)
    kept = {"test": ask(content.test).half(), "test_labels": content.test.labels}
    if len(content.validation):
        kept |= {"validation": ask(content.validation).half(), "validation_labels": content.validation.labels}
    if ask_parent:
        kept["parent"] = ask_parent(content.test).half()
    kept = {name: value.cpu() for name, value in kept.items()}
    write_tensors(environment.store.ensemble_logits(spec.id), kept, {"id": spec.id})
    result = scores_of(kept)
    if spec.corruptions:
        temperatures = {name: entry["temperature"] for name, entry in result["scaled"].items() if entry}
        chosen = (spec.parents[0].data, environment.data_root, content.test, spec.corrupted_images, spec.corruptions)
        corrupted = corruptions.corrupted(*chosen)
        result["corrupted"] = corrupted_scores.summarise_corrupted(ask, corrupted, temperatures, ask_parent)
    return result


def _ask_parent(environment: Environment, spec: EnsembleSpec, content: Data) -> Callable[[Split], Tensor] | None:
    """The logits, (n, classes), of the parent that all members are children of; None for other ensembles."""
    if len(spec.children) < len(spec.members) or len(spec.parents) > 1:
        return None
    network = parent.load(environment.store, spec.parents[0], content).to(environment.device)
    asked = _Asked(spec, [network], content)
    return lambda split: asked(split)[0]


def scores_of(kept: dict[str, Tensor]) -> dict[str, Any]:
    """All scores on the clean test set from the tensors of an ensemble's file of logits."""
    test, parent_logits, validation = kept["test"], kept.get("parent"), kept.get("validation")
    return summarise(
        test.float(),
        kept["test_labels"],
        None if validation is None else validation.float(),
        kept.get("validation_labels"),
        None if parent_logits is None else parent_logits.float(),
    )
