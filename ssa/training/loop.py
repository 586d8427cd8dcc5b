"""The training loop of parents and children alike: it asks the network for the mask of the step, and trains."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ssa.data.batches import Batches
from ssa.data.splits import Data
from ssa.method.subnetwork import Subnetwork
from ssa.process import progress
from ssa.seeds import seed_layers
from ssa.specs.specs import Recipe
from ssa.training import rates, step

EXPLODED = 1e4  # a loss that no run comes back from


@dataclass(frozen=True)
class Epoch:
    """The outcome of an epoch: its number from 1, the mean loss of its steps, the last step's learning rate.

    ``diverged_step``: the first step, from 0 over all epochs, whose loss was not finite or had exploded.
    """

    number: int
    loss: float
    lr: float
    diverged_step: int | None


class Training:
    """``network`` in training by ``recipe`` on the training images of ``data``, one epoch at a time.

    ``seed`` decides the order of batches, augmentation and dropout; masks have a stream of their own. ``parent``: the
    recipe that a rewound learning rate repeats. ``resample``: whether time, and with it the mask, moves at each
    ``step`` or only at each ``epoch``. ``compile``: "off", or how :mod:`ssa.training.step` compiles a step.
    """

    def __init__(
        self,
        network: Subnetwork,
        data: Data,
        recipe: Recipe,
        seed: int,
        resample: str = "step",
        parent: Recipe | None = None,
        compile: str = "off",
    ) -> None:
        self.network = network
        self.recipe = recipe
        self.parent = parent
        self.seed = seed
        self.resample = resample
        self.batches = Batches(data.train, data, recipe)
        self.optimizer = optimizer(network, recipe)
        self.compile = step.resolve_compile(compile, data.train.labels.device)
        self._fast: step.Compiled | None = None  # once a step has run compiled
        self.ran = self.compile  # how whole batches really ran, once they have
        self.epoch = 0

    def run_epoch(self) -> Epoch:
        """Train for one epoch."""
        seed_layers("dropout", self.seed, self.epoch)
        steps = len(self.batches)
        first = self.epoch * steps
        losses = []
        self.network.train()
        for number, (images, labels) in enumerate(self.batches.epoch(self.seed, self.epoch)):
            rate = rates.at_step(self.recipe, first + number, steps, self.parent)
            set_rate(self.optimizer, rate)
            self.network.at(self.epoch + number / steps if self.resample == "step" else self.epoch)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._loss(len(labels))(self.network, images, labels, self.recipe.precision)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        self.epoch += 1
        self.ran = "off" if self._fast is None else self._fast.ran()
        progress.epoch()
        return _summary(self.epoch, torch.stack(losses).float().cpu(), rate.lr, first)

    def _loss(self, images: int) -> step.Loss:
        """The loss of a batch of so many images: compiled only for whole batches, since the last one is short."""
        if self.compile == "off" or images < self.recipe.batch_size:
            return step.loss
        self._fast = step.compiled(self.compile, self._kind, self._layers)
        return self._fast

    @cached_property
    def _kind(self) -> Hashable:
        """The properties that all networks share which one compiled step serves."""
        recipe = self.recipe
        weights = tuple((name, weight.shape) for name, weight in self.network.weights.items())
        kind = parametrize.type_before_parametrizations(self.network.module)
        return kind, weights, recipe.batch_size, self.batches.side, recipe.precision

    @cached_property
    def _layers(self) -> Hashable:
        """The types of the module's layers: what tells two modules of one kind apart, to a compiler."""
        return frozenset(type(module) for module in self.network.module.modules())

    def state(self) -> dict[str, Tensor]:
        """Weights and optimiser state by name, for a checkpoint."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in entry.items()}
        return tensors

    def resume(self, epoch: int, tensors: dict[str, Tensor]) -> None:
        """Go on after ``epoch`` epochs from what :meth:`state` returned then."""
        weights = {name.removeprefix("network."): v for name, v in tensors.items() if name.startswith("network.")}
        self.network.load_state_dict(weights)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                like = parameters[int(index)]
                if value.shape == like.shape:  # the fused optimisers read memory in the parameter's own layout
                    value = torch.empty_like(like).copy_(value)
                state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.epoch = epoch


def optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """A fresh optimiser for ``network``; weight decay on all parameters, or on those with two dimensions or more."""
    parameters = list(network.parameters())
    weights = [p for p in parameters if p.dim() > 1 or recipe.decay == "all"]
    others = [p for p in parameters if not (p.dim() > 1 or recipe.decay == "all")]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov and recipe.momentum > 0  # without momentum there is nothing to look ahead with
        return torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=nesterov, fused=True)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(groups, recipe.lr, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: rates.Rate) -> None:
    """Set learning rate and momentum (Adam's first beta) of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate.lr
        if rate.momentum is not None and "momentum" in group:
            group["momentum"] = rate.momentum
        elif rate.momentum is not None:
            group["betas"] = (rate.momentum, group["betas"][1])


def _summary(number: int, losses: Tensor, lr: float, first: int) -> Epoch:
    bad = (~losses.isfinite() | (losses > EXPLODED)).nonzero()
    loss = float(losses.mean())
    return Epoch(number, loss if math.isfinite(loss) else math.nan, lr, first + int(bad[0]) if len(bad) else None)
