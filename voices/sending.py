"""One session's sound on its way to the connection that hears it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fusion.audio import SPEECH_RATE
from fusion.messages import ClauseSpoken, Message, SessionStarted, SpeechEnded, SpeechStarted
from voices.speech import Speech, Speeches, SpokenClause

UNSPOKEN = "The voice failed, so this reply is not spoken to its end."

_CHUNK = SPEECH_RATE // 10

# A client whose connection takes no data for this long is gone.
_SEND_TIMEOUT = 10.0


@dataclass(eq=False)
class SpeechSession:
    """A session as the voice knows it, with the connection that hears it.

    `keyed` is whether a connection named its key: an old client's connection is never given such a
    session. `pending_events` is what the connection must be told before any more sound goes out.
    `changed` is set when there may be something to send.
    """

    started: SessionStarted
    speeches: Speeches = field(default_factory=Speeches)
    connection: ServerConnection | None = None
    keyed: bool = False
    released: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    pending_events: deque[dict[str, object]] = field(default_factory=deque)
    sender: asyncio.Task[None] | None = None

    @property
    def session(self) -> str:
        return self.started.session

    def bind(self, connection: ServerConnection, *, keyed: bool) -> asyncio.Event:
        """Be heard by this connection from now on; the event is set once it no longer is."""
        self.release()
        self.connection, self.keyed = connection, keyed
        self.released = asyncio.Event()
        self.changed.set()
        return self.released

    def release(self) -> None:
        """Be heard by nobody."""
        self.connection = None
        self.pending_events.clear()
        self.released.set()
        self.changed.set()


class Sender:
    """Sends a client its speeches, one after another, at the pace at which they are heard.

    `buffer_lead` is seconds that sound goes out before it is due, `report` tells the transcription
    server, `sent` is called when sound went out, as more may be made then.
    """

    def __init__(
        self,
        client: SpeechSession,
        buffer_lead: float,
        report: Callable[[Message], object],
        sent: Callable[[], None],
    ) -> None:
        self._client = client
        self._buffer_lead = buffer_lead
        self._report = report
        self._sent = sent

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._client.changed.wait()
            self._client.changed.clear()
            while await self._send_next():
                pass

    async def _send_next(self) -> bool:
        """Send the next of what is ready; False when nothing is until something changes."""
        client = self._client
        connection, speech = client.connection, client.speeches.current
        if connection is None:
            return self._pass_over(speech)
        try:
            return await asyncio.wait_for(self._send_to(connection, speech), _SEND_TIMEOUT)
        except (ConnectionClosed, asyncio.TimeoutError):
            if client.connection is connection:
                client.release()
            connection.transport.abort()
            return True

    def _pass_over(self, speech: Speech | None) -> bool:
        """Nobody hears: a reply is over once its text is complete, or where the sound broke off."""
        if speech is None or not (speech.text_complete or speech.seconds_sent):
            return False
        self._finish(speech, speech.said or None)
        return True

    async def _send_to(self, connection: ServerConnection, speech: Speech | None) -> bool:
        if self._client.pending_events:
            await connection.send(json.dumps(self._client.pending_events.popleft()))
            return True
        if speech is None:
            return False
        if self._client.keyed:
            return await self._send_streamed(speech, connection)
        return await self._send_whole(speech, connection)

    async def _send_streamed(self, speech: Speech, connection: ServerConnection) -> bool:
        """One step: the next chunk, once it is due, or the end of the reply."""
        clause = speech.next_to_send
        if clause is None or not clause.chunks:
            if speech.over:
                self._end(speech)
            return speech.over
        early = self._client.speeches.playout_deadline - self._buffer_lead - time.monotonic()
        if early > 0:
            self._client.changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._client.changed.wait(), min(early, _SEND_TIMEOUT / 2))
        elif not clause.announced:
            self._announce(speech, clause)
        else:
            await self._send_chunk(speech, clause, connection)
        return True

    def _end(self, speech: Speech) -> None:
        """Say that the reply has no more sound, and whether there should have been some."""
        self._finish(speech, speech.said)
        if speech.failed:
            # An error as on the other port, and an event as all that is said on this one.
            error = {"event": "error", "status": "ERROR", "message": UNSPOKEN}
            self._client.pending_events.append({**error, "turn": speech.turn})
        self._client.pending_events.append(reply_end(speech, interrupted=False))

    def _announce(self, speech: Speech, clause: SpokenClause) -> None:
        """Say what the sound that comes next is."""
        clause.announced = True
        turn, pending = speech.turn, self._client.pending_events
        if not speech.seconds_sent:
            pending.append({"event": "reply_start", "turn": turn})
        at = round(speech.seconds_sent, 3)
        pending.append({"event": "clause", "turn": turn, "text": clause.text, "at": at})

    async def _send_chunk(
        self, speech: Speech, clause: SpokenClause, connection: ServerConnection
    ) -> None:
        first = not speech.seconds_sent
        if not clause.sent:
            self._report_clause(speech, clause, self._playout())
        chunk = clause.take(_CHUNK)
        await connection.send(chunk.tobytes())
        self._went_out(speech, len(chunk))
        if first:
            self._report_start(speech, clause)

    async def _send_whole(self, speech: Speech, connection: ServerConnection) -> bool:
        """For clients of the original: the whole reply as one message and no text."""
        if not speech.text_complete or not all(clause.finished for clause in speech.clauses):
            return False
        spoken = [clause for clause in speech.clauses if clause.chunks]
        begins_at = self._playout()
        for clause in spoken:
            self._report_clause(speech, clause, begins_at)
            begins_at += clause.samples / SPEECH_RATE
        sound = [clause.take(clause.samples) for clause in spoken for _ in list(clause.chunks)]
        if sound:
            whole = np.concatenate(sound)
            await connection.send(whole.tobytes())
            self._went_out(speech, len(whole))
            self._report_start(speech, spoken[0])
        self._finish(speech, speech.said)
        return True

    def _went_out(self, speech: Speech, samples: int) -> None:
        seconds = samples / SPEECH_RATE
        speech.seconds_sent += seconds
        self._client.speeches.playout_deadline = self._playout() + seconds
        self._sent()

    def _playout(self) -> float:
        """When sound that goes out now is played."""
        return max(self._client.speeches.playout_deadline, time.monotonic())

    def _report_clause(self, speech: Speech, clause: SpokenClause, begins_at: float) -> None:
        session = self._client.session
        self._report(ClauseSpoken(session, speech.turn, clause.text, begins_at))

    def _report_start(self, speech: Speech, clause: SpokenClause) -> None:
        now = time.monotonic()
        made_at = clause.made_at or now
        self._report(SpeechStarted(self._client.session, speech.turn, made_at, now))

    def _finish(self, speech: Speech, spoken: str | None) -> None:
        self._client.speeches.end(speech.turn)
        self._report(SpeechEnded(self._client.session, speech.turn, spoken, self._playout()))


def reply_end(speech: Speech, *, interrupted: bool) -> dict[str, object]:
    """The message after a reply's last sound: what of it was said."""
    end = {"event": "reply_end", "turn": speech.turn, "spoken": speech.said}
    return {**end, "interrupted": interrupted}
