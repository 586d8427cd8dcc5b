"""Digest the source of a law or a model of one's own: it determines the result as much as any setting."""

from __future__ import annotations

import ast
import hashlib
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ssa.errors import UserError

OURS = __name__.partition(".")[0]
INSTALLED = ("site-packages", "dist-packages")  # folders of many projects


@cache
def digest(law: Any, what: str = "law") -> str | None:
    """Ten hexadecimal digits for the source of ``law`` and of all that it imports from its project.

    ``law``: its class, or what builds a model. None for this package's own, whose version the specification has. The
    project is the folder from which its module was imported, or its package if that is installed. ``UserError``, which
    says ``what`` it is, if the module has no file.
    """
    name = law.__module__
    if name.partition(".")[0] == OURS:
        return None
    module = sys.modules[name]
    if not getattr(module, "__file__", None):
        raise UserError(
            f"the {what} {name}.{law.__name__} has no source file, so no id can follow it; put it in a module"
        )
    file = Path(str(module.__file__))
    depth = name.count(".") + (file.name == "__init__.py")
    root = file.parents[depth]
    total = hashlib.sha256()
    for path in sorted(_imported(root, name, file)):
        total.update(f"{path.relative_to(root).as_posix()}\n{_text(path)}".encode())
    return total.hexdigest()[:10]


def _imported(root: Path, name: str, file: Path) -> set[Path]:
    """``file``, the module ``name``, and the files under ``root`` of all modules that it imports, in any depth."""
    installed = root.name in INSTALLED
    found, left = set(), [(name, file), *_files(root, name)]
    while left:
        module, path = left.pop()
        if path in found:
            continue
        found.add(path)
        for wanted in _names(module, path):
            if not installed or wanted.partition(".")[0] == name.partition(".")[0]:
                left += _files(root, wanted)
    return found


def _names(module: str, path: Path) -> Iterator[str]:
    """The full names that the source of ``module`` imports; ``a.b`` of ``from a import b``, since b may be a module."""
    if path.suffix != ".py":
        return
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    try:
        tree = ast.parse(_text(path))
    except SyntaxError:  # a project may hold one that is never run, or imported in a try
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _files(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    """The modules under ``root`` that importing ``name`` runs: its packages, and itself; none of this package."""
    parts = name.split(".")
    if parts[0] == OURS:
        return
    for length in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:length])
        for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if path.is_file():
                yield ".".join(parts[:length]), path


def _text(path: Path) -> str:
    """The file's text, whatever its line ends; what is no Python source as the numbers of its bytes."""
    if path.suffix != ".py":
        return path.read_bytes().hex()
    with tokenize.open(path) as file:  # in the encoding that it says
        return file.read()
