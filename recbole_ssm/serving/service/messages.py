"""The forms of requests and answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from recbole_ssm.serving.service.errors import Refused
from recbole_ssm.serving.service.settings import Limits

SESSION_ID = r"^[A-Za-z0-9._~-]{1,128}$"
"""What ids of sessions and events look like: they can stand in an address and in a log as they are."""

Seconds = Annotated[float, Field(ge=-1e11, le=1e11, allow_inf_nan=False, description="Unix time in seconds")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RecommendRequest(_Request):
    """What is known of a person, and what may be recommended."""

    history: list[str] | None = Field(None, description="names of items, the latest last")
    session_id: str | None = Field(None, pattern=SESSION_ID, description="a session, in place of a history")
    k: int = Field(10, ge=1, description="how many items are wanted")
    exclude: list[str] = Field([], description="names of items that may not be recommended")
    candidates: list[str] | None = Field(None, description="names of the items that alone may be recommended")
    categories: list[str] | None = Field(None, description="only items of at least one of these categories")
    filter_seen: bool | None = Field(None, description="leave out items of the history; default as in the training")
    times: list[Seconds] | None = Field(None, description="when each item of the history was had")
    time: Seconds | None = Field(None, description="when the request is made, in place of times; default now")

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"history": ["242", "302"], "k": 3}]}
    )

    def check(self, limits: Limits) -> None:
        """Raise Refused if it is too large, or contradicts itself."""
        if self.history is not None and self.session_id is not None:
            raise Refused(422, "not_valid", "give history or session_id, not both")
        if self.times is not None and len(self.times) != len(self.history or ()):
            raise Refused(422, "not_valid", "times must have a number for each item of history")
        check_names("history", self.history, limits.history, limits.name)
        check_names("exclude", self.exclude, limits.names, limits.name)
        check_names("candidates", self.candidates, limits.names, limits.name)
        check_names("categories", self.categories, limits.names, limits.name)
        check_k(self.k, limits)


class EventsRequest(_Request):
    """Items that somebody has had since."""

    items: list[str] = Field(min_length=1, description="names of items, the latest last")
    times: list[Seconds] | None = Field(None, description="when each was had; default now")
    event_id: str | None = Field(
        None, pattern=SESSION_ID, description="of this request; one more request with the same id adds nothing"
    )

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"items": ["377"], "event_id": "b7e1"}]}
    )

    def check(self, limits: Limits) -> None:
        """Raise Refused if it is too large, or contradicts itself."""
        if self.times is not None and len(self.times) != len(self.items):
            raise Refused(422, "not_valid", "times must have a number for each of items")
        check_names("items", self.items, limits.events, limits.name)


class ExplainRequest(_Request):
    """An item that was recommended, and after what."""

    item: str = Field(description="the item")
    history: list[str] | None = Field(None, description="names of items, the latest last")
    session_id: str | None = Field(None, pattern=SESSION_ID, description="a session, in place of a history")

    def check(self, limits: Limits) -> None:
        """Raise Refused if it is too large, or contradicts itself."""
        if (self.history is None) == (self.session_id is None):
            raise Refused(422, "not_valid", "give history or session_id")
        check_names("history", self.history, limits.history, limits.name)
        check_names("item", [self.item], 1, limits.name)


def check_names(field: str, names: list[str] | None, most: int, longest: int) -> None:
    """Raise Refused if there are more names than ``most``, or one has more than ``longest`` characters."""
    if names is None:
        return
    if len(names) > most:
        raise Refused(422, "too_many", f"{field} has {len(names)} names, and may have {most}")
    if max(map(len, names), default=0) > longest:
        raise Refused(422, "too_long", f"{field} has a name of more than {longest} characters")


def check_k(k: int, limits: Limits) -> None:
    """Raise Refused if more items are wanted than an answer may have."""
    if k > limits.k:
        raise Refused(422, "too_many", f"k may be {limits.k}")


class Item(BaseModel):
    """An item. ``title`` and ``categories`` are there if the service has a file of items."""

    item: str
    score: float | None = None
    title: str | None = None
    categories: list[str] | None = None


class Recommendations(BaseModel):
    """The best items, the best first."""

    items: list[Item]
    source: str = Field(description="model; or popular, where the model knows nothing of the history")
    unknown: int = Field(description="items of the history that the model does not know, and that were passed over")
    model: str = Field(description="which checkpoint answered")
    ms: float = Field(description="milliseconds in which the model computed, for all requests of the batch together")


class Events(BaseModel):
    """A session after its new items. Recommendations are there if ``?k=`` asked for them."""

    session_id: str
    repeated: bool = Field(description="an earlier request had this event_id, so nothing was added")
    events: int = Field(description="items of the session so far, without unknown ones")
    unknown: int = Field(description="items of this request that the model does not know, and that were passed over")
    model: str
    ms: float
    items: list[Item] | None = None
    source: str | None = None


class Session(BaseModel):
    """A session: its latest items, the latest last."""

    session_id: str
    events: int = Field(description="items of the session so far")
    items: list[Item]
    idle: float = Field(description="seconds since its last item")


class Items(BaseModel):
    """Some items, the best fit first."""

    items: list[Item]


class Parts(BaseModel):
    """What each item of a history says for another one."""

    parts: list[Part]


class Part(BaseModel):
    """What one item of a history says for another one: see :meth:`recbole_ssm.Recommender.explain`."""

    item: str
    title: str | None = None
    similarity: float | None
    transitions: float | None


class Error(BaseModel):
    """What went wrong."""

    error: Fault


class Fault(BaseModel):
    """A word for programs and a sentence for people."""

    code: str
    message: str
