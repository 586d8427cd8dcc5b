"""Models by name, built for a data set's channels, classes and image size."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ssa.errors import UserError
from ssa.specs import settings
from ssa.specs.settings import setting

if TYPE_CHECKING:
    from torch import Tensor, nn

Builder = Callable[..., "nn.Module"]


def _small(channels: int, classes: int, size: int, **options: int) -> nn.Module:
    """A small residual network of this project, for studies that fit a CPU: one block in each stage.

    Options: ``width``, the channels of the first stage (16); ``stages`` (3); ``stem_stride`` (1).
    """
    from ssa.training.networks.resnet_small import SmallResNet

    return SmallResNet(channels, classes, **options)


def _lenet(channels: int, classes: int, size: int, variant: str) -> nn.Module:
    """LeNet in a size of the Prune-and-Tune paper (Whitaker and Whitley, AAAI 2022), for its tables of ensembles."""
    from ssa.training.networks.lenet import LeNet

    return LeNet(channels, classes, variant)


def _wide(channels: int, classes: int, size: int, dropout: float = 0.0) -> nn.Module:
    """A wide ResNet (arXiv 1605.07146) as the authors of Prune-and-Tune have it, for their large tables of ensembles.

    Option: ``dropout``, between the convolutions of a block (0).
    """
    from ssa.training.networks.wide_resnet import WideResNet

    return WideResNet(channels, classes, 28, 10, dropout)


def _resnet18(channels: int, classes: int, size: int) -> nn.Module:
    """ResNet-18 (timm's; arXiv 1512.03385) with a 3x3 stem of stride 1 and no pool after it, as is usual for CIFAR.

    The last BatchNorm scale of each block starts at 1, as in the authors' code; timm would start it at 0.
    """
    from torch import nn

    model = _resnet18_maxpool(channels, classes, size)
    model.maxpool = nn.Identity()
    return model


def _resnet18_maxpool(channels: int, classes: int, size: int) -> nn.Module:
    """ResNet-18 with the pool after its stem, as in the authors' code: the paper's network, most probably."""
    import timm
    from torch import nn

    from ssa.training.networks.patches import PatchConv2d

    model: Any = timm.create_model("resnet18", num_classes=classes, in_chans=channels, zero_init_last=False)
    model.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    for block in model.layer4:
        block.conv1 = PatchConv2d(block.conv1.weight, block.conv1.stride[0])
        block.conv2 = PatchConv2d(block.conv2.weight, 1)
    return model


def _vit(
    channels: int, classes: int, size: int, patch: int = 4, width: int = 384, depth: int = 7, heads: int = 8
) -> nn.Module:
    """A ViT (timm's Eva; arXiv 2010.11929) with separate query, key and value projections, for studies beyond CNNs.

    Options: ``patch``, its side in pixels (4); ``width`` (384); ``depth`` (7); ``heads`` (8).
    """
    from timm.models.eva import Eva

    return Eva(
        img_size=size,
        patch_size=patch,
        in_chans=channels,
        num_classes=classes,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=4.0,
        qkv_fused=False,
        use_abs_pos_emb=True,
        use_rot_pos_emb=False,
        global_pool="token",
    )


BUILDERS: dict[str, Builder] = {
    "resnet-small": _small,
    "resnet18": _resnet18,
    "resnet18-maxpool": _resnet18_maxpool,
    "wrn-28-10": _wide,
    "lenet-s": partial(_lenet, variant="s"),
    "lenet-m": partial(_lenet, variant="m"),
    "lenet-l": partial(_lenet, variant="l"),
    "vit": _vit,
}

# An id hashes a network's name and options, not its code. A change of the code that makes another network of a name
# raises its version here, so that results of the network before are never taken for its own; 1 where none is named.
VERSIONS = {"resnet18": 2, "resnet18-maxpool": 2, "wrn-28-10": 2}

# Multiply-accumulates of one forward pass on one 32 x 32 image, in millions, for estimates of time alone.
MEGA_MACS = {"resnet18": 556, "resnet18-maxpool": 140, "wrn-28-10": 5952, "lenet-l": 28, "vit": 860}


def mega_macs(name: str, options: Mapping[str, Any]) -> float | None:
    """The cost of an image in a training step, as in MEGA_MACS; None for models of unknown cost."""
    passes = (options.get("batch_ensemble") or 1) * (options.get("batch_repetitions") or 1)
    return MEGA_MACS[name] * passes if name in MEGA_MACS else None


def check_model(name: str, where: str) -> None:
    """``UserError`` unless ``name`` is one of BUILDERS, begins with ``timm/`` or is the import path of a builder."""
    if name not in BUILDERS and not name.startswith("timm/") and "." not in name:
        raise UserError(
            f"{where}: {name!r} is not allowed; allowed: {', '.join(BUILDERS)}, timm/<classifier> or the import path "
            "of a function"
        )
    try:
        own(name)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def own(name: str) -> Builder | None:
    """The builder of one's own with the import path ``name``; None for other models, ``ValueError`` if it is none."""
    if name in BUILDERS or name.startswith("timm/"):
        return None
    module, _, function = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # whatever the module of a user raises
        raise ValueError(f"model {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not (callable(found) and hasattr(found, "__name__")):  # whose source can be found: no partial, no instance
        raise ValueError(f"model {name!r} is no function or class of (channels, classes, size, **options)")
    builder: Builder = found
    return builder


@dataclass(frozen=True)
class Wrapping:
    """Options that any model takes beside its own.

    ``dropout_everywhere``: dropout of this probability after every convolution and linear layer but the last;
    ``batch_ensemble``: a BatchEnsemble of so many members; ``mimo``: a MIMO network of so many, whose members see the
    batch ``batch_repetitions`` times in a training step.
    """

    dropout_everywhere: float | None = setting(None, low=0, below=1)
    batch_ensemble: int | None = setting(None, low=1)
    mimo: int | None = setting(None, low=1)
    batch_repetitions: int | None = setting(None, low=1)


def wrapping(options: Mapping[str, Any], where: str) -> Wrapping:
    """Those of ``options`` that any model takes; ``UserError`` that begins with ``where`` for a wrong value."""
    names = settings.names(Wrapping)
    found = settings.read(Wrapping, {name: options[name] for name in names if name in options}, where)
    if found.batch_ensemble and found.mimo:
        raise UserError(f"{where}: batch_ensemble and mimo exclude each other; name one")
    if found.batch_repetitions and not found.mimo:
        raise UserError(f"{where}.batch_repetitions: not allowed without mimo, whose setting it is")
    return found


def build(name: str, options: dict[str, Any], channels: int, classes: int, size: int, seed: int) -> nn.Module:
    """The model called ``name``, as :func:`check_model` allows, initialised from ``seed``.

    ``size`` is the images' side in pixels. ``options``: the model's own, and those of :class:`Wrapping`. ``UserError``
    for an unknown model or option.
    """
    import torch

    wrap = wrapping(options, f"model {name}")
    own = {key: value for key, value in options.items() if key not in settings.names(Wrapping)}
    inputs, outputs = channels * (wrap.mimo or 1), classes * (wrap.mimo or 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return _wrapped(_plain(name, own, inputs, outputs, size), wrap)
        except Exception as error:  # libraries raise all kinds of them for an option that they do not like
            raise UserError(f"model {name} with options {options}: {type(error).__name__}: {error}") from error


def check_takes(model: nn.Module, name: str, images: Tensor) -> None:
    """``UserError`` if the model, called ``name``, cannot answer ``images``, (n, channels, height, width)."""
    import torch

    try:
        with torch.no_grad():
            model.eval()(torch.zeros(images.shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"model {name} cannot take images of {'x'.join(map(str, images.shape[1:]))}: {' '.join(str(error).split())}"
        ) from error


def _plain(name: str, options: dict[str, Any], channels: int, classes: int, size: int) -> nn.Module:
    builder = BUILDERS.get(name) or own(name)
    if builder is not None:
        return builder(channels, classes, size, **options)
    import timm

    return timm.create_model(name.removeprefix("timm/"), num_classes=classes, in_chans=channels, **options)


def _wrapped(model: nn.Module, wrap: Wrapping) -> nn.Module:
    if wrap.dropout_everywhere:
        from ssa.training.networks import dropout

        model = dropout.wrap(model, wrap.dropout_everywhere)
    if wrap.batch_ensemble:
        from ssa.training.networks.batch_ensemble import BatchEnsemble

        return BatchEnsemble(model, wrap.batch_ensemble)
    if wrap.mimo:
        from ssa.training.networks.mimo import Mimo

        return Mimo(model, wrap.mimo, wrap.batch_repetitions or 1)
    return model
