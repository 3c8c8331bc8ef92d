"""One session's sound on its way to the connection that hears it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fusion import metrics
from fusion.audio import SPEECH_RATE
from fusion.logs import about
from fusion.messages import ClauseSpoken, Message, SessionStarted, SpeechEnded, SpeechStarted
from voices.acknowledged import Acknowledgements
from voices.speech import Speech, Speeches, SpokenClause

logger = logging.getLogger(__name__)

NOT_SAYABLE = "This voice cannot say {} writing: it is shown, and left out of the sound."
FATAL = "The voice fails on these words: they are shown, and left out of the sound."
NO_VOICE = "There is no voice for {} here: what is written in it is shown, and not said."
UNSPOKEN = "The voice failed, so this reply is not spoken to its end."

_CHUNK = SPEECH_RATE // 10

# Seconds after which sound that is not due yet is looked at again.
_LONGEST_WAIT = 5.0


# Sound waits so long for a connection that is not open yet, or was lost: a change of network and
# the client's next try take a second or two.
PATIENCE = 5.0


@dataclass(frozen=True)
class Interrupted:
    """A speech whose listener was lost, and how many seconds of it had been played by then."""

    speech: Speech
    seconds: float


@dataclass(eq=False)
class SpeechSession:
    """A session as the voice knows it, with the connection that hears it.

    `keyed` is whether a connection named its key: an old client's connection is never given such a
    session. `pending_events` is what the connection must be told before any more sound goes out.
    `changed` is set when there may be something to send. `last_word` is the latest `reply_end`, for
    a connection that comes back and may have missed it.
    """

    started: SessionStarted
    speeches: Speeches = field(default_factory=Speeches)
    connection: ServerConnection | None = None
    keyed: bool = False
    released: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    pending_events: deque[dict[str, object]] = field(default_factory=deque)
    sender: asyncio.Task[None] | None = None
    broken: Interrupted | None = None
    last_word: dict[str, object] | None = None
    acknowledged: Acknowledgements | None = None
    """What `connection` has taken."""
    language: str = ""
    """What was last spoken, or is to be."""
    expected: bool = True
    """Whether a connection may still come: until nobody came in time."""
    waiting_since: float | None = None
    free_since: float = field(default_factory=time.monotonic)
    """When it was introduced, or lost its connection."""
    audio_key: str = ""
    """What the next connection has to name: each takes one, so that an address that somebody has
    seen opens nothing any more."""

    def __post_init__(self) -> None:
        self.audio_key = self.audio_key or self.started.audio_key

    @property
    def session(self) -> str:
        return self.started.session

    def bind(
        self, connection: ServerConnection, *, keyed: bool, received: Received | None = None
    ) -> asyncio.Event:
        """Play to this connection from now on; the event is set once it no longer is.

        What the last connection did not play goes out again. `received` is what the client knows of
        that.
        """
        self.release()
        self.connection, self.keyed = connection, keyed
        self.acknowledged = Acknowledgements(connection, self.changed.set)
        self.expected, self.waiting_since = True, None
        self.released = asyncio.Event()
        self._go_on(received)
        self.changed.set()
        return self.released

    def release(self, *, deaf: bool = False) -> None:
        """Play to nobody. A `deaf` connection counts as far as it took its sound."""
        playing, now = self.speeches.playing, time.monotonic()
        if self.connection is not None and playing is not None:
            left = max(0.0, self.speeches.playout_deadline - now)
            seconds = max(0.0, playing.seconds_sent - left)
            if self.keyed or deaf:
                seconds = min(seconds, playing.reached(now))
            if left or not playing.over or seconds < playing.seconds_sent:
                self.broken = Interrupted(playing, seconds)
            self.speeches.playout_deadline = 0.0
        if self.acknowledged is not None:
            self.acknowledged.close()
        if self.connection is not None:
            self.free_since = time.monotonic()
        self.connection = self.acknowledged = None
        self.pending_events.clear()
        self.released.set()
        self.changed.set()

    def give_up(self) -> Interrupted | None:
        """Wait no longer for a connection; return what was broken off, cut where it was played."""
        broken, self.broken = self.broken, None
        if broken is not None:
            broken.speech.rewind(broken.seconds)
        self.waiting_since = None
        return broken

    def patience(self, now: float) -> float:
        """Seconds left to wait for a connection."""
        if self.waiting_since is None:
            self.waiting_since = now
        return self.waiting_since + PATIENCE - now if self.expected else 0.0

    def _go_on(self, received: Received | None) -> None:
        """Let go out what was not played, or tell that the reply had ended."""
        broken, self.broken = self.broken, None
        playing = broken.speech if broken is not None else self.speeches.playing
        if self.speeches.current is not None:
            self.speeches.current.announce_again()
        again = False
        if playing is not None and received is not None and received.turn == playing.turn:
            again = self.speeches.play_again(playing, received.seconds)
        elif broken is not None:
            again = self.speeches.play_again(broken.speech, broken.seconds)
        if self.keyed and self.last_word is not None and not again:
            self.pending_events.append(self.last_word)


@dataclass(frozen=True)
class Received:
    """How many seconds of a reply's sound a client has got, by its own account."""

    turn: int
    seconds: float


class Sender:
    """Sends a client its speeches, one after another, at the pace at which they play.

    `buffer_lead` is seconds that sound goes out before it is due, `patience` those that it may stay
    unread beyond its playing time. `report` tells the transcription server, `sent` is called when
    sound went out, as more may be made then.
    """

    def __init__(
        self,
        client: SpeechSession,
        buffer_lead: float,
        patience: float,
        report: Callable[[Message], object],
        sent: Callable[[], None],
    ) -> None:
        self._client = client
        self._buffer_lead = buffer_lead
        self._patience = patience
        self._report = report
        self._sent = sent

    async def run(self) -> None:
        """Send until cancelled."""
        changed = self._client.changed
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), self._longest_wait())
            changed.clear()
            while await self._send_next():
                pass

    async def _send_next(self) -> bool:
        """Send the next of what is ready; False when nothing is until something changes."""
        client = self._client
        connection, speech = client.connection, client.speeches.current
        if connection is None:
            return self._pass_over(speech)
        deaf = self._until_deaf() <= 0
        try:
            if not deaf:
                timeout = self._playout() - time.monotonic() + self._patience
                return await asyncio.wait_for(self._send_to(connection, speech), timeout)
        except asyncio.TimeoutError:
            deaf = True
        except ConnectionClosed:
            pass
        if deaf:
            metrics.DROPS.labels("audio client does not read").inc()
            sentence = "an audio client does not read its sound and is disconnected"
            logger.warning(sentence, extra=about(client.session))
        if client.connection is connection:
            client.release(deaf=deaf)
        connection.transport.abort()
        return True

    def _until_deaf(self) -> float:
        """Seconds that the client has left to read what was sent."""
        acknowledged = self._client.acknowledged
        if acknowledged is None or acknowledged.due is None:
            return math.inf
        return acknowledged.due + self._patience - time.monotonic()

    def _longest_wait(self) -> float | None:
        """Seconds until a connection that does not come or does not read is given up."""
        client = self._client
        if client.connection is not None:
            left = self._until_deaf()
            return max(0.0, left) if left < math.inf else None
        if client.waiting_since is None:
            return None
        return max(0.0, client.patience(time.monotonic()))

    def _pass_over(self, speech: Speech | None) -> bool:
        """Nobody hears: after a while a reply is over, as far as it was played."""
        client = self._client
        waiting = client.broken.speech if client.broken is not None else speech
        if waiting is None or not (waiting.text_complete or waiting.seconds_sent):
            return False
        if client.patience(time.monotonic()) > 0:
            return False
        client.expected = False
        broken = client.give_up()
        if broken is None:
            self._finish(waiting, waiting.said or None)
        else:
            self._finish(waiting, waiting.said, broken_off=not waiting.over)
        return True

    async def _send_to(self, connection: ServerConnection, speech: Speech | None) -> bool:
        pending = self._client.pending_events
        if pending:
            event = pending[0]
            await connection.send(json.dumps(event))
            if pending and pending[0] is event:
                pending.popleft()
            return True
        if speech is None:
            return False
        if self._client.keyed:
            return await self._send_streamed(speech, connection)
        return await self._send_whole(speech, connection)

    async def _send_streamed(self, speech: Speech, connection: ServerConnection) -> bool:
        """One step: the next chunk, once it is due, or the end of the reply."""
        silent = speech.next_to_show
        if silent is not None:
            self._announce(speech, silent)
            return True
        clause = speech.next_to_send
        if clause is None or not clause.chunks:
            return speech.over and await self._end(speech)
        early = self._client.speeches.playout_deadline - self._buffer_lead - time.monotonic()
        if early > 0:
            self._client.changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._client.changed.wait(), min(early, _LONGEST_WAIT))
        elif not clause.announced:
            self._announce(speech, clause)
        else:
            await self._send_chunk(speech, clause, connection)
        return True

    async def _end(self, speech: Speech) -> bool:
        """Say that the reply has no more sound, and whether there should have been some.

        It was spoken once the client has taken it. False while that is not known.
        """
        if speech.end_told:
            return await self._finish_when_taken(speech)
        speech.end_told = True
        pending = self._client.pending_events
        if speech.failed:
            # An error as on the other port, and an event as all that is said on this one.
            error = {"event": "error", "status": "ERROR", "message": UNSPOKEN}
            pending.append({**error, "turn": speech.turn})
        pending.append(reply_end(speech, interrupted=False))
        return True

    async def _finish_when_taken(self, speech: Speech) -> bool:
        if speech.all_taken:
            self._finish(speech, speech.said)
            return True
        await self._ask(speech)
        return False

    async def _ask(self, speech: Speech) -> None:
        """Ask how much of the sound was taken."""
        if self._client.acknowledged is not None:
            await self._client.acknowledged.ask(speech, self._playout())

    def _announce(self, speech: Speech, clause: SpokenClause) -> None:
        """Say what the sound that comes next is, and what of the text the voice cannot say."""
        turn, pending = speech.turn, self._client.pending_events
        clause.announced = True
        at = round(speech.seconds_sent, 3)
        if not speech.begun:
            speech.begun = True
            self._client.last_word = None
            start: dict[str, object] = {"event": "reply_start", "turn": turn}
            pending.append({**start, "at": at} if at else start)
        pending.append({"event": "clause", "turn": turn, "text": clause.text, "at": at})
        new = [script for script in clause.left_out if script not in speech.left_out]
        if new:
            speech.left_out.update(new)
            message = (NOT_SAYABLE if speech.is_spoken else NO_VOICE).format(" and ".join(new))
            pending.append({"event": "left_out", "turn": turn, "scripts": new, "message": message})
        if clause.fatal:
            pending.append({"event": "left_out", "turn": turn, "scripts": [], "message": FATAL})

    async def _send_chunk(
        self, speech: Speech, clause: SpokenClause, connection: ServerConnection
    ) -> None:
        first = not speech.sounding
        self._report_clause(speech, clause, self._playout())
        chunk = speech.take(clause, _CHUNK)
        self._went_out(len(chunk))
        await connection.send(chunk.tobytes())
        if first:
            self._report_start(speech, clause)
        await self._ask(speech)

    async def _send_whole(self, speech: Speech, connection: ServerConnection) -> bool:
        """For clients of the original: the whole reply as one message and no text."""
        if not speech.text_complete or not all(clause.finished for clause in speech.clauses):
            return False
        spoken = [clause for clause in speech.clauses if clause.chunks]
        if not spoken:
            return await self._finish_when_taken(speech)
        begins_at = self._playout()
        for clause in spoken:
            self._report_clause(speech, clause, begins_at)
            begins_at += clause.samples / SPEECH_RATE
        sound = [
            speech.take(clause, clause.samples) for clause in spoken for _ in list(clause.chunks)
        ]
        whole = np.concatenate(sound)
        self._went_out(len(whole))
        await connection.send(whole.tobytes())
        self._report_start(speech, spoken[0])
        return True

    def _went_out(self, samples: int) -> None:
        metrics.AUDIO.labels("out").inc(samples / SPEECH_RATE)
        self._client.speeches.playout_deadline = self._playout() + samples / SPEECH_RATE
        self._sent()

    def _playout(self) -> float:
        """When sound that goes out now is played."""
        return max(self._client.speeches.playout_deadline, time.monotonic())

    def _report_clause(self, speech: Speech, clause: SpokenClause, begins_at: float) -> None:
        if not clause.reported:
            clause.reported = True
            session = self._client.session
            self._report(ClauseSpoken(session, speech.turn, clause.text, begins_at))

    def _report_start(self, speech: Speech, clause: SpokenClause) -> None:
        speech.sounding = True
        now = time.monotonic()
        made_at = clause.made_at or now
        speech.trace.first_sound(made_at, now)
        self._report(SpeechStarted(self._client.session, speech.turn, made_at, now))

    def _finish(self, speech: Speech, spoken: str | None, *, broken_off: bool = False) -> None:
        client = self._client
        client.speeches.finish(speech)
        client.last_word = reply_end(speech, interrupted=False)
        ended = SpeechEnded(client.session, speech.turn, spoken, self._playout(), broken_off)
        self._report(ended)


def reply_end(speech: Speech, *, interrupted: bool) -> dict[str, object]:
    """The message after a reply's last sound: what of it was said."""
    end = {"event": "reply_end", "turn": speech.turn, "spoken": speech.said}
    return {**end, "interrupted": interrupted}
