"""A block of a study: a grid of settings, checked and expanded into children."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssa.errors import UserError
from ssa.method import laws
from ssa.specs import settings
from ssa.specs.settings import setting
from ssa.specs.specs import ChildSpec, MaskSpec, ParentSpec, Recipe
from ssa.study import law_source
from ssa.study.methods import Method
from ssa.training import rates
from ssa.vocabulary import ALLOCATIONS, CRITERIA, STRUCTURES

# Which order "iterative" follows: random masks a random one. Masks of another criterion are kept, the smallest weights
# first, but for magnitude: there the primary baseline re-ranks, and its paired control keeps the mask.
FIXED_ORDER = {**dict.fromkeys(("none", *CRITERIA), "magnitude"), "random": "random", "anti-random": "random"}
ITERATIVE_ORDER = {"iterative": {**FIXED_ORDER, "magnitude": "reranked"}, "iterative-fixed": FIXED_ORDER}
# A child trains on its parent's data in its parent's way, unless a block says otherwise.
INHERITED = (
    "batch_size",
    "optimizer",
    "momentum",
    "nesterov",
    "weight_decay",
    "decay",
    "augment",
    *("padding", "padding_value", "drop_last", "precision"),
)
SWITCHES = (
    "start",
    "pruned_weights",
    "masked_weights",
    "rescale",
    "resample",
    "batchnorm",
    "bn_images",
    "score_epochs",
    "gradient_batches",
    "score_used",
)
NO_SETTINGS = ("name", "parents", "parent_seeds", "exclude")  # what a block says beside its grid
LISTS = ("score_epochs", "score_used")  # settings whose value is a list, so that a list of one is no axis


@dataclass(frozen=True)
class ChildSettings:
    """Settings that a block may vary, beside the recipe's. Sparsity in percent, annealing in epochs."""

    method: str = setting(meaning="how the child is fine-tuned: a built-in method, or one of `methods`")
    criterion: str = setting(
        "random",
        source="paper",
        choices=(*CRITERIA, "none"),
        meaning="which weights are pruned; `none` for a dense child",
    )
    structure: str = setting(
        "connections", source="PAT", choices=STRUCTURES, meaning="prune single `connections` or whole `neurons`"
    )
    allocation: str = setting(
        "layerwise", source="author-code", choices=ALLOCATIONS, meaning="how sparsity is spread over the layers"
    )
    score_images: int = setting(
        2048, source="assumed", low=1, meaning="training images on which `taylor` scores are computed"
    )
    stem: str = setting(
        "pruned", source="author-code", choices=("pruned", "dense"), meaning="whether the first layer is pruned too"
    )
    sparsity: float = setting(
        0.0, source="paper", low=0, below=100, percent=True, meaning="percent of the prunable weights that go"
    )
    seed: int = setting(0, low=0, meaning="of random masks, sampling and the order of batches")
    tau: float = setting(
        0.5, source="summary", low=0, high=1, meaning="the keep-probability at which temperature annealing starts"
    )
    anneal_epochs: float = setting(0.0, source="paper", low=0, meaning="e, the epochs over which masks are annealed")
    anneal_schedule: str = setting(
        "linear",
        source="paper",
        choices=("linear", "cosine", "exponential", "cubic"),
        meaning="how annealing moves from 0 to 1",
    )
    start: str = setting(
        "trained",
        source="paper",
        choices=("trained", "rewound"),
        meaning="the parent's `trained` weights, or those `rewound` to as many epochs before its end",
    )
    pruned_weights: str = setting(
        "train",
        source="assumed",
        choices=("train", "freeze", "shuffle"),
        meaning="what happens to pruned weights while they are sampled",
    )
    masked_weights: str = setting(
        "update",
        source="author-code",
        choices=("update", "freeze"),
        meaning="whether momentum and weight decay move weights that a step's mask hides",
    )
    rescale: bool = setting(False, source="paper", meaning="divide sampled weights by their keep-probability")
    resample: str = setting(
        "step", source="reviews", choices=("step", "epoch"), meaning="draw a mask for each step, or for each epoch"
    )
    batchnorm: str = setting(
        "running",
        source="author-code",
        choices=("running", "reestimated"),
        meaning="which statistics the primary accuracy uses",
    )
    bn_images: int = setting(
        2048, source="assumed", low=1, meaning="training images that re-estimate BatchNorm statistics"
    )
    score_epochs: tuple[int, ...] | None = setting(
        None,
        source="assumed",
        low=0,
        meaning="after which epochs the target network is scored; null for each. The last always is",
    )
    gradient_batches: int = setting(
        0,
        source="assumed",
        low=0,
        added=True,
        meaning="batches on which the variance of gradients is measured at each scored epoch; 0 for none",
    )
    score_used: tuple[int, ...] | None = setting(
        None,
        source="assumed",
        low=0,
        added=True,
        meaning="at which epochs the network is scored as training uses it; null for none",
    )


@dataclass(frozen=True)
class Child:
    """A child in a study: its specification, and the names by which the study's tables know it."""

    spec: ChildSpec
    block: str
    parent: str
    reference: bool


def checked(values: Mapping[str, Any], methods: Mapping[str, Method], where: str) -> dict[str, Any]:
    """Each of ``values`` as a list of the settings that it asks for: a grid's axes."""
    kinds = {name: kind for kind in (ChildSettings, Recipe) for name in settings.names(kind)}
    axes = {}
    for key, value in settings.check_mapping(values, "a mapping of settings", where).items():
        settings.check_key(key, kinds, where)
        listed = value if isinstance(value, list) and key not in LISTS else [value]
        if not listed:
            raise UserError(f"{where}.{key}: [] is not allowed; allowed: a value or a list of them")
        axis = [settings.check(kinds[key], key, item, f"{where}.{key}") for item in listed]
        if len(set(axis)) != len(axis):
            raise UserError(f"{where}.{key}: {listed} names a value twice, a duplicate child; allowed: each value once")
        if key == "method":
            for method in axis:
                if method not in methods:
                    allowed = ", ".join(methods)
                    raise UserError(f"{where}.method: {method!r} is not allowed; allowed: {allowed}")
        axes[key] = axis
    return axes


def expand(
    block: Any,
    parents: Mapping[str, tuple[ParentSpec, ...]],
    defaults: Mapping[str, list[Any]],
    methods: Mapping[str, Method],
    reference: Mapping[str, Any],
    where: str,
) -> list[Child]:
    """The children of a block: the product of its axes, each child once (one-shot ignores an axis of tau)."""
    if not isinstance(block, Mapping) or "name" not in block or "parents" not in block:
        raise UserError(f"{where}: {block!r} is not allowed; allowed: a mapping with name, parents and a grid")
    name = settings.check_name(block["name"], f"{where}.name")
    kinds = block["parents"] if isinstance(block["parents"], list) else [block["parents"]]
    for kind in kinds:
        if not isinstance(kind, str) or kind not in parents:
            raise UserError(f"{where}.parents: {kind!r} is not allowed; allowed: {', '.join(parents)}")
    grid = {key: value for key, value in block.items() if key not in NO_SETTINGS}
    axes = {**defaults, **checked(grid, methods, where)}
    if "method" not in axes:
        raise UserError(f"{where}.method: missing; allowed: {', '.join(methods)}")
    exclude = settings.check_list(block.get("exclude") or [], "a list of mappings", f"{where}.exclude")
    excluded = [checked(entry, methods, f"{where}.exclude[{i}]") for i, entry in enumerate(exclude)]
    for i, entry in enumerate(excluded):
        for key in entry:
            settings.check_key(key, axes, f"{where}.exclude[{i}]")
    seeds = block.get("parent_seeds")
    children: dict[str, Child] = {}
    for kind in kinds:
        chosen = _of_seeds(parents[kind], seeds, f"{where}.parent_seeds")
        for values in _combinations(axes, excluded):
            for child in make_children(chosen, values, methods, reference, name, kind, where):
                children.setdefault(child.spec.id, child)
    return list(children.values())


def _of_seeds(parents: tuple[ParentSpec, ...], seeds: Any, where: str) -> tuple[ParentSpec, ...]:
    """Those of ``parents`` with one of ``seeds``; all if that is None."""
    if seeds is None:
        return parents
    known = {parent.seed: parent for parent in parents}
    wanted = settings.check_list(seeds, f"a list of seeds of its parents ({', '.join(map(str, known))})", where)
    for seed in wanted or [None]:
        if not isinstance(seed, int) or seed not in known:
            raise UserError(f"{where}: {seed!r} is not allowed; allowed: {', '.join(map(str, known))}")
    return tuple(known[seed] for seed in wanted)


def _combinations(axes: Mapping[str, list[Any]], excluded: list[dict[str, list[Any]]]) -> Iterator[dict[str, Any]]:
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        if not any(all(values.get(key) in allowed for key, allowed in entry.items()) for entry in excluded):
            yield values


def make_children(
    parents: Sequence[ParentSpec],
    values: dict[str, Any],
    methods: Mapping[str, Method],
    reference: Mapping[str, Any],
    block: str,
    kind: str,
    where: str,
) -> list[Child]:
    """The child of each of ``parents``, which were trained alike, with the settings ``values``."""
    trained = parents[0].recipe
    method = methods[values["method"]]
    values = {**values, **method.switches}
    recipe_names = settings.names(Recipe)
    own = ChildSettings(**{key: value for key, value in values.items() if key not in recipe_names})
    inherited = {key: getattr(trained, key) for key in INHERITED}
    given = {key: value for key, value in values.items() if key in recipe_names}
    if "epochs" not in given:
        raise UserError(f"{where}.epochs: missing; allowed: int, at least 1")
    recipe = Recipe(**{**inherited, **given})
    rates.check_cycles(recipe, where)
    rewinds = own.start == "rewound" or recipe.lr_schedule == "rewound"
    if rewinds and recipe.epochs >= trained.epochs:
        raise UserError(
            f"{where}.epochs: {recipe.epochs} is not allowed; allowed: fewer than the {trained.epochs} epochs of "
            "the parent, which rewinding goes back over"
        )
    law = _law(method, own, recipe, where)
    settled = {
        "mask": _mask(own, where),
        "method": own.method,
        "law": method.law,
        "law_args": tuple(sorted((field.name, getattr(law, field.name)) for field in dataclasses.fields(law))),
        "recipe": recipe,
        "seed": own.seed,
        "law_source": law_source.digest(type(law)),  # type: ignore[arg-type]
        **{key: getattr(own, key) for key in SWITCHES},
    }
    is_reference = _is_reference(law, method, recipe, reference)
    return [Child(ChildSpec(parent=parent, **settled), block, kind, is_reference) for parent in parents]


def _mask(own: ChildSettings, where: str) -> MaskSpec:
    if own.method == "dense" or own.sparsity == 0:
        return MaskSpec("none", "connections", "layerwise", "pruned", 0.0, 0)
    if own.criterion == "none":
        raise UserError(
            f"{where}.criterion: 'none' is not allowed at sparsity {own.sparsity:g}; allowed: {', '.join(CRITERIA)}"
        )
    seed = own.seed if own.criterion in ("random", "anti-random") else 0
    images = own.score_images if own.criterion == "taylor" else 0
    return MaskSpec(own.criterion, own.structure, own.allocation, own.stem, own.sparsity, seed, images)


def look_here() -> None:
    """Let modules be imported from the folder where commands are run."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def find_law(path: str, where: str) -> type[laws.Law]:
    """The law that ``path`` names; ``UserError`` naming ``where`` it is not allowed.

    One's own laws are found in the folder where commands are run too, however these were started.
    """
    look_here()
    try:
        return laws.find(path)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _law(method: Method, own: ChildSettings, recipe: Recipe, where: str) -> laws.Law:
    """The law of ``method`` with those of the block's settings that it takes."""
    kind = find_law(method.law, where)
    args: dict[str, Any] = {}
    if kind is not laws.OneShot:
        takes = {"epochs": own.anneal_epochs, "schedule": own.anneal_schedule, "tau": own.tau}
        fields = {field.name for field in dataclasses.fields(kind)} - ({"schedule"} if not kind.gradual else set())
        args = {key: value for key, value in takes.items() if key in fields}
    if method.law == "Iterative" and own.method in ITERATIVE_ORDER:
        args["order"] = ITERATIVE_ORDER[own.method][own.criterion]
    try:
        law = kind(**{**args, **method.args})
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}.method: {own.method!r}: {error}") from error
    if kind is not laws.OneShot:
        setting = f"{where}: methods.{own.method}.args.epochs" if "epochs" in method.args else f"{where}.anneal_epochs"
        if not law.epochs:
            raise UserError(f"{setting}: 0 is not allowed for {own.method}; allowed: float, above 0")
        if law.epochs > recipe.epochs:
            raise UserError(f"{setting}: {law.epochs:g} is not allowed; allowed: at most epochs, {recipe.epochs}")
    if law.ranking and own.pruned_weights == "freeze":
        raise UserError(f"{where}.pruned_weights: 'freeze' is not allowed for {own.method}, which ranks weights anew")
    return law


def _is_reference(law: laws.Law, method: Method, recipe: Recipe, reference: Mapping[str, Any]) -> bool:
    """Whether the child stands for its method in tables and claims: the one setting that was fixed beforehand."""
    if isinstance(law, laws.OneShot):
        return True
    wanted = {
        "epochs": recipe.epochs * reference["anneal_fraction"],
        "schedule": reference["anneal_schedule"] if law.gradual else law.schedule,
        "tau": reference["tau"],
    }
    return all(_same(getattr(law, key, value), value) for key, value in wanted.items() if key not in method.args)


def _same(value: object, wanted: object) -> bool:
    """Whether they are equal, as numbers up to rounding: a share of some epochs is seldom exact."""
    if isinstance(value, (int, float)) and isinstance(wanted, (int, float)):
        return math.isclose(value, wanted)
    return value == wanted
