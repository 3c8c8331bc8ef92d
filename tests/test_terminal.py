"""The client's command: what it shows, saves and returns; files and devices of sound."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection

from fusion.errors import FusionError
from tests.running import free_ports
from tests.scripted_server import ScriptedServer, say, scripted
from whisper_live.client import Event, Failure, Notice, ReplyText, Segment, Transcript, terminal
from whisper_live.client.sound_card import SoundBuffer, microphone, speaker
from whisper_live.client.sound_files import read_wav, write_wav

TONE = (np.sin(np.arange(16_000) * 2 * np.pi * 440 / 16_000) / 2).astype(np.float32)


def transcript(text: str, final: bool) -> Transcript:
    return Transcript(1.0, 1, (Segment(0, 1, f" {text}", final),), final, 0.1)


# -- the screen ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


EVENTS: list[Event] = [
    transcript("How", False),
    transcript("How old?", True),
    ReplyText(1.0, 1, "Very", False, False),
    ReplyText(1.0, 1, "Very old", True, True),
    Failure(1.0, 2, "It broke."),
    Notice(1.0, "DISCONNECT", None),
    Notice(1.0, "timeline", 1),
    Notice(1.0, "left_out", 1, {"message": "It cannot be said."}),
]
LINES = [
    "> How old?",
    "< Very old …",
    "! It broke.",
    "! The server's time limit is reached.",
    "! It cannot be said.",
]


def test_a_pipe_gets_whole_lines() -> None:
    out = io.StringIO()
    screen = terminal.Screen(out)
    for event in EVENTS:
        screen.show(event)
    assert out.getvalue().splitlines() == LINES


def test_a_terminal_gets_a_line_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    screen = terminal.Screen(out)
    for event in EVENTS:
        screen.show(event)
    written = out.getvalue()
    assert written.startswith("\r\x1b[K> How\r\x1b[K> How old?\n")
    assert [line.split("\x1b[K")[-1] for line in written.split("\n")[:-1]] == LINES
    screen.show(transcript("many words that do not fit", False))
    assert out.getvalue().endswith("\r\x1b[Krds that do not fit")


# -- the command -----------------------------------------------------------------------------------


async def answer(connection: ServerConnection) -> None:
    """Reply once the audio is over, and hang up."""
    async for message in connection:
        if message == "END_OF_AUDIO":
            break
    segment = {"start": "0.000", "end": "1.000", "text": " A tone?", "completed": True}
    await say(connection, segments=[segment], eos=True, latency=0.1, turn=1)
    await say(connection, llm_output=["Indeed."], eos=True, turn=1)
    await connection.close(1000, "all is said")


async def speak(connection: ServerConnection) -> None:
    await connection.send((TONE / 2).astype("<f4").tobytes())


def command(server: ScriptedServer, *options: str) -> Any:
    ports = ["--port", str(server.address.port), "--speech_port", str(server.address.speech_port)]
    return terminal.parser().parse_args(["--host", "127.0.0.1", *ports, *options])


async def test_a_file_is_asked_and_the_reply_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "question.wav", TONE, 16_000)
    options = ["--file", str(tmp_path / "question.wav"), "--save", str(tmp_path / "reply.wav")]
    async with scripted(conversation=answer, speech=speak) as server:
        assert await terminal.run(command(server, *options)) == 0
    assert capsys.readouterr().out.splitlines() == ["> A tone?", "< Indeed."]
    np.testing.assert_allclose(read_wav(tmp_path / "reply.wav", 24_000), TONE / 2, atol=1e-4)


async def test_no_reply_needs_no_speaker(tmp_path: Path) -> None:
    write_wav(tmp_path / "question.wav", TONE[:1600], 16_000)
    async with scripted(conversation=answer) as server:
        options = ["--no-reply", "--language", "auto", "--file", str(tmp_path / "question.wav")]
        assert await terminal.run(command(server, *options)) == 0
        assert server.hello["reply"] is False
        assert server.hello["language"] is None


async def test_a_text_is_asked_and_without_a_sound_card_the_answer_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    received = []

    async def reply(connection: ServerConnection) -> None:
        received.append(json.loads(await connection.recv()))
        await answer(connection)

    async with scripted(conversation=reply, speech=speak) as server:
        assert await terminal.run(command(server, "--say", "How old?")) == 0
    assert received == [{"command": "say", "text": "How old?"}]
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "< Indeed."
    assert "The answers are printed." in printed.err


def test_a_server_that_is_not_there_is_said_before_a_sound_card_that_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    (port,) = free_ports(1)
    assert terminal.main(["--host", "127.0.0.1", "--port", str(port)]) == 1
    assert "is it running?" in capsys.readouterr().err


async def test_an_error_or_a_lost_server_is_a_failure(tmp_path: Path) -> None:
    write_wav(tmp_path / "question.wav", TONE[:1600], 16_000)
    options = ["--no-reply", "--file", str(tmp_path / "question.wav")]

    async def complain(connection: ServerConnection) -> None:
        await say(connection, status="ERROR", message="It broke.", turn=1)
        await connection.close()

    async def die(connection: ServerConnection) -> None:
        connection.transport.abort()

    for script in (complain, die):
        async with scripted(conversation=script) as server:
            assert await terminal.run(command(server, *options)) == 1


def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.main(["--file", "/nowhere/x.wav", "--save", "y.wav"]) == 1
    assert capsys.readouterr().err == "Cannot read /nowhere/x.wav: No such file or directory.\n"


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_pcm_file_is_read(tmp_path: Path, width: int, channels: int) -> None:
    levels = np.round(TONE.astype(np.float64) * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    stored = levels + 128 if width == 1 else levels
    data = np.stack([stored] * channels, axis=1).astype("<i8").view(np.uint8)
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(16_000)
        file.writeframes(data.reshape(-1, 8)[:, :width].tobytes())
    samples = read_wav(tmp_path / "x.wav", 16_000)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, TONE, atol=1.5 / 2 ** (8 * min(width, 3) - 1))


def test_a_file_of_another_rate_is_resampled(tmp_path: Path) -> None:
    seconds = np.arange(44_100) / 44_100
    write_wav(tmp_path / "x.wav", np.sin(seconds * 2 * np.pi * 440).astype(np.float32), 44_100)
    samples = read_wav(tmp_path / "x.wav", 16_000)
    assert len(samples) == 16_000
    np.testing.assert_allclose(samples[500:-500], 2 * TONE[500:-500], atol=0.01)


def test_what_is_no_recording_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"ID3 is no wave")
    with pytest.raises(FusionError, match=r"no PCM WAV file .* ffmpeg"):
        read_wav(tmp_path / "x.wav", 16_000)
    (tmp_path / "x.wav").write_bytes(b"")
    with pytest.raises(FusionError, match="no PCM WAV file"):
        read_wav(tmp_path / "x.wav", 16_000)


# -- devices: with a stand-in for the library, as there is no sound card here ----------------------


def test_a_sound_buffer_plays_in_order_and_is_silent_after_a_flush() -> None:
    buffer = SoundBuffer()
    buffer.add(np.array([1, 2], np.float32))
    buffer.add(np.array([3], np.float32))
    assert buffer.samples_left == 3
    assert list(buffer.read(2)) == [1, 2]
    assert list(buffer.read(2)) == [3, 0]
    buffer.add(np.array([4], np.float32))
    buffer.flush()
    assert list(buffer.read(1)) == [0]


async def test_a_missing_library_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    sentence = r"microphone needs the package.*pip install sounddevice"
    with pytest.raises(FusionError, match=sentence), microphone(16_000, 512):
        pass
    monkeypatch.delitem(sys.modules, "sounddevice")
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    sentence = r"speaker needs the PortAudio library.*libportaudio2"
    with pytest.raises(FusionError, match=sentence), speaker(24_000):
        pass


FAKE_LIBRARY = """
class PortAudioError(Exception):
    pass

class Stream:
    def __init__(self, **options):
        if options["samplerate"] == 1:
            raise PortAudioError("Error querying device -1")
        self.options = options
        streams.append(self)
    def __enter__(self):
        return self
    def __exit__(self, *_):
        streams.remove(self)

streams = []
InputStream = OutputStream = Stream
"""


async def test_devices_are_opened_used_and_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sounddevice.py").write_text(FAKE_LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    import sounddevice

    monkeypatch.setitem(sys.modules, "sounddevice", sounddevice)
    with microphone(16_000, 512) as chunks, speaker(24_000) as buffer:
        recording, playing = sounddevice.streams
        assert recording.options["blocksize"] == 512
        hardware = np.full((512, 1), 0.5, np.float32)
        await asyncio.to_thread(recording.options["callback"], hardware, 512, None, None)
        hardware[:] = 0  # the library reuses its memory
        chunk = await asyncio.wait_for(anext(chunks), 5)
        assert chunk.shape == (512,)
        assert chunk.min() == 0.5
        buffer.add(np.ones(3, np.float32))
        played = np.full((4, 1), 9, np.float32)
        playing.options["callback"](played, 4, None, None)
        assert played[:, 0].tolist() == [1, 1, 1, 0]
    assert sounddevice.streams == []
    with pytest.raises(FusionError, match="microphone cannot be opened"), microphone(1, 512):
        pass
