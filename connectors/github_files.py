"""GitHub's answers in files: issues, pull requests, their reviews and events, milestones, deployments with their statuses,
releases, and the repositories that they are of. Each says in its addresses which repository it belongs to; that one's id, a part of every thing's identity, only
the repository itself or a pull request tells.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors import base
from connectors.base import Read
from connectors.files import OTHER, Files, Found, Shelves, has
from connectors.github_shipped import kept, read_deployment, read_release
from connectors.github_things import Home, Parts, read_milestone, read_thing

_PLACE = re.compile(
    r"/repos/(?P<name>[\w.-]+/[\w.-]+)(?:/(?:issues|pulls|milestones|deployments|releases)/(?P<number>[0-9]{1,18}))?(?:/|$)"
)
ADDRESSES = ("repository_url", "pull_request_url", "url", "issue_url")
NO_ID = "the id of {}: add the answer of GET /repos/{}"
NO_PULL = "what an issue does not tell of {} pull requests: add the answers of GET /repos/OWNER/REPO/pulls/NUMBER"
NO_EVENTS = "the events of {} issues and pull requests: add those of GET /repos/OWNER/REPO/issues/events"

NO_STATUSES = "the statuses of {} deployments: add the answers of GET /repos/OWNER/REPO/deployments/ID/statuses"


@dataclass(slots=True)
class Box:
    """What documents tell of one repository, by number; deployments and releases by id."""

    id: int | None = None
    milestones: dict[int, Any] = field(default_factory=dict)
    issues: dict[int, Any] = field(default_factory=dict)
    pulls: dict[int, Any] = field(default_factory=dict)
    reviews: defaultdict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    events: defaultdict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    deployments: dict[int, Any] = field(default_factory=dict)
    statuses: defaultdict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    releases: dict[int, Any] = field(default_factory=dict)


def read(settings: base.Settings, shelves: Shelves, containers: Collection[str]) -> Found:  # noqa: ARG001  none matters
    """The things in these documents. A name is taken in any case of letters."""
    found, boxes = Found(), _boxes(shelves)
    configured = {container.casefold(): container for container in containers}
    for name, box in sorted(boxes.items()):
        if box.id is None and (box.issues or box.milestones or box.deployments or box.releases):
            found.lacks.append(NO_ID.format(name, name))
        elif box.id is not None:
            found.reads += _things(Home(box.id, name, configured.get(name.casefold(), name), {}), box, found)
    found.left["not read by pmsync"] += len(shelves.get(OTHER, []))
    found.left["events that do not say of which issue"] += sum(
        _place(each)[1] is None for each in shelves.get("event", [])
    )
    return found


def _things(home: Home, box: Box, found: Found) -> Iterator[Read]:
    home = home.knowing(box.milestones.values())
    yield from (read_milestone(home, each) for each in box.milestones.values())
    bare = [n for n, issue in box.issues.items() if issue.get("pull_request") is not None and n not in box.pulls]
    if bare:
        found.lacks.append(NO_PULL.format(len(bare)))
    whole = {**box.pulls, **box.issues}
    if eventless := sum(n not in box.events for n in whole if n not in bare):
        found.lacks.append(NO_EVENTS.format(eventless))
    for number, issue in whole.items():
        if number not in bare:
            yield read_thing(home, _parts(box, number, issue))
    if stateless := sum(ident not in box.statuses for ident in box.deployments):
        found.lacks.append(NO_STATUSES.format(stateless))
    for ident, deployment in box.deployments.items():
        yield read_deployment(home, kept(deployment), _once(box.statuses[ident]))
    yield from (read_release(home, each) for each in box.releases.values())


def _parts(box: Box, number: int, issue: Mapping[str, Any]) -> Parts:
    """A pull request that came without its issue is one by itself."""
    pull = box.pulls.get(number)
    issue = {"pull_request": {}, **issue} if pull is not None else issue
    return Parts(issue, _once(box.events[number]), pull, _once(box.reviews[number]))


def _once(parts: Sequence[Any]) -> list[Any]:
    """Each of them once, however many files have it, in the order of their ids, which is that of their making."""
    found = {each["id"]: each for each in parts if isinstance(each, dict) and isinstance(each.get("id"), int)}
    return [found[ident] for ident in sorted(found)]


def _boxes(shelves: Shelves) -> Mapping[str, Box]:
    boxes = defaultdict[str, Box](Box)
    for shape in ("repository", "pull", "issue", "milestone", "review", "event", "deployment", "status", "release"):
        for each in shelves.get(shape, []):
            name, number = _place(each)
            if name:
                _put(boxes[name], shape, number, each)
    return boxes


_WHOLES = {
    "pull": "pulls", "issue": "issues", "milestone": "milestones", "deployment": "deployments", "release": "releases",
}  # fmt: skip
_PARTS = {"review": "reviews", "event": "events", "status": "statuses"}


def _put(box: Box, shape: str, number: int | None, each: Mapping[str, Any]) -> None:
    if shape == "repository":
        box.id = each["id"]
    elif number is None:
        return
    elif shape in _WHOLES:
        known = getattr(box, _WHOLES[shape])
        known[number] = _later(each, known.get(number))
        _put_what_it_holds(box, shape, number, each)
    else:
        getattr(box, _PARTS[shape])[number].append(each)


def _put_what_it_holds(box: Box, shape: str, number: int, each: Mapping[str, Any]) -> None:
    if shape == "pull":
        box.id = _repository_id(each) or box.id
    if shape == "issue":
        box.reviews[number] += _listed(each, "reviews")
        if events := _listed(each, "events"):
            box.events[number] += events
    milestone = each.get("milestone")
    if isinstance(milestone, dict) and isinstance(milestone.get("number"), int):
        box.milestones.setdefault(milestone["number"], milestone)


def _later(each: Mapping[str, Any], known: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Of two states of one thing the one that changed later; GitHub's times sort as text."""
    return each if known is None or str(each.get("updated_at")) >= str(known.get("updated_at")) else known


def _listed(each: Mapping[str, Any], key: str) -> list[Any]:
    value = each.get(key)
    return value if isinstance(value, list) else []


def _repository_id(pull: Mapping[str, Any]) -> int | None:
    base_branch = pull.get("base")
    repository = base_branch.get("repo") if isinstance(base_branch, dict) else None
    ident = repository.get("id") if isinstance(repository, dict) else None
    return ident if isinstance(ident, int) else None


def _place(each: Mapping[str, Any]) -> tuple[str, int | None]:
    """The repository of a document, and the number of the thing that it is or is about."""
    if isinstance(each.get("full_name"), str):
        return each["full_name"], None
    issue = each.get("issue")
    found = {**each, **issue} if isinstance(issue, dict) else each
    number = found.get("number")
    matches = [match for key in ADDRESSES if (match := _PLACE.search(str(found.get(key) or "")))]
    name = next((match["name"] for match in matches), "")
    of = next((int(match["number"]) for match in matches if match["number"]), None)
    return name, number if isinstance(number, int) else of


FILES = Files(
    shapes={
        "repository": lambda each: isinstance(each.get("full_name"), str) and isinstance(each.get("id"), int),
        "pull": has("number", "head", "base"),
        "issue": lambda each: {"number", "state", "title", "user"} <= each.keys() and "head" not in each,
        "milestone": has("number", "title", "due_on"),
        "review": has("id", "state", "pull_request_url", "body"),
        "event": has("id", "event", "created_at"),
        "deployment": has("id", "sha", "environment", "statuses_url"),
        "status": has("id", "state", "deployment_url"),
        "release": has("id", "tag_name", "prerelease"),
    },
    envelopes=("items",),
    read=read,
)
