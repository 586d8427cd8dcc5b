"""Dropout in any network, and its samples: Monte Carlo dropout (Gal and Ghahramani, 2016, arXiv 1506.02142)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ssa.errors import UserError
from ssa.training.networks.members import replace_layers


def wrap(model: nn.Module, p: float) -> nn.Module:
    """``model`` with dropout of probability ``p`` after every convolution and linear layer but the last, in place."""
    replace_layers(model, lambda layer: nn.Sequential(layer, nn.Dropout(p)), last=False)
    return model


@contextmanager
def sampling(model: nn.Module) -> Iterator[None]:
    """Within it every forward pass of ``model`` in eval mode draws anew what its dropout layers drop.

    They alone train, whatever mode is set meanwhile: BatchNorm and all else stay as they are. ``UserError`` for a model
    without dropout layers, whose samples would all be alike.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
    if not layers:
        raise UserError("Monte Carlo dropout needs a model with dropout; set dropout_everywhere in its model_options")
    modes = [layer.training for layer in layers]
    hooks = [layer.register_forward_pre_hook(_into_training) for layer in layers]
    try:
        yield
    finally:
        for layer, mode, hook in zip(layers, modes, hooks, strict=True):
            hook.remove()
            layer.train(mode)


def _into_training(layer: nn.Module, _: Any) -> None:
    layer.train()
