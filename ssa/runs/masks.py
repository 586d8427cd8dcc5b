"""The pruning job: all masks of one parent in one file, eight weights to a byte."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ssa.data.batches import Normalise, pad
from ssa.data.splits import Data
from ssa.errors import UserError
from ssa.files import read_tensors, write_tensors
from ssa.method.masks import Mask, pack, unpack
from ssa.method.pruning import partition, prune
from ssa.method.selection import Predicate, layers
from ssa.seeds import derive
from ssa.specs.specs import MaskSpec, ParentSpec
from ssa.training.scoring import BATCH


def make(parent: nn.Module, spec: MaskSpec, parent_seed: int, content: Data) -> Mask:
    """The mask of ``spec``, on the parent's device; ``UserError`` if it would leave a layer empty."""
    if spec.criterion == "none":
        return Mask({})
    seed = derive("mask", parent_seed, spec.seed)
    select = _without_stem(parent) if spec.stem == "dense" else None
    example = torch.zeros(1, *content.test.images.shape[1:])
    try:
        if spec.criterion == "partition":
            parts = round(100 / (100 - spec.sparsity))
            return partition(parent, parts, spec.part, spec.structure, seed, select, example)
        return prune(
            parent,
            spec.sparsity / 100,
            spec.criterion,
            spec.structure,
            spec.allocation,
            seed,
            select,
            example,
            score_batches(content, spec.score_images),
        )
    except ValueError as error:
        raise UserError(f"mask {spec.id}: {error}") from error


def _without_stem(model: nn.Module) -> Predicate:
    """All prunable layers but the first and the last."""
    inner = set(list(layers(model))[1:-1])
    return lambda name, layer: name in inner


def score_batches(content: Data, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """``count`` training images (all, where there are fewer), normalised and not augmented, and their labels.

    Evenly spaced, in order: files that are sorted by class would otherwise give the first classes alone.
    """
    train, normalise = content.train, Normalise(content, content.train)
    count = min(count, len(train))
    for start in range(0, count, BATCH):
        index = torch.arange(start, min(start + BATCH, count), device=train.labels.device) * len(train) // count
        yield normalise(pad(train.images[index], 0, content.mean)), train.labels[index]


def write(path: Path, parent: ParentSpec, masks: dict[str, Mask]) -> None:
    """Write ``masks``, by mask id, as packed bits."""
    tensors, shapes, tied = {}, {}, {}
    for mask_id, mask in masks.items():
        tied[mask_id] = mask.tied
        for name, entry in mask.items():
            if name not in mask.tied:
                tensors[f"{mask_id}/{name}"] = pack(entry)
                shapes[f"{mask_id}/{name}"] = list(entry.shape)
    metadata = {"parent": parent.id, "shapes": json.dumps(shapes), "tied": json.dumps(tied)}
    write_tensors(path, tensors, metadata)


def read(path: Path, parent: ParentSpec, wanted: Sequence[MaskSpec]) -> dict[str, Mask]:
    """The ``wanted`` masks of ``path`` by id; ``UserError`` if one is not there, or as :func:`read_some`."""
    masks = read_some(path, parent, wanted)
    missing = [spec.id for spec in wanted if spec.id not in masks]
    if missing:
        raise UserError(f"{path} has no mask {missing[0]}; delete it and run again")
    return masks


def read_some(path: Path, parent: ParentSpec, wanted: Sequence[MaskSpec]) -> dict[str, Mask]:
    """Those of the ``wanted`` masks that ``path`` has; ``UserError`` if it is damaged or another parent's."""
    tensors, metadata = read_tensors(path)
    if metadata.get("parent") != parent.id:
        raise UserError(f"{path} holds masks of {metadata.get('parent')}; delete it and run again")
    shapes, tied = json.loads(metadata["shapes"]), json.loads(metadata["tied"])
    masks: dict[str, dict[str, Tensor]] = {spec.id: {} for spec in wanted if spec.id in tied}
    for key, packed in tensors.items():
        mask_id, name = key.split("/", 1)
        if mask_id in masks:
            masks[mask_id][name] = unpack(packed, torch.Size(shapes[key]))
    return {
        mask_id: Mask({**found, **{name: found[of].flatten() for name, of in tied[mask_id].items()}}, tied[mask_id])
        for mask_id, found in masks.items()
    }
