"""Wide residual networks (Zagoruyko and Komodakis, 2016, arXiv 1605.07146), as the authors of Prune-and-Tune have them.

They differ from the published ones: a block's stride is in its second convolution, all convolutions have biases, the
shortcut reads the raw input, and the last BatchNorm has a momentum of 0.9. The training cost in the published table
(3.6e17 FLOPs of WRN-28-10) is that of this network.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class WideBlock(nn.Module):
    """BatchNorm, ReLU, convolution, twice, with dropout between the convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        hidden = self.conv1(functional.relu(self.norm1(x)))
        hidden = self.conv2(self.dropout(functional.relu(self.norm2(hidden))))
        return hidden + (x if self.shortcut is None else self.shortcut(x))


class WideResNet(nn.Module):
    """WRN-``depth``-``width``; depth is 6 n + 4."""

    def __init__(self, channels: int, classes: int, depth: int = 28, width: int = 10, dropout: float = 0.0) -> None:
        super().__init__()
        if (depth - 4) % 6:
            raise ValueError(f"depth is {depth}; a wide ResNet has 6 n + 4 layers")
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.stem = nn.Conv2d(channels, widths[0], 3, 1, 1)
        self.stages = nn.Sequential(
            *(
                WideBlock(widths[stage] if i == 0 else widths[stage + 1], widths[stage + 1], stride, dropout)
                for stage, first_stride in enumerate((1, 2, 2))
                for i, stride in enumerate([first_stride] + [1] * ((depth - 4) // 6 - 1))
            )
        )
        self.norm = nn.BatchNorm2d(widths[3], momentum=0.9)
        self.head = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, classes)."""
        return self.head(functional.relu(self.norm(self.stages(self.stem(x)))).mean((2, 3)))
