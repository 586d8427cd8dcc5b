"""The claims that a study can test, and what its ``claims`` section may say. Imports no pandas: parsing is quick."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from ssa.errors import UserError
from ssa.method.schedules import SCHEDULES
from ssa.specs import settings
from ssa.specs.settings import setting
from ssa.specs.specs import Recipe
from ssa.study.methods import CATALOGUE
from ssa.vocabulary import ALLOCATIONS, CRITERIA, STRUCTURES

LR_SCHEDULES = Recipe.__dataclass_fields__["lr_schedule"].metadata["choices"]
LOOK = 0.97  # the confidence that one interim look asks for
ENOUGH = 40  # parents below which a difference in stability cannot be seen
# What the reviews quote is very probably ResNet-18 on CIFAR-100, the earlier version's ablation.
QUOTED_OF = {"dataset": ("cifar100",), "model": ("resnet18", "resnet18-maxpool")}


@dataclass(frozen=True)
class SSA:
    """The arm that stands for SSA in a study's tables and claims, fixed beforehand."""

    method: str = setting("temperature")
    tau: float = setting(0.5, low=0, high=1)
    anneal_fraction: float = setting(0.25, low=0.001, high=1)
    anneal_schedule: str = setting("linear", choices=tuple(SCHEDULES))


@dataclass(frozen=True)
class Cells:
    """Which children a claim looks at; null stands for every value that the study has.

    Criteria are arms of their own, and so are numbers of epochs; sparsities and schedules are averaged.
    """

    parents: tuple[str, ...] | None = setting(None, listed=True)
    structure: str = setting("connections", choices=STRUCTURES)
    allocation: str = setting("layerwise", choices=ALLOCATIONS)
    stem: str = setting("pruned", choices=("pruned", "dense"))
    epochs: int | tuple[int, ...] | None = setting(None, low=1, listed=True)
    criteria: tuple[str, ...] | None = setting(("random",), choices=CRITERIA, listed=True)
    sparsities: tuple[float, ...] | None = setting(None, low=1, below=100, listed=True)
    lr_schedules: tuple[str, ...] | None = setting(None, choices=LR_SCHEDULES, listed=True)


@dataclass(frozen=True)
class Said:
    """The settings of a claim beside its cells: when its rule was ``fixed``, and a ``remark`` for its readers."""

    fixed: str | None = setting(None)
    remark: str | None = setting(None)


@dataclass(frozen=True)
class Compared(Cells, Said):
    """A claim about differences to baselines.

    ``tuned``: each method at the peak rate at which its mean validation accuracy over all parents is highest.
    """

    tuned: bool = setting(False)


@dataclass(frozen=True)
class Gain(Compared):
    """A claim about differences to ``baselines``."""

    baselines: tuple[str, ...] = setting(("one-shot", "iterative"), listed=True)


@dataclass(frozen=True)
class OverBoth(Gain):
    """The gain at high sparsity."""

    sparsities: tuple[float, ...] | None = setting((95.0, 98.0), low=1, below=100, listed=True)


@dataclass(frozen=True)
class OverRandom(Gain):
    """The gain over random annealing."""

    baselines: tuple[str, ...] = setting(("random",), listed=True)


@dataclass(frozen=True)
class OverOneShot(Gain):
    """A difference to one-shot pruning."""

    baselines: tuple[str, ...] = setting(("one-shot",), listed=True)


@dataclass(frozen=True)
class OverControls(Compared):
    """The gain over the controls; null stands for those that were run."""

    baselines: tuple[str, ...] | None = setting(None, listed=True)


@dataclass(frozen=True)
class OfEnsembles(Said):
    """The claim about ensembles: those of SSA, and those they are compared with, by name."""

    ensembles: tuple[str, ...] | None = setting(None, listed=True)
    baselines: tuple[str, ...] | None = setting(None, listed=True)


@dataclass(frozen=True)
class BestLength(Cells, Said):
    """The claim about the length of annealing, in epochs."""

    best: tuple[float, ...] = setting((5.0, 10.0), low=0.001, listed=True)


@dataclass(frozen=True)
class Quoted(Cells, Said):
    """The claim about quoted figures: points by learning-rate schedule."""

    sparsities: tuple[float, ...] | None = setting((98.0,), low=1, below=100, listed=True)


@dataclass(frozen=True)
class SmallGain(Gain):
    """A claim that a gain is below ``small`` points."""

    criteria: tuple[str, ...] | None = setting(("magnitude",), choices=CRITERIA, listed=True)
    baselines: tuple[str, ...] = setting(("iterative",), listed=True)
    small: float = setting(0.5, low=0)


@dataclass(frozen=True)
class SmallInMost(SmallGain):
    """A claim that a gain is small in most cells."""

    criteria: tuple[str, ...] | None = setting(("random", "magnitude"), choices=CRITERIA, listed=True)
    baselines: tuple[str, ...] = setting(("one-shot",), listed=True)


# What a verdict is: by a rule from before the data, or after; the latter also of an arm beside the one that was named.
CONFIRMATORY, EXPLORATORY = "confirmatory", "exploratory"
ASIDE = f"{EXPLORATORY}: beside the arm that was named beforehand"
BY_SCHEDULE = f"a mapping from {', '.join(LR_SCHEDULES)} to a number above 0"


@dataclass(frozen=True)
class Section(Said):
    """The settings that all claims of a study share.

    ``planned``: how many parents were fixed before the first run. ``looks``: after how many parents the results were
    looked at before.
    """

    smallest_difference: float = setting(0.2, low=0)
    confidence: float = setting(0.95, low=0.5, below=1)
    planned: int | None = setting(None, low=2)
    looks: tuple[int, ...] = setting((), low=1)


MAPPINGS: dict[str, dict[str, Any]] = {  # keys that hold a mapping, and their defaults
    "lr": {},
    "quoted": {"constant": 6.0, "one-cycle": 4.0},
}

# Rules in words; the braces take the study's own numbers.
POOLED = (
    "For each baseline the difference is averaged within each parent over the cells of the arm (sparsities and "
    "learning-rate schedules), then a t-interval over parents. "
)
GAIN = (
    f"{POOLED}Supported if the {{level}} interval lies above 0 against every baseline (negligible if one also lies "
    "below {smallest:g} points). Contradicted if, against any of k baselines, the interval at 1 − {alpha:g}/k lies "
    "below {smallest:g} points. Else undecided. Single cells stand beside it; the arm is mixed if one cell of a "
    "baseline is significantly above 0 and another below (one-sided at {tail:g}, Holm over the arm's cells in each "
    "direction)."
)


@dataclass(frozen=True)
class Claim:
    """A claim, where it was made, how it is judged, and the settings that a study may give it.

    ``short``: the statement in a few words, for figures. ``unit``: what its intervals are over. ``mappings``: those of
    :data:`MAPPINGS` that it has.
    """

    short: str
    statement: str
    source: str
    rule: str
    settings: type
    measure: str = "difference in test accuracy (points)"
    unit: str = "parents"
    mappings: tuple[str, ...] = ("lr",)

    @property
    def knows_smallest(self) -> bool:
        """Whether its rule asks for the smallest difference of interest."""
        return "{smallest" in self.rule

    @property
    def defaults(self) -> dict[str, Any]:
        """Every setting's default."""
        own = dataclasses.asdict(self.settings())
        return {**own, **{key: MAPPINGS[key] for key in self.mappings}}


CLAIMS: dict[str, Claim] = {
    "C1": Claim(
        "SSA beats one-shot and iterative pruning",
        "SSA ends more accurate than one-shot and iterative pruning at high sparsity.",
        "paper",
        GAIN,
        OverBoth,
    ),
    "C2": Claim(
        "Temperature beats random annealing",
        "Temperature annealing ends more accurate than random annealing.",
        "paper",
        GAIN,
        OverRandom,
    ),
    "C3": Claim(
        "SSA's ensembles beat other low-cost ones",
        "Ensembles of SSA children beat other low-cost ensembles for less training.",
        "paper",
        "Judged by accuracy only: the difference to each ensemble that the study names (if it names none: to every "
        "other of the data set and model, but annealed ones and ensembles of independent networks that take more "
        "epochs), paired by seed. Supported if every {level} interval lies above 0, also after Holm's adjustment; "
        "contradicted if, against any of k, the interval at 1 − {alpha:g}/k lies below {smallest:g} points; else "
        "undecided. NLL, ECE and what training costs stand beside it.",
        OfEnsembles,
        "gain in accuracy (points)",
        "seeds",
        (),
    ),
    "C4": Claim(
        "The named lengths of annealing are best",
        "At every sparsity the best length of annealing is one of those named.",
        "paper",
        "For each other length, its gain over the better of those named (the lowest of its means and bounds against "
        "each), averaged over the sparsities within each parent. Contradicted if a gain lies above 0, also after "
        "Holm's adjustment over the lengths, unless it lies below {smallest:g} points; supported if no upper bound "
        "exceeds {smallest:g} points; else undecided.",
        BestLength,
    ),
    "C5": Claim(
        "The gain reaches the quoted figures",
        "The gain over one-shot is as large as the figures quoted.",
        "reviews",
        "Contradicted if the {level} interval lies below the quoted figure less 0.5 points (it is rounded, and its own "
        "error is not known). Supported if the interval lies above half of the figure and reaches it. Else undecided. "
        "Not testable on another network or data set than the one it was quoted of (ResNet-18, CIFAR-100).",
        Quoted,
        mappings=("lr", "quoted"),
    ),
    "C6": Claim(
        "Annealing avoids the drop in accuracy",
        "Pruning at once costs accuracy in the first epochs, and annealing avoids the drop.",
        "paper",
        "The network is scored as training uses it in that epoch: one-shot its target mask, iterative its nested mask, "
        "annealing masks drawn from its probabilities; BatchNorm is re-estimated under the same masks. The drop is the "
        "parent's accuracy minus the mean over epochs 0 (before the first step) to e. The difference is the baseline's "
        f"drop minus SSA's. {GAIN} Shown beside it and never judged: epoch 0; the mean of epochs 1 to e; "
        "epoch e, the first with the exact mask; iterative pruning.",
        OverOneShot,
        "difference in the drop (points)",
    ),
    "C7": Claim(
        "No variant does as well as SSA",
        "Temperature on the pruned weights alone is what helps: no variant of it does as well.",
        "paper",
        f"{GAIN} An interval above 0 must also be significant after Holm's adjustment over the controls.",
        OverControls,
    ),
    "C8": Claim(
        "Children vary less over seeds",
        "Children tuned with SSA vary less over seeds.",
        "summary",
        "For each parent, how much further SSA's accuracy lies from its median over parents than the baseline's from "
        "its own (paired Brown-Forsythe), per cell. Supported if all means are significantly below 0, contradicted if "
        f"any is above (one-sided at {{tail:g}}, Holm in each direction); below {ENOUGH} parents no verdict, only the "
        "ratio of variances (Pitman-Morgan).",
        Gain,
        "difference in distance from the median (points)",
    ),
    "C9": Claim(
        "Little gain with magnitude masks",
        "With magnitude masks the gain over iterative pruning is small.",
        "reviews",
        f"{POOLED}The baseline is iterative pruning that is ranked anew by current magnitude. A loss if the {{level}} "
        "interval lies below 0, which is said first. Else supported if it lies below {small:g} points, contradicted if "
        "it lies above, undecided otherwise. The gain over one-shot is shown beside it.",
        SmallGain,
    ),
    "C10": Claim(
        "Iterative is hardly better than one-shot",
        "Iterative pruning is hardly better than one-shot in most cells.",
        "reviews",
        "Each cell: supported if its gain is significantly below {small:g} points, contradicted if above (one-sided at "
        "{tail:g}, Holm over the cells in each direction). Overall: what more than half of the cells say, else "
        "undecided.",
        SmallInMost,
    ),
}


def validate_claims(
    section: Mapping[str, Any],
    methods: Collection[str] = tuple(CATALOGUE),
    parents: Collection[str] | None = None,
    ensembles: Collection[str] | None = None,
    where: str = "claims",
) -> None:
    """``UserError`` with one line naming key, value and what is allowed unless ``section`` is a claims section.

    ``methods``, ``parents`` and ``ensembles`` are the names that the study knows; any text is a name where the last
    two are None. ``where`` begins the line.
    """
    own = settings.names(Section)
    for key in settings.check_mapping(section, "a mapping", where):
        settings.check_key(key, [*own, "ssa", "cells", *CLAIMS], where)
    top = settings.read(Section, {key: section[key] for key in own if key in section}, where)
    _check_date(top.fixed, where)
    if top.looks and top.confidence < LOOK:
        raise UserError(
            f"{where}.confidence: {top.confidence:g} is not allowed; an interim look needs {LOOK:g} or more"
        )
    ssa = settings.read(SSA, section.get("ssa") or {}, f"{where}.ssa")
    _check_names((ssa.method,) if "method" in (section.get("ssa") or {}) else (), methods, f"{where}.ssa.method")
    known = {"parents": parents, "ensembles": ensembles, "baselines": methods}
    _check_settings(section.get("cells") or {}, Cells, ("lr",), known, f"{where}.cells")
    for name, claim in CLAIMS.items():
        of = {**known, "baselines": ensembles} if claim.settings is OfEnsembles else known
        for values, here in _variants(section.get(name) or {}, claim, f"{where}.{name}"):
            _check_settings(values, claim.settings, claim.mappings, of, here)


def _variants(values: Any, claim: Claim, where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """A claim's own settings, and those of each of its exploratory arms."""
    names = [*settings.names(claim.settings), *claim.mappings]
    given = settings.check_mapping(values, f"a mapping of {', '.join([*names, 'exploratory'])}", where)
    yield {key: value for key, value in given.items() if key != "exploratory"}, where
    for i, more in enumerate(
        settings.check_list(given.get("exploratory") or [], "a list of mappings", f"{where}.exploratory")
    ):
        yield more, f"{where}.exploratory[{i}]"


def tuned(section: Mapping[str, Any]) -> Iterator[tuple[str, Collection[str]]]:
    """The claims of ``section`` that choose each method's rate, and the kinds of parents that they name."""
    for name, claim in CLAIMS.items():
        for values, here in _variants(section.get(name) or {}, claim, name):
            if values.get("tuned"):
                yield here, values.get("parents") or ()


def _check_settings(
    values: Any, kind: type, mappings: tuple[str, ...], known: Mapping[str, Collection[str] | None], where: str
) -> None:
    names = [*settings.names(kind), *mappings]
    for key in settings.check_mapping(values, f"a mapping of {', '.join(names)}", where):
        settings.check_key(key, names, where)
    plain = {key: value for key, value in values.items() if key not in mappings}
    read: Any = settings.read(kind, plain, where)
    for key, allowed in known.items():
        if key in values:
            _check_names(getattr(read, key) or (), allowed, f"{where}.{key}")
    _check_date(getattr(read, "fixed", None), where)
    for key in mappings:
        _check_by_schedule(values.get(key), f"{where}.{key}")
    if "quoted" in values and not values["quoted"]:
        raise UserError(f"{where}.quoted: {values['quoted']!r} is not allowed; allowed: {BY_SCHEDULE}")


def _check_names(values: Collection[str], allowed: Collection[str] | None, where: str) -> None:
    if unknown := [value for value in values if allowed is not None and value not in allowed]:
        raise UserError(f"{where}: {unknown[0]!r} is not allowed; allowed: {', '.join(allowed or ())}")


def _check_date(text: str | None, where: str) -> None:
    try:
        date.fromisoformat(text or "2000-01-01")
    except ValueError as error:
        raise UserError(f"{where}.fixed: {text!r} is not allowed; allowed: a date such as '2026-11-28'") from error


def _check_by_schedule(values: Any, where: str) -> None:
    """A mapping from learning-rate schedules to positive numbers, or nothing."""
    for key, value in settings.check_mapping({} if values is None else values, BY_SCHEDULE, where).items():
        settings.check_key(key, LR_SCHEDULES, where)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise UserError(f"{where}.{key}: {value!r} is not allowed; allowed: a number above 0")


def settings_of_claim(section: Mapping[str, Any], name: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All settings of claim ``name``: its own, the section's, else the defaults.

    ``more``: those of an exploratory arm, of which nothing that is said of the claim's own holds.
    """
    defaults = CLAIMS[name].defaults
    shared = {**section, **(section.get("cells") or {})}
    own = {key: value for key, value in (section.get(name) or {}).items() if key != "exploratory"}
    unsaid = {} if more is None else {**dict.fromkeys(settings.names(Said)), **more}
    return {**defaults, **{key: value for key, value in shared.items() if key in defaults}, **own, **unsaid}


def top_of(section: Mapping[str, Any]) -> Section:
    """The settings of all claims in ``section``, else the defaults."""
    return settings.read(Section, {key: section[key] for key in settings.names(Section) if key in section}, "claims")


def ssa_settings(section: Mapping[str, Any]) -> dict[str, Any]:
    """The arm that stands for SSA in a study's tables and claims: by ``section``, else by the defaults."""
    return {**dataclasses.asdict(SSA()), **(section.get("ssa") or {})}


def thresholds(name: str, against: float, smallest: float) -> list[float]:
    """The values beside 0 by which a comparison of claim ``name`` is judged."""
    return sorted({against, smallest if CLAIMS[name].knows_smallest else 0.0} - {0.0})


def percent(share: float) -> str:
    """``share`` as it is told: 0.975 is 97.5%."""
    return f"{100 * share:g}%"


def rule_of(section: Mapping[str, Any], name: str) -> str:
    """The rule of claim ``name`` in words, with the numbers of ``section``."""
    top = top_of(section)
    alpha = 1 - top.confidence
    numbers = {"smallest": top.smallest_difference, "alpha": round(alpha, 6), "tail": round(alpha / 2, 6)}
    own = {"small": 0.0, **settings_of_claim(section, name)}
    return CLAIMS[name].rule.format(**numbers, level=percent(top.confidence), small=own["small"])
