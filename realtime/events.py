"""The events of the protocol: what a client may send, checked, and what a server makes."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

ServerEvent = dict[str, Any]
"""An event for the client, without its `event_id`: `Ids.stamp` gives it one."""

LARGEST_APPEND = 15 << 20
"""Bytes of base64 that one `input_audio_buffer.append` may carry."""


class RealtimeError(Exception):
    """A client's event cannot be carried out: told as an `error` event, and the session goes on."""

    def __init__(
        self,
        message: str,
        code: str,
        *,
        param: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.kind = kind

    def as_event(self, event_id: object) -> ServerEvent:
        """The event that tells it; `event_id` is that of the client's event."""
        error = {
            "type": self.kind,
            "code": self.code,
            "message": str(self),
            "param": self.param,
            "event_id": event_id if isinstance(event_id, str) else None,
        }
        return {"type": "error", "error": error}


class Ids:
    """Identities of one session: unique and, within it, in the order in which they were made."""

    def __init__(self, salt: Callable[[], str] = lambda: secrets.token_hex(6)) -> None:
        self._salt = salt()
        self._count = itertools.count(1)

    def make(self, kind: str) -> str:
        """A new identity such as `item_5f…_0007`."""
        return f"{kind}_{self._salt}{next(self._count):06x}"

    def stamp(self, event: ServerEvent) -> ServerEvent:
        """The same event with an `event_id`."""
        return {"event_id": self.make("event"), **event}


def parse(message: str | bytes) -> dict[str, Any]:
    """Return a client's event. Raises RealtimeError for what is no JSON object with a `type`."""
    try:
        event = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise RealtimeError("The event is not JSON.", "invalid_json") from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise RealtimeError("An event is a JSON object with a type.", "invalid_event", param="type")
    return event


def text(event: Mapping[str, Any], name: str, *, required: bool = True) -> str:
    """Return a string of an event, "" for one that may be absent. Raises RealtimeError."""
    value = event.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise RealtimeError(f"{name} has to be a string.", "invalid_value", param=name)
    return value.encode("utf-8", "replace").decode()


def number(event: Mapping[str, Any], name: str, *, least: int = 0) -> int:
    """Return a whole number of an event. Raises RealtimeError."""
    value = event.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RealtimeError(
            f"{name} has to be a whole number of {least} or more.", "invalid_value", param=name
        )
    return value
