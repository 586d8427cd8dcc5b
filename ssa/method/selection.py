"""Which weights of a model may be pruned: by default all of its layers' but a classifier's and adapters'."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

PRUNABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)

# The weights of a layer, and the bias of the same output rows. Attention keeps its projections as raw parameters:
# one for all three, or one each, and then the three share a bias.
BIASES = {"weight": "bias", "in_proj_weight": "in_proj_bias"}
SEPARATE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")

# What libraries call the layer that tells classes apart: wherever it lies, and as a direct part of the model.
CLASSIFIERS = {"cls_score", "cls_logits", "classification_head", "class_embed", "class_labels_classifier"}
CLASSIFIERS |= {"class_predictor", "mask_fcn_logits"}
HEADS = {"classifier", "aux_classifier", "head", "heads", "head_dist", "fc", "score", "lm_head", "qa_outputs"}

# Words in the names of raw parameters that are looked up or added, such as pos_embed or mask_token.
EMBEDDINGS = {"pos", "position", "positional", "rel", "embed", "embedding", "embeddings", "token", "tokens", "table"}
EMBEDDINGS |= {"latent", "latents", "prompt", "prompts"}

Predicate: TypeAlias = Callable[[str, nn.Module], bool]
Select: TypeAlias = Predicate | type[nn.Module] | tuple[type[nn.Module], ...] | str | Sequence[str]


def is_transposed(layer: nn.Module) -> bool:
    """Whether ``layer`` is transformers' Conv1D: linear, with its outputs in the columns."""
    kind = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", None)
    return kind is not None and isinstance(layer, kind)


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers whose weights may be pruned, by name, in the model's order, the classifier included."""
    modules = model.named_modules()
    return {name: layer for name, layer in modules if isinstance(layer, PRUNABLE) or is_transposed(layer)}


def prunable(model: nn.Module, select: Select | None = None) -> dict[str, Tensor]:
    """The weights that may be pruned, in the model's order.

    By default those of every convolution, linear layer and attention but a classifier's and adapters': see
    :func:`spared`. Transposed convolutions, embeddings and recurrent layers are none of these. ``select`` chooses among
    all of them instead: a type or a tuple of types, a pattern of layer names or a list of patterns
    (``"blocks.*.fc1"``), or a predicate called with a layer's name and module. A pattern that matches no layer is one
    of names of parameters with two or more dimensions, such as experts that are no layers
    (``"layers.*.experts.down_proj"``). A shared weight appears once, and not where the classifier shares it.
    ``ValueError`` if nothing is chosen, or if a weight is computed from others.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    chosen = _chosen(model, select)
    if select is None:  # a layer that computes its weights is left as it is, unless that leaves nothing
        own = {name: layer for name, layer in chosen.items() if all(id(w) in names for w in _weights(layer).values())}
        chosen = own or chosen
    weights = [weight for layer in chosen.values() for weight in _weights(layer).values()]
    if any(id(weight) not in names for weight in weights):
        raise ValueError(
            "a layer computes its weight from others (a parametrization, or another mask): remove that first, as "
            "torch.nn.utils.parametrize.remove_parametrizations does, or leave the layer out with select="
        )
    wanted = {id(weight) for weight in weights} | {id(weight) for weight in _raw(model, select).values()}
    if not wanted:
        raise ValueError(
            f"select={select!r} leaves no layer to prune; by default the last layer, the classifier, is left out; "
            f"layers are {', '.join(map(repr, layers(model))) or 'missing'}"
        )
    found = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in wanted}
    if any(weight.is_meta for weight in found.values()):
        raise ValueError("the model is on the meta device, without values; build it on a real one")
    order = [names[id(weight)] for weight in weights]
    return {name: found[name] for name in dict.fromkeys([*order, *found])}


def effective(model: nn.Module, select: Select | None = None) -> dict[str, Tensor]:
    """The chosen weights as they are used now, also those that PyTorch's own pruning computes."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    used = {
        names.get(id(weight), f"{layer}.{key}"): weight
        for layer, module in _chosen(model, select).items()
        for key, weight in _weights(module).items()
    }
    return used | _raw(model, select)


def spared(model: nn.Module) -> dict[str, str]:
    """The layers that are left alone by default, by name: why, ``classifier`` or ``adapter``.

    A classifier is what the model's ``get_classifier()`` or ``get_output_embeddings()`` gives, as timm and transformers
    have them, or what is named as libraries name theirs, such as ``cls_score``, ``fc`` or ``head``; in a model without
    any of these the last layer, unless a normalisation follows it, as in a backbone. Adapters are low-rank ones.
    """
    found = layers(model)
    adapters = _adapters(model, found)
    heads = {id(p) for layer in _classifiers(model, adapters) for p in layer.parameters(recurse=False)}
    why = dict.fromkeys((name for name, layer in found.items() if id(layer) in adapters), "adapter")
    for name, layer in found.items():
        if name not in why and {id(p) for p in layer.parameters(recurse=False)} & heads:
            why[name] = "classifier"
    return why


@dataclass(frozen=True)
class Left:
    """A matrix weight that is not selected: how many values it has, and why it was left."""

    total: int
    why: str


def uncovered(model: nn.Module, covered: Iterable[str]) -> dict[str, Left]:
    """All parameters of ``model`` with two dimensions or more that are not among ``covered``, by name.

    ``why`` is ``classifier``, ``adapter``, ``embedding``, ``bias`` or else ``not selected``. Embeddings and biases are
    also raw parameters that a model adds, such as positions, tokens and tables of biases: named so, or of a batch of 1.
    """
    chosen, why, modules = set(covered), spared(model), dict(model.named_modules())
    left = {}
    for name, weight in _matrices(model).items():
        owner = name.rpartition(".")[0].partition(".parametrizations")[0]
        if name not in chosen and name.removesuffix("_orig") not in chosen:
            left[name] = Left(weight.numel(), why.get(owner) or _added(modules[owner], name, weight) or "not selected")
    return left


def _added(owner: nn.Module, name: str, weight: Tensor) -> str | None:
    """``embedding`` or ``bias`` if that is what the parameter called ``name`` of ``owner`` is."""
    if isinstance(owner, (nn.Embedding, nn.EmbeddingBag)):
        return "embedding"
    if isinstance(owner, PRUNABLE) or is_transposed(owner):
        return None
    words = set(name.rpartition(".")[2].split("_"))
    if words & {"bias", "biases"}:
        return "bias"
    return "embedding" if words & EMBEDDINGS or (weight.dim() > 2 and len(weight) == 1) else None


def _chosen(model: nn.Module, select: Select | None) -> dict[str, nn.Module]:
    found = layers(model)
    if select is None:
        left = spared(model)
        return {name: layer for name, layer in found.items() if name not in left}
    predicate = _predicate(select, list(found), list(_matrices(model)))
    return {name: layer for name, layer in found.items() if predicate(name, layer)}


def _weights(layer: nn.Module) -> dict[str, Tensor]:
    """The weights of one layer that have entries, by their names there."""
    own = {key: getattr(layer, key, None) for key in (*BIASES, *SEPARATE)}
    weights = {key: weight for key, weight in own.items() if weight is not None}
    if any(is_lazy(weight) for weight in weights.values()):
        raise ValueError(f"a {type(layer).__name__} has no weights yet: call the model once with an input")
    return {key: weight for key, weight in weights.items() if weight.numel()}


def _matrices(model: nn.Module) -> dict[str, Tensor]:
    """All parameters with entries and more than one dimension longer than 1."""
    own = {name: weight for name, weight in model.named_parameters() if not is_lazy(weight) and weight.numel()}
    return {name: weight for name, weight in own.items() if sum(size > 1 for size in weight.shape) > 1}


def _raw(model: nn.Module, select: Select | None) -> dict[str, Tensor]:
    """The parameters that patterns of ``select`` name where they name no layer."""
    if select is None or isinstance(select, type) or callable(select):
        return {}
    found = list(layers(model))
    patterns = [one for one in ([select] if isinstance(select, str) else select) if isinstance(one, str)]
    raw = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in found)]
    return {n: weight for n, weight in _matrices(model).items() if any(fnmatchcase(n, pattern) for pattern in raw)}


def _predicate(select: Select, names: Sequence[str], raw: Sequence[str]) -> Predicate:
    if callable(select) and not isinstance(select, type):
        return select
    wanted = [select] if isinstance(select, (str, type)) else list(select)
    for one in wanted:
        if not isinstance(one, (str, type)):
            raise TypeError(f"select={select!r}: {one!r} is neither a type nor a pattern of names")
        if isinstance(one, str) and not any(fnmatchcase(name, one) for name in (*names, *raw)):
            raise ValueError(f"select: {one!r} matches no layer; layers are {', '.join(map(repr, names))}")
    types = tuple(kind for kind in wanted if isinstance(kind, type))
    patterns = [pattern for pattern in wanted if isinstance(pattern, str)]
    return lambda name, layer: isinstance(layer, types) or any(fnmatchcase(name, pattern) for pattern in patterns)


def _adapters(model: nn.Module, found: Mapping[str, nn.Module]) -> set[int]:
    """The ids of layers that are low-rank adapters: peft's, and those named so."""
    own = {id(layer) for name, layer in found.items() if ".lora_" in f".{name.lower()}"}
    for module in model.modules():
        for key in getattr(module, "adapter_layer_names", ()):
            part = getattr(module, key, None)
            own |= {id(layer) for layer in layers(part).values()} if isinstance(part, nn.Module) else set()
    return own


def _classifiers(model: nn.Module, adapters: set[int]) -> list[nn.Module]:
    named = [m for name, m in model.named_modules() if name.rpartition(".")[2] in CLASSIFIERS]
    inner = model
    while True:  # through wrappers, each of which has one part and no parameters of its own
        given = _given(inner)
        if given is not None:
            return [layer for head in [*given, *named] for layer in _outputs(head, adapters)]
        parts = list(inner.children())
        if len(parts) != 1 or inner._parameters:
            break
        inner = parts[0]
    if named:
        return [layer for head in named for layer in _outputs(head, adapters)]
    heads = [part for name, part in inner.named_children() if name in HEADS]
    if heads or hasattr(inner, "get_output_embeddings"):
        return [layer for head in heads for layer in _outputs(head, adapters)]
    return _last(inner, adapters)


def _given(model: nn.Module) -> list[nn.Module] | None:
    """The classifier that the model itself names, empty if it says that there is none; None if it says nothing."""
    ask: Any = getattr(model, "get_classifier", None)
    if callable(ask):
        answer = ask()
    elif hasattr(model, "feature_info"):  # timm's backbones
        return []
    else:
        ask = getattr(model, "get_output_embeddings", None)
        answer = ask() if callable(ask) else None
        if answer is None:
            return None
    return [head for head in (answer if isinstance(answer, (tuple, list)) else [answer]) if isinstance(head, nn.Module)]


def _outputs(head: nn.Module, adapters: set[int]) -> list[nn.Module]:
    """The layers of ``head`` that give its outputs: the last one, of a list of heads each one's."""
    if id(head) in adapters:
        return []
    if head in layers(head).values():
        return [head]
    parts = [found for part in head.children() if (found := _outputs(part, adapters))]
    if isinstance(head, (nn.ModuleList, nn.ModuleDict)):
        return [layer for found in parts for layer in found]
    return parts[-1] if parts else []


def _last(model: nn.Module, adapters: set[int]) -> list[nn.Module]:
    """The last layer, unless a normalisation with parameters follows it: then the model is no classifier."""
    last: list[nn.Module] = []
    for layer in model.modules():
        if (isinstance(layer, PRUNABLE) or is_transposed(layer)) and id(layer) not in adapters:
            last = [layer]
        elif "Norm" in type(layer).__name__ and layer._parameters:
            last = []
    return last
