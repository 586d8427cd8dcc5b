"""Networks that answer for several members of an ensemble at once, and the layers that make them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

Layer: TypeAlias = nn.Conv2d | nn.Linear


class Members(nn.Module):
    """``members`` networks in one module. :func:`ssa.training.step.cross_entropy` is the loss of what they give in
    training.

    In eval mode it is a network as any other: images (n, channels, h, w) to (n, classes), the logarithm of the mean of
    the members' probabilities.
    """

    def __init__(self, members: int) -> None:
        super().__init__()
        if members < 1:
            raise ValueError(f"members is {members}; allowed: at least 1")
        self.members = members

    @property
    def passes(self) -> int:
        """How many times an image goes through the network until all members have answered."""
        return self.members

    def training_outputs(self, images: Tensor) -> Tensor:
        """The outputs from which the loss of a training batch is computed."""
        raise NotImplementedError

    def member_logits(self, images: Tensor) -> Tensor:
        """The logits of each member on the same images, (members, n, classes); meant for eval mode."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """The training outputs in training mode, else the members' prediction, (n, classes)."""
        if self.training:
            return self.training_outputs(images)
        return self.member_logits(images).float().log_softmax(2).logsumexp(0) - math.log(self.members)


def replace_layers(model: nn.Module, new: Callable[[Layer], nn.Module], last: bool = True) -> None:
    """Put ``new(layer)`` in the place of every convolution and linear layer; without ``last``, of all but the last.

    A layer that stands in several places stays one. ``ValueError`` if there is none, or ``model`` is one itself.
    """
    modules = list(model.modules())
    layers = [module for module in modules if isinstance(module, Layer)]
    if not layers or model in layers:
        raise ValueError("a model is needed that contains convolutions or linear layers")
    made: dict[nn.Module | None, nn.Module] = {layer: new(layer) for layer in (layers if last else layers[:-1])}
    for module in modules:
        for name, child in list(module._modules.items()):
            if child in made:
                setattr(module, name, made[child])
