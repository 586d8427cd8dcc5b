"""Convolutions of images a few pixels wide, as one product of matrices on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALL = 2  # pixels of an output's side up to which oneDNN's kernels take twice as long as the product


class PatchConv2d(nn.Conv2d):
    """A 3x3 convolution, padded by 1 and without bias, which multiplies all patches at once where they are few.

    It has the ``weight`` (outputs, inputs, 3, 3) that it is given.
    """

    def __init__(self, weight: nn.Parameter, stride: int) -> None:
        outputs, inputs = weight.shape[:2]
        super().__init__(inputs, outputs, 3, stride, 1, bias=False, device="meta")
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, h) to (n, outputs, h / stride, h / stride), rounded up."""
        step = self.stride[0]
        side = -(-x.shape[-1] // step)
        if x.device.type != "cpu" or side > SMALL or x.shape[-1] != x.shape[-2]:
            return super().forward(x)
        reach = step * (side - 1) + 1
        around = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        taps = [around[:, i : i + reach : step, j : j + reach : step] for i in range(3) for j in range(3)]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(torch.cat(taps, 3), weight).permute(0, 3, 1, 2)
