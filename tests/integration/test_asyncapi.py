"""The AsyncAPI document is one by AsyncAPI's own schema."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from jsonschema import Draft7Validator

from pmsync.schemas import asyncapi
from tests import asyncapi_specs

pytestmark = pytest.mark.integration


def test_it_is_valid_by_the_official_schema(needs: Callable[[str], str]) -> None:
    official = Draft7Validator(asyncapi_specs.schema(needs("asyncapi")))
    document = json.loads(asyncapi())
    assert [error.json_path for error in official.iter_errors(document)] == []
    document["operations"]["send.events"]["action"] = "shout"
    assert [error.json_path for error in official.iter_errors(document)] == ["$.operations['send.events']"]
