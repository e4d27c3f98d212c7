"""The Dockerfile, as far as it can be judged without building it: `docs/operations.md` tells of the build."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SECONDS = 60


def hadolint(text: str) -> tuple[int, str]:
    """What hadolint, which comes with the development set, says of a Dockerfile."""
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", "-"],
        input=text, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def stages() -> list[str]:
    """The text of each stage."""
    return re.split(r"^(?=FROM )", DOCKERFILE.read_text(), flags=re.MULTILINE)[1:]


def instructions(stage: str, name: str) -> list[str]:
    joined = stage.replace("\\\n", " ")
    return [" ".join(each.split()) for each in re.findall(rf"^{name} (.+)$", joined, re.MULTILINE)]


def test_hadolint_finds_nothing() -> None:
    assert hadolint(DOCKERFILE.read_text()) == (0, "")


FAULTS: Mapping[str, tuple[str, str, str]] = {
    "the latest of a base": ("python:3.13-slim-trixie\n", "python:latest\n", "DL3007"),
    "a base without a tag": ("FROM ${BASE} AS build", "FROM python AS build", "DL3006"),
    "a shell for the entry": ('ENTRYPOINT ["pmsync"]', "ENTRYPOINT pmsync", "DL3025"),
    "root at the end": ("USER 10001:10001", "USER root", "DL3002"),
    "a relative folder": ("WORKDIR /data", "WORKDIR data", "DL3000"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_hadolint_would_find(fault: str) -> None:
    old, new, rule = FAULTS[fault]
    text = DOCKERFILE.read_text()
    assert text.count(old) == 1
    # hadolint does not follow an argument into FROM.
    text = text.replace(old, new).replace("${BASE}", re.findall(r"^ARG BASE=(\S+)", text.replace(old, new), re.M)[0])
    code, said = hadolint(text)
    assert code == 1
    assert rule in said


def test_every_package_is_checked_by_its_hash() -> None:
    build, run = stages()
    (install,) = [line for line in instructions(build, "RUN") if "constraints.txt" in line]
    assert "--require-hashes" in install
    others = [line for line in instructions(build, "RUN") if "pip install" in line and line != install]
    assert all("--no-deps --no-build-isolation" in line for line in others)
    assert "pip" not in " ".join(instructions(run, "RUN"))


def test_it_runs_as_nobody_and_without_a_shell() -> None:
    run = stages()[-1]
    (user,) = instructions(run, "USER")
    assert all(int(part) >= 10_000 for part in user.split(":"))
    assert instructions(run, "ENTRYPOINT") == ['["pmsync"]']
    (health,) = instructions(run, "HEALTHCHECK")
    assert 'CMD ["python3", "-c"' in health


def test_its_health_check_can_fail(tmp_path: Path) -> None:
    """The check of the image, run as the image would, against nothing and against a server."""
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    code = re.findall(r'"-c", "(.+)"\]', instructions(stages()[-1], "HEALTHCHECK")[0])[0].replace('\\"', '"')
    asked: list[tuple[str, int]] = []

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, status))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    def check(port: int) -> int:
        environment = {"PMSYNC_HEALTH__PORT": str(port)}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, timeout=SECONDS, check=False
        ).returncode

    codes = {}
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for status in (200, 503):
            codes[status] = check(server.server_port)
        server.shutdown()
        thread.join()
    assert codes == {200: 0, 503: 1}
    assert asked == [("/healthz", 200), ("/healthz", 503)]
    assert check(server.server_port) == 1


def test_the_builder_is_sent_what_is_copied_and_no_more() -> None:
    copied = {
        name for line in instructions(stages()[0], "COPY") for name in line.split()[:-1] if not name.startswith("--")
    }
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"], "pyproject.toml"} <= copied


def test_one_version_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = (ROOT / "deploy" / "chart" / "Chart.yaml").read_text()
    assert re.findall(r'^(?:appVersion|version): "?([^"\n]+)"?$', chart, re.M) == [version, version]
    assert f"image: pmsync:{version}\n" in (ROOT / "deploy" / "compose.yaml").read_text()
