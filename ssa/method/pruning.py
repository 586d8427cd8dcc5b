"""Pruning: from a model to the mask of its child."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import Size, Tensor, nn

from ssa.errors import check_choice, whole
from ssa.method import criteria
from ssa.method.allocations import FLOORED, FUNCTIONS, Counts, normalised
from ssa.method.criteria import Batches, Scorer, Tensors, lowest
from ssa.method.feeding import Loss, call, moved, scratch
from ssa.method.masks import Mask
from ssa.method.selection import BIASES, PRUNABLE, SEPARATE, Select, prunable, uncovered
from ssa.vocabulary import ALLOCATIONS, CRITERIA, STRUCTURES


def prune(
    model: nn.Module,
    sparsity: float,
    criterion: str | Tensors | Scorer = "magnitude",
    structure: str = "connections",
    allocation: str = "layerwise",
    seed: int = 0,
    select: Select | None = None,
    example: Any = None,
    batches: Batches | None = None,
    *,
    normalise: bool | None = None,
    floor: float = 0.0,
    loss: Loss | None = None,
) -> Mask:
    """The mask that removes the fraction ``sparsity``, in [0, 1), of the prunable weights of ``model``.

    ``criterion`` says which weights go: ``random``; ``anti-random``, those that ``random`` of the same seed ranks
    last, and so keeps where half of each layer goes (of an odd number both round alike, and one weight is in both masks
    or in neither); ``magnitude``, the smallest;
    ``taylor``, the least w * gradient over ``batches`` of (images, labels) or of a model's keyword arguments;
    ``synflow``, the least synaptic flow for an input of ``example``'s shape, a tensor or a mapping of arguments; both
    of ``loss(outputs, batch)`` where that is given. Or scores of one's own, the lowest of which go: a mapping from each
    weight's name to a tensor of its shape, or a function from the weights, so mapped, to such a mapping. The model
    stays as it was. ``allocation`` says how many of each tensor's n weights (or neurons) go:
    ``layerwise``, ``round(sparsity * n)``; ``global``, ``erk`` and ``lamp``, that many over all tensors together,
    shared out by the criterion's own scores, by the tensors' shapes, or by layer-adaptive magnitudes.
    Ties go in the order of the weights: the earlier one is removed, on every device.

    Where scores of several tensors are compared, by ``global``, ``normalise`` divides each tensor's by their mean; by
    default those of neurons but not those of connections, and never random ones, which have one scale. Untrained
    networks need it: their weights are of a size by the layer's fan-in. ``floor``, a fraction in [0, 1), is what
    ``global`` and ``lamp`` leave of each tensor at least, rounded up.

    With ``structure="neurons"`` whole output rows go, with their bias and BatchNorm; ``example``, one input batch,
    tells which BatchNorm follows which layer. ``select``: see :func:`prunable`. ``ValueError`` for a setting outside
    these, where ``example`` or ``batches`` is needed and missing, and where a layer would be left empty.
    """
    if not (isinstance(sparsity, Real) and 0 <= sparsity < 1):
        raise ValueError(f"sparsity is {sparsity!r}; allowed: a fraction in [0, 1)")
    seed = whole("seed", seed)
    if not (isinstance(criterion, Mapping) or callable(criterion)):
        check_choice("criterion", criterion, CRITERIA)
    check_choice("structure", structure, STRUCTURES)
    check_choice("allocation", allocation, ALLOCATIONS)
    _check_floor(floor, allocation)
    from ssa.method.subnetwork import within  # which imports this module

    if within(model) is not None:
        raise ValueError("the model is, or holds, a subnetwork, whose own mask would not count: prune child.fold()")
    weights = prunable(model, select)
    _warn_of_uncovered(model, weights)
    shapes = _shapes_of_units(model, weights, structure)
    count: Callable[[Tensors, float], Counts] = partial(FUNCTIONS[allocation], weights)
    if floor:
        count = partial(count, floor=floor)
    scaled = structure == "neurons" if normalise is None else normalise
    scaled = scaled and allocation == "global" and criterion not in ("random", "anti-random")
    if scaled:
        count = partial(_count_normalised, count)
    scores = _scores(model, weights, shapes, criterion, sparsity, count, seed, example, batches, loss)
    if scaled and not isinstance(criterion, str):
        _check_signs(scores)
    counts = count(scores, sparsity)
    _check(scores, counts, sparsity, allocation)
    mask = Mask({name: ~lowest(score, counts[name]) for name, score in scores.items()})
    return mask if structure == "connections" else _with_companions(model, mask, example)


def partition(
    model: nn.Module,
    parts: int,
    part: int,
    structure: str = "connections",
    seed: int = 0,
    select: Select | None = None,
    example: Any = None,
) -> Mask:
    """The mask that keeps part ``part``, from 0, of a random partition of each prunable tensor into ``parts``.

    The parts of one seed share no weight (or neuron) and leave none out; their sizes differ by one at most.
    ``structure``, ``select`` and ``example`` as in :func:`prune`. ``ValueError`` if a tensor has too few to share.
    """
    seed = whole("seed", seed)
    if not 0 <= part < parts:
        raise ValueError(f"part is {part!r}; allowed: 0 to {parts - 1}, since there are {parts} parts")
    check_choice("structure", structure, STRUCTURES)
    weights = prunable(model, select)
    _warn_of_uncovered(model, weights)
    shapes = _shapes_of_units(model, weights, structure)
    kept = {}
    for name, score in criteria.uniform(weights, shapes, seed).items():
        units = score.numel()
        if units < parts:
            raise ValueError(f"{name!r} has {units} to share among {parts}; lower that, or leave it out with select=")
        chosen = score.flatten().argsort(stable=True)[part * units // parts : (part + 1) * units // parts]
        kept[name] = torch.zeros(units, dtype=torch.bool, device=score.device).index_fill_(0, chosen, True)
        kept[name] = kept[name].view(score.shape)
    return Mask(kept) if structure == "connections" else _with_companions(model, Mask(kept), example)


def _warn_of_uncovered(model: nn.Module, weights: Tensors) -> None:
    """Say what stays dense that one may think pruned, if that is more than 1% of all matrix weights."""
    expected = ("classifier", "embedding", "bias")
    left = {name: one for name, one in uncovered(model, weights).items() if one.why not in expected}
    total = sum(one.total for one in uncovered(model, ()).values())
    share = sum(one.total for one in left.values()) / total if total else 0.0
    if share > 0.01:
        named = ", ".join(f"{name} ({one.why})" for name, one in list(left.items())[:3])
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        warnings.warn(
            f"{share:.1%} of all matrix weights are not selected and stay as they are: {named}{more}; select= names "
            "what else is to be pruned",
            stacklevel=3,
        )


def _shapes_of_units(model: nn.Module, weights: Tensors, structure: str) -> dict[str, Size]:
    """The shape of each weight's scores: its own, or a column of its output rows."""
    if structure == "connections":
        return {name: weight.shape for name, weight in weights.items()}
    rows = {id(p) for m in model.modules() if isinstance(m, PRUNABLE) for p in m.parameters(recurse=False)}
    for name, weight in weights.items():
        if id(weight) not in rows:
            raise ValueError(
                f"structure 'neurons' cannot prune {name!r}, whose rows are no outputs; leave it out with select="
            )
    return {name: Size((len(weight), *[1] * (weight.dim() - 1))) for name, weight in weights.items()}


def _scores(
    model: nn.Module,
    weights: Tensors,
    shapes: Mapping[str, Size],
    criterion: str | Tensors | Scorer,
    sparsity: float,
    count: Callable[[Tensors, float], Counts],
    seed: int,
    example: Any,
    batches: Batches | None,
    loss: Loss | None,
) -> dict[str, Tensor]:
    if not isinstance(criterion, str):
        own = (
            criterion({name: weight.detach() for name, weight in weights.items()}) if callable(criterion) else criterion
        )
        return criteria.given(own, weights, shapes)
    if criterion == "random":
        return criteria.uniform(weights, shapes, seed)
    if criterion == "anti-random":
        return criteria.opposite(criteria.uniform(weights, shapes, seed))
    if criterion == "magnitude":
        return {name: criteria.magnitude(weight, shapes[name]) for name, weight in weights.items()}
    if criterion == "taylor":
        if batches is None:
            raise ValueError(
                "criterion 'taylor' needs batches=, an iterable of (images, labels) or of a model's arguments"
            )
        return criteria.taylor(model, weights, shapes, batches, loss)
    if example is None:
        raise ValueError("criterion 'synflow' needs example=, one input batch")
    return criteria.synflow(model, weights, shapes, example, sparsity, count, loss)


def _count_normalised(count: Callable[[Tensors, float], Counts], scores: Tensors, sparsity: float) -> Counts:
    return count(normalised(scores), sparsity)


def _check_signs(scores: Tensors) -> None:
    """``ValueError`` for scores below 0, whose mean says nothing of their size."""
    for name, score in scores.items():
        if (score < 0).any():
            raise ValueError(
                f"the scores of {name!r} go below 0: no mean can scale them; normalise=False takes them as they are"
            )


def _check_floor(floor: float, allocation: str) -> None:
    if not (isinstance(floor, Real) and 0 <= floor < 1):
        raise ValueError(f"floor is {floor!r}; allowed: a fraction in [0, 1)")
    if floor and allocation not in FLOORED:
        raise ValueError(f"floor goes with allocation {' or '.join(FLOORED)}; {allocation!r} gives each tensor its own")


def _check(scores: Tensors, counts: Counts, sparsity: float, allocation: str) -> None:
    """``ValueError`` if scores rank nothing, or a weight would be left empty."""
    for name, score in scores.items():
        if not score.isfinite().all():
            raise ValueError(f"the scores of {name!r} are not finite; has the model diverged?")
        if counts[name] == score.numel():
            floored = "give each tensor a floor=, " if allocation in FLOORED else ""
            raise ValueError(
                f"sparsity {sparsity} would leave nothing of {name!r} ({score.numel()} to prune); lower it, {floored}"
                f"choose another allocation than {allocation!r}, or leave the layer out with select="
            )


def _with_companions(model: nn.Module, mask: Mask, example: Any) -> Mask:
    """Tie each pruned neuron's bias, and the BatchNorm that reads nothing but its layer, to its mask."""
    norms = _following_norms(model, example)
    parameters = {id(parameter): name for name, parameter in model.named_parameters()}
    tied: dict[str, str] = {}
    for name, layer in model.named_modules():
        for weight_key, bias_key in BIASES.items():
            weight = parameters.get(id(getattr(layer, weight_key, None)))
            if weight is None or weight not in mask:
                continue
            companions = [getattr(layer, bias_key, None)]
            companions += [own for norm in norms.get(id(layer), ()) for own in (norm.weight, norm.bias)]
            tied |= {parameters[id(companion)]: weight for companion in companions if companion is not None}
        separate = [key for key in SEPARATE if parameters.get(id(getattr(layer, key, None))) in mask]
        if separate and layer.in_proj_bias is not None:
            raise ValueError(
                f"structure 'neurons' cannot prune {name!r}: its projections share one bias; leave it out with select="
            )
    return Mask({**mask, **{name: mask[weight].flatten() for name, weight in tied.items()}}, tied)


def _following_norms(model: nn.Module, example: Any) -> dict[int, list[nn.Module]]:
    """id of a layer to the BatchNorms that read its output and nothing else's, found by running ``example``."""
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return {}
    if example is None:
        raise ValueError("structure 'neurons' on a model with BatchNorm needs example=, one input batch")
    probe = scratch(model)
    norms: list[nn.Module] = [m for m in probe.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    own = dict(zip(probe.modules(), model.modules(), strict=True))
    producers: dict[int, tuple[nn.Module, Tensor, int]] = {}
    read: dict[nn.Module, set[int]] = {norm: set() for norm in norms}  # ids of layers, 0 for anything else

    def produced(layer: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(output, Tensor):  # held, so that its id is not used again
            producers[id(output)] = (layer, output, output._version)

    def consumed(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        layer, output, version = producers.get(id(inputs[0]), (None, inputs[0], 0))
        unchanged = layer is not None and output._version == version  # a residual may have been added in place
        read[norm].add(id(own[layer]) if layer is not None and unchanged else 0)

    for module in probe.modules():
        if isinstance(module, PRUNABLE):
            module.register_forward_hook(produced)
    for norm in norms:
        norm.register_forward_pre_hook(consumed)
    with torch.no_grad():
        call(probe, moved(example, next(probe.parameters()).device))
    found: dict[int, list[nn.Module]] = {}
    for norm, sources in read.items():
        if len(sources) == 1:
            found.setdefault(sources.pop(), []).append(own[norm])
    return found
