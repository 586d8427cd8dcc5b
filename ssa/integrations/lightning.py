"""Anneal a child with Lightning (``pip install '.[lightning]'`` in a checkout)."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ssa.method.subnetwork import Subnetwork


class AnnealingCallback(Callback):
    """Moves ``child`` to the Trainer's epoch before each optimiser step: ``Trainer(callbacks=[...(child)])``.

    The LightningModule should hold the model that the child was made of. One mask serves all batches that a step
    accumulates. ``ValueError`` at the start of training if the length of an epoch is not known.
    """

    def __init__(self, child: Subnetwork) -> None:
        self.child = child

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse data without a length, since time is counted in epochs."""
        if trainer.num_training_batches == float("inf"):
            raise ValueError("the training data have no length: set limit_train_batches, since time is in epochs")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Draw the mask of the coming step."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.child.at(trainer.current_epoch + batch_idx / trainer.num_training_batches)
