"""Corruptions that move pixels about: blurs, and elastic distortion. See :mod:`ssa.data.corruptions.generated`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Images = NDArray[np.floating]
Field = NDArray[np.floating]


def gaussian_blur(x: Images, sigma: float, rng: np.random.Generator) -> Images:
    """Blurred by a Gaussian of ``sigma`` pixels, edges repeated."""
    return np.asarray(ndimage.gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest"))


def glass_blur(x: Images, parameters: tuple[float, int, int], rng: np.random.Generator) -> Images:
    """Blurred (sigma), each pixel replaced by a near one (at most ``delta`` up and left, ``times`` over), blurred.

    The original means to swap the two pixels, but what it assigns are views of one array, so the second keeps its
    value; the published images were made so.
    """
    sigma, delta, times = parameters
    pixels = np.floor(gaussian_blur(x, sigma, rng) * 255).astype(np.uint8)
    n, height, width = x.shape[:3]
    every = np.arange(n)
    for _ in range(times):
        for row in range(height - delta, delta, -1):
            for column in range(width - delta, delta, -1):
                dx, dy = rng.integers(-delta, delta, (2, n))
                pixels[:, row, column] = pixels[every, row + dy, column + dx]
    return gaussian_blur(pixels.astype(np.float32) / 255, sigma, rng)


def defocus_blur(x: Images, parameters: tuple[float, float], rng: np.random.Generator) -> Images:
    """Blurred by a disk of ``radius`` pixels, itself softened over 3 x 3 pixels by ``alias``; edges mirrored."""
    radius, alias = parameters
    at = np.arange(-4, 5)
    disk = (at[:, None] ** 2 + at**2 <= radius**2).astype(np.float64)
    soft = np.exp(-(np.arange(-1, 2) ** 2) / (2 * alias**2))
    kernel = ndimage.convolve(disk / disk.sum(), np.outer(soft, soft) / soft.sum() ** 2, mode="constant")
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    height, width = x.shape[1:3]
    out = np.zeros_like(x)
    for row, column in np.argwhere(kernel > 0):
        out += np.float32(kernel[row, column]) * padded[:, row : row + height, column : column + width]
    return out


def motion_blur(x: Images, parameters: tuple[int, float], rng: np.random.Generator) -> Images:
    """Smeared in a direction of -45 to 45 degrees by half a Gaussian (radius, sigma in pixels)."""
    radius, sigma = parameters
    return smear(x, radius, sigma, rng.uniform(-45, 45, len(x)))


def smear(x: Images, radius: int, sigma: float, degrees: NDArray[np.float64]) -> Images:
    """Each of ``x`` averaged along its direction, edges repeated: ImageMagick's motion blur, which the original calls.

    The k-th of 2 radius + 1 pixels on the way, rounded to the grid, weighs exp(-k^2 / (2 sigma^2)).
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angles = np.radians(degrees)
    across = np.ceil(steps[:, None] * np.cos(angles) - 0.5).astype(int)
    down = np.ceil(steps[:, None] * np.sin(angles) - 0.5).astype(int)
    reach = 2 * radius
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    out = np.zeros_like(x)
    for dx, dy, weight in zip(across, down, weights, strict=True):
        if weight < 1e-6:
            break
        # Few shifts are different: the images of one shift go together, as slices.
        for shift in np.unique(np.stack([dy, dx], 1), axis=0):
            which = np.flatnonzero((dy == shift[0]) & (dx == shift[1]))
            top, left = reach + shift
            out[which] += np.float32(weight) * padded[which, top : top + height, left : left + width]
    return out


def zoom_blur(x: Images, most: float, rng: np.random.Generator) -> Images:
    """The mean of the image and of its enlargements by 1.00, 1.01, ... up to ``most``."""
    size = x.shape[1]
    factors = np.arange(1, most, 0.01)
    # The mean of enlargements is linear in the pixels: one matrix does them all.
    maps = [enlargement(size, factor) for factor in factors]
    both = sum(np.kron(one, one) for one in maps) + np.eye(size * size)
    matrix = (both / (len(factors) + 1)).astype(np.float32)
    pixels = np.moveaxis(x, -1, 1).reshape(-1, size * size)
    return np.moveaxis((pixels @ matrix.T).reshape(len(x), -1, size, size), 1, -1)


def enlargement(size: int, factor: float) -> NDArray[np.float64]:
    """(size, size): one axis enlarged around its centre by ``factor``, linearly between pixels, and cut to ``size``."""
    kept = math.ceil(size / factor)
    start = (size - kept) // 2
    grown = round(kept * factor)
    trim = (grown - size) // 2
    at = (np.arange(size) + trim) * ((kept - 1) / (grown - 1) if grown > 1 else 0)
    lower = np.minimum(np.floor(at).astype(int), kept - 2)
    matrix = np.zeros((size, size))
    rows = np.arange(size)
    matrix[rows, start + lower] = 1 - (at - lower)
    matrix[rows, start + lower + 1] = at - lower
    return matrix


def elastic_transform(x: Images, parameters: tuple[float, float, float], rng: np.random.Generator) -> Images:
    """A random affine map, then a smooth random displacement: strength, smoothness and affine jitter of the size."""
    size = min(x.shape[1:3])
    strength, sigma, jitter = (size * share for share in parameters)
    rows, columns = np.meshgrid(np.arange(x.shape[1]), np.arange(x.shape[2]), indexing="ij")
    moved = bilinear(x, *_affine(x.shape, jitter, rng, rows, columns), mirror_at_pixels=True)
    down, across = (
        ndimage.gaussian_filter(
            rng.uniform(-1, 1, x.shape[:3]).astype(np.float32), (0, sigma, sigma), mode="reflect", truncate=3
        )
        * np.float32(strength)
        for _ in range(2)
    )
    return bilinear(moved, rows + down, columns + across, mirror_at_pixels=False)


def _affine(
    shape: tuple[int, ...], jitter: float, rng: np.random.Generator, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[Field, Field]:
    """Where each pixel of each image comes from, (n, height, width) rows and columns: three points are jittered."""
    centre, reach = np.array(shape[1:3]) // 2, min(shape[1:3]) // 3
    before = np.array([centre + reach, [centre[0] + reach, centre[1] - reach], centre - reach], dtype=float)
    after = before + rng.uniform(-jitter, jitter, (shape[0], 3, 2))
    corners = np.concatenate([after, np.ones((shape[0], 3, 1))], 2)
    back = np.linalg.solve(corners, np.broadcast_to(before, after.shape))  # (n, 3, 2): from new to old places
    places = np.stack([columns, rows, np.ones_like(rows)], -1).reshape(-1, 3)
    old = (places @ back).reshape(shape[0], *rows.shape, 2).astype(np.float32)
    return old[..., 1], old[..., 0]


def bilinear(x: Images, rows: Field, columns: Field, mirror_at_pixels: bool) -> Images:
    """The values of each of ``x`` at its own ``rows`` and ``columns`` (n, height, width), between pixels linearly.

    Beyond the edge the image is mirrored, at the outermost pixels' centres or at their outer borders.
    """
    n, height, width, channels = x.shape
    top, left = np.floor(rows), np.floor(columns)
    below, right = (rows - top)[..., None], (columns - left)[..., None]
    start = np.arange(n)[:, None, None] * (height * width)
    flat = x.reshape(-1, channels)

    def at(row: Field, column: Field) -> Images:
        inside = _mirrored(row, height, mirror_at_pixels) * width + _mirrored(column, width, mirror_at_pixels)
        return flat[start + inside]

    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return (upper * (1 - below) + lower * below).astype(np.float32)


def _mirrored(index: Field, size: int, at_pixels: bool) -> NDArray[np.int64]:
    period = 2 * (size - 1) if at_pixels else 2 * size
    within = index.astype(np.int64) % period
    last = period if at_pixels else period - 1
    return np.where(within < size, within, last - within)
