"""The Python client, against a server that does what the test says."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection

from fusion.errors import FusionError
from tests.running import free_ports
from tests.scripted_server import pause, say, scripted
from whisper_live.client import (
    CHUNK,
    SAMPLE_RATE,
    SPEECH_RATE,
    Closed,
    Conversation,
    Event,
    Failure,
    Notice,
    Playback,
    ReplyText,
    Segment,
    Server,
    ServerFullError,
    Sound,
    Transcript,
    talk,
)

LOUD = np.linspace(-1, 1, 240, dtype="<f4")


async def everything(conversation: Conversation, timeout: float = 10.0) -> list[Event]:
    async def collect() -> list[Event]:
        return [event async for event in conversation.events()]

    return await asyncio.wait_for(collect(), timeout)


# -- the handshake ---------------------------------------------------------------------------------


async def test_the_handshake_says_what_the_protocol_wants() -> None:
    async with scripted() as server:
        async with talk(server.address, language=None, sample_rate=16_000) as conversation:
            assert conversation.ready.fields["audio_key"] == "a key"
        assert server.hello["uid"]
        assert server.hello["language"] is None
        assert server.hello["task"] == "transcribe"
        assert server.hello["stream"] is True
        assert server.hello["reply"] is True
        assert server.hello["sample_rate"] == 16_000
        assert "token" not in server.hello
        assert server.speech_paths == ["/?key=a+key"]


async def test_the_token_goes_to_both_sockets() -> None:
    async with scripted() as server:
        address = Server("127.0.0.1", server.address.port, server.address.speech_port, "secret")
        async with talk(address):
            assert server.hello["token"] == "secret"
            assert server.speech_paths == ["/?key=a+key"]
            assert server.speech_tokens == ["secret"]


async def test_no_reply_opens_no_speech_socket() -> None:
    async with scripted() as server:
        async with talk(server.address, reply=False):
            await pause()
        assert server.hello["reply"] is False
        assert server.speech_paths == []


@pytest.mark.parametrize(
    ("greeting", "sentence"),
    [
        ('{"uid": "u", "status": "WAIT", "message": 2.4}', "full; try again in about 2 minutes"),
        ('{"uid": "u", "status": "ERROR", "message": "No such language."}', "No such language."),
        ('{"hello": "world"}', "Expected SERVER_READY"),
    ],
)
async def test_a_refusal_is_an_error_with_its_reason(greeting: str, sentence: str) -> None:
    async with scripted(greeting=greeting) as server:
        with pytest.raises(FusionError, match=sentence) as caught:
            async with talk(server.address):
                pass
        if "WAIT" in greeting:
            assert isinstance(caught.value, ServerFullError)
            assert caught.value.minutes == 2.4


async def test_a_server_that_hangs_up_or_says_nothing_or_is_not_there() -> None:
    async def hang_up(connection: ServerConnection) -> None:
        await connection.close()

    async with scripted(greeting="", conversation=hang_up) as server:
        with pytest.raises(FusionError, match="hung up"):
            async with talk(server.address):
                pass
    async with scripted(greeting="") as server:
        with pytest.raises(FusionError, match="not ready within 0 s"):
            async with talk(server.address, ready_timeout=0.1):
                pass
    port = free_ports(1)[0]
    with pytest.raises(FusionError, match=f"No WhisperFusion answers at 127.0.0.1:{port}"):
        async with talk(Server("127.0.0.1", port)):
            pass


# -- what is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("real_time", [True, False])
async def test_audio_is_sent_whole_and_at_its_pace(real_time: bool) -> None:
    received: list[tuple[float, bytes]] = []
    ended = asyncio.Event()

    async def listen(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "END_OF_AUDIO":
                ended.set()
            else:
                assert isinstance(message, bytes)
                received.append((time.monotonic(), message))

    samples = np.random.default_rng(1).uniform(-1, 1, 10 * CHUNK + 7).astype(np.float32)
    async with (
        scripted(conversation=listen) as server,
        talk(server.address, reply=False) as conversation,
    ):
        started = await conversation.stream(samples, real_time=real_time)
        took = time.monotonic() - started
        await conversation.end_of_audio()
        await asyncio.wait_for(ended.wait(), 5)
    assert b"".join(data for _, data in received) == samples.tobytes()
    if real_time:
        for number, (at, _) in enumerate(received[:-1], start=1):
            assert at - started >= number * CHUNK / SAMPLE_RATE - 0.001, "sent before it was said"
    else:
        assert took < 0.5 * len(samples) / SAMPLE_RATE


async def test_commands_are_sent_as_json() -> None:
    commands: list[object] = []

    async def listen(connection: ServerConnection) -> None:
        async for message in connection:
            commands.append(json.loads(message))
            if len(commands) == 2:
                await connection.close()

    async with (
        scripted(conversation=listen) as server,
        talk(server.address, reply=False) as conversation,
    ):
        await conversation.command("interrupt")
        await conversation.command("say", text="Hello.")
        await everything(conversation)
    assert commands == [{"command": "interrupt"}, {"command": "say", "text": "Hello."}]


# -- what comes back -------------------------------------------------------------------------------


async def test_a_whole_turn_comes_as_typed_events() -> None:
    spoken = asyncio.Event()

    async def converse(connection: ServerConnection) -> None:
        half = {"start": "0.000", "end": "0.500", "text": " How", "completed": False}
        whole = {**half, "end": "1.000", "text": " How old?", "completed": True}
        await say(connection, event="speech_started", turn=1)
        await say(connection, segments=[half], eos=False, latency=0.1, turn=1)
        await say(connection, segments=[whole], eos=True, latency=0.2, turn=1)
        await say(connection, llm_output=["Very"], eos=False, turn=1)
        await say(connection, llm_output=["Very old."], eos=True, latency=0.3, turn=1)
        await say(connection, status="ERROR", message="Too loud.")
        await pause()
        spoken.set()
        await pause()
        await connection.close(1000, "all is said")

    async def speak(connection: ServerConnection) -> None:
        await spoken.wait()
        await say(connection, event="reply_start", turn=1)
        await say(connection, event="clause", turn=1, text="Very old.", at=0.0)
        await connection.send(LOUD.tobytes())
        await say(connection, event="reply_end", turn=1, spoken="Very old.", interrupted=False)

    async with (
        scripted(conversation=converse, speech=speak) as server,
        talk(server.address) as conversation,
    ):
        events = await everything(conversation)
    times = [event.at for event in events]
    assert times == sorted(times)
    assert [type(event) for event in events] == [
        Notice, Transcript, Transcript, ReplyText, ReplyText, Failure,
        Notice, Notice, Sound, Notice, Closed,
    ]  # fmt: skip
    final, reply, sound = events[2], events[4], events[8]
    assert isinstance(final, Transcript)
    assert (final.text, final.final, final.turn, final.latency) == ("How old?", True, 1, 0.2)
    assert final.segments == (Segment(0.0, 1.0, " How old?", True),)
    assert isinstance(reply, ReplyText)
    assert (reply.text, reply.final, reply.interrupted) == ("Very old.", True, False)
    assert isinstance(sound, Sound)
    assert sound.turn == 1
    np.testing.assert_array_equal(sound.samples, LOUD)
    assert events[5] == Failure(times[5], None, "Too loud.")
    assert events[-1] == Closed(times[-1], 1000, "all is said")


async def test_sound_on_its_way_comes_before_the_end() -> None:
    """The speech process may be slower to hang up than the transcription server."""

    async def leave(connection: ServerConnection) -> None:
        await connection.close()

    async def speak(connection: ServerConnection) -> None:
        await asyncio.sleep(0.3)
        await connection.send(LOUD.tobytes())

    async with (
        scripted(conversation=leave, speech=speak) as server,
        talk(server.address) as conversation,
    ):
        events = await everything(conversation)
    assert [type(event) for event in events] == [Sound, Closed]


async def test_a_speech_process_that_died_is_found_again() -> None:
    connections = 0

    async def speak(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await connection.send((LOUD * connections).tobytes())
        if connections == 1:
            await pause()
            connection.transport.abort()
        await connection.wait_closed()

    async with scripted(speech=speak) as server, talk(server.address) as conversation:
        sounds: list[Sound] = []
        async for event in conversation.events():
            assert isinstance(event, Sound)
            sounds.append(event)
            if len(sounds) == 2:
                break
        assert sounds[1].samples[-1] == 2.0
        assert server.speech_paths == ["/?key=a+key"] * 2


async def test_a_refused_key_is_a_failure_and_not_tried_again() -> None:
    async def refuse(connection: ServerConnection) -> None:
        await connection.close(1008, "no session has this key")

    async with scripted(speech=refuse) as server, talk(server.address) as conversation:
        failure = await asyncio.wait_for(anext(conversation.events()), 5)
        assert isinstance(failure, Failure)
        assert failure.message == "There is no sound: no session has this key."
        await asyncio.sleep(0.5)
        assert len(server.speech_paths) == 1


async def test_a_server_that_dies_ends_the_conversation() -> None:
    async def die(connection: ServerConnection) -> None:
        connection.transport.abort()

    async def close(connection: ServerConnection) -> None:
        await connection.close()

    async with (
        scripted(conversation=die, speech=close) as server,
        talk(server.address) as conversation,
    ):
        events = await everything(conversation)
    assert [event.code for event in events if isinstance(event, Closed)] == [1006]


# -- what is played -------------------------------------------------------------------------------


def sound(at: float, seconds: float, level: float = 1.0) -> Sound:
    return Sound(at, 1, np.full(round(seconds * SPEECH_RATE), level, np.float32))


def test_a_flush_cuts_what_was_not_heard_yet() -> None:
    playback = Playback()
    for event in (sound(10.0, 0.5, 0.1), sound(10.1, 0.5, 0.2), Notice(10.7, "flush", 1)):
        playback.take(event)
    assert playback.until == pytest.approx(10.7)
    assert len(playback.samples) == pytest.approx(0.7 * SPEECH_RATE, abs=1)
    playback.take(sound(11.0, 0.1, 0.3))
    assert playback.until == pytest.approx(11.1)
    assert list(np.unique(playback.samples)) == pytest.approx([0.1, 0.2, 0.3])


steps = st.lists(
    st.tuples(
        st.floats(0, 2),
        st.one_of(st.just("flush"), st.integers(1, SPEECH_RATE)),
    ),
    max_size=20,
)


@given(steps)
def test_playback_is_what_a_player_would_have_played(steps: list[tuple[float, object]]) -> None:
    """Against a player that keeps a buffer of samples and lets time pass."""
    playback, now, buffered, played = Playback(), 100.0, 0.0, 0.0
    for later, what in steps:
        now += later
        played += min(buffered, later)
        buffered = max(0.0, buffered - later)
        if isinstance(what, int):
            playback.take(Sound(now, 1, np.ones(what, np.float32)))
            buffered += what / SPEECH_RATE
        else:
            playback.take(Notice(now, "flush", 1))
            buffered = 0.0
    total = (played + buffered) * SPEECH_RATE
    assert len(playback.samples) == pytest.approx(total, abs=1 + len(steps))
    assert max(now, playback.until) == pytest.approx(now + buffered)
