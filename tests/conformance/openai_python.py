"""What OpenAI's own Python client does with `/v1/realtime`: `python openai_python.py PORT`.

Runs in an environment that has `openai[realtime]` and nothing of ours. Every event of the server is
validated against the client's types. The recordings' words are known: see tests/audio.
"""

from __future__ import annotations

import array
import asyncio
import base64
import contextlib
import sys
import time
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
from openai import AsyncOpenAI
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

AUDIO = Path(__file__).parents[1] / "audio"
EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
PIECE = 2400  # bytes: 50 ms of 24 kHz, 16 bits
SILENCE = bytes(2 * 24_000)


def recording(name: str) -> bytes:
    """A recording, 16 kHz, at 24 kHz: two samples become three, drawn straight."""
    with wave.open(str(AUDIO / f"{name}.wav")) as file:
        assert file.getframerate() == 16_000
        samples = array.array("h", file.readframes(file.getnframes()))
    longer = array.array("h")
    for place in range(0, len(samples) - 2, 2):
        first, second, third = samples[place : place + 3]
        longer.extend((first, (first + 2 * second) // 3, (2 * second + third) // 3))
    return longer.tobytes()


class Person:
    """Somebody who talks by way of the client, and everything that came back."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.events: list[Any] = []
        self._new = asyncio.Event()

    async def read(self) -> None:
        async for raw in self.connection:
            event = EVENT.validate_python(raw.model_dump())
            assert type(event).__name__ != "dict"
            self.events.append(event)
            self._new.set()

    async def until(self, kind: str, after: int = 0, timeout: float = 40.0) -> Any:
        """The first event of this kind after so many; whatever else comes is kept."""
        deadline = time.monotonic() + timeout
        while True:
            found = [each for each in self.events[after:] if each.type == kind]
            if found:
                return found[0]
            self._new.clear()
            await asyncio.wait_for(self._new.wait(), deadline - time.monotonic())

    def kinds(self, after: int = 0) -> list[str]:
        return [each.type for each in self.events[after:]]

    async def update(self, **session: Any) -> Any:
        after = len(self.events)
        await self.connection.session.update(session={"type": "realtime", **session})
        return await self.until("session.updated", after)

    async def append(self, sound: bytes, *, real_time: bool = True) -> None:
        for place in range(0, len(sound), PIECE):
            piece = base64.b64encode(sound[place : place + PIECE]).decode()
            await self.connection.input_audio_buffer.append(audio=piece)
            if real_time:
                await asyncio.sleep(0.05)

    async def types(self, text: str, **response: Any) -> Any:
        """A typed turn and the response to it."""
        after = len(self.events)
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        await self.connection.conversation.item.create(item=item)
        await self.connection.response.create(response=response)
        return (await self.until("response.done", after)).response


TRANSCRIBED = {"transcription": {"model": "whisper-1"}}


async def spoken_question(person: Person) -> None:
    """A spoken question is answered aloud."""
    session = await person.update(audio={"input": TRANSCRIBED})
    assert session.session.audio.input.turn_detection.type == "server_vad"
    speaking = asyncio.create_task(person.append(recording("brooklyn_bridge") + SILENCE))
    response = (await person.until("response.done")).response
    await speaking
    assert response.status == "completed", response
    kinds = person.kinds()
    order = [
        *("input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"),
        *("input_audio_buffer.committed", "conversation.item.added"),
        *("conversation.item.input_audio_transcription.completed", "response.created"),
        *("response.output_item.added", "response.content_part.added"),
        *("response.output_audio_transcript.delta", "response.output_audio.delta"),
        *("response.output_audio.done", "response.output_audio_transcript.done"),
        *("response.content_part.done", "response.output_item.done"),
        "response.done",
    ]
    places = [kinds.index(kind) for kind in order]
    assert places == sorted(places), kinds
    said = await person.until("conversation.item.input_audio_transcription.completed")
    assert "brooklyn bridge" in said.transcript.lower(), said
    sound = b"".join(
        base64.b64decode(each.delta)
        for each in person.events
        if each.type == "response.output_audio.delta"
    )
    assert len(sound) > 2 * 24_000
    assert "brooklyn" in response.output[0].content[0].transcript.lower(), response


async def barge_in(person: Person) -> None:
    """Speech stops the reply; what was not played leaves the conversation, cut at the word."""
    await person.update(instructions="Tell long stories.", audio={"input": TRANSCRIBED})
    after = len(person.events)
    content = [{"type": "input_text", "text": "Tell me a long story about a ship."}]
    item = {"type": "message", "role": "user", "content": content}
    await person.connection.conversation.item.create(item=item)
    await person.connection.response.create()
    first = await person.until("response.output_audio.delta", after)
    await asyncio.sleep(1.5)
    speaking = asyncio.create_task(person.append(recording("what_time_is_it") + SILENCE))
    await person.until("input_audio_buffer.speech_started", after)
    played = 1200
    await person.connection.conversation.item.truncate(
        item_id=first.item_id, content_index=0, audio_end_ms=played
    )
    truncated = await person.until("conversation.item.truncated", after)
    assert truncated.audio_end_ms == played
    await person.connection.conversation.item.retrieve(item_id=first.item_id)
    kept = (await person.until("conversation.item.retrieved", after)).item.content[0].transcript
    await speaking
    whole = next(
        each
        for each in person.events[after:]
        if each.type == "response.output_audio_transcript.done"
    ).transcript
    assert kept and len(kept) < len(whole) and whole.startswith(kept), (kept, whole)
    done = [each for each in person.events[after:] if each.type == "response.done"]
    assert done[0].response.status in ("cancelled", "completed")
    said = await person.until("conversation.item.input_audio_transcription.completed", after)
    assert "time" in said.transcript, said
    created = [each for each in person.events[after:] if each.type == "response.created"]
    deadline = time.monotonic() + 30
    while len(created) < 2 or person.kinds(after).count("response.done") < 2:
        assert time.monotonic() < deadline, person.kinds(after)
        await asyncio.sleep(0.1)
        created = [each for each in person.events[after:] if each.type == "response.created"]
    after = len(person.events)
    await person.connection.conversation.item.truncate(
        item_id=first.item_id, content_index=0, audio_end_ms=10_000_000
    )
    assert "shorter" in (await person.until("error", after)).error.message


async def push_to_talk(person: Person) -> None:
    """Without a detector nothing is committed until the client does, faster than real time too."""
    await person.update(audio={"input": {**TRANSCRIBED, "turn_detection": None}})
    after = len(person.events)
    await person.connection.input_audio_buffer.commit()
    empty = await person.until("error", after)
    assert empty.error.code == "input_audio_buffer_commit_empty"
    await person.append(recording("meaning_of_life") + SILENCE + SILENCE, real_time=False)
    await asyncio.sleep(2.0)
    quiet = {"error", "session.updated"}
    assert set(person.kinds(after)) <= quiet, person.kinds(after)
    await person.connection.input_audio_buffer.commit()
    await person.connection.response.create()
    response = (await person.until("response.done", after)).response
    assert response.status == "completed", response
    said = await person.until("conversation.item.input_audio_transcription.completed", after)
    assert "meaning of life" in said.transcript, said
    assert "input_audio_buffer.speech_started" not in person.kinds(after)


async def text_in_and_out(person: Person) -> None:
    """Text in, audio out; a second turn that needs the first, in text; and a response aside."""
    spoken = await person.types("What is the capital of France?", metadata={"mine": "yes"})
    assert "Paris" in spoken.output[0].content[0].transcript
    assert spoken.metadata == {"mine": "yes"}
    read = await person.types("And of Italy?", output_modalities=["text"])
    assert "Rome" in read.output[0].content[0].text, read
    after = len(person.events)
    content = [{"type": "input_text", "text": "What is the capital of France?"}]
    aside = [{"type": "message", "role": "user", "content": content}]
    wanted = {"conversation": "none", "input": aside, "output_modalities": ["text"]}
    await person.connection.response.create(response=wanted)
    answer = (await person.until("response.done", after)).response
    assert answer.conversation_id is None
    assert "Paris" in answer.output[0].content[0].text, answer
    assert "conversation.item.added" not in person.kinds(after)


async def errors_leave_it_open(person: Person) -> None:
    """What is wrong is told with the id of the event, and the session goes on."""
    await person.connection.send({"type": "no.such.event", "event_id": "mine"})
    error = (await person.until("error")).error
    assert error.event_id == "mine"
    await person.connection.response.cancel()
    after = len(person.events)
    cancelled = await person.until("error", after)
    assert cancelled.error.code == "response_cancel_not_active"
    assert (await person.types("Say hello.")).status == "completed"


async def telephony(person: Person) -> None:
    """Mu-law out, at 8 kHz."""
    await person.update(audio={"output": {"format": {"type": "audio/pcmu"}}})
    after = len(person.events)
    response = await person.types("Say hello.")
    sound = b"".join(
        base64.b64decode(each.delta)
        for each in person.events[after:]
        if each.type == "response.output_audio.delta"
    )
    seconds = len(sound) / 8000
    assert 0.3 < seconds < 30, seconds
    assert response.audio.output.format.type == "audio/pcmu"


@contextlib.asynccontextmanager
async def person_at(port: int) -> AsyncIterator[Person]:
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused")
    async with client.realtime.connect(model="gpt-realtime") as connection:
        person = Person(connection)
        reading = asyncio.create_task(person.read())
        await person.until("session.created")
        try:
            yield person
        finally:
            if reading.done():
                reading.result()
            reading.cancel()


async def main(port: int) -> None:
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused")
    names = [model.id async for model in client.models.list()]
    assert "whisperfusion" in names
    secret = await client.realtime.client_secrets.create(session={"type": "realtime"})
    assert secret.value.startswith("ek_")
    print(f"openai-python {openai.__version__}")
    steps = (
        *(spoken_question, barge_in, push_to_talk),
        *(text_in_and_out, errors_leave_it_open, telephony),
    )
    kinds: set[str] = set()
    count = 0
    for step in steps:
        async with person_at(port) as person:
            started = time.monotonic()
            try:
                await step(person)
            except (AssertionError, asyncio.TimeoutError):
                print(f"  FAILED: {step.__name__}: {person.kinds()[-30:]}")
                raise
            print(f"  {step.__name__}: {time.monotonic() - started:.1f} s")
            count += len(person.events)
            kinds |= {each.type for each in person.events}
    print(f"  {count} events of {len(kinds)} kinds, each of the client's types")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
