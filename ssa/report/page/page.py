"""The study on one page: a single HTML file that needs nothing else, its figures and its plotting library within."""

from __future__ import annotations

import base64
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from ssa.analysis.claims.standing import planned_parents, rules
from ssa.files import write_text
from ssa.report.figures.style import RC
from ssa.report.page.claims import MARKS, capitalise, read_claims, tally
from ssa.report.page.explorer import explorer, library
from ssa.report.page.numbers import link, of_figures
from ssa.report.page.tables import (
    ShownTable,
    StudyTable,
    duration,
    of_lines,
    read_tables,
    table_of_blocks,
    table_of_parents,
)
from ssa.report.record import Record
from ssa.report.registry import ENSEMBLES, FIGURES, FINDINGS, STUDY, TABLES, Entry
from ssa.study.claims import ssa_settings, top_of
from ssa.study.methods import label

TEMPLATES = Path(__file__).parent / "templates"
PIXELS_PER_INCH, LEAST = 130, 96  # of a figure on screen: print type made a third larger, and print type
# The labels of a hyperparameter's source, as a reader needs them.
SOURCES = {
    "paper": "the paper's abstract, and what a published summary attributes to the paper",
    "summary": "a published summary's own words",
    "reviews": "the public reviews of an earlier version",
    "PAT": "the authors' earlier paper on Prune-and-Tune ensembles",
    "author-code": "the authors' public code for that paper",
    "assumed": "chosen here, because no source says",
}


@dataclass(frozen=True)
class Image:
    """A figure within the page: its registry's entry and data URL, and its size in CSS pixels.

    ``least``: the width below which its type is smaller than in print.
    """

    name: str
    entry: Entry
    url: str
    width: int
    height: int
    least: int

    @property
    def caption(self) -> str:
        """The entry's caption; of a finding, after the question that it answers."""
        return f"{self.entry.label} {self.entry.caption}" if self.entry.section == FINDINGS else self.entry.caption

    @property
    def alt(self) -> str:
        """The text for a reader who does not see the figure; the numbers stand in its CSV file."""
        return f"Chart. {self.caption} Its CSV file has the numbers."


def write_page(record: Record, tables: Path, figures: Path, out: Path) -> None:
    """Write the page of the study that ``record`` holds to the file ``out``.

    ``tables`` is the folder with claims.csv and the tables' .md files, ``figures`` the one with the PNG files: what is
    there is shown. The same input gives the same bytes.
    """
    study, children = record.study, record.children
    claims = read_claims(tables / "claims.csv", study["claims"]) if (tables / "claims.csv").is_file() else []
    shown, shown_tables = read_figures(figures), _study_tables(tables)
    smallest = top_of(study["claims"]).smallest_difference
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            study=study,
            claims=claims,
            verdicts=tally(verdict.text for claim in claims for verdict in claim.verdicts),
            marks=MARKS,
            rules=rules().replace("`", ""),
            plan=planned_parents(top_of(study["claims"])),
            figures=_section(shown, STUDY),
            findings=_section(shown, FINDINGS),
            tables=[part for section, part in shown_tables if section == STUDY],
            ensembles=_ensembles(record.ensembles, shown, shown_tables),
            parents=table_of_parents(record.parents),
            blocks=table_of_blocks(children),
            hours=hours(study, record.parents, children, record.ensembles is not None),
            settings=settings(study),
            numbers=of_figures([image.name for image in shown], record, tables),
            diverged=int(children["diverged"].sum()),
            ssa=ssa_settings(study["claims"]),
            sources=SOURCES,
            source_counts=Counter(entry["source"] for entry in study["hyperparameters"]),
            explorer=explorer(children, record.epochs, smallest),
            library=library(),
        )
    )
    write_text(out, page)


def hours(study: Mapping[str, Any], parents: pd.DataFrame, children: pd.DataFrame, ensembles: bool) -> dict[str, float]:
    """Hours of training by what was trained; what remains of all is that of members that only ensembles have."""
    found = {"parents": parents["train_seconds"].sum() / 3600, "children": children["train_seconds"].sum() / 3600}
    if ensembles:
        found["other members of ensembles"] = study["record"]["train_hours"] - sum(found.values())
    return {name: float(value) for name, value in found.items() if value > 0.001}


def settings(study: Mapping[str, Any]) -> ShownTable:
    """Every setting of the study, with its source."""
    heads = {"scope": "Scope", "key": "Setting", "value": "Value", "source": "Source"}
    lines = [{head: str(entry[key]) for key, head in heads.items()} for entry in study["hyperparameters"]]
    return of_lines("Every setting, its value and its source.", lines)


def environment() -> jinja2.Environment:
    """Jinja with every value escaped, and an error for a name that the page's data lack."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(moment=moment, label=label, duration=duration, capitalise=capitalise, link=link)
    made.globals.update(asset=lambda name: Markup((TEMPLATES / name).read_text(encoding="utf-8")))
    return made


def read_figures(folder: Path) -> list[Image]:
    """The study's figures that there are, in the registry's order."""
    paths = {name: folder / f"{name}.png" for name in FIGURES}
    return [embedded(path, name, FIGURES[name]) for name, path in paths.items() if path.is_file()]


def _section(images: list[Image], section: str) -> list[Image]:
    return [image for image in images if image.entry.section == section]


def _study_tables(folder: Path) -> list[tuple[str, StudyTable]]:
    """Section, and title, note and parts, of each of the study's tables that there are."""
    paths = {name: folder / f"{name}.md" for name in TABLES}
    return [(TABLES[name].section, read_tables(path)) for name, path in paths.items() if path.is_file()]


def _ensembles(
    ensembles: pd.DataFrame | None, figures: list[Image], tables: list[tuple[str, StudyTable]]
) -> dict[str, Any] | None:
    """The section on ensembles: how many there are, figures and tables; None if the study has none."""
    if ensembles is None:
        return None
    return {
        "count": len(ensembles),
        "figures": _section(figures, ENSEMBLES),
        "tables": [part for section, part in tables if section == ENSEMBLES],
    }


def embedded(path: Path, name: str, entry: Entry) -> Image:
    """A PNG file as part of the page, as wide as it is in print."""
    content = path.read_bytes()
    # A PNG starts with its signature and the header chunk, which holds width and height at bytes 16 to 24.
    width, height = struct.unpack(">II", content[16:24])
    inches, tall = width / RC["savefig.dpi"], height / RC["savefig.dpi"]
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    sizes = (round(inches * PIXELS_PER_INCH), round(tall * PIXELS_PER_INCH), round(inches * LEAST))
    return Image(name, entry, url, *sizes)


def moment(iso: str) -> str:
    """An ISO time to the minute: ``2024-01-01 00:00``, followed by its zone if it has one."""
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M %Z").strip()
