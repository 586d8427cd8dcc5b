from __future__ import annotations

import base64
import csv
import gzip
import json
import shutil
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
import synthetic
import synthetic_ensembles
from conftest import ROOT
from plotly.offline import get_plotlyjs
from tracked import PIXEL

from ssa.errors import UserError
from ssa.report.page import claims as report_claims
from ssa.report.page import page as report
from ssa.report.page import tables as report_tables
from ssa.report.page.explorer import explorer
from ssa.report.page.tables import Cell, ShownTable, StudyTable
from ssa.report.record import Record
from ssa.report.registry import ENSEMBLES, FIGURES, STUDY
from ssa.report.write import write_report, write_tables, write_verdicts
from ssa.results.children import read_children
from ssa.study import study as study_files
from ssa.study.claims import ASIDE
from ssa.study.methods import in_order
from ssa.tracking import study_run

CAPTIONS = {name: entry.caption for name, entry in FIGURES.items() if entry.section == STUDY}
ENSEMBLE_CAPTIONS = {name: entry.caption for name, entry in FIGURES.items() if entry.section == ENSEMBLES}
RECORD = ("children.csv", "history.parquet", "parents.csv")
HOSTILE = '<script>alert("title")</script>'
HEAD = (
    "claim,statement,source,arm,role,measure,comparison,estimate,low,high,n,p,p_holm,against,"
    "verdict,standing,note,earlier\n"
)
VOID = {"meta", "link", "img", "br", "input", "hr"}
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}


class Page(HTMLParser):
    """The elements of a page; complains where tags are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = synthetic.write(tmp_path_factory.mktemp("study"))
    write_tables(Record(made), made / "tables")
    write_verdicts(Record(made), made / "tables")
    history = pd.read_parquet(made / "history.parquet")
    history[history["epoch"] % 10 == 0].to_parquet(made / "history.parquet")  # so that the page is written sooner
    draw(made / "figures", CAPTIONS)
    return made


def draw(folder: Path, names: Iterable[str]) -> None:
    """A picture of each name in ``folder``."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.png").write_bytes(PIXEL)


def written(folder: Path, name: str = "report.html") -> str:
    report.write_page(Record(folder), folder / "tables", folder / "figures", folder / name)
    return (folder / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return written(folder)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def forest(panel: report_claims.Panel) -> str:
    macros: Any = report.environment().get_template("macros.html.j2").module
    return str(macros.forest(panel, report_claims.MARKS))


def said(page: Page) -> str:
    return " ".join(" ".join(page.text).split())


def test_every_claim_stands_with_its_rule_and_verdict(page: Page) -> None:
    ids = {attrs.get("id") for _, attrs in page.elements}
    assert {f"C{i}" for i in range(1, 11)} <= ids
    assert "Holm's adjustment" in said(page)
    for verdict in ("supported", "contradicted", "undecided", "not testable"):
        assert verdict in said(page)
    assert "SSA temperature minus One-shot: 98%, one-cycle rate" in said(page)


def test_every_figure_is_within_the_page_with_its_caption(page: Page) -> None:
    images = [image for image in page.all("img") if "src" in image]  # one more is filled where a figure is enlarged
    assert len(images) == len(CAPTIONS)
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] and image["width"] and image["height"] for image in images)
    assert all(caption in said(page) for caption in CAPTIONS.values())
    folded = {entry.reading for entry in FIGURES.values() if entry.section == STUDY}
    assert all(reading in said(page) for reading in folded)
    assert len(page.all("details")) >= len(folded)


def test_captions_are_a_sentence_and_fit_on_a_phone() -> None:
    for name, entry in FIGURES.items():
        assert entry.caption.endswith("."), name
        assert ". " not in entry.caption, name
        assert len(entry.caption) <= 90, name


def test_every_table_stands_with_its_numbers(folder: Path, page: Page) -> None:
    for path in folder.glob("tables/table*.md"):
        table = report_tables.read_tables(path)
        assert table.title in said(page)
        assert table.note in said(page)
        assert "figures.md" not in table.note
        for part in table.parts:
            assert part.caption in said(page)
            assert part.rows[-1][-1].text in said(page)


def test_the_page_says_what_was_run_and_where_settings_come_from(page: Page) -> None:
    study = synthetic.study()
    for text in (study["question"], study["regime"], *study["assumptions"], *study["deviations"], "torch 0.0"):
        assert text in said(page)
    assert "2024-01-01 00:00 UTC, 2024-01-01 01:00 UTC" in said(page)
    assert "--configfile config/synthetic.yaml" in said(page)
    assert "child tau 0.5 summary" in said(page)


def test_nothing_is_loaded_from_elsewhere(text: str, page: Page) -> None:
    loaded = [attrs.get(LOADS[tag]) for tag, attrs in page.elements if tag in LOADS]
    assert loaded
    assert all((address or "data:").startswith("data:") for address in loaded)
    assert all("src" not in script for script in page.all("script"))
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text


def test_the_page_is_semantic(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert len(page.all("caption")) == len(page.all("table")) == len(page.all("thead"))
    assert len(page.all("figure")) == len(page.all("figcaption")) == len(CAPTIONS) + 3  # and three charts
    assert {attrs.get("scope") for attrs in page.all("th")} == {"col", "row"}
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    places = [link for link in page.all("a") if "download" not in link]
    assert {(link["href"] or "").removeprefix("#") for link in places} <= set(ids)


def test_the_same_record_gives_the_same_page(folder: Path, text: str) -> None:
    assert text == written(folder, "again.html")


def changed(folder: Path, copy: Path, **values: Any) -> str:
    copy.mkdir(exist_ok=True)
    for name in RECORD:
        shutil.copy(folder / name, copy)
    (copy / "study.json").write_text(json.dumps({**synthetic.study(), **values}), encoding="utf-8")
    report.write_page(Record(copy), folder / "tables", folder / "figures", copy / "report.html")
    return (copy / "report.html").read_text(encoding="utf-8")


def test_hostile_text_is_shown_and_not_run(folder: Path, tmp_path: Path) -> None:
    setting = {"scope": "<b>", "key": '"><img src=x onerror=alert(1)>', "value": "</td>", "source": "assumed"}
    page = Page(changed(folder, tmp_path, title=HOSTILE, assumptions=[HOSTILE], hyperparameters=[setting]))
    assert len(page.all("script")) == 5  # the page's own, with the data and the library
    assert len(page.all("img")) == len(CAPTIONS) + 1
    assert said(page).count(HOSTILE) == 3  # the title, the heading and the assumption


def test_a_study_without_claims_says_so(folder: Path, tmp_path: Path) -> None:
    for name in RECORD:
        shutil.copy(folder / name, tmp_path)
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "claims.csv").touch()  # of an earlier version that tested some
    few = pd.read_csv(folder / "children.csv").query("criterion == 'random' and sparsity == 98 and parent_seed < 2")
    few.to_csv(tmp_path / "children.csv", index=False)
    told = {**synthetic.study(), "claims": {}, "counts": {**synthetic.study()["counts"], "children": len(few)}}
    (tmp_path / "study.json").write_text(json.dumps(told), encoding="utf-8")
    write_report(tmp_path, tables, tmp_path / "figures", tmp_path / "report.html")
    assert "This study tests no claims." in said(Page((tmp_path / "report.html").read_text(encoding="utf-8")))
    assert not (tables / "claims.csv").exists()


def test_what_there_is_no_file_of_is_not_shown(folder: Path, tmp_path: Path) -> None:
    tables, figures = (shutil.copytree(folder / name, tmp_path / name) for name in ("tables", "figures"))
    (tables / "table2_ablation.md").unlink()
    (figures / "ablation_heatmap.png").unlink()
    report.write_page(Record(folder), tables, figures, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert FIGURES["ablation_heatmap"].caption not in said(page)
    assert "Ablation of temperature annealing" not in said(page)
    assert "Table 3. " in said(page)
    assert "Table 4. " not in said(page)


@pytest.mark.parametrize("missing", ["study.json", "children.csv", "parents.csv", "history.parquet"])
def test_a_missing_file_is_named_with_the_stage_that_writes_it(folder: Path, missing: str, tmp_path: Path) -> None:
    for name in {*RECORD, "study.json"} - {missing}:
        shutil.copy(folder / name, tmp_path)
    with pytest.raises(UserError, match=rf"{missing} is missing: run ssa aggregate first"):
        write_report(tmp_path, tmp_path / "tables", tmp_path / "figures", tmp_path / "report.html")
    assert not (tmp_path / "tables").exists()


def test_markdown_tables_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    path.write_text(
        "# Title\n\nNote.\n\nFirst.\n\n| a | b |\n| --- | --- |\n| x \\| y | **1.0** |\n\nSecond.\n\n| c |\n| --- |\n",
        encoding="utf-8",
    )
    first = ShownTable("First.", ["a", "b"], [[Cell("x | y"), Cell("1.0", bold=True)]])
    second = ShownTable("Second.", ["c"], [])
    assert report_tables.read_tables(path) == StudyTable("Title", "Note.", [first, second])


def test_columns_of_dashes_are_left_out() -> None:
    lines = [{"a": "x", "b": "–", "c": "[–, –]", "d": "–"}, {"a": "y", "b": "", "c": "[–, –]", "d": "1.0"}]
    table = report_tables.of_lines("", lines)
    assert table.head == ["a", "d"]
    assert [[cell.text for cell in row] for row in table.rows] == [["x", "–"], ["y", "1.0"]]


def test_hours_add_up_to_the_whole_with_the_members_of_ensembles() -> None:
    study = {"record": {"train_hours": 6.0}}
    parents, children = (pd.DataFrame({"train_seconds": [3600.0 * hours]}) for hours in (1, 4.5))
    found = report.hours(study, parents, children, ensembles=True)
    assert found == {"parents": 1, "children": 4.5, "other members of ensembles": 0.5}
    assert set(report.hours(study, parents, children, ensembles=False)) == {"parents", "children"}


def test_a_demonstrations_verdicts_say_that_they_are_one(folder: Path, tmp_path: Path, page: Page) -> None:
    assert "demonstration" not in said(page)
    demo = Page(changed(folder, tmp_path, demonstration=True))
    verdicts = [attrs for attrs in demo.all("span") if (attrs.get("class") or "").startswith("verdict ")]
    badges = [attrs for attrs in demo.all("span") if attrs.get("class") == "demo"]
    assert len(badges) == len(verdicts) > 10
    assert "no evidence about the paper" in said(demo)
    assert study_files.load(ROOT / "config" / "demo.yaml").raw["demonstration"] is True


def rows_of(address: str) -> list[dict[str, str]]:
    """The rows of the CSV file that is within a link."""
    head, text = address.split(",", 1)
    assert head == "data:text/csv;charset=utf-8"
    return list(csv.DictReader(unquote(text).splitlines()))


def test_every_table_and_every_figure_has_its_numbers_as_csv(folder: Path, page: Page) -> None:
    links = {str(link["download"]): str(link["href"]) for link in page.all("a") if "download" in link}
    for path in folder.glob("tables/table*.csv"):
        assert rows_of(links[path.name]) == list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    figures = [figure["id"] for figure in page.all("figure") if "id" in figure]
    assert len(figures) == len(CAPTIONS)
    assert all(rows_of(links[f"{name}.csv"]) for name in figures)
    own = [
        label for label in page.all("div") if label.get("class") == "scroll" and "part" not in str(label["aria-label"])
    ]
    assert len(own) > 10  # the page's own tables; those of the study have one file for all of their parts
    for label in own:
        if label["aria-label"] != "The chosen results in numbers":  # of which a script makes the file
            assert rows_of(links[f"{label['aria-label']}.csv"])


def test_findings_stand_on_the_page_with_their_numbers(folder: Path, page: Page, tmp_path: Path) -> None:
    assert "#findings" not in [link["href"] for link in page.all("a")]
    tables, figures = (shutil.copytree(folder / name, tmp_path / name) for name in ("tables", "figures"))
    (tables / "finding_controls.csv").write_text("method,gain,n\niterative,1.575,12\n", encoding="utf-8")
    draw(figures, ["finding_controls"])
    report.write_page(Record(folder), tables, figures, tmp_path / "page.html")
    asked = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "#findings" in [link["href"] for link in asked.all("a")]
    entry = FIGURES["finding_controls"]
    assert f"{entry.label} {entry.caption}" in said(asked)
    (link,) = [str(link["href"]) for link in asked.all("a") if link.get("download") == "finding_controls.csv"]
    assert rows_of(link) == [{"method": "iterative", "gain": "1.575", "n": "12"}]


def test_the_curves_file_has_means_over_parents_by_epoch(folder: Path, page: Page) -> None:
    (link,) = [str(link["href"]) for link in page.all("a") if link.get("download") == "learning_curves.csv"]
    children, history = read_children(folder), pd.read_parquet(folder / "history.parquet")
    at = {"criterion": "random", "method": "one-shot", "sparsity": 98, "lr_schedule": "one-cycle"}
    mine = children[(children[list(at)] == pd.Series(at)).all(axis=1)]
    last = history[history["child_id"].isin(mine["child_id"]) & (history["epoch"] == 20)]
    keys = {key: str(value) for key, value in at.items()} | {"epoch": "20"}
    (row,) = [row for row in rows_of(link) if all(row[key].removesuffix(".0") == value for key, value in keys.items())]
    assert float(row["mean"]) == pytest.approx(last["test_accuracy"].mean(), abs=1e-3)
    assert row["n"] == "6"


def test_parents_are_summed_up_by_kind() -> None:
    head = {"dataset": "digits", "model": "net", "epochs": 30}
    wide, thin = ({**head, "parent": kind} for kind in ("wide", "thin"))
    two = [{**wide, "parent_seed": 1, "accuracy": 90}, {**wide, "parent_seed": 0, "accuracy": 92}]
    made = report_tables.table_of_parents(pd.DataFrame([*two, {**thin, "parent_seed": 0, "accuracy": 80}]))
    assert [[cell.text for cell in row] for row in made.rows] == [
        ["thin", "digits", "net", "30", "0", "1", "80.00 (n = 1, no interval)"],
        ["wide", "digits", "net", "30", "0, 1", "2", "91.00 (n = 2, no interval)"],
    ]
    three = pd.DataFrame([{**wide, "parent_seed": seed, "accuracy": found} for seed, found in enumerate((89, 91, 90))])
    made = report_tables.table_of_parents(three)
    assert made.rows[0][-1].text == "90.00 ± 2.48"  # t(0.975, 2) = 4.303, s.e. 1 / sqrt(3)


def test_a_claims_intervals_are_drawn_on_one_axis(tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    path.write_text(
        f"{HEAD}C2,Better.,paper,small,judged,difference (points),a,1,0,2,6,0.1,,0,undecided,,,\n"
        "C2,Better.,paper,small,cell,difference (points),b,1,0,2,6,0.1,,0,above 0,,,\n"
        "C2,Better.,paper,small,judged,difference (points),c,9,-20,40,6,0.1,,0,undecided,,,\n"
        "C2,Better.,paper,small,overall,difference (points),overall,,,,,,,,a loss,exploratory: so,wide,by a rule\n",
        encoding="utf-8",
    )
    claim = report_claims.read_claims(path, {})[0]
    assert claim.verdicts[0].panels[0].axis == report_claims.Axis(0, 2, 0)  # the widest does not set it
    first, cell, wide = claim.verdicts[0].panels[0].drawn
    assert (first.kind, cell.kind, claim.verdicts[0].kind) == ("undecided", "above", "loss")
    assert (first.mean, first.start, first.width) == (50.0, 0.0, 100.0)
    assert (first.levels, cell.levels, claim.levels) == ((10.0,), (), [0.2])  # a cell's side is that of 0
    assert claim.bars.endswith(" Dotted: the thresholds that the verdict asks for beside 0 (0.2).")
    assert '<i class="level" style="left: 10.0%">' in forest(claim.verdicts[0].panels[0])
    assert (first.numbers, first.left, first.right) == ("+1.00 (0.00 to +2.00)", False, False)
    assert (wide.mean, wide.start, wide.width, wide.left, wide.right) == (100.0, 0.0, 100.0, True, True)
    assert claim.verdicts[0].tally == "2 undecided"
    assert claim.verdicts[0].told == ["Exploratory: so.", "By a rule.", "Wide."]


def test_each_row_of_a_claim_with_several_measures_has_its_own_and_a_cost_has_no_n(tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    accuracy = "C3,Better.,paper,small,judged,gain in accuracy (points),a,1,0.5,2,3,0.1,0.1,0,undecided,,,\n"
    end = "C3,Better.,paper,small,overall,gain in accuracy (points),overall,,,,,,,,undecided,,,\n"
    cost = "C3,Better.,paper,small,beside,ratio of training epochs,a,1.02,,,,,,1,,,,\n"
    path.write_text(HEAD + accuracy + cost + end, encoding="utf-8")
    (claim,) = report_claims.read_claims(path, {})
    table = claim.verdicts[0].numbers
    assert table.head == ["Comparison", "Estimate", "95% CI", "n", "p", "p (Holm)", "Verdict"]
    assert [[cell.text for cell in row[:4]] for row in table.rows] == [
        ["Gain in accuracy (points): a", "1.00", "0.50 to 2.00", "3"],
        ["Ratio of training epochs: a", "1.02", "–", "–"],
    ]
    assert claim.bars.startswith("Bars: the measure above them, with its interval over n seeds where n is given.")
    shown = [forest(panel) for panel in claim.verdicts[0].panels]
    assert ["n = " in text for text in shown] == [True, False]
    path.write_text(HEAD + accuracy + end, encoding="utf-8")
    (claim,) = report_claims.read_claims(path, {})
    assert claim.verdicts[0].numbers.head[:2] == ["Comparison", "Gain in accuracy (points)"]
    assert claim.bars.startswith("Bars: gain in accuracy (points), mean and interval over n seeds.")


def test_a_p_that_is_not_against_zero_says_against_what(tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    row = "C10,Hardly.,reviews,small,judged,difference (points),a,1,0.5,2,3,0.1,,{},undecided,,,\n"
    end = "C10,Hardly.,reviews,small,overall,difference (points),overall,,,,,,,,undecided,,,\n"
    said = []
    for against in ("0", "0.5"):
        path.write_text(HEAD + row.format(against) + end, encoding="utf-8")
        (claim,) = report_claims.read_claims(path, {})
        numbers = claim.verdicts[0].numbers
        said.append(numbers.rows[0][numbers.head.index("p")].text)
    assert said == ["0.100", "0.100 (against 0.5)"]


def test_a_claim_that_was_not_tested_says_why(tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    path.write_text(
        f"{HEAD}C3,Better.,paper,small,judged,gain (points),a,,,,0,,,0,not testable: no ensembles in this study,,,\n"
        "C3,Better.,paper,small,judged,gain (points),b,,,,0,,,0,not testable: no ensembles in this study,,,\n"
        "C3,Better.,paper,small,overall,gain (points),overall,,,,,,,,not testable,,,\n",
        encoding="utf-8",
    )
    (verdict,) = report_claims.read_claims(path, {})[0].verdicts
    assert (verdict.text, verdict.tally) == ("not testable", "no ensembles in this study")


def test_an_exploratory_arm_of_the_same_name_keeps_its_own_verdict(tmp_path: Path) -> None:
    rows = "".join(
        f"C1,Better.,paper,small,judged,gain (points),{base},1,0.5,2,3,0.1,,0,{verdict},{standing},,\n"
        f"C1,Better.,paper,small,overall,gain (points),overall,,,,,,,,{verdict},{standing},,\n"
        for base, verdict, standing in (("a", "supported", "confirmatory"), ("b", "contradicted", ASIDE))
    )
    (tmp_path / "claims.csv").write_text(HEAD + rows, encoding="utf-8")
    (claim,) = report_claims.read_claims(tmp_path / "claims.csv", {})
    assert [(verdict.text, len(verdict.numbers.rows)) for verdict in claim.verdicts] == [
        ("supported", 1),
        ("contradicted", 1),
    ]
    found = study_run.verdicts(tmp_path / "claims.csv")
    assert found == {"claims/C1/small": "supported", "claims/C1/small, exploratory": "contradicted"}


def test_the_ends_of_an_axis_are_plain_numbers() -> None:
    shown = forest(report_claims.Panel("", report_claims.Axis(-46.2, 130, 0), []))
    assert "−46.2<" in shown
    assert ">130<" in shown


@pytest.mark.parametrize(
    ("claim", "measure", "against", "numbers", "axis"),
    [
        ("C1", "difference (points)", 0, "1,-1.84,3.54", (-2, 4, 0)),
        ("C5", "difference (points)", 4, "0.5,0.1,0.9", (0, 4, 0)),  # the threshold is on it
        ("C9", "difference (points)", 0.5, "0,,", (0, 0.5, 0)),
        ("C2", "difference (points)", 0, "-0.03,-0.06,0.01", (-0.1, 0.2, 0)),
        ("C8", "difference (points)", 0, "0,,", (-1, 1, 0)),
        ("C8", "ratio of variances", 0, "1.1,0.28,4.94", (0.2, 10, 1)),
        ("C8", "ratio of variances", 0, "1,,", (0.5, 2, 1)),
    ],
)
def test_an_axis_ends_at_round_numbers_and_holds_the_thresholds(
    claim: str, measure: str, against: float, numbers: str, axis: tuple[float, ...], tmp_path: Path
) -> None:
    path, head = tmp_path / "claims.csv", f"{claim},Better.,paper,small"
    row = f"{head},judged,{measure},a,{numbers},6,0.1,,{against},undecided,,,\n"
    path.write_text(f"{HEAD}{row}{head},overall,{measure},overall,,,,,,,,undecided,,,\n", encoding="utf-8")
    found = report_claims.read_claims(path, {})[0].verdicts[0].panels[0].axis
    assert found is not None
    assert (found.low, found.high, found.none) == pytest.approx(axis)


def test_a_ratio_has_a_logarithmic_axis() -> None:
    axis = report_claims.Axis(0.25, 4, 1)
    assert [axis.percent(value) for value in (0, 0.25, 0.5, 1, 4, 9)] == [0, 0, 25, 50, 100, 100]


def test_the_interactive_part_has_the_estimates_of_each_panel(folder: Path) -> None:
    children = read_children(folder)
    data = explorer(children, Record(folder).epochs, 0.2)
    assert data is not None
    varied = {choice["key"]: choice["values"] for choice in data["choices"] if len(choice["values"]) > 1}
    assert varied["criterion"] == ["magnitude", "random"]
    assert len(varied["training"]) == 2
    assert len(data["panels"]) == 4
    for panel in data["panels"]:
        chosen = children[children["criterion"] == panel["choice"]["criterion"]]
        chosen = chosen[chosen["lr_schedule"] == panel["choice"]["training"].split(",")[0]]
        cell = next(c for c in panel["cells"] if (c["method"], c["sparsity"]) == ("temperature", 95))
        rows = chosen[(chosen["method"] == "temperature") & (chosen["sparsity"] == 95) & chosen["reference"]]
        mean, low, high, n = cell["accuracy"]
        assert n == 6
        assert mean == pytest.approx(rows["accuracy"].mean(), abs=1e-3)  # two children of each parent
        assert low < mean < high
        one_shot = chosen[(chosen["method"] == "one-shot") & (chosen["sparsity"] == 95)]
        gain = rows["accuracy"].mean() - one_shot["accuracy"].mean()
        assert cell["differences"]["one-shot"]["accuracy"][0] == pytest.approx(gain, abs=2e-3)
        assert [point[0] for point in cell["curve"]] == [0, 10, 20]


def test_without_a_baseline_differences_are_to_the_first_method(folder: Path) -> None:
    children = read_children(folder)
    children = children[~children["method"].isin(["one-shot", "iterative"])]
    data = explorer(children, Record(folder).epochs, 0.2)
    assert data is not None
    first = in_order(set(children["method"]) - {"dense"})[0]
    assert [entry["key"] for entry in data["baselines"]] == [first]
    others = [cell for panel in data["panels"] for cell in panel["cells"] if cell["method"] != first]
    assert others
    assert any(cell["differences"] for cell in others)


def test_a_study_of_dense_children_has_nothing_to_explore(folder: Path) -> None:
    children = read_children(folder)
    assert explorer(children[children["method"] == "dense"], pd.DataFrame(), 0.2) is None


def test_the_plotting_library_is_within_the_page(text: str) -> None:
    packed = text.split('id="plotly-gzip">')[1].split("<")[0]
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()
    assert len(text) < 4e6


@pytest.mark.slow
def test_ensembles_have_a_section_where_they_were_scored(folder: Path, page: Page, tmp_path: Path) -> None:
    assert "#ensembles" not in [link["href"] for link in page.all("a")]
    made = synthetic_ensembles.write(tmp_path / "study")
    write_tables(Record(made), made / "tables")
    write_verdicts(Record(made), made / "tables")
    shutil.copytree(folder / "figures", made / "figures")
    draw(made / "figures", ENSEMBLE_CAPTIONS)
    text = written(made)
    page = Page(text)
    assert "#ensembles" in [link["href"] for link in page.all("a")]
    assert "65 ensembles were scored" in said(page)
    assert "Figure 7. Test accuracy of each ensemble." in said(page)
    assert all(caption in said(page) for caption in ENSEMBLE_CAPTIONS.values())
    assert said(page).count("Ensembles: how members are combined") == 1
    assert "Published: cifar10, wrn-28-10." in said(page)
    assert "Bars: the measure above them, with its interval over n seeds where n is given." in said(page)
    assert "cifar10, wrn-28-10: ✓ supported" in said(page)
    assert "Parents cifar10" not in said(page)
    assert text.count('<p class="measure">Gain in NLL (nats / 100)</p>') == 2  # a panel of its own for each arm
    assert "#ensemble_accuracy" in [link["href"] for link in page.all("a")]


def test_what_was_run_is_told_block_by_block(folder: Path) -> None:
    table = report_tables.table_of_blocks(read_children(folder))
    line = dict(zip(table.head, (cell.text for cell in table.rows[0]), strict=True))
    assert line["Block"] == "main"
    assert line["Parents"] == "small (n = 6)"
    assert line["Children"] == "1,020"
    assert line["Sparsity (%)"] == "0, 50, 90, 95, 98"


def test_what_all_blocks_share_is_said_in_the_caption(folder: Path) -> None:
    children = read_children(folder)
    several = pd.concat([children, children.assign(block="longer", epochs=40.0)])
    table = report_tables.table_of_blocks(several)
    assert table.caption.endswith("; learning rate constant 0.01, one-cycle 0.1; child seeds 0, 1.")
    assert {"Epochs", "Children"} <= set(table.head)
    assert {"Sparsity (%)", "Learning rate", "Child seeds"}.isdisjoint(table.head)
    assert "The same in all" not in report_tables.table_of_blocks(children[children["block"] == "main"]).caption
    assert report_tables.table_of_blocks(children[:0]).rows == []  # a study of ensembles alone


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.001, "3.6 seconds"),
        (0.04, "2.4 minutes"),
        (0.5, "30 minutes"),
        (12.34, "12.3 hours"),
        (1234.5, "1,234 hours"),
    ],
)
def test_durations_are_in_words(hours: float, text: str) -> None:
    assert report_tables.duration(hours) == text
