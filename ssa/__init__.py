"""Stochastic Subnetwork Annealing: fine-tune a pruned network under a mask that is annealed to its target.

The names below are the public interface; each is imported when it is first used, so that ``import ssa`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers see; at run time __getattr__ imports each name when it is first used
    from ssa.method.laws import ConstantTemperature as ConstantTemperature
    from ssa.method.laws import DenseThenCut as DenseThenCut
    from ssa.method.laws import Iterative as Iterative
    from ssa.method.laws import Law as Law
    from ssa.method.laws import OneShot as OneShot
    from ssa.method.laws import RandomAnnealing as RandomAnnealing
    from ssa.method.laws import TemperatureAnnealing as TemperatureAnnealing
    from ssa.method.masks import Mask as Mask
    from ssa.method.pruning import prune as prune
    from ssa.method.saving import load as load
    from ssa.method.saving import save as save
    from ssa.method.sparsity import sparsity as sparsity
    from ssa.method.subnetwork import Subnetwork as Subnetwork

_HOMES = {
    "ConstantTemperature": "method.laws",
    "DenseThenCut": "method.laws",
    "Iterative": "method.laws",
    "Law": "method.laws",
    "Mask": "method.masks",
    "OneShot": "method.laws",
    "RandomAnnealing": "method.laws",
    "Subnetwork": "method.subnetwork",
    "TemperatureAnnealing": "method.laws",
    "load": "method.saving",
    "prune": "method.pruning",
    "save": "method.saving",
    "sparsity": "method.sparsity",
}
__all__ = sorted(_HOMES)
__version__ = "0.1.0"


if not TYPE_CHECKING:  # which would take any name that is asked for

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            modules = {home.rpartition(".")[2]: home for home in _HOMES.values()}
            hint = f": import ssa.{modules[name]}" if name in modules else ""
            raise AttributeError(f"module 'ssa' has no attribute {name!r}{hint}")
        return getattr(import_module(f"ssa.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
