"""A recorded session again: what its models and the other processes said then is said again.

A session depends on nothing but what it is told, the time among it. So a recording tells another
one the same at the same times, and what follows must be what followed then: where it is not, the
program has changed, or the recording shows a fault that is mended now.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusion.messages import Message
from fusion.settings import Settings
from whisper_live.events import Event, PredictTurn, Revision, Tell, ToLanguageModel, Transcribe
from whisper_live.flight_recorder import values
from whisper_live.flight_recorder.comparison import Difference, Turn, first_difference, turns
from whisper_live.flight_recorder.format import Entry, Recording, RecordingError, read
from whisper_live.session import Session
from whisper_live.session_policy import SessionPolicy


@dataclass
class Replayed:
    """What came of it. Times are seconds since the session began.

    `told` is what its client would have been told, `asked` what the language model was, and `first`
    where it first went otherwise than then. `entries` is the run as it would have been recorded.
    """

    told: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    asked: list[tuple[float, Message]] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    @property
    def first(self) -> Difference | None:
        return self.differences[0] if self.differences else None

    @property
    def turns(self) -> list[Turn]:
        """Its committed turns."""
        return turns(self.entries)


def load(path: Path | str) -> Recording:
    """Read a recording from a file. Raises RecordingError, with the sentence."""
    try:
        with Path(path).open("rb") as file:
            return read(file)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}.") from error


def replay(recording: Recording, changes: Mapping[str, Any] | None = None) -> Replayed:
    """Tell a new session what the recorded one was told; `changes` are settings made otherwise.

    Raises RecordingError for a recording that no recorder wrote.
    """
    return _Replay(recording, changes or {}).run()


def settings_of(recording: Recording, changes: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a recorded session. Those that this version does not have are left out."""
    recorded = recording.header.get("settings")
    if not isinstance(recorded, dict):
        raise RecordingError("It does not say with which settings it was made.")
    kinds = {item.name: type(item.default) for item in dataclasses.fields(Settings)}
    known = {name: each for name, each in recorded.items() if name in kinds}
    wrong = [name for name, each in known.items() if not isinstance(each, kinds[name] | int)]
    if wrong:
        raise RecordingError(f"Its setting {wrong[0]} is none that there could be.")
    return Settings(**known | dict(changes or {}))


def make_session(recording: Recording, settings: Settings) -> Session:
    """A session as the recorded one was in its beginning."""
    hello = recording.header.get("hello")
    if not isinstance(hello, dict):
        raise RecordingError("It does not hold its client's handshake.")
    policy = SessionPolicy.from_settings(
        settings,
        stream=hello.get("stream") is True,
        reply=hello.get("reply") is True,
        runs_ahead=hello.get("buffer_lead") is not None,
    )
    history = values.decoded(hello.get("history", []), tuple[tuple[str, str], ...])
    return Session(str(recording.header.get("session")), policy, history)


class _Replay:
    """One run of it."""

    def __init__(self, recording: Recording, changes: Mapping[str, Any]) -> None:
        self._entries = recording.entries
        self._session = make_session(recording, settings_of(recording, changes))
        self._requests = values.Requests()
        self._asked: dict[str, Transcribe | Revision] = {}
        self._began: float | None = None
        self._result = Replayed()

    def run(self) -> Replayed:
        for entry, recorded in self._calls():
            now = values.decoded(entry.fields.get("at"), float)
            self._began = now if self._began is None else self._began
            if "note" in entry.fields:
                self._compare_history(entry, now - self._began)
            else:
                self._call(entry, recorded, now - self._began)
        return self._result

    def _calls(self) -> Iterator[tuple[Entry, list[Any]]]:
        """Each entry with what followed from it then."""
        entries = [entry for entry in self._entries if "end" not in entry.fields]
        for number, entry in enumerate(entries):
            if "out" in entry.fields:
                continue
            after = entries[number + 1].fields if number + 1 < len(entries) else {}
            recorded = after.get("out", [])
            if not isinstance(recorded, list):
                raise RecordingError("What followed from an entry is no list.")
            yield entry, recorded

    def _call(self, entry: Entry, recorded: list[Any], at: float) -> None:
        name = entry.fields.get("in")
        try:
            arguments = values.arguments(entry, self._asked)
        except KeyError as error:
            missing = f"{error} was not asked for, which this answers"
            self._result.differences.append(Difference(at, str(name), "an answer", missing))
            return
        events = getattr(self._session, str(name))(**arguments) or []
        now = [self._note(event, at) for event in events]
        self._result.entries += [entry, Entry({"out": now})] if now else [entry]
        difference = first_difference(at, str(name), recorded, now)
        if difference is not None:
            self._result.differences.append(difference)

    def _note(self, event: Event, at: float) -> dict[str, Any]:
        said = values.event(event, self._requests)
        if isinstance(event, Transcribe | PredictTurn):
            asked = event if isinstance(event, Transcribe) else event.revision
            self._asked[said["request"]] = asked
        elif isinstance(event, Tell):
            self._result.told.append((at, event.fields))
        elif isinstance(event, ToLanguageModel):
            self._result.asked.append((at, event.message))
        return said

    def _compare_history(self, entry: Entry, at: float) -> None:
        """A language model that is told of the session gets the same conversation."""
        message = entry.fields.get("message")
        if not isinstance(message, dict) or message.get("is") != "SessionStarted":
            return
        recorded, now = [message.get("history")], [values.plain(self._session.history())]
        difference = first_difference(at, "the conversation so far", recorded, now)
        if difference is not None:
            self._result.differences.append(difference)
