"""The run of a study as a whole: its settings, verdicts, tables and figures, and all of these as one artifact."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssa.errors import reading
from ssa.files import finite
from ssa.results.aggregate import resolved
from ssa.study.claims import ASIDE, EXPLORATORY
from ssa.study.study import Study
from ssa.tracking.runs import TrackedRun, run_id

if TYPE_CHECKING:
    import wandb

JOB_TYPE = "study"


@dataclass(frozen=True)
class StudyFiles:
    """Where the stages after training have left what they made of one study."""

    results: Path
    tables: Path
    figures: Path

    def found(self) -> Iterator[tuple[str, Path]]:
        """The files that are there, each with its name in the artifact."""
        named = ("children.csv", "parents.csv", "history.parquet", "study.json", "report.html")
        yield from ((name, self.results / name) for name in named if (self.results / name).is_file())
        for kind, folder in (("tables", self.tables), ("figures", self.figures)):
            yield from ((f"{kind}/{path.name}", path) for path in sorted(folder.glob("*.*")) if path.is_file())

    def complete(self) -> bool:
        """Whether the study has been aggregated, and its tables and figures made."""
        names = {name.split("/")[0] for name, _ in self.found()}
        return {"study.json", "tables", "figures"} <= names


def of_study(study: Study, files: StudyFiles) -> TrackedRun | None:
    """The run of the study whose ``files`` are complete; the files' digests are part of what it says.

    None if they are not of ``study`` as it is now. ``UserError`` if study.json is damaged.
    """
    path = files.results / "study.json"
    with reading(path):
        found = json.loads(path.read_text(encoding="utf-8"))
        now = json.loads(json.dumps(finite(resolved(study, found["record"]))))
        if any(found[key] != now[key] for key in now if key != "config_file"):  # the file may be called otherwise
            return None
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in files.found()}
    config = {"study": study.name, "settings": study.raw, "record": found["record"], "files": digests}
    name, summary = f"{JOB_TYPE}-{study.name}", {**found["counts"], **verdicts(files.tables / "claims.csv")}
    return TrackedRun(name, JOB_TYPE, name, (study.name,), config, [], summary)


def verdicts(path: Path) -> dict[str, str]:
    """The overall verdict on each claim of claims.csv, if it is there, by arm; one not named beforehand says so."""
    import pandas as pd

    if not path.is_file():
        return {}
    with reading(path):
        rows = pd.read_csv(path)
        overall = rows[rows["comparison"] == "overall"]
        aside = (overall["standing"] == ASIDE).map({True: f", {EXPLORATORY}", False: ""})
        return dict(zip("claims/" + overall["claim"] + "/" + overall["arm"] + aside, overall["verdict"], strict=True))


def log(handle: wandb.Run, study: Study, files: StudyFiles) -> dict[str, str]:
    """Log the tables, the figures, and all files as one artifact of the type ``study``; its digest by its name."""
    import pandas as pd
    import wandb

    found = dict(files.found())
    media: dict[str, Any] = {}
    artifact = wandb.Artifact(
        run_id(f"study-{study.name}"), type=JOB_TYPE, description=str(study.raw.get("title") or "")
    )
    for name, path in found.items():
        artifact.add_file(str(path), name, skip_cache=True)
        key = name.rpartition(".")[0]
        if path.suffix == ".png":
            media[key] = wandb.Image(str(path))
        elif path.suffix == ".csv" and name.startswith("tables/"):
            frame = pd.read_csv(path)
            media[key] = wandb.Table(dataframe=frame.astype(object).where(frame.notna(), None))
    handle.log(media)
    handle.log_artifact(artifact)
    return {artifact.name.partition(":")[0]: artifact.digest}
