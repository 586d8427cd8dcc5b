"""Batches: shuffled, augmented and normalised on the device that holds the images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssa.data import Data, Split
from ssa.seeds import torch_generator

if TYPE_CHECKING:
    from ssa.specs import Recipe


class Batches:
    """The batches of one split under one recipe; each epoch is a pure function of (seed, epoch).

    Order, crops and flips are drawn on the CPU, an epoch at a time, so that devices agree and no step waits.
    """

    def __init__(self, split: Split, data: Data, recipe: Recipe) -> None:
        self.recipe = recipe
        self.labels = split.labels
        self.normalise = Normalise(data, split.labels.device)
        self.side = split.images.shape[2:]
        fill = data.mean if recipe.padding_value == "mean" else (0.0,) * len(data.mean)
        self.padding = 0 if recipe.augment == "none" else recipe.padding
        self.images = pad(split.images, self.padding, fill)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.labels), self.recipe.batch_size)
        return max(whole, 1) if self.recipe.drop_last else whole + bool(rest)

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images, float32 (batch, channels, height, width) in channels-last memory, and their labels."""
        generator = torch_generator("batches", seed, epoch)
        device, count = self.labels.device, len(self.labels)
        order = torch.randperm(count, generator=generator).to(device)
        corners = torch.randint(0, 2 * self.padding + 1, (count, 2), generator=generator).to(device)
        flips = (torch.rand(count, generator=generator) < 0.5).to(device)
        for step in range(len(self)):
            chosen = slice(step * self.recipe.batch_size, (step + 1) * self.recipe.batch_size)
            images = self.images[order[chosen]]
            if self.recipe.augment != "none":
                images = crop_and_flip(images, corners[chosen], flips[chosen], self.side)
            if self.recipe.augment == "autoaugment":
                from ssa.autoaugment import autoaugment

                images = autoaugment(images, torch_generator("autoaugment", seed, epoch, step))
            yield self.normalise(images), self.labels[order[chosen]]


class Normalise:
    """uint8 (n, height, width, channels) to normalised float32 (n, channels, height, width), channels last."""

    def __init__(self, data: Data, device: torch.device) -> None:
        self.mean = torch.tensor(data.mean, device=device) * 255
        self.scale = 1 / (torch.tensor(data.std, device=device) * 255)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise one batch."""
        return ((images - self.mean) * self.scale).permute(0, 3, 1, 2)


def pad(images: Tensor, padding: int, fill: tuple[float, ...]) -> Tensor:
    """uint8 (n, c, h, w) to (n, h + 2 padding, w + 2 padding, c), with the colour ``fill``, in [0, 1], around it."""
    n, c, h, w = images.shape
    colour = (torch.tensor(fill, device=images.device) * 255).round().to(torch.uint8)
    padded = colour.expand(n, h + 2 * padding, w + 2 * padding, c).contiguous()
    padded[:, padding : padding + h, padding : padding + w] = images.permute(0, 2, 3, 1)
    return padded


def crop_and_flip(images: Tensor, corners: Tensor, flips: Tensor, side: torch.Size) -> Tensor:
    """Cut ``side`` (h, w) out of padded (n, H, W, c) images at ``corners`` (n, 2), mirrored where ``flips`` (n,)."""
    rows = corners[:, :1] + torch.arange(side[0], device=images.device)
    across = torch.arange(side[1], device=images.device)
    columns = corners[:, 1:] + torch.where(flips[:, None], across.flip(0), across)
    which = torch.arange(len(images), device=images.device)
    return images[which[:, None, None], rows[:, :, None], columns[:, None, :]]
