"""Batches: shuffled, augmented and normalised on the device that holds the images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssa.data.splits import Data, Split
from ssa.seeds import torch_generator

if TYPE_CHECKING:
    from ssa.specs.specs import Recipe


TOGETHER = 1 << 22  # pixels of an epoch that a GPU makes at once: 4,096 images of CIFAR's size, in half a gigabyte


class Batches:
    """The batches of one split under one recipe; each epoch is a pure function of (seed, epoch).

    What is random is drawn on the CPU, an epoch at a time, so that devices agree and no step waits. A GPU makes many
    batches at once, since each operation costs its launch; a CPU makes one, which stays in its cache.
    """

    def __init__(self, split: Split, data: Data, recipe: Recipe) -> None:
        self.recipe = recipe
        self.labels = split.labels
        self.normalise = Normalise(data, split)
        self.side = split.images.shape[2:]
        fill = data.mean if recipe.padding_value == "mean" else (0.0,) * len(data.mean)
        self.padding = 0 if recipe.augment == "none" else recipe.padding
        self.images = pad(split.images, self.padding, fill)
        several = TOGETHER // (recipe.batch_size * self.side.numel())
        self.together = 1 if self.labels.device.type == "cpu" else max(several, 3)  # batches that are made at once
        if recipe.augment == "autoaugment":
            from ssa.data.autoaugment import AutoAugment

            self.autoaugment = AutoAugment(split.images.shape[1], self.side, self.labels.device)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.labels), self.recipe.batch_size)
        return max(whole, 1) if self.recipe.drop_last else whole + bool(rest)

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images, float32 (batch, channels, height, width), and their labels.

        Images lie in channels-last memory, those under AutoAugment in PyTorch's own.
        """
        generator = torch_generator("batches", seed, epoch)
        device, count, size = self.labels.device, len(self.labels), self.recipe.batch_size
        order = _sent(torch.randperm(count, generator=generator), device)
        corners = _sent(torch.randint(0, 2 * self.padding + 1, (count, 2), generator=generator), device)
        flips = _sent(torch.rand(count, generator=generator) < 0.5, device)
        operations = _sent(self._operations(seed, epoch), device) if self.recipe.augment == "autoaugment" else None
        for step in range(0, len(self), self.together):
            chosen = slice(step * size, min(step + self.together, len(self)) * size)
            augmented = None if operations is None else operations[:, chosen]
            images = self._images(order[chosen], corners[chosen], flips[chosen], augmented)
            yield from zip(images.split(size), self.labels[order[chosen]].split(size), strict=True)

    def _images(self, which: Tensor, corners: Tensor, flips: Tensor, operations: Tensor | None) -> Tensor:
        """Normalised float32 (n, channels, height, width): the images ``which``, augmented as the recipe asks."""
        if self.recipe.augment == "none":
            return self.normalise(self.images.index_select(0, which))
        images = crop_and_flip(self.images, which, corners, flips, self.side)
        return self.normalise(images if operations is None else self.autoaugment(images, operations))

    def _operations(self, seed: int, epoch: int) -> Tensor:
        """int64 (2, n): AutoAugment's operations for an epoch's images, drawn apart for each step."""
        from ssa.data.autoaugment import draw

        sizes = torch.arange(len(self.labels)).split(self.recipe.batch_size)
        drawn = [draw(len(s), torch_generator("autoaugment", seed, epoch, step)) for step, s in enumerate(sizes)]
        return torch.cat(drawn, 1)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor``, from the CPU, on ``device``; a copy to a GPU goes by pinned memory, so that nothing waits for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Normalise:
    """uint8 (n, height, width, channels) to normalised float32 (n, channels, height, width), channels last."""

    def __init__(self, data: Data, split: Split) -> None:
        side = split.images.shape[2:]
        # As large as an image: spreading three numbers over it at each step would take most of the time.
        self.mean, self.scale = (
            torch.tensor(values, device=split.labels.device).expand(*side, len(values)).contiguous()
            for values in ([255 * m for m in data.mean], [1 / (255 * s) for s in data.std])
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise one batch."""
        return images.float().sub_(self.mean).mul_(self.scale).permute(0, 3, 1, 2)


def pad(images: Tensor, padding: int, fill: tuple[float, ...]) -> Tensor:
    """uint8 (n, c, h, w) to (n, h + 2 padding, w + 2 padding, c), with the colour ``fill``, in [0, 1], around it."""
    n, c, h, w = images.shape
    colour = (torch.tensor(fill, device=images.device) * 255).round().to(torch.uint8)
    padded = colour.expand(n, h + 2 * padding, w + 2 * padding, c).contiguous()
    padded[:, padding : padding + h, padding : padding + w] = images.permute(0, 2, 3, 1)
    return padded


def crop_and_flip(images: Tensor, which: Tensor, corners: Tensor, flips: Tensor, side: torch.Size) -> Tensor:
    """Cut ``side`` (h, w) out of the images ``which`` (n,), mirrored where ``flips`` (n,); uint8 (n, h, w, c).

    ``images``: padded, (N, H, W, c); ``corners``: row and column where each cut begins, (n, 2). Whole pixels are
    selected by one index each, several times faster than by image, row and column.
    """
    _, height, width, channels = images.shape
    rows = corners[:, :1] + torch.arange(side[0], device=images.device)
    across = torch.arange(side[1], device=images.device)
    columns = corners[:, 1:] + torch.where(flips[:, None], across.flip(0), across)
    pixels = (which[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
    return images.view(-1, channels).index_select(0, pixels.flatten()).view(-1, *side, channels)
