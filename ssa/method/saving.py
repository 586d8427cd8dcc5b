"""Subnetworks as small files: the mask's bits and the kept values, not the zeros.

A file is safetensors. ``mask`` holds the bits of all mask entries, end to end, eight to a byte; ``kept/<name>`` the
kept values of a masked tensor, in its order; ``whole/<name>`` every other tensor. ``layout``, JSON as bytes, says the
shape of each mask entry, in the order of the bits, and which tensors are tied to an entry.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Size, Tensor, nn

from ssa import files
from ssa.method import masks
from ssa.method.masks import Mask, pack, unpack
from ssa.method.subnetwork import within

FORMAT = "ssa subnetwork 1"


def save(child: nn.Module, path: str | Path) -> None:
    """Write the target subnetwork of ``child``: mask bits, kept values, and all other parameters and buffers whole.

    The file appears whole or not at all. ``child``: a Subnetwork, its module, or what wraps one, as ``torch.compile``
    does.
    ``ValueError`` if there is none, and if the module's state is not all tensors; ``TypeError`` if the two
    arguments are exchanged.
    """
    _check_arguments("save(child, path)", child, path)
    found = within(child)
    if found is None:
        raise ValueError(f"{type(child).__name__} is no subnetwork, and holds none; save a plain model as PyTorch does")
    mask, whole = found.mask, _state(found.fold())
    kept = {name: whole.pop(name)[entry.expand(found.weights[name].shape)] for name, entry in mask.items()}
    entries = {name: entry for name, entry in mask.items() if name not in mask.tied}
    layout = {"shapes": {name: list(entry.shape) for name, entry in entries.items()}, "tied": mask.tied}
    tensors = {
        "layout": torch.tensor(list(json.dumps(layout).encode()), dtype=torch.uint8),
        "mask": pack(torch.cat([found.target[:0], *(entry.flatten() for entry in entries.values())])),
        **{f"kept/{name}": value for name, value in kept.items()},
        **{f"whole/{name}": value for name, value in whole.items()},
    }
    files.write_tensors(Path(path), tensors, {"format": FORMAT})


def load(path: str | Path, model: nn.Module) -> nn.Module:
    """``model``, changed in place into the saved child's ``fold()``: bit for bit, pruned weights exactly 0.

    ``model`` is a plain module of the child's architecture, on any device. ``ValueError`` if the file is damaged,
    was not written by :func:`save`, or is of another architecture; ``FileNotFoundError`` if there is none;
    ``TypeError`` if the two arguments are exchanged. ``model`` is then as it was.
    """
    _check_arguments("load(path, model)", model, path)
    tensors = _read(path)
    if within(model) is not None:
        raise ValueError("the model is, or holds, a child: load into a plain one, as its fold() is")
    state = _state(model)
    if any(value.is_meta for value in state.values()):
        raise ValueError("the model is on the meta device, without values to fill; build it on a real one")
    mask = _mask(tensors.pop("layout"), tensors.pop("mask"))
    try:
        odd = {key.partition("/")[2] for key in tensors} ^ state.keys()
        if odd:
            raise ValueError(f"{min(odd)!r} is in only one of the two")
        masks.check(model, mask)
        values = {name: _full(name, tensors, mask.get(name), like) for name, like in state.items()}
    except ValueError as error:
        raise ValueError(f"{path} does not fit the model: {error}; build the model that was saved") from error
    for name, value in values.items():
        state[name].copy_(value)
    return model


def _check_arguments(usage: str, model: object, path: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"a {type(model).__name__} is no model; it is called as ssa.{usage}")
    if not isinstance(path, (str, Path)):
        raise TypeError(f"a {type(path).__name__} is no path of a file; it is called as ssa.{usage}")


def _state(module: nn.Module) -> dict[str, Tensor]:
    """The module's parameters and persistent buffers, detached, a shared one under its first name alone."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name!r} of the module's state is no tensor; such a module cannot be saved")
        found.setdefault(id(value), (name, value.detach()))
    return dict(found.values())


def _read(path: str | Path) -> dict[str, Tensor]:
    """The file's tensors; ``ValueError`` if it is not, byte for byte, what :func:`save` wrote."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is no file; name one that ssa.save wrote")
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no safetensors file ({error}); save the child again") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by ssa.save; name a file that was")
    if metadata.get("checksum") != files.checksum(tensors):
        raise ValueError(f"{path} is damaged: its checksum does not match; save the child again")
    return tensors


def _mask(layout: Tensor, bits: Tensor) -> Mask:
    said = json.loads(bytes(layout.tolist()))
    shapes = {name: Size(shape) for name, shape in said["shapes"].items()}
    sizes = [shape.numel() for shape in shapes.values()]
    parts = unpack(bits, Size([sum(sizes)])).split(sizes)
    entries = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    return Mask({**entries, **{name: entries[of].flatten() for name, of in said["tied"].items()}}, said["tied"])


def _full(name: str, tensors: dict[str, Tensor], entry: Tensor | None, like: Tensor) -> Tensor:
    """The tensor ``name``, zeros put back; ``ValueError`` if it has not the shape and type of ``like``."""
    if entry is None:
        value = tensors[f"whole/{name}"]
        fits = value.shape == like.shape
    else:
        value, places = tensors[f"kept/{name}"], entry.expand(like.shape)
        fits = value.numel() == int(places.sum())
    if not fits or value.dtype != like.dtype:
        raise ValueError(f"{name!r} has another shape or type there")
    return value if entry is None else torch.zeros(like.shape, dtype=like.dtype).masked_scatter(places, value)
