"""`/v1/realtime` of the real program with its real models, as a client without a library."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import soxr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from realtime.client_secrets import ClientSecrets
from realtime.config import SessionConfig
from realtime.events import RealtimeError
from realtime.pipeline_commands import conversation, listening
from realtime.sound import Decoder, Encoder
from tests.recordings import load
from tests.running import RunningServer

PIECE = 2400  # bytes: 50 ms


class Person:
    """Somebody who talks, and every event that came."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.events: list[dict[str, Any]] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def until(self, kind: str, timeout: float = 60.0) -> dict[str, Any]:
        """The next event of this kind."""
        deadline = time.monotonic() + timeout
        while True:
            message = await asyncio.wait_for(self._socket.recv(), deadline - time.monotonic())
            self.events.append(json.loads(message))
            if self.events[-1]["type"] == kind:
                return self.events[-1]

    async def configure(self, **fields: Any) -> dict[str, Any]:
        await self.send("session.update", session={"type": "realtime", **fields})
        return await self.until("session.updated")

    async def say(self, name: str) -> None:
        """A recording in real time, and a second of silence."""
        sound = np.concatenate([soxr.resample(load(name), 16_000, 24_000), np.zeros(24_000)])
        data = np.clip(sound * 32767, -32768, 32767).astype("<i2").tobytes()
        for first in range(0, len(data), PIECE):
            audio = base64.b64encode(data[first : first + PIECE]).decode()
            await self.send("input_audio_buffer.append", audio=audio)
            await asyncio.sleep(0.05)

    async def types(self, text: str, **response: Any) -> dict[str, Any]:
        """A typed turn, and the response to it."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        await self.send("conversation.item.create", item=item)
        await self.send("response.create", response=response)
        done: dict[str, Any] = (await self.until("response.done"))["response"]
        return done


@contextlib.asynccontextmanager
async def person_at(running: RunningServer) -> AsyncIterator[Person]:
    async with connect(f"ws://127.0.0.1:{running.web_port}/v1/realtime?model=x") as socket:
        person = Person(socket)
        await person.until("session.created")
        yield person


def words(response: dict[str, Any]) -> str:
    part = response["output"][0]["content"][0]
    return str(part.get("text") or part.get("transcript"))


@pytest.mark.e2e
async def test_a_spoken_question_is_answered_aloud(server: RunningServer) -> None:
    async with person_at(server) as person:
        await person.configure(audio={"input": {"transcription": {"model": "whisper-1"}}})
        speaking = asyncio.create_task(person.say("brooklyn_bridge"))
        done = await person.until("response.done")
        await speaking
    kinds = [event["type"] for event in person.events]
    order = [
        *("input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"),
        *("input_audio_buffer.committed", "response.created", "response.output_audio.delta"),
    ]
    assert [kind for kind in dict.fromkeys(kinds) if kind in order] == order
    [said] = [e["transcript"] for e in person.events if e["type"].endswith("n.completed")]
    # On a busy machine tiny.en may miss the name; its words are tested for elsewhere.
    assert said.startswith("How old is the")
    assert done["response"]["status"] == "completed"
    assert words(done["response"])


@pytest.mark.e2e
async def test_what_was_not_played_is_forgotten(server: RunningServer) -> None:
    async with person_at(server) as person:
        assert "Paris" in words(await person.types("What is the capital of France?"))
        item = person.events[-1]["response"]["output"][0]["id"]
        await person.send(
            "conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=0
        )
        await person.until("conversation.item.truncated")
        await person.send("conversation.item.retrieve", item_id=item)
        kept = (await person.until("conversation.item.retrieved"))["item"]
        assert kept["content"][0]["transcript"] == ""
        await person.send(
            "conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=900_000
        )
        assert "shorter" in (await person.until("error"))["error"]["message"]


@pytest.mark.e2e
async def test_a_second_turn_needs_the_first_and_one_aside_does_not(server: RunningServer) -> None:
    async with person_at(server) as person:
        assert "Paris" in words(await person.types("What is the capital of France?"))
        text = await person.types("And of Italy?", output_modalities=["text"])
        assert "Rome" in words(text)
        before = len(person.events)
        await person.send("response.create", response={"conversation": "none", "input": []})
        done = await person.until("response.done")
        assert done["response"]["conversation_id"] is None
        assert "conversation.item.added" not in [e["type"] for e in person.events[before:]]


@pytest.mark.e2e
async def test_push_to_talk_commits_nothing_by_itself(server: RunningServer) -> None:
    async with person_at(server) as person:
        await person.configure(
            audio={"input": {"turn_detection": None, "transcription": {"model": "whisper-1"}}}
        )
        await person.say("meaning_of_life")
        await person.say("brooklyn_bridge")
        await person.send("input_audio_buffer.commit")
        await person.until("input_audio_buffer.committed")
        assert not [e for e in person.events if "speech" in e["type"]]
        said = await person.until("conversation.item.input_audio_transcription.completed")
        assert "meaning of life" in said["transcript"]
        assert "How old is the" in said["transcript"]
        await person.send("response.create")
        assert (await person.until("response.done"))["response"]["status"] == "completed"


async def test_a_token_is_the_key() -> None:
    with RunningServer(("--token", "secret")) as running:
        address = f"127.0.0.1:{running.web_port}/v1"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            await asyncio.to_thread(urllib.request.urlopen, f"http://{address}/models")
        with pytest.raises(InvalidStatus):
            await connect(f"ws://{address}/realtime")
        request = urllib.request.Request(
            f"http://{address}/realtime/client_secrets",
            data=json.dumps({"session": {"type": "realtime", "instructions": "Be kind."}}).encode(),
            headers={"Authorization": "Bearer secret", "Content-Type": "application/json"},
        )
        answer = await asyncio.to_thread(urllib.request.urlopen, request)
        key = json.loads(answer.read())["value"]
        offered = ["realtime", f"openai-insecure-api-key.{key}"]
        async with connect(f"ws://{address}/realtime", subprotocols=offered) as socket:  # type: ignore[arg-type]
            assert socket.subprotocol == "realtime"
            created = json.loads(await socket.recv())
            assert created["session"]["instructions"] == "Be kind."
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"ws://{address}/realtime", origin="https://elsewhere.example")  # type: ignore[arg-type]


def test_a_key_lives_as_long_as_it_should() -> None:
    keys = ClientSecrets()
    wanted = {"expires_after": {"anchor": "created_at", "seconds": 10}}
    secret = keys.make(wanted, SessionConfig(model="m"), 1000.0)
    assert keys.find(secret.value, 1009.0) is secret
    assert keys.find(secret.value, 1010.0) is None
    for seconds in (9, 7201, "60", True):
        with pytest.raises(RealtimeError, match="10 to 7200"):
            keys.make({"expires_after": {"seconds": seconds}}, SessionConfig(model="m"), 0.0)


@pytest.mark.parametrize("kind", ["audio/pcm", "audio/pcmu", "audio/pcma"])
def test_sound_comes_through_every_format(kind: Any) -> None:
    time_axis = np.arange(24_000) / 24_000
    tone = (0.5 * np.sin(2 * np.pi * 440 * time_axis)).astype(np.float32)
    encoder = Encoder(kind)
    data = encoder.encode(tone[:10_000]) + encoder.encode(tone[10_000:], last=True)
    assert encoder.milliseconds(data) == pytest.approx(1000, abs=2)
    decoder = Decoder(kind)
    parts = [decoder.decode(data[first : first + 333]) for first in range(0, len(data), 333)]
    sound = np.concatenate(parts)
    assert len(sound) == pytest.approx(16_000, abs=1200)
    spectrum = np.abs(np.fft.rfft(sound[2000:14_000]))
    assert np.argmax(spectrum) == pytest.approx(440 * 12_000 / 16_000, abs=1)
    assert np.abs(sound[2000:14_000]).max() == pytest.approx(0.5, abs=0.05)


def test_mu_law_and_a_law_are_those_of_g711() -> None:
    """Values of the tables in ITU-T G.711: the largest, the smallest, silence."""
    from realtime.sound import _LAWS

    mu, a = _LAWS["audio/pcmu"], _LAWS["audio/pcma"]
    assert mu.decode(b"\x00\x80\xff\x7f").tolist() == [-32124, 32124, 0, 0]
    assert a.decode(b"\x2a\xaa\xd5\x55").tolist() == [-32256, 32256, 8, -8]
    for law in (mu, a):
        every = np.arange(-32768, 32768).astype(np.int16)
        error = law.decode(law.encode(every)).astype(int) - every
        assert np.abs(error).max() <= 644
        assert (np.diff(law.decode(law.encode(every)).astype(int)) >= 0).all()


def test_a_configuration_becomes_commands() -> None:
    config = SessionConfig(model="m")
    semantic = {"type": "semantic_vad", "eagerness": "low", "interrupt_response": False}
    low = config.updated({"audio": {"input": {"turn_detection": semantic}}}, voice_is_fixed=False)
    manual = config.updated({"audio": {"input": {"turn_detection": None}}}, voice_is_fixed=False)
    assert listening(config)["turn_detection"] == "silence"
    assert listening(config)["wait"] == 0.5
    assert (listening(low)["wait"], listening(low)["barge_in"]) == (8.0, False)
    assert (listening(manual)["turn_detection"], listening(manual)["respond"]) == ("none", False)


def test_a_conversation_becomes_turns() -> None:
    def item(role: str, text: str) -> dict[str, Any]:
        return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}

    call = {"type": "function_call", "call_id": "c1", "name": "time", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "5 PM"}
    items = [item("system", "Be kind."), item("user", "Hi"), call, result]
    prompt, turns = conversation("Be brief.", [*items, item("assistant", "")])
    assert prompt == "Be brief.\nBe kind."
    assert turns == [
        {"role": "user", "content": "Hi"},
        {"role": "tool_call", "id": "c1", "name": "time", "arguments": "{}"},
        {"role": "tool_result", "id": "c1", "content": "5 PM"},
    ]
