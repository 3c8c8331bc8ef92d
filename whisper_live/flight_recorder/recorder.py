"""Records sessions while they go on: each in a file of its own, in one folder.

Each entry is written at once and whole, so that it is in the file whatever ends the process in the
next moment. A write goes into the system's memory and takes microseconds on a local disk; it is
done where the session is, in the event loop. Only the owner may read the files.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fusion import __version__
from fusion.logs import about
from fusion.messages import Message, SessionStarted
from fusion.settings import Settings
from whisper_live.events import Event
from whisper_live.flight_recorder import values
from whisper_live.flight_recorder.format import Entry, encode, header
from whisper_live.handshake import Hello

logger = logging.getLogger(__name__)

SUFFIX = ".recording"

_MEGABYTE = 1 << 20

# Room is made for so much at a time, so the folder may hold this much more for each session.
_STEP = _MEGABYTE

_UNRECORDED = ("token", "resume")
"""What of a client's handshake is a secret."""


def notice(settings: Settings) -> str:
    """The sentence that says at the start what is recorded, and where."""
    return (
        f"Recording every session in {Path(settings.record).expanduser()}: all that people say, as "
        f"sound and as words, and all that is answered; {settings.record_limit} MB at most. "
        "Tell them."
    )


# The files of this process that are being written.
_open: set[Path] = set()


class RecordingFolder:
    """The recordings of a program. Once they are `most_bytes`, the oldest give way."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most = most_bytes

    @classmethod
    def from_settings(cls, settings: Settings) -> RecordingFolder | None:
        """The folder that the settings name; None where nothing is to be recorded."""
        if not settings.record:
            return None
        return cls(Path(settings.record).expanduser(), settings.record_limit * _MEGABYTE)

    def begin(self, session: str, hello: Hello, settings: Settings) -> SessionRecording | None:
        """Begin to record a session; None, with a line in the log, where the disk refuses."""
        began = datetime.now(timezone.utc)
        path = self._folder / f"{began:%Y%m%dT%H%M%S}-{session}{SUFFIX}"
        first = header(
            program=__version__,
            session=session,
            began=began.isoformat(),
            clock=time.monotonic(),
            hello={k: values.plain(v) for k, v in vars(hello).items() if k not in _UNRECORDED},
            settings=recorded_settings(settings),
        )
        try:
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            logger.error("not recorded: %s", error.strerror, extra=about(session))
            return None
        _open.add(path)
        recording = SessionRecording(self, path, descriptor, session)
        recording.write(first)
        return recording

    def make_room(self) -> bool:
        """Remove the oldest recordings until there is room for more; False where there is none."""
        found = sorted(self._folder.glob(f"*{SUFFIX}"))
        total = sum(path.stat().st_size for path in found)
        for path in found:
            if total + _STEP <= self._most:
                break
            if path not in _open:
                total -= path.stat().st_size
                path.unlink()
        return total + _STEP <= self._most


class SessionRecording:
    """Follows a session and writes it down; see `FollowedSession`."""

    def __init__(self, folder: RecordingFolder, path: Path, descriptor: int, session: str) -> None:
        self._folder = folder
        self._path = path
        self._descriptor: int | None = descriptor
        self._session = session
        self._requests = values.Requests()
        self._room = 0

    def told(self, name: str, given: dict[str, Any], now: float) -> None:
        """Write down what the session is told, before it can fail of it."""
        self.write(values.call(name, given, now, self._requests))

    def follows(self, events: list[Event], now: float) -> list[Event]:
        """Write down what follows from that."""
        if events:
            self.write(Entry({"out": [values.event(each, self._requests) for each in events]}))
        return events

    def noted(self, what: str, message: Message | None, now: float) -> None:
        """Write down what happens beside the session."""
        if isinstance(message, SessionStarted):
            message = dataclasses.replace(message, audio_key="")
        said = {} if message is None else {"message": values.plain(message)}
        self.write(Entry({"note": what, "at": now, **said}))

    def close(self, now: float) -> None:
        """The session is over."""
        self._end("the session is over", now)

    def write(self, entry: Entry) -> None:
        """Append an entry; once that fails, or the folder is full, no more is recorded."""
        if self._descriptor is None:
            return
        data = encode(entry)
        try:
            if self._room < len(data):
                if not self._folder.make_room():
                    logger.warning("no more of it is recorded: --record_limit is reached")
                    self._end("the limit is reached", time.monotonic())
                    return
                self._room = _STEP
            self._append(data)
        except OSError as error:
            logger.error(
                "no more of it is recorded: %s", error.strerror, extra=about(self._session)
            )
            self._release()

    def _append(self, data: bytes) -> None:
        assert self._descriptor is not None
        self._room -= len(data)
        if os.write(self._descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _end(self, reason: str, now: float) -> None:
        if self._descriptor is not None:
            try:
                self._append(encode(Entry({"end": reason, "at": now})))
            except OSError as error:
                logger.error("the end is not recorded: %s", error.strerror)
            self._release()

    def _release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _open.discard(self._path)


def recorded_settings(settings: Settings) -> dict[str, Any]:
    """The settings that a session depends on: not who may connect, and no key."""
    kept = {
        item.name: getattr(settings, item.name)
        for item in dataclasses.fields(settings)
        if item.metadata["group"] not in ("serving", "recording", "settings")
    }
    del kept["openai_api_key"]
    if "@" in kept["openai_url"]:  # a name and a password before it
        del kept["openai_url"]
    return kept
