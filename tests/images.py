"""Folders of images, as ``imagefolder`` reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ssa.specs.specs import DataSpec


def image_folder(root: Path, broken: bool = False) -> DataSpec:
    for split, count in (("train", 6), ("test", 2)):
        for label in ("ants", "bees"):
            (root / "insects" / split / label).mkdir(parents=True)
            for i in range(count):
                value = 20 * i + (100 if label == "bees" else 0) + (5 if split == "test" else 0)
                pixels = np.full((10, 14, 3), value, dtype=np.uint8)
                Image.fromarray(pixels).save(root / "insects" / split / label / f"{i}.png")
    if broken:
        (root / "insects" / "train" / "ants" / "3.png").write_bytes(b"no image")
    return DataSpec("imagefolder", None, 2, folder="insects", image_size=16)
