"""The note of the package's source."""

from __future__ import annotations

from pathlib import Path

from ssa.process import provenance


def test_who_only_looks_gets_another_note_where_the_source_has_changed(tmp_path: Path) -> None:
    noted, elsewhere = tmp_path / "results" / ".source", tmp_path / "elsewhere"
    assert provenance.noted(noted, provenance.source(), elsewhere) == elsewhere
    assert elsewhere.read_text(encoding="utf-8") == provenance.source()
    assert not noted.parent.exists()
    provenance.note(noted, provenance.source())
    assert provenance.noted(noted, provenance.source(), elsewhere) == noted
    noted.write_text("another", encoding="utf-8")
    assert provenance.noted(noted, provenance.source(), elsewhere) == elsewhere
    assert noted.read_text(encoding="utf-8") == "another"
