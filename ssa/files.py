"""Files that are written whole or not at all: text, JSON and tensors."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssa.errors import UserError, writing

if TYPE_CHECKING:
    from torch import Tensor


def short_digest(words: Iterable[str]) -> str:
    """Ten hexadecimal digits that stand for a list of words, such as ids, in its order."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:10]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in ``path``'s place in one step.

    ``UserError`` if the disk is full or the folder cannot be written; ``path`` is then as it was.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")  # jobs of two pods may share their pid
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.touch()
            mode = partial.stat().st_mode  # what others may do is the user's to say; safetensors shuts them out
            write(partial)
            partial.chmod(mode)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON; numbers that are not finite become null."""
    write_text(path, json.dumps(finite(content), indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_csv(path: Path, table: Any) -> None:
    """Write a ``table`` of pandas without its index, in eight digits."""
    write_atomically(path, lambda partial: table.to_csv(partial, index=False, float_format="%.8g", lineterminator="\n"))


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write ``tensors`` as safetensors, with a checksum of their bytes beside ``metadata``."""
    from safetensors.torch import save_file

    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {**metadata, "checksum": checksum(tensors)}
    write_atomically(path, lambda partial: save_file(tensors, str(partial), metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of ``path``; ``UserError`` naming it where it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and run again to rebuild it") from error
    if metadata.get("checksum") != checksum(tensors):
        raise UserError(f"{path} is damaged: its checksum does not match; delete it and run again to rebuild it")
    return tensors, metadata


def checksum(tensors: dict[str, Tensor]) -> str:
    """A digest of names and bytes."""
    import torch

    total = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def finite(value: Any) -> Any:
    """``value`` with null for every number that is not finite, which JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:  # NaN and infinities
        return None
    return value
