"""The plain way that the engine is measured against: what one writes with PyTorch's own parts, one child at a time.

A ``DataLoader`` with workers, torchvision's transforms on PIL images, ``torch.nn.utils.prune``, fp32 (TF32 on a GPU).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import machine
from ssa.method.masks import Mask
from ssa.specs.specs import Recipe


class Images(Dataset[Any]):
    """``images`` uint8 (n, height, width, channels) and ``labels`` (n,), through torchvision's ``transform``."""

    def __init__(self, images: np.ndarray, labels: Sequence[int], transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index].squeeze())), self.labels[index]


def transform(size: int, padding: int, mean: Sequence[float], std: Sequence[float]) -> Any:
    """Random crop after padding, horizontal flip, normalisation; no crop or flip where ``padding`` is 0."""
    augment = [transforms.RandomCrop(size, padding), transforms.RandomHorizontalFlip()] if padding else []
    return transforms.Compose([*augment, transforms.ToTensor(), transforms.Normalize(mean, std)])


def pruned(model: nn.Module, mask: Mask) -> nn.Module:
    """``model`` under ``mask``, as ``torch.nn.utils.prune`` does it."""
    for name, entry in mask.items():
        module, _, parameter = name.rpartition(".")
        prune.custom_from_mask(model.get_submodule(module), parameter, entry)
    return model


class Plain:
    """One pruned child in training."""

    def __init__(self, model: nn.Module, mask: Mask, data: Dataset[Any], recipe: Recipe, workers: int) -> None:
        self.device = machine.device()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        self.model = pruned(model, mask).to(self.device)
        self.loader = DataLoader(
            data,
            recipe.batch_size,
            shuffle=True,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
        )
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
        )
        self.schedule: torch.optim.lr_scheduler.LRScheduler | None = None

    def follow_one_cycle(self, recipe: Recipe) -> None:
        """Let the rate follow PyTorch's own one-cycle schedule over the recipe's epochs."""
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            recipe.lr,
            epochs=recipe.epochs,
            steps_per_epoch=len(self.loader),
            pct_start=recipe.pct_start,
            div_factor=recipe.div_factor,
            final_div_factor=recipe.lr / recipe.div_factor / recipe.final_lr,
            cycle_momentum=recipe.cycle_momentum,
        )

    def run_epoch(self) -> None:
        """Train for one epoch."""
        self.model.train()
        for images, labels in self.loader:
            images, labels = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
            loss = functional.cross_entropy(self.model(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.schedule is not None:
                self.schedule.step()
