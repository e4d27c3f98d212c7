"""Jira's answers in files: searches and single issues, with or without changelogs, worklogs by issue, versions, and the
lists of statuses, fields and projects that explain them.

What a live site is asked for besides, its issues tell themselves here: each holds its status with its category, its
versions and sprints with their dates, and with `expand=names` the names of its custom fields.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from connectors.base import Read, Ref
from connectors.files import OTHER, Files, Found, Shelves, has
from connectors.jira import JiraSettings
from connectors.jira_sprints import read_sprint
from connectors.jira_things import Issue, Site, plain_names, read_issue, read_version, site, updated_at
from connectors.jira_values import identity
from pmsync.core.events import MAX_WORKLOGS, WorkItem

NO_NAMES = (
    "the names of the custom fields: add expand=names to the search, or the answer of GET /rest/api/3/field; without "
    "them there are no estimates, sprints and flags"
)
NO_HISTORY = "the changelogs of {} issues: add expand=changelog to the search; without them they have no past"
CUT = "the older part of the changelogs of {} issues: add the answers of POST /rest/api/3/changelog/bulkfetch"
NO_WORKLOGS = "the worklogs of {} issues, in part or all: add the answers of GET /rest/api/3/issue/ID/worklog"
NO_PROJECT = "the keys of the projects of {} versions: add the answer of GET /rest/api/3/project/ID"


class Past(NamedTuple):
    """What is known of an issue's changelog. `is_cut`: the oldest of it are missing; `is_known`: there is any."""

    histories: Sequence[Any]
    is_known: bool
    is_cut: bool


def read(settings: JiraSettings, shelves: Shelves, containers: Collection[str]) -> Found:  # noqa: ARG001  keys are names
    """The issues, versions and sprints in these documents."""
    found, issues = Found(), _latest(shelves.get("issue", []))
    known = _site(settings, shelves)
    found.reads += _versions(shelves, issues, settings.url, found)
    found.reads += _sprints(issues, known)
    pasts = _bulk(shelves.get("changelog", []))
    logged = _logged(shelves.get("worklog", []))
    unknown = cut = 0
    for issue in issues:
        past = pasts.get(str(issue.get("id"))) or _inline(issue)
        whole = Issue(_with_worklogs(issue, logged), past.histories, past.is_cut)
        found.reads.append(_with_past(read_issue(whole, known), past))
        unknown, cut = unknown + (not past.is_known), cut + past.is_cut
    if issues and not shelves.get("names") and not any(_is_custom(each) for each in shelves.get("field", [])):
        found.lacks.append(NO_NAMES)
    unlogged = sum(_is_unlogged(each) for each in found.reads)
    lacking = ((NO_HISTORY, unknown), (CUT, cut), (NO_WORKLOGS, unlogged))
    found.lacks += [words.format(count) for words, count in lacking if count]
    found.left["not read by pmsync"] += len(shelves.get(OTHER, []))
    return found


def _latest(issues: Sequence[Any]) -> Sequence[Any]:
    """Each issue once: of several answers about it the latest, and of these the one that tells most."""
    found: dict[str, Any] = {}
    for each in issues:
        known = found.setdefault(str(each.get("id")), each)
        if _weight(each) >= _weight(known):
            found[str(each.get("id"))] = each
    return list(found.values())


def _weight(issue: Any) -> tuple[datetime, int]:
    fields = issue["fields"]
    return updated_at(issue) or datetime.min.replace(tzinfo=UTC), len(fields) if isinstance(fields, dict) else 0


def _site(settings: JiraSettings, shelves: Shelves) -> Site:
    """What these documents say about reading issues; of a status above all what an issue says that has it."""
    own = [status for issue in shelves.get("issue", []) if isinstance(status := _at(issue, "fields", "status"), dict)]
    statuses = [each for each in [*shelves.get("status", []), *own] if isinstance(each.get("id"), str)]
    named = [
        {"id": ident, "name": name, "custom": True, "schema": _at(each, "schema", ident) or {}}
        for each in shelves.get("names", [])
        for ident, name in each["names"].items()
        if str(ident).startswith("customfield_") and isinstance(name, str)
    ]
    fields = {each["id"]: each for each in [*named, *filter(_is_custom, shelves.get("field", []))]}
    known = site(settings.url, statuses, list(fields.values()), settings.story_points)
    dropped, blocking = plain_names(settings.dropped_resolutions), plain_names(settings.blocking_links)
    return dataclasses.replace(known, dropped=dropped, blocking=blocking)


def _is_custom(field: Mapping[str, Any]) -> bool:
    return field.get("custom") is True and isinstance(field.get("name"), str)


def _versions(shelves: Shelves, issues: Sequence[Any], url: str, found: Found) -> Iterator[Read]:
    """The versions listed by themselves, and before them those that only issues tell of: a list knows more."""
    keys = dict(_projects(shelves, issues))
    own = {
        str(version["id"]): (version, key)
        for issue in issues
        if isinstance(key := _at(issue, "fields", "project", "key"), str)
        for version in _list(_at(issue, "fields", "fixVersions"))
        if isinstance(version, dict) and version.get("id") is not None
    }
    listed = {str(each["id"]): (each, keys.get(str(each["projectId"]), "")) for each in shelves.get("version", [])}
    if homeless := sum(not key for _, key in listed.values()):
        found.lacks.append(NO_PROJECT.format(homeless))
    yield from (read_version(version, key, url) for version, key in {**own, **listed}.values() if key)


def _sprints(issues: Sequence[Any], known: Site) -> Iterator[Read]:
    """The sprints that issues were in, as the issue tells that was changed last; Data Center tells no more than their ids."""
    latest: dict[Ref, Read] = {}
    for issue in sorted(issues, key=_weight):
        project, key = (_at(issue, "fields", "project", name) for name in ("id", "key"))
        for raw in (raw for field in known.sprint for raw in _list(_at(issue, "fields", field.id))):
            if isinstance(raw, dict) and isinstance(project, str) and isinstance(key, str):
                read = read_sprint(raw, project, key, known.url)
                latest[read.ref] = read
    yield from latest.values()


def _projects(shelves: Shelves, issues: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """(id, key) of the projects that these documents tell of."""
    of_issues = (_at(issue, "fields", "project") for issue in issues)
    for project in (*of_issues, *shelves.get("project", [])):
        if isinstance(project, dict) and isinstance(project.get("key"), str):
            yield str(project.get("id")), project["key"]


def _bulk(logs: Sequence[Any]) -> Mapping[str, Past]:
    """What answers of the bulk changelog say, by the id of the issue; one may be spread over several."""
    histories = defaultdict[str, list[Any]](list)
    for log in logs:
        histories[str(log["issueId"])] += log["changeHistories"] if isinstance(log["changeHistories"], list) else []
    return {ident: Past(each, is_known=True, is_cut=False) for ident, each in histories.items()}


def _logged(listed: Sequence[Any]) -> Mapping[str, list[Any]]:
    """Worklogs that were asked for by issue, by the id of the issue."""
    found = defaultdict[str, list[Any]](list)
    for each in listed:
        found[str(each["issueId"])].append(each)
    return found


def _with_worklogs(issue: Mapping[str, Any], logged: Mapping[str, list[Any]]) -> Mapping[str, Any]:
    """The issue with those that were asked for besides, each once, as one that shows them all."""
    more = logged.get(str(issue.get("id")))
    if not more or not isinstance(issue["fields"], dict):
        return issue
    shown = _at(issue, "fields", "worklog")
    own = _at(shown, "worklogs")
    listed = {identity(each): each for each in [*(own if isinstance(own, list) else []), *more]}
    worklog = {"total": _at(shown, "total"), "worklogs": list(listed.values())}
    return {**issue, "fields": {**issue["fields"], "worklog": worklog}}


def _is_unlogged(read: Read) -> bool:
    """Whether there are worklogs that the files lack; of those that they hold only so many are kept."""
    item = read.content
    return isinstance(item, WorkItem) and item.worklogs_cut and len(item.worklogs) < MAX_WORKLOGS


def _inline(issue: Mapping[str, Any]) -> Past:
    """The changelog that a search with expand=changelog puts into the issue; of a long one only the newest part."""
    histories = _at(issue, "changelog", "histories")
    if not isinstance(histories, list):
        return Past((), is_known=False, is_cut=False)
    total = _at(issue, "changelog", "total")
    return Past(histories, is_known=True, is_cut=isinstance(total, int) and total > len(histories))


def _with_past(read: Read, past: Past) -> Read:
    """An unknown past is not an empty one."""
    if not isinstance(read.content, WorkItem) or past.is_known:
        return read
    changes = {"history": (), "untracked": WorkItem.TRACKED}
    return dataclasses.replace(read, content=read.content.model_copy(update=changes))


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _at(value: Any, *path: str) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


FILES = Files(
    shapes={
        "issue": has("key", "fields"),
        "changelog": has("issueId", "changeHistories"),
        "worklog": has("id", "issueId", "timeSpentSeconds"),
        "version": has("id", "name", "projectId", "released"),  # a component has the first three, too
        "project": lambda each: {"id", "key", "name"} <= each.keys() and "fields" not in each,
        "status": has("id", "name", "statusCategory"),
        "field": has("id", "name", "custom"),
        "names": lambda each: isinstance(each.get("names"), dict),
    },
    envelopes=("issues", "issueChangeLogs", "values", "versions", "worklogs"),
    read=read,
)
