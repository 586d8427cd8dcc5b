"""Ask the W&B server whether it is there, and which runs it has whole."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from typing import Any

from ssa.errors import UserError
from ssa.tracking.writer import DIGEST

REACH_SECONDS, QUERY_SECONDS = 10.0, 30
LOOKS, LOOK_SECONDS = 5, 2.0  # W&B may take a moment to show what it has taken


def be_brief() -> None:
    """Let questions to W&B end soon, answered or not; by default its client insists for many minutes."""
    for name, value in (("RETRY_MAX", "4"), ("RETRY_WAIT_MAX_SECONDS", "4"), ("TIMEOUT_SECONDS", "20")):
        os.environ.setdefault(f"WANDB_X_GRAPHQL_{name}", value)


def base_url() -> str:
    """The W&B server in use."""
    import wandb

    return str(wandb.setup().settings.base_url)


def reach() -> None:
    """``UserError`` if the W&B server does not answer at all: its own client would try for a long time."""
    url = base_url()
    try:
        urllib.request.urlopen(url, timeout=REACH_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"W&B at {url} cannot be reached ({reason}); nothing is lost: run ssa sync later") from error


class Served:
    """The rows that the server has of the written ``entries``.

    ``wandb sync`` calls a run synced also where the server refused its data, so that only the server can tell.
    ``UserError`` if it does not.
    """

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        import wandb

        self.entries = entries
        try:
            self.api = wandb.Api(timeout=QUERY_SECONDS)
            self.runs = self._look()
        except Exception as error:
            raise _silent(error) from error

    def rows(self, entry: dict[str, Any]) -> int:
        """How many rows of the run's history are there."""
        run = self.runs.get(entry["run"])
        return int(run.historyLineCount or 0) if run else 0

    def whole(self) -> list[dict[str, Any]]:
        """The entries that are there as they were written."""
        found = []
        for entry in self.entries:
            run = self.runs.get(entry["run"])
            if run and run.state == "finished" and run.summary.get(DIGEST) == entry["digest"]:
                found.append(entry)
        return [entry for entry in found if all(self._has(entry, *named) for named in entry["artifacts"].items())]

    def wait(self) -> list[dict[str, Any]]:
        """The entries that are there within some seconds after they were sent."""
        try:
            for _ in range(LOOKS):
                self.api.flush()  # it remembers what it was told
                self.runs = self._look()
                if len(self.whole()) == len(self.entries):
                    break
                time.sleep(LOOK_SECONDS)
            return self.whole()
        except Exception as error:
            raise _silent(error) from error

    def _look(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for place in {self._place(entry) for entry in self.entries}:
            ids = [entry["run"] for entry in self.entries if self._place(entry) == place]
            try:
                runs = self.api.runs(place, filters={"name": {"$in": ids}}, per_page=len(ids), lazy=False)
                found |= {run.id: run for run in runs}
            except ValueError:  # there is no such project yet
                continue
        return found

    def _place(self, entry: dict[str, Any]) -> str:
        return f"{entry['entity'] or self.api.default_entity}/{entry['project']}"

    def _has(self, entry: dict[str, Any], artifact: str, digest: str) -> bool:
        name = f"{self._place(entry)}/{artifact}:latest"
        return bool(self.api.artifact_exists(name) and self.api.artifact(name).digest == digest)


def _silent(error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"W&B at {base_url()} does not say what it has ({reason}); nothing is lost: run ssa sync again")
