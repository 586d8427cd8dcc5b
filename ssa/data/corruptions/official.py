"""The official corrupted CIFAR test sets: where they come from, their checksums, and reading them safely.

Hendrycks and Dietterich, 2019 (arXiv 1903.12261); archives on Zenodo, records 2535967 and 3555552. Each file holds the
10,000 test images at severity 1, then at severity 2, and so on.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ssa.errors import UserError
from ssa.files import write_atomically

CHUNK = 1 << 20  # bytes
TIMEOUT = 20  # seconds without an answer, after which an archive is out of reach


@dataclass(frozen=True)
class Archive:
    """An official archive: the folder that it unpacks to, where it is, and the MD5 of itself and of its files."""

    folder: str
    url: str
    md5: str
    files: Mapping[str, str]

    @property
    def filename(self) -> str:
        """The archive's name."""
        return f"{self.folder}.tar"


ARCHIVES = {
    "cifar10": Archive(
        "CIFAR-10-C",
        "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",
        "56bf5dcef84df0e2308c6dcbcbbd8499",
        {
            "brightness": "0a81ef75e0b523c3383219c330a85d48",
            "contrast": "3c8262171c51307f916c30a3308235a8",
            "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
            "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
            "fog": "7b397314b5670f825465fbcd1f6e9ccd",
            "frost": "31f6ab3bce1d9934abfb0cc13656f141",
            "gaussian_blur": "c33370155bc9b055fb4a89113d3c559d",
            "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
            "glass_blur": "7361fb4019269e02dbf6925f083e8629",
            "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
            "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
            "labels": "c439b113295ed5254878798ffe28fd54",
            "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
            "pixelate": "0f14f7e2db14288304e1de10df16832f",
            "saturate": "1cfae0964219c5102abbb883e538cc56",
            "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
            "snow": "bb238de8555123da9c282dea23bd6e55",
            "spatter": "8a5a3903a7f8f65b59501a6093b4311e",
            "speckle_noise": "ef00b87611792b00df09c0b0237a1e30",
            "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
        },
    ),
    "cifar100": Archive(
        "CIFAR-100-C",
        "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar",
        "11f0ed0f1191edbf9fa23466ae6021d3",
        {
            "brightness": "f22d7195aecd6abb541e27fca230c171",
            "contrast": "322bb385f1d05154ee197ca16535f71e",
            "defocus_blur": "d923e3d9c585a27f0956e2f2ad832564",
            "elastic_transform": "a0792bd6581f6810878be71acedfc65a",
            "fog": "4efc7ebd5e82b028bdbe13048e3ea564",
            "frost": "3a39c6823bdfaa0bf8b12fe7004b8117",
            "gaussian_blur": "5204ba0d557839772ef5a4196a052c3e",
            "gaussian_noise": "ecc4d366eac432bdf25c024086f5e97d",
            "glass_blur": "0bf384f38e5ccbf8dd479d9059b913e1",
            "impulse_noise": "3b3c210ddfa0b5cb918ff4537a429fef",
            "jpeg_compression": "c851b7f1324e1d2ffddeb76920576d11",
            "labels": "bb4026e9ce52996b95f439544568cdb2",
            "motion_blur": "732a7e2e54152ff97c742d4c388c5516",
            "pixelate": "96c00c60f144539e14cffb02ddbd0640",
            "saturate": "c0697e9fdd646916a61e9c312c77bf6b",
            "shot_noise": "b0a1fa6e1e465a747c1b204b1914048a",
            "snow": "0237be164583af146b7b144e73b43465",
            "spatter": "12ccf41d62564d36e1f6a6ada5022728",
            "speckle_noise": "e3f215b1a0f9fd9fd6f0d1cf94a7ce99",
            "zoom_blur": "0204613400c034a81c4830d5df81cb82",
        },
    ),
}


def present(source: str, root: Path) -> bool:
    """Whether the official files of data set ``source`` are under ``root``; an archive found there is unpacked."""
    archive = ARCHIVES.get(source)
    if archive is None:
        return False
    missing = [name for name in archive.files if not _file(archive, root, name).is_file()]
    if missing and (root / archive.filename).is_file():
        _unpack(archive, root, missing)
        return True
    return not missing


def fetch(source: str, root: Path) -> str:
    """Download the archive of ``source`` and unpack it, unless its files are there; the reason why not, or "".

    A data set that has no official corruptions is no reason.
    """
    archive = ARCHIVES.get(source)
    if archive is None or present(source, root):
        return ""
    import pooch
    import requests

    downloader = pooch.HTTPDownloader(timeout=TIMEOUT)
    try:
        pooch.retrieve(archive.url, f"md5:{archive.md5}", archive.filename, root, downloader=downloader)
    except requests.RequestException as error:
        return f"{archive.url} is out of reach ({error})"
    except ValueError as error:
        raise UserError(f"{archive.url} arrived damaged (its MD5 is another): fetch it again") from error
    present(source, root)
    (root / archive.filename).unlink()
    return ""


def read(source: str, root: Path, name: str) -> NDArray[np.uint8]:
    """One official file, mapped into memory: a kind's (50000, 32, 32, 3) images, or ``labels``, (50000,).

    ``UserError`` if it does not match its published MD5.
    """
    archive = ARCHIVES[source]
    path = _file(archive, root, name)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != archive.files[name]:
            raise UserError(f"{path} is damaged: it does not match its published MD5; delete it and fetch it again")
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _file(archive: Archive, root: Path, name: str) -> Path:
    return root / archive.folder / f"{name}.npy"


def _copy(source: IO[bytes], path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(source, file, CHUNK)


def _unpack(archive: Archive, root: Path, names: list[str]) -> None:
    """Take the files ``names`` out of the archive; nothing else in it is written, and no name in it is a path."""
    path = root / archive.filename
    with path.open("rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != archive.md5:
            raise UserError(f"{path} is damaged: it does not match its published MD5; delete it and fetch it again")
    with tarfile.open(path) as tar:
        for name in names:
            content: Any = tar.extractfile(f"{archive.folder}/{name}.npy")
            write_atomically(_file(archive, root, name), partial(_copy, content))
