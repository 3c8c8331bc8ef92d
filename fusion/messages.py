"""What the three processes say to one another.

Every message is an immutable value that names its session. A *turn* is one thing that the person
says and its reply; a *revision* is one transcript of a turn. Turns count from 1 within a session,
revisions from 1 within a turn. Times are `time.monotonic()` seconds, one clock for all processes
of a machine. `trace` is the span that the work belongs to, as `fusion/tracing.py` says; empty where
nothing is traced.

`PROVISIONAL` lists the messages that may give way to newer ones when a channel is full; every
other message is delivered.
"""

from __future__ import annotations

from dataclasses import dataclass

from fusion.tools import NO_TOOLS, ToolCall, ToolOffer


@dataclass(frozen=True)
class SessionStarted:
    """A client is ready. Sent to the language model and the voice, again when one restarts."""

    session: str
    audio_key: str
    address: str
    language: str
    system_prompt: str
    voice: str
    history: tuple[tuple[str, str], ...] = ()
    """Earlier turns as (role, text), so that a restarted language model knows them again. The text
    of a `tool_call` is JSON with its id, name and arguments, that of a `tool_result` with its id
    and content."""
    buffer_lead: float | None = None
    """Seconds of sound that are sent before they are due; None: as the settings say."""
    max_tokens: int = 0
    """The longest reply; 0: as the settings say."""
    knows_keys: bool = False
    """Whether its client names the key: no audio connection without one is given the session."""
    tools: ToolOffer = NO_TOOLS
    """What of the client's the language model may call."""


@dataclass(frozen=True)
class SessionChanged:
    """What the language model and the voice are told is another now: all of it, and the history
    where the client rewrote that."""

    session: str
    system_prompt: str
    voice: str
    max_tokens: int
    history: tuple[tuple[str, str], ...] | None
    tools: ToolOffer = NO_TOOLS


@dataclass(frozen=True)
class AudioKeyChanged:
    """To the transcription server: an audio connection took the key, and the next needs another."""

    session: str
    audio_key: str


@dataclass(frozen=True)
class Wish:
    """What a client asks of one reply, beside what holds for its session.

    `aside` is a history of its own: the reply is to that, and the conversation never knows of it.
    """

    system_prompt: str = ""
    max_tokens: int = 0
    aside: tuple[tuple[str, str], ...] | None = None
    tools: ToolOffer | None = None
    """What may be called in it; None: what the session offers."""


@dataclass(frozen=True)
class SessionEnded:
    """The client is gone: forget everything about it."""

    session: str


@dataclass(frozen=True)
class Prefill:
    """Words of an unfinished utterance that will not change: read them into the prompt cache."""

    session: str
    turn: int
    text: str


@dataclass(frozen=True)
class Speculation:
    """A revision that may be the whole utterance: work on it, but let nothing be played yet.

    `language` is the code of what is spoken; "" where nobody knows.
    """

    session: str
    turn: int
    revision: int
    text: str
    language: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Commit:
    """The person is done and this revision is what they said: the reply may be played.

    Without a text the reply is to the conversation as it is.
    """

    session: str
    turn: int
    revision: int
    text: str
    wish: Wish | None = None
    language: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Withdrawal:
    """The person went on speaking: stop all work on this and earlier revisions of the turn."""

    session: str
    turn: int
    revision: int


@dataclass(frozen=True)
class Interruption:
    """The person speaks over the reply of this turn: be silent and stop working on it."""

    session: str
    turn: int


@dataclass(frozen=True)
class Spoken:
    """To the language model: all that was said aloud of a turn's interrupted reply."""

    session: str
    turn: int
    text: str


@dataclass(frozen=True)
class ToolResult:
    """To the language model: what a call returned that the client carried out, or why it failed."""

    session: str
    call_id: str
    output: str
    failed: bool = False


@dataclass(frozen=True)
class ReplyText:
    """More text of a reply, as it is generated. To the transcription server and to the voice.

    `language` is that of the question, in which it is answered.
    """

    session: str
    turn: int
    revision: int
    text: str
    at: float
    language: str = ""
    trace: str = ""


@dataclass(frozen=True)
class ReplyThinking:
    """The model thinks before it answers. To both, again and again while nothing else comes."""

    session: str
    turn: int
    revision: int
    at: float


@dataclass(frozen=True)
class ReplyEnded:
    """The reply's text is complete. To the transcription server and to the voice.

    `text` is all of it. It may be less than what `ReplyText` brought: a sentence that broke off for
    want of tokens is taken back.
    """

    session: str
    turn: int
    revision: int
    text: str
    at: float


@dataclass(frozen=True)
class ReplyFailed:
    """The reply cannot be made; `reason` is a sentence for the client. To both likewise."""

    session: str
    turn: int
    revision: int
    reason: str


@dataclass(frozen=True)
class ToolCalled:
    """The reply calls a tool, and pauses until it has the result. To both likewise.

    `by_server` is whether it is one of the server's own, so that the client has nothing to do.
    """

    session: str
    turn: int
    revision: int
    call: ToolCall
    by_server: bool = False


@dataclass(frozen=True)
class ToolEnded:
    """A call is over: `error` says why it failed, or is empty. To both likewise."""

    session: str
    turn: int
    revision: int
    call: ToolCall
    error: str


@dataclass(frozen=True)
class ModelStatus:
    """Which language model talks and which one is coming. For every session: `session` is empty.

    `coming` is the name of the better one, or empty; `detail` how far it is, or why there is none.
    """

    session: str
    name: str
    coming: str
    detail: str


@dataclass(frozen=True)
class SpeechStarted:
    """The first sound of a reply went out; its first clause was made at `first_clause_at`."""

    session: str
    turn: int
    first_clause_at: float
    first_sound_at: float


@dataclass(frozen=True)
class ClauseSpoken:
    """The sound of a clause begins to go out.

    `begins_at` is when a client that plays without a gap reaches it.
    """

    session: str
    turn: int
    text: str
    begins_at: float


@dataclass(frozen=True)
class SpeechEnded:
    """The voice is done with a turn.

    `spoken` is what was sent as sound, or None when nobody listens and nothing was made.
    `sound_until` is when a client that plays without a gap reaches the end of what it was sent.
    `broken_off` is whether the listener was lost in the middle and did not come back in time.
    """

    session: str
    turn: int
    spoken: str | None
    sound_until: float
    broken_off: bool = False


Message = (
    SessionStarted
    | SessionChanged
    | SessionEnded
    | AudioKeyChanged
    | Prefill
    | Speculation
    | Commit
    | Withdrawal
    | Interruption
    | Spoken
    | ToolResult
    | ReplyText
    | ReplyThinking
    | ReplyEnded
    | ReplyFailed
    | ToolCalled
    | ToolEnded
    | ModelStatus
    | SpeechStarted
    | ClauseSpoken
    | SpeechEnded
)

ReplyProgress = ReplyText | ReplyThinking | ReplyEnded | ReplyFailed | ToolCalled | ToolEnded
"""What the language model says of a reply."""

PROVISIONAL = (Prefill, Speculation, ModelStatus)
