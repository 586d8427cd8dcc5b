"""The files that a planned study's tables, figures, verdicts and page will be, as Snakemake declares them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ssa.report.registry import FIGURES, TABLES
from ssa.results.planned import Planned

CLAIMS = (
    "Each claim of the paper that this study can test: estimate, confidence interval, n, and the verdict by a rule "
    "that was written down beforehand."
)
PAGE = (
    "The study on one page: the question, what was run, the verdicts, results to explore, all tables and figures, and "
    "where every setting comes from."
)


@dataclass(frozen=True)
class Output:
    """One file: its path, and if Snakemake's report shows it, its caption, category and labels."""

    path: str
    caption: str = ""
    category: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def outputs(name: str, page: str, plan: Planned) -> Iterator[Output]:
    """The files of the study or record ``name``, whose page is the file ``page``."""
    for table, entry in TABLES.items():
        if entry.has(plan):
            path = f"paper_tables/{name}/{table}"
            yield Output(f"{path}.csv", entry.told, entry.section, (("table", entry.label),))
            if not table.startswith("finding_"):  # their numbers are read from .csv alone
                yield from (Output(f"{path}.{ending}") for ending in ("md", "tex"))
    if plan.claims:
        yield Output(f"paper_tables/{name}/claims.csv", CLAIMS, "Claims", (("table", "a verdict on each claim"),))
        yield Output(f"paper_tables/{name}/claims.md")
    for figure, entry in FIGURES.items():
        if entry.has(plan):
            path = f"figures/{name}/{figure}"
            yield Output(f"{path}.png", entry.told, entry.section, (("figure", entry.label),))
            yield Output(f"{path}.pdf")
    yield Output(page, PAGE, "Report", (("page", "the study on one page"),))
