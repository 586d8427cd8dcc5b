"""Which study Snakemake runs, and where the files of its results lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssa.errors import UserError
from ssa.study.study import Study


def study_file(recorded: str | None, configfiles: Sequence[str | Path], default: Path) -> Path:
    """The file of the study: of the folder of recorded/ so called, else the one ``--configfile``, else ``default``.

    ``UserError`` if there are several, or braces in its path. A study is read from its file, since Snakemake merges
    two into one.
    """
    if recorded:
        return Path("recorded") / recorded / "study.yaml"
    if len(configfiles) > 1:
        raise UserError("one study at a time: give one --configfile")
    path = os.path.relpath(configfiles[0] if configfiles else default)
    if "{" in path or "}" in path:
        raise UserError(f"{path}: Snakemake takes braces in a path for wildcards; rename the folder or the file")
    return Path(path)


@dataclass(frozen=True)
class Folders:
    """The files of ``study``, which is trained, or was ``recorded`` in a folder so called.

    ``UserError`` if that folder has the study's own name: its tables would be the study's.
    """

    study: Study
    recorded: str | None = None

    def __post_init__(self) -> None:
        if self.recorded == self.study.name:
            raise UserError(
                f"recorded/{self.recorded} is named as its study, whose tables it would overwrite; rename the folder"
            )

    @property
    def name(self) -> str:
        """The name of the folders of its tables, figures and page."""
        return self.recorded or self.study.name

    @property
    def results(self) -> str:
        """The folder of its page and, if it is trained, of its tables of children."""
        return f"results/{self.name}"

    @property
    def source(self) -> str:
        """The folder of children.csv and its companions."""
        return f"recorded/{self.recorded}" if self.recorded else self.results

    @property
    def logs(self) -> str:
        """The folder of the jobs' logs."""
        return f"logs/{self.name}"

    @property
    def has_ensembles(self) -> bool:
        """Whether there are ensembles to show: a record has only those that were finished when it was made."""
        return Path(self.source, "ensembles.csv").exists() if self.recorded else bool(self.study.ensembles)
