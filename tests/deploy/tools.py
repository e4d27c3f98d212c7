"""What checks `deploy/`: helm, kubeconform, and the schemas of Kubernetes and of compose files, for tests.

`python3 tests/deploy/tools.py` puts them into the tests' cache, with Go, once (some minutes); it needs nothing else
installed, since `.ci/install-parts` calls it before anything is. `find` says where they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

HELM = "helm.sh/helm/v4/cmd/helm@v4.3.1"
KUBECONFORM = "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0"
KUBERNETES = "k8s.io/kubernetes@v1.35.4"
COMPOSE = "github.com/compose-spec/compose-go/v2@v2.16.2"

CACHES = Path(os.environ.get("PMSYNC_TEST_CACHE", Path.home() / ".cache" / "pmsync-tests"))
CACHE = CACHES / "-".join(["deploy", *(each.rpartition("@")[2] for each in (HELM, KUBECONFORM, KUBERNETES, COMPOSE))])
BUILD_SECONDS = 1800.0

Schema = dict[str, Any]

INT_OR_STRING: Schema = {"oneOf": [{"type": "string"}, {"type": "integer"}]}
QUANTITY: Schema = {"oneOf": [{"type": "string"}, {"type": "number"}]}
SPECIAL: Mapping[str, Schema] = {"util.intstr.IntOrString": INT_OR_STRING, "api.resource.Quantity": QUANTITY}
"""Types that the API takes in two forms, and its description calls a string; by the end of their names."""


def find() -> str | None:
    """The folder with all of it; None if it is not there."""
    return str(CACHE) if CACHE.is_dir() else None


def install() -> None:
    """Fetch and build what is not there, all or nothing."""
    if CACHE.is_dir():
        return
    if shutil.which("go") is None:
        raise SystemExit("helm and kubeconform are built with Go, and there is no go here; install Go 1.26 or newer")
    CACHES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHES) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        print(f"building helm and kubeconform into {CACHE} …", file=sys.stderr)
        for package in (KUBECONFORM, HELM):
            _go("install", "-ldflags=-s -w", package, GOBIN=str(made))
        described = _module(KUBERNETES) / "api" / "openapi-spec" / "swagger.json"
        write_schemas(json.loads(described.read_text(encoding="utf-8")), made / "schemas")
        shutil.copyfile(_module(COMPOSE) / "schema" / "compose-spec.json", made / "compose-spec.json")
        with suppress(OSError):  # another process was faster
            made.rename(CACHE)


def _module(name: str) -> Path:
    """A Go module's folder, fetched if need be."""
    return Path(json.loads(_go("mod", "download", "-json", name))["Dir"])


def _go(*words: str, **environment: str) -> str:
    done = subprocess.run(
        ["go", *words],
        env={**os.environ, **environment},
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"go {' '.join(words)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


# --- schemas for kubeconform, from the API's own description ----------------------------------------------------------


def write_schemas(described: Schema, folder: Path) -> None:
    """A file for each kind of the API, which refuses keys that the API does not know, as kubeconform looks for them.

    Each holds the definitions that it needs and no others: to read all of them takes seconds.
    """
    folder.mkdir()
    definitions = described["definitions"]
    strictly = {name: _special(name) or strict(each) for name, each in definitions.items()}
    for title, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            group, version, name = kind["group"], kind["version"], kind["kind"]
            schema = {**strictly[title], "definitions": {each: strictly[each] for each in _needed(title, definitions)}}
            schema["properties"] = {
                **schema.get("properties", {}),
                "apiVersion": {"const": f"{group}/{version}" if group else version},
                "kind": {"const": name},
            }
            schema["required"] = sorted({*schema.get("required", ()), "apiVersion", "kind"})
            stem = "-".join(filter(None, (name.lower(), group.partition(".")[0], version)))
            (folder / f"{stem}.json").write_text(json.dumps(schema), encoding="utf-8")


def _needed(title: str, definitions: Schema) -> set[str]:
    """The definitions that one leads to."""
    found: set[str] = set()
    todo = {title}
    while todo:
        below = {each for name in todo for each in _references(definitions[name])}
        todo = below - found
        found |= below
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield reference.rpartition("/")[2]
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from _references(each)


def strict(node: Any) -> Any:
    """A part of the description as JSON Schema, with no key but those named."""
    if isinstance(node, list):
        return [strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "int-or-string":
        return INT_OR_STRING
    found = {key: _converted(key, value) for key, value in node.items() if not key.startswith("x-kubernetes-")}
    if isinstance(found.get("properties"), dict) and not node.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def _converted(key: str, value: Any) -> Any:
    if key == "$ref" and isinstance(value, str):
        return f"#/definitions/{value.rpartition('/')[2]}"
    if key == "properties" and isinstance(value, dict):
        return {name: strict(each) for name, each in value.items()}
    return strict(value)


def _special(name: str) -> Schema | None:
    return next((schema for end, schema in SPECIAL.items() if name.endswith(end)), None)


if __name__ == "__main__":
    install()
