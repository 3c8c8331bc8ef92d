"""Wyoming: its own client gets words and a voice of the real program; strangers get little."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from fusion.audio import SAMPLE_RATE
from fusion.checks import check_ports
from fusion.errors import ConfigurationError, ProtocolError
from fusion.serving.banner import ready_banner
from fusion.settings import Settings
from tests.recordings import load
from tests.running import RunningServer, free_ports
from wyoming_server.events import read_event
from wyoming_server.info import Offer
from wyoming_server.microphone import Microphone
from wyoming_server.port import WyomingPort


@pytest.fixture(scope="module")
def satellite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The Wyoming port of the real program, which has a file of tokens and room for two."""
    ports = free_ports(4)
    tokens = tmp_path_factory.mktemp("wyoming") / "tokens"
    tokens.write_text("kitchen secret\n")
    flags = ("--wyoming_port", str(ports[3]), "--token_file", str(tokens), "--max_clients", "2")
    with RunningServer(flags, ports[:3]):
        yield ports[3]


def bytes_of(samples: np.ndarray[Any, Any]) -> bytes:
    return np.clip(samples * 32767, -32768, 32767).astype("<i2").tobytes()


async def ask(port: int, *events: Event) -> list[Event]:
    """Send these, and read until an answer ends what was asked for."""
    answers: list[Event] = []
    async with AsyncTcpClient("127.0.0.1", port) as client:
        for event in events:
            await client.write_event(event)
        while (answer := await asyncio.wait_for(client.read_event(), 60)) is not None:
            answers.append(answer)
            if answer.type in ("transcript", "info", "pong", "error", "synthesize-stopped"):
                break
            streamed = any(SynthesizeStart.is_type(event.type) for event in events)
            if answer.type == "audio-stop" and not streamed:
                break
    return answers


def spoken(name: str, channels: int = 1) -> list[Event]:
    """A recording as a satellite sends it."""
    data = bytes_of(np.repeat(load(name), channels))
    form = {"rate": SAMPLE_RATE, "width": 2, "channels": channels}
    pieces = range(0, len(data), 2048)
    chunks = [AudioChunk(audio=data[at : at + 2048], **form).event() for at in pieces]
    return [AudioStart(**form).event(), *chunks, AudioStop().event()]


async def words_of(port: int, sound: list[Event], language: str | None = "en") -> str:
    [answer] = await ask(port, Transcribe(language=language).event(), *sound)
    return Transcript.from_event(answer).text


async def offered(port: int) -> Info:
    """What is offered, once that is known."""
    while True:
        [answer] = await ask(port, Describe().event())
        if Info.is_type(answer.type):
            return Info.from_event(answer)
        await asyncio.sleep(0.2)


@pytest.mark.e2e
async def test_a_recording_comes_back_as_words(satellite: int) -> None:
    assert "meaning of life" in await words_of(satellite, spoken("meaning_of_life"))
    assert "meaning of life" in await words_of(satellite, spoken("meaning_of_life", 2), "en-US")


@pytest.mark.e2e
async def test_silence_has_no_words(satellite: int) -> None:
    silence = bytes_of(np.zeros(SAMPLE_RATE))
    form = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}
    chunk = AudioChunk(audio=silence, **form).event()
    assert await words_of(satellite, [AudioStart(**form).event(), chunk, AudioStop().event()]) == ""


@pytest.mark.e2e
async def test_a_text_comes_back_as_sound_that_says_it(satellite: int) -> None:
    info = await offered(satellite)
    [program] = info.tts
    voice = SynthesizeVoice(name=program.voices[0].name)
    text = "The meeting is on Thursday morning."
    answers = await ask(satellite, Synthesize(text=text, voice=voice).event())
    assert (answers[0].type, answers[-1].type) == ("audio-start", "audio-stop")
    chunks = [AudioChunk.from_event(each) for each in answers[1:-1]]
    assert {chunk.rate for chunk in chunks} == {AudioStart.from_event(answers[0]).rate}
    assert sum(chunk.seconds for chunk in chunks) > 1.0
    # Transcribed by the same server, at the voice's rate.
    sound = [AudioStart.from_event(answers[0]).event(), *answers[1:-1], AudioStop().event()]
    assert "Thursday morning" in await words_of(satellite, sound)


@pytest.mark.e2e
async def test_a_text_may_come_in_pieces(satellite: int) -> None:
    await offered(satellite)
    text = ("The first is red. The sec", "ond is green.")
    answers = await ask(
        satellite,
        SynthesizeStart().event(),
        *(SynthesizeChunk(piece).event() for piece in text),
        Synthesize(text="".join(text)).event(),  # for servers that know no pieces
        SynthesizeStop().event(),
    )
    kinds = [each.type for each in answers]
    assert SynthesizeStopped.is_type(kinds[-1])
    assert (kinds.count("audio-start"), kinds.count("audio-stop")) == (1, 1)
    sound = [AudioStart.from_event(answers[0]).event(), *answers[1:-2], AudioStop().event()]
    words = (await words_of(satellite, sound)).lower()
    assert words.count("first") == 1
    assert "green" in words


@pytest.mark.e2e
async def test_what_is_there_is_described(satellite: int) -> None:
    info = await offered(satellite)
    [asr], [tts] = info.asr, info.tts
    assert asr.models[0].name == "tiny.en"
    assert "en" in asr.models[0].languages
    assert any("en" in voice.languages for voice in tts.voices)
    [answer] = await ask(satellite, Ping(text="x").event())
    assert Pong.from_event(answer).text == "x"


@pytest.mark.e2e
async def test_what_cannot_be_done_is_told_and_others_go_on(satellite: int) -> None:
    await offered(satellite)
    [unknown] = await ask(satellite, Transcribe(language="xx").event(), *spoken("stop"))
    assert "xx" in Error.from_event(unknown).text
    [long, *_] = [
        answer
        for answer in await ask(satellite, Synthesize(text="a " * 11_000).event())
        if Error.is_type(answer.type)
    ]
    assert "20000 characters" in Error.from_event(long).text
    async with contextlib.AsyncExitStack() as there:
        for _ in range(2):
            talker = await there.enter_async_context(AsyncTcpClient("127.0.0.1", satellite))
            await talker.write_event(spoken("stop")[0])
        answer = Event("transcript")
        while answer.type == "transcript":  # until both have their place
            [answer] = await ask(satellite, *spoken("stop"))
        assert "full" in Error.from_event(answer).text
    while answer.type == "error":  # until the server has seen that they are gone
        [answer] = await ask(satellite, *spoken("meaning_of_life"))
    assert "meaning of life" in Transcript.from_event(answer).text


# -- what strangers send ---------------------------------------------------------------------------


async def read(data: bytes) -> Event | None:
    reader = asyncio.StreamReader(limit=1000)
    reader.feed_data(data)
    reader.feed_eof()
    return await read_event(reader)


async def test_an_event_is_read_with_its_data_and_payload() -> None:
    line = {"type": "x", "data": {"a": 1, "b": 1}, "data_length": 7, "payload_length": 3}
    event = await read(json.dumps(line).encode() + b'\n{"b":2}abc')
    assert event == Event("x", {"a": 1, "b": 2}, b"abc")
    assert await read(b"") is None
    assert await read(b'{"type": "x", "payload_length": 9}\nabc') is None


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"[]",
        b"{}",
        b'{"type": 5}',
        b'{"type": "x", "data": 5}',
        b'{"type": "x", "data": [1]}',
        b'{"type": "x", "data_length": -1}',
        b'{"type": "x", "data_length": "9"}',
        b'{"type": "x", "data_length": true}',
        b'{"type": "x", "payload_length": 99999999999}',
        b'{"type": "x", "payload_length": 1.5}',
        b'{"type": "x", "data_length": 2}\n[]',
        b"[" * 900,
        b"x" * 2000,
    ],
)
async def test_what_is_no_event_is_refused_before_it_is_read(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        await read(line + b"\n")


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        asyncio.run(read(data))


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"rate": 16_000, "width": 2},
        {"rate": 16_000, "width": 4, "channels": 1},
        {"rate": 0, "width": 2, "channels": 1},
        {"rate": 10**9, "width": 2, "channels": 1},
        {"rate": 16_000, "width": 2, "channels": 0},
        {"rate": 16_000, "width": 2, "channels": True},
        {"rate": "16000", "width": 2, "channels": 1},
    ],
)
def test_sound_of_another_form_is_refused(form: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        Microphone(Event("audio-start", form))


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_all_of_a_sound_arrives_in_pieces_of_any_size(rate: int, channels: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    data = bytes_of(np.repeat(tone, channels))
    microphone = Microphone(Event("audio-start", {"rate": rate, "width": 2, "channels": channels}))
    parts = [microphone.take(data[at : at + 333]) for at in range(0, len(data), 333)]
    sound = np.concatenate([*parts, microphone.take(b"", last=True)])
    assert len(sound) == pytest.approx(SAMPLE_RATE, abs=2)
    assert np.argmax(np.abs(np.fft.rfft(sound))) == pytest.approx(440, abs=1)


@pytest.fixture
async def strange_port() -> AsyncIterator[int]:
    """A Wyoming port whose pipeline is not there."""
    port, other = free_ports(2)
    settings = Settings(
        wyoming_port=port, transcription_port=other, handshake_timeout=0.3, max_connections=3
    )
    status = SimpleNamespace(not_ready=lambda: "loading the voice")
    links: Any = SimpleNamespace(status=status, choice=None)
    links.choice = SimpleNamespace(
        transcription=SimpleNamespace(library="faster_whisper"),
        voice=SimpleNamespace(library="piper"),
    )
    async with WyomingPort(settings, links).serving(None):  # type: ignore[arg-type]
        yield port


async def test_nobody_is_served_before_all_is_ready(strange_port: int) -> None:
    [answer] = await ask(strange_port, Describe().event())
    assert "loading the voice" in Error.from_event(answer).text


async def test_junk_gets_one_sentence_and_silence_is_closed(strange_port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", strange_port)
    writer.write(b'{"type": "audio-chunk", "payload_length": 99999999}\n')
    answer = await asyncio.wait_for(read_event(reader), 5)
    assert answer is not None
    assert "payload_length" in Error.from_event(answer).text
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    silent, idle = await asyncio.open_connection("127.0.0.1", strange_port)
    assert await asyncio.wait_for(silent.read(), 5) == b""
    idle.close()


async def test_one_connection_too_many_is_told(strange_port: int) -> None:
    pairs = [await asyncio.open_connection("127.0.0.1", strange_port) for _ in range(4)]
    answers = []
    for reader, writer in pairs:
        writer.write(b'{"type": "ping"}\n')
        answers.append(await asyncio.wait_for(read_event(reader), 5))
    kinds = [answer.type for answer in answers if answer is not None]
    assert kinds == ["pong", "pong", "pong", "error"]
    for _, writer in pairs:
        writer.close()


# -- settings --------------------------------------------------------------------------------------


def test_it_is_off_and_here_alone_unless_told_and_said_to_ask_for_no_token() -> None:
    assert (Settings().wyoming_port, Settings().wyoming_host) == (0, "127.0.0.1")
    assert "Wyoming" not in ready_banner(Settings(), 8000)
    here = ready_banner(Settings(wyoming_port=10300, token="secret"), 8000)
    assert "tcp://127.0.0.1:10300, without authentication" in here
    assert "Only this machine can" in here
    there = ready_banner(Settings(wyoming_port=10300, wyoming_host="0.0.0.0"), 8000)
    assert "Only this machine can" not in there


def test_it_needs_the_page_and_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="web_port"):
        check_ports(Settings(wyoming_port=10300, web_port=0))
    monkeypatch.setattr("fusion.checks.is_installed", lambda _: False)
    with pytest.raises(ConfigurationError, match=r"whisperfusion\[wyoming\]"):
        check_ports(Settings(wyoming_port=10300))


def test_a_speaker_is_found_by_language() -> None:
    offer = Offer("tiny", ("en", "de"), "kokoro", (("af", "en"), ("ff", "fr")), ("en", "fr"))
    assert [offer.speaker_of(name) for name in ("fr-FR", "EN", "de", "")] == ["ff", "af", "", ""]
    assert [voice.name for voice in offer.info().tts[0].voices] == ["af", "ff"]
    first = Offer("tiny", ("en",), "joe", (("ff", "fr"),), ("en", "fr")).info().tts[0].voices[0]
    assert (first.name, first.languages) == ("joe", ["en"])
    alone = Offer("tiny.en", ("en",), "joe", (), ("en",))
    assert alone.info().tts[0].voices[0].languages == ["en"]
