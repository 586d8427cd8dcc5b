"""How sparse a model is, weight by weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from ssa.method.selection import Left, Select, effective, prunable, uncovered
from ssa.method.subnetwork import within


@dataclass(frozen=True)
class Row:
    """One weight tensor, or all together: how many values it has, and how many of them are pruned."""

    name: str
    total: int
    zeros: int

    @property
    def sparsity(self) -> float:
        """The fraction that is pruned, in [0, 1]."""
        return self.zeros / self.total if self.total else 0.0


@dataclass(frozen=True)
class Report:
    """A row for each weight tensor, in the model's order; as text, a table that ends in the row of all.

    ``left``: the matrix weights that are not selected, by name, with their size and why; they are in no row.
    """

    rows: tuple[Row, ...]
    left: Mapping[str, Left] = field(default_factory=dict, compare=False)

    @property
    def overall(self) -> Row:
        """All rows together."""
        return Row("all", sum(row.total for row in self.rows), sum(row.zeros for row in self.rows))

    @property
    def sparsity(self) -> float:
        """The fraction of all values that is pruned, in [0, 1]."""
        return self.overall.sparsity

    @property
    def covered(self) -> float:
        """The share of all matrix weights that the rows are about, in [0, 1]."""
        total = self.overall.total + sum(one.total for one in self.left.values())
        return self.overall.total / total if total else 1.0

    def __str__(self) -> str:
        rows = [*self.rows, self.overall]
        width = max(len("weight"), *(len(row.name) for row in rows))
        lines = [f"{'weight':<{width}}  {'total':>11}  {'zeros':>11}  {'sparsity':>8}"]
        lines += [f"{row.name:<{width}}  {row.total:>11,}  {row.zeros:>11,}  {row.sparsity:>8.2%}" for row in rows]
        if self.left:
            named = ", ".join(f"{name} ({one.why})" for name, one in self.left.items())
            lines.append(f"{1 - self.covered:.2%} of all matrix weights are not selected: {named}")
        return "\n".join(lines)


def sparsity(model: nn.Module, select: Select | None = None) -> Report:
    """The sparsity of a plain model's prunable weights, counting exact zeros, or of a Subnetwork's target mask.

    ``select`` chooses the weights as in :func:`ssa.prune`: by default, of a plain model, all but the classifier's. The
    rows of a child, also of its module alone and of one that is compiled or otherwise wrapped, are the weights that its
    mask names; BatchNorm and biases that go with neurons do not count.
    """
    child = within(model)
    if child is not None:
        mask = child.mask
        chosen = mask if select is None else prunable(child.fold(), select)
        rows = {name: weight for name, weight in child.weights.items() if name in mask and name not in mask.tied}
        gone = {name: (~mask[name]).expand(weight.shape) for name, weight in rows.items() if name in chosen}
    else:
        gone = {name: weight == 0 for name, weight in effective(model, select).items()}
    left = uncovered(model if child is None else child.fold(), gone)
    return Report(tuple(_row(name, pruned) for name, pruned in gone.items()), left)


def _row(name: str, pruned: Tensor) -> Row:
    return Row(name, pruned.numel(), int(pruned.sum()))
