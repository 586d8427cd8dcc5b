"""Passes through a child: none is gone back through under another mask than it was made under."""

from __future__ import annotations

from collections.abc import Callable

import torch

MOVED = (
    "at(), train() or eval() was called between a forward pass and its backward pass, which would be another mask's: "
    "call backward() first"
)

Pass = tuple[int, bool]  # what a forward pass was computed under: how often the mask had moved, and the module's mode


class Passes:
    """Counts how often the mask moves, and remembers a pass that may be computed again."""

    def __init__(self) -> None:
        self.moves = 0  # how often the mask of a step has been drawn
        self.updated = False  # whether an optimiser has moved the weights since then
        self._unseen: Pass | None = None  # the first pass without gradients since then, which may be checkpointed
        self._seen = False  # whether it has been computed again

    def begin_step(self, drawn: bool) -> None:
        """Begin a step, its mask ``drawn`` anew or as it was."""
        self.moves += drawn
        self.updated = False
        if self._seen:
            self._unseen, self._seen = None, False

    def end_step(self) -> None:
        """Note that an optimiser has moved the weights."""
        self.updated = True
        self._unseen, self._seen = None, False

    def look(self, under: Pass, overdue: Callable[[], str | None]) -> str | None:
        """The reason not to go backward through a weight that is used ``under`` this, or None.

        ``overdue``: what is wrong where the pass is no checkpointed one, computed again.
        """
        # Whether a backward pass runs, and so computes a checkpointed part again. PyTorch says it nowhere else: its own
        # torch.utils.checkpoint asks the same function, and the mode of gradients is that of any forward pass.
        if torch._C._current_graph_task_id() != -1:
            self._seen = True
            return None if self._unseen in (None, under) else MOVED
        if torch.is_grad_enabled():
            return overdue()
        _, training = under
        if training and not self.updated and self._unseen is None:
            self._unseen = under
        return None
