"""What a run is: specifications whose ids are pure functions of everything that determines the result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ssa.settings import setting

# The version of the training semantics. A change of the engine that changes results raises it: old results then
# keep their ids and are never taken for new ones.
SEMANTICS = 1


# What the library can prune by; named here because reading a study must not import PyTorch.
CRITERIA = ("random", "anti-random", "magnitude", "taylor", "synflow")
STRUCTURES = ("connections", "neurons")
ALLOCATIONS = ("layerwise", "global", "erk", "lamp")


@dataclass(frozen=True)
class DataSpec:
    """A data set and how it is split. ``train``: images to train on, null for all that validation leaves."""

    source: str = setting(choices=("digits", "cifar10", "cifar100", "imagefolder"))
    train: int | None = setting(None, source="assumed", low=1)
    validation: int = setting(5000, source="assumed", low=0)
    split: str = setting("fixed", source="assumed", choices=("fixed", "parent"))
    folder: str | None = setting(None)
    image_size: int = setting(32, low=1)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, parent or child."""

    epochs: int = setting(low=1)
    batch_size: int = setting(128, source="author-code", low=1)
    optimizer: str = setting("sgd", source="author-code", choices=("sgd", "adam", "adamw"))
    lr: float = setting(0.1, source="author-code", low=0)
    lr_schedule: str = setting(
        "one-cycle", source="PAT", choices=("constant", "one-cycle", "step-linear", "warmup-cosine", "rewound")
    )
    div_factor: float = setting(100.0, source="PAT", low=1)
    pct_start: float = setting(0.1, source="PAT", low=0, below=1)
    final_lr: float = setting(1e-7, source="author-code", low=0)
    cycle_momentum: bool = setting(True, source="author-code")
    warmup_epochs: float = setting(0.0, source="author-code", low=0)
    momentum: float = setting(0.9, source="author-code", low=0, below=1)
    nesterov: bool = setting(True, source="author-code")
    weight_decay: float = setting(5e-4, source="author-code", low=0)
    decay: str = setting("all", source="author-code", choices=("all", "weights"))
    augment: str = setting("crop-flip", source="author-code", choices=("none", "crop-flip", "autoaugment"))
    padding: int = setting(4, source="author-code", low=0)
    padding_value: str = setting("black", source="author-code", choices=("black", "mean"))
    drop_last: bool = setting(False, source="author-code")
    precision: str = setting("fp32", source="assumed", choices=("fp32", "bf16"))


@dataclass(frozen=True)
class Spec:
    """A specification with an id: readable words, then a hash over every setting, defaults included."""

    @property
    def words(self) -> str:
        """The readable part of the id."""
        raise NotImplementedError

    def content(self) -> dict[str, Any]:
        """Everything that determines the result, as JSON types."""
        return dataclasses.asdict(self)

    @cached_property
    def id(self) -> str:
        """The readable words and ten hexadecimal digits."""
        text = json.dumps(self.content(), sort_keys=True, separators=(",", ":"))
        return f"{self.words}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


@dataclass(frozen=True)
class ParentSpec(Spec):
    """A parent network: data, model, recipe and seed. ``model_options``: (name, value) pairs, sorted."""

    data: DataSpec
    model: str
    model_options: tuple[tuple[str, Any], ...]
    recipe: Recipe
    seed: int
    semantics: int = SEMANTICS

    @property
    def words(self) -> str:
        """For example ``resnet18-cifar10-s0``."""
        return f"{self.model}-{self.data.source}-s{self.seed}"


@dataclass(frozen=True)
class MaskSpec(Spec):
    """How a parent is pruned. ``sparsity`` in percent; ``seed`` decides random masks only.

    ``score_images``: how many training images the criterion is computed on, 0 for one that looks at none.
    """

    criterion: str
    structure: str
    allocation: str
    stem: str
    sparsity: float
    seed: int
    score_images: int = 0

    @property
    def words(self) -> str:
        """For example ``magnitude-95``."""
        return f"{self.criterion}-{self.sparsity:g}"


@dataclass(frozen=True)
class ChildSpec(Spec):
    """A child: its parent, its mask, the law it is tuned by, its recipe and its seed.

    ``start``: from the parent's ``trained`` weights, or ``rewound`` to those that it had as many epochs before its
    end as the child trains (weight rewinding, Renda et al., 2020, arXiv 2003.02389).
    ``method`` is a label: two methods with the same law and switches are the same child.
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

    @property
    def start_epoch(self) -> int | None:
        """The parent's epoch whose weights the child starts from; None for the trained ones."""
        return self.parent.recipe.epochs - self.recipe.epochs if self.start == "rewound" else None

    def content(self) -> dict[str, Any]:
        """Everything that determines the result; the method's name does not."""
        content = dataclasses.asdict(self)
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
