"""What a Realtime session asks of the pipeline. Values only: see `session.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from realtime.config import ResponseConfig, SessionConfig
from realtime.events import ServerEvent


@dataclass(frozen=True)
class AppendAudio:
    """Sound of the client, in the session's input format."""

    sound: bytes


@dataclass(frozen=True)
class CommitAudio:
    """What was appended since the last commit is a turn of the person's. `reply`: answer it."""

    reply: bool


@dataclass(frozen=True)
class ClearAudio:
    """Forget what was appended since the last commit."""


@dataclass(frozen=True)
class Configure:
    """The configuration changed."""

    config: SessionConfig


@dataclass(frozen=True)
class SetHistory:
    """The conversation is now this, as items of the protocol."""

    items: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class CreateResponse:
    """Make a response to the conversation, or to `input` alone where that is not None.

    What the conversation is when its turn comes says `RealtimeSession.history`.
    """

    response_id: str
    config: ResponseConfig
    input: tuple[dict[str, Any], ...] | None


@dataclass(frozen=True)
class CancelResponse:
    """Stop making it, and be silent."""

    response_id: str


Action = (
    AppendAudio
    | CommitAudio
    | ClearAudio
    | Configure
    | SetHistory
    | CreateResponse
    | CancelResponse
)
Output = ServerEvent | Action
