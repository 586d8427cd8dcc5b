"""MIMO (Havasi et al., 2021, arXiv 2010.06610): one network with an input and an output for each member."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssa.training.networks.members import Members


class Mimo(Members):
    """``network``, built for members * channels and members * classes, as ``members`` independent subnetworks.

    In training each member sees the batch in an order of its own; in eval mode all see the same image, in one forward
    pass. ``batch_repetitions``: how often each member sees the batch in a step, in the paper 4 on CIFAR.
    """

    def __init__(self, network: nn.Module, members: int, batch_repetitions: int = 1) -> None:
        super().__init__(members)
        self.network = network
        self.batch_repetitions = batch_repetitions

    @property
    def passes(self) -> int:
        """One for all members."""
        return 1

    def training_outputs(self, images: Tensor) -> Tensor:
        """Each member's logits in the order of the batch: (batch_repetitions * n, members, classes)."""
        rows = self.batch_repetitions * len(images)
        orders = torch.rand(self.members, rows, device=images.device).argsort(1)
        outputs = self._outputs([images.index_select(0, order % len(images)) for order in orders])
        back = orders.argsort(1).t()[:, :, None]
        return outputs.gather(0, back.expand_as(outputs))

    def member_logits(self, images: Tensor) -> Tensor:
        """(members, n, classes)."""
        return self._outputs([images] * self.members).transpose(0, 1)

    def _outputs(self, inputs: list[Tensor]) -> Tensor:
        """One batch for each member to (n, members, classes)."""
        return self.network(torch.cat(inputs, 1)).unflatten(1, (self.members, -1))
