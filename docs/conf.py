"""Sphinx's settings: `make docs` builds the method's page and the reference of the public names."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import ssa
from ssa import laws

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

project = "ssa"
version = release = ssa.__version__
extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
html_theme = "alabaster"
html_theme_options = {"description": "Stochastic Subnetwork Annealing", "fixed_sidebar": True, "page_width": "1080px"}
html_static_path = ["_static"]
html_show_copyright = html_show_sourcelink = False


class PublicNames(SphinxDirective):
    """The reference of all that ``import ssa`` offers: the laws, with the argument ``laws``, or the ``rest``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Ask autodoc for each name in turn."""
        self.env.note_dependency(ssa.__file__)
        in_source = [name for name in vars(laws) if ssa._HOMES.get(name) == "laws"]
        names = in_source if self.arguments[0] == "laws" else [name for name in ssa.__all__ if name not in in_source]
        return self.parse_text_to_nodes("\n\n".join(_block(name) for name in names))


def _block(name: str) -> str:
    kind = "class" if isinstance(getattr(ssa, name), type) else "function"
    return f".. auto{kind}:: ssa.{name}" + ("\n   :members:\n   :show-inheritance:" if kind == "class" else "")


def _draw(app: Sphinx) -> None:
    import_module("draw_laws").draw(DOCS / "_build" / "laws.svg")


def setup(app: Sphinx) -> None:
    """What Sphinx calls before it reads the pages."""
    app.add_directive("public-names", PublicNames)
    app.connect("builder-inited", _draw)
