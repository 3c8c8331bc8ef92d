"""A person made of recordings, for tests and benchmarks: an open microphone in real time.

The microphone sends silence between what it is told to say, as a real one does, and may hear the
loudspeaker.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import numpy as np
import soxr

from fusion.errors import FusionError
from whisper_live.client import (
    CHUNK,
    SAMPLE_RATE,
    SPEECH_RATE,
    Conversation,
    Event,
    Notice,
    Playback,
    ReplyText,
    Samples,
    Server,
    Transcript,
    talk,
)

E = TypeVar("E", bound=Event)

CHUNK_SECONDS = CHUNK / SAMPLE_RATE


class SimulatedUser:
    """Says recordings into a conversation and remembers everything that comes back.

    `echo` is the gain at which the microphone hears the machine's voice (0.1 is -20 dB).
    """

    def __init__(self, conversation: Conversation, echo: float = 0.0) -> None:
        self.conversation = conversation
        self.events: list[Event] = []
        self.playback = Playback()
        self._echo = echo
        self._to_say: list[Samples] = []
        self._changed = asyncio.Event()
        self._said = asyncio.Event()
        self._said.set()
        self.recording_began_at = 0.0

    async def say(self, recording: Samples) -> float:
        """Speak a recording (float32, 16 kHz); when its first sample was spoken."""
        self._to_say.append(recording)
        self._said.clear()
        await self._said.wait()
        return self.recording_began_at

    async def until(
        self, kind: type[E], fits: Callable[[E], bool] = lambda _: True, timeout: float = 60.0
    ) -> E:
        """The first event of a kind that fits, past or to come. Raises FusionError."""
        deadline = time.monotonic() + timeout
        seen = 0
        while True:
            for event in self.events[seen:]:
                if isinstance(event, kind) and fits(event):
                    return event
            seen = len(self.events)
            self._changed.clear()
            left = deadline - time.monotonic()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), max(left, 0.0))
            if left <= 0:
                raise FusionError(f"No such {kind.__name__} came within {timeout:.0f} s.")

    async def listen(self, seconds: float) -> None:
        """Say nothing for a while."""
        await asyncio.sleep(seconds)

    def of(self, kind: type[E], fits: Callable[[E], bool] = lambda _: True) -> list[E]:
        """All events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind) and fits(event)]

    def committed(self) -> list[Transcript]:
        """What the machine understood, a transcript a turn."""
        return self.of(Transcript, lambda transcript: transcript.final)

    def replies(self) -> list[ReplyText]:
        """What it answered, a reply a turn."""
        return self.of(ReplyText, lambda reply: reply.final)

    def notices(self, name: str) -> list[Notice]:
        return self.of(Notice, lambda notice: notice.name == name)

    async def _microphone(self) -> None:
        try:
            await self._send_microphone()
        finally:
            self._said.set()  # nobody waits for what cannot be said any more

    async def _send_microphone(self) -> None:
        due = time.monotonic()
        current: Samples = np.zeros(0, np.float32)
        while True:
            if not len(current) and self._to_say:
                current = self._to_say.pop(0)
                self.recording_began_at = due
            chunk, current = current[:CHUNK], current[CHUNK:]
            padded = np.zeros(CHUNK, np.float32)
            padded[: len(chunk)] = chunk
            due += CHUNK_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.conversation.send(padded + self._heard_from_speaker(due))
            if not len(current) and not self._to_say:
                self._said.set()

    def _heard_from_speaker(self, until: float) -> Samples:
        if not self._echo:
            return np.zeros(CHUNK, np.float32)
        sound = self.playback.between(until - CHUNK_SECONDS, until)
        resampled = soxr.resample(sound, SPEECH_RATE, SAMPLE_RATE)[:CHUNK]
        picked_up: Samples = np.zeros(CHUNK, np.float32)
        picked_up[: len(resampled)] = self._echo * resampled
        return picked_up

    async def _collect(self) -> None:
        async for event in self.conversation.events():
            self.events.append(event)
            self.playback.take(event)
            self._changed.set()


@contextlib.asynccontextmanager
async def person(
    server: Server, *, echo: float = 0.0, **handshake: Any
) -> AsyncIterator[SimulatedUser]:
    """A person in a conversation with the server, with the microphone open."""
    async with talk(server, **handshake) as conversation:
        someone = SimulatedUser(conversation, echo)
        tasks = [
            asyncio.create_task(someone._microphone()),
            asyncio.create_task(someone._collect()),
        ]
        try:
            yield someone
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
