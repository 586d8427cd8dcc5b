"""The worth of a verdict: a record that was judged by other rules before has both, and where a commit is."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from conftest import ROOT

from ssa.analysis.claims.standing import EARLIER, planned_parents
from ssa.process import provenance
from ssa.study.claims import Section

TURNED = sorted(path.parent.name for path in (ROOT / "recorded").glob(f"*/{EARLIER}"))


def first_word(verdict: str) -> str:
    return re.split(r"[ ,:]", verdict)[0]


@pytest.mark.parametrize("record", TURNED)
def test_every_verdict_that_changed_has_its_line_in_the_results(record: str) -> None:
    rows = pd.read_csv(ROOT / "paper_tables" / record / "claims.csv", dtype={"earlier": "str"})
    ends = rows[(rows["role"] == "overall") & rows["earlier"].notna()]
    assert len(ends)
    lines = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    for row in ends.itertuples():
        before = row.earlier.partition(": ")[2]
        if first_word(before) != first_word(row.verdict):
            head = f"| `{record}` | {row.claim}, "
            assert any(line.startswith(head) and f"| {before} | {row.verdict} |" in line for line in lines), (
                record,
                row,
            )


def test_a_plan_says_its_looks() -> None:
    assert planned_parents(Section()) == "The number of parents was not fixed beforehand."
    assert planned_parents(Section(planned=8)) == "Planned: 8 parents, no interim look."
    looked = planned_parents(Section(planned=6, looks=(4,), confidence=0.97))
    assert looked == "Planned: 6 parents, with a look at the results after 4: intervals at 97%."


def test_a_commit_that_was_not_kept_is_said_and_a_match_by_date_is_called_a_guess() -> None:
    here = provenance.git_commit().removesuffix("+")
    assert provenance.whereabouts(here, "") == "in this repository"
    assert provenance.whereabouts(f"{here}+", "") == "in this repository with changes that were not committed"
    assert provenance.whereabouts("", "") == "not recorded"
    assert provenance.whereabouts("0123456789ab", "") == "not kept: this repository has no commit 0123456789ab"
    guessed = provenance.whereabouts("0123456789ab", provenance.now())
    assert re.search(r"the last commit before the run began is [0-9a-f]+ of \d{4}-\d\d-\d\d, a guess by date$", guessed)
