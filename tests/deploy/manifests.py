"""What holds for every manifest of the chart: Pod Security Standard `restricted`, and what pmsync asks for beside it.

`violations` takes the documents of a rendered chart and names what is wrong with each; no cluster is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Manifest = Mapping[str, Any]

LOWEST_USER = 10_000
"""Below are ids that a host may give to somebody."""
VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
CAPABILITIES = {"NET_BIND_SERVICE"}
KINDS = {
    "ConfigMap", "Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount", "StatefulSet",
}  # fmt: skip
"""All that the chart may make: no roles, no Secrets, nothing of the cluster's."""
SECRETIVE = ("password", "token", "secret", "key")


class Pod(NamedTuple):
    """The template of a pod: which manifest has it, and whether it goes on or ends by itself."""

    place: str
    template: Manifest
    serves: bool

    @property
    def spec(self) -> Manifest:
        found: Manifest = self.template["spec"]
        return found

    @property
    def containers(self) -> list[Manifest]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


def pods(documents: list[Manifest]) -> Iterator[Pod]:
    """Every pod that the manifests would make."""
    for each in documents:
        place = f"{each['kind']}/{each['metadata']['name']}"
        if template := each.get("spec", {}).get("template"):
            yield Pod(place, template, each["kind"] != "Job")
        elif each["kind"] == "Pod":
            yield Pod(place, each, serves=True)


def violations(documents: list[Manifest]) -> list[str]:
    """Each fault as `Kind/name: what is wrong`."""
    found = [f"{each['kind']}/{each['metadata']['name']}: not a kind that the chart may make"
             for each in documents if each["kind"] not in KINDS]  # fmt: skip
    for pod in pods(documents):
        found += [f"{pod.place}: {words}" for wrong, words in POD_RULES if wrong(pod)]
        for container in pod.containers:
            name = container["name"]
            found += [f"{pod.place}: {name}: {words}" for wrong, words in CONTAINER_RULES if wrong(container)]
            if pod.serves:
                found += [f"{pod.place}: {name}: {words}" for wrong, words in ROLE_RULES if wrong(container)]
    return found


def _security(of: Manifest) -> Manifest:
    found: Manifest = of.get("securityContext") or {}
    return found


def _volume_kinds(pod: Pod) -> set[str]:
    return {key for volume in pod.spec.get("volumes", ()) for key in volume if key != "name"}


def _user(pod: Pod) -> int:
    """The lowest user that any of its containers runs as; 0 where none is said."""
    of_pod = _security(pod.spec).get("runAsUser", 0)
    return min(_security(each).get("runAsUser", of_pod) for each in pod.containers)


POD_RULES: tuple[tuple[Callable[[Pod], bool], str], ...] = (
    (lambda pod: _security(pod.spec).get("runAsNonRoot") is not True, "securityContext.runAsNonRoot is not true"),
    (lambda pod: _user(pod) < LOWEST_USER, f"runs as a user below {LOWEST_USER}"),
    (
        lambda pod: _security(pod.spec).get("seccompProfile", {}).get("type") != "RuntimeDefault",
        "securityContext.seccompProfile is not RuntimeDefault",
    ),
    (lambda pod: any(pod.spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), "shares the host's names"),
    (lambda pod: not _volume_kinds(pod) <= VOLUMES, "has a volume of a kind that `restricted` does not allow"),
    (lambda pod: pod.spec.get("automountServiceAccountToken") is not False, "mounts a token"),
    (lambda pod: pod.spec.get("enableServiceLinks") is not False, "has every Service in its environment"),
    (lambda pod: pod.spec.get("terminationGracePeriodSeconds") != 30, "has not 30 s to end"),
    (lambda pod: "latest" in {_tag(each) for each in pod.containers}, "has an image without a version"),
)


def _tag(container: Manifest) -> str:
    image = str(container["image"]).rpartition("/")[2]
    return "" if "@sha256:" in image else image.partition(":")[2] or "latest"


def _drops_all(container: Manifest) -> bool:
    capabilities = _security(container).get("capabilities", {})
    return "ALL" in capabilities.get("drop", ()) and set(capabilities.get("add", ())) <= CAPABILITIES


def _limited(container: Manifest) -> bool:
    return {"cpu", "memory"} <= container.get("resources", {}).get("limits", {}).keys()


def _literal_secrets(container: Manifest) -> bool:
    return any(
        "value" in each and any(word in each["name"].lower() for word in SECRETIVE) for each in container.get("env", ())
    )


CONTAINER_RULES: tuple[tuple[Callable[[Manifest], bool], str], ...] = (
    (lambda each: _security(each).get("allowPrivilegeEscalation") is not False, "may gain rights"),
    (lambda each: bool(_security(each).get("privileged")), "is privileged"),
    (lambda each: _security(each).get("runAsNonRoot") is False, "may run as root"),
    (lambda each: _security(each).get("readOnlyRootFilesystem") is not True, "may write to its root"),
    (lambda each: not _drops_all(each), "keeps capabilities"),
    (lambda each: _security(each).get("seccompProfile", {}).get("type") == "Unconfined", "is not confined"),
    (lambda each: any("hostPort" in port for port in each.get("ports", ())), "takes a port of the host"),
    (lambda each: not _limited(each), "has no limits of cpu and memory"),
    (_literal_secrets, "has a secret in its environment"),
)


def _path(container: Manifest, probe: str) -> str | None:
    found: str | None = container.get(probe, {}).get("httpGet", {}).get("path")
    return found


ROLE_RULES: tuple[tuple[Callable[[Manifest], bool], str], ...] = (
    (lambda each: _path(each, "livenessProbe") != "/healthz", "its liveness is not /healthz"),
    (lambda each: _path(each, "startupProbe") != "/healthz", "its start is not /healthz"),
    (lambda each: _path(each, "readinessProbe") != "/readyz", "its readiness is not /readyz"),
)
"""A liveness that looked at the database would end every pod as soon as the database is away."""
