"""Scores that rank what to prune: the lowest scores go first.

A criterion answers with a score for each unit of each weight: its shape is the weight's own, or (out, 1, ..., 1) where
whole neurons are pruned, and then holds the mean over each output row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Size, Tensor, nn

from ssa.method.feeding import Batch, Loss, flow_of, loss_of, moved, ones_like, scratch

Tensors = Mapping[str, Tensor]
Shapes = Mapping[str, Size]
Batches = Iterable[Batch]
Scorer = Callable[[dict[str, Tensor]], Tensors]

SYNFLOW_ROUNDS = 100


def magnitude(weight: Tensor, shape: Size) -> Tensor:
    """``|w|`` of ``shape``, in the weight's own precision, at least float32."""
    size = weight.detach().abs()
    return over_units(size if size.dtype == torch.float64 else size.float(), shape)


def over_units(values: Tensor, shape: Size) -> Tensor:
    """``values`` of a weight as ``shape``: as they are, or the mean over each output row where it is (out, 1, ...)."""
    return values if values.shape == shape else values.flatten(1).mean(1).view(shape)


def uniform(weights: Tensors, shapes: Shapes, seed: int) -> dict[str, Tensor]:
    """Independent uniform scores in [0, 1): random pruning. Drawn on the CPU, so that devices agree."""
    generator = torch.Generator("cpu").manual_seed(seed)  # neither the type nor the device that PyTorch defaults to
    own: dict[str, Any] = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
    return {name: torch.rand(shapes[name], **own).to(weights[name].device) for name in weights}


def opposite(scores: Tensors) -> dict[str, Tensor]:
    """int64 scores that rank everything the other way round, equals included.

    The lowest n of them are the highest n of ``scores``, in each tensor and over all of them. Negated scores would
    not do: a float32 draw repeats itself in a large tensor, and both ways the earlier of equals would go.
    """
    joined = torch.cat([score.flatten() for score in scores.values()])
    rank = torch.empty_like(joined, dtype=torch.int64)
    rank[joined.argsort(stable=True)] = torch.arange(len(joined), device=joined.device)
    parts = (-rank).split([score.numel() for score in scores.values()])
    return {name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


def given(scores: object, weights: Tensors, shapes: Shapes) -> dict[str, Tensor]:
    """A user's own scores, one tensor for each of ``weights``: of its shape, or already of the units' in ``shapes``.

    ``ValueError`` if one is missing, is of another shape or is not asked for; ``TypeError`` if it is no tensor.
    """
    if not isinstance(scores, Mapping):
        raise TypeError(f"criterion gave {scores!r}; it maps names of weights to tensors of scores")
    odd = weights.keys() ^ scores.keys()
    if odd:
        where = "the scores have none" if min(odd) in weights else "no such weight is to be pruned"
        raise ValueError(f"criterion: {min(odd)!r} is in only one of the scores and the weights ({where})")
    found = {}
    for name, weight in weights.items():
        score = scores[name]
        if not isinstance(score, Tensor) or score.dtype == torch.bool or score.is_complex():
            raise TypeError(f"criterion: the scores of {name!r} are no tensor of real numbers")
        if score.shape not in (weight.shape, shapes[name]):
            raise ValueError(
                f"criterion: the scores of {name!r} have shape {tuple(score.shape)}; expected {tuple(weight.shape)}"
            )
        score = score.detach().to(weight.device)
        found[name] = score if score.shape == shapes[name] else over_units(score.double(), shapes[name])
    return found


def taylor(
    model: nn.Module, weights: Tensors, shapes: Shapes, batches: Batches, loss: Loss | None = None
) -> dict[str, Tensor]:
    """float64 ``|w * gradient|``, to first order how much the loss would change without w (Molchanov et al., 2017).

    The loss is summed over ``batches``, with ``model`` in eval mode: ``loss(outputs, batch)``, by default the
    cross-entropy summed over the images of (images, labels), or the loss in the outputs where a batch is a mapping of
    the model's arguments. Computed on a copy. ``ValueError`` if there is no batch. arXiv 1611.06440
    """
    model = scratch(model)
    leaves = {name: model.get_parameter(name).requires_grad_() for name in weights}
    total = {name: torch.zeros_like(leaf, dtype=torch.float64) for name, leaf in leaves.items()}
    device = next(iter(leaves.values())).device
    empty = True
    with torch.enable_grad():
        for batch in batches:
            one = loss_of(model, moved(batch, device), loss)
            gradients = torch.autograd.grad(one, list(leaves.values()), materialize_grads=True)
            for name, gradient in zip(leaves, gradients, strict=True):
                total[name] += gradient
            empty = False
    if empty:
        raise ValueError("batches is empty; criterion 'taylor' needs at least one batch")
    return {name: over_units((leaf.detach() * total[name]).abs(), shapes[name]) for name, leaf in leaves.items()}


def synflow(
    model: nn.Module,
    weights: Tensors,
    shapes: Shapes,
    example: Any,
    sparsity: float,
    count: Callable[[Tensors, float], Mapping[str, int]],
    loss: Loss | None = None,
) -> dict[str, Tensor]:
    """The synaptic flow ``|w * dR/dw|`` before the last of 100 rounds of pruning (Tanaka et al., 2020).

    R is the sum of the outputs, of their ``logits`` or ``loss(outputs, inputs)``, for an input of ones of ``example``'s
    shape (a tensor, or a mapping of the model's arguments; tokens stay) with ``|w|`` for every weight. Round k
    leaves the density ``(1 - sparsity) ** (k / 100)``; ``count`` says, from scores and sparsity, how many units of each
    weight that removes. Units that are gone score -1, below all others. In double precision. arXiv 2006.05467

    Biases, BatchNorm's shifts and its running means are 0 in R, as they are in the paper's equation 3: every layer of a
    chain then has the same sum of scores, of a trained network too. BatchNorm's scale is that of eval mode.
    """
    flow = _linear_flow(model)
    inputs = ones_like(example, next(iter(weights.values())).device)
    flowing = {name: flow.get_parameter(name) for name in weights}
    gone = {name: torch.zeros(shapes[name], dtype=torch.bool, device=weights[name].device) for name in weights}
    for k in range(1, SYNFLOW_ROUNDS):
        scores = _synaptic_flow(flow, flowing, gone, inputs, loss)
        counts = count(scores, 1 - (1 - sparsity) ** (k / SYNFLOW_ROUNDS))
        gone = {name: lowest(score, counts[name]) for name, score in scores.items()}
    return _synaptic_flow(flow, flowing, gone, inputs, loss)


def _linear_flow(model: nn.Module) -> nn.Module:
    """A copy in double precision whose weights are all positive and whose shifts are 0: then ReLU is the identity."""
    flow = scratch(model).double()
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            parameter.requires_grad_().abs_()
            if name.endswith("bias"):
                parameter.zero_()
        for name, buffer in flow.named_buffers():
            if name.endswith("running_mean"):
                buffer.zero_()
    return flow


def _synaptic_flow(
    flow: nn.Module, weights: Tensors, gone: Tensors, inputs: Any, loss: Loss | None
) -> dict[str, Tensor]:
    with torch.no_grad():
        for name, weight in weights.items():
            weight.masked_fill_(gone[name], 0.0)
    with torch.enable_grad():
        gradients = torch.autograd.grad(flow_of(flow, inputs, loss), list(weights.values()), materialize_grads=True)
    return {
        name: over_units((weight.detach() * gradient).abs(), gone[name].shape).masked_fill(gone[name], -1.0)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }


def lowest(score: Tensor, count: int) -> Tensor:
    """A bool tensor of ``score``'s shape, True at its ``count`` lowest entries, the earlier of equals first.

    A selection, not a sort: re-ranking asks at every step. Nothing of it comes back to the CPU, so that none waits.
    """
    flat = score.flatten()
    if count == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    limit = flat.kthvalue(count).values
    chosen = flat <= limit
    if not flat.is_cpu or int(chosen.sum()) > count:  # a GPU is not asked, since the answer would have to be waited for
        equal = flat == limit
        surplus = chosen.sum() - count
        chosen &= ~equal | (equal.cumsum(0, dtype=torch.int32) <= equal.sum() - surplus)
    return chosen.view(score.shape)
