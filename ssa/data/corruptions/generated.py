"""Common corruptions of images, a whole batch at a time, at the severities that CIFAR-10-C was made with.

Hendrycks and Dietterich, 2019 (arXiv 1903.12261), and the parameters of their public generator for CIFAR. A kind takes
float32 images in [0, 1], (n, height, width, channels), its parameters at one severity and a generator, and returns such
images; values outside of [0, 1] are clipped by :func:`corrupt`, which cuts to 8 bits as the original does.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssa.data.corruptions import blurs, weather
from ssa.seeds import numpy_generator

Images = NDArray[np.floating]
SEVERITIES = (1, 2, 3, 4, 5)
VERSION = 1  # raised where a change of any kind changes its images
CHUNK = 2000  # images at a time, which bounds memory and is part of the version

BENCHMARK = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
# What authors average over: the benchmark's own 15 types, uncertainty-baselines' 17 for CIFAR-100, or all 19.
SETS: dict[str, tuple[str, ...]] = {
    "benchmark-15": BENCHMARK,
    "uncertainty-baselines-17": tuple(kind for kind in (*BENCHMARK, *EXTRA) if kind not in ("motion_blur", "snow")),
    "all-19": (*BENCHMARK, *EXTRA),
    "digits-6": ("gaussian_noise", "shot_noise", "gaussian_blur", "brightness", "contrast", "pixelate"),
}
# What stands in for parts of the original that are photographs or another library's; see the functions.
SUBSTITUTED = ("frost", "spatter")

# The parameters at severities 1 to 5.
CIFAR: dict[str, tuple[Any, ...]] = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": (1.06, 1.11, 1.16, 1.21, 1.26),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "elastic_transform": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": (80, 65, 58, 50, 40),
    "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
}
# Ours, for images of 8 x 8 pixels in grey: as hard on them as CIFAR's are on 32 x 32 pixels.
DIGITS: dict[str, tuple[Any, ...]] = {
    "gaussian_noise": (0.1, 0.15, 0.2, 0.3, 0.4),
    "shot_noise": (60, 25, 12, 5, 3),
    "gaussian_blur": (0.4, 0.5, 0.6, 0.8, 1),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "pixelate": (0.9, 0.8, 0.65, 0.5, 0.4),
}
SOURCES = {"cifar10": CIFAR, "cifar100": CIFAR, "digits": DIGITS}


def corrupt(images: NDArray[np.uint8], source: str, kind: str, severity: int) -> NDArray[np.uint8]:
    """``images``, uint8 (n, height, width, channels), under ``kind`` at ``severity`` 1 to 5 of data set ``source``.

    A pure function of its arguments and :data:`VERSION`.
    """
    parameters = SOURCES[source][kind][severity - 1]
    chunks = []
    for number, start in enumerate(range(0, len(images), CHUNK)):
        rng = numpy_generator("corruption", VERSION, kind, severity, number)
        clean = images[start : start + CHUNK].astype(np.float32) / 255
        # The original cuts, it does not round; what is 8 bits already must survive the division by 255.
        dirty = np.clip(KINDS[kind](clean, parameters, rng), 0, 1) * np.float32(255)
        chunks.append(np.floor(dirty + np.float32(1e-3)).astype(np.uint8))
    return np.concatenate(chunks)


def gaussian_noise(x: Images, scale: float, rng: np.random.Generator) -> Images:
    """Noise of standard deviation ``scale``."""
    return x + np.float32(scale) * rng.standard_normal(x.shape, np.float32)


def shot_noise(x: Images, photons: float, rng: np.random.Generator) -> Images:
    """Poisson noise where white is ``photons``."""
    return (rng.poisson(x * photons) / photons).astype(np.float32)


def impulse_noise(x: Images, amount: float, rng: np.random.Generator) -> Images:
    """A fraction ``amount`` of all values becomes 0 or 1, each as often."""
    drawn = rng.random(x.shape, np.float32)
    return np.where(drawn < amount, (drawn < amount / 2).astype(np.float32), x)


def speckle_noise(x: Images, scale: float, rng: np.random.Generator) -> Images:
    """Noise in proportion to the value."""
    return x + x * gaussian_noise(np.zeros_like(x), scale, rng)


def brightness(x: Images, amount: float, rng: np.random.Generator) -> Images:
    """HSV's value goes up by ``amount``; hue and saturation stay."""
    value = x.max(-1, keepdims=True)
    brighter = np.clip(value + np.float32(amount), 0, 1)
    return np.where(value > 0, x * (brighter / np.maximum(value, 1e-8)), brighter)


def saturate(x: Images, parameters: tuple[float, float], rng: np.random.Generator) -> Images:
    """HSV's saturation is multiplied by the first of ``parameters`` and goes up by the second; grey turns to red."""
    value, low = x.max(-1, keepdims=True), x.min(-1, keepdims=True)
    saturation = (value - low) / np.maximum(value, 1e-8)
    wanted = np.clip(saturation * np.float32(parameters[0]) + np.float32(parameters[1]), 0, 1)
    coloured = value - (value - x) * (wanted / np.maximum(saturation, 1e-8))
    red = value * (1 - wanted * np.array([0, 1, 1], np.float32))
    return np.where(saturation > 0, coloured, red)


def contrast(x: Images, amount: float, rng: np.random.Generator) -> Images:
    """Distances from each channel's mean shrink by ``amount``."""
    means = x.mean((1, 2), keepdims=True)
    return (x - means) * np.float32(amount) + means


def pixelate(x: Images, scale: float, rng: np.random.Generator) -> Images:
    """Shrunk to ``scale`` and enlarged again, by boxes."""
    height, width = x.shape[1:3]
    small = (int(width * scale), int(height * scale))

    def one(image: Image.Image) -> Image.Image:
        return image.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)

    return _with_pillow(x, one)


def jpeg_compression(x: Images, quality: int, rng: np.random.Generator) -> Images:
    """Written as JPEG of ``quality`` and read again."""

    def one(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return _with_pillow(x, one)


def _with_pillow(x: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    pixels = np.rint(x * 255).astype(np.uint8)
    grey = pixels.shape[-1] == 1
    changed = [np.asarray(change(Image.fromarray(image[..., 0] if grey else image))) for image in pixels]
    return np.stack(changed).reshape(x.shape).astype(np.float32) / 255


KINDS: dict[str, Callable[[Images, Any, np.random.Generator], Images]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": blurs.defocus_blur,
    "glass_blur": blurs.glass_blur,
    "motion_blur": blurs.motion_blur,
    "zoom_blur": blurs.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": blurs.elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "speckle_noise": speckle_noise,
    "gaussian_blur": blurs.gaussian_blur,
    "spatter": weather.spatter,
    "saturate": saturate,
}
