"""The ensembles of a study: each entry of its section ``ensembles`` is one ensemble for each seed of its parents."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ssa.errors import UserError
from ssa.specs import settings
from ssa.specs.settings import setting
from ssa.specs.specs import ChildSpec, EnsembleSpec, MaskSpec, Member, ParentSpec
from ssa.training import rates
from ssa.vocabulary import CORRUPTION_SETS

CHILDREN = ("prune-and-tune", "dense-children")
KEPT = {"snapshot": "cosine-cycles", "fge": "fge"}  # members are one parent's weights along such a schedule
# One network that answers several times, by one of these model options.
HEADS = {
    "mc-dropout": ("dropout", "dropout_everywhere"),
    "batch-ensemble": ("batch_ensemble",),
    "mimo": ("mimo",),
}
METHODS = (*CHILDREN, "independent", *KEPT, *HEADS)
STRIDE = 1000  # between the seeds of an independent ensemble's networks: seed, seed + 1000, ...

MakeChild = Callable[[ParentSpec, dict[str, Any], str, str], ChildSpec]


@dataclass(frozen=True)
class EnsembleSettings:
    """The settings of an entry beside those of its children."""

    name: str = setting(meaning="as tables name it")
    method: str = setting(choices=METHODS, meaning="the kind of ensemble")
    parents: str | tuple[str, ...] = setting(meaning="one kind of parents or several, each an ensemble of its own")
    members: int = setting(1, source="PAT", low=1, meaning="how many children or independent networks it has")
    masks: str = setting(
        "random",
        source="PAT",
        choices=("random", "anti-random", "partition"),
        meaning="of children: `random` masks, pairs of opposite ones, or a `partition` of the weights",
    )
    sparsity: float = setting(
        50.0, source="PAT", low=0, below=100, percent=True, meaning="percent of the weights that go in each child"
    )
    tuning: str = setting("one-shot", source="PAT", meaning="the method that fine-tunes its children")
    samples: int = setting(1, low=1, meaning="forward passes through each member, with dropout if more than one")


@dataclass(frozen=True)
class CorruptionSettings:
    """On which corrupted test images the ensembles are scored."""

    set: str = setting(
        choices=tuple(dict.fromkeys(itertools.chain(*CORRUPTION_SETS.values()))), meaning="a named set of corruptions"
    )
    images: int | None = setting(None, low=1, meaning="how many test images are corrupted; null for all")


@dataclass(frozen=True)
class Ensemble:
    """An ensemble in a study: its specification, and the names by which the study's tables know it."""

    spec: EnsembleSpec
    name: str
    parent: str

    @property
    def masks(self) -> str | None:
        """How the members' masks go together: random, anti-random or partition; None if they are not pruned."""
        criteria = {child.mask.criterion for child in self.spec.children} - {"none"}
        return next((name for name in ("anti-random", "partition", "random") if name in criteria), None)


def expand(
    raw: Mapping[str, Any], parents: Mapping[str, tuple[ParentSpec, ...]], make_child: MakeChild, where: str
) -> tuple[Ensemble, ...]:
    """All ensembles of the study ``raw``. ``make_child``: the child of a parent with a block's settings."""
    corruptions: dict[str, Any] = {}
    if raw.get("corruptions"):
        chosen = settings.read(CorruptionSettings, raw["corruptions"], f"{where}corruptions")
        corruptions = {"corruptions": chosen.set, "corrupted_images": chosen.images}
    found: dict[str, Ensemble] = {}
    rows: set[tuple[Any, ...]] = set()
    for i, entry in enumerate(raw.get("ensembles") or []):
        here = f"{where}ensembles[{i}]"
        own, child_values = _read(entry, here)
        for kind in [own.parents] if isinstance(own.parents, str) else own.parents:
            if kind not in parents:
                raise UserError(f"{here}.parents: {kind!r} is not allowed; allowed: {', '.join(parents)}")
            for one in parents[kind]:
                _check_corrupted(corruptions, one, f"{where}corruptions")
                members = tuple(_members(own, one, child_values, make_child, f"{here} ({kind})"))
                spec = EnsembleSpec(own.method, members, one.seed, own.samples, **corruptions)
                row = (own.name, one.data.source, one.model, one.seed)
                if row in rows:
                    raise UserError(f"{here}.name: {own.name!r} is there twice; allowed: once for a data set and model")
                if spec.id in found:
                    raise UserError(f"{here}: the same ensemble as {found[spec.id].name!r}; allowed: each once")
                rows.add(row)
                found[spec.id] = Ensemble(spec, own.name, kind)
    return tuple(found.values())


def _check_corrupted(corruptions: Mapping[str, Any], parent: ParentSpec, where: str) -> None:
    """``UserError`` if the parent's data set has no such corrupted test images, before anything is trained."""
    allowed = CORRUPTION_SETS.get(parent.data.source, ())
    if corruptions and corruptions["corruptions"] not in allowed:
        known = ", ".join(allowed) or "none, leave corruptions out"
        raise UserError(
            f"{where}.set: {corruptions['corruptions']!r} is not allowed; allowed for {parent.data.source}: {known}"
        )


def _read(entry: Any, where: str) -> tuple[EnsembleSettings, dict[str, Any]]:
    """An entry's own settings and those of its children."""
    settings.check_mapping(entry, "a mapping with name, method and parents", where)
    names = settings.names(EnsembleSettings)
    own = settings.read(EnsembleSettings, {key: value for key, value in entry.items() if key in names}, where)
    settings.check_name(own.name, f"{where}.name")
    rest = {key: value for key, value in entry.items() if key not in names}
    if "seed" in rest:
        raise UserError(f"{where}: unknown key 'seed'; each member has its own")
    if own.method not in CHILDREN:
        allowed = {"name", "method", "parents"}
        allowed |= {"independent": {"members"}, "mc-dropout": {"samples"}}.get(own.method, set())
        for key in entry:
            settings.check_key(key, sorted(allowed), f"{where} ({own.method})")
    if own.method == "mc-dropout" and own.samples < 2:
        raise UserError(f"{where}.samples: {own.samples} is not allowed; allowed: int, at least 2 for mc-dropout")
    return own, rest


def _members(
    own: EnsembleSettings, parent: ParentSpec, child_values: dict[str, Any], make_child: MakeChild, where: str
) -> Iterator[Member]:
    if own.method in CHILDREN:
        for number in range(own.members):
            yield Member(_child(own, number, parent, child_values, make_child, where))
    elif own.method == "independent":
        for number in range(own.members):
            yield Member(_another(parent, number, where))
    elif own.method in KEPT:
        if parent.recipe.lr_schedule != KEPT[own.method]:
            raise UserError(f"{where}.parents: they must have lr_schedule: {KEPT[own.method]}")
        for epoch in rates.snapshot_epochs(parent.recipe):
            yield Member(parent, epoch if epoch < parent.recipe.epochs else None)
    else:
        options = HEADS[own.method]
        if not any(dict(parent.model_options).get(option) for option in options):
            raise UserError(f"{where}.parents: they must have model_options with {' or '.join(options)}")
        yield Member(parent)


def _another(parent: ParentSpec, number: int, where: str) -> ParentSpec:
    """The same network and training from another seed, on the same split of the data."""
    if parent.seed >= STRIDE:
        raise UserError(f"{where}.parents: seed {parent.seed} is not allowed; allowed: below {STRIDE} in an ensemble")
    if not number:
        return parent
    split = parent.seed if parent.data.split == "parent" else None
    return dataclasses.replace(parent, seed=parent.seed + number * STRIDE, data_seed=split)


def _child(
    own: EnsembleSettings,
    number: int,
    parent: ParentSpec,
    child_values: dict[str, Any],
    make_child: MakeChild,
    where: str,
) -> ChildSpec:
    """Member ``number``, from 0: each with its own batches; opposite masks have the same seed."""
    dense = own.method == "dense-children"
    if own.masks == "partition" and abs(own.sparsity - (100 - 100 / own.members)) > 0.05:
        raise UserError(
            f"{where}.sparsity: {own.sparsity:g} is not allowed; allowed: {100 - 100 / own.members:.4g}, so that "
            f"{own.members} parts are the whole"
        )
    head = {"method": "dense" if dense else own.tuning, "sparsity": 0.0 if dense else own.sparsity}
    child = make_child(parent, {"score_epochs": (), **child_values, **head, "seed": number}, own.name, where)
    return child if dense else dataclasses.replace(child, mask=_mask(own.masks, child.mask, number))


def _mask(masks: str, mask: MaskSpec, number: int) -> MaskSpec:
    if masks == "anti-random":
        return dataclasses.replace(mask, criterion=("random", "anti-random")[number % 2], seed=number // 2)
    if masks == "partition":
        return dataclasses.replace(mask, criterion="partition", seed=0, part=number)
    return mask
