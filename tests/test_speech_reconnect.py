"""Sound whose connection is not there yet, or was lost: it waits a while, and goes on."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from fusion.audio import SPEECH_RATE
from fusion.messages import ClauseSpoken, Interruption, SpeechEnded, SpeechStarted
from tests.test_speech_server import Running, messages_until, running, whole_reply
from voices import sending

__all__ = ["running"]

LONG = "One two three four five six seven eight nine ten, and eleven twelve thirteen fourteen."
SECONDS = 1.5  # a tenth of a second a word


def seconds_of(messages: list[dict[str, Any] | float]) -> float:
    return sum(each for each in messages if isinstance(each, float))


async def listen(socket: ClientConnection, seconds: float) -> float:
    """Take sound for a while; return how much came."""
    got = 0.0
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            message = await asyncio.wait_for(socket.recv(), left)
        except asyncio.TimeoutError:
            break
        if isinstance(message, bytes):
            got += len(message) / 4 / SPEECH_RATE
    return got


def ended(running: Running) -> list[SpeechEnded]:
    return [report for report in running.reports if isinstance(report, SpeechEnded)]


@pytest.mark.parametrize("key", ["key-a", None])
async def test_a_connection_that_comes_after_the_reply_hears_it(
    running: Running, key: str | None
) -> None:
    await running.begin("a")
    running.reply("a", LONG)
    await asyncio.sleep(0.5)
    assert not ended(running)
    async with running.connect(key) as socket:
        if key is None:
            assert await whole_reply(socket) == pytest.approx(SECONDS)
        else:
            assert seconds_of(await messages_until(socket, "reply_end")) == pytest.approx(SECONDS)
    assert ended(running)[0].spoken == LONG


async def test_what_was_not_played_when_the_connection_broke_is_said_on_the_next(
    running: Running,
) -> None:
    await running.begin("a")
    running.reply("a", LONG)
    async with running.connect("key-a") as socket:
        await messages_until(socket, "clause")
        began = time.monotonic()
        await listen(socket, 0.4)
        socket.transport.abort()
        played = time.monotonic() - began
    await asyncio.sleep(0.25)
    async with running.connect("key-a") as socket:
        start, clause, *rest = await messages_until(socket, "reply_end")
    assert isinstance(start, dict)
    assert start["event"] == "reply_start"
    assert start["at"] == pytest.approx(played, abs=0.2)
    assert isinstance(clause, dict)
    assert (clause["event"], clause["at"]) == ("clause", start["at"])
    assert start["at"] + seconds_of(rest) == pytest.approx(SECONDS, abs=1e-3)
    assert rest[-1] == {"event": "reply_end", "turn": 1, "spoken": LONG, "interrupted": False}
    assert [report.spoken for report in ended(running)] == [LONG]
    assert len([r for r in running.reports if isinstance(r, ClauseSpoken)]) == 2
    assert len([r for r in running.reports if isinstance(r, SpeechStarted)]) == 2


@pytest.mark.parametrize("received", [0.0, 0.25, 1.234])
async def test_a_client_that_says_what_it_has_gets_the_rest(
    running: Running, received: float
) -> None:
    await running.begin("a")
    running.reply("a", LONG)
    async with running.connect("key-a") as socket:
        assert seconds_of(await messages_until(socket, "reply_end")) == pytest.approx(SECONDS)
        socket.transport.abort()
    async with running.connect(f"key-a&turn=1&received={received}") as socket:
        rest = await messages_until(socket, "reply_end")
    assert received + seconds_of(rest) == pytest.approx(SECONDS, abs=1e-3)


@pytest.mark.parametrize("query", ["turn=1&received=nan", "turn=x&received=1", "turn=7&received=0"])
async def test_what_a_client_says_it_has_is_checked(running: Running, query: str) -> None:
    await running.begin("a")
    running.reply("a", LONG)
    async with running.connect(f"key-a&{query}") as socket:
        assert seconds_of(await messages_until(socket, "reply_end")) == pytest.approx(SECONDS)


async def test_the_last_sound_is_said_again_if_it_was_not_played(running: Running) -> None:
    """All of it was sent, and the connection broke before its time had come."""
    await running.begin("a")
    running.reply("a", "One two.")
    async with running.connect("key-a") as socket:
        await messages_until(socket, "reply_end")
        socket.transport.abort()
    async with running.connect("key-a") as socket:
        rest = await messages_until(socket, "reply_end")
    assert 0.0 < seconds_of(rest) <= 0.2


async def test_another_connection_goes_on_where_the_first_one_is(running: Running) -> None:
    """A change of network: the server does not know yet that the old connection is dead."""
    await running.begin("a")
    running.reply("a", LONG)
    async with running.connect("key-a") as old:
        await messages_until(old, "clause")
        await listen(old, 0.4)
        async with running.connect("key-a") as new:
            start, *rest = await messages_until(new, "reply_end")
    assert isinstance(start, dict)
    assert 0.2 < start["at"] < 0.9
    assert start["at"] + seconds_of(rest) == pytest.approx(SECONDS, abs=1e-3)


async def test_without_a_connection_the_reply_ends_as_far_as_it_was_played(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 0.3)
    await running.begin("a")
    running.reply("a", LONG)
    async with running.connect("key-a") as socket:
        await messages_until(socket, "clause")
        await listen(socket, 0.5)
        socket.transport.abort()
    await asyncio.sleep(0.6)
    [report] = ended(running)
    assert report.broken_off
    assert report.spoken
    assert LONG.startswith(report.spoken)
    assert report.spoken != LONG
    async with running.connect("key-a") as socket:
        last_word = json.loads(await asyncio.wait_for(socket.recv(), 5))
        expected = {"event": "reply_end", "turn": 1, "spoken": report.spoken, "interrupted": False}
        assert last_word == expected
        running.reply("a", "And on.", turn=2)
        assert seconds_of(await messages_until(socket, "reply_end")) == pytest.approx(0.2)


async def test_who_never_listens_is_waited_for_once(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 0.4)
    await running.begin("a")
    running.reply("a", LONG)
    await asyncio.sleep(0.2)
    assert not ended(running)
    await asyncio.sleep(0.4)
    running.reply("a", LONG, turn=2)
    await asyncio.sleep(0.1)
    assert [(report.turn, report.spoken, report.broken_off) for report in ended(running)] == [
        (1, None, False),
        (2, None, False),
    ]


async def test_an_interruption_while_nobody_listens_ends_the_reply_where_it_was(
    running: Running,
) -> None:
    await running.begin("a")
    running.reply("a", LONG)
    async with running.connect("key-a") as socket:
        await messages_until(socket, "clause")
        await listen(socket, 0.5)
        socket.transport.abort()
    await asyncio.sleep(0.1)
    running.server.handle(Interruption("a", 1))
    [report] = ended(running)
    assert report.spoken
    assert report.spoken != LONG
    async with running.connect("key-a") as socket:
        last_word = json.loads(await asyncio.wait_for(socket.recv(), 5))
    assert (last_word["event"], last_word["interrupted"]) == ("reply_end", True)
