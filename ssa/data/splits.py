"""Data sets, held in memory as one uint8 tensor of images and one of labels per split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ssa.data import folders
from ssa.errors import UserError
from ssa.seeds import numpy_generator

if TYPE_CHECKING:
    from ssa.specs.specs import DataSpec

SPLITS = {"train": "training", "validation": "validation", "test": "test"}
# Standard deviations are the authors' (their code); means are the data sets' own.
STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2675, 0.2565, 0.2761)),
}


@dataclass(frozen=True)
class Split:
    """``images``: uint8 (n, channels, height, width); ``labels``: int64 (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> Split:
        """The images at ``index``."""
        where = torch.from_numpy(index)
        return Split(self.images[where], self.labels[where])

    def to(self, device: torch.device) -> Split:
        """The same split on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Source:
    """A data set as its files have it. ``test``: None if it has no test images of its own."""

    pool: Split
    test: Split | None
    classes: int
    notes: str = ""


@dataclass(frozen=True)
class Data:
    """The three splits of a data set, and what its pixels are normalised by, in units of [0, 1] intensity.

    ``notes``: what of its files was passed over or changed, in words; empty if nothing was.
    """

    train: Split
    validation: Split
    test: Split
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: str = ""

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for all images and labels, in their order."""
        total = hashlib.blake2b(digest_size=8)
        for split in (self.train, self.validation, self.test):
            for tensor in (split.images, split.labels):
                total.update(tensor.cpu().contiguous().numpy().data)
        return total.hexdigest()

    def to(self, device: torch.device) -> Data:
        """The same data on ``device``."""
        splits = {name: getattr(self, name).to(device) for name in SPLITS}
        return replace(self, **splits)


def load(spec: DataSpec, root: Path, parent_seed: int, data_seed: int | None = None) -> Data:
    """The data set of ``spec``, split; ``UserError`` if its files are missing or damaged.

    A split of the parent's own follows ``data_seed``, or ``parent_seed`` where that is None; a bag always follows
    ``parent_seed``. All bags of one split are normalised alike.
    """
    sources = {"digits": _digits, "cifar10": _cifar, "cifar100": _cifar, "imagefolder": _imagefolder}
    found = sources[spec.source](spec, root)
    pool, test = found.pool, found.test
    for split in (pool, test):
        if split is not None:
            _check_varied(spec, split)
    if test is None and spec.train is None:
        raise UserError(
            f"data set {spec.source}: train is missing; it has no test images of its own: say how many to train on"
        )
    # A data set without a test split of its own tests on what training and validation leave.
    available = len(pool) if test else len(pool) - 1
    train_count = _checked_count(spec, available)
    split_seed = parent_seed if data_seed is None else data_seed
    order = numpy_generator("split", split_seed if spec.split == "parent" else 0).permutation(len(pool))
    held, chosen, rest = np.split(order, [spec.validation, spec.validation + train_count])
    train = pool.take(np.sort(chosen))
    mean, std = STATISTICS.get(spec.source) or _statistics(train)
    if spec.bag < 1:
        bag = numpy_generator("bag", parent_seed).permutation(len(train))[: spec.bagged(len(train))]
        train = train.take(np.sort(bag))
    validation, tested = pool.take(np.sort(held)), test or pool.take(np.sort(rest))
    return Data(train, validation, tested, found.classes, mean, std, found.notes)


def describe(spec: DataSpec, content: Data) -> str:
    """A line on what is in a data set: its classes, the images of each split, what was passed over or changed."""
    sizes = ", ".join(f"{len(getattr(content, split)):,} {word}" for split, word in SPLITS.items())
    return f"data set {spec.folder or spec.source}: {content.classes} classes, {sizes} images{content.notes}"


def _check_varied(spec: DataSpec, split: Split) -> None:
    """``UserError`` if all images are the same: nothing can be learned, and something went wrong before."""
    if all(torch.equal(split.images[0], image) for image in split.images):
        raise UserError(
            f"data set {spec.folder or spec.source}: all {len(split)} images are the same once they are read; "
            "look at one of its files"
        )


def _checked_count(spec: DataSpec, available: int) -> int:
    count = available - spec.validation if spec.train is None else spec.train
    if count < 1 or count + spec.validation > available:
        raise UserError(
            f"data set {spec.source}: train {spec.train} and validation {spec.validation} ask for more than the "
            f"{available} images there are; lower them in the study"
        )
    return count


def _statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    pixels = split.images.double() / 255
    return tuple(pixels.mean((0, 2, 3)).tolist()), tuple(pixels.std((0, 2, 3)).clamp_min(1e-3).tolist())


def _digits(spec: DataSpec, root: Path) -> Source:
    """scikit-learn's digits, from the file that it brings: importing scikit-learn takes longer than reading it."""
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("scikit-learn is not installed", name="sklearn")
    table = np.loadtxt(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return Source(Split(torch.from_numpy(images), torch.from_numpy(table[:, -1].astype(np.int64))), None, 10)


def _cifar(spec: DataSpec, root: Path) -> Source:
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[spec.source]
    splits, present = [], _present(kind, root)
    for train in (True, False):
        try:
            part = kind(str(root), train=train, download=not present)
        except Exception as error:  # no network, a refused connection, a damaged archive: torchvision raises many kinds
            raise UserError(
                f"data set {spec.source} is not in {root} and could not be downloaded "
                f"({type(error).__name__}: {error}); "
                f"download {kind.url} and unpack it so that {root / kind.base_folder} exists, or set data_root"
            ) from error
        splits.append(Split(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)))
    pool, test = splits
    return Source(pool, test, len(part.classes))


def _present(kind: Any, root: Path) -> bool:
    """Whether the official files are there and match their published checksums."""
    from torchvision.datasets.utils import check_integrity

    folder = root / kind.base_folder
    files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    damaged = [
        folder / name for name, md5 in files if (folder / name).exists() and not check_integrity(folder / name, md5)
    ]
    if damaged:
        raise UserError(f"{damaged[0]} is damaged: it does not match its published MD5; delete it and fetch it again")
    return all((folder / name).exists() for name, _ in files)


def _imagefolder(spec: DataSpec, root: Path) -> Source:
    if not spec.folder:
        raise UserError(
            "data set imagefolder: folder is missing; name the folder under data_root that holds train/ and test/"
        )
    train, tested, names, seen = folders.read(root / spec.folder, spec.image_size, root, spec.duplicates)
    pool, test = (Split(torch.from_numpy(found.images), torch.from_numpy(found.labels)) for found in (train, tested))
    return Source(pool, test, len(names), seen.words())
