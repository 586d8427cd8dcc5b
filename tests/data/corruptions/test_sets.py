"""Corrupted test sets: official files and archives, generated ones, and what is made of them."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ssa.data import splits
from ssa.data.corruptions import official
from ssa.data.corruptions import sets as corruptions
from ssa.data.corruptions.generated import SETS, SEVERITIES, corrupt
from ssa.data.corruptions.sets import CorruptedSet, corrupted
from ssa.data.splits import Split
from ssa.errors import UserError
from ssa.runs.corrupted_scores import summarise_corrupted
from ssa.runs.ensemble_scores import CONVENTIONS, measure
from ssa.specs.specs import DataSpec

CIFAR = DataSpec("cifar10")
DIGITS = DataSpec("digits", 200, 100, "parent")


def split(n: int = 20, size: int = 32, channels: int = 3) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(0, 10, (n,), generator=generator))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture
def official_files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of an official archive of :func:`split`'s 20 images, whose checksums the code is made to expect.

    Every pixel of the k-th kind at severity s is 10 k + s, but for its first, which is the image's number.
    """
    files = {"labels": npy(np.tile(split().labels.numpy(), 5).astype(np.uint8))}
    for number, kind in enumerate(SETS["all-19"]):
        images = np.empty((5, 20, 32, 32, 3), np.uint8)
        images[:] = 10 * number + np.arange(1, 6)[:, None, None, None, None]
        images[:, :, 0, 0, 0] = np.arange(20)
        files[kind] = npy(images.reshape(100, 32, 32, 3))
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    archive = replace(official.ARCHIVES["cifar10"], files=sums, md5=hashlib.md5(tar_of(files)).hexdigest())
    monkeypatch.setitem(official.ARCHIVES, "cifar10", archive)
    return files


def tar_of(files: dict[str, bytes]) -> bytes:
    """An archive with ``files``, a file that would land outside of its folder, and a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"CIFAR-10-C/{name}.npy")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        evil = tarfile.TarInfo("../evil.npy")
        evil.size = 4
        tar.addfile(evil, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("CIFAR-10-C/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return buffer.getvalue()


def unpacked(root: Path, files: dict[str, bytes]) -> Path:
    (root / "CIFAR-10-C").mkdir(parents=True)
    for name, content in files.items():
        (root / "CIFAR-10-C" / f"{name}.npy").write_bytes(content)
    return root


def test_the_official_folder_is_read(tmp_path: Path, official_files: dict[str, bytes]) -> None:
    found = corrupted(CIFAR, unpacked(tmp_path, official_files), split())
    assert (found.label, found.description) == ("official", "official, all images")
    rows = list(found)
    assert [(kind, severity) for kind, severity, _ in rows] == [(k, s) for k in SETS["all-19"] for s in SEVERITIES]
    for number, (_, severity, part) in enumerate(rows):
        assert part.images.shape == (20, 3, 32, 32)
        assert part.images[:, 1].unique().tolist() == [10 * (number // 5) + severity]
        assert part.images[:, 0, 0, 0].tolist() == list(range(20))
        assert torch.equal(part.labels, split().labels)


def test_a_subset_has_the_same_images_under_every_corruption(tmp_path: Path, official_files: dict[str, bytes]) -> None:
    found = corrupted(CIFAR, unpacked(tmp_path, official_files), split(), images=7, kinds="benchmark-15")
    assert found.description == "official, 7 of 20 images"
    parts = [part for _, _, part in found]
    assert len(parts) == 75
    which = parts[0].images[:, 0, 0, 0].long()
    assert len(set(which.tolist())) == 7
    assert all(torch.equal(part.images[:, 0, 0, 0].long(), which) for part in parts)
    assert torch.equal(parts[0].labels, split().labels[which])


def test_an_archive_is_unpacked_and_cannot_escape(tmp_path: Path, official_files: dict[str, bytes]) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "CIFAR-10-C.tar").write_bytes(tar_of(official_files))
    assert corrupted(CIFAR, root, split()).label == "official"
    print(f"unpacked an archive with {len(official_files)} files and others that lead out of it")
    assert {path.name for path in tmp_path.rglob("*")} == {
        *("data", "CIFAR-10-C.tar", "CIFAR-10-C"),
        *(f"{name}.npy" for name in official_files),
    }


def test_a_damaged_archive_or_file_is_refused(tmp_path: Path, official_files: dict[str, bytes]) -> None:
    (tmp_path / "CIFAR-10-C.tar").write_bytes(tar_of(official_files)[:-1] + b"x")
    with pytest.raises(UserError, match=r"CIFAR-10-C.tar is damaged: it does not match its published MD5; delete it"):
        corrupted(CIFAR, tmp_path, split())
    root = unpacked(tmp_path / "other", {**official_files, "fog": official_files["fog"][:-1] + b"x"})
    with pytest.raises(UserError, match=r"fog.npy is damaged: it does not match its published MD5"):
        list(corrupted(CIFAR, root, split()))


def test_a_part_of_the_official_test_set_is_refused(tmp_path: Path, official_files: dict[str, bytes]) -> None:
    first = Split(split().images[:10], split().labels[:10])
    with pytest.raises(UserError, match="it needs the whole official test set"):
        corrupted(CIFAR, unpacked(tmp_path, official_files), first)


def test_labels_of_other_images_are_refused(tmp_path: Path, official_files: dict[str, bytes]) -> None:
    other = Split(split().images, split().labels.flip(0))
    with pytest.raises(UserError, match="its labels are not those of the test images"):
        corrupted(CIFAR, unpacked(tmp_path, official_files), other)


def test_the_published_checksums_are_of_all_files() -> None:
    for source in ("cifar10", "cifar100"):
        sums = official.ARCHIVES[source].files
        assert set(sums) == {*SETS["all-19"], "labels"}
        assert len({*sums.values(), official.ARCHIVES[source].md5}) == 21
        assert all(len(md5) == 32 and int(md5, 16) for md5 in sums.values())


@contextmanager
def served(content: bytes, monkeypatch: pytest.MonkeyPatch, announced: int | None = None) -> Iterator[HTTPServer]:
    """A server in the place of Zenodo's that sends ``content``, whatever length it has ``announced``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) if announced is None else announced))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Nothing: the test's output stays its own."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/CIFAR-10-C.tar"
        monkeypatch.setitem(official.ARCHIVES, "cifar10", replace(official.ARCHIVES["cifar10"], url=url))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_fetching_unpacks_and_removes_the_archive(
    tmp_path: Path, official_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tar_of(official_files), monkeypatch):
        assert official.fetch("cifar10", tmp_path) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["CIFAR-10-C"]
    assert corrupted(CIFAR, tmp_path, split()).label == "official"
    assert official.fetch("cifar10", tmp_path) == ""  # there already: the server is gone


def test_an_archive_out_of_reach_is_said_and_images_are_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(b"", monkeypatch):
        pass
    assert re.match(r".*/CIFAR-10-C.tar is out of reach \(.*refused", official.fetch("cifar10", tmp_path))
    assert official.fetch("digits", tmp_path) == ""
    found = corrupted(CIFAR, tmp_path, split(4))
    assert (found.label, found.description) == (
        "generated",
        "generated (v1), all images, frost and spatter by substitutes",
    )


def test_a_download_that_breaks_off_is_the_networks_fault_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(bytes(10), monkeypatch, announced=100):
        reason = official.fetch("cifar10", tmp_path)
    assert re.match(r".*/CIFAR-10-C.tar is out of reach \(.*10 bytes read, 90 more expected", reason)
    assert not list(tmp_path.iterdir())


def test_a_download_of_other_content_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        served(bytes(10), monkeypatch),
        pytest.raises(UserError, match=r"/CIFAR-10-C.tar arrived damaged \(its MD5 is another\)"),
    ):
        official.fetch("cifar10", tmp_path)
    assert not list(tmp_path.iterdir())


def test_generated_images_are_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = split(6)
    first = [part.images for _, _, part in corrupted(CIFAR, tmp_path, clean)]
    pixels = clean.images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(first[7].permute(0, 2, 3, 1).numpy(), corrupt(pixels, "cifar10", "shot_noise", 3))
    (kept,) = (tmp_path / "corrupted").iterdir()
    content = kept.read_bytes()
    assert kept.name.startswith("cifar10-generated-v1-")

    def no_more(*arguments: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(corruptions, "corrupt", no_more)
        again = [part.images for _, _, part in corrupted(CIFAR, tmp_path, clean)]
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        with pytest.raises(AssertionError):  # other images are another file
            corrupted(CIFAR, tmp_path, Split(clean.images.flip(0), clean.labels))
    assert [path.name for path in (tmp_path / "corrupted").iterdir()] == [kept.name]  # nothing half written
    kept.unlink()
    corrupted(CIFAR, tmp_path, clean)
    assert kept.read_bytes() == content


def test_a_damaged_file_of_generated_images_is_refused(tmp_path: Path) -> None:
    clean = split(6)
    corrupted(CIFAR, tmp_path, clean)
    (kept,) = (tmp_path / "corrupted").iterdir()
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    with pytest.raises(UserError, match=r"npz is damaged .*; delete it and run again"):
        list(corrupted(CIFAR, tmp_path, clean))
    for size in (100, 0):
        kept.write_bytes(content[:size])
        with pytest.raises(UserError, match=r"npz is damaged .*; delete it and run again"):
            list(corrupted(CIFAR, tmp_path, clean))


def test_digits_have_a_set_of_their_own(tmp_path: Path) -> None:
    loaded = splits.load(DIGITS, tmp_path, 0)
    found = corrupted(DIGITS, tmp_path, loaded.test, images=50)
    assert (found.label, found.kinds) == ("generated", SETS["digits-6"])
    parts = [part for _, _, part in found]
    assert len(parts) == 30
    assert all(part.images.shape == (50, 1, 8, 8) for part in parts)
    assert found.description == "generated (v1), 50 of 1497 images"


def test_what_has_no_corruptions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="data set imagefolder has no corrupted test set; allowed: cifar10, cifar100, digits;"
    ):
        corrupted(DataSpec("imagefolder"), tmp_path, split())
    with pytest.raises(ValueError, match="kinds is 'all-19'; allowed: digits-6"):
        corrupted(DIGITS, tmp_path, split(4, 8, 1), kinds="all-19")


def brightness_reader(split: Split) -> Tensor:
    """Logits of two members, (2, n, 10), that depend on the images and guess classes from their mean."""
    mean = split.images.double().mean((1, 2, 3)) / 25.5
    classes = torch.arange(10)
    return torch.stack([-(mean[:, None] - classes).abs(), -((mean[:, None] - classes) ** 2)])


def test_the_summary_of_a_corrupted_set(tmp_path: Path) -> None:
    clean = split(40)
    found = corrupted(CIFAR, tmp_path, clean)
    temperatures = {"probabilities": 2.0, "logits": 0.5}
    summary = json.loads(
        json.dumps(
            summarise_corrupted(brightness_reader, found, temperatures, parent=lambda part: brightness_reader(part)[0])
        )
    )
    assert (summary["label"], summary["images"], summary["total"], len(summary["rows"])) == ("generated", 40, 40, 95)
    kind, severity, part = next(iter(found))
    logits, row = brightness_reader(part), summary["rows"][0]
    assert (row["kind"], row["severity"]) == (kind, severity) == ("gaussian_noise", 1)
    with_parent = torch.cat([logits, logits[:1]])
    for name in CONVENTIONS:
        assert row["conventions"][name] == vars(measure(logits, part.labels, name))
        assert row["scaled"][name] == vars(measure(logits, part.labels, name, temperature=temperatures[name]))
        assert row["with_parent"][name] == vars(measure(with_parent, part.labels, name))
        assert sum(row["reliability"][name]["count"]) == 40
    assert set(summary["means"]) == {"benchmark-15", "uncertainty-baselines-17", "all-19"}
    for name, kinds in ((name, SETS[name]) for name in summary["means"]):
        values = [row["conventions"]["logits"]["nll"] for row in summary["rows"] if row["kind"] in kinds]
        assert len(values) == 5 * len(kinds)
        assert summary["means"][name]["conventions"]["logits"]["nll"] == pytest.approx(sum(values) / len(values))


def test_means_by_hand_and_a_member_that_breaks_is_marked() -> None:
    labels = torch.tensor([0, 1])
    images = np.zeros((2, 8, 8, 1), np.uint8)
    clean = CorruptedSet("generated", "digits", SETS["digits-6"], labels, 2, lambda kind, severity: images + severity)

    def predict(part: Split) -> Tensor:
        """Right on both images up to severity 2, on the first only from then on; broken at severity 5."""
        severity = int(part.images.max())
        second = [0.0, 9.0] if severity < 3 else [9.0, 0.0]
        return torch.tensor([[[9.0, 0.0], second]]) * (float("inf") if severity == 5 else 1)

    found = summarise_corrupted(predict, clean)["means"]["digits-6"]["conventions"]["probabilities"]
    assert found["accuracy"] == pytest.approx((100 + 100 + 50 + 50 + 50) / 5)  # at severity 5 a guess of two classes
    assert not found["finite"]


@pytest.mark.slow
def test_real_images_are_corrupted(cifar_root: Path, tmp_path: Path) -> None:
    test = splits.load(CIFAR, cifar_root, 0).test
    found = corrupted(CIFAR, tmp_path, test, images=20, kinds="benchmark-15")
    assert len(list(found)) == 75
