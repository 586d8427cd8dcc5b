"""AutoAugment (Cubuk et al., 2019, arXiv 1805.09501) for a batch that lies on the device."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

CIFAR = AutoAugment(AutoAugmentPolicy.CIFAR10)


def autoaugment(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (n, h, w, c) to the same, each image under a random one of the CIFAR-10 policy's 25 pairs of operations.

    Images that drew the same operation go through torchvision's code together.
    """
    count, height, width = images.shape[:3]
    images = images.permute(0, 3, 1, 2).contiguous()
    space = CIFAR._augmentation_space(10, (height, width))
    policy = torch.randint(len(CIFAR.policies), (count,), generator=generator)
    for place in range(2):
        applied = torch.rand(count, generator=generator)
        negative = torch.rand(count, generator=generator) < 0.5
        for number, pair in enumerate(CIFAR.policies):
            name, probability, level = pair[place]
            magnitudes, signed = space[name]
            magnitude = float(magnitudes[level]) if level is not None else 0.0
            chosen = (policy == number) & (applied <= probability)
            for sign, group in ((1, chosen & ~(negative & signed)), (-1, chosen & negative & signed)):
                if group.any():
                    where = group.nonzero().flatten().to(images.device)
                    images[where] = _apply_op(
                        images[where], name, sign * magnitude, InterpolationMode.NEAREST, fill=None
                    )
    return images.permute(0, 2, 3, 1)
