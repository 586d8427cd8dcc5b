"""Corruptions that lay something over the image: snow, frost, fog and spatter.

See :mod:`ssa.data.corruptions.generated`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ssa.data.corruptions.blurs import enlargement, smear
from ssa.seeds import numpy_generator

Images = NDArray[np.floating]
GREY = np.array([0.299, 0.587, 0.114], np.float32)
TURQUOISE = np.array([175, 238, 238], np.float32) / 255
MUD = np.array([63, 42, 20], np.float32) / 255
TEXTURES, TEXTURE_SIZE = 5, 128


def fog(x: Images, parameters: tuple[float, float], rng: np.random.Generator) -> Images:
    """A plasma fractal is added, and the whole darkened to the image's own brightest value."""
    strength, decay = parameters
    brightest = x.max((1, 2, 3), keepdims=True)
    size = 1 << (max(x.shape[1:3]) - 1).bit_length()
    layer = plasma(len(x), size, decay, rng)[:, : x.shape[1], : x.shape[2], None]
    return (x + np.float32(strength) * layer) * (brightest / (brightest + np.float32(strength)))


def plasma(n: int, size: int, decay: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """(n, size, size) in [0, 1]: height maps by the diamond-square algorithm, ``size`` a power of two, on a torus.

    Jitter shrinks by ``decay`` at each halving of the step.
    """
    heights = np.zeros((n, size, size))
    step, jitter = size, 100.0

    def jittered(total: NDArray[np.float64]) -> NDArray[np.float64]:
        return total / 4 + jitter * rng.uniform(-jitter, jitter, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        rows = corners + np.roll(corners, -1, 1)
        heights[:, half::step, half::step] = jittered(rows + np.roll(rows, -1, 2))
        centres = heights[:, half::step, half::step]
        above = centres + np.roll(centres, 1, 1)
        heights[:, ::step, half::step] = jittered(above + corners + np.roll(corners, -1, 2))
        beside = centres + np.roll(centres, 1, 2)
        heights[:, half::step, ::step] = jittered(beside + rows)
        step //= 2
        jitter /= decay
    heights -= heights.min((1, 2), keepdims=True)
    return (heights / heights.max((1, 2), keepdims=True)).astype(np.float32)


def snow(x: Images, parameters: tuple[float, ...], rng: np.random.Generator) -> Images:
    """Driven flakes over a paler image: mean, spread, size and threshold of the flakes, their smear, the image's share.

    Severities and order of the steps are the original's.
    """
    mean, spread, zoom, threshold, radius, sigma, share = parameters
    flakes = rng.normal(mean, spread, x.shape[:3])
    grow = enlargement(x.shape[1], zoom)
    flakes = grow @ flakes @ grow.T
    flakes[flakes < threshold] = 0
    grains = np.floor(np.clip(flakes, 0, 1) * 255).astype(np.float32)[..., None] / 255
    layer = smear(grains, int(radius), sigma, rng.uniform(-135, -45, len(x)))
    pale = np.maximum(x, (x @ GREY)[..., None] * 1.5 + 0.5)
    return np.float32(share) * x + np.float32(1 - share) * pale + layer + np.rot90(layer, 2, (1, 2))


def frost(x: Images, parameters: tuple[float, float], rng: np.random.Generator) -> Images:
    """Frost over the image, both weighted: a procedural substitute for the original's six photographs.

    A random crop of one of five textures: bluish-white ridges where two plasma fractals nearly meet, as crystals
    grow along lines, over a dimmer film of ice. The weights of image and frost are the original's.
    """
    share, strength = parameters
    made = frost_textures()
    height, width = x.shape[1:3]
    which = rng.integers(TEXTURES, size=len(x))
    top, left = rng.integers(TEXTURE_SIZE - height, size=len(x)), rng.integers(TEXTURE_SIZE - width, size=len(x))
    rows = top[:, None, None] + np.arange(height)[:, None]
    columns = left[:, None, None] + np.arange(width)
    return np.float32(share) * x + np.float32(strength) * made[which[:, None, None], rows, columns]


def frost_textures() -> Images:
    """(5, 128, 128, 3) in [0, 1]; always the same."""
    rng = numpy_generator("frost", 1)
    first, second = (plasma(TEXTURES, TEXTURE_SIZE, 1.5, rng) for _ in range(2))
    ridges = np.exp(-np.abs(first - second) / 0.06)
    film = plasma(TEXTURES, TEXTURE_SIZE, 1.7, rng)
    brightness = np.clip(0.25 + 0.35 * film + 0.55 * ridges, 0, 1)
    return brightness[..., None] * np.array([0.82, 0.92, 1.0], np.float32)


def spatter(x: Images, parameters: tuple[float, ...], rng: np.random.Generator) -> Images:
    """Drops of water (severities 1 to 3) or mud (4 and 5): mean, spread and smoothness of the liquid, its threshold.

    Water's shading follows the original step by step, but for its edge detector: drops lie on nothing, so
    their edges are their outermost pixels.
    """
    mean, spread, smooth, threshold, strength, mud = parameters
    liquid = rng.normal(mean, spread, x.shape[:3]).astype(np.float32)
    liquid = ndimage.gaussian_filter(liquid, (0, smooth, smooth), mode="nearest")
    liquid[liquid < threshold] = 0
    if mud:
        layer = ndimage.gaussian_filter(
            (liquid > threshold).astype(np.float32), (0, strength, strength), mode="nearest"
        )
        layer[layer < 0.8] = 0
        return x * (1 - layer[..., None]) + MUD * layer[..., None]
    shade = np.floor(liquid * 255) * _shading(liquid > 0)
    shade /= np.maximum(shade.max((1, 2), keepdims=True), 1e-8)
    return x + np.float32(strength) * shade[..., None].astype(np.float32) * TURQUOISE


def _shading(drops: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n, height, width): how light falls on ``drops``, from the distance to their edges."""
    cross = np.zeros((3, 3, 3), bool)
    cross[1] = ndimage.generate_binary_structure(2, 1)
    edges = drops & ~ndimage.binary_erosion(drops, cross, border_value=1)
    # Images lie so far apart that the nearest edge is always one's own; without any, the distance is cut to 20.
    distance = np.minimum(ndimage.distance_transform_edt(~edges, (1e6, 1, 1)) if edges.any() else 20.0, 20.0)
    distance = np.broadcast_to(distance, drops.shape)
    box = (1, 3, 3)
    level = np.floor(ndimage.uniform_filter(distance, box, mode="mirror")).astype(int)
    slope = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])[None]
    tilted = np.clip(ndimage.correlate(_equalised(level).astype(np.int64), slope, mode="mirror"), 0, 255)
    return ndimage.uniform_filter(tilted.astype(np.float64), box, mode="mirror")


def _equalised(levels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each image's histogram of whole ``levels`` stretched to 0 to 255, its lowest level at 0."""
    n = len(levels)
    most = int(levels.max()) + 1
    flat = levels.reshape(n, -1)
    counts = np.bincount((flat + most * np.arange(n)[:, None]).ravel(), minlength=n * most).reshape(n, most)
    total = counts.cumsum(1)
    lowest = np.take_along_axis(counts, flat.min(1, keepdims=True), 1)
    table = np.rint(255 * (total - lowest) / np.maximum(flat.shape[1] - lowest, 1))
    return np.take_along_axis(np.maximum(table, 0), flat, 1).reshape(levels.shape)
