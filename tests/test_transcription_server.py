"""The transcription server over real sockets, with neighbours that a test makes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from fusion.messages import Commit, Message, ReplyEnded, ReplyFailed, SessionStarted
from fusion.serving.access import AccessPolicy
from fusion.serving.health import Health
from fusion.serving.ports import open_port
from fusion.settings import Settings
from fusion.status import Phase, Service, ServiceStatus
from tests.running import free_ports
from whisper_live.server import OVERLOADED, TOO_MUCH_AUDIO, TranscriptionServer
from whisper_live.transcribers.base import Transcript, TranscriptionRequest


class Ear:
    """A transcriber that hears the same in every sound."""

    name = "ear"
    languages = frozenset({"en"})
    max_batch = 1

    def transcribe(
        self,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Transcript]:
        return [Transcript("what time is it", "en") for _ in requests]

    def warm_up(self) -> None:
        pass

    def prepare(self, language: str | None) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class Neighbour:
    """What a neighbouring process was told; it takes nothing while it is `full`."""

    told: list[Message] = field(default_factory=list)
    full: bool = False

    def offer(self, message: Message) -> bool:
        if not self.full:
            self.told.append(message)
        return not self.full

    def kinds(self) -> list[type]:
        return [type(message) for message in self.told]


@dataclass
class World:
    server: TranscriptionServer
    status: ServiceStatus
    port: int
    language_model: Neighbour
    voice: Neighbour

    def connect(self) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}/", proxy=None)


@pytest.fixture
def limits() -> dict[str, float]:
    """Settings of the server that a test wants otherwise."""
    return {"max_clients": 1}


@pytest.fixture
async def world(limits: dict[str, Any]) -> AsyncIterator[World]:
    [port] = free_ports(1)
    settings = Settings(host="127.0.0.1", transcription_port=port, **limits)
    status = ServiceStatus()
    for service in Service:
        status.start(service)
        status.report(service, Phase.READY)
    model, voice = Neighbour(), Neighbour()
    server = TranscriptionServer(settings, status, Ear(), None, model, voice)  # type: ignore[arg-type]
    access = AccessPolicy(settings, Health(status))
    async with open_port(settings, "transcription", access=access, max_size=1 << 20) as handler:
        handler.set_result(server.handle_connection)
        yield World(server, status, port, model, voice)
        await server.close()


async def message(socket: ClientConnection, fits: Callable[[dict[str, Any]], bool]) -> Any:
    while True:
        fields = json.loads(await asyncio.wait_for(socket.recv(), 5))
        if fits(fields):
            return fields


async def greet(socket: ClientConnection, **fields: object) -> Any:
    await socket.send(json.dumps({"uid": "me", "stream": True, "reply": True, **fields}))
    return await message(socket, lambda m: m.get("message") == "SERVER_READY")


async def say(socket: ClientConnection, text: str) -> None:
    await socket.send(json.dumps({"command": "say", "text": text}))


async def test_a_session_is_introduced_and_its_turn_answered(world: World) -> None:
    async with world.connect() as socket:
        await greet(socket)
        assert world.language_model.kinds() == world.voice.kinds() == [SessionStarted]
        await say(socket, "Hello.")
        await message(socket, lambda m: m.get("eos") is True and "segments" in m)
        commit = world.language_model.told[-1]
        assert isinstance(commit, Commit)
        world.server.handle(ReplyEnded(commit.session, commit.turn, commit.revision, "Hi.", 0.0))
        reply = await message(socket, lambda m: "llm_output" in m)
        assert "".join(reply["llm_output"]) == "Hi."


async def test_a_second_client_is_told_to_wait(world: World) -> None:
    async with world.connect() as first, world.connect() as second:
        await greet(first)
        await second.send('{"uid": "late"}')
        assert (await message(second, lambda _: True))["status"] == "WAIT"


async def test_a_turn_that_the_language_model_does_not_take_is_one_error(world: World) -> None:
    async with world.connect() as socket:
        await greet(socket)
        world.language_model.full = True
        await say(socket, "Hello.")
        failure = await message(socket, lambda m: m.get("status") == "ERROR")
        assert (failure["message"], failure["turn"]) == (OVERLOADED, 1)
        world.language_model.full = False
        await say(socket, "Hello again.")
        await message(socket, lambda m: m.get("eos") is True and m.get("turn") == 2)
        assert isinstance(world.language_model.told[-1], Commit)


async def test_a_neighbour_that_was_restarted_is_told_who_is_there(world: World) -> None:
    async with world.connect() as socket:
        await greet(socket)
        world.status.start(Service.LANGUAGE_MODEL)
        world.server.notice_restarts()
        assert world.language_model.kinds() == [SessionStarted]
        world.status.report(Service.LANGUAGE_MODEL, Phase.READY)
        world.server.notice_restarts()
        world.server.notice_restarts()
        assert world.language_model.kinds() == [SessionStarted, SessionStarted]
        assert world.voice.kinds() == [SessionStarted]  # the conversation of the other goes on


async def test_who_gave_up_while_models_load_gets_no_session(world: World) -> None:
    world.status.report(Service.LANGUAGE_MODEL, Phase.LOADING)
    async with world.connect() as socket:
        await socket.send('{"uid": "me"}')
        await until(lambda: bool(world.server._places._taken))
        socket.transport.abort()
    await until(lambda: not world.server._places._taken)
    world.status.report(Service.LANGUAGE_MODEL, Phase.READY)
    async with world.connect() as socket:
        await greet(socket)
    assert world.language_model.kinds().count(SessionStarted) == 1


async def test_who_gave_up_before_the_server_was_loaded_takes_no_place(world: World) -> None:
    [port] = free_ports(1)
    settings = Settings(host="127.0.0.1", transcription_port=port)
    access = AccessPolicy(settings, Health(world.status))
    address = f"ws://127.0.0.1:{port}/"
    async with open_port(settings, "transcription", access=access, max_size=1 << 20) as handler:
        gone = await connect(address, proxy=None)
        await gone.send('{"uid": "gone"}')
        async with connect(address, proxy=None) as here:
            await here.send('{"uid": "here"}')
            gone.transport.abort()
            await asyncio.sleep(0.2)
            handler.set_result(world.server.handle_connection)
            fields = await message(here, lambda m: "message" in m)
            assert fields["message"] == "SERVER_READY"


async def test_an_error_in_a_connection_ends_that_connection_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.connect() as socket:
        await greet(socket)
        with monkeypatch.context() as patch:
            patch.setattr(world.server, "_handle_command", lambda *_: [][0])
            await say(socket, "Hello.")
            await asyncio.wait_for(socket.wait_closed(), 5)
        assert socket.close_code == 1011
    async with world.connect() as socket:
        await greet(socket)


SECOND = bytes(2 * 8000)
FAST = {"audio_format": "int16", "sample_rate": 8000}


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that in five seconds")


def taken(world: World) -> list[float]:
    """Seconds of audio that each session has taken."""
    return [client.session.position for client in world.server._clients.values()]


@pytest.mark.parametrize("limits", [{"max_clients": 4, "audio_burst": 1.0, "audio_rate": 1.0}])
async def test_minutes_of_audio_in_one_message_hold_up_nobody(world: World) -> None:
    async with world.connect() as flood, world.connect() as bystander:
        await greet(flood, **FAST)
        await greet(bystander)
        await flood.send(60 * SECOND)
        await say(bystander, "Hello.")
        await message(bystander, lambda m: m.get("eos") is True and "segments" in m)
        assert taken(world)[0] < 30, "all of it was listened to before the others had their turn"
        flood.transport.abort()


@pytest.mark.parametrize("limits", [{"audio_burst": 1.0, "audio_rate": 50.0}])
async def test_a_file_sent_at_once_is_heard_to_its_end(world: World) -> None:
    async with world.connect() as socket:
        await greet(socket, **FAST)
        for _ in range(20):
            await socket.send(SECOND)
        await until(lambda: taken(world)[0] > 19.9)


@pytest.mark.parametrize("limits", [{"audio_burst": 1.0, "audio_rate": 50.0, "max_audio": 5.0}])
async def test_more_audio_than_a_session_may_send_ends_it(world: World) -> None:
    async with world.connect() as socket:
        await greet(socket, **FAST)
        await socket.send(20 * SECOND)
        error = await message(socket, lambda m: m.get("status") == "ERROR")
        assert error["message"] == TOO_MUCH_AUDIO
        await asyncio.wait_for(socket.wait_closed(), 5)
        assert (socket.close_code, socket.close_reason) == (1013, "too much audio")
        await until(lambda: not world.server._clients)


@pytest.mark.parametrize("limits", [{"max_clients": 1, "max_silence": 1.0}])
async def test_who_is_silent_gives_a_place_to_one_who_waits(world: World) -> None:
    async with world.connect() as silent, world.connect() as other:
        await greet(silent)
        await other.send('{"uid": "other"}')
        assert (await message(other, lambda _: True))["status"] == "WAIT"
        [client] = world.server._clients.values()
        client.active_at -= 10
        async with world.connect() as again:
            await greet(again)
            await message(silent, lambda m: m.get("message") == "DISCONNECT")
            await asyncio.wait_for(silent.wait_closed(), 5)
            assert (silent.close_code, silent.close_reason) == (1013, "others wait")
            await until(lambda: len(world.server._clients) == 1)
            await say(again, "Hello.")
            async with world.connect() as late:
                await late.send('{"uid": "late"}')
                assert (await message(late, lambda _: True))["status"] == "WAIT"


async def test_a_server_that_stops_takes_nobody_in_and_says_so_to_those_inside(
    world: World,
) -> None:
    async with world.connect() as socket, world.connect() as late:
        await greet(socket)
        world.status.stopping = True
        await late.send('{"uid": "late"}')
        assert (await message(late, lambda _: True))["status"] == "WAIT"
        await asyncio.wait_for(late.wait_closed(), 5)
        assert (late.close_code, late.close_reason) == (1013, "the server is stopping")
        await world.server.close()
        await message(socket, lambda m: m.get("message") == "DISCONNECT")
        await asyncio.wait_for(socket.wait_closed(), 5)
        assert (socket.close_code, socket.close_reason) == (1001, "the server ends")


async def test_what_is_under_way_is_counted_for_the_supervisor(world: World) -> None:
    clock = asyncio.create_task(world.server.keep_time())
    async with world.connect() as socket:
        await greet(socket)
        await say(socket, "Hello.")
        await until(lambda: world.status.turns_under_way == 1)
        commit = world.language_model.told[-1]
        assert isinstance(commit, Commit)
        world.server.handle(ReplyFailed(commit.session, commit.turn, commit.revision, "No."))
        await until(lambda: world.status.turns_under_way == 0)
    clock.cancel()
