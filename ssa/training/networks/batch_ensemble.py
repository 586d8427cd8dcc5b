"""BatchEnsemble (Wen, Tran and Ba, 2020, arXiv 2002.06715): members that share all weights but rank-1 factors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssa.training.networks.members import Layer, Members, replace_layers


class BatchEnsemble(Members):
    """``network`` as ``members`` networks; in training the batch is tiled member by member, (members * n, classes).

    Every convolution and linear layer is replaced, in place; normalisation and all else is shared.
    """

    def __init__(self, network: nn.Module, members: int) -> None:
        super().__init__(members)
        replace_layers(network, lambda layer: RankOne(layer, members))
        self.network = network

    def training_outputs(self, images: Tensor) -> Tensor:
        """Each member's logits on the whole batch, those of the first member first: (members * n, classes)."""
        return self.network(torch.cat([images] * self.members))

    def member_logits(self, images: Tensor) -> Tensor:
        """(members, n, classes)."""
        return self.training_outputs(images).unflatten(0, (self.members, len(images)))


class RankOne(nn.Module):
    """``layer`` with the weight W * s r^T for each member: ``r`` over its inputs, ``s`` over its outputs.

    Factors begin as random signs, each member's bias as the layer's. All are flat, (members * channels,), so that
    weight decay can be told to leave them alone. Takes and gives the members' rows one member after the other.
    """

    def __init__(self, layer: Layer, members: int) -> None:
        super().__init__()
        if isinstance(layer, nn.Conv2d):
            self.channels, inputs, outputs = 1, layer.in_channels, layer.out_channels
        else:
            self.channels, inputs, outputs = -1, layer.in_features, layer.out_features
        self.members = members
        self.layer = layer
        self.r = nn.Parameter(_signs(members * inputs))
        self.s = nn.Parameter(_signs(members * outputs))
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().repeat(members))
        layer.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        """(members * n, ...) to what the layer makes of it."""
        hidden = self._of_members(self.layer((self._of_members(x) * self._like(self.r, x)).flatten(0, 1)))
        hidden = hidden * self._like(self.s, hidden[0])
        if self.bias is not None:
            hidden = hidden + self._like(self.bias, hidden[0])
        return hidden.flatten(0, 1)

    def _of_members(self, x: Tensor) -> Tensor:
        return x.unflatten(0, (self.members, -1))

    def _like(self, flat: Tensor, x: Tensor) -> Tensor:
        """``flat`` as (members, 1, ...), with the channels where the rows ``x`` have theirs."""
        shape = [1] * x.dim()
        shape[self.channels] = -1
        return flat.to(x.dtype).view(self.members, *shape)


def _signs(count: int) -> Tensor:
    return torch.randint(0, 2, (count,)) * 2.0 - 1
