"""Models by name, built for a data set's channels, classes and image size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ssa.errors import UserError

if TYPE_CHECKING:
    from torch import nn

Builder = Callable[..., "nn.Module"]


def _small(channels: int, classes: int, size: int, **options: int) -> nn.Module:
    from ssa.networks.resnet_small import SmallResNet

    return SmallResNet(channels, classes, **options)


def _lenet(channels: int, classes: int, size: int, variant: str) -> nn.Module:
    from ssa.networks.lenet import LeNet

    return LeNet(channels, classes, variant)


def _wide(channels: int, classes: int, size: int, dropout: float = 0.0) -> nn.Module:
    from ssa.networks.wide_resnet import WideResNet

    return WideResNet(channels, classes, 28, 10, dropout)


def _resnet18(channels: int, classes: int, size: int, maxpool: bool = False) -> nn.Module:
    """timm's ResNet-18 with the CIFAR stem: a 3x3 convolution of stride 1; ``maxpool`` keeps the pool after it."""
    import timm
    from torch import nn

    model = timm.create_model("resnet18", num_classes=classes, in_chans=channels)
    model.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    if not maxpool:
        model.maxpool = nn.Identity()
    return model


def _vit(
    channels: int, classes: int, size: int, patch: int = 4, width: int = 384, depth: int = 7, heads: int = 8
) -> nn.Module:
    """A plain ViT with separate query, key and value projections (timm's Eva without its later additions)."""
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
    "resnet18-maxpool": partial(_resnet18, maxpool=True),
    "wrn-28-10": _wide,
    "lenet-s": partial(_lenet, variant="s"),
    "lenet-m": partial(_lenet, variant="m"),
    "lenet-l": partial(_lenet, variant="l"),
    "vit": _vit,
}

# Multiply-accumulates of one forward pass on one 32 x 32 image, in millions, for estimates of time alone.
MEGA_MACS = {"resnet18": 556, "resnet18-maxpool": 140, "wrn-28-10": 5247, "lenet-l": 28, "vit": 860}


def check_name(name: str, where: str) -> None:
    """``UserError`` unless ``name`` is one of BUILDERS or begins with ``timm/``."""
    if name not in BUILDERS and not name.startswith("timm/"):
        raise UserError(f"{where}: {name!r} is not allowed; allowed: {', '.join(BUILDERS)} or timm/<classifier>")


def build(name: str, options: dict[str, Any], channels: int, classes: int, size: int, seed: int) -> nn.Module:
    """The model called ``name`` (one of BUILDERS, or ``timm/<any timm classifier>``), initialised from ``seed``.

    ``size`` is the images' side in pixels. ``UserError`` for an unknown model or option.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            if name in BUILDERS:
                return BUILDERS[name](channels, classes, size, **options)
            import timm

            return timm.create_model(name.removeprefix("timm/"), num_classes=classes, in_chans=channels, **options)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"model {name} with options {options}: {error}") from error
