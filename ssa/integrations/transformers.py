"""Anneal a child with the Trainer of transformers (``pip install '.[hf]'`` in a checkout)."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from ssa.method.subnetwork import Subnetwork


class AnnealingCallback(TrainerCallback):
    """Moves ``child`` to the Trainer's epoch before each optimiser step: ``Trainer(model, callbacks=[...(child)])``.

    Give the Trainer the model that the child was made of. One mask serves all batches that a step accumulates.
    """

    def __init__(self, child: Subnetwork) -> None:
        self.child = child

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """``ValueError`` for data without a length: the Trainer's epoch is then no pass over them."""
        if not has_length(kwargs.get("train_dataloader")):
            raise ValueError("the training data have no length, so that an epoch has none; give the Trainer a data set")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw the mask of the coming step."""
        self.child.at(state.epoch or 0.0)
