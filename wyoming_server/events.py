"""Wyoming events off a connection, checked: a stranger may send anything."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from wyoming.event import Event

from fusion.errors import ProtocolError

LARGEST_LINE = 64 << 10
"""Bytes of an event's first line."""

_LARGEST = {"data_length": 256 << 10, "payload_length": 1 << 20}


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """The next event; None where the connection ends.

    `wyoming.event.async_read_event` believes every length and every type that it reads. Raises
    ProtocolError for what is no event, or is too large.
    """
    try:
        line = await reader.readline()
        if not line:
            return None
        header = _json_object(line)
        data = header.get("data") or {}
        data_length, payload_length = (_length(header, name) for name in _LARGEST)
        if data_length:
            data = {**data, **_json_object(await reader.readexactly(data_length))}
        payload = await reader.readexactly(payload_length) if payload_length else None
    except asyncio.IncompleteReadError:
        return None
    except ValueError as error:  # a line beyond the reader's limit
        raise ProtocolError(
            f"The first line of an event has at most {LARGEST_LINE} bytes."
        ) from error
    kind = header.get("type")
    if not isinstance(kind, str):
        raise ProtocolError("An event has a type.")
    return Event(kind, data, payload)


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("data") or {}, dict):
        raise ProtocolError("An event is a line of JSON, an object.")
    return value


def _length(header: dict[str, Any], name: str) -> int:
    value = header.get(name) or 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST[name]:
        raise ProtocolError(f"{name} is a whole number of at most {_LARGEST[name]}.")
    return value


def text_of(event: Event, name: str = "text") -> str:
    """A text of an event's data. Raises ProtocolError."""
    value = event.data.get(name)
    if not isinstance(value, str):
        raise ProtocolError(f"{event.type} needs a {name}.")
    return value
