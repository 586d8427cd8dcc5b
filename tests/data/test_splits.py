"""Data sets through their real loaders."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from images import image_folder
from sklearn.datasets import load_digits

from ssa.data import splits
from ssa.errors import UserError
from ssa.specs.specs import DataSpec


def test_digits_are_split_by_the_parents_seed() -> None:
    spec = DataSpec("digits", 200, 100, "parent")
    first, again, other = (splits.load(spec, Path("unused"), seed) for seed in (0, 0, 1))
    assert [len(s) for s in (first.train, first.validation, first.test)] == [200, 100, 1497]
    assert first.train.images.shape == (200, 1, 8, 8)
    assert first.train.images.dtype == torch.uint8
    assert int(first.train.images.max()) == 255
    assert torch.equal(first.train.images, again.train.images)
    assert not torch.equal(first.train.images, other.train.images)


def test_digits_are_those_that_scikit_learn_loads() -> None:
    pixels, labels = load_digits(return_X_y=True)
    theirs = np.column_stack([np.rint(pixels * (255 / 16)), labels])
    loaded = splits.load(DataSpec("digits", 200, 100, "fixed"), Path("unused"), 0)
    parts = (loaded.train, loaded.validation, loaded.test)
    ours = np.concatenate([torch.cat([part.images.flatten(1), part.labels[:, None]], 1).numpy() for part in parts])
    assert ours.shape == (1797, 65)
    assert sorted(ours.tolist()) == sorted(theirs.tolist())


def test_splits_do_not_overlap_and_fixed_ones_ignore_the_seed() -> None:
    spec = DataSpec("digits", 900, 400, "fixed")
    loaded = splits.load(spec, Path("unused"), 5)
    rows = [{image.numpy().tobytes() for image in s.images} for s in (loaded.train, loaded.validation, loaded.test)]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]
    assert torch.equal(loaded.train.labels, splits.load(spec, Path("unused"), 6).train.labels)


def test_digits_without_a_number_to_train_on_are_refused() -> None:
    with pytest.raises(UserError, match="data set digits: train is missing; it has no test images of its own"):
        splits.load(DataSpec("digits", validation=100), Path("unused"), 0)


def test_more_images_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="train 1700 and validation 200 ask for more than the 1796 images"):
        splits.load(DataSpec("digits", 1700, 200), Path("unused"), 0)


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    loaded = splits.load(image_folder(tmp_path), tmp_path, 0)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test), loaded.classes) == (10, 2, 4, 2)
    assert loaded.test.images.shape == (4, 3, 16, 16)
    assert loaded.test.labels.tolist() == [0, 0, 1, 1]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"image .*3.png cannot be read.*replace or remove it"):
        splits.load(image_folder(tmp_path, broken=True), tmp_path, 0)


def test_an_image_that_is_cut_off_or_has_a_flipped_bit_is_named_or_read(tmp_path: Path) -> None:
    """Pillow raises errors of many kinds at these, and reads some: a bit in the image's comment changes no pixel."""
    spec = image_folder(tmp_path)
    path = tmp_path / "insects" / "train" / "ants" / "3.png"
    whole, said = path.read_bytes(), []
    cut = [whole[:length] for length in range(0, len(whole) - 12, 4)]  # its last 12 bytes say only that it ends
    flipped = [flip(whole, bit) for bit in range(8 * 12, 8 * 45)]  # the header, and the name of the chunk after it
    for content in (*cut, *flipped):
        path.write_bytes(content)
        try:
            splits.load(spec, tmp_path, 0)
        except UserError as error:
            said.append(str(error))
    print(f"{len(cut)} cut off, {len(flipped)} with a flipped bit: {len(said)} refused, as in {said[-1]!r}")
    assert len(said) >= len(cut)
    assert all(line.startswith(f"image {path} cannot be read: ") for line in said)


def flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    spec = DataSpec("imagefolder", None, 2, folder="nothing")
    with pytest.raises(UserError, match=r"data set .*nothing/train.*expected one folder per class"):
        splits.load(spec, tmp_path, 0)
    with pytest.raises(UserError, match="folder is missing"):
        splits.load(dataclasses.replace(spec, folder=None), tmp_path, 0)


def test_no_files_and_no_network_says_what_to_download_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(UserError) as caught:
        splits.load(DataSpec("cifar10"), tmp_path, 0)
    message = str(caught.value)
    assert "\n" not in message
    assert "cifar-10-python.tar.gz and unpack it so that" in message
    assert str(tmp_path / "cifar-10-batches-py") in message


def test_a_damaged_cifar_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps({"data": 1}))
    with pytest.raises(UserError, match=r"data_batch_1 is damaged: it does not match its published MD5"):
        splits.load(DataSpec("cifar10"), tmp_path, 0)


@pytest.mark.slow
def test_cifar10_from_the_official_files(cifar_root: Path) -> None:
    loaded = splits.load(DataSpec("cifar10"), cifar_root, 0)
    assert [len(s) for s in (loaded.train, loaded.validation, loaded.test)] == [45_000, 5_000, 10_000]
    assert loaded.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]  # the published order
    assert loaded.train.labels.bincount(minlength=10).min() > 4300
    pixels = torch.cat([loaded.train.images, loaded.validation.images]).double() / 255
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(loaded.mean, abs=5e-4)
    assert pixels.std((0, 2, 3)).tolist() == pytest.approx(loaded.std, abs=1e-3)


@pytest.mark.slow
def test_cifar100_from_the_official_files(cifar_root: Path) -> None:
    if not (cifar_root / "cifar-100-python").is_dir():
        pytest.skip("needs the official CIFAR-100 files beside those of CIFAR-10")
    loaded = splits.load(DataSpec("cifar100", validation=0), cifar_root, 0)
    assert (len(loaded.train), len(loaded.validation), loaded.classes) == (50_000, 0, 100)
    assert loaded.train.labels.bincount().tolist() == [500] * 100
