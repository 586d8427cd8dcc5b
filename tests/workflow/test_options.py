"""The options of --config are checked when the study is."""

from __future__ import annotations

from typing import Any

import pytest

from ssa.errors import UserError
from ssa.workflow import options


def test_what_is_not_said_has_its_default() -> None:
    found = options.read({"threads": 2, "data_root": "/data"})
    assert (found.threads, found.data_root, found.workers, found.minutes_per_child) == (2, "/data", None, 5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"thread": 2}, "--config: unknown key 'thread'; did you mean 'threads'? allowed: recorded, data_root, "),
        ({"threads": "two"}, "--config.threads: 'two' is not allowed; allowed: int, at least 1"),
        ({"threads": 0}, "--config.threads: 0 is not allowed; allowed: int, at least 1"),
        ({"minutes_per_parent": "abc"}, "--config.minutes_per_parent: 'abc' is not allowed; allowed: int, at least 1"),
        ({"minutes_per_child": 1.5}, "--config.minutes_per_child: 1.5 is not allowed; allowed: int, at least 1"),
        ({"workers": "many"}, "--config.workers: 'many' is not allowed; allowed: int or null, at least 1"),
        ({"children_per_job": True}, "--config.children_per_job: True is not allowed"),
        ({"data_root": 5}, "--config.data_root: 5 is not allowed; allowed: str or null"),
    ],
)
def test_a_mistake_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        options.read(given)
    assert str(caught.value).startswith(message)
