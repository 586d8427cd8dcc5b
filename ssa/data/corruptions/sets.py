"""Corrupted test sets: the official CIFAR-10-C and CIFAR-100-C where their files are at hand, else generated ones.

Every set says which it is: numbers on generated images are not numbers on the official ones.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssa.data.corruptions import official
from ssa.data.corruptions.generated import SETS, SEVERITIES, SUBSTITUTED, VERSION, corrupt
from ssa.data.splits import Split
from ssa.errors import UserError, check_choice
from ssa.files import write_atomically
from ssa.seeds import numpy_generator
from ssa.vocabulary import CORRUPTION_SETS

if TYPE_CHECKING:
    from ssa.specs.specs import DataSpec

OFFICIAL, GENERATED = "official", "generated"


@dataclass(frozen=True)
class CorruptedSet:
    """A test set under every kind and severity: iterating gives (kind, severity 1 to 5, images with their labels).

    ``label``: "official" or "generated". ``labels``: int64 (n,); ``total``: how many test images these were chosen
    from. ``read``: uint8 (n, height, width, channels) for a kind and severity.
    """

    label: str
    source: str
    kinds: tuple[str, ...]
    labels: Tensor
    total: int
    read: Callable[[str, int], NDArray[np.uint8]]

    def __iter__(self) -> Iterator[tuple[str, int, Split]]:
        for kind in self.kinds:
            for severity in SEVERITIES:
                images = torch.from_numpy(np.ascontiguousarray(self.read(kind, severity).transpose(0, 3, 1, 2)))
                yield kind, severity, Split(images, self.labels)

    @property
    def description(self) -> str:
        """For example ``generated (v1), 1000 of 10000 images, frost and spatter by substitutes``."""
        images = f"{len(self.labels)} of {self.total} images" if len(self.labels) < self.total else "all images"
        if self.label == OFFICIAL:
            return f"{OFFICIAL}, {images}"
        substitutes = [kind for kind in SUBSTITUTED if kind in self.kinds]
        marked = f", {' and '.join(substitutes)} by substitutes" if substitutes else ""
        return f"{GENERATED} (v{VERSION}), {images}{marked}"


def corrupted(
    spec: DataSpec, root: Path, test: Split, images: int | None = None, kinds: str | None = None
) -> CorruptedSet:
    """The corrupted test set of ``spec`` whose clean images are ``test``, all of them in the data set's order.

    Official where its files or archive are under ``root``, else generated once and kept in ``root``/corrupted.
    ``images``: a fixed random subset of so many. ``kinds``: a name of :data:`ssa.data.corruptions.generated.SETS`.
    ``UserError`` for a data set without corruptions, and for damaged files.
    """
    if spec.source not in CORRUPTION_SETS:
        raise UserError(
            f"data set {spec.source} has no corrupted test set; allowed: {', '.join(CORRUPTION_SETS)}; "
            "leave corruptions out"
        )
    name = kinds or CORRUPTION_SETS[spec.source][-1]
    check_choice("kinds", name, CORRUPTION_SETS[spec.source])
    chosen = _subset(len(test), images)
    labels = test.labels.cpu()[torch.from_numpy(chosen)]
    if official.present(spec.source, root):
        read = _official(spec.source, root, test, chosen)
        return CorruptedSet(OFFICIAL, spec.source, SETS[name], labels, len(test), read)
    clean = np.ascontiguousarray(test.images.cpu().numpy()[chosen].transpose(0, 2, 3, 1))
    read = _generated(spec.source, root, clean, SETS[name])
    return CorruptedSet(GENERATED, spec.source, SETS[name], labels, len(test), read)


def _subset(total: int, images: int | None) -> NDArray[np.int64]:
    if images is None or images >= total:
        return np.arange(total)
    return np.sort(numpy_generator("corrupted images").permutation(total)[:images])


def _official(
    source: str, root: Path, test: Split, chosen: NDArray[np.int64]
) -> Callable[[str, int], NDArray[np.uint8]]:
    labels = official.read(source, root, "labels")
    if not np.array_equal(labels[: len(labels) // len(SEVERITIES)], test.labels.cpu().numpy()):
        raise UserError(
            f"{root / official.ARCHIVES[source].folder}: its labels are not those of the test images; "
            "it needs the whole official test set"
        )
    opened: dict[str, NDArray[np.uint8]] = {}  # one kind at a time, so that its checksum is taken once

    def read(kind: str, severity: int) -> NDArray[np.uint8]:
        if kind not in opened:
            opened.clear()
            opened[kind] = official.read(source, root, kind)
        return opened[kind][(severity - 1) * len(test) + chosen]

    return read


def _generated(
    source: str, root: Path, clean: NDArray[np.uint8], kinds: tuple[str, ...]
) -> Callable[[str, int], NDArray[np.uint8]]:
    digest = hashlib.blake2b(clean.tobytes() + repr((clean.shape, kinds)).encode(), digest_size=6).hexdigest()
    path = root / "corrupted" / f"{source}-{GENERATED}-v{VERSION}-{digest}.npz"
    if not path.is_file():
        write_atomically(path, lambda partial: _generate(partial, source, clean, kinds))

    def read(kind: str, severity: int) -> NDArray[np.uint8]:
        try:
            with np.load(path, allow_pickle=False) as archive:  # each entry's CRC-32 is checked as it is read
                return np.asarray(archive[_entry(kind, severity)])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged ({error}); delete it and run again to rebuild it") from error

    return read


def _generate(path: Path, source: str, clean: NDArray[np.uint8], kinds: tuple[str, ...]) -> None:
    """Write an uncompressed .npz, one kind and severity at a time: the whole would not fit into a small memory."""
    with zipfile.ZipFile(path, "w") as archive:
        for kind in kinds:
            for severity in SEVERITIES:
                # A fixed time: the same images are the same file, byte for byte.
                entry = zipfile.ZipInfo(f"{_entry(kind, severity)}.npy")
                with archive.open(entry, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, corrupt(clean, source, kind, severity), allow_pickle=False)


def _entry(kind: str, severity: int) -> str:
    return f"{kind}-{severity}"
