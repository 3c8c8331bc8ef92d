"""The Python client comes back by itself when a connection is lost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fusion.errors import FusionError
from tests.scripted_server import pause, say, scripted
from whisper_live.client import (
    Closed,
    Event,
    Notice,
    ReplyText,
    Segment,
    Server,
    Sound,
    Transcript,
    talk,
)
from whisper_live.client import conversation as conversation_module
from whisper_live.client.events import Failure
from whisper_live.client.memory import Memory

READY = {"uid": "u", "message": "SERVER_READY", "backend": "x"}
GREETING = json.dumps({**READY, "audio_key": "k 1", "resume_key": "r 1"})
CHUNK = np.full(2400, 0.5, "<f4")


async def question(connection: ServerConnection, turn: int = 1) -> None:
    said = {"start": "0.000", "end": "1.000", "text": " How old?", "completed": True}
    await say(connection, segments=[said], eos=True, latency=0.2, turn=turn)


async def reply(connection: ServerConnection, turn: int = 1) -> None:
    await say(connection, llm_output=["Very old."], eos=True, latency=0.3, turn=turn)


@pytest.mark.parametrize("resumed", [True, False])
async def test_a_lost_connection_is_made_again_and_nothing_comes_twice(resumed: bool) -> None:
    hellos: list[dict[str, Any]] = []
    commands: list[object] = []

    async def converse(connection: ServerConnection) -> None:
        hellos.append(server.hello)
        if len(hellos) == 1:
            server.greeting = json.dumps(
                {**READY, "audio_key": "k 1", "resume_key": "r 2", "resumed": resumed}
            )
            await question(connection)
            await reply(connection)
            await pause()
            connection.transport.abort()
            return
        await question(connection)
        await reply(connection)
        commands.append(await connection.recv())
        await connection.close(1000, "all is said")

    async with (
        scripted(conversation=converse, greeting=GREETING) as server,
        talk(server.address, reply=False, language="en") as conversation,
    ):
        events: list[Event] = []
        async for event in conversation.events():
            events.append(event)
            if isinstance(event, Notice) and event.name == "SERVER_READY":
                assert event.fields["resumed"] is resumed
                await conversation.command("interrupt")
    assert hellos[1] == {
        **hellos[0],
        "resume": "r 1",
        "history": [
            {"role": "user", "content": "How old?"},
            {"role": "assistant", "content": "Very old."},
        ],
    }
    assert commands == ['{"command": "interrupt"}']
    again = [] if resumed else [Transcript, ReplyText]
    assert [type(event) for event in events] == [Transcript, ReplyText, Notice, *again, Closed]
    assert conversation.ready.fields["resume_key"] == "r 2"


async def test_a_command_waits_for_the_next_connection_and_sound_does_not() -> None:
    got: list[str | bytes] = []

    async def converse(connection: ServerConnection) -> None:
        if not got:
            got.append("lost")
            connection.transport.abort()
            return
        got.append(await connection.recv())
        await connection.close(1000)

    async with (
        scripted(conversation=converse, greeting=GREETING) as server,
        talk(server.address, reply=False) as conversation,
    ):
        await pause()
        await conversation.send(CHUNK)
        await conversation.command("say", text="Hello?")
        async for _ in conversation.events():
            pass
        with pytest.raises(ConnectionClosed):
            await conversation.send(CHUNK)
        with pytest.raises(ConnectionClosed):
            await conversation.command("interrupt")
    assert got == ["lost", '{"command": "say", "text": "Hello?"}']


@pytest.mark.parametrize(("code", "greeting"), [(1008, GREETING), (1000, GREETING), (1011, None)])
async def test_a_farewell_is_one(code: int, greeting: str | None) -> None:
    """So is every close of a server that gives no key to come back with."""

    async def leave(connection: ServerConnection) -> None:
        await connection.close(code, "so it is")

    script = {"greeting": greeting} if greeting else {}
    async with (
        scripted(conversation=leave, **script) as server,
        talk(server.address, reply=False) as conversation,
    ):
        events = [event async for event in conversation.events()]
    assert [(event.code, event.reason) for event in events if isinstance(event, Closed)] == [
        (code, "so it is")
    ]


async def test_the_speech_socket_says_where_to_go_on() -> None:
    async def speak(connection: ServerConnection) -> None:
        if len(server.speech_paths) == 1:
            await say(connection, event="reply_start", turn=3, at=0.5)
            await connection.send(CHUNK.tobytes())
            await pause()
            connection.transport.abort()
        elif len(server.speech_paths) == 2:
            await say(connection, event="reply_end", turn=3, spoken="Well.", interrupted=False)
            await pause()
            connection.transport.abort()
        await connection.wait_closed()

    async with scripted(speech=speak) as server, talk(server.address) as conversation:
        async for event in conversation.events():
            if isinstance(event, Sound):
                assert event.turn == 3
            if isinstance(event, Notice) and event.name == "reply_end":
                break
        while len(server.speech_paths) < 3:
            await pause()
    places = ["", "&turn=3&received=0.6000", ""]
    assert server.speech_paths == [f"/?key=a+key{place}" for place in places]


async def test_each_speech_connection_names_the_key_that_came_last() -> None:
    async def converse(connection: ServerConnection) -> None:
        for number in (2, 3):
            while len(server.speech_paths) < number - 1:
                await pause()
            await say(connection, event="audio_key", audio_key=f"k {number}")
        await connection.wait_closed()

    async def speak(connection: ServerConnection) -> None:
        await asyncio.sleep(0.2)
        if len(server.speech_paths) > 1:  # the second was taken by one that broke at once
            await connection.close(1008, "no session has this key")
        connection.transport.abort()

    async with (
        scripted(conversation=converse, speech=speak, greeting=GREETING) as server,
        talk(server.address) as conversation,
    ):
        async for event in conversation.events():
            assert isinstance(event, Failure)  # keys are nobody else's concern
            break
    assert server.speech_paths == ["/?key=k+1", "/?key=k+2", "/?key=k+3"]


async def test_a_new_session_is_heard_by_its_own_key() -> None:
    async def converse(connection: ServerConnection) -> None:
        if "resume" not in server.hello:
            server.greeting = json.dumps(
                {**READY, "audio_key": "k 2", "resume_key": "r 2", "resumed": False}
            )
            await pause()
            connection.transport.abort()
        else:
            await asyncio.sleep(0.3)
            await connection.close(1000)

    async def speak(connection: ServerConnection) -> None:
        await connection.send(CHUNK.tobytes())
        await asyncio.sleep(0.5)
        await connection.close(1000)

    async with (
        scripted(conversation=converse, speech=speak, greeting=GREETING) as server,
        talk(server.address) as conversation,
    ):
        async for _ in conversation.events():
            pass
    assert server.speech_paths == ["/?key=k+1", "/?key=k+2"]


async def test_a_question_is_asked_until_some_server_has_taken_it() -> None:
    """The second server dies as it is asked again; a turn before the last ends in an error."""
    asked: list[object] = []

    async def converse(connection: ServerConnection) -> None:
        if "resume" not in server.hello:
            server.greeting = json.dumps(
                {**READY, "audio_key": "k 2", "resume_key": "r 2", "resumed": False}
            )
            await question(connection, 1)
            await question(connection, 2)
            await pause()
            connection.transport.abort()
            return
        asked.append(await connection.recv())
        if len(asked) == 1:
            connection.transport.abort()
            return
        await question(connection)
        await reply(connection)
        await connection.close(1000)

    async with (
        scripted(conversation=converse, speech=ServerConnection.close, greeting=GREETING) as server,
        talk(server.address) as conversation,
    ):
        events = [event async for event in conversation.events()]
    assert asked == ['{"command": "say", "text": "How old?"}'] * 2
    ends = [event for event in events if isinstance(event, Failure | ReplyText)]
    assert [(type(event), event.turn) for event in ends] == [(Failure, 1), (ReplyText, 1)]


async def test_what_is_never_answered_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_module, "_RESUME_TIMEOUT", 0.0)

    async def converse(connection: ServerConnection) -> None:
        await question(connection, 1)
        await reply(connection, 1)
        await question(connection, 2)
        await pause()
        connection.transport.abort()

    async with (
        scripted(conversation=converse, greeting=GREETING) as server,
        talk(server.address, reply=False) as conversation,
    ):
        events = [event async for event in conversation.events()]
    assert [type(event) for event in events[-2:]] == [Failure, Closed]
    assert events[-2].turn == 2


async def test_a_new_session_s_sound_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The voice may be away at the moment that the session is new."""
    tried: list[int] = []
    really_open = Server.open

    async def open_later(self: Server, port: int, **query: str) -> Any:
        tried.append(port)
        if tried.count(port) == 2 and port == self.speech_port:
            raise FusionError("No WhisperFusion answers.")
        return await really_open(self, port, **query)

    monkeypatch.setattr(Server, "open", open_later)

    async def converse(connection: ServerConnection) -> None:
        resumed = "resume" in server.hello
        server.greeting = json.dumps(
            {**READY, "audio_key": "k 2", "resume_key": "r 2", "resumed": resumed}
        )
        if resumed:
            await asyncio.sleep(1.0)
            await connection.close(1000)
            return
        await pause()
        connection.transport.abort()

    async def speak(connection: ServerConnection) -> None:
        await connection.send(CHUNK.tobytes())
        if len(server.speech_paths) == 2:
            await connection.close(1000)
        await connection.wait_closed()

    async with (
        scripted(conversation=converse, speech=speak, greeting=GREETING) as server,
        talk(server.address) as conversation,
    ):
        events = [event async for event in conversation.events()]
    assert server.speech_paths == ["/?key=k+1", "/?key=k+2"]
    assert len([event for event in events if isinstance(event, Sound)]) == 2


def test_an_interruption_is_remembered_as_far_as_it_was_played() -> None:
    memory = Memory([{"role": "user", "content": "Hello."}])
    assert memory.take(ReplyText(0.0, 1, "All of it.", True, False))
    assert memory.take(Notice(0.0, "interrupted", 1, {"spoken": "All"}))
    assert not memory.take(Notice(1.0, "interrupted", 1, {"spoken": "All"}))
    assert memory.take(Notice(1.0, "speech_started", 1))
    assert memory.take(Notice(1.0, "speech_started", 1))
    assert memory.take(Failure(1.0, None, "Too loud."))
    assert memory.take(Failure(1.0, None, "Too loud."))
    hello = {"role": "user", "content": "Hello."}
    assert memory.history == [hello, {"role": "assistant", "content": "All"}]
    memory.new_session()
    assert memory.take(ReplyText(2.0, 1, "Another.", True, False))
    assert [entry["content"] for entry in memory.history] == ["Hello.", "All", "Another."]  # type: ignore[index]


def said(turn: int, text: str) -> Transcript:
    return Transcript(0.0, turn, (Segment(0.0, 1.0, text, True),), True, 0.1)


def test_what_a_lost_server_did_not_answer_is_asked_again_and_stands_once_in_the_history() -> None:
    memory = Memory()
    assert memory.unanswered == ""
    memory.take(said(1, "Hello."))
    memory.take(ReplyText(0.0, 1, "Hi.", True, False))
    assert memory.unanswered == ""
    memory.take(said(2, "What time is it?"))
    assert memory.unanswered == "What time is it?"
    assert [part["content"] for part in memory.history] == ["Hello.", "Hi."]  # type: ignore[index]
    memory.take(Failure(0.0, 2, "It failed."))
    assert memory.unanswered == ""
