"""LeNet in the three sizes of the Prune-and-Tune paper (Whitaker and Whitley, AAAI 2022)."""

from __future__ import annotations

from torch import Tensor, nn

SIZES = {"s": (16, 32, 256, 128), "m": (32, 64, 512, 256), "l": (64, 128, 1024, 512)}


class LeNet(nn.Sequential):
    """Two valid 5x5 convolutions, each with ReLU and 2x2 max-pool, two hidden linear layers and the output.

    Takes (n, channels, 32, 32), gives (n, classes). ``size`` is s, m or l.
    """

    def __init__(self, channels: int, classes: int, size: str) -> None:
        first, second, wide, narrow = SIZES[size]
        super().__init__(
            nn.Conv2d(channels, first, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * 25, wide),
            nn.ReLU(),
            nn.Linear(wide, narrow),
            nn.ReLU(),
            nn.Linear(narrow, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of a batch; ``ValueError`` for images that are not 32 x 32."""
        if x.shape[-2:] != (32, 32):
            raise ValueError(f"LeNet takes images of 32 x 32, not {x.shape[-2]} x {x.shape[-1]}")
        return super().forward(x)
