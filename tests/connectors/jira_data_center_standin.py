"""A stand-in for Jira Data Center: the world of the one for Cloud, shown as a server of one's own shows it.

Written from Atlassian's reference of the REST API of Data Center: one search, with pages by number, `expand` and
`validateQuery`; changelogs that come with the issues and name no field ids; users by key; sprints as the text of objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from starlette.requests import Request

from pmsync.standins.jira import BOARDS, SPRINT_FIELD, JiraSite, Revision, _order
from pmsync.standins.timeline import Refusal

EPIC_FIELD = "customfield_10100"
IDS = r"id in \((?P<ids>\d+(?:, \d+)*)\) ORDER BY updated ASC, key ASC"


class JiraServer(JiraSite):
    """`most_histories` is how many of an issue's histories a list shows at the most; `before_page` is called before each
    page of a search but the first."""

    def __init__(self, clock: Callable[[], datetime], *, most_histories: int = 10**6, **options: Any) -> None:
        super().__init__(clock, **options)
        self.most_histories = most_histories
        self.before_page: Callable[[], None] = lambda: None
        self.queries: list[str] = []
        self._token = options.get("token", "standin-token")

    def _authorise(self, request: Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            raise Refusal(401, "You are not authenticated. Authentication required to perform this operation.")

    def _numbered(
        self,
        jql: str = "",
        startAt: int = 0,  # noqa: N803
        maxResults: int = 50,  # noqa: N803
        fields: Sequence[str] = ("*navigable",),
        expand: Sequence[str] = (),
        validateQuery: bool = True,  # noqa: N803
    ) -> Any:
        self.queries.append(jql)
        if startAt:
            self.before_page()
        moment = self.clock()
        hits = sorted(self._hits(jql, validateQuery, moment), key=lambda hit: _order(hit[1]))
        size = 0 if maxResults == 0 else self._size(maxResults)
        issues = []
        for ident, revision in hits[startAt : startAt + size]:
            shown = self._issue(ident, revision, fields, moment)
            if "changelog" in expand:
                shown["changelog"] = self._changelog(ident, moment, self.most_histories)
            issues.append(shown)
        return {"startAt": startAt, "maxResults": size, "total": len(hits), "issues": issues}

    def _hits(self, jql: str, is_validated: bool, moment: datetime) -> list[tuple[str, Revision]]:
        if match := re.fullmatch(IDS, jql):
            there = dict(self._index(moment))
            wanted = match["ids"].split(", ")
            if is_validated and (unknown := [ident for ident in wanted if ident not in there]):
                raise Refusal(400, f"A value with ID '{unknown[0]}' does not exist for the field 'id'.")
            return [(i, there[i]) for i in wanted if i in there and self._projects[there[i].project].is_there(moment)]
        projects, since = self._parse(jql)
        return [(ident, one) for ident, one in self._index(moment) if one.project in projects and one.at >= since]

    def _single(self, ident: str, expand: str = "", fields: str = "") -> Any:
        moment, found = self.clock(), self._issues.get(ident)
        revision = found.at(moment) if found else None
        if revision is None:
            raise Refusal(404, "Issue Does Not Exist")
        assert expand == "changelog"
        shown = self._issue(ident, revision, list(fields), moment)
        return shown | {"changelog": self._changelog(ident, moment, 10**6)}

    def _changelog(self, ident: str, moment: datetime, most: int) -> Any:
        past = [self._history(ident, each.id) for each in self._issues[ident].until(moment) if each.items]
        shown = past[-most:] if most else []
        return {"startAt": 0, "maxResults": len(shown), "total": len(past), "histories": shown}

    def _history(self, ident: str, number: int) -> Any:
        found = super()._history(ident, number)
        return found | {"items": [{k: v for k, v in item.items() if k != "fieldId"} for item in found["items"]]}

    def _fields(self, ident: str, revision: Revision, moment: datetime) -> dict[str, Any]:
        fields = super()._fields(ident, revision, moment)
        fields[EPIC_FIELD] = None
        if fields["parent"] and revision.fields.type != "Sub-task":
            fields[EPIC_FIELD], fields["parent"] = fields["parent"]["key"], None
        if fields[SPRINT_FIELD]:
            fields[SPRINT_FIELD] = [
                f"com.atlassian.greenhopper.service.sprint.Sprint@1f2e[id={s['id']},rapidViewId=1,"
                f"state={s['state'].upper()},name={s['name']},startDate=2026-03-01T09:00:00.000Z,sequence={s['id']}]"
                for s in fields[SPRINT_FIELD]
            ]
        return fields

    def _user(self, ident: str) -> dict[str, Any]:
        return {"key": ident, "name": f"{ident}.name", "displayName": "Somebody"}

    def _profile_by_key(self, key: str = "") -> Any:
        if key not in self.people:
            raise Refusal(404, f"The user with the key '{key}' does not exist")
        person = self.people[key]
        shown = {"displayName": person.name, "active": person.active, "emailAddress": person.mail or ""}
        return {"key": key, "name": f"{key}.name"} | shown

    def _rich(self, text: str) -> Any:
        return text

    def _all_worklogs(self, ident: str, **_: str) -> Any:
        """A server of one's own knows no pages of worklogs."""
        found = self._logged(ident)
        return self._page_of_worklogs(ident, found, 0, len(found))

    def _field_list(self) -> Any:
        epic = {"type": "any", "custom": "com.pyxis.greenhopper.jira:gh-epic-link"}
        return [*super()._field_list(), {"id": EPIC_FIELD, "name": "Epic Link", "custom": True, "schema": epic}]

    def _server_info(self) -> Any:
        return super()._server_info() | {"deploymentType": "Server"}


JiraServer.routes = (
    (
        "POST",
        "/rest/api/2/search",
        {"jql", "startAt", "maxResults", "fields", "expand", "validateQuery"},
        JiraServer._numbered,
    ),
    ("GET", r"/rest/api/2/issue/(\d+)", {"expand", "fields"}, JiraServer._single),
    ("GET", r"/rest/api/2/issue/(\d+)/worklog", {"startAt", "maxResults"}, JiraServer._all_worklogs),
    ("GET", "/rest/api/2/project/([^/]+)/versions", set(), JiraServer._project_versions),
    ("GET", "/rest/api/2/project/([^/]+)", set(), JiraServer._project),
    ("GET", "/rest/api/2/version/([^/]+)", set(), JiraServer._version),
    *BOARDS,
    ("GET", "/rest/api/2/user", {"key"}, JiraServer._profile_by_key),
    ("GET", "/rest/api/2/status", set(), JiraServer._statuses),
    ("GET", "/rest/api/2/field", set(), JiraServer._field_list),
    ("GET", "/rest/api/2/myself", set(), JiraServer._myself),
    ("GET", "/rest/api/2/serverInfo", set(), JiraServer._server_info),
)
