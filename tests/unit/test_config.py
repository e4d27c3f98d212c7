"""The settings: every fault is said with its line, its key and words for people; and what `apply` would do is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import Fatal
from pmsync.config import Config, ConfigError, KafkaBusConfig, json_schema, load
from pmsync.configuration import apply, mails, plan, routes
from pmsync.core.events import Project, body, version_at
from pmsync.store.configuration import ConfigurationStore
from pmsync.store.engine import Store

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
GOOD = """\
sources:
  - name: company-jira
    kind: jira
    url: https://example.atlassian.net
    auth: {email: pmsync@example.com, token: {env: JIRA_TOKEN}}
  - {name: team, kind: calendar, ics: https://calendar.example.com/team.ics}
projects:
  - key: apollo
    name: Apollo
    leader: lead@example.com
    time_zone: Europe/Berlin
    deadline: 2026-12-04
    milestones:
      - {title: "2.1", due: 2026-11-30}
    thresholds: {stale_days: 5}
    from: {company-jira: [APO], team: [deadlines]}
  - key: beacon
    from:
      company-jira: [BEA]
notify:
  mail:
    host: smtp.example.com
    sender: pmsync@example.com
    user: pmsync
    password: {env: MAIL_PASSWORD}
web: {port: 8081}
"""


def kafka(more: str, servers: str = "kafka-0:9092") -> str:
    """A good file with a bus on Kafka: that begins in line 27, its servers are in line 29, and `more` is from 30 on."""
    return f"{GOOD}bus:\n  kind: kafka\n  bootstrap_servers: {servers}\n{more}"


def people(*entries: str) -> str:
    """A good file with people, the first of them in line 28."""
    return GOOD + "people:\n" + "".join(f"  - {entry}\n" for entry in entries)


def loaded(folder: Path, text: str, environment: dict[str, str] | None = None) -> Config:
    path = folder / "pmsync.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, environment or {})


def faults(folder: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    """The lines of the error, without the folder."""
    with pytest.raises(ConfigError) as said:
        loaded(folder, text, environment)
    return str(said.value).replace(f"{folder}/", "").splitlines()


def swapped(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_a_good_file_loads(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD)
    assert [source.kind for source in config.sources] == ["jira", "calendar"]
    apollo = config.projects[0]
    assert apollo.sources == {"company-jira": ("APO",), "team": ("deadlines",)}
    assert (apollo.thresholds.stale_days, apollo.thresholds.blocked_days) == (5, 2)
    assert config.web.port == 8081
    assert config.web.host == "127.0.0.1"


def test_people_have_accounts_at_sources(tmp_path: Path) -> None:
    entry = '{mail: ada@example.com, name: " Ada L ", accounts: {company-jira: ["5b10", "557058:x"], team: ["5b10"]}}'
    (ada, lead) = loaded(tmp_path, people(entry, "{mail: lead@example.com}")).people
    assert (ada.name, ada.accounts) == ("Ada L", {"company-jira": ("5b10", "557058:x"), "team": ("5b10",)})
    assert (lead.name, lead.accounts) == ("", {})
    assert mails(loaded(tmp_path, people(entry))) == {"ada@example.com", "lead@example.com"}


def team(*entries: str) -> str:
    """The same with people who work on apollo."""
    return people(*(f"{{mail: p{n}@b.c, {entry}}}" for n, entry in enumerate(entries)))


BAD = {
    "unknown key": (swapped("web: {port", "web: {prot"), "pmsync.yaml:26: web.prot: there is no such key"),
    "unknown section": (GOOD + "wbe: {}\n", "pmsync.yaml:27: wbe: there is no such key"),
    "unknown threshold": (swapped("stale_days", "stale_day"), "pmsync.yaml:15: projects.0.thresholds.stale_day: there is no such key"),
    "threshold out of range": (swapped("stale_days: 5", "on_time: 1001"), "pmsync.yaml:15: projects.0.thresholds.on_time: Input should be less than or equal to 1000"),
    "unknown key of a source": (swapped("    kind: jira\n", "    kind: jira\n    ulr: x\n"), "pmsync.yaml:4: sources.0.ulr: there is no such key"),
    "missing key": (swapped("    host: smtp.example.com\n", ""), "pmsync.yaml:21: notify.mail.host: is missing"),
    "missing key of a source": (swapped("    url: https://example.atlassian.net\n", ""), "pmsync.yaml:2: sources.0.url: is missing"),
    "wrong zone": (swapped("Europe/Berlin", "Berlin"), "pmsync.yaml:11: projects.0.time_zone: 'Berlin' is no time zone; use a name such as Europe/Berlin"),
    "zone that is a path": (swapped("Europe/Berlin", "../UTC"), "pmsync.yaml:11: projects.0.time_zone: '../UTC' is no time zone; use a name such as Europe/Berlin"),
    "duplicate project": (swapped("key: beacon", "key: apollo"), "pmsync.yaml:17: projects.1.key: the project 'apollo' is there twice"),
    "duplicate source": (swapped("name: team", "name: company-jira"), "pmsync.yaml:6: sources.1.name: the source 'company-jira' is there twice"),
    "duplicate milestone": (swapped("2026-11-30}\n", '2026-11-30}\n      - {title: "2.1", due: 2026-12-01}\n'), "pmsync.yaml:15: projects.0.milestones.1: the milestone '2.1' is there twice"),
    "a milestone of the same title": (swapped("2026-11-30}\n", '2026-11-30}\n      - {title: " 2.1", due: 2026-12-01}\n'), "pmsync.yaml:15: projects.0.milestones.1: the milestone '2.1' is there twice"),
    "a title that is a number": (swapped('title: "2.1"', "title: 2.1"), "pmsync.yaml:14: projects.0.milestones.0.title: a title is text; put quotes around it"),
    "a title of nothing": (swapped('title: "2.1"', 'title: " "'), "pmsync.yaml:14: projects.0.milestones.0.title: a title is empty; take it out"),
    "another title that is a number": (swapped("2026-11-30}", "2026-11-30, also: {company-jira: [2.1]}}"), "pmsync.yaml:14: projects.0.milestones.0.also.company-jira.0: a title is text; put quotes around it"),
    "other titles that are a word": (swapped("2026-11-30}", "2026-11-30, also: {company-jira: v2}}"), "pmsync.yaml:14: projects.0.milestones.0.also.company-jira: should be a list"),
    "a title at what is not read": (swapped("2026-11-30}", "2026-11-30, also: {gh: [v2]}}"), "pmsync.yaml:14: projects.0.milestones.0.also.gh: project apollo reads nothing of 'gh'; it reads company-jira, team"),
    "a title of two milestones": (swapped("2026-11-30}\n", '2026-11-30, also: {team: [v2]}}\n      - {title: Two, due: 2026-12-01, also: {company-jira: [v2], team: [" V2"]}}\n'), "pmsync.yaml:15: projects.0.milestones.1.also.team.0: the title ' V2' is that of milestones.0, too; take it out here or there"),
    "a title that another milestone has": (swapped("2026-11-30}\n", '2026-11-30, also: {team: [two]}}\n      - {title: Two, due: 2026-12-01}\n'), "pmsync.yaml:14: projects.0.milestones.0.also.team.0: the title 'two' is that of milestones.1, too; take it out here or there"),
    "an order with an unknown source": (swapped("    name: Apollo\n", "    name: Apollo\n    dates: [configuration, jira]\n"), "pmsync.yaml:10: projects.0.dates.1: there is no source 'jira'; known: configuration, company-jira, team"),
    "a source twice in the order": (swapped("    name: Apollo\n", "    name: Apollo\n    dates: [team, team]\n"), "pmsync.yaml:10: projects.0.dates.1: the source 'team' is there twice"),
    "reserved source": (swapped("name: team", "name: configuration").replace("team: [d", "configuration: [d"), "pmsync.yaml:6: sources.1.name: a source cannot be named 'configuration'; pmsync uses that name itself"),
    "unknown source": (swapped("      company-jira: [BEA]", "      jira: [BEA]"), "pmsync.yaml:19: projects.1.from.jira: project beacon: there is no source 'jira'; known: company-jira, team"),
    "unknown kind": (swapped("kind: calendar", "kind: calender"), "pmsync.yaml:6: sources.1: kind 'calender' is not known; installed: caldav, calendar, github, google_calendar, holidays, jira, microsoft_calendar"),
    "no kind": (swapped(" kind: calendar,", ""), "pmsync.yaml:6: sources.1: kind '' is not known; installed: caldav, calendar, github, google_calendar, holidays, jira, microsoft_calendar"),
    "a source that is a word": (swapped("  - {name: team, kind: calendar, ics: https://calendar.example.com/team.ics}", "  - team"), "pmsync.yaml:6: sources.1: kind '' is not known; installed: caldav, calendar, github, google_calendar, holidays, jira, microsoft_calendar"),
    "sources are a number": ("sources: 5\n", "pmsync.yaml:1: sources: sources is a list of entries, each with name and kind"),
    "sources are keys": ("projects: []\nsources: {a: b}\n", "pmsync.yaml:2: sources: sources is a list of entries, each with name and kind"),
    "projects are keys": ("projects: {a: b}\n", "pmsync.yaml:1: projects: should be a list"),
    "a project is a word": ("projects: [apollo]\n", "pmsync.yaml:1: projects.0: should be a section of keys"),
    "a section is a word": ("\nweb: here\n", "pmsync.yaml:2: web: should be a section of keys"),
    "containers are a word": (swapped("company-jira: [BEA]", "company-jira: BEA"), "pmsync.yaml:19: projects.1.from.company-jira: should be a list"),
    "bad mail": (swapped("leader: lead@example.com", "leader: lead"), "pmsync.yaml:10: projects.0.leader: 'lead' is no mail address"),
    "mail with a line break": (swapped("leader: lead@example.com", 'leader: "a@b\\nc"'), "pmsync.yaml:10: projects.0.leader: 'a@b\\nc' is no mail address"),
    "bad key": (swapped("key: beacon", "key: Beacon One"), "pmsync.yaml:17: projects.1.key: should be lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit"),
    "bad port": (swapped("8081", "80810"), "pmsync.yaml:26: web.port: Input should be less than or equal to 65535"),
    "no day": (swapped("2026-12-04", "soon"), "pmsync.yaml:12: projects.0.deadline: Input should be a valid date or datetime, input is too short"),
    "no working day": (swapped("    name: Apollo\n", "    name: Apollo\n    working_days: []\n"), "pmsync.yaml:10: projects.0.working_days: a project needs at least one working day"),
    "the bus": (GOOD + "bus: {kind: rabbit}\n", "pmsync.yaml:27: bus: kind is not known; there are embedded and kafka"),
    "no bus": (GOOD + "bus: kafka\n", "pmsync.yaml:27: bus: should be a section of keys"),
    "no brokers": (GOOD + "bus: {kind: kafka}\n", "pmsync.yaml:27: bus.bootstrap_servers: is missing"),
    "empty brokers": (kafka("", servers='","'), "pmsync.yaml:29: bus.bootstrap_servers: should name at least one broker"),
    "a broker without a port": (kafka("", servers="kafka"), "pmsync.yaml:29: bus.bootstrap_servers.0: 'kafka' is no broker; write HOST:PORT, as in kafka.example.com:9092"),
    "a key of the other bus": (GOOD + "bus: {partitions: 4}\n", "pmsync.yaml:27: bus.partitions: there is no such key"),
    "no partitions": (kafka("  partitions: 0\n"), "pmsync.yaml:30: bus.partitions: Input should be greater than or equal to 1"),
    "a prefix that is no name": (kafka("  prefix: a/b\n"), "pmsync.yaml:30: bus.prefix: should be letters, digits, '.', '_' and '-', at most 100 of them"),
    "SASL without a mechanism": (kafka("  security: {protocol: SASL_SSL}\n"), "pmsync.yaml:30: bus.security: mechanism goes with SASL_PLAINTEXT and SASL_SSL, and they need one"),
    "a mechanism without SASL": (kafka("  security: {protocol: SSL, mechanism: PLAIN, user: a, password: {env: A}}\n"), "pmsync.yaml:30: bus.security: mechanism goes with SASL_PLAINTEXT and SASL_SSL, and they need one"),
    "SCRAM without a password": (kafka("  security: {protocol: SASL_SSL, mechanism: SCRAM-SHA-512, user: a}\n"), "pmsync.yaml:30: bus.security: PLAIN and SCRAM need user and password"),
    "a password without SASL": (kafka("  security: {user: a, password: {env: A}}\n"), "pmsync.yaml:30: bus.security: PLAIN and SCRAM need user and password"),
    "OAUTHBEARER without a token": (kafka("  security: {protocol: SASL_SSL, mechanism: OAUTHBEARER}\n"), "pmsync.yaml:30: bus.security: OAUTHBEARER needs a token"),
    "a certificate without a key": (kafka("  security: {protocol: SSL, certificate: a.pem}\n"), "pmsync.yaml:30: bus.security: certificate and key go together"),
    "a CA without TLS": (kafka("  security: {ca: a.pem}\n"), "pmsync.yaml:30: bus.security: ca, certificate and key go with SSL and SASL_SSL"),
    "an unknown mechanism": (kafka("  security: {mechanism: GSSAPI}\n"), "pmsync.yaml:30: bus.security.mechanism: Input should be 'PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512' or 'OAUTHBEARER'"),
    "a password of Kafka in the clear": (kafka("  security: {password: hunter2}\n"), "pmsync.yaml:30: bus.security.password: a secret is given as {env: NAME} or as {file: PATH}"),
    "a person without an address": (people("{name: Ada}"), "pmsync.yaml:28: people.0.mail: is missing"),
    "a person with a bad address": (people("{mail: ada}"), "pmsync.yaml:28: people.0.mail: 'ada' is no mail address"),
    "an unknown key of a person": (people("{mail: a@b.c, acounts: {}}"), "pmsync.yaml:28: people.0.acounts: there is no such key"),
    "a name of two lines": (people('{mail: a@b.c, name: "Ada\\nL"}'), "pmsync.yaml:28: people.0.name: should be one line of text"),
    "an address of two persons": (people("{mail: a@b.c}", "{mail: A@b.c}"), "pmsync.yaml:29: people.1.mail: this address is that of people.0, too; make one person of the two"),
    "an address in other letters": (people("{mail: Lead@example.com}"), "pmsync.yaml:28: people.0.mail: projects.0 writes this address in letters of another case; write it alike in both places"),
    "an address in other letters and in these": (people("{mail: Lead@example.com}").replace("key: beacon\n", "key: beacon\n    leader: Lead@example.com\n"), "pmsync.yaml:29: people.0.mail: projects.0 writes this address in letters of another case; write it alike in both places"),
    "an account of two persons": (people("{mail: a@b.c, accounts: {company-jira: [x, y]}}", "{mail: b@b.c, accounts: {company-jira: [z, y]}}"), "pmsync.yaml:29: people.1.accounts.company-jira.1: this account is that of people.0, too; an account is one person's: take it out here or there"),
    "an account twice": (people("{mail: a@b.c, accounts: {company-jira: [x, x]}}"), "pmsync.yaml:28: people.0.accounts.company-jira.1: this account is there twice; an account is one person's: take it out here or there"),
    "an account of an unknown source": (people("{mail: a@b.c, accounts: {jira: [x]}}"), "pmsync.yaml:28: people.0.accounts.jira: there is no source 'jira'; known: company-jira, team"),
    "an account that is a number": (people("{mail: a@b.c, accounts: {company-jira: [583231]}}"), "pmsync.yaml:28: people.0.accounts.company-jira.0: the id of an account is text; put quotes around it"),
    "an account without an id": (people('{mail: a@b.c, accounts: {company-jira: [""]}}'), "pmsync.yaml:28: people.0.accounts.company-jira.0: the id of an account is empty; take it out"),
    "hours that are none": (team('hours: {mon-fri: "9 to 5"}'), "pmsync.yaml:28: people.0.hours: '9 to 5' are no hours; write 09:00-12:30, several with commas between, a night 22:00-06:00"),
    "hours of no day": (team('hours: {mo-fr: "09:00-17:00"}'), "pmsync.yaml:28: people.0.hours: 'mo-fr' are no weekdays; write mon, or mon-fri"),
    "hours of days that run back": (team('hours: {fri-mon: "09:00-17:00"}'), "pmsync.yaml:28: people.0.hours: 'fri-mon' are no weekdays; write mon, or mon-fri"),
    "hours of a day twice": (team('hours: {mon-fri: "09:00-17:00", fri: "09:00-12:00"}'), "pmsync.yaml:28: people.0.hours: fri is there twice"),
    "hours that overlap": (team('hours: {mon: "09:00-12:00, 11:00-17:00"}'), "pmsync.yaml:28: people.0.hours: hours of mon overlap each other, or those of the day after"),
    "a night into the next day's hours": (team('hours: {sun: "22:00-06:00", mon: "05:00-09:00"}'), "pmsync.yaml:28: people.0.hours: hours of sun overlap each other, or those of the day after"),
    "hours that are no time": (team('hours: {mon: "09:00-24:30"}'), "pmsync.yaml:28: people.0.hours: '09:00-24:30' are no hours; write 09:00-12:30, several with commas between, a night 22:00-06:00"),
    "a wrong zone of a person": (team("time_zone: Mars"), "pmsync.yaml:28: people.0.time_zone: 'Mars' is no time zone; use a name such as Europe/Berlin"),
    "a calendar of an unknown source": (team("calendars: {cal: [ada]}"), "pmsync.yaml:28: people.0.calendars.cal: there is no source 'cal'; known: company-jira, team"),
    "holidays of an unknown source": (team("holidays: {cal: [DE]}"), "pmsync.yaml:28: people.0.holidays.cal: there is no source 'cal'; known: company-jira, team"),
    "a calendar of two persons": (team("calendars: {team: [ada]}", "calendars: {team: [ada]}"), "pmsync.yaml:29: people.1.calendars.team: this calendar is that of people.0, too; one of several goes under `whose` of its source"),
    "an unknown project": (team("projects: {zeus: {}}"), "pmsync.yaml:28: people.0.projects.zeus: there is no project 'zeus'; known: apollo, beacon"),
    "more than all": (team("projects: {apollo: {allocation: 1.5}}"), "pmsync.yaml:28: people.0.projects.apollo.allocation: Input should be less than or equal to 1"),
    "more than all over projects": (team("projects: {apollo: {allocation: 0.7}, beacon: {allocation: 0.5, from: 2026-05-01}}"), "pmsync.yaml:28: people.0.projects.beacon: more is allocated than there is: from 2026-05-01 1.2 of 1 over all projects; make the allocations smaller"),
    "until before from": (team("projects: {apollo: {from: 2026-05-01, until: 2026-04-01}}"), "pmsync.yaml:28: people.0.projects.apollo: until is before from"),
    "a ramp from no day on": (team("projects: {apollo: {ramp: [{days: 7, share: 0.5}]}}"), "pmsync.yaml:28: people.0.projects.apollo: a ramp begins on the day from, which is missing"),
    "accounts that are a word": (people("{mail: a@b.c, accounts: {company-jira: x}}"), "pmsync.yaml:28: people.0.accounts.company-jira: should be a list"),
    "a key twice": (GOOD + "web: {port: 1}\n", "pmsync.yaml:27: web: the key is there twice"),
    "a key twice, deep": (swapped("    name: Apollo\n", "    name: Apollo\n    name: Apollo\n"), "pmsync.yaml:10: name: the key is there twice"),
    "not YAML": ("sources: [\n", "pmsync.yaml:2: not YAML: expected the node content, but found '<stream end>'"),
    "a tab": ("web:\n\tport: 1\n", "pmsync.yaml:2: not YAML: found character '\\t' that cannot start any token"),
    "empty": ("", "pmsync.yaml:1: expected keys such as sources and projects"),
    "a list": ("- a\n", "pmsync.yaml:1: expected keys such as sources and projects"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_fault_is_said_with_line_key_and_words(tmp_path: Path, fault: str) -> None:
    text, words = BAD[fault]
    assert faults(tmp_path, text) == [words]


def test_brokers_are_given_as_a_list_or_as_kafka_writes_them(tmp_path: Path) -> None:
    for text in ("kafka-0:9092, kafka-1:9092", "[kafka-0:9092, kafka-1:9092]"):
        assert loaded(tmp_path, kafka("", servers=text)).bus.bootstrap_servers == ("kafka-0:9092", "kafka-1:9092")
    environment = {"PMSYNC_BUS__KIND": "kafka", "PMSYNC_BUS__BOOTSTRAP_SERVERS": "kafka-0:9092,kafka-1:9092"}
    assert loaded(tmp_path, GOOD, environment).bus.bootstrap_servers == ("kafka-0:9092", "kafka-1:9092")


@pytest.mark.parametrize(
    "security",
    [
        "{}",
        "{protocol: SSL}",
        "{protocol: SSL, ca: ca.pem, certificate: me.pem, key: me.key, key_password: {env: KEY}}",
        "{protocol: SASL_SSL, mechanism: SCRAM-SHA-512, user: pmsync, password: {env: KAFKA}}",
        "{protocol: SASL_PLAINTEXT, mechanism: PLAIN, user: pmsync, password: {file: /run/kafka}}",
        "{protocol: SASL_SSL, mechanism: OAUTHBEARER, token: {file: /run/token}}",
    ],
)
def test_ways_to_sign_in_to_kafka(tmp_path: Path, security: str) -> None:
    config = loaded(tmp_path, kafka(f"  security: {security}\n"))
    assert isinstance(config.bus, KafkaBusConfig)
    jsonschema.validate(yaml.safe_load((tmp_path / "pmsync.yaml").read_text())["bus"], _bus_schema())


def _bus_schema() -> dict[str, Any]:
    whole = json.loads(json_schema())
    return {"$defs": whole["$defs"], **whole["properties"]["bus"]}


def test_every_fault_is_said_at_once(tmp_path: Path) -> None:
    text = swapped("Europe/Berlin", "Berlin").replace("8081", "-1").replace("key: beacon", "key: B")
    assert [line.split(": ")[1] for line in faults(tmp_path, text)] == ["projects.0.time_zone", "projects.1.key", "web.port"]  # fmt: skip


@pytest.mark.parametrize("place", ["password: {env: MAIL_PASSWORD}", "token: {env: JIRA_TOKEN}"])
@pytest.mark.parametrize("secret", ["hunter2", "{env: A, file: hunter2}", "{value: hunter2}", "[hunter2]"])
def test_a_secret_in_the_clear_is_refused_and_not_shown(tmp_path: Path, place: str, secret: str) -> None:
    name, _, _ = place.partition(":")
    said = faults(tmp_path, swapped(place, f"{name}: {secret}"))
    words = "there is no such key" if "value" in secret else "a secret is given as {env: NAME} or as {file: PATH}"
    assert any(line.endswith(words) for line in said)
    assert all(line.startswith(("pmsync.yaml:5: sources.0.auth.token", "pmsync.yaml:25: notify.mail.password")) for line in said)  # fmt: skip
    assert not any("hunter2" in line for line in said)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file or directory\); `pmsync demo`"):
        load(tmp_path / "none.yaml", {})
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load(tmp_path, {})


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "pmsync.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"cannot be read .*utf-8"):
        load(tmp_path / "pmsync.yaml", {})


def test_an_empty_section_is_its_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, "sources:\nprojects:\nweb:\n") == Config()


_loose = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70_000) | st.text("aA1.é", max_size=4) | st.dates(),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.sampled_from([*Config.model_fields, "key", "from", "name", "kind"]), below, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(list(Config.model_fields)), _loose, max_size=4))
def test_whatever_the_file_says_it_loads_or_is_said(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("any") / "pmsync.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    said = ""
    try:
        load(path, {})
    except ConfigError as error:
        said = str(error)
    assert all(line.startswith(f"{path}:") for line in said.splitlines())


# --- the environment --------------------------------------------------------------------------------------------------


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    environment = {
        "PMSYNC_WEB__PORT": "9000",
        "PMSYNC_STORE__URL": "postgresql+psycopg://db/pmsync",
        "PMSYNC_NOTIFY__MAIL__TLS": "tls",
        "PMSYNC_NOTIFY__CONSOLE": "false",
        "PMSYNC_POLL__EVERY_SECONDS": "5",
        "PMSYNC_CONFIG": "elsewhere.yaml",  # the command line's own
        "PMSYNC_DEMO_JIRA_TOKEN": "x",
        "WEB__PORT": "1",
    }
    config = loaded(tmp_path, GOOD, environment)
    assert (config.web.port, config.store.url) == (9000, "postgresql+psycopg://db/pmsync")
    assert config.notify.mail
    assert (config.notify.mail.tls, config.notify.console, config.poll.every_seconds) == ("tls", False, 5)
    assert config.notify.mail.host == "smtp.example.com"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PMSYNC_WEB__PORT", "many", "PMSYNC_WEB__PORT: web.port: Input should be a valid integer, unable to parse string as an integer"),
        ("PMSYNC_WEB__PRT", "1", "PMSYNC_WEB__PRT: web.prt: there is no such key"),
        ("PMSYNC_STORE__URL", "a: b: c", "PMSYNC_STORE__URL: not YAML; put quotes around it"),
        ("PMSYNC_SOURCES__0__URL", "x", "PMSYNC_SOURCES__0__URL: sources.0 is no section; set it in the file"),
        ("PMSYNC_WEB__PORT__X", "x", "PMSYNC_WEB__PORT__X: web.port is no section; set it in the file"),
        ("PMSYNC_NOTIFY__MAIL__PASSWORD", "hunter2", "PMSYNC_NOTIFY__MAIL__PASSWORD: notify.mail.password: a secret is given as {env: NAME} or as {file: PATH}"),
    ],
)  # fmt: skip
def test_a_fault_of_the_environment_names_the_variable(tmp_path: Path, name: str, value: str, words: str) -> None:
    assert faults(tmp_path, GOOD, {name: value}) == [words]


# --- the schema -------------------------------------------------------------------------------------------------------


def test_the_schema_is_a_schema_and_knows_the_good_file() -> None:
    schema = json.loads(json_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    values = json.loads(json.dumps(yaml.safe_load(GOOD), default=str))
    jsonschema.validate(values, schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://pmsync:hunter2@db/pmsync",
        "postgresql://pmsync:hun/ter2@db/pmsync",
        "postgresql://db/pmsync?user=pmsync&password=hunter2",
    ],
)
def test_a_password_in_the_address_of_the_store_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"pmsync\.yaml:2: store\.url: .* give store\.password, as {env: NAME}"
    ) as error:
        loaded(tmp_path, f"store:\n  url: {url}\n")
    assert "ter2" not in str(error.value)
    assert loaded(tmp_path, "projects: []\n", {"PMSYNC_STORE__URL": url}).store.url == url, "a variable may carry it"


def test_the_password_of_the_store_is_a_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = loaded(
        tmp_path, "store: {url: postgresql://pmsync@db:5432/pmsync, password: {env: DATABASE_PASSWORD}}\n"
    ).store
    with pytest.raises(Fatal, match="DATABASE_PASSWORD is not set"):
        store.secret()
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    assert store.secret() == "hunter2"
    assert "hunter2" not in repr(store)
    assert loaded(tmp_path, "store: {url: 'sqlite:///a:b@c.db'}\n").store.secret() is None


@pytest.mark.parametrize("fault", ["unknown key", "unknown key of a source", "missing key", "bad port", "projects are keys", "unknown threshold", "a person without an address", "an unknown key of a person", "an account that is a number", "accounts that are a word"])  # fmt: skip
def test_the_schema_finds_what_the_loader_finds(fault: str) -> None:
    values = json.loads(json.dumps(yaml.safe_load(BAD[fault][0]), default=str))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, json.loads(json_schema()), cls=jsonschema.Draft202012Validator)


# --- what is applied --------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConfigurationStore]:
    with closing(Store(f"sqlite:///{tmp_path / 'pmsync.db'}")) as store:
        store.migrate()
        yield ConfigurationStore(store)


def configured(**projects: dict[str, Any]) -> Config:
    """A configuration of some projects, which may read the sources `jira` and `gh`."""
    token = {"env": "TOKEN"}
    sources = [
        {"name": "jira", "kind": "jira", "url": "https://example.atlassian.net", "auth": {"email": "a@b.c", "token": token}},
        {"name": "gh", "kind": "github", "auth": {"token": token}},
    ]  # fmt: skip
    entries = [{"key": key, **values} for key, values in projects.items()]
    return Config.model_validate({"sources": sources, "projects": entries})


APOLLO: dict[str, Any] = {"from": {"jira": ["APO"]}, "leader": "lead@example.com"}


def test_a_first_apply_then_nothing_changes(store: ConfigurationStore) -> None:
    config = configured(apollo=APOLLO, beacon={"thresholds": {"blocked_days": 9}})
    assert apply(config, store, NOW).lines == ("+ apollo: new project 'apollo'", "+ beacon: new project 'beacon'")
    applied = store.projects()
    again = apply(config, store, NOW + timedelta(days=1))
    assert again.lines == ()
    assert store.projects() == applied
    assert again.projects == applied


def test_an_apply_is_written_down_whole(store: ConfigurationStore) -> None:
    values = {
        "name": "Apollo", "leader": "lead@example.com", "time_zone": "Europe/Berlin", "working_days": ["tue", "mon"],
        "deadline": "2026-12-04", "milestones": [{"title": "2.1", "due": "2026-11-30", "also": {"jira": ["v2.1"]}}],
        "dates": ["jira", "configuration"],
        "from": {"jira": ["APO"]}, "notify": ["two@example.com"], "thresholds": {"ladder": [5, 1]},
    }  # fmt: skip
    found = apply(configured(apollo=values), store, NOW).projects["apollo"]
    assert found == store.projects()["apollo"]
    assert (found.working_days, found.deadline, found.thresholds.ladder) == ((0, 1), date(2026, 12, 4), (5, 1))
    assert found.mapping == {"jira": {"APO": version_at(NOW)}}
    assert (found.dates, found.milestones[0].also) == (("jira", "configuration"), {"jira": ("v2.1",)})
    assert store.mail(str(found.leader)) == "lead@example.com"
    assert "@" not in body(found), "no address leaves the table of people"


def test_a_mapping_keeps_its_beginning(store: ConfigurationStore) -> None:
    apply(configured(apollo=APOLLO), store, NOW)
    later = NOW + timedelta(days=1)
    planned = apply(configured(apollo={"from": {"jira": ["BEA", "APO"], "gh": ["a/b"]}}), store, later)
    began, begins = version_at(NOW), version_at(later)
    assert planned.projects["apollo"].mapping == {"jira": {"APO": began, "BEA": begins}, "gh": {"a/b": begins}}
    assert planned.lines == (
        "~ apollo: leader changes",
        "~ apollo: reads gh/a/b from the beginning",
        "~ apollo: reads jira/BEA from the beginning",
    )


def test_a_mapping_that_ends_and_comes_back_begins_anew_even_if_the_clock_runs_back(store: ConfigurationStore) -> None:
    first = apply(configured(apollo=APOLLO, beacon={"from": {"jira": ["BEA"]}}), store, NOW)
    gone = apply(configured(apollo={}, beacon={"from": {"jira": ["BEA"]}}), store, NOW)
    assert gone.lines == ("~ apollo: leader changes", "~ apollo: no longer reads jira/APO")
    back = apply(configured(apollo=APOLLO, beacon={"from": {"jira": ["BEA"]}}), store, NOW - timedelta(days=5))
    began, begins = (each.projects["apollo"].mapping["jira"]["APO"] for each in (first, back))
    assert begins > began


def test_a_plan_is_written_for_people(store: ConfigurationStore) -> None:
    apply(configured(apollo={"from": {"jira": ["APO"]}}), store, NOW)
    values = {
        "from": {"jira": ["APO"]},
        "milestones": [
            {"title": "2.1", "due": "2027-01-29"},
            {"title": "3", "due": "2027-02-01", "also": {"jira": ["v3"]}},
        ],
        "dates": ["jira"],
        "thresholds": {"ladder": [5]},
        "deadline": "2027-03-01",
    }
    assert apply(configured(apollo=values), store, NOW).lines == (
        "~ apollo: deadline: none -> 2027-03-01",
        "~ apollo: milestones: none -> 2.1 due 2027-01-29, 3 due 2027-02-01 (also jira: v3)",
        "~ apollo: dates: none -> jira",
        (
            "~ apollo: thresholds: ladder 14, 7, 3, 1, 0, blocked_days 2, stale_days 10, on_time 700 -> "
            "ladder 5, blocked_days 2, stale_days 10, on_time 700"
        ),
    )


def test_a_removed_project_is_removed(store: ConfigurationStore) -> None:
    apply(configured(apollo=APOLLO, beacon={}), store, NOW)
    assert apply(configured(beacon={}), store, NOW).lines == ("- apollo: removed",)
    assert store.projects().keys() == {"beacon"}
    assert apply(configured(), store, NOW).lines == ("- beacon: removed",)
    assert store.projects() == {}


def test_the_order_in_the_file_says_nothing(store: ConfigurationStore) -> None:
    one = {"from": {"jira": ["APO", "BEA"], "gh": ["a/b"]}, "working_days": ["mon", "tue"]}
    other = {"working_days": ["tue", "mon"], "from": {"gh": ["a/b"], "jira": ["BEA", "APO"]}}
    apply(configured(apollo=one), store, NOW)
    assert apply(configured(apollo=other), store, NOW).lines == ()


def test_a_dry_run_writes_nothing(store: ConfigurationStore) -> None:
    config = configured(apollo=APOLLO)
    planned = plan(config, store.projects(), store.known_person_ids(mails(config)), NOW)
    assert planned.lines == ("+ apollo: new project 'apollo'",)
    assert store.projects() == {}
    assert store.known_person_ids(mails(config)) == {}


def test_no_address_stands_in_a_plan(store: ConfigurationStore) -> None:
    apply(configured(apollo={"leader": "one@example.com"}), store, NOW)
    config = configured(apollo={"leader": "two@example.com", "notify": ["three@example.com"]})
    planned = plan(config, store.projects(), {"two@example.com": "person-2", "three@example.com": "person-3"}, NOW)
    assert planned.lines == ("~ apollo: leader changes", "~ apollo: notify changes")


CALENDARS: dict[str, Any] = {
    "sources": [
        {"name": "cal", "kind": "calendar", "ics": "x.ics", "whose": {"team": [{"title": "A*", "account": "a1"}]}},
        {"name": "gh", "kind": "github", "auth": {"token": {"env": "TOKEN"}}},
        {"name": "public", "kind": "holidays"},
    ],
    "projects": [
        {"key": "apollo", "time_zone": "Europe/Berlin", "from": {"cal": ["team"], "public": ["DE"]}, "working_days": ["mon", "sun"]},
        {"key": "beacon", "capacity": {"meetings": True, "per_person": True}},
    ],
    "people": [
        {
            "mail": "ada@b.c", "accounts": {"cal": ["a1"], "gh": ["7"]}, "calendars": {"cal": ["ada"]},
            "projects": {"apollo": {"allocation": 0.333, "from": "2026-03-02", "ramp": [{"days": 7, "share": 0.25}]}, "beacon": {"allocation": 0.5}},
        },
        {
            "mail": "bo@b.c", "time_zone": "Europe/Dublin", "hours": {"mon-tue": "09:00-12:30,13:30-18:00", "fri": "22:00-06:00"},
            "holidays": {"public": ["IE", "DE"]}, "projects": {"apollo": {"until": "2026-12-31"}},
        },
        {"mail": "cy@b.c", "calendars": {"cal": ["cy"]}},
    ],
}  # fmt: skip


def test_a_team_is_applied_with_its_calendars_and_without_names(store: ConfigurationStore) -> None:
    config = Config.model_validate(CALENDARS)
    apply(config, store, NOW)
    ids = store.known_person_ids(mails(config))
    apollo, beacon = store.projects()["apollo"], store.projects()["beacon"]
    team = {each.person: each for each in apollo.team}
    ada, bo = team[ids["ada@b.c"]], team[ids["bo@b.c"]]
    assert len(team) == 2
    assert (ada.time_zone, ada.allocation, ada.joins, ada.leaves) == ("Europe/Berlin", 333, date(2026, 3, 2), None)
    usual = [[(shift.start, shift.end) for shift in day] for day in ada.hours]
    assert usual == [[(540, 1020)], [], [], [], [], [], [(540, 1020)]]
    assert [(step.days, step.share) for step in ada.ramp] == [(7, 250)]
    assert (ada.calendars, ada.accounts, ada.holidays) == ({"cal": ("ada",)}, {"cal": ("a1",)}, None)
    assert (bo.time_zone, bo.allocation, bo.leaves) == ("Europe/Dublin", 1000, date(2026, 12, 31))
    hours = [[(shift.start, shift.end) for shift in day] for day in bo.hours]
    assert hours == [[(540, 750), (810, 1080)]] * 2 + [[], [], [(1320, 1800)], [], []]
    assert bo.holidays == {"public": ("DE", "IE")}
    read = {source: set(containers) for source, containers in apollo.mapping.items()}
    assert read == {"cal": {"team", "ada"}, "public": {"DE", "IE"}}
    assert apollo.personal == {"cal": ("ada",), "public": ("IE",)}
    assert (beacon.count_meetings, beacon.per_person, beacon.personal) == (True, True, {"cal": ("ada",)})
    assert (apollo.count_meetings, apollo.per_person) == (False, False)
    assert config.mapped("cal") == {"team", "ada"}
    assert "@" not in body(apollo) + body(beacon)


def test_another_team_is_a_change_that_names_nobody(store: ConfigurationStore) -> None:
    apply(Config.model_validate(CALENDARS), store, NOW)
    before = store.projects()["apollo"].mapping["cal"]["team"]
    ada, *others = CALENDARS["people"]
    people = [{**ada, "calendars": {"cal": ["new"]}}, *others]
    planned = apply(Config.model_validate({**CALENDARS, "people": people}), store, NOW)
    assert planned.lines == tuple(
        f"~ {key}: {what}"
        for key in ("apollo", "beacon")
        for what in (
            "no longer reads cal/ada",
            "reads cal/new from the beginning",
            "team changes",
            "what is read for its team changes",
        )
    )
    assert planned.projects["apollo"].mapping["cal"]["team"] == before


def test_a_project_of_before_there_were_teams_loads() -> None:
    known = Project.model_validate_json('{"kind": "project", "key": "apollo", "name": "Apollo"}')
    assert (known.team, known.personal, known.count_meetings, known.per_person) == ((), {}, False, False)


def test_a_person_keeps_their_id(store: ConfigurationStore) -> None:
    first = store.person_ids(["a@example.com", "b@example.com"])
    again = store.person_ids(["b@example.com", "c@example.com"])
    assert again["b@example.com"] == first["b@example.com"]
    assert len({*first.values(), *again.values()}) == 3
    assert store.mail("person-none") is None


def test_routes_gather_the_projects_of_each_container() -> None:
    mapping = {"apollo": {"jira": {"A": 1, "B": 2}}, "beacon": {"jira": {"B": 3}, "gh": {"a/b": 4}}, "cirrus": {}}
    projects = {key: Project(key=key, name=key, mapping=value) for key, value in mapping.items()}
    assert routes(projects) == {"jira": {"A": {"apollo": 1}, "B": {"apollo": 2, "beacon": 3}}, "gh": {"a/b": {"beacon": 4}}}  # fmt: skip
