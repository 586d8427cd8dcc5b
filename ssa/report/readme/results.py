"""Fill the marked places of the README and of pages of the documentation, in Markdown; nothing there is typed.

A place stands between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``, each on a line of its own. NAME is
``claims``, ``finding`` and one of :data:`ssa.study.questions.FINDINGS`, or ``speed`` and one of
:data:`ssa.report.readme.speed.PLACES`. Read are ``recorded/*/study.json``, what ``paper_tables/`` and ``figures/``
hold for the same names, ``benchmarks/*.json``, and, for what no record answers yet, ``config/*.yaml``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from ssa.analysis.claims.comparison import JUDGED
from ssa.analysis.claims.verdicts import LOSS, NOT_TESTABLE
from ssa.analysis.statistics import DASH, n_text
from ssa.errors import UserError
from ssa.files import write_atomically
from ssa.report.figures import ensembles as ensemble_figures
from ssa.report.figures import study as figures
from ssa.report.page.tables import read_tables
from ssa.report.readme import sentences as finding_words
from ssa.report.readme import speed as summary_speed
from ssa.report.readme.records import Page, made, records
from ssa.report.tables.style import grid, number, signed
from ssa.results.children import CELL
from ssa.specs import yaml_files
from ssa.study.claims import top_of
from ssa.study.methods import label
from ssa.study.questions import FINDINGS

PLACE = re.compile(
    r"(?P<begin>^<!-- begin: (?P<name>[^\n]+?) -->\n).*?(?P<end>^<!-- end: (?P=name) -->)", re.MULTILINE | re.DOTALL
)
CAPTIONS = {**figures.CAPTIONS, **ensemble_figures.CAPTIONS}
LONGEST = 20  # rows of a table on a page; a longer one is read in its file
FEW = 3  # comparisons that are listed one by one
PERCENT = ("validation", "one_shot", "one_shot_train", "effective")  # columns of findings without an interval


def fill(page: Path, root: Path) -> bool:
    """Fill every place of ``page`` from what ``root`` holds; returns whether that changed it.

    ``UserError`` where it has no place, or one of an unknown name.
    """
    old = page.read_text(encoding="utf-8")
    new = filled(old, Page(root, page))
    if new != old:
        write_atomically(page, lambda partial: partial.write_text(new, encoding="utf-8"))
    return new != old


def filled(text: str, page: Page) -> str:
    """``text`` with every place filled."""
    if not PLACE.search(text):
        raise UserError(f"{page.path} has no place to fill: a line with begin: claims, and one with end: claims")
    return PLACE.sub(lambda m: f"{m['begin']}\n{_content(m['name'], page)}\n\n{m['end']}", text)


def _content(name: str, page: Page) -> str:
    if name == "claims":
        return _claims(page)
    kind, _, what = name.partition(" ")
    if kind == "finding" and what in FINDINGS:
        return _finding(what, page)
    if kind == "speed" and what in summary_speed.PLACES:
        return summary_speed.PLACES[what](page)
    known = [f"finding {one}" for one in FINDINGS] + [f"speed {one}" for one in summary_speed.PLACES]
    raise UserError(f"{page.path}: place {name!r} is not known; allowed: {', '.join(['claims', *known])}")


def _claims(page: Page) -> str:
    """For each record that tests claims: a row for each claim and arm, sanity, figures, deviations and assumptions."""
    parts: list[str] = []
    for name, study in records(page.root).items():
        tables, drawn = page.root / "paper_tables" / name, page.root / "figures" / name
        rows = _claim_rows(tables / "claims.csv", top_of(study["claims"]).confidence)
        if not rows:
            continue
        parts += [
            f"**{study['title']}** ({made(name, study, page)})",
            page.overlaps[name],
            grid(rows[0], [row.values() for row in rows]),
        ]
        parts += _sanity(tables / "table4_sanity.md", page)
        for one in _figures(tables):
            parts += [_figure(one.replace("_", " ").capitalize(), drawn / f"{one}.png", page), f"*{CAPTIONS[one]}*"]
        parts += [_list("Deviations from the paper", study["deviations"]), _list("Assumed", study["assumptions"])]
    return "\n\n".join(part for part in parts if part) or (
        "No study is recorded yet. To record what is finished of one: "
        '`ssa record config/reduced.yaml --out recorded/reduced-cpu --how "..."`'
    )


def _figures(tables: Path) -> list[str]:
    """What shows most of a record: its cells, if there are several; else its ensembles, if there are any."""
    found = pd.read_csv(tables / "table1_accuracy.csv").query("sparsity > 0")
    many = bool((found.groupby(["parent", "criterion"])["sparsity"].nunique() > 1).any())
    if not many and (tables / "table_ensembles.csv").exists():
        return ["ensemble_accuracy"]
    return ["accuracy_vs_sparsity", "forest_differences"] if many else ["forest_differences"]


def _sanity(path: Path, page: Page) -> list[str]:
    """Our numbers beside known ones, with where to read how they are compared; nothing where there are none."""
    _, (known,) = read_tables(path)
    rows = [dict(zip(known.head, (cell.text for cell in row), strict=True)) for row in known.rows]
    return (
        [f"Our numbers beside known ones (`{page.link(path)}`):", grid(rows[0], [row.values() for row in rows])]
        if rows
        else []
    )


def _figure(alt: str, path: Path, page: Page) -> str:
    return f"![{alt}]({page.link(path)})"


def _list(title: str, lines: list[str]) -> str:
    return f"{title}:\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def _claim_rows(path: Path, level: float) -> list[dict[str, str]]:
    """The cells of one row for each claim and arm of claims.csv, losses first; intervals are at ``level``."""
    table = pd.read_csv(path, dtype=dict.fromkeys(("standing", "note", "earlier"), "str"))
    rows = [
        _claim_row(str(claim), str(arm), part, level)
        for (claim, arm), part in table.groupby(["claim", "arm"], sort=False)
    ]
    return sorted(rows, key=lambda row: row["verdict"] != LOSS)


def _claim_row(claim: str, arm: str, rows: pd.DataFrame, level: float) -> dict[str, str]:
    judged = rows[rows["role"] == JUDGED]
    last = rows[rows["role"] == "overall"].iloc[0].fillna("")
    return {
        "claim": f"{claim}: {last['statement']}",
        "arm": arm,
        f"our estimate ({level:.0%} CI)": _estimates(judged.dropna(subset="estimate")),
        "n": n_text(judged["n"]),
        "verdict": f"{last['verdict']}" if last["verdict"] != NOT_TESTABLE else str(judged["verdict"].iloc[0]),
        "standing": last["standing"].split(":")[0],
        "beside it": ". ".join(text for text in (last["earlier"], last["note"]) if text),
    }


def _estimates(known: pd.DataFrame) -> str:
    """Each of a few comparisons; of many in one unit the lowest and the highest."""
    if known.empty:
        return DASH
    if known["measure"].nunique() > 1:
        return "; ".join(_estimates(rows) for _, rows in known.groupby("measure", sort=False))
    ordered = known.sort_values("estimate", kind="stable")
    few = known if len(known) <= FEW else ordered.iloc[[0, -1]]
    texts = [f"{_numbers(row)} ({row['comparison']})" for row in few.to_dict("records")]
    return "; ".join(texts) if len(known) <= FEW else f"lowest {texts[0]}; highest {texts[1]}"


def _numbers(row: dict[Any, Any]) -> str:
    """Mean and interval, with the unit where it is not points."""
    ratio, nats = "ratio" in row["measure"], "nats" in row["measure"]
    text = number if ratio else signed
    numbers = _bracketed(*(text(row[key]) for key in ("estimate", "low", "high")))
    return numbers + " as a ratio" * ratio + " hundredths of a nat" * nats


def _bracketed(mean: str, low: str, high: str) -> str:
    return mean if low == DASH else f"{mean} [{low}, {high}]"


def _finding(name: str, page: Page) -> str:
    """Figure, sentences and table of one finding for each record that answers it, or how to run a study that would."""
    answering = {record: study for record, study in records(page.root).items() if name in study.get("findings", [])}
    parts = []
    for record, study in answering.items():
        path = page.root / "paper_tables" / record / f"finding_{name}.csv"
        table = pd.read_csv(path)
        figure = page.root / "figures" / record / f"finding_{name}.png"
        alt = f"{FINDINGS[name]} {study['title']}"
        rows = _shown(table)
        parts += [
            f"{study['title']} ({made(record, study, page)}).",
            page.overlaps[record],
            _figure(alt, figure, page),
        ]
        parts += ["\n".join(f"- {sentence}" for sentence in getattr(finding_words, name)(table))]
        parts += [grid(rows[0], [row.values() for row in rows])] if 0 < len(rows) <= LONGEST else []
        parts += [f"All numbers: `{page.link(path)}`."]
    return "\n\n".join(part for part in parts if part) or _not_run(name, page)


def _not_run(name: str, page: Page) -> str:
    """Which studies would answer the finding, and the command that runs them."""
    asking = [path for path in sorted((page.root / "config").glob("*.yaml")) if name in _findings_of(path)]
    commands = [f"`snakemake --cores N --configfile {path.relative_to(page.root)}`" for path in asking]
    return f"This has not been run yet. {'It is asked by: ' + ', '.join(commands) + '.' if commands else ''}".strip()


def _findings_of(path: Path) -> list[str]:
    return (yaml_files.load(path) or {}).get("findings") or []


def _shown(table: pd.DataFrame) -> list[dict[str, str]]:
    """``table`` to read: an estimate and its bounds in one cell, methods by name, no setting that all rows share."""
    left = {f"{column}{end}" for column in table for end in ("_low", "_high")}
    left |= {column for column in CELL if column in table and table[column].nunique(dropna=False) < 2}
    return [
        {str(key).replace("_", " "): _cell(row, str(key)) for key in row if key not in left}
        for row in table.to_dict("records")
    ]


def _cell(row: dict[Any, Any], key: str) -> str:
    value = row[key]
    if pd.isna(value):
        return DASH
    if f"{key}_low" in row:
        text, digits = number if key == "accuracy" else signed, 3 if key == "loss" else 2
        return _bracketed(*(text(row[f"{key}{end}"], digits) for end in ("", "_low", "_high")))
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return number(value) if key in PERCENT else f"{value:g}"
    return label(value) if key == "method" else str(value)
