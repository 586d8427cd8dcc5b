"""A data set in folders: ``train/`` and ``test/``, each with one folder of images per class.

What is passed over, turned or scaled is counted and said. What cannot be read as the image that it is, is refused by
its path.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssa.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
SPLITS = ("train", "test")
SIXTEEN_BITS = 65535
SHOWN = 3  # names in a message, of as many as there are


@dataclass
class Seen:
    """Counts of what reading a data set passed over or changed, by what it was."""

    endings: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    turned: int = 0
    scaled: int = 0
    copies: int = 0

    def words(self) -> str:
        """All of it, for the end of a line; empty if there was nothing."""
        parts = []
        if self.endings:
            listed = ", ".join(f"{ending} {count}" for ending, count in sorted(self.endings.items()))
            parts.append(f"passed over {self.endings.total()} files that end otherwise ({listed})")
        if self.hidden:
            parts.append(f"passed over what is hidden ({_some(sorted(self.hidden))})")
        if self.turned:
            parts.append(f"turned {self.turned} as their EXIF says")
        if self.scaled:
            parts.append(f"scaled {self.scaled} from 16 bits to 8")
        if self.copies:
            parts.append(f"{self.copies} test images are copies of training images, which duplicates: allow accepts")
        return "".join(f"; {part}" for part in parts)


@dataclass(frozen=True)
class Folder:
    """One split. ``images``: uint8 (n, 3, size, size); ``labels``: int64 (n,), the place of each image's class."""

    images: np.ndarray
    labels: np.ndarray


def read(base: Path, size: int, root: Path, duplicates: str) -> tuple[Folder, Folder, list[str], Seen]:
    """Training and test images under ``base``, the names of the classes, and what was passed over.

    Images are made square, ``size`` pixels wide. ``duplicates``: whether a test image may have the pixels of a training
    image, ``refuse`` or ``allow``. ``UserError`` naming what is missing, cannot be read, leads out of ``root``, or
    differs between the splits.
    """
    seen = Seen()
    classes = {split: _classes(base / split, root, seen) for split in SPLITS}
    _check_same_classes(base, *(set(found) for found in classes.values()))
    names = sorted(classes["train"])
    if len(names) == 1:
        raise UserError(f"data set {base} has one class only, {names[0]}; expected at least two folders in train/")
    (train, known), (test, tested) = (
        _read_split([classes[split][name] for name in names], size, root, seen) for split in SPLITS
    )
    originals = dict(known)
    copies = [(path, originals[pixels]) for pixels, path in tested if pixels in originals]
    if copies and duplicates == "refuse":
        raise UserError(
            f"data set {base}: {len(copies)} of {len(tested)} test images are copies of training images, such as "
            f"{copies[0][0]} of {copies[0][1]}; remove them, or set duplicates: allow"
        )
    seen.copies = len(copies)
    return train, test, names, seen


def _classes(folder: Path, root: Path, seen: Seen) -> dict[str, Path]:
    """The class folders of one split by name, in Unicode's composed form: file systems differ in which they keep."""
    check_inside(folder, root)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"data set {folder}: {error.strerror}; expected one folder per class with images in it"
        ) from error
    found: dict[str, Path] = {}
    for entry in entries:
        if _is_hidden(entry.name):
            seen.hidden[entry.name] += 1
        elif entry.is_dir():
            name = unicodedata.normalize("NFC", entry.name)
            if name in found:
                raise UserError(f"data set {folder}: two folders are called {name!r}; put their images into one")
            found[name] = entry
        else:
            seen.endings[_ending(entry)] += 1
    if not found:
        raise UserError(f"data set {folder} has no folders; expected one folder per class with images in it")
    return found


def _check_same_classes(base: Path, train: set[str], test: set[str]) -> None:
    parts = [
        f"only in {split}/: {_some(sorted(names))}"
        for split, names in zip(SPLITS, (train - test, test - train), strict=True)
        if names
    ]
    if parts:
        raise UserError(f"data set {base}: train/ and test/ have different class folders ({'; '.join(parts)})")


def _read_split(folders: list[Path], size: int, root: Path, seen: Seen) -> tuple[Folder, list[tuple[bytes, Path]]]:
    """The images of ``folders``, one per class in order; and a digest of each one's own pixels, with its path."""
    from PIL import Image

    listed = [(path, label) for label, folder in enumerate(folders) for path in _listed(folder, seen)]
    images = np.empty((len(listed), 3, size, size), dtype=np.uint8)
    digests = []
    for i, (path, _) in enumerate(listed):
        check_inside(path, root)
        whole = _open(path, seen)
        digests.append((hashlib.blake2b(np.asarray(whole).tobytes() + bytes(str(whole.size), "ascii")).digest(), path))
        images[i] = np.asarray(whole.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    return Folder(images, np.array([label for _, label in listed], dtype=np.int64)), digests


def _listed(folder: Path, seen: Seen) -> list[Path]:
    """The images of one class, in the order of their paths; ``UserError`` if there is none."""
    found = list(_walk(folder, seen))
    if not found:
        raise UserError(f"data set {folder} has no images; expected files that end in {', '.join(ENDINGS)}")
    return found


def _walk(folder: Path, seen: Seen) -> Iterator[Path]:
    found = []
    for place, inner, files in os.walk(folder, onerror=_refuse, followlinks=True):
        _check_no_way_back(Path(place))
        seen.hidden.update(name for name in (*inner, *files) if _is_hidden(name))
        inner[:] = [name for name in inner if not _is_hidden(name)]  # those that are walked
        found.append((place, sorted(name for name in files if not _is_hidden(name))))
    for place, files in sorted(found):
        for name in files:
            if name.lower().endswith(ENDINGS):
                yield Path(place) / name
            else:
                seen.endings[_ending(Path(name))] += 1


def _refuse(error: OSError) -> None:
    raise UserError(f"data set {error.filename}: {error.strerror}; make it readable, or remove it") from error


def _check_no_way_back(folder: Path) -> None:
    """``UserError`` if ``folder`` links to one that it lies in, whose images would be read again and again."""
    here = folder.resolve()
    if any(above.resolve() == here for above in folder.absolute().parents):
        raise UserError(f"data set {folder} is a link to {here}, in which it lies; remove it")


def _open(path: Path, seen: Seen) -> Image:
    """The image at ``path``, upright and in RGB; ``UserError`` naming it where that cannot be."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.getexif().get(0x0112, 1) != 1:  # which way up it is held
                seen.turned += 1
            upright = ImageOps.exif_transpose(image)
            depth = _is_sixteen_bits(image.mode, image.format)
            if depth is None:
                return upright.convert("RGB")
            if depth:
                seen.scaled += 1
                values = np.asarray(upright).astype(np.float64)
                scaled = np.rint(values * (255 / SIXTEEN_BITS)).astype(np.uint8)
                return Image.fromarray(scaled).convert("RGB")
            mode = image.mode
    except Exception as error:  # Pillow raises many kinds at a damaged file, and one where it asks for all memory
        raise UserError(f"image {path} cannot be read: {error}; replace or remove it") from error
    raise UserError(f"image {path} holds numbers of no known range (mode {mode}); save it with 8 or 16 bits a pixel")


def _is_sixteen_bits(mode: str, kind: str | None) -> bool | None:
    """Whether grey values run up to 65,535; False if their range is not known, None for images of 8 bits.

    Pillow cuts all that is above 255 off where it makes RGB of such an image. It reads 16-bit PNG and PGM files as
    whole numbers of 32 bits too, and scales a PGM file to 16 bits itself.
    """
    if mode.startswith("I;16"):
        return True
    if mode in ("I", "F"):
        return mode == "I" and kind in ("PNG", "PPM")
    return None


def check_inside(path: Path, root: Path) -> None:
    """``UserError`` if ``path``, its links followed, is not under ``root``: a data set reads nothing else."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{path} leads out of {root}; name a folder inside it, with no links that lead elsewhere")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _ending(path: Path) -> str:
    return path.suffix.lower() or "none"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
