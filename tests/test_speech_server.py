"""Who hears what: the speech server over real sockets, with a voice that speaks at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from fusion.audio import SPEECH_RATE
from fusion.errors import ModelError
from fusion.messages import (
    AudioKeyChanged,
    Commit,
    Interruption,
    Message,
    ReplyEnded,
    ReplyText,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
)
from fusion.serving.access import AccessPolicy
from fusion.serving.health import Health
from fusion.serving.ports import open_port
from fusion.settings import Settings
from fusion.status import ServiceStatus
from tests.running import free_ports
from tts_service import SpeechServer
from voices.crash_record import CrashRecord
from voices.sending import FATAL, NOT_SAYABLE, UNSPOKEN


class Humming:
    """A voice that says a tenth of a second for each word, at once; two words it fails on."""

    name = "humming"
    sample_rate = SPEECH_RATE
    max_concurrent = 1
    speakers: Mapping[str, str] = MappingProxyType({})
    languages: tuple[str, ...] = ("en",)

    def __init__(self) -> None:
        self.asked: list[str] = []

    def warm_up(self) -> None:
        pass

    def prepare(self, language: str) -> None:
        pass

    def synthesize(
        self,
        text: str,
        *,
        language: str = "en",
        speaker: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[NDArray[np.float32]]:
        self.asked.append(text)
        for word in text.split():
            if "crash" in word.lower():
                raise ModelError("Out of breath.")
            if "bug" in word:
                raise KeyError(word)
            yield np.full(SPEECH_RATE // 10, 0.5, np.float32)

    def close(self) -> None:
        pass


@dataclass
class Running:
    """The server with what it reports, and its address."""

    server: SpeechServer
    voice: Humming
    port: int
    reports: list[Message] = field(default_factory=list)

    async def begin(self, session: str, address: str = "localhost") -> None:
        """Start a session, and let a connection that waits for it find it."""
        self.server.handle(SessionStarted(session, f"key-{session}", address, "en", "", ""))
        await asyncio.sleep(0.1)

    def key(self, session: str) -> str:
        """The session's latest key."""
        told = [each for each in self.reports if isinstance(each, AudioKeyChanged)]
        keys = [each.audio_key for each in told if each.session == session]
        return keys[-1] if keys else f"key-{session}"

    def end(self, session: str) -> None:
        self.server.handle(SessionEnded(session))

    def reply(self, session: str, text: str, turn: int = 1) -> None:
        now = time.monotonic()
        self.server.handle(Commit(session, turn, 1, "question"))
        self.server.handle(ReplyText(session, turn, 1, text, now))
        self.server.handle(ReplyEnded(session, turn, 1, text, now))

    def connect(self, key: str | None = None) -> connect:
        """Open an audio connection; with `key-` and a session's name it names the latest key."""
        if key is not None and (session := key.partition("&")[0].removeprefix("key-")):
            key = key.replace(f"key-{session}", self.key(session), 1)
        query = "" if key is None else f"?key={key}"
        return connect(f"ws://127.0.0.1:{self.port}/{query}", max_size=None, proxy=None)


@contextlib.asynccontextmanager
async def serving(**others: Any) -> AsyncIterator[Running]:
    """A speech server with these settings, and a voice that hums."""
    [port] = free_ports(1)
    settings = Settings(host="127.0.0.1", speech_port=port, **others)
    reports: list[Message] = []
    voice = Humming()
    server = SpeechServer(voice, settings, reports.append)
    access = AccessPolicy(settings, Health(ServiceStatus()))
    async with open_port(settings, "speech", access=access, max_size=4096) as handler:
        handler.set_result(server.handle_connection)
        yield Running(server, voice, port, reports)
        server.close()


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with serving() as running:
        yield running


async def whole_reply(socket: ClientConnection) -> float:
    """Seconds of sound of the next message, which an old client gets as one."""
    sound = await asyncio.wait_for(socket.recv(), 5)
    assert isinstance(sound, bytes)
    return len(sound) / 4 / SPEECH_RATE


async def messages_until(socket: ClientConnection, event: str) -> list[dict[str, Any] | float]:
    """Events but for the voices, and the seconds of each chunk of sound, up to an event."""
    got: list[dict[str, Any] | float] = []
    while True:
        message = await asyncio.wait_for(socket.recv(), 5)
        if isinstance(message, bytes):
            got.append(len(message) / 4 / SPEECH_RATE)
        else:
            told = json.loads(message)
            if told["event"] != "voices":
                got.append(told)
            if told["event"] == event:
                return got


async def nothing_more(socket: ClientConnection) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(socket.recv(), 0.3)


async def test_who_may_choose_a_voice_is_told_which_there_are(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.server, "_speakers", {"ann": "en", "bea": "es"})
    await running.begin("a")
    async with running.connect("key-a") as socket:
        first = json.loads(await asyncio.wait_for(socket.recv(), 5))
        running.reply("a", "One.")
        rest = await messages_until(socket, "reply_end")
    assert first == {
        "event": "voices",
        "voices": ["ann", "bea"],
        "languages": ["en"],
        "speakers": [{"name": "ann", "language": "en"}, {"name": "bea", "language": "es"}],
    }
    assert rest[0] == {"event": "reply_start", "turn": 1}
    await running.begin("b")
    async with running.connect() as socket:
        running.reply("b", "One.")
        assert await whole_reply(socket) == pytest.approx(0.1)


async def test_a_keyed_client_gets_a_reply_in_order(running: Running) -> None:
    await running.begin("a")
    async with running.connect("key-a") as socket:
        running.reply("a", "One two three.")
        got = await messages_until(socket, "reply_end")
    events = [each for each in got if isinstance(each, dict)]
    assert [each["event"] for each in events] == ["reply_start", "clause", "reply_end"]
    assert got[:2] == events[:2]
    assert sum(each for each in got if isinstance(each, float)) == pytest.approx(0.3)
    assert events[-1] == {
        "event": "reply_end",
        "turn": 1,
        "spoken": "One two three.",
        "interrupted": False,
    }


async def test_what_the_voice_cannot_say_is_shown_and_told_once(running: Running) -> None:
    await running.begin("a")
    async with running.connect("key-a") as socket:
        running.reply("a", "Tokyo is 東京. And Kyoto is 京都 as well, as all know.")
        got = await messages_until(socket, "reply_end")
    events = [each for each in told(got) if each["event"] == "left_out"]
    assert events == [
        {
            "event": "left_out",
            "turn": 1,
            "scripts": ["Chinese"],
            "message": NOT_SAYABLE.format("Chinese"),
        }
    ]
    shown = "".join(each["text"] for each in told(got) if each["event"] == "clause")
    assert (
        shown == told(got)[-1]["spoken"] == "Tokyo is 東京. And Kyoto is 京都 as well, as all know."
    )
    assert " ".join(running.voice.asked) == "Tokyo is. And Kyoto is as well, as all know."


@pytest.mark.parametrize("text", ["東京は大きい。", "```\nx = 1\n```", "😊"])
async def test_a_reply_without_sound_is_shown(running: Running, text: str) -> None:
    await running.begin("a")
    async with running.connect("key-a") as socket:
        running.reply("a", text)
        got = await messages_until(socket, "reply_end")
    events = [each["event"] for each in told(got) if each["event"] != "left_out"]
    assert events == ["reply_start", "clause", "reply_end"]
    assert told(got)[1] == {"event": "clause", "turn": 1, "text": text, "at": 0.0}
    assert told(got)[-1]["spoken"] == text
    assert running.voice.asked == []


async def test_a_clause_without_sound_is_shown_at_its_place(running: Running) -> None:
    await running.begin("a")
    async with running.connect("key-a") as socket:
        running.reply("a", "One two three.\n```\nx = 1\n```\nFour five six seven.\n---\n")
        got = await messages_until(socket, "reply_end")
    texts = [each["text"].strip() for each in told(got) if each["event"] == "clause"]
    assert texts == ["One two three.", "```\nx = 1\n```", "Four five six seven.", "---"]
    assert sum(each for each in got if isinstance(each, float)) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("language", "voice", "words"),
    [("de", ("de",), "50 Prozent."), ("", ("de",), "50 Prozent."), ("en", ("en",), "50 percent.")],
)
async def test_text_is_read_in_the_session_s_language(
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    language: str,
    voice: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.setattr(running.server, "_languages", voice)
    running.server.handle(SessionStarted("a", "key-a", "localhost", language, "", ""))
    async with running.connect("key-a") as socket:
        running.reply("a", "50 %.")
        await messages_until(socket, "reply_end")
    assert running.voice.asked == [words]


async def test_nothing_is_heard_after_a_flush(running: Running) -> None:
    await running.begin("a")
    async with running.connect("key-a") as socket:
        running.reply("a", "word " * 100)
        await messages_until(socket, "clause")
        await asyncio.sleep(0.2)
        running.server.handle(Interruption("a", 1))
        got = await messages_until(socket, "reply_end")
        assert isinstance(got[-2], dict)
        assert got[-2]["event"] == "flush"
        assert isinstance(got[-1], dict)
        assert got[-1]["interrupted"] is True
        assert 0 < len(got[-1]["spoken"]) < 500
        await nothing_more(socket)
    ended = [report for report in running.reports if isinstance(report, SpeechEnded)]
    assert [report.spoken for report in ended] == [got[-1]["spoken"]]


async def test_a_reply_that_was_sent_is_flushed_but_not_ended_again(running: Running) -> None:
    await running.begin("a")
    async with running.connect("key-a") as socket:
        running.reply("a", "One.")
        await messages_until(socket, "reply_end")
        running.server.handle(Interruption("a", 1))
        assert await messages_until(socket, "flush") == [{"event": "flush", "turn": 1}]
        await nothing_more(socket)


def told(got: list[dict[str, Any] | float]) -> list[dict[str, Any]]:
    return [each for each in got if isinstance(each, dict)]


def spoken(running: Running) -> list[str | None]:
    return [each.spoken for each in running.reports if isinstance(each, SpeechEnded)]


async def taken(running: Running) -> None:
    """Wait until the client has read the sound, which it says after that."""
    for _ in range(100):
        if spoken(running):
            return
        await asyncio.sleep(0.05)


UNTOLD = {"event": "error", "status": "ERROR", "message": UNSPOKEN, "turn": 1}


async def test_a_clause_that_ended_two_processes_is_left_out_alone(running: Running) -> None:
    record = running.server._synthesis._record
    for _ in range(2):
        record.begin("And then it dies.")
        record = running.server._synthesis._record = CrashRecord(record._memory)
    await running.begin("a")
    async with running.connect("key-a") as socket:
        running.reply("a", "One two three. And then it dies. Here we go on.")
        got = await messages_until(socket, "reply_end")
        await taken(running)
    left_out = {"event": "left_out", "turn": 1, "scripts": [], "message": FATAL}
    assert [each for each in told(got) if each["event"] not in ("reply_start", "reply_end")] == [
        {"event": "clause", "turn": 1, "text": "One two three. ", "at": 0.0},
        {"event": "clause", "turn": 1, "text": "And then it dies. ", "at": 0.3},
        left_out,
        {"event": "clause", "turn": 1, "text": "Here we go on.", "at": 0.3},
    ]
    assert running.voice.asked == ["One two three.", "Here we go on."]
    assert spoken(running) == ["One two three. And then it dies. Here we go on."]


async def test_a_voice_that_fails_is_told_and_speaks_the_next_reply(running: Running) -> None:
    await running.begin("a")
    async with running.connect("key-a") as socket:
        running.reply("a", "One two three. And then a crash comes. Nobody hears this.")
        got = await messages_until(socket, "reply_end")
        assert told(got)[:2] == [
            {"event": "reply_start", "turn": 1},
            {"event": "clause", "turn": 1, "text": "One two three. ", "at": 0.0},
        ]
        assert told(got)[-2] == UNTOLD
        # What was made of the clause that it failed on is played, and counts as far as that.
        assert sum(each for each in got if isinstance(each, float)) == pytest.approx(0.6)
        said = told(got)[-1]["spoken"]
        assert said.startswith("One two three. And")
        assert "crash" not in said
        running.reply("a", "One two.", turn=2)
        got = await messages_until(socket, "reply_end")
        assert told(got)[-1]["spoken"] == "One two."
        assert UNTOLD["message"] not in str(got)
    assert spoken(running) == [said, "One two."]


async def test_a_voice_that_fails_before_any_sound_is_told_once_committed(
    running: Running,
) -> None:
    await running.begin("a")
    async with running.connect("key-a") as socket:
        await messages_until(socket, "voices")
        now = time.monotonic()
        running.server.handle(ReplyText("a", 1, 1, "Crash it all. And more. ", now))
        await nothing_more(socket)
        running.server.handle(Commit("a", 1, 1, "question"))
        running.server.handle(ReplyText("a", 1, 1, "And even more.", now))
        running.server.handle(ReplyEnded("a", 1, 1, "Crash it all. And more. And even more.", now))
        assert await messages_until(socket, "reply_end") == [
            UNTOLD,
            {"event": "reply_end", "turn": 1, "spoken": "", "interrupted": False},
        ]
    assert len(running.voice.asked) == 1, "it was tried again, clause by clause"


async def test_an_old_client_hears_what_a_failing_voice_had_made(running: Running) -> None:
    async with running.connect() as socket:
        await running.begin("a")
        running.reply("a", "crash.")
        running.reply("a", "One two crash three.", turn=2)
        assert await whole_reply(socket) == pytest.approx(0.2)
        running.reply("a", "One two three.", turn=3)
        assert await whole_reply(socket) == pytest.approx(0.3)


async def test_an_error_that_nobody_expected_is_the_event_loops(running: Running) -> None:
    errors: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda _, error: errors.put_nowait(error))
    await running.begin("a")
    async with running.connect("key-a"):
        running.reply("a", "A bug.")
        error = (await asyncio.wait_for(errors.get(), 5))["exception"]
    assert repr(error) == "KeyError('bug.')"


async def test_a_client_that_does_not_read_holds_up_nobody(running: Running) -> None:
    await running.begin("stuck")
    await running.begin("a")
    async with contextlib.AsyncExitStack() as sockets:
        stuck = await sockets.enter_async_context(running.connect())
        stuck.transport.pause_reading()
        await asyncio.sleep(0.1)
        running.reply("stuck", "word " * 400)  # more than the sockets' buffers hold
        await asyncio.sleep(1.0)
        running.server.handle(Interruption("stuck", 1))
        running.end("stuck")
        socket = await sockets.enter_async_context(running.connect("key-a"))
        running.reply("a", "One.")
        await messages_until(socket, "reply_end")
        stuck.transport.abort()
