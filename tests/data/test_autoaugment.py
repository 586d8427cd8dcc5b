"""AutoAugment as batched tensor code: pixel for pixel torchvision's, drawn as often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

from ssa.data import autoaugment, splits
from ssa.data.autoaugment import CIFAR, OPERATIONS, AutoAugment, draw
from ssa.data.batches import Batches
from ssa.specs.specs import DataSpec, Recipe

CPU = torch.device("cpu")


def images(count: int, side: tuple[int, int], channels: int) -> Tensor:
    """uint8 (4 count, h, w, c): any values, few values, two values, one value."""
    generator = torch.Generator().manual_seed(0)
    any_value = torch.randint(0, 256, (count, *side, channels), generator=generator, dtype=torch.uint8)
    return torch.cat([any_value, any_value // 64, any_value // 200 * 100, any_value[:, :1, :1].expand_as(any_value)])


@pytest.mark.parametrize(("side", "channels"), [((32, 32), 3), ((9, 7), 3), ((8, 8), 1), ((2, 5), 3)])
def test_each_operation_is_torchvisions(side: tuple[int, int], channels: int) -> None:
    found = images(6, side, channels)
    ours = AutoAugment(channels, torch.Size(side), CPU)
    space = CIFAR._augmentation_space(10, side)
    for number, (name, level, sign) in enumerate(OPERATIONS[1:], start=1):
        magnitude = sign * float(space[name][0][level]) if level is not None else 0.0
        theirs = _apply_op(found.permute(0, 3, 1, 2), name, magnitude, InterpolationMode.NEAREST, fill=None)
        numbers = torch.tensor([[number], [0]]).expand(2, len(found))
        assert torch.equal(ours(found, numbers).permute(0, 3, 1, 2), theirs), (name, level, sign)


def test_an_image_without_an_operation_stays_as_it_is() -> None:
    found = images(3, (8, 8), 3)
    assert torch.equal(AutoAugment(3, torch.Size((8, 8)), CPU)(found, torch.zeros(2, 12, dtype=torch.int64)), found)


def test_what_is_drawn_is_what_torchvision_does_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = images(40, (32, 32), 3)
    count = len(found)
    generator = torch.Generator().manual_seed(5)
    pairs = torch.randint(25, (count,), generator=generator)
    drawn = [torch.rand(count, generator=generator) for _ in range(4)]  # applied and sign, for either place
    probabilities, signs = torch.stack(drawn[::2], 1), torch.stack(drawn[1::2], 1) >= 0.5
    ours = AutoAugment(3, torch.Size((32, 32)), CPU)(found, draw(count, torch.Generator().manual_seed(5)))
    for number, image in enumerate(found):
        given = (int(pairs[number]), probabilities[number], signs[number].long())
        monkeypatch.setattr(CIFAR, "get_params", lambda _, given=given: given)
        assert torch.equal(ours[number].permute(2, 0, 1), CIFAR(image.permute(2, 0, 1))), given


def test_operations_are_drawn_as_often_as_the_policy_says() -> None:
    """Goodness of fit of both places together, 200,000 images; the right code fails once in a million seeds."""
    wanted: Counter[tuple[int, int]] = Counter()
    for pair in CIFAR.policies:
        sides = []
        for name, chance, level in pair:
            numbers = [autoaugment._number(name, level, sign) for sign in (1, -1)]
            sides.append([(0, 1 - chance), *((number, chance / 2) for number in numbers)])
        for first, p in sides[0]:
            for second, q in sides[1]:
                wanted[first, second] += p * q / 25
    assert sum(wanted.values()) == pytest.approx(1)
    count = 200_000
    found = Counter(map(tuple, draw(count, torch.Generator().manual_seed(0)).T.tolist()))
    cells = [cell for cell, p in wanted.items() if p > 0]
    assert set(found) <= set(cells)
    fit = stats.chisquare([found[cell] for cell in cells], [count * wanted[cell] for cell in cells])
    assert fit.pvalue > 1e-6
    shifted = [count * (wanted[cell] + (0.01 if cell == (0, 0) else -0.01 / (len(cells) - 1))) for cell in cells]
    assert stats.chisquare([found[cell] for cell in cells], shifted).pvalue < 1e-6  # one point is noticed


@pytest.mark.parametrize("augment", ["none", "crop-flip", "autoaugment"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_made_together_are_those_made_one_by_one(augment: str, drop_last: bool) -> None:
    content = splits.load(DataSpec("digits", 100, 50, "parent"), Path("unused"), 0)
    recipe = Recipe(epochs=1, batch_size=16, augment=augment, padding=1, drop_last=drop_last)
    alone, together = (Batches(content.train, content, recipe) for _ in range(2))
    assert alone.together == 1
    together.together = 4
    one, many = (list(batches.epoch(3, 2)) for batches in (alone, together))
    assert [len(labels) for _, labels in one] == [16] * 6 + [4] * (not drop_last)
    for (image, label), (other, other_label) in zip(one, many, strict=True):
        assert torch.equal(image, other)
        assert torch.equal(label, other_label)
