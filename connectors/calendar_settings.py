"""What the settings of every source of calendars have in common: how its entries are read, and what they mean.

Next on the way of an event: `connectors/ics.py`, which reads entries as a `Scope` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator

from connectors.base import SecretRef, Settings
from connectors.ics import Owner, Pattern, Scope, window_at
from connectors.ways import Auth, anonymous, basic, bearer
from pmsync.core.events import Meaning

MEANINGS: Mapping[str, Meaning] = {
    "deadline": Meaning.deadline,
    "deadlines": Meaning.deadline,
    "milestone": Meaning.milestone,
    "milestones": Meaning.milestone,
    "time-off": Meaning.time_off,
    "time_off": Meaning.time_off,
    "vacation": Meaning.time_off,
    "vacations": Meaning.time_off,
    "holiday": Meaning.holiday,
    "holidays": Meaning.holiday,
}
"""What a container's name says its entries are, where the configuration does not; anything else is a meeting."""


class Basic(BaseModel):
    """A user and a password."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str
    password: SecretRef


class Token(BaseModel):
    """A bearer token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretRef


class EntrySettings(Settings):
    """How entries are read. Titles are only read where they are asked for."""

    titles: bool = False
    meaning: Mapping[str, Meaning | tuple[Pattern, ...]] = {}
    whose: Mapping[str, tuple[Owner, ...]] = {}
    time_zone: str = Field(default="UTC", description="the zone of times that name none")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, LookupError):
            raise ValueError(f"{name} is not a time zone; name one as Europe/Berlin") from None
        return name

    def scope(self, container: str, now: datetime) -> Scope:
        """What the translation of a calendar depends on."""
        meant = self.meaning.get(container, ())
        by_name = MEANINGS.get(container.lower(), Meaning.meeting)
        return Scope(
            container=container,
            meaning=meant if isinstance(meant, Meaning) else by_name,
            window=window_at(now),
            zone=ZoneInfo(self.time_zone),
            titles=self.titles,
            patterns=() if isinstance(meant, Meaning) else meant,
            owners=self.whose.get(container, ()),
        )


class ServerSettings(EntrySettings):
    """The same of a server that anybody may run: who asks has a password there, a token, or neither."""

    auth: Basic | Token | None = None

    def signs_in(self) -> Auth:
        """What authenticates a request; raises `Fatal` where a secret is not to be had."""
        match self.auth:
            case Basic(user=user, password=password):
                return basic(user, password.reveal())
            case Token(token=token):
                return bearer(token.reveal())
            case _:
                return anonymous
