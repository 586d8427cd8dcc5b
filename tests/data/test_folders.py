"""Folders of images: what is scaled, turned, passed over and refused."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from images import image_folder
from PIL import Image

from ssa.data import folders, splits
from ssa.errors import UserError
from ssa.specs.specs import DataSpec


def put(root: Path, name: str, image: Image.Image, **options: Any) -> None:
    """Write one more training image of ants, which is read first."""
    image.save(root / "insects" / "train" / "ants" / name, **options)


def first(root: Path, spec: DataSpec) -> list[int]:
    """The pixels of the first image of the class of ants, in its first channel."""
    return splits.load(spec, root, 0).train.images[0, 0].flatten().tolist()


# The value v of 16 bits is v / 257 of 8: 0, 1, 128 and 255 exactly. Converted by Pillow alone, all but 0 become 255.
@pytest.mark.parametrize("name", ["0.png", "0.tif", "0.pgm"])
def test_images_of_16_bits_are_scaled_by_their_range(tmp_path: Path, name: str) -> None:
    spec = dataclasses.replace(image_folder(tmp_path), validation=0, image_size=2)
    (tmp_path / "insects/train/ants/0.png").unlink()
    put(tmp_path, name, Image.fromarray(np.array([[0, 257], [257 * 128, 65535]], dtype=np.uint16)))
    assert first(tmp_path, spec) == [0, 1, 128, 255]
    assert "; scaled 1 from 16 bits to 8" in splits.load(spec, tmp_path, 0).notes


def test_of_big_endian_16_bits_too(tmp_path: Path) -> None:
    spec = dataclasses.replace(image_folder(tmp_path), validation=0, image_size=2)
    (tmp_path / "insects/train/ants/0.png").unlink()
    values = np.array([[0, 257], [257 * 128, 65535]], dtype=np.uint16)
    put(tmp_path, "0.tif", Image.frombytes("I;16B", (2, 2), values.astype(">u2").tobytes()))
    assert first(tmp_path, spec) == [0, 1, 128, 255]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_of_no_known_range_are_refused_by_path(tmp_path: Path, kind: type) -> None:
    spec = image_folder(tmp_path)
    put(tmp_path, "depth.tif", Image.fromarray(np.array([[0, 300], [2, 1e6]], dtype=kind)))
    with pytest.raises(
        UserError, match=r"image .*ants/depth.tif holds numbers of no known range \(mode [IF]\); save it"
    ):
        splits.load(spec, tmp_path, 0)


def test_a_data_set_without_variance_is_refused(tmp_path: Path) -> None:
    spec = image_folder(tmp_path)
    for path in (tmp_path / "insects/train").rglob("*.png"):
        Image.fromarray(np.full((10, 14, 3), 255, dtype=np.uint8)).save(path)
    with pytest.raises(UserError, match=r"^data set insects: all 12 images are the same once they are read"):
        splits.load(spec, tmp_path, 0)


def test_what_is_passed_over_turned_or_hidden_is_said_in_one_line(tmp_path: Path) -> None:
    spec = image_folder(tmp_path)
    train = tmp_path / "insects" / "train"
    upright = Image.fromarray(np.array([[10, 20], [30, 40], [50, 60]], dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # held on its side: turned by 90 degrees clockwise it is upright
    put(tmp_path, "00.png", upright.rotate(90, expand=True), exif=exif)
    for name in ("ants/a.gif", "ants/b.GIF", "bees/notes", "bees/._1.png", "readme.txt"):
        (train / name).write_bytes(b"")
    for hidden in (".ipynb_checkpoints", "__MACOSX", "ants/.thumbs"):
        (train / hidden).mkdir()
        shutil.copy(train / "ants" / "1.png", train / hidden / "copy.png")
    plain = dataclasses.replace(spec, validation=0, image_size=1)
    content = splits.load(plain, tmp_path, 0)
    assert splits.describe(plain, content) == (
        "data set insects: 2 classes, 13 training, 0 validation, 4 test images; passed over 4 files that end otherwise "
        "(.gif 2, .txt 1, none 1); passed over what is hidden (._1.png, .ipynb_checkpoints, .thumbs and 1 more); "
        "turned 1 as their EXIF says"
    )
    whole = folders.read(tmp_path / "insects", 3, tmp_path, "refuse")[0].images[1, 0]
    as_it_is = np.asarray(upright.convert("RGB").resize((3, 3), Image.Resampling.BICUBIC))[..., 0]
    assert (whole == as_it_is).all()


@pytest.mark.parametrize("target", ["insects/train/ants", "insects/train", "."])
def test_a_link_to_a_folder_that_it_lies_in_is_refused(tmp_path: Path, target: str) -> None:
    spec = image_folder(tmp_path)
    inner = tmp_path / "insects/train/ants/inner"
    inner.mkdir()
    (inner / "back").symlink_to(tmp_path / target, target_is_directory=True)
    with pytest.raises(UserError, match=r"data set .*ants/inner/back is a link to .*, in which it lies; remove it$"):
        splits.load(spec, tmp_path, 0)


def test_a_link_to_another_folder_is_followed(tmp_path: Path) -> None:
    spec = image_folder(tmp_path)
    (tmp_path / "insects/train/ants").rename(tmp_path / "insects/ants")
    (tmp_path / "insects/train/ants").mkdir()
    (tmp_path / "insects/train/ants/linked").symlink_to(tmp_path / "insects/ants", target_is_directory=True)
    assert "2 classes, 10 training, 2 validation" in splits.describe(spec, splits.load(spec, tmp_path, 0))


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = image_folder(tmp_path)
    shut = tmp_path / "insects/train/ants/shut"
    for name in ("shut", ".hidden"):
        (shut.parent / name).mkdir()
    scandir = os.scandir

    def refused(path: str) -> Any:  # as root, tests may read all
        if Path(path).name in ("shut", ".hidden"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"data set .*ants/shut: Permission denied; make it readable, or remove it$"):
        splits.load(spec, tmp_path, 0)
    shut.rmdir()
    splits.load(spec, tmp_path, 0)


def test_one_class_is_refused(tmp_path: Path) -> None:
    spec = image_folder(tmp_path)
    for split in ("train", "test"):
        shutil.rmtree(tmp_path / "insects" / split / "bees")
    with pytest.raises(UserError, match=r"data set .*insects has one class only, ants; expected at least two"):
        splits.load(spec, tmp_path, 0)


def test_class_folders_that_differ_are_named_and_unicode_forms_are_one(tmp_path: Path) -> None:
    spec = image_folder(tmp_path)
    (tmp_path / "insects/train/bees").rename(tmp_path / "insects/train" / unicodedata.normalize("NFC", "blåbær"))
    (tmp_path / "insects/test/bees").rename(tmp_path / "insects/test" / unicodedata.normalize("NFD", "blåbær"))
    assert splits.load(spec, tmp_path, 0).test.labels.tolist() == [0, 0, 1, 1]
    (tmp_path / "insects/test/wasps").mkdir()
    shutil.rmtree(tmp_path / "insects/test/ants")
    with pytest.raises(UserError, match=r"different class folders \(only in train/: ants; only in test/: wasps\)"):
        splits.load(spec, tmp_path, 0)


def test_test_images_that_are_copies_of_training_images_are_counted_and_refused_unless_allowed(tmp_path: Path) -> None:
    spec = image_folder(tmp_path)
    insects = tmp_path / "insects"
    with Image.open(insects / "train/bees/3.png") as image:
        image.save(insects / "test/ants/again.bmp")  # another file of the same pixels
    with pytest.raises(UserError) as caught:
        splits.load(spec, tmp_path, 0)
    assert str(caught.value) == (
        f"data set {insects}: 1 of 5 test images are copies of training images, such as {insects}/test/ants/again.bmp "
        f"of {insects}/train/bees/3.png; remove them, or set duplicates: allow"
    )
    allowed = dataclasses.replace(spec, duplicates="allow")
    assert "; 1 test images are copies of training images" in splits.load(allowed, tmp_path, 0).notes
