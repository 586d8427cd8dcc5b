"""Copies of models that have been used: a pass may leave tensors in a model that PyTorch cannot copy."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


def without_history(model: nn.Module) -> dict[int, Any]:
    """For ``copy.deepcopy`` as its memo: what a pass has left in ``model`` or its parts, by id, without its history."""
    left: dict[int, Any] = {}
    for module in model.modules():
        for tensor in tree_leaves({key: value for key, value in vars(module).items() if key != "_modules"}):
            if isinstance(tensor, Tensor) and not tensor.is_leaf:
                left[id(tensor)] = tensor.detach().clone()
    return left
