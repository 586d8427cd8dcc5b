"""Pages written from templates and committed records are up to date, and say what the numbers say."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import synthetic
from conftest import ROOT

from ssa import cli
from ssa.errors import UserError
from ssa.report.readme import claims, records, speed, text
from ssa.report.readme.records import Page
from ssa.report.record import Record
from ssa.report.registry import TABLES
from ssa.report.write import write_tables, write_verdicts
from ssa.study.questions import FINDINGS


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
    write_tables(Record(record), root / "paper_tables" / "synthetic-cpu")
    write_verdicts(Record(record), root / "paper_tables" / "synthetic-cpu")
    (root / "docs").mkdir()
    shutil.copytree(ROOT / "config", root / "config")
    return root


@pytest.mark.parametrize("name", ["README.md", "docs/results.md", "docs/findings.md", "docs/speed.md"])
def test_what_is_committed_is_up_to_date(name: str) -> None:
    assert text.filled(Page(ROOT, ROOT / name)) == (ROOT / name).read_text(encoding="utf-8"), "run make results"


def test_every_finding_is_told() -> None:
    told = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", told, re.MULTILINE) == [TABLES[f"finding_{name}"].label for name in FINDINGS]


def test_no_finding_is_longer_than_120_words() -> None:
    told = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    findings = [part.partition("\n") for part in told.split("\n## ")[1:]]
    lengths = {title: len(words.partition("![")[0].split()) for title, _, words in findings}
    assert [title for title, length in lengths.items() if length > 120] == []


def page_of(root: Path, template: str) -> Page:
    """A page of ``root`` whose template says ``template``."""
    folder = root / "docs" / "templates"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "page.md").write_text(template, encoding="utf-8")
    return Page(root, root / "page.md")


@pytest.fixture
def told(tmp_path: Path) -> Callable[[str], str]:
    """A template's text, beside one table with a gain, a loss and neither."""
    tables = tmp_path / "paper_tables" / "one-cpu"
    tables.mkdir(parents=True)
    (tables / "finding_x.csv").write_text(
        "method,sparsity,gain,gain_low,gain_high,n\n"
        "up,90,2.004,1.5,2.5,4\ndown,90,-1,-1.5,-0.25,4\nopen,90,0.2,-1,1.4,4\nup,,0.30103,0.1,0.5,3\n",
        encoding="utf-8",
    )
    return lambda template: text.filled(page_of(tmp_path, template))


def test_a_number_is_told_with_its_interval_in_the_direction_that_the_sentence_says(told: Callable[[str], str]) -> None:
    assert told('{{ row("one-cpu/finding_x", method="up", sparsity=90).higher("gain") }}') == (
        "2.00 points (1.50 to 2.50, n = 4)"
    )
    assert told('{{ row("one-cpu/finding_x", method="down").lower("gain", "nats") }}') == (
        "1.00 nats (0.25 to 1.50, n = 4)"
    )
    assert told('{{ row("one-cpu/finding_x", method="open").undecided("gain") }}') == (
        "+0.20 points (−1.00 to +1.40, n = 4)"
    )
    assert told('{{ row("one-cpu/finding_x", method="down").cell("gain") }}') == "−1.00 [−1.50, −0.25]"
    assert told('{{ row("one-cpu/finding_x", method="up", sparsity=None).factor("gain") }}') == "2.00 (1.26 to 3.16)"
    assert told('{{ count("one-cpu/finding_x", "gain_low > 0") }} of {{ count("one-cpu/finding_x") }}') == "2 of 4"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ('{{ row("one-cpu/finding_x", method="down").higher("gain") }}', "gain is said to lie above 0, and is -1 "),
        ('{{ row("one-cpu/finding_x", method="open").higher("gain") }}', "gain is said to lie above 0, and is 0.2 "),
        ('{{ row("one-cpu/finding_x", method="open").lower("gain") }}', "gain is said to lie below 0, and is 0.2 "),
        ('{{ row("one-cpu/finding_x", method="down").undecided("gain") }}', "on both sides of 0, and is -1 "),
        ('{{ row("one-cpu/finding_x", method="open").factor("gain") }}', "away from 1, and is 0.2 "),
        ('{{ row("one-cpu/finding_x", method="up").cell("gain") }}', "for one row with .*, and it has 2"),
        ('{{ row("one-cpu/finding_x", law="up").cell("gain") }}', "has no column 'law'"),
        ('{{ row("one-cpu/finding_x", method="down").cell("loss") }}', "has no column 'loss'"),
        ('{{ row("two-cpu/finding_x", method="up").cell("gain") }}', "two-cpu/finding_x.csv, which does not exist"),
        ('{{ check(1 > 2, "one is more than two") }}', "says that one is more than two, and that does not hold"),
        ("{{ unheard }}", "'unheard' is undefined"),
        ("{% if %}", "docs/templates/page.md: "),
    ],
)
def test_a_sentence_that_no_longer_holds_and_a_number_that_is_missing_are_one_line(
    template: str, says: str, told: Callable[[str], str]
) -> None:
    with pytest.raises(UserError, match=says) as error:
        told(template)
    assert "\n" not in str(error.value)


def test_a_page_has_a_row_for_each_claim_with_the_numbers_of_the_record(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(checkout)
    page_of(Path(), "# Title\n\n{{ claims() }}\n\nAfter.\n")
    assert cli.main(["summary", "page.md"]) == 0
    assert cli.main(["summary", "page.md"]) == 0
    assert capsys.readouterr().out == "page.md written\npage.md is up to date\n"
    told = Path("page.md").read_text(encoding="utf-8")
    head = "# Title\n\n## An invented study\n\nRecord: `recorded/synthetic-cpu`.\n\n"
    assert told.startswith(f"{head}![{claims.ALT}](figures/synthetic-cpu/summary.png)\n\n| claim |")
    assert told.endswith("\n\nAfter.\n")
    rows = {line.split(":")[0]: line for line in told.splitlines() if re.match(r"\| C\d", line)}
    assert list(rows) == [f"| C{i}" for i in range(1, 11)]
    first = pd.read_csv("paper_tables/synthetic-cpu/claims.csv").query("claim == 'C2'").iloc[0]
    assert f"{first.estimate:+.2f} [{first.low:+.2f}, {first.high:+.2f}]".replace("-", "−") in rows["| C2"]
    assert "No ensembles in this study" not in rows["| C2"]
    assert "not testable: no ensembles" in rows["| C3"].lower()
    assert "Nothing was trained." in told  # the deviation
    (known,) = re.findall(r"^\| one-shot, magnitude, 90%, minus parent .*$", told, re.MULTILINE)
    assert known.endswith("| at least −2.50 | rule of thumb | below |")


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
    loss, gain = claims._claim_rows(path, 0.97)
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


def test_the_table_of_records_says_which_runs_a_larger_one_has_too(checkout: Path) -> None:
    page = Page(checkout, checkout / "README.md")
    folder = shutil.copytree(checkout / "recorded" / "synthetic-cpu", checkout / "recorded" / "part-cpu")
    children = pd.read_csv(folder / "children.csv")
    children.head(5).to_csv(folder / "children.csv", index=False)
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    counts, record = {**study["counts"], "children": 5}, {**study["record"], "planned": {"children": 9}}
    (folder / "study.json").write_text(json.dumps({**study, "counts": counts, "record": record}), encoding="utf-8")
    whole, part = records.table_of_records(page)
    assert (whole["record"], whole["same runs as"], whole["trained anew"]) == ("`synthetic-cpu`", "–", "–")
    assert (part["parents"], part["children"], part["ensembles"]) == ("6", "5 of 9", "–")
    assert (part["same runs as"], part["trained anew"]) == ("synthetic-cpu: 6 parents, 5 children", "–")
    parents = pd.read_csv(folder / "parents.csv")
    parents.assign(accuracy=parents["accuracy"].where(parents.index > 0, 1)).to_csv(folder / "parents.csv", index=False)
    _, part = records.table_of_records(page)
    assert part["same runs as"] == "synthetic-cpu: 5 parents, 5 children"
    assert part["trained anew"] == "synthetic-cpu: 1 parents"
    told = text.filled(page_of(checkout, "{{ records() }}\n"))
    assert told.startswith("| record | parents | children | ensembles | hours | hardware | made |")
    shutil.rmtree(folder)


def test_a_finding_has_its_n_its_record_and_its_numbers(told: Callable[[str], str]) -> None:
    assert told('{{ source("one-cpu", "x") }}') == (
        "n = 3 to 4, record [one-cpu](results.md), [CSV](paper_tables/one-cpu/finding_x.csv)"
    )


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
    page = page_of(tmp_path, "".join(f'{{{{ speed("{name}") }}}}\n\n' for name in speed.PLACES))
    told = text.filled(page)
    assert "**A CPU, 2 cores** (`benchmarks/a-cpu.json`: 2026-01-02, PyTorch 9.9, commit abc; load" in told
    assert told.count("when its parts began: 0.5 to 3)") == 3
    assert "| noise | net | 1.02 x | 0.51 to 2.04 | 60 | at most 1.05 | met |" in told
    assert "| ours over theirs | net | 1.9 x |  | 1 | at least 2 | **missed** |" in told
    assert told.count("| images | net | 2,500 x |  | 1 |\n") == told.count("noise") == 1
    assert "| where an epoch goes | net |\n| --- | --- |\n| convolutions | 61.5% |" in told
    (tmp_path / "benchmarks" / "a-cpu.json").write_text(json.dumps({**content, "bf16": False}), encoding="utf-8")
    assert "**A CPU, 2 cores without bf16 units** (" in text.filled(page)
    assert text.filled(page_of(tmp_path, '{{ benchmark("a-cpu", "images", "net") }}')) == "2,500 x"
    with pytest.raises(UserError, match=r"a-cpu\.json has 0 rows of 'sounds' for 'net'"):
        text.filled(page_of(tmp_path, '{{ benchmark("a-cpu", "sounds", "net") }}'))
