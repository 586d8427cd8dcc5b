"""Texts and docstrings keep the rules of plain writing that a program can check."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

DOCS = ROOT / "docs"
RST = sorted(DOCS.glob("*.rst"))
PAGES = [path for path in sorted(DOCS.glob("*.md")) if not (DOCS / "templates" / path.name).exists()]
PAGES.remove(DOCS / "rules.md")  # fixed before the runs: its words stay as they were
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES, *RST]
TEXTS = [*WRITTEN, *(DOCS / "templates" / name for name in ("findings.md", "results.md", "speed.md"))]
LONGEST = 45  # words in a sentence

BANNED = (
    r"bags aside",
    r"within a record alone",
    r"nothing is typed",
    r"for whoever",
    r"whole interval (above|below)",
    r"trained anew, as",
    r"of which alone",
    r"with an empty one",
    r"what becomes of",
    r"of the twin only",
    r"those that lack",
    r"(obviously|of course|in order to|utilize)\b",
)
PLACES = r"results lie|jobs|it comes|its settings|the time|an epoch|does the effect"  # what "where" may ask for
CONDITION = re.compile(rf"\bwhere\b(?! (?:{PLACES}))|\bwherever\b", re.IGNORECASE)
ALONE = re.compile(r"(?<!used )(?<!enough )\balone\b", re.IGNORECASE)  # "only" says which one is meant
CODE = re.compile(
    r"```.*?```|^---\n.*?\n---\n|^\.\. (?:code-block|figure|csv-table)::.*?(?=^\S|\Z)", re.DOTALL | re.MULTILINE
)
NAMED = re.compile(r"``?((?:config|docs|examples|ssa|tests|workflow|profiles|recorded|benchmarks)/[\w./-]+)``?")


def paragraphs(text: str) -> Iterator[str]:
    """The prose of a page, one paragraph or list item at a time, on one line; no code, tables or headings."""
    lines = [
        "" if re.match(r"\s*(\||#|<|\.\. |:\w+:|\* - |- ``)|[=~^-]{3,}$", line) else line
        for line in CODE.sub("", text).splitlines()
    ]
    for block in re.split(r"\n\s*\n|\n\s*(?=[-*] |\d+\. )", "\n".join(lines)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(block.split()))
        if plain:
            yield plain


def sentences(paragraph: str) -> list[str]:
    """Its sentences; what stands after a colon or a semicolon counts as one too."""
    return re.split(r"(?<=[.!?:;])\s+", paragraph)


def shown(found: list[tuple[Path, str]]) -> list[str]:
    """Pages and passages, as a failing test prints them."""
    return [f"{path.relative_to(ROOT)}: {passage}" for path, passage in found]


def passages(pattern: re.Pattern[str], paths: list[Path]) -> list[tuple[Path, str]]:
    """Where ``pattern`` stands in the prose of ``paths``, with a few words around it."""
    texts = [(path, text) for path in paths for text in paragraphs(path.read_text(encoding="utf-8"))]
    return [
        (path, text[max(one.start() - 40, 0) : one.end() + 40])
        for path, text in texts
        for one in pattern.finditer(text)
    ]


@pytest.mark.parametrize(
    ("passage", "pattern"),
    [
        ("A job fails where none is there.", CONDITION),
        ("Levels are compared within a record alone.", ALONE),
        ("What becomes of those.", re.compile("|".join(BANNED), re.IGNORECASE)),
    ],
)
def test_a_fault_is_found(passage: str, pattern: re.Pattern[str]) -> None:
    assert [text for text in paragraphs(f"# Title\n\n{passage}\n\n```\n{passage}\n```\n") if pattern.search(text)] == [
        passage
    ]


def test_no_page_has_a_banned_phrase() -> None:
    banned = re.compile(rf"\b(?:{'|'.join(BANNED)})", re.IGNORECASE)
    assert shown(passages(banned, TEXTS)) == []


def test_conditions_take_if_or_when() -> None:
    assert shown(passages(CONDITION, TEXTS)) == []


def test_only_says_only() -> None:
    assert shown(passages(ALONE, TEXTS)) == []


def test_sentences_are_short() -> None:
    texts = [(path, text) for path in WRITTEN for text in paragraphs(path.read_text(encoding="utf-8"))]
    long = [(path, one) for path, text in texts for one in sentences(text) if len(one.split()) > LONGEST]
    assert len(texts) > 200
    assert shown(long) == []


def test_a_page_that_says_pat_says_what_it_is() -> None:
    said = [path for path in WRITTEN if re.search(r"\bPAT\b", path.read_text(encoding="utf-8"))]
    assert said
    assert [path.name for path in said if not re.search(r"Prune.and.Tune", path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("path", [*RST, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.split()
    known = {*listed, *(str(parent) for name in listed for parent in Path(name).parents)}
    named = {name.rstrip("/.") for name in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert sorted(named - known) == []


def test_what_pages_import_from_the_package_is_there() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in TEXTS)
    imports = re.findall(r"^\s*from (ssa[\w.]*) import (\w+)", text, re.MULTILINE)
    assert len(imports) >= 4
    assert [f"{home}.{name}" for home, name in imports if not hasattr(importlib.import_module(home), name)] == []


def test_docstrings_say_what_is_returned_and_when_it_fails() -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = {}
    for path in sorted((ROOT / "ssa").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kinds) and (said := ast.get_docstring(node)):
                found[f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}"] = said
    assert len(found) > 1000
    assert [place for place, said in found.items() if said.startswith("What ")] == [], "begin with a noun or a verb"
    assert [place for place, said in found.items() if re.search(r"Error`` where\b", said)] == [], "say if"
