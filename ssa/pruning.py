"""Pruning: from a model to the mask of its child."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ssa import criteria
from ssa.masks import Mask

PRUNABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
CRITERIA = ("random", "magnitude")
STRUCTURES = ("connections", "neurons")
ALLOCATIONS = ("layerwise", "global")

Predicate = Callable[[str, nn.Module], bool]


def prunable(model: nn.Module, select: Predicate | None = None) -> dict[str, Tensor]:
    """The weights that may be pruned, in the model's order.

    By default the weight of every convolution and linear layer but the last one, the classifier; ``select``,
    called with a layer's name and module, chooses among all of them instead. A shared weight appears once.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, PRUNABLE)}
    if select is None:
        layers = dict(list(layers.items())[:-1])
    else:
        layers = {name: layer for name, layer in layers.items() if select(name, layer)}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weights = {id(layer.weight): layer.get_parameter("weight") for layer in layers.values()}
    return {names[key]: weight for key, weight in weights.items()}


def prune(
    model: nn.Module,
    sparsity: float,
    criterion: str = "magnitude",
    structure: str = "connections",
    allocation: str = "layerwise",
    seed: int = 0,
    select: Predicate | None = None,
    example: Tensor | None = None,
) -> Mask:
    """The mask that removes the fraction ``sparsity``, in [0, 1), of the prunable weights of ``model``.

    ``layerwise`` removes ``round(sparsity * n)`` of each tensor's n weights (or of its neurons), ``global`` that many
    over all tensors together. Ties go in the order of the weights: the earlier one is removed, on every device. With
    ``structure="neurons"`` whole output rows go, with their bias and BatchNorm; ``example``, one input batch, tells
    which BatchNorm follows which layer. ``ValueError`` for a setting outside these, and where a layer would be left
    empty.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is {sparsity!r}; allowed: a fraction in [0, 1)")
    for key, value, allowed in (
        ("criterion", criterion, CRITERIA),
        ("structure", structure, STRUCTURES),
        ("allocation", allocation, ALLOCATIONS),
    ):
        if value not in allowed:
            raise ValueError(f"{key} is {value!r}; allowed: {', '.join(allowed)}")
    weights = prunable(model, select)
    scores = dict(_scores(weights, criterion, structure, seed))
    removed = _global(scores, sparsity) if allocation == "global" else _layerwise(scores, sparsity)
    for name, gone in removed.items():
        if gone.all():
            raise ValueError(f"sparsity {sparsity} would leave nothing of {name!r} ({gone.numel()} to prune); lower it")
    mask = Mask({name: ~gone for name, gone in removed.items()})
    return mask if structure == "connections" else _with_companions(model, mask, example)


def _scores(weights: dict[str, Tensor], criterion: str, structure: str, seed: int) -> Iterator[tuple[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for name, weight in weights.items():
        whole = weight.shape if structure == "connections" else torch.Size((len(weight), *[1] * (weight.dim() - 1)))
        if criterion == "random":
            yield name, criteria.uniform(weight, whole, generator)
        else:
            yield name, criteria.magnitude(weight, whole)


def lowest(score: Tensor, count: int) -> Tensor:
    """A bool tensor of ``score``'s shape, True at its ``count`` lowest entries, the earlier of equals first.

    A selection, not a sort: re-ranking asks at every step.
    """
    flat = score.flatten()
    if count == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    limit = flat.kthvalue(count).values
    chosen = flat < limit
    equal = (flat == limit).nonzero().flatten()
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen.view(score.shape)


def _layerwise(scores: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    return {name: lowest(score, round(sparsity * score.numel())) for name, score in scores.items()}


def _global(scores: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    joined = torch.cat([score.flatten() for score in scores.values()])
    parts = lowest(joined, round(sparsity * joined.numel())).split([score.numel() for score in scores.values()])
    return {name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


def _with_companions(model: nn.Module, mask: Mask, example: Tensor | None) -> Mask:
    """Tie each pruned neuron's bias, and the BatchNorm that reads nothing but its layer, to its mask."""
    norms = _following_norms(model, example)
    parameters = {id(parameter): name for name, parameter in model.named_parameters()}
    tied: dict[str, str] = {}
    for layer in model.modules():
        weight = parameters.get(id(getattr(layer, "weight", None)))
        if weight is None or weight not in mask:
            continue
        companions = [getattr(layer, "bias", None)]
        if id(layer) in norms:
            companions += [norms[id(layer)].weight, norms[id(layer)].bias]
        tied |= {parameters[id(companion)]: weight for companion in companions if companion is not None}
    return Mask({**mask, **{name: mask[weight].flatten() for name, weight in tied.items()}}, tied)


def _following_norms(model: nn.Module, example: Tensor | None) -> dict[int, nn.Module]:
    """id of a layer to the BatchNorm whose input is that layer's output, found by running ``example``."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return {}
    if example is None:
        raise ValueError("structure 'neurons' on a model with BatchNorm needs example=, one input batch")
    producers: dict[int, tuple[nn.Module, Tensor]] = {}
    found: dict[int, nn.Module] = {}

    def produced(layer: nn.Module, _: object, output: Tensor) -> None:
        producers[id(output)] = (layer, output)  # holding the output keeps its id from being used again

    def consumed(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in producers:
            found[id(producers[id(inputs[0])][0])] = norm

    hooks = [m.register_forward_hook(produced) for m in model.modules() if isinstance(m, PRUNABLE)]
    hooks += [norm.register_forward_pre_hook(consumed) for norm in norms]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(example)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found
