"""How GitHub is spoken to: what is in its answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.github_client import parsed

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "text",
    ['{"a": [1, 2.5, null, true, "ü\\u00fc"]}', '[{"title": "half \\ud800"}, {"title": "whole"}]', str(10**30), "1e5", '{"a": 1, "a": 2}'],
)  # fmt: skip
def test_an_answer_is_what_the_standard_library_makes_of_it(text: str) -> None:
    assert parsed(text) == json.loads(text)


@pytest.mark.parametrize(("text", "error"), [("", ValueError), ('[{"a"', ValueError), ("<html>", ValueError), (DEEP, RecursionError)])  # fmt: skip
def test_what_is_none_is_refused(text: str, error: type[Exception]) -> Any:
    with pytest.raises(error):
        parsed(text)
