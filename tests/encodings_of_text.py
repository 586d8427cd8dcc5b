"""Which calls read or write text without saying how it is encoded: in a locale that is not UTF-8 they would differ.

Ruff's PLW1514 sees those whose path it can tell is one; this sees every name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

TEXT = {"read_text": 0, "write_text": 1}  # and at which place they take an encoding


def unspecified(source: str) -> Iterator[ast.Call]:
    """The calls in ``source`` that read or write text, a file's or a process's, in the locale's encoding."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and not any(word.arg in ("encoding", None) for word in node.keywords):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if (
                (name in TEXT and len(node.args) <= TEXT[name])
                or (name == "open" and _is_text(node))
                or any(word.arg == "text" and getattr(word.value, "value", None) is True for word in node.keywords)
            ):
                yield node


def _is_text(call: ast.Call) -> bool:
    """Whether ``open(path, mode)`` or ``path.open(mode)`` opens a text file, as far as its mode is written there."""
    if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in ("os", "Image", "tarfile"):
        return False
    modes = [word.value for word in call.keywords if word.arg == "mode"]
    modes += call.args[0 if isinstance(call.func, ast.Attribute) else 1 :][:1]
    if not modes:
        return not call.args or not isinstance(call.func, ast.Attribute)
    mode = getattr(modes[0], "value", "")
    return isinstance(mode, str) and set(mode) <= set("rwax+t") and bool(mode)
