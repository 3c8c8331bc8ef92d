"""What a Wyoming client asks for, done by the pipeline: each is a session on its two ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
from websockets.exceptions import ConnectionClosed
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event

from fusion import tasks
from fusion.audio import SPEECH_RATE
from fusion.errors import FusionError
from whisper_live.client.conversation import Conversation, Server, talk
from whisper_live.client.events import Closed, Failure, Notice, Samples, Sound, Transcript
from whisper_live.client.events import Event as PipelineEvent
from wyoming_server.info import Offer

LONGEST_TEXT = 20_000
"""Characters of one request to speak."""

_PIECE = 4000  # characters that one command may have
_BUFFER_LEAD = 3600.0  # seconds: all sound at once, for the buffer is the client's
_ENDED = "The server ended the session before this was done."
_TOO_SLOW = "The server did not answer in time."
_VOICES_TIMEOUT = 2.0
_WIDTH = 2  # bytes of a sample that is sent

Send = Callable[[Event], Awaitable[None]]


async def look_around(server: Server, transcriber: str, voice: str) -> Offer:
    """Ask the two ports what they can. Raises FusionError where they do not answer."""
    async with talk(server, language=None) as pipeline:
        speakers: tuple[tuple[str, str], ...] = ()
        spoken: tuple[str, ...] = ()
        try:
            told = await asyncio.wait_for(_named(pipeline, "voices"), _VOICES_TIMEOUT)
            speakers = tuple((each["name"], each["language"]) for each in told.fields["speakers"])
            spoken = tuple(told.fields["languages"])
        except asyncio.TimeoutError:
            pass  # of one voice alone nothing is told
        languages = tuple(pipeline.ready.fields["languages"])
        return Offer(transcriber, languages, voice, speakers, spoken)


async def transcribe(
    server: Server,
    sounds: AsyncIterator[Samples],
    *,
    language: str | None,
    hotwords: str,
    timeout: float,
) -> str:
    """The words of a stream of sound, which ends where its speaker is done; "" for none.

    Raises FusionError with a sentence, also where the words take longer than `timeout` seconds.
    """
    try:
        # Without replies no other process knows of the session.
        talking = talk(server, reply=False, language=language, hotwords=hotwords)
        async with talking as pipeline:
            await pipeline.command("configure", turn_detection="none")
            async for samples in sounds:
                await pipeline.send(samples)
            await pipeline.command("end_turn")
            return await asyncio.wait_for(_words(pipeline), timeout)
    except ConnectionClosed as error:
        raise FusionError(_ENDED) from error
    except asyncio.TimeoutError as error:
        raise FusionError(_TOO_SLOW) from error


async def _words(pipeline: Conversation) -> str:
    turn: int | None = None
    async for event in pipeline.events():
        if isinstance(event, Notice) and event.name == "turn_ended":
            turn = event.turn
        elif isinstance(event, Notice) and event.name == "no_speech" and event.turn in (None, turn):
            return ""
        elif isinstance(event, Transcript) and event.final and event.turn == turn:
            return event.text
        _raise_for(event)
    raise FusionError(_ENDED)


async def speak(
    server: Server,
    texts: AsyncIterator[str],
    send: Send,
    *,
    voice: str,
    language: str | None,
) -> None:
    """Send the sound of a text that comes in pieces, as it is made.

    Raises FusionError with a sentence. The session itself gives up a reply without progress.
    """
    try:
        talking = talk(server, language=language, voice=voice, buffer_lead=_BUFFER_LEAD)
        async with talking as pipeline:
            # The sound ends only once the text has: whichever ends first by an error ends both.
            await tasks.first_of(_read_on(pipeline, texts), _hear(pipeline, send))
    except ConnectionClosed as error:
        raise FusionError(_ENDED) from error


async def _read_on(pipeline: Conversation, texts: AsyncIterator[str]) -> None:
    length = 0
    async for text in texts:
        length += len(text)
        if length > LONGEST_TEXT:
            raise FusionError(f"A text has at most {LONGEST_TEXT} characters.")
        for first in range(0, len(text), _PIECE):
            piece = text[first : first + _PIECE]
            await pipeline.command("read_aloud", text=piece, last=False)
    await pipeline.command("read_aloud", text="", last=True)
    await asyncio.Future()  # until the sound has ended


async def _hear(pipeline: Conversation, send: Send) -> None:
    await send(AudioStart(SPEECH_RATE, _WIDTH, 1).event())
    async for event in pipeline.events():
        if isinstance(event, Sound):
            audio = np.round(np.clip(event.samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()
            await send(AudioChunk(SPEECH_RATE, _WIDTH, 1, audio).event())
        elif isinstance(event, Notice) and event.name == "reply_end":
            await send(AudioStop().event())
            return
        _raise_for(event)
    raise FusionError(_ENDED)


async def _named(pipeline: Conversation, name: str) -> Notice:
    async for event in pipeline.events():
        if isinstance(event, Notice) and event.name == name:
            return event
        _raise_for(event)
    raise FusionError(_ENDED)


def _raise_for(event: PipelineEvent) -> None:
    if isinstance(event, Failure):
        raise FusionError(event.message)
    if isinstance(event, Closed):
        raise FusionError(_ENDED)
