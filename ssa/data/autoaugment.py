"""AutoAugment (Cubuk et al., 2019, arXiv 1805.09501) for images that lie on the device.

Which operations an image gets is drawn on the CPU. All images then go through the same tensor operations, by tables of
what each of AutoAugment's does: nothing waits for a draw, and no group of images is picked out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import AutoAugment as Torchvision
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

CIFAR = Torchvision(AutoAugmentPolicy.CIFAR10)
MOVING = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}  # pixels change their place
MAPPING = {"Posterize", "Solarize", "Invert", "Brightness"}  # a value becomes another, the same in every image
BLENDING = {"Color", "Contrast", "Sharpness"}  # with another image: grey, its mean, a blurred one
GREY = (0.2989, 0.587, 0.114)


def _signed() -> dict[str, bool]:
    return {name: signed for name, (_, signed) in CIFAR._augmentation_space(10, (32, 32)).items()}


def _number(name: str, level: int | None, sign: int) -> int:
    """The number of an operation; one without a direction has one number for both signs."""
    return OPERATIONS.index((name, level, sign if _signed()[name] else 1))


_ONCE = {
    (name, level, sign if _signed()[name] else 1)
    for pair in CIFAR.policies
    for name, _, level in pair
    for sign in (1, -1)
}
# Each operation of the policy once: its name, its level of strength and its direction. Number 0 does nothing.
OPERATIONS: list[tuple[str, int | None, int]] = [("Identity", None, 1), *sorted(_ONCE, key=str)]
# By place in a pair (first or second) and pair of the policy: the operation drawn for either sign, and how often.
POSITIVE, NEGATIVE = (
    torch.tensor([[_number(pair[place][0], pair[place][2], sign) for pair in CIFAR.policies] for place in range(2)])
    for sign in (1, -1)
)
CHANCE = torch.tensor([[pair[place][1] for pair in CIFAR.policies] for place in range(2)])


def draw(count: int, generator: torch.Generator) -> Tensor:
    """int64 (2, count): the numbers of the operations that each image gets, one after the other.

    A random one of the CIFAR-10 policy's 25 pairs, each operation with its probability and a random sign.
    """
    pair = torch.randint(len(CIFAR.policies), (count,), generator=generator)
    numbers = []
    for place in range(2):
        applied = torch.rand(count, generator=generator)
        negative = torch.rand(count, generator=generator) < 0.5
        number = torch.where(negative, NEGATIVE[place, pair], POSITIVE[place, pair])
        numbers.append(torch.where(applied <= CHANCE[place, pair], number, 0))
    return torch.stack(numbers)


class AutoAugment:
    """The policy's operations for images of ``channels`` (1 or 3) and ``side`` (height, width) on ``device``.

    Each is pixel for pixel torchvision's on uint8 tensors; its own code fills the tables.
    """

    def __init__(self, channels: int, side: torch.Size, device: torch.device) -> None:
        self.side = side
        moves, maps, blends = [], [], []
        for name, level, sign in OPERATIONS:
            magnitude = sign * _magnitude(name, level, side)
            places = torch.arange(1.0, side[0] * side[1] + 1).view(1, *side)  # 0 is left for what comes from outside
            values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
            moves.append(_operated(places, name if name in MOVING else "Identity", magnitude).flatten())
            maps.append(_operated(values, name if name in MAPPING else "Identity", magnitude).flatten())
            blends.append(1.0 + magnitude if _blends(name, channels, side) else 1.0)
        move = torch.stack(moves).long()
        self.source, self.inside = (move - 1).clamp_min(0).to(device), (move > 0).byte().to(device)
        self.map = torch.stack(maps).to(device)
        self.ratio = torch.tensor(blends).view(-1, 1, 1, 1).to(device)
        self.rest = torch.tensor([1 - ratio for ratio in blends]).view(-1, 1, 1, 1).to(device)
        self.named = {
            name: torch.tensor([name == each for each, *_ in OPERATIONS]).view(-1, 1, 1).to(device)
            for name in ("AutoContrast", "Equalize", "Color", "Contrast", "Sharpness")
        }
        self.grey = torch.tensor(GREY, device=device).view(3, 1, 1)
        self.values = torch.arange(256.0, device=device)
        self.one = torch.ones(1, dtype=torch.int32, device=device)
        inner = torch.zeros(side, dtype=torch.bool)
        inner[1:-1, 1:-1] = True
        self.inner = inner.to(device)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """uint8 (n, h, w, c) to the same, each image under its two of ``numbers`` (2, n), as :func:`draw` gave them."""
        images = images.permute(0, 3, 1, 2).contiguous()
        for number in numbers:
            images = self._blend(self._map(self._move(images.flatten(2), number), number), number)
        return images.permute(0, 2, 3, 1)

    def _move(self, images: Tensor, number: Tensor) -> Tensor:
        """(n, c, pixels): each pixel from where its image's operation takes it, black where that is outside."""
        source = self.source.index_select(0, number)[:, None].expand(*images.shape)
        return images.gather(2, source).mul_(self.inside.index_select(0, number)[:, None])

    def _map(self, images: Tensor, number: Tensor) -> Tensor:
        """(n, c, pixels): each value through the curve of its image and channel."""
        values = images.long()
        shape = (*images.shape[:2], 256)
        curve = self.map.index_select(0, number)[:, None].expand(shape)
        counts = torch.zeros(shape, dtype=torch.int32, device=images.device)
        equal, there = _equalising(counts.scatter_add_(2, values, self.one.expand(values.shape)), images.shape[2])
        curve = torch.where(self._is("Equalize", number) & there, equal, curve)
        curve = torch.where(self._is("AutoContrast", number), self._stretching(images), curve)
        return curve.gather(2, values)

    def _stretching(self, images: Tensor) -> Tensor:
        """uint8 (n, c, 256): the curve that takes the darkest value to 0 and the brightest to 255."""
        low, high = images.amin(2, keepdim=True).float(), images.amax(2, keepdim=True).float()
        flat, scale = low == high, 255 / (high - low)
        stretched = (self.values - low.masked_fill(flat, 0)) * scale.masked_fill(flat, 1)
        return stretched.clamp_(0, 255).byte()

    def _blend(self, images: Tensor, number: Tensor) -> Tensor:
        """(n, c, h, w): ``ratio`` of each image and ``1 - ratio`` of its grey, of the mean of that, or blurred."""
        images = images.view(*images.shape[:2], *self.side)
        exact = images.float()
        grey = exact
        if images.shape[1] == 3:
            red, green, blue = (exact * self.grey).unbind(1)
            grey = (red + green + blue).byte().float()[:, None]
        blurred = functional.avg_pool2d(exact, 3, stride=1, padding=1, divisor_override=1)  # the sum of 3 x 3
        blurred = blurred.add_(exact, alpha=4).div_(13).round_()
        color, contrast, sharpness = (self._is(name, number)[..., None] for name in ("Color", "Contrast", "Sharpness"))
        other = torch.where(color, grey, exact)
        other = torch.where(contrast, grey.mean((1, 2, 3), keepdim=True), other)
        other = torch.where(sharpness & self.inner, blurred, other)
        kept = exact.mul_(self.ratio.index_select(0, number))
        return kept.add_(other.mul_(self.rest.index_select(0, number))).clamp_(0, 255).byte()

    def _is(self, name: str, number: Tensor) -> Tensor:
        """bool (n, 1, 1): whether an image's operation is the one of that name."""
        return self.named[name].index_select(0, number)


def _equalising(counts: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """The curve (n, c, 256) that spreads values evenly, by how many of the ``pixels`` have each; whether there is one.

    Its steps leave out the brightest value's pixels, as torchvision's and PIL's do; images of few values have none.
    """
    before = counts.cumsum(2) - counts
    darker = (before * (before < pixels)).amax(2, keepdim=True)
    step = darker // 255
    return ((before + step // 2) // step.clamp_min(1)).clamp_max_(255).byte(), step > 0


def _magnitude(name: str, level: int | None, side: torch.Size) -> float:
    """How strong an operation is, as torchvision counts it."""
    return 0.0 if level is None else float(CIFAR._augmentation_space(10, side)[name][0][level])


def _operated(image: Tensor, name: str, magnitude: float) -> Tensor:
    return _apply_op(image, name, magnitude, InterpolationMode.NEAREST, fill=None)


def _blends(name: str, channels: int, side: torch.Size) -> bool:
    """Whether an operation blends: grey images have no colour, and narrow ones no neighbours on both sides."""
    return name in BLENDING and not (name == "Color" and channels == 1) and not (name == "Sharpness" and min(side) <= 2)
