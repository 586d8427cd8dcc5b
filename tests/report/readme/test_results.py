"""Pages filled from committed records: the README and the findings are up to date, and say what the numbers say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import synthetic
from conftest import ROOT

from ssa import cli
from ssa.analysis.claims.judge import write_claims
from ssa.errors import UserError
from ssa.report import findings
from ssa.report.readme import records, results
from ssa.report.readme import speed as summary_speed
from ssa.report.tables.study import write_tables
from ssa.study import questions

PLACES = "".join(f"<!-- begin: finding {name} -->\n<!-- end: finding {name} -->\n\n" for name in questions.FINDINGS)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with one record, the invented study, which answers two findings."""
    root = tmp_path_factory.mktemp("checkout")
    record = synthetic.write(root / "recorded" / "synthetic-cpu")
    children = pd.read_csv(record / "children.csv").query("lr_schedule == 'one-cycle'")
    children.to_csv(record / "children.csv", index=False)
    (record / "study.json").write_text(
        json.dumps({**synthetic.study(), "findings": ["controls", "losses"]}), encoding="utf-8"
    )
    tables, figures = (root / top / "synthetic-cpu" for top in ("paper_tables", "figures"))
    write_tables(record, tables)
    write_claims(record, tables)
    findings.write_findings(record, tables, figures)
    (root / "docs").mkdir()
    shutil.copytree(ROOT / "config", root / "config")
    return root


@pytest.mark.parametrize("name", ["README.md", "docs/findings.md", "docs/speed.md"])
def test_what_is_committed_is_up_to_date(name: str) -> None:
    page = records.Page(ROOT, ROOT / name)
    assert results.filled(page.path.read_text(encoding="utf-8"), page) == page.path.read_text(encoding="utf-8"), (
        "run make results"
    )


def test_every_finding_has_its_place() -> None:
    text = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert re.findall(r"^<!-- begin: finding (\w+) -->$", text, re.MULTILINE) == list(questions.FINDINGS)


def test_the_readme_has_a_row_for_each_claim_with_the_numbers_of_the_record(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(checkout)
    page = Path("README.md")
    page.write_text("# Title\n\n<!-- begin: claims -->\nold\n<!-- end: claims -->\n\nAfter.\n", encoding="utf-8")
    assert cli.main(["summary", "README.md"]) == 0
    assert cli.main(["summary", "README.md"]) == 0
    assert capsys.readouterr().out == "README.md filled\nREADME.md is up to date\n"
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Title\n\n<!-- begin: claims -->\n\n**An invented study**")
    assert text.endswith("\n\n<!-- end: claims -->\n\nAfter.\n")
    assert "old" not in text
    rows = {line.split(":")[0]: line for line in text.splitlines() if re.match(r"\| C\d", line)}
    assert list(rows) == [f"| C{i}" for i in range(1, 11)]
    first = pd.read_csv("paper_tables/synthetic-cpu/claims.csv").query("claim == 'C2'").iloc[0]
    assert f"{first.estimate:+.2f} [{first.low:+.2f}, {first.high:+.2f}]".replace("-", "−") in rows["| C2"]
    assert "No ensembles in this study" not in rows["| C2"]
    assert "not testable: no ensembles" in rows["| C3"].lower()
    assert "Nothing was trained." in text  # the deviation
    known = [
        line for line in text.splitlines() if line.startswith("| one-shot, magnitude, 90%, minus parent (points) |")
    ]
    assert len(known) == 1
    assert known[0].endswith("| at least −2.50 | rule of thumb | below |")
    assert "](figures/synthetic-cpu/forest_differences.png)" in text


def test_a_loss_comes_first_and_what_was_said_before_stands_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    path.write_text(
        "claim,statement,source,arm,role,measure,comparison,estimate,low,high,n,p,p_holm,against,verdict,standing,note,earlier\n"
        "C2,Better.,paper,small,judged,difference (points),a,1,0.5,1.5,6,0.1,,0,supported,,,\n"
        "C2,Better.,paper,small,overall,difference (points),overall,,,,,,,,supported,confirmatory: so,,\n"
        "C9,Small.,reviews,small,judged,difference (points),a,-1,-1.5,-0.5,6,0.1,,0.5,a loss,,,\n"
        "C9,Small.,reviews,small,cell,difference (points),b,-2,-2.5,-1.5,6,0.1,,0,below 0,,,\n"
        "C9,Small.,reviews,small,overall,difference (points),overall,,,,,,,,a loss,exploratory: so,why,by a rule: x\n",
        encoding="utf-8",
    )
    loss, gain = results._claim_rows(path, 0.97)
    assert loss == {
        "claim": "C9: Small.",
        "arm": "small",
        "our estimate (97% CI)": "−1.00 [−1.50, −0.50] (a)",
        "n": "6",
        "verdict": "a loss",
        "standing": "exploratory",
        "beside it": "by a rule: x. why",
    }
    assert (gain["verdict"], gain["standing"], gain["beside it"]) == ("supported", "confirmatory", "")


def test_a_record_says_which_larger_one_holds_its_runs_too(checkout: Path) -> None:
    page = records.Page(checkout, checkout / "README.md")
    folder = shutil.copytree(checkout / "recorded" / "synthetic-cpu", checkout / "recorded" / "part-cpu")
    children = pd.read_csv(folder / "children.csv")
    children.head(5).to_csv(folder / "children.csv", index=False)
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    (folder / "study.json").write_text(
        json.dumps({**study, "counts": {**study["counts"], "children": 5}}), encoding="utf-8"
    )
    told = records._overlaps(page)
    assert told == {
        "synthetic-cpu": "",
        "part-cpu": "Not independent: 6 of its parents and 5 of its children are those of `recorded/synthetic-cpu`.",
    }
    parents = pd.read_csv(folder / "parents.csv")
    parents.assign(accuracy=parents["accuracy"].where(parents.index > 0, 1)).to_csv(folder / "parents.csv", index=False)
    assert records._overlaps(page)["part-cpu"] == (
        "Not independent: 5 of its parents and 5 of its children are those of `recorded/synthetic-cpu`. "
        "Trained anew, as other networks: 1 of its parents have the settings of those of `recorded/synthetic-cpu`."
    )
    shutil.rmtree(folder)


def test_a_record_answers_its_findings_and_others_say_how_to_run_them(checkout: Path) -> None:
    page = records.Page(checkout, checkout / "docs" / "findings.md")
    text = results.filled(PLACES, page)
    parts = {part.split(" -->")[0]: part for part in text.split("<!-- begin: finding ")[1:]}
    assert "](../figures/synthetic-cpu/finding_controls.png)" in parts["controls"]
    assert "No noise (the expected mask): temperature annealing minus this control is +0." in parts["controls"]
    assert "`snakemake --cores N --configfile config/regime.yaml`" in parts["regime"]
    assert "not been run" in parts["lengths"]
    assert results.filled(text, page) == text


def speed_row(measure: str, value: float, n: int = 1, **more: object) -> dict[str, object]:
    numbers = {"value": value, "low": value / 2, "high": 2 * value, "n": n}
    return {"measure": measure, "network": "net", "unit": "x", "target": "", "met": None} | numbers | more


def test_speed_is_told_of_each_device_with_what_missed(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    rows = [
        speed_row("noise", 1.02, 60, target="at most 1.05", met=True),
        speed_row("ours over theirs", 1.9, target="at least 2", met=False),
        speed_row("images", 2500.4),
        speed_row("share of an epoch: convolutions", 0.615),
    ]
    beside = {"date": "2026-01-02T03:04:05+00:00", "git_commit": "abc", "versions": {"torch": "9.9"}}
    parts = {"one": {**beside, "load": 3.0, "rows": rows[:1]}, "two": {**beside, "load": 0.5, "rows": rows[1:]}}
    content = {"device": "A CPU", "cores": 2, "bf16": True, "parts": parts}
    (tmp_path / "benchmarks" / "a-cpu.json").write_text(json.dumps(content), encoding="utf-8")
    places = "".join(f"<!-- begin: speed {name} -->\n<!-- end: speed {name} -->\n" for name in summary_speed.PLACES)
    text = results.filled(places, records.Page(tmp_path, tmp_path / "README.md"))
    assert "**A CPU, 2 cores** (`benchmarks/a-cpu.json`: 2026-01-02, PyTorch 9.9, commit abc; load" in text
    assert text.count("when its parts began: 0.5 to 3)") == 3
    assert "| noise | net | 1.02 x | 0.51 to 2.04 | 60 | at most 1.05 | met |" in text
    assert "| ours over theirs | net | 1.9 x |  | 1 | at least 2 | **missed** |" in text
    assert text.count("| images | net | 2,500 x |  | 1 |\n") == text.count("noise") == 1
    assert "| where an epoch goes | net |\n| --- | --- |\n| convolutions | 61.5% |" in text
    (tmp_path / "benchmarks" / "a-cpu.json").write_text(json.dumps({**content, "bf16": False}), encoding="utf-8")
    assert "**A CPU, 2 cores without bf16 units** (" in results.filled(
        places, records.Page(tmp_path, tmp_path / "x.md")
    )


def test_the_filled_page_is_sound_markdown(checkout: Path) -> None:
    page = records.Page(checkout, checkout / "docs" / "index.md")
    page.path.write_text("# Findings\n\n" + results.filled(PLACES, page), encoding="utf-8")
    (checkout / "docs" / "conf.py").write_text('extensions = ["myst_parser"]', encoding="utf-8")
    options = ["-q", "-W", "--keep-going", "-b", "html", str(checkout / "docs"), str(checkout / "html")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert (checkout / "html" / "_images" / "finding_losses.png").is_file()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing", "has no place to fill"),
        (
            "<!-- begin: finding noise -->\n<!-- end: finding noise -->\n",
            "place 'finding noise' is not known; allowed: claims, find",
        ),
    ],
)
def test_a_page_without_a_place_or_with_an_unknown_one_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        results.filled(text, records.Page(tmp_path, tmp_path / "page.md"))
