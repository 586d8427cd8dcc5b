"""The study on one page: a single HTML file that needs nothing else, its figures within it."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from ssa.claim_rules import SECTION, rule_of
from ssa.errors import UserError
from ssa.figure_style import RC
from ssa.figures import CAPTIONS
from ssa.methods import label
from ssa.statistics import p_text, t_interval

TEMPLATES = Path(__file__).parent / "templates"
DASH, HOLM = "–", "p (Holm)"
PIXELS_PER_INCH = 130  # of a figure on screen: print type, made a third larger
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
    """A figure within the page: its data URL, and the size in CSS pixels at which it is shown."""

    url: str
    width: int
    height: int


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, and whether it is bold."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table to read: its caption, column heads, and rows of cells."""

    caption: str
    head: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Verdict:
    """A claim before one arm: the overall verdict, its comparisons, and how many of these say what."""

    arm: str
    text: str
    tally: str
    comparisons: Table

    @property
    def kind(self) -> str:
        """The first word, which names the verdict's colour."""
        return self.text.split(",")[0].split(" ")[0]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, the rule that judges it, and a verdict for each arm."""

    name: str
    statement: str
    source: str
    rule: str
    verdicts: list[Verdict]


def write_report(results: Path, tables: Path, figures: Path, out: Path) -> None:
    """Write the page of the study in ``results`` to the file ``out``.

    ``tables`` is the folder with claims.csv and the tables' .md files, ``figures`` the one with the PNG files; the same
    input gives the same bytes. ``UserError`` names a file that is missing.
    """
    study = json.loads(_existing(results / "study.json", "aggregate").read_text())
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            study=study,
            claims=read_claims(_existing(tables / "claims.csv", "claims"), study["claims"]),
            figures=[(name, caption, embedded(figures / f"{name}.png")) for name, caption in CAPTIONS.items()],
            tables=[read_tables(path) for path in sorted(tables.glob("*.md")) if path.name != "claims.md"],
            parents=read_parents(_existing(results / "parents.csv", "aggregate")),
            ssa={**SECTION["ssa"], **study["claims"].get("ssa", {})},
            sources=SOURCES,
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")


def environment() -> jinja2.Environment:
    """Jinja with every value escaped, and an error for a name that the page's data lack."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(moment=moment, label=label)
    return made


def read_claims(path: Path, section: dict[str, Any]) -> list[Claim]:
    """The claims of claims.csv in its order; ``section`` is the study's claims section, for the rules' numbers."""
    confidence = {**SECTION, **section}["confidence"]
    claims = []
    for name, rows in pd.read_csv(path).groupby("claim", sort=False):
        verdicts = [_verdict(part, confidence) for _, part in rows.groupby("arm", sort=False)]
        first = rows.iloc[0]
        claims.append(Claim(str(name), first["statement"], first["source"], rule_of(section, str(name)), verdicts))
    return claims


def _verdict(rows: pd.DataFrame, confidence: float) -> Verdict:
    """One arm's ``rows`` of a claim, the overall verdict among them."""
    found = rows[rows["comparison"] != "overall"]
    overall = rows.loc[rows["comparison"] == "overall", "verdict"].iloc[0]
    count = Counter(str(verdict).split(":")[0] for verdict in found["verdict"])
    tally = ", ".join(f"{number} {verdict}" for verdict, number in count.most_common())
    measure = rows["measure"].iloc[0].capitalize()
    lines = [_comparison(row, measure, f"{confidence:.0%} CI") for row in found.to_dict("records")]
    if found["p_holm"].isna().all():
        lines = [{head: text for head, text in line.items() if head != HOLM} for line in lines]
    return Verdict(rows["arm"].iloc[0], overall, tally, _table(f"Parents {rows['arm'].iloc[0]}: {overall}", lines))


def _comparison(row: Mapping[Any, Any], measure: str, interval: str) -> dict[str, str]:
    return {
        "Comparison": row["comparison"],
        measure: _number(row["estimate"]),
        interval: DASH if math.isnan(row["low"]) else f"{_number(row['low'])} to {_number(row['high'])}",
        "n": f"{row['n']:g}",
        "p": p_text(row["p"]),
        HOLM: p_text(row["p_holm"]),
        "Verdict": row["verdict"],
    }


def read_parents(path: Path) -> Table:
    """One line for each kind of parent in parents.csv: seeds, training and accuracy."""
    lines = []
    for (kind, dataset, model, epochs), rows in pd.read_csv(path).groupby(["parent", "dataset", "model", "epochs"]):
        accuracy = t_interval(rows["accuracy"])
        spread = "" if math.isnan(accuracy.half_width) else f" ± {accuracy.half_width:.2f}"
        seeds = ", ".join(str(seed) for seed in sorted(rows["parent_seed"]))
        names = {"Parents": str(kind), "Data": str(dataset), "Model": str(model), "Epochs": f"{epochs:g}"}
        lines.append(
            {**names, "Seeds": seeds, "n": str(len(rows)), "Test accuracy (%)": f"{accuracy.mean:.2f}{spread}"}
        )
    return _table("The parents. Accuracy: mean ± half-width of the 95% t-interval over n parents.", lines)


def _table(caption: str, lines: list[dict[str, str]]) -> Table:
    return Table(caption, list(lines[0]), [[Cell(text) for text in line.values()] for line in lines])


def _number(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def read_tables(path: Path) -> tuple[str, list[Table]]:
    """The title and the parts of one of the study's tables, from the Markdown that :mod:`ssa.tables` writes."""
    title, *blocks = [block.strip() for block in path.read_text(encoding="utf-8").split("\n\n") if block.strip()]
    parts = []
    for caption, grid in zip(blocks[::2], blocks[1::2], strict=True):
        head, _, *rows = [_cells(line) for line in grid.splitlines()]
        parts.append(Table(caption, [cell.text for cell in head], rows))
    return title.removeprefix("# "), parts


def _cells(line: str) -> list[Cell]:
    """The cells of one line of a Markdown table: ``\\|`` is a bar within a cell, ``**`` encloses bold text."""
    texts = [text.strip().replace("\\|", "|") for text in re.split(r"(?<!\\)\|", line)[1:-1]]
    return [Cell(text.replace("**", ""), text.startswith("**")) for text in texts]


def embedded(path: Path) -> Image:
    """A PNG file as part of the page, as wide as it is in print."""
    content = _existing(path, "figures").read_bytes()
    # A PNG starts with its signature and the header chunk, which holds width and height at bytes 16 to 24.
    width, height = struct.unpack(">II", content[16:24])
    scale = PIXELS_PER_INCH / RC["savefig.dpi"]
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return Image(url, round(width * scale), round(height * scale))


def moment(iso: str) -> str:
    """An ISO time to the minute: ``2024-01-01 00:00``, followed by its zone if it has one."""
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M %Z").strip()


def _existing(path: Path, stage: str) -> Path:
    if not path.is_file():
        raise UserError(f"{path} is missing: run ssa {stage} first")
    return path
