"""A law of one's own is known by its source: an edit is another law, with children of its own."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssa.errors import UserError
from ssa.method import laws
from ssa.study import law_source, study

LAW = "import ssa\n\n\nclass Own(ssa.Law):\n    def anneal(self, a, mask, state):\n        return 1.0, 0.5\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that modules are imported from, and forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def put(project: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")


def digest(project: Path, module: str) -> str | None:
    """The digest that a process finds which starts now."""
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("own_law", "own_package", "own_helper")]:
        del sys.modules[name]
    return law_source.digest(laws.find(f"{module}.Own"))


def test_the_librarys_laws_have_none() -> None:
    assert [law_source.digest(law) for law in (laws.OneShot, laws.TemperatureAnnealing)] == [None, None]


def test_it_is_the_text_of_the_module(project: Path) -> None:
    put(project, {"own_law.py": LAW})
    assert digest(project, "own_law") == hashlib.sha256(f"own_law.py\n{LAW}".encode()).hexdigest()[:10]
    assert (first := digest(project, "own_law")) == digest(project, "own_law")
    put(project, {"own_law.py": LAW.replace("0.5", "0.25")})
    assert digest(project, "own_law") != first


def test_a_source_is_read_in_the_encoding_that_it_says_and_one_that_does_not_parse_imports_nothing(
    project: Path,
) -> None:
    law = f"# -*- coding: latin-1 -*-\n# gr\xf6\xdfe\ntry:\n    import own_helper\nexcept SyntaxError:\n    pass\n{LAW}"
    (project / "own_law.py").write_bytes(law.encode("latin-1"))
    (project / "own_helper.py").write_text("print 'of Python 2'\n", encoding="utf-8")
    first = digest(project, "own_law")
    (project / "own_helper.py").write_text("print 'edited'\n", encoding="utf-8")
    assert digest(project, "own_law") != first


@pytest.mark.parametrize(
    "line",
    [
        "import own_package.values",
        "from own_package import values",
        "from own_package.values import HALF",
        "def late():\n    from own_package import values",
        "import own_helper",
    ],
)
def test_what_it_imports_from_the_same_project_belongs_to_it(project: Path, line: str) -> None:
    put(
        project,
        {"own_law.py": f"{line}\n{LAW}", "own_package/__init__.py": "", "own_package/values.py": "HALF = 0.5\n"},
    )
    put(project, {"own_helper.py": "import own_package.values\n", "unused.py": "A = 1\n"})
    first = digest(project, "own_law")
    put(project, {"unused.py": "A = 2\n"})
    assert digest(project, "own_law") == first
    put(project, {"own_package/values.py": "HALF = 0.4\n"})
    assert digest(project, "own_law") != first


def test_in_a_package_imports_may_be_relative(project: Path) -> None:
    put(
        project, {"own_package/__init__.py": "", "own_package/deep/__init__.py": "", "own_package/values.py": "A = 1\n"}
    )
    put(project, {"own_package/deep/law.py": f"from .. import values\nfrom . import near\n{LAW}"})
    put(project, {"own_package/deep/near.py": "B = 1\n"})
    seen = {digest(project, "own_package.deep.law")}
    for name in ("values.py", "deep/near.py", "__init__.py", "deep/law.py"):
        with (project / "own_package" / name).open("a", encoding="utf-8") as file:
            file.write("# An edit.\n")
        seen.add(digest(project, "own_package.deep.law"))
    assert len(seen) == 5


def test_of_an_installed_law_only_its_own_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages"
    put(installed, {"own_package/__init__.py": f"import own_helper\n{LAW}", "own_helper.py": "A = 1\n"})
    monkeypatch.syspath_prepend(installed)
    first = digest(installed, "own_package")
    put(installed, {"own_helper.py": "A = 2\n"})
    assert digest(installed, "own_package") == first


def test_a_law_without_a_file_is_refused() -> None:
    made = type("Made", (laws.Law,), {"anneal": lambda *args: (1.0, 0.0), "__module__": "builtins"})
    with pytest.raises(UserError, match=r"the law builtins.Made has no source file, so no id can follow it"):
        law_source.digest(made)


def test_an_edited_law_has_children_of_its_own_and_all_others_stay(project: Path, tiny: dict[str, Any]) -> None:
    put(project, {"own_law.py": LAW})
    tiny["methods"] = {"own": {"law": "own_law.Own"}}
    tiny["blocks"][1] |= {"method": ["temperature", "own"], "sparsity": 50}

    def ids() -> dict[str, str]:
        digest(project, "own_law")
        found = study.expand(tiny, Path("tiny.yaml")).children
        return {child.spec.method: child.spec.id for child in found if child.spec.parent.seed == 0}

    before = ids()
    assert ids() == before
    put(project, {"own_law.py": LAW.replace("0.5", "0.25")})
    after = ids()
    assert {name for name in after if after[name] != before[name]} == {"own"}
