"""Corruptions by hand, against plain loops, and against scipy and matplotlib."""

from __future__ import annotations

import math

import matplotlib.colors
import numpy as np
import pytest
from scipy import ndimage

from ssa.data.corruptions import blurs, weather
from ssa.data.corruptions import generated as kinds
from ssa.data.corruptions.generated import CIFAR, DIGITS, KINDS, SETS, SEVERITIES, corrupt


def photos(n: int = 12, size: int = 32, channels: int = 3) -> np.ndarray:
    """Smooth random images, uint8 (n, size, size, channels), each stretched over 0 to 255."""
    noise = np.random.default_rng(0).standard_normal((n, size, size, channels))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 0), mode="wrap")
    smooth -= smooth.min((1, 2, 3), keepdims=True)
    return np.uint8(255 * smooth / smooth.max((1, 2, 3), keepdims=True))


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def grey(value: float, n: int = 4, size: int = 32) -> np.ndarray:
    return np.full((n, size, size, 3), value, np.float32)


def test_the_named_sets() -> None:
    assert [len(SETS[name]) for name in SETS] == [15, 17, 19, 6]
    assert set(SETS["all-19"]) == set(KINDS) == set(CIFAR)
    assert set(SETS["all-19"]) - set(SETS["uncertainty-baselines-17"]) == {"motion_blur", "snow"}
    assert set(SETS["digits-6"]) == set(DIGITS)
    assert all(len(levels) == 5 for levels in (*CIFAR.values(), *DIGITS.values()))


@pytest.mark.parametrize("kind", SETS["all-19"])
def test_each_kind_is_reproducible_and_changes_the_images(kind: str) -> None:
    images = photos()
    for severity in SEVERITIES:
        dirty = corrupt(images, "cifar10", kind, severity)
        assert dirty.shape == images.shape
        assert dirty.dtype == np.uint8
        assert (dirty != images).any()
        assert np.array_equal(dirty, corrupt(images, "cifar10", kind, severity))


@pytest.mark.parametrize("kind", SETS["digits-6"])
def test_digits_are_changed_more_at_each_severity(kind: str) -> None:
    images = photos(200, 8, 1)
    distances = [
        float(np.abs(corrupt(images, "digits", kind, severity).astype(int) - images).mean()) for severity in SEVERITIES
    ]
    assert distances == sorted(distances)
    assert distances[0] > 0


@pytest.mark.parametrize(
    "kind",
    [
        *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "zoom_blur", "snow", "fog", "brightness"),
        *("contrast", "pixelate", "jpeg_compression", "speckle_noise", "gaussian_blur"),
    ],
)
def test_a_higher_severity_is_a_larger_change(kind: str) -> None:
    images = photos()
    distances = [
        float(np.abs(corrupt(images, "cifar10", kind, severity).astype(int) - images).mean()) for severity in SEVERITIES
    ]
    assert distances == sorted(distances)


def test_values_are_cut_as_the_original_cuts_them() -> None:
    images = np.full((1, 32, 32, 3), 100, np.uint8)
    # 100 of contrast around its own mean of 100 is 100; a brightness of 0.05 makes it 112.75, cut to 112
    assert (corrupt(images, "cifar10", "contrast", 5) == 100).all()
    assert (corrupt(images, "cifar10", "brightness", 1) == 112).all()


def test_noise_has_the_spread_that_it_should() -> None:
    """n = 122,880 values: five standard errors of a standard deviation are 1%, of a frequency of 7% are 0.4 points."""
    flat = grey(0.5, 40)
    assert kinds.gaussian_noise(flat, 0.1, rng()).std() == pytest.approx(0.1, rel=0.02)
    assert kinds.speckle_noise(flat, 0.2, rng()).std() == pytest.approx(0.5 * 0.2, rel=0.02)
    shot = kinds.shot_noise(flat, 50, rng())
    assert shot.mean() == pytest.approx(0.5, rel=0.01)
    assert shot.std() == pytest.approx(math.sqrt(25) / 50, rel=0.02)
    impulse = kinds.impulse_noise(flat, 0.07, rng())
    assert (impulse == 0).mean() == pytest.approx(0.035, abs=0.004)
    assert (impulse == 1).mean() == pytest.approx(0.035, abs=0.004)


def test_contrast_and_brightness_by_hand() -> None:
    x = np.array([[[0.2, 0.4, 0.6]], [[0.4, 0.4, 0.2]]], np.float32)[None]
    assert kinds.contrast(x, 0.5, rng())[0, 0, 0].tolist() == pytest.approx([0.25, 0.4, 0.5])
    # the largest value goes from 0.6 to 0.7; the others keep their ratio to it
    assert kinds.brightness(x, 0.1, rng())[0, 0, 0].tolist() == pytest.approx([0.7 / 3, 1.4 / 3, 0.7])
    assert kinds.brightness(np.zeros_like(x), 0.1, rng()).tolist() == np.full_like(x, 0.1).tolist()


def test_brightness_and_saturation_are_those_of_hsv() -> None:
    x = photos().astype(np.float32) / 255
    for change, axis, wanted in (
        (kinds.brightness(x, 0.2, rng()), 2, lambda v: v + 0.2),
        (kinds.saturate(x, (2, 0.1), rng()), 1, lambda s: 2 * s + 0.1),
    ):
        hsv = matplotlib.colors.rgb_to_hsv(x)
        hsv[..., axis] = np.clip(wanted(hsv[..., axis]), 0, 1)
        assert change == pytest.approx(matplotlib.colors.hsv_to_rgb(hsv), abs=1e-5)


def test_grey_turns_to_red_when_it_is_saturated() -> None:
    assert kinds.saturate(grey(0.5), (2, 0.2), rng())[0, 0, 0].tolist() == pytest.approx([0.5, 0.4, 0.4])


def test_pixels_of_a_box_become_one() -> None:
    ramp = np.repeat(np.arange(8, dtype=np.float32)[None, None, :, None] * 20 / 255, 8, 1)
    shrunk = np.rint(255 * kinds.pixelate(ramp, 0.5, rng()))[0, 0, :, 0]
    assert shrunk.tolist() == [10, 10, 50, 50, 90, 90, 130, 130]


def test_the_disk_of_defocus_by_hand() -> None:
    point = np.zeros((1, 9, 9, 1), np.float32)
    point[0, 4, 4] = 1
    # a radius of 1 holds five pixels; softening with sigma 0.2 leaves exp(-12.5) = 4e-6 beside each
    spread = blurs.defocus_blur(point, (1, 0.2), rng())[0, 3:6, 3:6, 0]
    assert spread == pytest.approx(np.array([[0, 0.2, 0], [0.2, 0.2, 0.2], [0, 0.2, 0]]), abs=1e-5)
    assert blurs.defocus_blur(grey(0.5), (1.5, 0.1), rng()) == pytest.approx(0.5)


def test_glass_blur_assigns_what_the_originals_loop_assigns() -> None:
    images, parameters = photos(2, 10).astype(np.float32) / 255, (0.4, 1, 2)
    pixels = np.floor(blurs.gaussian_blur(images, 0.4, rng()) * 255).astype(np.uint8)
    draws = rng()
    for _ in range(2):
        for h in range(9, 1, -1):
            for w in range(9, 1, -1):
                dx, dy = draws.integers(-1, 1, (2, 2))
                for x, i, j in zip(pixels, h + dy, w + dx, strict=True):
                    x[h, w], x[i, j] = x[i, j], x[h, w]  # no swap: both sides are views
    expected = blurs.gaussian_blur(pixels.astype(np.float32) / 255, 0.4, rng())
    assert np.array_equal(blurs.glass_blur(images, parameters, rng()), expected)


def test_motion_smears_along_its_direction_by_half_a_gaussian() -> None:
    point = np.zeros((2, 33, 33, 1), np.float32)
    point[:, 16, 16] = 1
    across, down = blurs.smear(point, 6, 1.5, np.array([0.0, -90.0]))[..., 0]
    weights = np.exp(-(np.arange(13) ** 2) / 4.5)
    weights /= weights.sum()
    assert across[16, 16 - np.arange(6)] == pytest.approx(weights[:6], abs=1e-6)
    assert down[16 + np.arange(6), 16] == pytest.approx(weights[:6], abs=1e-6)
    assert blurs.smear(grey(0.5), 9, 2.5, np.zeros(4)) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.06, 1.25, 1.75, 2.25])
def test_enlarging_is_scipys_zoom_of_the_middle(factor: float) -> None:
    image = photos(1)[0, ..., 0] / 255
    kept = math.ceil(32 / factor)
    start = (32 - kept) // 2
    grown = ndimage.zoom(image[start : start + kept, start : start + kept], factor, order=1)
    trim = (len(grown) - 32) // 2
    matrix = blurs.enlargement(32, factor)
    assert matrix @ image @ matrix.T == pytest.approx(grown[trim : trim + 32, trim : trim + 32], abs=1e-12)


def test_zoom_blur_is_the_mean_over_enlargements() -> None:
    x = photos(2).astype(np.float32) / 255
    factors = np.arange(1, 1.06, 0.01)
    total = x.astype(np.float64)
    for factor in factors:
        matrix = blurs.enlargement(32, factor)
        total = total + np.einsum("ij,njkc,lk->nilc", matrix, x, matrix)
    assert blurs.zoom_blur(x, 1.06, rng()) == pytest.approx(total / (len(factors) + 1), abs=1e-5)


@pytest.mark.parametrize(("mirror_at_pixels", "mode"), [(True, "mirror"), (False, "reflect")])
def test_interpolation_and_its_edges_are_scipys(mirror_at_pixels: bool, mode: str) -> None:
    image = photos(1, 16)[0] / 255
    rows, columns = np.random.default_rng(2).uniform(-8, 24, (2, 1, 16, 16))
    found = blurs.bilinear(image[None], rows, columns, mirror_at_pixels)[0]
    for channel in range(3):
        expected = ndimage.map_coordinates(image[..., channel], [rows[0], columns[0]], order=1, mode=mode)
        assert found[..., channel] == pytest.approx(expected, abs=1e-6)


def test_elastic_without_strength_or_jitter_is_the_image() -> None:
    x = photos(3).astype(np.float32) / 255
    assert blurs.elastic_transform(x, (0, 0, 0), rng()) == pytest.approx(x, abs=1e-6)


def test_the_affine_map_carries_its_three_points() -> None:
    rows, columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    draws = np.random.default_rng(3).uniform(-2.0, 2.0, (1, 3, 2))
    old_rows, old_columns = blurs._affine((1, 32, 32, 3), 2.0, np.random.default_rng(3), rows, columns)
    before = np.array([[26, 26], [26, 6], [6, 6]])
    after = before + draws[0]
    # where the new place of each point comes from is its old place: read off by interpolating the two fields
    for (x, y), (new_x, new_y) in zip(before, after, strict=True):
        at = [[new_y], [new_x]]
        assert ndimage.map_coordinates(old_columns[0], at, order=1)[0] == pytest.approx(x, abs=1e-3)
        assert ndimage.map_coordinates(old_rows[0], at, order=1)[0] == pytest.approx(y, abs=1e-3)


def test_plasma_is_stretched_to_its_range_and_smoother_for_a_faster_decay() -> None:
    rough, smooth = (weather.plasma(8, 32, decay, rng()) for decay in (1.75, 3.0))
    for layer in (rough, smooth):
        assert layer.min((1, 2)).tolist() == [0] * 8
        assert layer.max((1, 2)).tolist() == [1] * 8
    assert np.abs(np.diff(smooth)).mean() < np.abs(np.diff(rough)).mean()


def test_fog_by_hand() -> None:
    # x is 0.5 everywhere: 0.5 + 0.2 f, darkened by 0.5 / 0.7; f covers 0 to 1
    foggy = weather.fog(grey(0.5), (0.2, 3), rng())
    assert foggy.min((1, 2, 3)) == pytest.approx(0.25 / 0.7)
    assert foggy.max((1, 2, 3)) == pytest.approx(0.5)


def test_snow_only_lightens_and_frost_keeps_its_weights() -> None:
    x = photos().astype(np.float32) / 255
    assert (weather.snow(x, CIFAR["snow"][4], rng()) >= x - 1e-5).all()
    assert weather.frost(x, (1, 0), rng()) == pytest.approx(x)
    black = weather.frost(np.zeros_like(x), (0.75, 0.45), rng())
    assert 0 <= black.min() < black.max() <= 0.45


def test_mud_is_brown_and_water_adds_light() -> None:
    x = photos(8).astype(np.float32) / 255
    mud, water = (weather.spatter(x, CIFAR["spatter"][level], rng()) for level in (4, 2))
    changed = np.abs(mud - x).max(-1) > 0.5
    assert changed.any()
    assert (mud[changed] <= weather.MUD * 1.01 + 0.2 * x[changed] + 1e-5).all()
    assert (water >= x - 1e-6).all()
    assert (water > x + 0.1).any()


def test_an_image_without_drops_stays_as_it_is() -> None:
    x = photos(2).astype(np.float32) / 255
    assert weather.spatter(x, (0.0, 0.01, 0.7, 0.7, 0.5, 0), rng()) == pytest.approx(x)
