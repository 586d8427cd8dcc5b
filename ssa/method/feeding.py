"""Running a user's model to score it: on a copy, with the inputs that it takes and the loss that it has."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from ssa.method.copying import without_history

Batch: TypeAlias = "tuple[Any, ...] | list[Any] | Mapping[str, Any]"  # (images, labels), or a model's keyword arguments
Loss: TypeAlias = Callable[[Any, Any], Tensor]  # of a model's outputs and the batch, or synflow's input


def scratch(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in eval mode, on which to compute: what models keep of a pass stays out of the original."""
    return copy.deepcopy(model, without_history(model)).eval()


def call(model: nn.Module, inputs: Any) -> Any:
    """The outputs of ``model`` for one tensor, or for a mapping of keyword arguments."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def moved(batch: Any, device: torch.device) -> Any:
    """``batch`` with all its tensors on ``device``."""
    if isinstance(batch, Mapping):  # also those of others, such as a tokenizer's
        batch = dict(batch)
    return tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, batch)


def loss_of(model: nn.Module, batch: Any, loss: Loss | None) -> Tensor:
    """The loss of one batch: ``loss``'s, the outputs' own, or the cross-entropy summed over (images, labels)."""
    keywords = isinstance(batch, Mapping)
    if not keywords and not (isinstance(batch, (tuple, list)) and len(batch) == 2):
        raise ValueError(f"a batch is (images, labels), or a mapping of the model's arguments, not {_name(batch)}")
    outputs = call(model, batch if keywords else batch[0])
    if loss is not None:
        return _single(loss(outputs, batch))
    if not keywords and isinstance(outputs, Tensor):
        return functional.cross_entropy(outputs, batch[1], reduction="sum")
    own = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if not isinstance(own, Tensor):
        raise ValueError(
            f"the model's outputs ({_name(outputs)}) have no loss: give loss=, a function of (outputs, batch)"
        )
    return _single(own)


def flow_of(model: nn.Module, inputs: Any, loss: Loss | None) -> Tensor:
    """The sum of the outputs for ``inputs``: of a tensor, or of what has logits; or what ``loss`` says."""
    outputs = call(model, inputs)
    if loss is not None:
        return _single(loss(outputs, inputs))
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", outputs)
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"the model's outputs ({_name(outputs)}) are no tensor and have no logits: give loss=, a function of "
            "(outputs, example) that sums what counts"
        )
    return logits.sum()


def ones_like(example: Any, device: torch.device) -> Any:
    """Of each tensor's first row ones in float64; whole numbers, as tokens are, and all else as they are."""

    def one(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        first = value[:1].to(device)
        return torch.ones_like(first, dtype=torch.float64) if value.is_floating_point() else first

    return tree_map(one, dict(example)) if isinstance(example, Mapping) else one(example)


def _single(value: Any) -> Tensor:
    if not (isinstance(value, Tensor) and value.numel() == 1):
        raise ValueError(f"loss= gave {_name(value)}; it returns one number, as a tensor")
    return value.sum()


def _name(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
