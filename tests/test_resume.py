"""A client whose connection was lost comes back to its session: over real sockets, with neighbours
that the test plays."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from fusion.messages import (
    AudioKeyChanged,
    Commit,
    Message,
    ReplyEnded,
    ReplyText,
    SessionEnded,
    SessionStarted,
)
from fusion.serving.access import AccessPolicy
from fusion.serving.health import Health
from fusion.serving.ports import open_port
from fusion.settings import Settings
from fusion.status import Phase, Service, ServiceStatus
from tests.running import free_ports
from whisper_live import server as server_module
from whisper_live.outgoing import MOST_UNSENT, OutgoingMessages
from whisper_live.server import TranscriptionServer
from whisper_live.transcribers.base import Transcript, TranscriptionRequest


class NoTranscriber:
    """What is said here is typed."""

    name = "none"
    languages = frozenset({"en"})
    max_batch = 1

    def warm_up(self) -> None:
        pass

    def prepare(self, language: str | None) -> None:
        pass

    def transcribe(
        self,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Transcript]:
        raise AssertionError("nothing is spoken")

    def close(self) -> None:
        pass


class Sent:
    """An outbox that keeps what is put in."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def offer(self, message: Message) -> bool:
        self.messages.append(message)
        return True

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]


@dataclass
class Running:
    server: TranscriptionServer
    port: int
    language_model: Sent = field(default_factory=Sent)

    @contextlib.asynccontextmanager
    async def connect(
        self, **handshake: Any
    ) -> AsyncIterator[tuple[ClientConnection, dict[str, Any]]]:
        async with connect(f"ws://127.0.0.1:{self.port}/", proxy=None) as socket:
            await socket.send(json.dumps({"uid": "me", "stream": True, **handshake}))
            yield socket, await told(socket)

    async def asked(self, count: int = 1) -> Commit:
        """The latest question, once there are so many."""
        await until(lambda: len(self.language_model.of(Commit)) >= count)
        commit = self.language_model.of(Commit)[-1]
        assert isinstance(commit, Commit)
        return commit

    def answer(self, commit: Commit, text: str) -> None:
        key = commit.session, commit.turn, commit.revision
        self.server.handle(ReplyText(*key, text, 0.0))
        self.server.handle(ReplyEnded(*key, text, 0.0))


async def until(happened: Callable[[], bool]) -> None:
    async def watch() -> None:
        while not happened():  # noqa: ASYNC110 - the server wakes no test
            await asyncio.sleep(0.01)

    await asyncio.wait_for(watch(), 10)


async def told(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 5))
    return message


async def say(socket: ClientConnection, text: str) -> None:
    await socket.send(json.dumps({"command": "say", "text": text}))


async def until_reply(socket: ClientConnection) -> list[dict[str, Any]]:
    messages = [await told(socket)]
    while "llm_output" not in messages[-1] or not messages[-1]["eos"]:
        messages.append(await told(socket))
    return messages


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    [port] = free_ports(1)
    settings = Settings(host="127.0.0.1", transcription_port=port, max_clients=2)
    status = ServiceStatus()
    for service in Service:
        status.start(service)
        status.report(service, Phase.READY)
    sent = Sent()
    server = TranscriptionServer(settings, status, NoTranscriber(), None, sent, Sent())  # type: ignore[arg-type]
    access = AccessPolicy(settings, Health(status))
    async with open_port(settings, "transcription", access=access, max_size=1 << 20) as handler:
        handler.set_result(server.handle_connection)
        clock = asyncio.create_task(server.keep_time())
        yield Running(server, port, sent)
        clock.cancel()
    await server.close()


async def test_a_client_that_comes_back_has_its_session_and_the_fate_of_its_turn(
    running: Running,
) -> None:
    async with running.connect() as (socket, ready):
        await say(socket, "What time is it?")
        commit = await running.asked()
        assert (await told(socket))["eos"] is True
        running.server.handle(AudioKeyChanged(commit.session, "the next key"))
        changed = await told(socket)
        assert (changed["event"], changed["audio_key"]) == ("audio_key", "the next key")
        socket.transport.abort()
    running.answer(commit, "It is five.")
    async with running.connect(resume=ready["resume_key"]) as (socket, again):
        assert again["message"] == "SERVER_READY"
        assert again["resumed"] is True
        assert again["audio_key"] == "the next key" != ready["audio_key"]
        question, reply = await until_reply(socket)
        assert question["segments"][0]["text"] == " What time is it?"
        assert (reply["llm_output"], reply["turn"]) == (["It is five."], 1)
        await say(socket, "And now?")
        assert (await running.asked(2)).turn == 2
    assert len(running.language_model.of(SessionStarted)) == 1


async def test_what_the_dead_connection_may_have_swallowed_is_told_again(running: Running) -> None:
    """The reply was sent, but whoever closes without a word may not have got it."""
    async with running.connect() as (socket, ready):
        questions = ("What day is it?", "What time is it?", "And now?")
        for number, question in enumerate(questions, 1):
            await say(socket, question)
            running.answer(await running.asked(number), f"It is {number}.")
            await until_reply(socket)
        socket.transport.abort()
    async with running.connect(resume=ready["resume_key"]) as (socket, _):
        messages = [message for _ in range(2) for message in await until_reply(socket)]
    assert {message["turn"] for message in messages} == {2, 3}
    replies = [message["llm_output"] for message in messages if "llm_output" in message]
    assert replies == [["It is 2."], ["It is 3."]]


async def test_a_second_connection_takes_over_from_one_that_is_not_known_to_be_dead(
    running: Running,
) -> None:
    async with (
        running.connect() as (old, ready),
        running.connect(),
        contextlib.AsyncExitStack() as s,
    ):
        new, again = await s.enter_async_context(running.connect(resume=ready["resume_key"]))
        assert again["resumed"] is True
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(old.recv(), 5)
        await say(new, "Are you there?")
        running.answer(await running.asked(), "Yes.")
        assert (await until_reply(new))[-1]["llm_output"] == ["Yes."]


async def test_who_says_goodbye_is_forgotten(running: Running) -> None:
    async with running.connect() as (_, ready):
        pass
    await until(lambda: bool(running.language_model.of(SessionEnded)))
    async with running.connect(resume=ready["resume_key"]) as (_, again):
        assert again["resumed"] is False
        assert again["resume_key"] != ready["resume_key"]


async def test_after_a_while_the_session_is_over(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "RESUME_PATIENCE", 0.2)
    async with running.connect() as (socket, _):
        socket.transport.abort()
    await until(lambda: bool(running.language_model.of(SessionEnded)))


async def test_sessions_that_wait_take_nobody_s_place_and_are_few(running: Running) -> None:
    for _ in range(5):
        async with running.connect() as (socket, ready):
            assert ready["message"] == "SERVER_READY"
            socket.transport.abort()
    await until(lambda: len(running.language_model.of(SessionEnded)) == 3)


async def test_an_old_client_s_session_makes_way_for_its_next(running: Running) -> None:
    """Its audio connection names no key and goes to the oldest session from its address."""
    async with running.connect(stream=False) as (socket, _):
        socket.transport.abort()
    await until(lambda: bool(any(c.away_since for c in running.server._clients.values())))
    async with running.connect(stream=False):
        assert len(running.language_model.of(SessionEnded)) == 1


@pytest.mark.parametrize("key", ["guess", "x" * 200, "é"])
async def test_a_guessed_key_gives_a_session_of_ones_own(running: Running, key: str) -> None:
    async with running.connect() as (_, ready), running.connect(resume=key) as (_, other):
        assert other["resumed"] is False
        assert other["audio_key"] != ready["audio_key"]


async def test_what_grows_is_not_kept_for_nobody() -> None:
    outgoing = OutgoingMessages("me")
    outgoing.held = True
    for _ in range(2 * MOST_UNSENT):
        assert outgoing.put({"llm_output": ["It"], "eos": False, "turn": 1})
    assert outgoing.put({"llm_output": ["It is."], "eos": True, "turn": 1})
    outgoing.held = False
    outgoing.send_again()
    sent: list[str] = []

    async def send(text: str) -> None:
        sent.append(text)

    writer = asyncio.create_task(outgoing.write(send))
    await asyncio.wait_for(outgoing.all_sent(), 5)
    writer.cancel()
    assert [json.loads(text)["llm_output"] for text in sent] == [["It is."]]
