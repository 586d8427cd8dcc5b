"""No text of a figure is too small to read at the width that the figure is made for, and no title is cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic
import synthetic_ensembles
from conftest import ROOT
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from ssa.report import write
from ssa.report.figures.style import COLUMN, WIDE
from ssa.report.record import Record

SMALLEST_TYPE = 7  # points, at those widths
RECORDS = sorted(path.parent for path in (ROOT / "recorded").glob("*/study.json"))


def cut(figure: Figure) -> list[str]:
    """The titles of panels that leave the canvas or touch another one."""
    figure.draw_without_rendering()
    titles = [ax._left_title for ax in figure.findobj(Axes) if ax._left_title.get_text()]  # type: ignore[attr-defined]
    boxes = [title.get_window_extent() for title in titles]
    return [
        title.get_text()
        for title, box in zip(titles, boxes, strict=True)
        if box.x1 > figure.bbox.x1 or any(box.padded(2).overlaps(other) for other in boxes if other is not box)
    ]


def small(record: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """The names of a record's figures, and what is wrong with their width or their text."""
    names, wrong = [], []

    def look(figure: Figure, stem: Path) -> None:
        names.append(stem.name)
        if figure.get_figwidth() not in (WIDE, COLUMN):
            wrong.append(f"{stem.name}: {figure.get_figwidth()} inches wide")
        for text in figure.findobj(Text):
            if (
                isinstance(text, Text)
                and text.get_visible()
                and text.get_text()
                and text.get_fontsize() < SMALLEST_TYPE
            ):
                wrong.append(f"{stem.name}: {text.get_text()!r} has {text.get_fontsize()} points")

        wrong.extend(f"{stem.name}: {title!r} is cut or runs into the next" for title in cut(figure))

    monkeypatch.setattr(write, "save_figure", look)
    write.write_figures(Record(record), out)
    return names, wrong


@pytest.mark.parametrize("invented", [synthetic, synthetic_ensembles])
def test_text_of_an_invented_studys_figures(invented: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = invented.write(tmp_path / "study")  # type: ignore[attr-defined]
    names, wrong = small(record, tmp_path / "figures", monkeypatch)
    assert len(names) >= 5
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name)
def test_text_of_the_committed_figures(record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, wrong = small(record, tmp_path, monkeypatch)
    assert {f"{name}.png" for name in names} == {path.name for path in (ROOT / "figures" / record.name).glob("*.png")}
    assert wrong == []
