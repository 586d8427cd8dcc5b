"""A small residual network for studies that fit a CPU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution without bias, and its BatchNorm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride)
        self.second = convolution(outputs, outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

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
            *(Block(widths[max(i - 1, 0)], widths[i], 1 if i == 0 else 2) for i in range(stages))
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, classes)."""
        return self.head(self.stages(functional.relu(self.stem(x), inplace=True)).mean((2, 3)))
