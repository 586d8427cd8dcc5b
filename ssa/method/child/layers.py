"""Layers that compute their weights from a mask: a child puts them into the user's model until it is restored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrize import ParametrizationList

from ssa.method.copying import without_history

if TYPE_CHECKING:
    from ssa.method.subnetwork import Subnetwork

ASSIGNED = "a child's mask computes this weight: write into child.weights instead, or end the child with child.remove()"


class Masked(nn.Module):
    """The parametrization of one weight, called ``name`` in the mask of ``child``.

    One of them, the ``keeper``, lets what the child keeps beside the weights move, be saved and loaded with the model.
    """

    def __init__(self, child: Subnetwork, name: str, keeper: bool) -> None:
        super().__init__()
        self._child = (child,)  # in a tuple: the child holds the model, and is no part of it
        self.name = name
        self.keeper = keeper

    @property
    def child(self) -> Subnetwork:
        """The child whose mask this is."""
        return self._child[0]

    def forward(self, weight: Tensor) -> Tensor:
        """Return ``weight`` under the mask that holds now."""
        return self._child[0].masked(self.name, weight)

    def right_inverse(self, _: Tensor) -> Tensor:
        """Refuse: no other value of the masked weight says what the weight itself is."""
        raise NotImplementedError(ASSIGNED)

    def _apply(self, fn: Any, recurse: bool = True) -> Masked:
        if self.keeper:
            self.child.move(fn)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.keeper:
            destination.update({prefix + name: value for name, value in self.child.kept_state().items()})

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        found = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        if self.keeper and found:
            try:
                self.child.load_kept_state(found)
            except RuntimeError as error:
                error_msgs.append(str(error))


def product(weight: Tensor, factor: Tensor) -> Tensor:
    """``weight * factor`` in the weight's type; 0 where ``factor`` is 0, also of a weight that is NaN or infinite."""
    on_cpu = weight.device.type == "cpu" and not torch.compiler.is_compiling()
    if on_cpu and math.isfinite(weight.detach().sum()):  # there, choosing takes three times as long as multiplying
        return (weight * factor).to(weight.dtype)
    return torch.where(factor != 0, (weight * factor).to(weight.dtype), 0)


def places(module: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Where each parameter lies, by its id: every module that has it, once, and its name there."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for owner in module.modules():
        for key, parameter in owner._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append((owner, key))
    return found


def check_free(owner: nn.Module, name: str) -> None:
    """``ValueError`` if something else computes weights of ``owner``, which has the weight ``name``."""
    if isinstance(owner, ParametrizationList) or parametrize.is_parametrized(owner):
        raise ValueError(
            f"{name!r} is of a layer that computes weights from others (a parametrization): remove that first, as "
            "torch.nn.utils.parametrize.remove_parametrizations does, or leave the layer out with select="
        )


class Layers:
    """The layers of a child's module whose weights are masked: those that have the weights ``names``, tied ones too."""

    def __init__(self, child: Subnetwork | None = None, names: Iterable[str] = ()) -> None:
        self._attached: list[Attached] = []
        self._places: dict[str, tuple[Attached, str]] = {}  # of a tied weight one of its places
        if child is None:
            return
        where, parameters = places(child.module), dict(child.module.named_parameters())
        owners: dict[nn.Module, dict[str, str]] = {}
        for name in names:
            for owner, key in where[id(parameters[name])]:
                check_free(owner, name)
                owners.setdefault(owner, {})[key] = name
        for owner, own in owners.items():
            first = None if self._attached else next(iter(own))
            attached = Attached(owner, {key: Masked(child, name, key == first) for key, name in own.items()})
            self._attached.append(attached)
            self._places |= {name: (attached, key) for key, name in own.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __bool__(self) -> bool:
        return bool(self._places)

    def weight(self, name: str) -> Tensor:
        """The weight called ``name``, without the mask."""
        attached, key = self._places[name]
        return attached.weight(key)

    def restore(self) -> None:
        """Make the layers what they were, with the weights as they are now."""
        for attached in self._attached:
            attached.restore()
        self._attached.clear()
        self._places.clear()


class Attached:
    """One module of the model whose weights are masked; ``of``: the parametrization of each, by its name there."""

    def __init__(self, owner: nn.Module, of: dict[str, Masked]) -> None:
        self.owner = owner
        self.order = tuple(owner._parameters)
        for key, masked in of.items():
            parametrize.register_parametrization(owner, key, masked, unsafe=True)
        owner.__class__.__deepcopy__ = _copying(owner.__class__)  # type: ignore[attr-defined]
        self.hooks = [
            owner.register_state_dict_post_hook(_add_folded),
            owner.register_load_state_dict_pre_hook(_take_plain),
        ]

    def weight(self, key: str) -> Tensor:
        """The weight itself."""
        weight: Tensor = self.owner.parametrizations[key].original  # type: ignore[union-attr,index]
        return weight

    def restore(self) -> None:
        """Make the module what it was, with the weights as they are now.

        Not by PyTorch's own way, which takes the property from a class that copies of the module share.
        """
        own = {key: self.weight(key) for key in self.owner.parametrizations}  # type: ignore[union-attr]
        for hook in self.hooks:
            hook.remove()
        self.owner.__class__ = parametrize.type_before_parametrizations(self.owner)
        del self.owner.parametrizations
        for key, weight in own.items():
            self.owner.register_parameter(key, weight)  # type: ignore[arg-type]
        for key in self.order:
            self.owner._parameters[key] = self.owner._parameters.pop(key)


def _copying(kind: Any) -> Any:
    """The ``__deepcopy__`` of a class that PyTorch has made, of an LSTM that keeps computed weights too."""
    usual = kind.__deepcopy__

    def copied(owner: nn.Module, memo: dict[int, Any]) -> nn.Module:
        memo.update(without_history(owner))
        module: nn.Module = usual(owner, memo)
        return module

    return copied


def _masked(owner: nn.Module) -> dict[str, ParametrizationList]:
    lists: Any = getattr(owner, "parametrizations", {})
    return {key: each for key, each in lists.items() if isinstance(each[0], Masked)}


def _add_folded(owner: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Let a state have the folded weights too, by their plain names: what a plain model takes from it is the child."""
    for key, each in _masked(owner).items():
        weight = each.original.detach()
        if not hasattr(weight, "full_tensor"):  # sharded by FSDP, whose states are of what is sharded alone
            masked: Any = each[0]
            state[prefix + key] = masked.child.folded(masked.name, weight)


def _take_plain(owner: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take a weight by its plain name where the state has no other; a child's own state has both."""
    for key in _masked(owner):
        if prefix + key in state:
            value = state.pop(prefix + key)
            state.setdefault(f"{prefix}parametrizations.{key}.original", value)
