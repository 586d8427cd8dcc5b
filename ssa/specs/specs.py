"""Specifications of runs: their ids are pure functions of everything that determines the result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ssa.specs.settings import left_out, setting

# The version of the training semantics. A change of the engine that changes results raises it: old results then
# keep their ids and are never taken for new ones.
SEMANTICS = 2


@dataclass(frozen=True)
class DataSpec:
    """A data set and how it is split."""

    source: str = setting(
        choices=("digits", "cifar10", "cifar100", "imagefolder"),
        meaning="where the images come from; `digits` ships with scikit-learn",
    )
    train: int | None = setting(
        None,
        source="assumed",
        low=1,
        meaning="training images; null for all that validation leaves. Digits need a number, and test on the rest",
    )
    validation: int = setting(
        5000, source="assumed", low=0, meaning="images kept from training, on which settings are chosen"
    )
    split: str = setting(
        "fixed",
        source="assumed",
        choices=("fixed", "parent"),
        meaning="whether all parents share one split, or each draws its own by its seed",
    )
    folder: str | None = setting(None, meaning="of an `imagefolder`: its folder, under `data_root`")
    image_size: int = setting(32, low=1, meaning="of an `imagefolder`: the side in pixels to which images are scaled")
    bag: float = setting(
        1.0,
        low=0.01,
        high=1,
        added=True,
        meaning="the fraction of the training images that one parent sees, drawn without replacement by its seed",
    )
    duplicates: str = setting(
        "refuse",
        choices=("refuse", "allow"),
        permits=True,
        meaning="whether test images may be copies of training images",
    )

    def bagged(self, images: int) -> int:
        """How many of so many training images one parent sees."""
        return max(round(self.bag * images), 1)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, parent or child. The ``cycle`` settings: :mod:`ssa.training.rates`."""

    epochs: int = setting(low=1, meaning="passes over the training images")
    batch_size: int = setting(128, source="author-code", low=1, meaning="images in a step")
    optimizer: str = setting(
        "sgd", source="author-code", choices=("sgd", "adam", "adamw"), meaning="the optimiser; `sgd` has momentum"
    )
    lr: float = setting(
        0.1, source="author-code", low=0, meaning="the learning rate; the peak of `one-cycle` and `warmup-cosine`"
    )
    lr_schedule: str = setting(
        "one-cycle",
        source="PAT",
        choices=("constant", "one-cycle", "step-linear", "warmup-cosine", "rewound", "cosine-cycles", "fge"),
        meaning="how the rate moves over training; `rewound` repeats the end of the parent's own schedule",
    )
    div_factor: float = setting(100.0, source="PAT", low=1, meaning="of `one-cycle`: it begins at lr / div_factor")
    pct_start: float = setting(
        0.1, source="PAT", low=0, below=1, meaning="of `one-cycle`: the share of steps before the peak"
    )
    final_lr: float = setting(
        1e-7, source="author-code", low=0, meaning="the rate at the end of `one-cycle` and `step-linear`"
    )
    cycle_momentum: bool = setting(
        True, source="author-code", meaning="of `one-cycle`: momentum moves from 0.95 to 0.85 and back"
    )
    warmup_epochs: float = setting(
        0.0, source="author-code", low=0, meaning="of `warmup-cosine`: epochs before the peak"
    )
    momentum: float = setting(0.9, source="author-code", low=0, below=1, meaning="of `sgd`")
    nesterov: bool = setting(True, source="author-code", meaning="of `sgd`: Nesterov's form of momentum")
    weight_decay: float = setting(5e-4, source="author-code", low=0, meaning="weight decay")
    decay: str = setting(
        "all",
        source="author-code",
        choices=("all", "weights"),
        meaning="what decays: `all` parameters, or `weights` without biases and normalisation layers",
    )
    augment: str = setting(
        "crop-flip",
        source="author-code",
        choices=("none", "crop-flip", "autoaugment"),
        meaning="augmentation of training images",
    )
    padding: int = setting(4, source="author-code", low=0, meaning="pixels around an image over which crops move")
    padding_value: str = setting(
        "black",
        source="author-code",
        choices=("black", "mean"),
        meaning="their colour: `black`, or the `mean` of the training images",
    )
    drop_last: bool = setting(False, source="author-code", meaning="leave out an epoch's last batch if it is smaller")
    precision: str = setting(
        "fp32",
        source="assumed",
        choices=("fp32", "bf16"),
        meaning="`bf16` is autocast with float32 weights; as fast as fp32 on CPUs without bf16 units",
    )
    cycle_epochs: int | None = setting(
        None, low=1, added=True, meaning="of `cosine-cycles` and `fge`: the length of a cycle"
    )
    cycles_from: int | None = setting(None, low=1, added=True, meaning="of `fge`: the epoch at which cycles begin")
    cycle_high_lr: float | None = setting(None, low=0, added=True, meaning="of `fge`: the highest rate of a cycle")
    cycle_low_lr: float | None = setting(None, low=0, added=True, meaning="of `fge`: the lowest rate of a cycle")


@dataclass(frozen=True)
class Spec:
    """A specification with an id: readable words, then a hash over every setting, defaults included."""

    @property
    def words(self) -> str:
        """The readable part of the id."""
        raise NotImplementedError

    def content(self) -> dict[str, Any]:
        """Everything that determines the result, as JSON types."""
        return _settings(self)

    @cached_property
    def _content(self) -> dict[str, Any]:
        return self.content()

    @cached_property
    def id(self) -> str:
        """The readable words and ten hexadecimal digits."""
        return f"{self.words}-{hashlib.sha256(self._written().encode()).hexdigest()[:10]}"

    def _written(self) -> str:
        """The content as JSON, its keys sorted."""
        parts = (
            f'"{name}":{held._shared if isinstance(held := getattr(self, name, None), Spec) else _json(value)}'
            for name, value in sorted(self.content().items())
        )
        return f"{{{','.join(parts)}}}"

    @cached_property
    def _shared(self) -> str:
        """As :meth:`_written`, made once for all specifications that have this one in them."""
        return self._written()


@dataclass(frozen=True)
class ParentSpec(Spec):
    """A parent network: data, model, recipe and seed. ``model_options``: (name, value) pairs, sorted.

    ``data_seed``: decides a split with ``split: parent``, so that parents of different seeds can share one; None for
    the parent's own seed. ``model_version``: which network the name stands for (``VERSIONS`` of
    :mod:`ssa.training.models`). ``model_source``: a digest of the source of a model of one's own, None for others.
    """

    data: DataSpec
    model: str
    model_options: tuple[tuple[str, Any], ...]
    recipe: Recipe
    seed: int
    semantics: int = SEMANTICS
    data_seed: int | None = setting(None, added=True)
    model_version: int = setting(1, added=True)
    model_source: str | None = setting(None, added=True)

    @property
    def words(self) -> str:
        """For example ``resnet18-cifar10-s0``."""
        return f"{self.model.replace('/', '-')}-{self.data.source}-s{self.seed}"  # timm/<name>: an id is one folder


@dataclass(frozen=True)
class MaskSpec(Spec):
    """How a parent is pruned. ``sparsity`` in percent; ``seed`` decides random masks only.

    ``score_images``: how many training images the criterion is computed on, 0 for one that looks at none. ``part``:
    which part of a random partition is kept; the criterion ``partition`` is for members of ensembles alone.
    """

    criterion: str
    structure: str
    allocation: str
    stem: str
    sparsity: float
    seed: int
    score_images: int = 0
    part: int = setting(0, added=True)

    @property
    def words(self) -> str:
        """For example ``magnitude-95``."""
        return f"{self.criterion}-{self.sparsity:g}"


@dataclass(frozen=True)
class ChildSpec(Spec):
    """A child: its parent, its mask, the law it is tuned by, its recipe and its seed.

    ``start``: from the parent's ``trained`` weights, or ``rewound`` to those that it had as many epochs before its
    end as the child trains (weight rewinding, Renda et al., 2020, arXiv 2003.02389).
    ``method`` is a label: two methods with the same law and switches are the same child. ``gradient_batches``: on how
    many the noise of its gradient is measured where it is scored (:mod:`ssa.training.gradients`). ``score_used``: the
    epochs at which the network is scored as a training step uses it; None for none. ``law_source``: a digest of the
    source of a law of one's own (:mod:`ssa.study.law_source`), None for the library's.
    """

    parent: ParentSpec
    mask: MaskSpec
    start: str
    method: str
    law: str
    law_args: tuple[tuple[str, Any], ...]
    pruned_weights: str
    masked_weights: str
    rescale: bool
    resample: str
    batchnorm: str
    bn_images: int
    score_epochs: tuple[int, ...] | None
    recipe: Recipe
    seed: int
    semantics: int = SEMANTICS
    gradient_batches: int = setting(0, added=True)
    score_used: tuple[int, ...] | None = setting(None, added=True)
    law_source: str | None = setting(None, added=True)

    @property
    def start_epoch(self) -> int | None:
        """The parent's epoch whose weights the child starts from; None for the trained ones."""
        return self.parent.recipe.epochs - self.recipe.epochs if self.start == "rewound" else None

    def content(self) -> dict[str, Any]:
        """Everything that determines the result; the method's name does not."""
        content = _settings(self)
        del content["method"]
        return content

    @property
    def words(self) -> str:
        """For example ``random-95-temperature-tau0.5-e5-linear-one-cycle-E20-s0``."""
        args = dict(self.law_args)
        law = [f"tau{args['tau']:g}"] if "tau" in args else []
        law += [f"e{args['epochs']:g}", str(args["schedule"])] if args.get("epochs") else []
        parts = [self.mask.words, self.method, *law, self.recipe.lr_schedule, f"E{self.recipe.epochs}", f"s{self.seed}"]
        return "-".join(parts)


@dataclass(frozen=True)
class Member:
    """A network of an ensemble: a parent or child as it was trained, or a parent as it was after ``epoch`` epochs."""

    run: ParentSpec | ChildSpec
    epoch: int | None = None


@dataclass(frozen=True)
class EnsembleSpec(Spec):
    """An ensemble: its members, each listed, and on what they are scored.

    ``samples``: forward passes through each member, with dropout where they are more than one. ``corruptions``: the
    name of the set of corrupted test images, None for none; ``corrupted_images``: how many test images it takes.
    """

    method: str
    members: tuple[Member, ...]
    seed: int
    samples: int = 1
    corruptions: str | None = None
    corrupted_images: int | None = None
    semantics: int = SEMANTICS

    @cached_property
    def parents(self) -> tuple[ParentSpec, ...]:
        """The parents that are members or have children that are, each once."""
        runs = [member.run for member in self.members]
        return tuple(dict.fromkeys(run.parent if isinstance(run, ChildSpec) else run for run in runs))

    @cached_property
    def children(self) -> tuple[ChildSpec, ...]:
        """The members that are children."""
        return tuple(member.run for member in self.members if isinstance(member.run, ChildSpec))

    def content(self) -> dict[str, Any]:
        """Everything that determines the result; a member's id stands for all that it is."""
        members = [{"run": member.run.id, "epoch": member.epoch} for member in self.members]
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "members": members}

    @property
    def words(self) -> str:
        """For example ``prune-and-tune-6-wrn-28-10-cifar10-s0``."""
        parent = self.parents[0]
        network = f"{parent.model.replace('/', '-')}-{parent.data.source}"
        return f"{self.method}-{len(self.members)}-{network}-s{self.seed}"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _settings(value: Any) -> dict[str, Any]:
    """As ``dataclasses.asdict``, but what is shared stays so: 100,000 children have a hundred parents.

    A setting that was added later is left out at its default, so that recorded results keep their ids.
    """
    kind: type = type(value)
    return {name: _plain(held) for name, default in left_out(kind) if (held := getattr(value, name)) != default}


def _plain(value: Any) -> Any:
    if not hasattr(value, "__dataclass_fields__"):
        return value
    return value._content if isinstance(value, Spec) else _settings(value)
