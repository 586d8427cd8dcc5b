"""A study: one YAML file, read, checked and expanded into parents and children."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ssa.errors import UserError
from ssa.specs import settings, yaml_files
from ssa.specs.settings import setting
from ssa.specs.specs import ChildSpec, DataSpec, MaskSpec, ParentSpec, Recipe
from ssa.study import blocks, law_source, questions
from ssa.study import ensembles as ensemble_study
from ssa.study import wandb as tracking_settings
from ssa.study.blocks import Child
from ssa.study.claims import ssa_settings, tuned, validate_claims
from ssa.study.ensembles import Ensemble
from ssa.study.methods import CATALOGUE, Method
from ssa.training import models, rates
from ssa.vocabulary import COMPILE, DEVICES

SECTIONS = (
    *("name", "title", "question", "regime", "demonstration"),
    *("device", "compile", "data_root", "children_per_job", "wandb"),
    *("datasets", "parents", "methods", "children", "blocks", "ensembles", "corruptions"),
    *("claims", "findings", "provenance", "assumptions", "deviations"),
)
MAPPINGS = ("datasets", "parents", "methods", "children", "corruptions", "claims", "provenance")
NAMING = ("datasets", "parents", "methods")  # mappings whose keys are the study's own names
TEXTS = ("title", "question", "regime")
LISTS = ("blocks", "ensembles", "assumptions", "deviations")
FOLDERS = ("parents", "children", "ensembles", "members")  # of results/, which all studies share


@dataclass(frozen=True)
class ParentSettings:
    """One kind of parent, of which a study trains one for each seed."""

    dataset: str = setting(meaning="one of `datasets`, by name")
    model: str = setting(meaning="a built-in model, `timm/<name>`, or the import path of one of your own")
    seeds: tuple[int, ...] = setting(low=0, meaning="one parent is trained for each")


@dataclass(frozen=True)
class Study:
    """A checked and expanded study."""

    name: str
    path: Path
    raw: Mapping[str, Any]
    parents: dict[str, tuple[ParentSpec, ...]]
    children: tuple[Child, ...]
    ensembles: tuple[Ensemble, ...] = ()

    @property
    def device(self) -> str:
        """Where it runs: auto (a GPU where there is one), cpu or cuda."""
        return str(self.raw.get("device", "auto"))

    @property
    def compile(self) -> str:
        """How training steps are compiled: auto (on a GPU), off, default or reduce-overhead (CUDA graphs)."""
        return str(self.raw.get("compile", "auto"))

    @property
    def data_root(self) -> Path:
        """The folder of the data sets' files."""
        return Path(self.raw.get("data_root") or "data").expanduser()

    def all_parents(self) -> dict[str, ParentSpec]:
        """Every parent by id, in the study's order; those that are in ensembles alone come after their kind's own."""
        return {spec.id: spec for specs in self.parents.values() for spec in specs}

    def parent(self, parent_id: str) -> ParentSpec:
        """The parent with this id; ``UserError`` if the study has none."""
        parents = self.all_parents()
        if parent_id not in parents:
            raise UserError(f"{self.path} has no parent {parent_id!r}; ssa plan --jobs lists them")
        return parents[parent_id]

    def ensemble(self, ensemble_id: str) -> Ensemble:
        """The ensemble with this id; ``UserError`` if the study has none."""
        for ensemble in self.ensembles:
            if ensemble.spec.id == ensemble_id:
                return ensemble
        raise UserError(f"{self.path} has no ensemble {ensemble_id!r}; ssa plan --jobs lists them")

    def children_of(self, parent_id: str) -> tuple[Child, ...]:
        """The children of one parent, those of one mask side by side."""
        return self._families.get(parent_id, ())

    @cached_property
    def _families(self) -> dict[str, tuple[Child, ...]]:
        return _by_parent(sorted(self.children, key=lambda child: (child.spec.mask.id, child.spec.id)))

    def members_of(self, parent_id: str) -> tuple[Child, ...]:
        """The :attr:`members` that are children of one parent."""
        return self._member_families.get(parent_id, ())

    @cached_property
    def _member_families(self) -> dict[str, tuple[Child, ...]]:
        return _by_parent(self.members)

    @cached_property
    def members(self) -> tuple[Child, ...]:
        """The children that ensembles alone train, each once, under the name of the first ensemble that has it."""
        known = {child.spec.id for child in self.children}
        found: dict[str, Child] = {}
        for ensemble in self.ensembles:
            for spec in ensemble.spec.children:
                found.setdefault(spec.id, Child(spec, ensemble.name, ensemble.parent, False))
        return tuple(member for name, member in found.items() if name not in known)

    def of_parents(self, parent_ids: Collection[str]) -> Study:
        """The part of the study that these parents and their children are."""
        parents = {kind: tuple(spec for spec in specs if spec.id in parent_ids) for kind, specs in self.parents.items()}
        children = tuple(child for child in self.children if child.spec.parent.id in parent_ids)
        ensembles = tuple(e for e in self.ensembles if all(spec.id in parent_ids for spec in e.spec.parents))
        return dataclasses.replace(self, parents=parents, children=children, ensembles=ensembles)

    def start_epochs_of(self, parent_id: str) -> set[int]:
        """The epochs of one parent that children are rewound to, and those at which it is a member of an ensemble."""
        wanted = {child.spec.start_epoch for child in self.children_of(parent_id)}
        for ensemble in self.ensembles:
            wanted |= {child.start_epoch for child in ensemble.spec.children if child.parent.id == parent_id}
            wanted |= {member.epoch for member in ensemble.spec.members if member.run.id == parent_id}
        return {epoch for epoch in wanted if epoch is not None}

    def masks_of(self, parent_id: str) -> tuple[MaskSpec, ...]:
        """The masks of one parent's children, members of ensembles included, each once."""
        children = (*self.children_of(parent_id), *self.members_of(parent_id))
        return tuple({child.spec.mask.id: child.spec.mask for child in children}.values())


def _by_parent(children: Iterable[Child]) -> dict[str, tuple[Child, ...]]:
    """``children`` in their order, by their parent's id."""
    found: dict[str, list[Child]] = {}
    for child in children:
        found.setdefault(child.spec.parent.id, []).append(child)
    return {parent_id: tuple(family) for parent_id, family in found.items()}


def train_images(data: DataSpec) -> int | None:
    """How many images a data set trains on, or each bag of it; None if only its files can tell."""
    sizes = {"cifar10": 50_000, "cifar100": 50_000}
    images = data.train
    if images is None and data.source in sizes:
        images = sizes[data.source] - data.validation
    return None if images is None else data.bagged(images)


def all_children(study: Study) -> list[ChildSpec]:
    """All children, those of blocks and those that are members of ensembles, each once."""
    return [child.spec for child in (*study.children, *study.members)]


def total_epochs(study: Study) -> int:
    """Epochs of training in the whole study, parents and members of ensembles included."""
    parents = sum(spec.recipe.epochs for spec in study.all_parents().values())
    return parents + sum(spec.recipe.epochs for spec in all_children(study))


def load(path: Path, **overrides: Any) -> Study:
    """The study in the YAML file ``path``; ``UserError`` with one line naming file, key, value and what is allowed.

    ``overrides`` that are not None go before the file's own ``data_root`` and ``children_per_job``, which say nothing
    about results.
    """
    try:
        raw = yaml_files.load(path)
    except FileNotFoundError as error:
        raise UserError(f"study {path} does not exist; config/ holds those that ship with the project") from error
    except (yaml.YAMLError, ValueError) as error:  # of a date that there is not, or bytes that are no text
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if isinstance(raw, dict):
        raw |= {key: value for key, value in overrides.items() if value is not None}
    return expand(raw, path)


def expand(raw: Any, path: Path) -> Study:
    """The study that ``raw``, the content of ``path``, describes."""
    where = f"{path}: "
    if not isinstance(raw, Mapping):
        raise UserError(f"{path}: a study is a mapping; allowed keys: {', '.join(SECTIONS)}")
    for key, value in raw.items():
        settings.check_key(key, SECTIONS, str(path))
        if value is not None and key in MAPPINGS:
            settings.check_mapping(value, "a mapping", f"{where}{key}")
        for name in (value or ()) if key in NAMING else ():
            settings.check_name(name, f"{where}{key}")
        if value is not None and key in LISTS:
            settings.check_list(value, "a list", f"{where}{key}")
    for key in ("name", "datasets", "parents", "blocks"):
        if not raw.get(key):
            raise UserError(f"{where}{key}: missing; every study has one")
    _check_head(raw, where)
    methods = {**CATALOGUE, **_read_methods(raw.get("methods") or {}, where)}
    datasets = {
        name: settings.read(DataSpec, values, f"{where}datasets.{name}") for name, values in raw["datasets"].items()
    }
    parents = {
        name: _read_parents(values, datasets, f"{where}parents.{name}") for name, values in raw["parents"].items()
    }
    defaults = blocks.checked(raw.get("children") or {}, methods, f"{where}children")
    validate_claims(raw.get("claims") or {}, methods, parents, _names(raw.get("ensembles")), f"{where}claims")
    _check_choices(raw, parents, where)
    reference = ssa_settings(raw.get("claims") or {})
    children: dict[str, Child] = {}
    for i, block in enumerate(raw["blocks"]):
        found = blocks.expand(block, parents, defaults, methods, reference, f"{where}blocks[{i}]")
        for child in found:
            if child.spec.id in children:
                raise UserError(
                    f"{where}blocks[{i}]: duplicate child {child.spec.id}, already in block "
                    f"{children[child.spec.id].block!r}; allowed: each child once (use exclude:)"
                )
            children[child.spec.id] = child
    _check_told_apart(children.values(), where)
    ensembles = _read_ensembles(raw, parents, defaults, methods, reference, where)
    return Study(
        str(raw["name"]), path, raw, _with_members(parents, ensembles), tuple(children.values()), tuple(ensembles)
    )


def _check_choices(raw: Mapping[str, Any], parents: Mapping[str, tuple[ParentSpec, ...]], where: str) -> None:
    """``UserError`` if something is chosen on validation images, and kinds of parents have none."""
    found: list[tuple[str, Collection[str]]] = [
        (f"findings: {name}", ()) for name in raw.get("findings") or () if name in questions.CHOOSING
    ]
    found += [(f"claims.{name}.tuned", kinds) for name, kinds in tuned(raw.get("claims") or {})]
    for what, kinds in found:
        for kind in kinds or parents:
            if any(spec.data.validation == 0 for spec in parents[kind]):
                raise UserError(
                    f"{where}{what} chooses on validation images, and parents {kind!r} have none; allowed: validation "
                    "above 0 in their data set"
                )


def _names(entries: Any) -> list[str]:
    """The names that a section's entries say they have, before they are read."""
    return [str(entry["name"]) for entry in entries or () if isinstance(entry, Mapping) and "name" in entry]


def _read_ensembles(
    raw: Mapping[str, Any],
    parents: Mapping[str, tuple[ParentSpec, ...]],
    defaults: Mapping[str, list[Any]],
    methods: Mapping[str, Method],
    reference: Mapping[str, Any],
    where: str,
) -> tuple[Ensemble, ...]:
    """The section ``ensembles``; what ``children`` says once for all holds for members too."""
    shared = {key: values[0] for key, values in defaults.items() if len(values) == 1 and key not in blocks.LISTS}

    def make_child(parent: ParentSpec, values: dict[str, Any], name: str, here: str) -> ChildSpec:
        for key in ("criterion", "start"):
            if key in values:
                raise UserError(f"{here}: unknown key {key!r}; members differ by masks, and start from the parent")
        axes = blocks.checked(values, methods, here)
        for key, axis in axes.items():
            if len(axis) > 1:
                raise UserError(f"{here}.{key}: {axis} is not allowed; allowed: one value, which all members share")
        checked = {key: axis[0] for key, axis in axes.items()}
        own = {**shared, **checked, "criterion": "random", "start": "trained"}
        return blocks.make_children((parent,), own, methods, reference, name, name, here)[0].spec

    return ensemble_study.expand(raw, parents, make_child, where)


def _with_members(
    parents: dict[str, tuple[ParentSpec, ...]], ensembles: Iterable[Ensemble]
) -> dict[str, tuple[ParentSpec, ...]]:
    """``parents`` and, each after its kind's own, those that ensembles train beside them."""
    kinds = {kind: dict.fromkeys(specs) for kind, specs in parents.items()}
    for ensemble in ensembles:
        kinds[ensemble.parent] |= dict.fromkeys(ensemble.spec.parents)
    return {kind: tuple(specs) for kind, specs in kinds.items()}


def _check_told_apart(children: Iterable[Child], where: str) -> None:
    """Two children that no column of children.csv tells apart could not be paired."""
    rows: dict[tuple[Any, ...], Child] = {}
    for child in children:
        spec, args = child.spec, dict(child.spec.law_args)
        annealing = tuple(args.get(key) for key in ("tau", "epochs", "schedule"))
        training = (spec.recipe.epochs, spec.recipe.lr_schedule, spec.recipe.lr, spec.recipe.augment != "none")
        mask = dataclasses.replace(spec.mask, score_images=0)
        row = (child.parent, spec.parent.id, spec.seed, mask, spec.method, annealing, training)
        if row in rows:
            raise UserError(
                f"{where}blocks: {rows[row].spec.id} of block {rows[row].block!r} and {spec.id} of {child.block!r} "
                "differ only in settings that the tables do not show; allowed: a name for each under methods:"
            )
        rows[row] = child


def _check_head(raw: Mapping[str, Any], where: str) -> None:
    name = raw["name"]
    if not isinstance(name, str) or len(name) > 60 or not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"{where}name: {name!r} is not allowed; allowed: letters, digits, - and _, at most 60")
    if name in FOLDERS:
        raise UserError(f"{where}name: {name!r} is not allowed: results/{name} holds those of all studies")
    for key in (*TEXTS, "data_root"):
        if not isinstance(raw.get(key) or "", (str, Path)):
            raise UserError(f"{where}{key}: {raw[key]!r} is not allowed; allowed: text")
    for key in ("assumptions", "deviations"):
        for i, item in enumerate(raw.get(key) or ()):
            if not isinstance(item, str):
                raise UserError(
                    f"{where}{key}[{i}]: {item!r} is not allowed; allowed: text (quote one that has a colon)"
                )
    for key, choices in (("device", DEVICES), ("compile", COMPILE)):
        if raw.get(key, "auto") not in choices:
            raise UserError(f"{where}{key}: {raw[key]!r} is not allowed; allowed: {', '.join(choices)}")
    if not isinstance(raw.get("demonstration", False), bool):
        raise UserError(f"{where}demonstration: {raw['demonstration']!r} is not allowed; allowed: true or false")
    per_job = raw.get("children_per_job")
    if per_job is not None and (not isinstance(per_job, int) or per_job < 1):
        raise UserError(f"{where}children_per_job: {per_job!r} is not allowed; allowed: int, at least 1")
    tracking_settings.read(raw.get("wandb"), f"{where}wandb")
    questions.check(raw.get("findings") or [], f"{where}findings")
    known = {*settings.names(blocks.ChildSettings), *settings.names(Recipe), *settings.names(DataSpec)}
    for key, label in (raw.get("provenance") or {}).items():
        settings.check_key(key, sorted(known), f"{where}provenance")
        if label not in settings.SOURCES:
            allowed = ", ".join(settings.SOURCES)
            raise UserError(f"{where}provenance.{key}: {label!r} is not allowed; allowed: {allowed}")


def _read_methods(raw: Mapping[str, Any], where: str) -> dict[str, Method]:
    """A study's own methods: each names a law, and may fix its arguments and the child's switches."""
    methods = {}
    for name, values in raw.items():
        here = f"{where}methods.{name}"
        if name in CATALOGUE:
            raise UserError(f"{here}: the method is known already, and tables call it by its name; choose another name")
        for key in settings.check_mapping(values, "a mapping with law", here):
            settings.check_key(key, ("law", "args", "switches"), here)
        if not isinstance(values.get("law"), str):
            raise UserError(f"{here}.law: missing; allowed: the name of a law or the import path of one")
        args, switches = (
            settings.check_mapping(values.get(key) or {}, "a mapping", f"{here}.{key}") for key in ("args", "switches")
        )
        for key, value in switches.items():
            settings.check_key(key, ("start", "pruned_weights", "masked_weights", "rescale"), f"{here}.switches")
            settings.check(blocks.ChildSettings, key, value, f"{here}.switches.{key}")
        methods[name] = Method(values["law"], name, args, switches)
        blocks.find_law(methods[name].law, f"{here}.law")
    return methods


def _read_parents(values: Mapping[str, Any], datasets: Mapping[str, DataSpec], where: str) -> tuple[ParentSpec, ...]:
    settings.check_mapping(values, "a mapping with dataset, model, seeds, epochs", where)
    own, recipe_names = settings.names(ParentSettings), settings.names(Recipe)
    for key in values:
        settings.check_key(key, (*own, "model_options", *recipe_names), where)
    head = settings.read(ParentSettings, {key: values[key] for key in own if key in values}, where)
    if head.dataset not in datasets:
        raise UserError(f"{where}.dataset: {head.dataset!r} is not allowed; allowed: {', '.join(datasets)}")
    blocks.look_here()
    models.check_model(head.model, f"{where}.model")
    options = settings.check_mapping(values.get("model_options") or {}, "a mapping", f"{where}.model_options")
    models.wrapping(options, f"{where}.model_options")
    if not head.seeds or len(set(head.seeds)) != len(head.seeds):
        raise UserError(f"{where}.seeds: {list(head.seeds)} is not allowed; allowed: each seed once, at least one")
    recipe = settings.read(Recipe, {key: values[key] for key in recipe_names if key in values}, where)
    if recipe.lr_schedule == "rewound":
        raise UserError(f"{where}.lr_schedule: 'rewound' is not allowed; a parent has no earlier rate to go back to")
    rates.check_cycles(recipe, where)
    data, own_options, version = datasets[head.dataset], _options(options, where), models.VERSIONS.get(head.model, 1)
    builder = models.own(head.model)
    source = law_source.digest(builder, "model") if builder else None
    first = ParentSpec(data, head.model, own_options, recipe, 0, model_version=version, model_source=source)
    return tuple(dataclasses.replace(first, seed=seed) for seed in head.seeds)


def _options(options: Mapping[str, Any], where: str) -> tuple[tuple[str, Any], ...]:
    """A model's options in order, a list as a tuple; ``UserError`` for what is no plain value."""
    found = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    for key, value in found.items():
        settings.check_name(key, f"{where}.model_options")
        for item in value if isinstance(value, tuple) else (value,):
            if not isinstance(item, (str, int, float, type(None))):
                here = f"{where}.model_options.{key}"
                raise UserError(f"{here}: {item!r} is not allowed; allowed: a value or a list of values")
    return tuple(sorted(found.items()))
