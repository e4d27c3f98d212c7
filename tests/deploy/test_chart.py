"""The Helm chart: lint, Kubernetes' own schemas, what every pod must be, and that pmsync takes what it is given.

No cluster is needed; helm, kubeconform and the schemas come from `tests/deploy/tools.py`.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from click.testing import CliRunner

from pmsync.cli import cli
from pmsync.config import load, override
from tests.deploy.manifests import Manifest, Pod, pods, violations

CHART = Path(__file__).parents[2] / "deploy" / "chart"
SECONDS = 60
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Values = Mapping[str, Any]


# --- what is installed: a small one, and what differs from it ---------------------------------------------------------


def secret(name: str) -> dict[str, str]:
    return {"file": f"/run/secrets/pmsync/{name}"}


JIRA = {
    "name": "jira", "kind": "jira", "url": "https://example.atlassian.net",
    "auth": {"email": "you@example.com", "token": secret("jira-token")},
}  # fmt: skip
CALENDAR = {"kind": "calendar", "ics": {"deadlines": "https://calendar.example.com/deadlines.ics"}}
MINIMAL: Values = {
    "config": {
        "bus": {"kind": "kafka", "bootstrap_servers": "kafka:9092"},
        "store": {"url": "postgresql+psycopg://pmsync@db/pmsync", "password": secret("database-password")},
        "sources": [JIRA],
        "projects": [{"key": "apollo", "deadline": "2027-03-31", "from": {"jira": ["APO"]}}],
    },
    "existingSecrets": ["pmsync-database"],
}
MANY = ["gh", "team.a", "team_a", "team-a", "t" * 63, f"{'t' * 62}-", "x-"]
TLS = {
    "protocol": "SSL", "ca": "/run/secrets/pmsync/ca.crt", "certificate": "/run/secrets/pmsync/user.crt",
    "key": "/run/secrets/pmsync/user.key",
}  # fmt: skip
SCRAM = {"protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-512", "user": "pmsync", "password": secret("kafka-password")}
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
CASES: Mapping[str, Values] = {
    "minimal": {},
    "many sources": {"config": {"sources": [JIRA, *({**CALENDAR, "name": name} for name in MANY)]}},
    "mTLS": {"config": {"bus": {"security": TLS}}, "existingSecrets": ["pmsync-database", "kafka-user", "kafka-ca"]},
    "SCRAM": {"config": {"bus": {"security": SCRAM, "replication": 3}}},
    "a Secret for each": {
        "connectors": {"existingSecrets": {"jira": ["pmsync-jira"]}},
        "notifier": {"existingSecrets": ["pmsync-mail"]},
        "config": {"notify": {"console": False, "mail": {
            "host": "smtp.example.com", "sender": "pmsync@example.com", "user": "pmsync", "password": secret("mail"),
        }}},
    },
    "no Secret": {"existingSecrets": [], "config": {"store": {"password": None}}},
    "network policy": {"networkPolicy": {"enabled": True}},
    "network policy with peers": {"networkPolicy": {
        "enabled": True, "pages": [PEER], "metrics": [PEER], "kafka": {"ports": [9093, 9094], "to": [PEER]},
        "sources": {"ports": [443, 8443], "except": [], "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]},
    }},
    "topics are made by others": {"apply": {"topics": False}},
    "one of each": {"aggregator": {"replicas": 1}, "web": {"replicas": 1}},
    "as many as there are partitions": {"aggregator": {"replicas": 24}, "config": {"bus": {"partitions": 24}}},
    "no pages": {"web": {"replicas": 0}, "notifier": {"replicas": 0}},
    "an image by digest": {"image": {"repository": "registry.example.com/team/pmsync", "digest": f"sha256:{'0' * 64}"}},
    "an image by tag": {"image": {"tag": "0.1.0-rc.1", "pullPolicy": "Always"}, "imagePullSecrets": ["registry"]},
    "nodes": {
        "nodeSelector": {"kubernetes.io/arch": "arm64"}, "tolerations": [{"key": "team", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
    "environment": {"env": {"HTTPS_PROXY": "http://proxy:3128", "PMSYNC_POLL__EVERY_SECONDS": 120}},
    "another port": {"web": {"port": 9000}, "networkPolicy": {"enabled": True, "pages": [PEER]}},
}  # fmt: skip


def merged(below: Any, above: Any) -> Any:
    """`above` over `below`, section by section."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return copy.deepcopy(above)
    keys = [*below, *(key for key in above if key not in below)]
    return {key: merged(below.get(key), above[key]) if key in above else copy.deepcopy(below[key]) for key in keys}


class Said(NamedTuple):
    """What a tool printed, and its exit code."""

    code: int
    text: str


class Helm:
    """helm and kubeconform, run as a person would."""

    def __init__(self, tools: Path, folder: Path) -> None:
        self._tools, self._folder = tools, folder
        self._rendered: dict[str, str] = {}

    def run(self, command: str, values: Values, *words: str, chart: Path = CHART) -> Said:
        """`helm lint` or `helm template`."""
        file = self._folder / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        name = ["pm"] if command == "template" else []
        home = {key: str(self._folder) for key in ("HOME", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}
        done = subprocess.run(
            [self._tools / "helm", command, *name, chart, "--values", file, *words],
            env=home, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        return Said(done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr)

    def rendered(self, values: Values, chart: Path = CHART) -> list[Manifest]:
        """The manifests; the same ones are rendered once."""
        asked = json.dumps([str(chart), values])
        if asked not in self._rendered:
            said = self.run("template", values, chart=chart)
            assert said.code == 0, said.text
            self._rendered[asked] = json.dumps([each for each in yaml.load_all(said.text, LOADER) if each])
        found: list[Manifest] = json.loads(self._rendered[asked])
        return found

    def conform(self, documents: list[Manifest]) -> Said:
        """kubeconform over manifests, against the schemas of Kubernetes, strictly and without a network."""
        place = f"{self._tools}/schemas/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
        done = subprocess.run(
            [self._tools / "kubeconform", "-strict", "-summary", "-schema-location", place],
            input="\n---\n".join(map(json.dumps, documents)), env={}, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        return Said(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def helm(needs: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(Path(needs("helm")), tmp_path_factory.mktemp("helm"))


@pytest.fixture(params=CASES)
def values(request: pytest.FixtureRequest) -> Values:
    """Each case in turn."""
    found: Values = merged(MINIMAL, CASES[request.param])
    return found


def named(documents: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = (each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


# --- what holds in every case -----------------------------------------------------------------------------------------


def test_lint_finds_nothing(helm: Helm, values: Values) -> None:
    said = helm.run("lint", values, "--strict")
    assert (said.code, "WARNING" in said.text) == (0, False), said.text


def test_kubernetes_knows_every_field(helm: Helm, values: Values) -> None:
    documents = helm.rendered(values)
    said = helm.conform(documents)
    assert said.code == 0, said.text
    assert f"Valid: {len(documents)}, Invalid: 0, Errors: 0, Skipped: 0" in said.text


def test_every_pod_is_restricted_limited_and_watched(helm: Helm, values: Values) -> None:
    documents = helm.rendered(values)
    assert violations(documents) == []
    assert len(list(pods(documents))) >= 6


def test_names_and_selectors_fit(helm: Helm, values: Values) -> None:
    """Names that DNS takes, no two alike, and each selector finds the pods of its own manifest and no others."""
    documents = helm.rendered(values)
    names = [(each["kind"], each["metadata"]["name"]) for each in documents]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 and name.strip("-") == name for _, name in names)
    templates = {pod.place: pod.template["metadata"]["labels"] for pod in pods(documents)}
    for kind, name in names:
        if kind in {"Deployment", "StatefulSet"}:
            wanted = named(documents, kind, name)["spec"]["selector"]["matchLabels"].items()
            assert [place for place, labels in templates.items() if wanted <= labels.items()] == [f"{kind}/{name}"]


def test_every_role_is_there(helm: Helm, values: Values) -> None:
    found = sorted(pod.spec["containers"][0]["args"] for pod in pods(helm.rendered(values)))
    sources = [["connector", source["name"]] for source in values["config"]["sources"]]
    assert found == sorted([["aggregator"], ["apply"], ["doctor"], ["notifier"], ["web"], *sources])


def test_pmsync_knows_every_command(helm: Helm, values: Values) -> None:
    for pod in pods(helm.rendered(values)):
        for container in pod.containers:
            said = CliRunner().invoke(cli, [*container["args"], "--help"])
            assert said.exit_code == 0, said.output


def test_pmsync_takes_the_configuration_and_the_environment(helm: Helm, values: Values, tmp_path: Path) -> None:
    documents = helm.rendered(values)
    for pod in pods(documents):
        file = tmp_path / "pmsync.yaml"
        (volume,) = (each["configMap"]["name"] for each in pod.spec["volumes"] if "configMap" in each)
        file.write_text(named(documents, "ConfigMap", volume)["data"]["pmsync.yaml"])
        for container in pod.containers:
            given = {each["name"]: each.get("value", "a-name") for each in container["env"]}
            assert len(given) == len(container["env"])
            config = load(file, given)
            assert [source.name for source in config.sources] == [each["name"] for each in values["config"]["sources"]]
            ours = {name for name in given if name.startswith("PMSYNC_") and "__" in name}
            known = set(override({}, given).values())
            assert ours - known == set()


def test_secrets_are_files_of_secrets_that_are_there(helm: Helm, values: Values) -> None:
    """Every file that the configuration names is in the folder where the pods have their Secrets."""
    documents = helm.rendered(values)
    config = named(documents, "ConfigMap", "pm-pmsync")["data"]["pmsync.yaml"]
    files = {line.strip().partition(": ")[2] for line in config.splitlines() if "/run/" in line}
    assert bool(files) == bool(values["existingSecrets"]) or values["existingSecrets"] == []
    for pod in pods(documents):
        for container in pod.containers:
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            assert ("secrets" in mounts) == ("secrets" in {each["name"] for each in pod.spec["volumes"]})
            for mount in mounts.values():
                assert mount["name"] == "tmp" or mount["readOnly"]
            if "secrets" in mounts:
                assert all(file.startswith(mounts["secrets"]["mountPath"] + "/") for file in files)


# --- who is given what ------------------------------------------------------------------------------------------------


def secrets(pod: Pod) -> list[str]:
    """The names of the Secrets that a pod sees."""
    sources = [each["projected"]["sources"] for each in pod.spec["volumes"] if "projected" in each]
    return [source["secret"]["name"] for each in sources for source in each]


def by_command(documents: list[Manifest]) -> Mapping[str, Pod]:
    return {" ".join(pod.spec["containers"][0]["args"]): pod for pod in pods(documents)}


def test_a_role_sees_its_own_secrets_alone(helm: Helm) -> None:
    found = by_command(helm.rendered(merged(MINIMAL, CASES["a Secret for each"])))
    common = ["pmsync-database"]
    assert {name: secrets(pod) for name, pod in found.items()} == {
        "aggregator": common,
        "apply": common,
        "web": common,
        "connector jira": [*common, "pmsync-jira"],
        "notifier": [*common, "pmsync-mail"],
        "doctor": [*common, "pmsync-mail", "pmsync-jira"],
    }


def test_a_source_has_a_single_reader(helm: Helm) -> None:
    documents = helm.rendered(merged(MINIMAL, CASES["many sources"]))
    connectors = [
        each for each in documents if each["kind"] == "Deployment" and "-connector-" in each["metadata"]["name"]
    ]
    assert len(connectors) == 1 + len(MANY)
    assert {(each["spec"]["replicas"], each["spec"]["strategy"]["type"]) for each in connectors} == {(1, "Recreate")}


def test_an_aggregator_keeps_its_name(helm: Helm) -> None:
    documents = helm.rendered(MINIMAL)
    aggregator = named(documents, "StatefulSet", "pm-pmsync-aggregator")
    named(documents, "Service", aggregator["spec"]["serviceName"])
    (container,) = aggregator["spec"]["template"]["spec"]["containers"]
    (member,) = (each for each in container["env"] if each["name"] == "PMSYNC_BUS__MEMBER")
    assert member["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_only_the_pages_are_behind_a_service(helm: Helm) -> None:
    documents = helm.rendered(MINIMAL)
    web = named(documents, "Service", "pm-pmsync-web")["spec"]
    assert [port["targetPort"] for port in web["ports"]] == ["pages"]
    (container,) = named(documents, "Deployment", "pm-pmsync-web")["spec"]["template"]["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"health": 8081, "pages": 8080}
    others = [each["metadata"]["name"] for each in documents if each["kind"] == "Service" and each["spec"] != web]
    assert others == ["pm-pmsync-aggregator"]


def test_a_change_of_projects_or_people_starts_nothing_anew(helm: Helm) -> None:
    """They are applied; whatever else changes in the file is read when a process starts."""

    def templates(values: Values) -> list[Manifest]:
        return [pod.template for pod in pods(helm.rendered(values)) if pod.serves]

    before = templates(MINIMAL)
    assert templates(merged(MINIMAL, {"config": {"projects": []}})) == before
    assert templates(merged(MINIMAL, {"config": {"people": [{"mail": "ada@example.com"}]}})) == before
    assert templates(merged(MINIMAL, {"config": {"poll": {"every_seconds": 90}}})) != before


def test_topics_and_projects_come_before_all_else(helm: Helm) -> None:
    documents = helm.rendered(MINIMAL)
    job, config = (named(documents, kind, "pm-pmsync-apply") for kind in ("Job", "ConfigMap"))
    hooks = [each["metadata"]["annotations"] for each in (config, job)]
    assert [hook["helm.sh/hook"] for hook in hooks] == ["pre-install,pre-upgrade"] * 2
    assert int(hooks[0]["helm.sh/hook-weight"]) < int(hooks[1]["helm.sh/hook-weight"])
    spec = job["spec"]["template"]["spec"]
    assert [each["args"] for each in spec["initContainers"]] == [["topics", "apply"]]
    assert "serviceAccountName" not in spec, "the chart's ServiceAccount is not there yet when a hook runs"
    without = helm.rendered(merged(MINIMAL, CASES["topics are made by others"]))
    assert "initContainers" not in named(without, "Job", "pm-pmsync-apply")["spec"]["template"]["spec"]


def test_a_drain_takes_one_at_a_time_and_waits_for_nobody(helm: Helm) -> None:
    budgets = [each["spec"] for each in helm.rendered(MINIMAL) if each["kind"] == "PodDisruptionBudget"]
    assert [(each["maxUnavailable"], "minAvailable" in each) for each in budgets] == [(1, False)] * 4


# --- network policy ---------------------------------------------------------------------------------------------------


def policies(helm: Helm, case: str) -> Mapping[str, Manifest]:
    documents = helm.rendered(merged(MINIMAL, CASES[case]))
    return {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == "NetworkPolicy"}


def test_nothing_goes_in_or_out_but_what_is_named(helm: Helm) -> None:
    assert policies(helm, "minimal") == {}
    found = policies(helm, "network policy")
    everyone = found["pm-pmsync"]
    assert set(everyone["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in everyone
    assert everyone["podSelector"]["matchLabels"].keys() == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    assert "pm-pmsync-web" not in found
    reach = {name: [port["port"] for rule in spec["egress"] for port in rule["ports"]] for name, spec in found.items()}
    assert reach == {"pm-pmsync": [53, 53, 9092, 5432], "pm-pmsync-notifier": [587], "pm-pmsync-connector": [443]}
    (rule,) = found["pm-pmsync-connector"]["egress"]
    (world,) = rule["to"]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(world["ipBlock"]["except"])


def test_peers_are_let_in_to_what_they_are_named_for(helm: Helm) -> None:
    found = policies(helm, "network policy with peers")
    ingress = {
        name: [(rule["from"], [port["port"] for port in rule["ports"]]) for rule in spec.get("ingress", ())]
        for name, spec in found.items()
    }
    assert ingress["pm-pmsync"] == [([PEER], [8081])]
    assert ingress["pm-pmsync-web"] == [([PEER], [8080])]
    assert found["pm-pmsync"]["egress"][1]["to"] == [PEER]


# --- what is refused, before anything is installed --------------------------------------------------------------------


REFUSED: Mapping[str, tuple[Values, str]] = {
    "a key that is not there": ({"replicas": 3}, "replicas"),
    "a misspelt key further in": ({"aggregator": {"replica": 3}}, "replica"),
    "a wrong type": ({"aggregator": {"replicas": "many"}}, "replicas"),
    "no sources": ({"config": {"sources": []}}, "sources"),
    "the embedded log": ({"config": {"bus": {"kind": "embedded"}}}, "kind"),
    "a store that pods cannot share": ({"config": {"store": {"url": "sqlite:///pmsync.db"}}}, "url"),
    "one name for all aggregators": ({"config": {"bus": {"member": "me"}}}, "bus"),
    "no configuration": ({"config": None}, "config"),
    "a secret as a value": ({"existingSecrets": [{"password": "x"}]}, "existingSecrets"),
    "limits that are taken away": ({"web": {"resources": {"limits": {"memory": None}}}}, "limits"),
    "an image without a version": ({"image": {"tag": "latest"}}, "tag"),
    "a port that is taken": ({"web": {"port": 8081}}, "port"),
    "what the chart itself sets": ({"env": {"PMSYNC_HEALTH__PORT": 1}}, "PMSYNC_HEALTH__PORT"),
    "more aggregators than partitions": ({"aggregator": {"replicas": 9}}, "9 aggregators for 8 partitions"),
    "a Secret for no source": ({"connectors": {"existingSecrets": {"jirra": ["x"]}}}, 'no source "jirra"; known: jira'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_its_place(helm: Helm, case: str) -> None:
    values, words = REFUSED[case]
    said = helm.run("template", merged(MINIMAL, values))
    assert said.code != 0
    assert words in said.text


# --- faults of the chart itself are caught ----------------------------------------------------------------------------


class Fault(NamedTuple):
    """Something that goes wrong in a template, and what says so."""

    file: str
    old: str
    new: str
    caught: str


FAULTS: Mapping[str, Fault] = {
    "an unknown field": Fault("aggregator.yaml", "podManagementPolicy:", "podManagmentPolicy:", "podManagmentPolicy"),
    "a wrong type": Fault("connectors.yaml", "replicas: 1", 'replicas: "one"', "/spec/replicas"),
    "an enumeration": Fault("network.yaml", "protocol: UDP", "protocl: UDP", "protocl"),
    "a missing requirement": Fault("notifier.yaml", "  selector:\n", "  selectors:\n", "selector"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_the_schemas_catch(helm: Helm, name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    documents = helm.rendered(merged(MINIMAL, CASES["network policy"]), broken(tmp_path, fault))
    said = helm.conform(documents)
    assert said.code != 0
    assert fault.caught in said.text


UNSAFE: Mapping[str, Fault] = {
    "no security context": Fault("_helpers.tpl", "  securityContext:\n    runAsNonRoot: true\n", "  x:\n    y: 1\n", "runAsNonRoot"),
    "a low user": Fault("_helpers.tpl", "runAsUser: 10001", "runAsUser: 1000", "user below"),
    "no seccomp": Fault("_helpers.tpl", "type: RuntimeDefault", "type: Unconfined", "seccompProfile"),
    "a writable root": Fault("_helpers.tpl", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "write to its root"),
    "capabilities": Fault("_helpers.tpl", "drop: [ALL]", "drop: [KILL]", "capabilities"),
    "escalation": Fault("_helpers.tpl", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "gain rights"),
    "a token": Fault("_helpers.tpl", "  automountServiceAccountToken: false\n", "", "mounts a token"),
    "no limits": Fault("_helpers.tpl", "{{- toYaml .resources | nindent 2 }}", "{}", "no limits"),
    "liveness by the database": Fault(
        "_helpers.tpl", "livenessProbe:\n  httpGet: {path: /healthz", "livenessProbe:\n  httpGet: {path: /readyz", "liveness"
    ),
    "no time to drain": Fault("_helpers.tpl", "terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 5", "30 s"),
    "a folder of the host": Fault("_helpers.tpl", "emptyDir:\n        sizeLimit: 64Mi", "hostPath: {path: /tmp}", "volume"),
    "a right in the cluster": Fault("config.yaml", "kind: ServiceAccount", "kind: ClusterRole", "not a kind"),
    "a secret's value": Fault(
        "_helpers.tpl", "  - name: PMSYNC_CONFIG\n", "  - {name: JIRA_TOKEN, value: x}\n  - name: PMSYNC_CONFIG\n", "secret in"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
def test_the_rules_catch(helm: Helm, name: str, tmp_path: Path) -> None:
    fault = UNSAFE[name]
    found = violations(helm.rendered(MINIMAL, broken(tmp_path, fault)))
    assert any(fault.caught in each for each in found), found


def broken(folder: Path, fault: Fault) -> Path:
    """A copy of the chart with a fault in it."""
    chart = folder / "chart"
    for file in files(CHART):
        text = file.read_text()
        if file.name == fault.file:
            assert fault.old in text
            text = text.replace(fault.old, fault.new)
        (chart / file.relative_to(CHART)).parent.mkdir(parents=True, exist_ok=True)
        (chart / file.relative_to(CHART)).write_text(text)
    return chart


def files(folder: Path) -> Iterator[Path]:
    return (each for each in sorted(folder.rglob("*")) if each.is_file())


# --- the chart's own papers (no tool needed) --------------------------------------------------------------------------


def test_values_and_their_schema_name_the_same_keys() -> None:
    """A value that the schema does not describe is checked by nobody; a key without a default is found by nobody."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(place: str, described: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        keys = described["properties"].keys() - {"global"}
        assert keys == given.keys(), place
        for key in keys:
            if described["properties"][key].get("additionalProperties") is False:
                compare(f"{place}.{key}", described["properties"][key], given[key])

    compare("values", schema, values)


def test_what_the_readme_installs_is_a_chart_like_any_other(helm: Helm) -> None:
    """The values that the README shows, as they stand there."""
    text = (CHART.parents[1] / "README.md").read_text()
    (shown,) = (block for block in re.findall(r"```yaml\n(.+?)```", text, re.DOTALL) if "existingSecrets" in block)
    values = yaml.safe_load(shown)
    documents = helm.rendered(values)
    assert violations(documents) == []
    assert {"connector gh", "aggregator", "notifier", "web", "apply", "doctor"} == by_command(documents).keys()
