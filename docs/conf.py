"""Sphinx's settings: `make docs` builds the method's page and the reference of the public names."""

from __future__ import annotations

import inspect
import sys
from dataclasses import MISSING, Field, fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import ssa
from ssa.method import laws
from ssa.method.selection import prunable
from ssa.specs import settings
from ssa.study import methods
from ssa.training import models

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

project = "ssa"
version = release = ssa.__version__
extensions = ["sphinx.ext.autodoc", "sphinxarg.ext", "myst_nb"]  # reference, command line, Markdown and notebooks
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
exclude_patterns = ["_build", "templates"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
html_theme = "furo"  # search, light and dark
html_title = "Stochastic Subnetwork Annealing"
html_static_path = ["_static"]
html_show_copyright = html_show_sourcelink = False


class PublicNames(SphinxDirective):
    """The reference of all that ``import ssa`` offers: the laws, with the argument ``laws``, or the ``rest``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Ask autodoc for each name in turn."""
        self.env.note_dependency(ssa.__file__)
        in_source = [name for name in vars(laws) if ssa._HOMES.get(name) == "method.laws"]
        names = in_source if self.arguments[0] == "laws" else [name for name in ssa.__all__ if name not in in_source]
        return self.parse_text_to_nodes("\n\n".join(_block(name) for name in names))


class SettingsTable(SphinxDirective):
    """All settings that one class of a study's sections takes: ``.. settings:: specs.specs.DataSpec``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The class's docstring, then a row for each setting."""
        module, name = self.arguments[0].rsplit(".", 1)
        home = import_module(f"ssa.{module}")
        self.env.note_dependency(str(home.__file__))
        cls = getattr(home, name)
        head = ["setting", "meaning", "default", "allowed", "its source"]
        table = _table([head, *map(partial(_setting, cls), fields(cls))])
        return self.parse_text_to_nodes(f"{inspect.cleandoc(cls.__doc__)}\n\n{table}")


def _setting(cls: type, field: Field[Any]) -> list[str]:
    """The cells of one setting."""
    missing = field.default is MISSING
    default = "(must be given)" if missing else f"``{'null' if field.default is None else field.default}``"
    meaning = field.metadata["meaning"].replace("`", "``")
    source = "" if missing else field.metadata["source"]
    return [f"``{field.name}``", meaning, default, settings.allowed(cls, field), source]


class Methods(SphinxDirective):
    """The methods that a block may name."""

    def run(self) -> list[nodes.Node]:
        """A row for each entry of the catalogue."""
        self.env.note_dependency(str(methods.__file__))
        rows = [
            [
                f"``{name}``",
                one.purpose.replace("`", "``"),
                one.label,
                f":class:`~ssa.{one.law}`",
                ", ".join(f"``{key}: {value}``" for key, value in {**one.args, **one.switches}.items()),
            ]
            for name, one in methods.CATALOGUE.items()
        ]
        head = ["method", "what it is for", "as tables name it", "its law", "with"]
        return self.parse_text_to_nodes(_table([head, *rows]))


class Models(SphinxDirective):
    """The models that a parent may name, beside timm's."""

    def run(self) -> list[nodes.Node]:
        """A row for each builder: its docstring, and the size of what it builds for 32 x 32 images of 10 classes."""
        self.env.note_dependency(str(models.__file__))
        rows = []
        for name, builder in models.BUILDERS.items():
            model = models.build(name, {}, 3, 10, 32, 0)
            said = " ".join(inspect.cleandoc(getattr(builder, "func", builder).__doc__ or "").split())
            sizes = ([*model.parameters()], prunable(model).values())
            rows.append([f"``{name}``", said, *(f"{sum(one.numel() for one in each):,}" for each in sizes)])
        return self.parse_text_to_nodes(_table([["model", "what it is", "weights", "prunable"], *rows]))


def _table(rows: list[list[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [f"   {'  -' if number else '* -'} {cell}" for number, cell in enumerate(row)]
    return "\n".join(lines)


def _block(name: str) -> str:
    kind = "class" if isinstance(getattr(ssa, name), type) else "function"
    options = (":members:", ":inherited-members: Module, Law, dict", ":show-inheritance:") if kind == "class" else ()
    return "\n   ".join((f".. auto{kind}:: ssa.{name}", *options))


def _draw(app: Sphinx) -> None:
    import_module("draw_laws").draw(DOCS / "_build" / "laws.svg")


def setup(app: Sphinx) -> None:
    """Add the directives; Sphinx calls this before it reads the pages."""
    app.add_directive("public-names", PublicNames)
    app.add_directive("settings", SettingsTable)
    app.add_directive("methods", Methods)
    app.add_directive("models", Models)
    app.connect("builder-inited", _draw)
