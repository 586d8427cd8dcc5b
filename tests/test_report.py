from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import synthetic

from ssa import report
from ssa.claims import write_claims
from ssa.errors import UserError
from ssa.figure_style import look, save, sentence
from ssa.figures import CAPTIONS
from ssa.report import Cell, Table
from ssa.tables import write_tables

HOSTILE = '<script>alert("title")</script>'
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
    write_tables(made, made / "tables")
    write_claims(made, made / "tables")
    (made / "figures").mkdir()
    with look():
        for name in CAPTIONS:
            save(sentence(name), made / "figures" / name)
    return made


def written(folder: Path, name: str = "report.html") -> str:
    report.write_report(folder, folder / "tables", folder / "figures", folder / name)
    return (folder / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(written(folder))


def said(page: Page) -> str:
    return " ".join(" ".join(page.text).split())


def test_every_claim_stands_with_its_rule_and_verdict(page: Page) -> None:
    ids = {attrs.get("id") for _, attrs in page.elements}
    assert {f"C{i}" for i in range(1, 11)} <= ids
    assert "Holm's adjustment" in said(page)
    for verdict in ("supported", "contradicted", "undecided", "not testable"):
        assert verdict in said(page)
    assert "SSA temperature minus One-shot: 98%, random masks, one-cycle rate" in said(page)


def test_every_figure_is_within_the_page_with_its_caption(page: Page) -> None:
    images = page.all("img")
    assert len(images) == len(CAPTIONS)
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] and image["width"] and image["height"] for image in images)
    assert all(caption in said(page) for caption in CAPTIONS.values())


def test_every_table_stands_with_its_numbers(folder: Path, page: Page) -> None:
    for path in folder.glob("tables/table*.md"):
        title, parts = report.read_tables(path)
        assert title in said(page)
        for part in parts:
            assert part.caption in said(page)
            assert part.rows[-1][-1].text in said(page)


def test_the_page_says_what_was_run_and_where_settings_come_from(page: Page) -> None:
    study = synthetic.study()
    for text in (study["question"], study["regime"], *study["assumptions"], *study["deviations"], "torch 0.0"):
        assert text in said(page)
    assert "2024-01-01 00:00 UTC, 2024-01-01 01:00 UTC" in said(page)
    assert "--configfile config/synthetic.yaml" in said(page)
    assert "child tau 0.5 summary" in said(page)


def test_nothing_is_loaded_from_elsewhere(folder: Path, page: Page) -> None:
    loaded = [attrs.get(LOADS[tag]) for tag, attrs in page.elements if tag in LOADS]
    assert loaded
    assert all((address or "").startswith("data:") for address in loaded)
    assert page.all("script") == []
    text = written(folder)
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text


def test_the_page_is_semantic(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert len(page.all("caption")) == len(page.all("table")) == len(page.all("thead"))
    assert len(page.all("figure")) == len(page.all("figcaption")) == len(CAPTIONS)
    assert {attrs.get("scope") for attrs in page.all("th")} == {"col", "row"}
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {(link["href"] or "").removeprefix("#") for link in page.all("a")} <= set(ids)


def test_the_same_record_gives_the_same_page(folder: Path) -> None:
    assert written(folder) == written(folder, "again.html")


def changed(folder: Path, copy: Path, **values: Any) -> str:
    copy.mkdir(exist_ok=True)
    (copy / "study.json").write_text(json.dumps({**synthetic.study(), **values}))
    (copy / "parents.csv").write_text((folder / "parents.csv").read_text())
    report.write_report(copy, folder / "tables", folder / "figures", copy / "report.html")
    return (copy / "report.html").read_text(encoding="utf-8")


def test_hostile_text_is_shown_and_not_run(folder: Path, tmp_path: Path) -> None:
    setting = {"scope": "<b>", "key": '"><img src=x onerror=alert(1)>', "value": "</td>", "source": "assumed"}
    page = Page(changed(folder, tmp_path, title=HOSTILE, assumptions=[HOSTILE], hyperparameters=[setting]))
    assert page.all("script") == []
    assert len(page.all("img")) == len(CAPTIONS)
    assert said(page).count(HOSTILE) == 3  # the title, the heading and the assumption


def test_a_study_without_claims_says_so(folder: Path, tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "claims.csv").write_text((folder / "tables" / "claims.csv").read_text().splitlines()[0] + "\n")
    study = {**synthetic.study(), "claims": {}}
    (tmp_path / "study.json").write_text(json.dumps(study))
    (tmp_path / "parents.csv").write_text((folder / "parents.csv").read_text())
    report.write_report(tmp_path, tables, folder / "figures", tmp_path / "report.html")
    assert "This study tests no claims." in said(Page((tmp_path / "report.html").read_text()))


@pytest.mark.parametrize(("missing", "stage"), [("claims.csv", "claims"), ("accuracy_vs_sparsity.png", "figures")])
def test_a_missing_file_is_named_with_the_stage_that_writes_it(folder: Path, missing: str, stage: str) -> None:
    path = next(folder.rglob(missing))
    hidden = path.rename(path.with_suffix(".hidden"))
    try:
        with pytest.raises(UserError, match=rf"{missing} is missing: run ssa {stage} first"):
            written(folder, "never.html")
    finally:
        hidden.rename(path)
    assert not (folder / "never.html").exists()


def test_markdown_tables_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    path.write_text(
        "# Title\n\nFirst.\n\n| a | b |\n| --- | --- |\n| x \\| y | **1.0** |\n\nSecond.\n\n| c |\n| --- |\n"
    )
    first = Table("First.", ["a", "b"], [[Cell("x | y"), Cell("1.0", bold=True)]])
    assert report.read_tables(path) == ("Title", [first, Table("Second.", ["c"], [])])


def test_parents_are_summed_up_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "parents.csv"
    path.write_text(
        "parent,dataset,model,parent_seed,epochs,accuracy\n"
        "wide,digits,net,1,30,90\nwide,digits,net,0,30,92\nthin,digits,net,0,30,80\n"
    )
    thin, wide = ([cell.text for cell in row] for row in report.read_parents(path).rows)
    assert thin == ["thin", "digits", "net", "30", "0", "1", "80.00"]
    assert wide == ["wide", "digits", "net", "30", "0, 1", "2", "91.00 ± 12.71"]  # t(0.975, 1) = 12.706, s.e. 1
