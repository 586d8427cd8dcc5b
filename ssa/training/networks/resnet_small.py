"""A small residual network for studies that fit a CPU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

REGISTER = 16  # numbers in the widest vector register of a CPU


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution without bias, and its BatchNorm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class Pointwise(nn.Conv2d):
    """A 1x1 convolution without bias that leaves out the pixels between its strides before it multiplies, not after.

    In channels-last memory oneDNN 3.13 writes past its buffer in the backward pass of a strided one with fewer input
    channels than a vector register holds: on CPUs with AVX2, training then crashes or hangs (oneDNN issue 6035).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, bias=False)
        self.step = stride

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride), rounded up."""
        return super().forward(x[:, :, :: self.step, :: self.step])


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride)
        self.second = convolution(outputs, outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            narrow = inputs < REGISTER
            layer = Pointwise(inputs, outputs, stride) if narrow else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(layer, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        hidden = self.second(functional.relu(self.first(x), inplace=True))
        return functional.relu(hidden + self.shortcut(x), inplace=True)


class SmallResNet(nn.Module):
    """A 3x3 stem, ``stages`` of one block each that double the width from ``width`` on, average pool, classifier."""

    def __init__(self, channels: int, classes: int, width: int = 16, stages: int = 3, stem_stride: int = 1) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(stages)]
        self.stem = convolution(channels, width, stem_stride)
        self.stages = nn.Sequential(
            *(BasicBlock(widths[max(i - 1, 0)], widths[i], 1 if i == 0 else 2) for i in range(stages))
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, classes)."""
        return self.head(self.stages(functional.relu(self.stem(x), inplace=True)).mean((2, 3)))
