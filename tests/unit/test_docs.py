"""The documents say what the code does: keys, columns, commands, files and links are compared with it."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pmsync.cli import LATER, cli
from pmsync.config import json_schema, load
from pmsync.core.exports import HISTORY, TABLES
from pmsync.health import Health

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("connectors/*.md")])
WAY = (
    "connectors/jira.py",
    "connectors/pump.py",
    "pmsync/core/events.py",
    "pmsync/aggregator.py",
    "pmsync/core/project.py",
    "pmsync/core/rules/__init__.py",
)
CELL = re.compile(r"(?<!\\)\|")

Rows = dict[str, list[str]]


def sections(page: str) -> Mapping[str, str]:
    """heading -> the text below it, of the second level."""
    parts = re.split(r"^## (.+)\n", (DOCS / page).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def table(text: str) -> Rows:
    """What is set as code in a row's first cell -> its other cells."""
    lines = (line for line in text.splitlines() if line.startswith("| `"))
    cells = ([cell.strip() for cell in CELL.split(line)[1:-1]] for line in lines)
    return {first.strip("`"): rest for first, *rest in cells}


# --- the configuration ------------------------------------------------------------------------------------------------


SCHEMA: Mapping[str, Any] = json.loads(json_schema())
SECTIONS = {
    "bus: embedded": "EmbeddedBusConfig", "bus: kafka": "KafkaBusConfig", "store": "StoreConfig", "projects": "ProjectConfig", "people": "PersonConfig", "notify": "NotifyConfig",
    "outputs": "OutputsConfig", "poll": "PollConfig", "web": "WebConfig", "health": "HealthConfig", "sources: jira": "JiraSettings", "sources: github": "GitHubSettings",
    "sources: calendar": "CalendarSettings", "sources: caldav": "CalDavSettings", "sources: google_calendar": "GoogleCalendarSettings",
    "sources: microsoft_calendar": "MicrosoftCalendarSettings",
}  # fmt: skip
SHARED = {"name", "kind", "live", "things_per_minute"}
WHOLE = {"SecretRef", "Basic", "Token", "Meaning", "JiraAuth", "GitHubAuth", "GoogleAuth", "MicrosoftAuth"}
"""Models that the page explains as a whole, not key by key."""


def keys(model: str, prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """The dotted keys of a model with their defaults as YAML writes them; None for those that are required."""
    found = SCHEMA["$defs"][model]
    for name, field in found["properties"].items():
        path = prefix + name
        below = [each.removeprefix("#/$defs/") for each in _references(field)]
        nested = [each for each in below if each not in WHOLE]
        listed = "[]" if field.get("type") == "array" else ".KEY" if field.get("type") == "object" else ""
        if not nested or "anyOf" in field:
            default = yaml.safe_dump(field.get("default"), default_flow_style=True, width=999).split("\n")[0]
            yield path, None if name in found.get("required", ()) else default.replace("null", "none")
        for each in nested:
            yield from keys(each, f"{path}{listed}.")


def _references(field: Mapping[str, Any]) -> list[str]:
    places = [field, *field.get("anyOf", ()), field.get("items", {}), *field.get("patternProperties", {}).values()]
    return [place["$ref"] for place in places if "$ref" in place]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_has_its_line_with_its_default(section: str) -> None:
    said = {key: cells[0].strip("`") for key, cells in table(sections("configuration.md")[section]).items()}
    meant = {key: "required" if default is None else default for key, default in keys(SECTIONS[section])}
    if section.startswith("sources:"):
        meant = {key: default for key, default in meant.items() if key not in SHARED}
    if section == "projects":
        meant["name"] = "the key"
    assert said == meant


def test_keys_that_all_sources_share_are_there() -> None:
    assert table(sections("configuration.md")["sources: all"]).keys() == SHARED


def test_no_part_of_the_configuration_is_forgotten() -> None:
    assert {section.partition(":")[0] for section in SECTIONS} == set(SCHEMA["properties"])


def test_the_example_loads_and_leaves_nothing_out() -> None:
    example = DOCS / "pmsync.example.yaml"
    config = load(example, {})
    assert {source.kind for source in config.sources} == _kinds(ROOT)
    assert set(yaml.safe_load(example.read_text())) == set(SCHEMA["properties"])


def test_what_the_readme_shows_as_configuration_loads(tmp_path: Path) -> None:
    shown = re.findall(r"```yaml\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown
    for text in shown:
        values = yaml.safe_load(text)
        path = tmp_path / "pmsync.yaml"
        path.write_text(yaml.safe_dump(values.get("config", values)))  # the chart has it as one of its values
        assert load(path, {}).projects


# --- exports, commands, the way of an event ---------------------------------------------------------------------------


def test_every_table_has_its_columns_in_order() -> None:
    found = sections("exports.md")
    assert {name: tuple(table(found[name])) for name in TABLES} == TABLES


def test_columns_with_a_past_are_marked() -> None:
    found = sections("exports.md")
    marked = {name: {column for column, cells in table(found[name]).items() if "✓" in cells[0]} for name in TABLES}
    assert marked == {name: set(columns) for name, columns in HISTORY.items()}


def test_every_command_is_told_of() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    missing = [name for name in _commands(cli) if f"pmsync {name}" not in text]
    assert not missing


def _commands(group: click.Group, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before}{name} ")
        elif not command.hidden:
            yield before + name


def test_no_page_tells_to_run_what_is_not_there() -> None:
    for page in PAGES:
        for block in re.findall(r"```(?:sh|console)\n(.+?)```", page.read_text(), re.DOTALL):
            for name in re.findall(r"pmsync (?:-\S+ )*([a-z-]+)", block):
                assert name in cli.commands, f"{page.name}: pmsync {name}"
                assert name not in LATER, f"{page.name}: pmsync {name}"


def test_each_file_on_the_way_names_the_next() -> None:
    for here, following in pairwise(WAY):
        said = ast.get_docstring(ast.parse((ROOT / here).read_text())) or ""
        assert f"Next on the way of an event: `{following}`" in " ".join(said.split()), here
    architecture = sections("architecture.md")["The way of one event"]
    places = [architecture.index(f"`{name}`") for name in WAY]
    assert places == sorted(places)


def test_every_metric_has_its_line_with_its_kind_and_labels() -> None:
    health = Health(lambda: datetime(2026, 3, 16, tzinfo=UTC))
    metrics = health.metrics
    metrics.lag, metrics.outbox, metrics.read_at = {0: 1}, {"sent": 1}, {"jira": datetime(2026, 3, 16, tzinfo=UTC)}
    ours = {each.name: each for each in health.registry.collect() if each.name.startswith("pmsync_")}
    said = table(sections("operations.md")["Health and metrics"])
    said = {name: cells for name, cells in said.items() if name.startswith("pmsync_")}
    assert {name.removesuffix("_total"): cells[0] for name, cells in said.items()} == {
        name: each.type for name, each in ours.items()
    }
    assert all(name.endswith("_total") == (cells[0] == "counter") for name, cells in said.items())
    assert all(each.documentation.endswith(".") for each in ours.values())
    labels = {name.removesuffix("_total"): set(re.findall(r"`([a-z]+)`", cells[1])) for name, cells in said.items()}
    for each in ours.values():
        used = {label for sample in each.samples for label in sample.labels} - {"le"}
        assert used == labels[each.name], each.name


# --- connectors -------------------------------------------------------------------------------------------------------


def _kinds(package: Path) -> set[str]:
    found = tomllib.loads((package / "pyproject.toml").read_text())
    return set(found["project"]["entry-points"]["pmsync.connectors"])


def test_every_connector_has_its_column_of_promises() -> None:
    rows = [
        CELL.split(line)[1:-1] for line in (ROOT / "connectors/README.md").read_text().splitlines() if line[:1] == "|"
    ]
    header, _, *body = [[cell.strip() for cell in row] for row in rows]
    shipped = {kind for package in (ROOT, *(DOCS / "examples").iterdir()) for kind in _kinds(package)}
    assert sorted(kind for cell in header[1:] for kind in re.findall("`([a-z_]+)`", cell)) == sorted(shipped)
    for promise, *cells in body:
        if promise.startswith("**"):
            continue
        assert len(cells) == len(header) - 1, promise
        for cell in cells:
            assert re.match("(done|to do|exempt)\\b", cell), f"{promise}: {cell!r}"
            assert "exempt" not in cell or re.search("exempt: .", cell), f"{promise}: {cell!r} gives no reason"


# --- files and links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            path, _, anchor = target.partition("#")
            there = (page.parent / path) if path else page
            assert there.exists(), target
            if anchor:
                assert anchor in map(_anchor, re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)), target


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"`((?:pmsync|connectors|tests|docs|bench|\.ci)/[\w/.-]+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_nothing_of_the_machine_it_was_written_on() -> None:
    texts = [*PAGES, *DOCS.glob("*.yaml")]
    found = {page.name: re.findall(r"(?<![\w:])/(?:work|home|root|Users)/\S*", page.read_text()) for page in texts}
    assert not {name: places for name, places in found.items() if places}
