"""Score a network: accuracy, NLL and ECE of its predictions, and the sparsity that matters."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from ssa.data.batches import Batches, Normalise, pad
from ssa.data.splits import Data, Split
from ssa.method.masks import Mask, apply
from ssa.training.networks.members import Members
from ssa.training.step import autocast

ECE_BINS = 15
BATCH = 500
MOVED = 0.1  # standard deviations by which rounding may move a channel; in healthy networks it is below 0.02
NORMS = (nn.modules.batchnorm._BatchNorm,)
OTHER_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)
UNTRACED = (*OTHER_NORMS, nn.MultiheadAttention, Members)  # what mixes values, or scales them by other than weights


@dataclass(frozen=True)
class Scores:
    """``accuracy`` and ``ece`` in percent, ``nll`` in nats; ``finite``: whether every output was."""

    accuracy: float
    nll: float
    ece: float
    finite: bool = True


@torch.no_grad()
def logits(network: nn.Module, split: Split, data: Data, precision: str = "fp32") -> Tensor:
    """float32 (n, classes): the network's outputs in eval mode, without augmentation."""
    network.eval()
    normalise = Normalise(data, split)
    outputs = []
    for images in split.images.split(BATCH):
        with autocast(precision, images.device):
            outputs.append(network(normalise(pad(images, 0, data.mean))).float())
    return torch.cat(outputs)


def score(outputs: Tensor, labels: Tensor, bins: int = ECE_BINS) -> Scores:
    """Scores of ``outputs`` (n, classes); a network whose outputs are not all finite is scored as a uniform guess."""
    if not outputs.isfinite().all():
        classes = outputs.shape[1]
        return Scores(100 / classes, math.log(classes), 0.0, finite=False)
    probabilities = outputs.double().softmax(1)
    confidence, predicted = probabilities.max(1)
    correct = predicted == labels
    nll = functional.cross_entropy(outputs.double(), labels)
    return Scores(
        100 * float(correct.double().mean()), float(nll), 100 * expected_calibration_error(confidence, correct, bins)
    )


def expected_calibration_error(confidence: Tensor, correct: Tensor, bins: int = ECE_BINS) -> float:
    """ECE in [0, 1] over equal ``bins`` of confidence (Guo et al., 2017, arXiv 1706.04599)."""
    gap = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    gap.index_add_(0, bin_of(confidence, bins), confidence.double() - correct.double())
    return float(gap.abs().sum() / len(confidence))


def bin_of(confidence: Tensor, bins: int = ECE_BINS) -> Tensor:
    """int64 (n,): which of equal ``bins`` of [0, 1] each confidence falls in; an edge belongs to the lower bin."""
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype, device=confidence.device)
    return torch.bucketize(confidence, edges[1:-1])


@contextmanager
def reestimated_batchnorm(network: nn.Module, batches: Batches, images: int, seed: int) -> Iterator[None]:
    """Within it, BatchNorm statistics are those of ``images`` training images under the target mask.

    They are computed in fp32, but if the recipe's precision moves a channel's mean by more than :data:`MOVED`, in that
    precision. The running statistics are put back at the end.
    """
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    buffers = [buffer for module in norms for buffer in module.buffers()]
    if not buffers:
        yield
        return
    saved = [buffer.clone() for buffer in buffers]
    precision, device = batches.recipe.precision, batches.labels.device
    _estimate(network, batches, images, seed)
    if precision != "fp32":
        exact = [buffer.clone() for buffer in buffers]
        with autocast(precision, device):
            _estimate(network, batches, images, seed)
        if _moved(norms, exact) <= MOVED:
            _put_back(buffers, exact)
    try:
        yield
    finally:
        _put_back(buffers, saved)


def _put_back(buffers: list[Tensor], values: list[Tensor]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)


def _estimate(network: nn.Module, batches: Batches, images: int, seed: int) -> None:
    """Let BatchNorm's running statistics be the mean of those of the batches that hold ``images``."""
    count = math.ceil(images / batches.recipe.batch_size)
    with torch.no_grad():
        chosen = (batch for batch, _ in zip(batches.epoch(seed, 0), range(count), strict=False))
        update_bn(chosen, _TargetInTraining(network))


def _moved(norms: Sequence[nn.Module], exact: list[Tensor]) -> float:
    """How far the furthest channel's mean lies from that in ``exact`` (buffers in order), in standard deviations.

    The deviation is the one that the layer divides by. A channel of hardly any variance, such as one that sees a
    constant image through a single weight, is multiplied by up to 1 / sqrt(eps), 316. What bf16 rounds away of its mean
    then shifts it by whole standard deviations: the network scored in bf16 is another than the one that was measured.
    """
    before, furthest = iter(exact), 0.0
    for norm in norms:
        now = dict(norm.named_buffers(recurse=False))
        was = {name: next(before) for name in now}
        if "running_mean" in now:
            scale = (was["running_var"] + float(norm.eps)).sqrt()  # type: ignore[arg-type]
            furthest = max(furthest, float(((now["running_mean"] - was["running_mean"]) / scale).abs().max()))
    return furthest


class _TargetInTraining(nn.Module):
    """A network in eval mode but for its BatchNorm layers, which update_bn wants in training mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def train(self, mode: bool = True) -> _TargetInTraining:
        self.network.eval()
        for module in self.network.modules():
            if isinstance(module, NORMS):
                module.train(mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


def effective_sparsity(model: nn.Module, mask: Mask, example: Tensor) -> float:
    """The fraction of weights that are pruned or on no path from input to output; NaN if paths cannot be traced.

    With all weights replaced by their mask, BatchNorm and biases by the identity, a weight's gradient counts the
    paths through it (SynFlow, Tanaka et al., 2020, arXiv 2006.05467). Attention, scales other than BatchNorm's, and
    networks that answer to an input of 0, as through a softmax, cannot be traced so.
    ``example``: one image, (1, channels, height, width).
    """
    if any(isinstance(m, UNTRACED) or hasattr(m, "attn") for m in model.modules()):
        return math.nan
    traced = _path_counter(model, mask)
    if any(p.dim() == 1 and not name.endswith("bias") for name, p in traced.named_parameters()):
        return math.nan
    weights = {name: p for name, p in traced.named_parameters() if name in mask and name not in mask.tied}
    if not weights:
        return 0.0
    # A sum over paths, far inside double's range; the scale keeps it there for deep and wide networks. Of an input so
    # small that no gate saturates, whose gradient would be 0.
    paths, offset = (traced(torch.full_like(example, x, dtype=torch.float64)).sum() for x in (2.0**-20, 0.0))
    if offset != 0:
        return math.nan
    gradients = torch.autograd.grad(paths, list(weights.values()), allow_unused=True)
    alive = sum(
        int(((weight > 0) & (gradient > 0)).sum())
        for weight, gradient in zip(weights.values(), gradients, strict=True)
        if gradient is not None
    )
    return 1 - alive / sum(weight.numel() for weight in weights.values())


def _path_counter(model: nn.Module, mask: Mask) -> nn.Module:
    traced = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for parameter in traced.parameters():
            parameter.fill_(1.0 / max(parameter[0].numel(), 1) if parameter.dim() > 1 else 0.0)
    apply(traced, mask)
    for module in list(traced.modules()):
        for name, child in module.named_children():
            if isinstance(child, (*NORMS, nn.Dropout)):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):  # an average reads every place, as some input would
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode))
    return traced.requires_grad_()
