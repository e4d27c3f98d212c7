"""The compose file: it fits the Compose Specification, its parts fit each other, and pmsync takes what it is given."""

from __future__ import annotations

import base64
import copy
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from pmsync.bus.port import EVENTS, Record
from pmsync.bus.topics import TOPICS
from pmsync.buses import open_bus
from pmsync.cli import cli
from pmsync.config import KafkaBusConfig, load, override
from tests import kafka_broker

DEPLOY = Path(__file__).parents[2] / "deploy"
GROUP_SECONDS = 60.0
VARIABLE = re.compile(r"\$\{(\w+)")

Services = Mapping[str, Mapping[str, Any]]


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


@pytest.fixture
def services(compose: Mapping[str, Any]) -> Services:
    found: Services = compose["services"]
    return found


@pytest.fixture
def ours(services: Services) -> Services:
    """The services that run pmsync."""
    return {name: each for name, each in services.items() if each["image"].startswith("pmsync:")}


# --- the specification ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def specification(needs: Callable[[str], str]) -> jsonschema.Draft202012Validator:
    schema = json.loads((Path(needs("helm")) / "compose-spec.json").read_text())
    return jsonschema.Draft202012Validator(schema)


def test_it_is_a_compose_file(compose: Any, specification: jsonschema.Draft202012Validator) -> None:
    assert [error.message for error in specification.iter_errors(compose)] == []


FAULTS: Mapping[str, tuple[tuple[str, ...], Any, str]] = {
    "an unknown key": (("services", "web", "comand"), ["web"], "comand"),
    "a wrong type": (("services", "web", "read_only"), ["yes"], "is not of type"),
    "an unknown condition": (("services", "web", "depends_on"), {"apply": {"condition": "done"}}, "is not one of"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_specification_catches(
    compose: dict[str, Any], specification: jsonschema.Draft202012Validator, fault: str
) -> None:
    (*place, key), value, words = FAULTS[fault]
    broken = copy.deepcopy(compose)
    section = broken
    for part in place:
        section = section[part]
    section[key] = value
    assert words in " ".join(_messages(specification.iter_errors(broken)))


def _messages(errors: Any) -> list[str]:
    return [words for error in errors for words in (error.message, *_messages(error.context or ()))]


# --- its parts --------------------------------------------------------------------------------------------------------


def test_pmsync_takes_the_configuration_and_every_variable(ours: Services) -> None:
    for name, service in ours.items():
        given = {key: str(value) for key, value in service["environment"].items()}
        config = load(DEPLOY / "pmsync.yaml", given)
        variables = {key for key in given if key.startswith("PMSYNC_")}
        known = set(override({}, given).values())
        assert variables - known == set(), name
        assert isinstance(config.bus, KafkaBusConfig)


def test_pmsync_knows_every_command(ours: Services) -> None:
    for service in ours.values():
        said = CliRunner().invoke(cli, [*service["command"], "--help"])
        assert said.exit_code == 0, said.output


def test_there_is_a_connector_for_each_source(ours: Services) -> None:
    config = load(DEPLOY / "pmsync.yaml", {})
    commands = sorted(service["command"] for service in ours.values())
    connectors = [["connector", source.name] for source in config.sources]
    assert commands == sorted([["topics", "apply"], ["apply"], ["aggregator"], ["notifier"], ["web"], *connectors])


def test_it_leads_to_the_services_that_are_there(services: Services) -> None:
    config = load(DEPLOY / "pmsync.yaml", {})
    assert isinstance(config.bus, KafkaBusConfig)
    (server,) = config.bus.bootstrap_servers
    assert services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{server}"
    postgres = services["postgres"]["environment"]
    assert config.store.url == f"postgresql+psycopg://{postgres['POSTGRES_USER']}@postgres/{postgres['POSTGRES_DB']}"
    for service in services.values():
        assert service.get("depends_on", {}).keys() <= services.keys()


def test_secrets_come_from_the_environment_and_go_where_they_are_needed(services: Services) -> None:
    named = set(VARIABLE.findall((DEPLOY / "compose.yaml").read_text()))
    example = dict(line.split("=") for line in (DEPLOY / ".env.example").read_text().splitlines() if "=" in line)
    assert example.keys() == named
    assert not any(example.values())
    holders = {
        variable: {name for name, each in services.items() if f"${{{variable}" in json.dumps(each)}
        for variable in named
    }
    assert holders["JIRA_TOKEN"] == {"connector-jira"}
    assert holders["GITHUB_TOKEN"] == {"connector-gh"}
    assert "kafka" not in holders["DATABASE_PASSWORD"]
    read = set(re.findall(r"\{env: (\w+)\}", (DEPLOY / "pmsync.yaml").read_text()))
    assert read == named


def test_every_role_is_confined(ours: Services) -> None:
    for name, service in ours.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert {"mem_limit", "pids_limit"} <= service.keys(), name
        assert service["stop_grace_period"] == "30s", name
        assert service["volumes"] == ["./pmsync.yaml:/etc/pmsync/pmsync.yaml:ro"], name


def test_nothing_listens_beyond_this_host(services: Services) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:8080:8080"]


def test_images_are_of_a_version_and_kafka_is_the_one_that_is_tested(services: Services) -> None:
    for service in services.values():
        assert re.search(r":\d[\w.]*$", service["image"]), service["image"]
    assert services["kafka"]["image"] == kafka_broker.IMAGE


def test_order_of_the_start(services: Services) -> None:
    waits = {
        name: {on: how["condition"] for on, how in each.get("depends_on", {}).items()}
        for name, each in services.items()
    }
    done, healthy = "service_completed_successfully", "service_healthy"
    assert waits.pop("topics") == {"kafka": healthy}
    assert waits.pop("apply") == {"topics": done, "postgres": healthy}
    assert waits.pop("kafka") == waits.pop("postgres") == {}
    assert set(map(str, waits.values())) == {str({"apply": done})}


# --- Kafka, started as compose starts it ------------------------------------------------------------------------------


def properties(environment: Mapping[str, Any]) -> Mapping[str, str]:
    """What the entry of Apache's image makes of its environment: KAFKA_A_B is a.b."""
    named = {key.removeprefix("KAFKA_"): str(value) for key, value in environment.items() if key.startswith("KAFKA_")}
    return {key.lower().replace("_", "."): value for key, value in named.items()}


@pytest.mark.integration
def test_a_kafka_with_this_environment_serves_pmsync(
    needs: Callable[[str], str], services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("kafka")
    if not kafka_broker.has_jars():
        pytest.skip("the Kafka that is here is not ours to configure; with java and maven there would be one")
    environment = services["kafka"]["environment"]
    assert len(base64.urlsafe_b64decode(environment["CLUSTER_ID"] + "==")) == 16

    def as_composed(folder: Path, addresses: Mapping[str, str], controller: int, _: Path | None) -> str:
        """The service's properties, but for where it listens and where its data are."""
        here = {
            "log.dirs": str(folder / "data"),
            "listeners": f"PLAINTEXT://{addresses['plain']},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{addresses['plain']}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        }
        given = properties(environment)
        assert here.keys() <= given.keys()
        return "".join(f"{name}={value}\n" for name, value in {**given, **here}.items())

    monkeypatch.setattr(kafka_broker, "_properties", as_composed)
    with kafka_broker.own() as broker:
        monkeypatch.setenv("PMSYNC_BUS__BOOTSTRAP_SERVERS", broker.address)
        for changed in (len(TOPICS), 0):
            said = CliRunner().invoke(cli, ["-c", str(DEPLOY / "pmsync.yaml"), "topics", "apply"])
            assert said.exit_code == 0, said.output
            assert said.output.splitlines()[-1] == f"changed: {changed}"
        with closing(open_bus(load(DEPLOY / "pmsync.yaml").bus)) as bus:
            bus.publish(EVENTS, [Record("apollo", b"{}")])
            bus.join()
            deadline = time.monotonic() + GROUP_SECONDS
            while len(bus.assigned()) < bus.partitions:
                assert time.monotonic() < deadline, "the group got no partitions"
                time.sleep(0.05)
