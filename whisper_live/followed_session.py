"""A session that somebody looks at: all that it is told, and all that follows from it.

A session does no I/O and reads no clock, so its inputs are the whole of it. Who follows one sees
each input before it is taken, and the events that come out before they are carried out. Nobody
follows a session unless an operator wants to see more: then a plain `Session` is made.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fusion.messages import Message
from whisper_live.events import Event
from whisper_live.session import Session
from whisper_live.session_policy import SessionPolicy

INPUTS = (
    *("hear", "end_turn", "clear", "configure", "respond", "end_of_audio", "interrupt"),
    *("say", "read_aloud"),
    *("transcribed", "live_dropped", "turn_predicted", "received"),
    *("language_model_restarted", "voice_restarted", "tick"),
)
"""The methods by which a session is told anything."""


class Follower(Protocol):
    """Somebody who looks at a session. `now` is monotonic seconds."""

    def told(self, name: str, given: dict[str, Any], now: float) -> None:
        """The session is about to be told this, by the method of that name."""

    def follows(self, events: list[Event], now: float) -> list[Event]:
        """This follows from it; what is carried out is what the follower returns."""

    def noted(self, what: str, message: Message | None, now: float) -> None:
        """Something happened beside the session, or another process was told of it."""

    def close(self, now: float) -> None:
        """The session is over."""


class FollowedSession(Session):
    """A `Session` with followers, the first of whom looks first."""

    def __init__(
        self,
        identity: str,
        policy: SessionPolicy,
        history: Sequence[tuple[str, str]],
        followers: Sequence[Follower],
    ) -> None:
        super().__init__(identity, policy, history)
        self._followers = followers
        self._inside = False

    def note(self, what: str, message: Message | None = None) -> None:
        """Show the followers what happens beside the session."""
        now = time.monotonic()
        for follower in self._followers:
            follower.noted(what, message, now)

    def close(self, now: float) -> None:
        """The session is over."""
        for follower in self._followers:
            follower.close(now)


def _followed(name: str) -> Callable[..., list[Event]]:
    """The method of that name, shown to the followers; what it calls itself is part of it."""
    method = getattr(Session, name)
    names = tuple(inspect.signature(method).parameters)[1:]

    def tell(self: FollowedSession, *values: Any, **named: Any) -> list[Event]:
        if self._inside:
            return method(self, *values, **named) or []
        given = dict(zip(names, values, strict=False)) | named
        now = given.get("now")
        now = time.monotonic() if now is None else now
        for follower in self._followers:
            follower.told(name, given, now)
        self._inside = True
        try:
            events = method(self, *values, **named) or []
        finally:
            self._inside = False
        for follower in self._followers:
            events = follower.follows(events, now)
        return events

    return tell


for _name in INPUTS:
    setattr(FollowedSession, _name, _followed(_name))
