"""Audio clients that stop reading: when they are dropped, and what was said to them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from fusion.messages import Interruption, SpeechEnded
from tests.test_speech_server import Running, messages_until, serving, whole_reply
from voices import sending
from voices.acknowledged import Played, parse_played

# A tenth of a second a word, and more messages than a client's library takes in unread.
LONG = " ".join(f"{word} and" for word in ["one", "two", "three", "four", "five"] * 4) + " six."
SECONDS = 4.1


@pytest.fixture
async def impatient(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """A speech server that waits half a second for a client to read."""
    monkeypatch.setattr(sending, "PATIENCE", 0.2)
    async with serving(unread_timeout=0.5) as running:
        yield running


def deaf(running: Running, key: str | None = "key-a") -> connect:
    """A client whose library reads two messages ahead of a program that takes none."""
    query = "" if key is None else f"?key={key}"
    return connect(f"ws://127.0.0.1:{running.port}/{query}", max_queue=2, max_size=None, proxy=None)


async def ended(running: Running) -> SpeechEnded:
    """The report of the reply's end, once it comes."""
    for _ in range(200):
        for report in running.reports:
            if isinstance(report, SpeechEnded):
                return report
        await asyncio.sleep(0.05)
    raise AssertionError("the reply did not end")


async def test_who_reads_nothing_is_dropped_and_has_heard_nothing(impatient: Running) -> None:
    await impatient.begin("a")
    async with deaf(impatient) as socket:
        impatient.reply("a", LONG)
        report = await ended(impatient)
        assert report.broken_off
        assert len(str(report.spoken)) < len(LONG) / 4
        with pytest.raises(ConnectionClosed):
            while True:
                await asyncio.wait_for(socket.recv(), 5)


async def test_an_old_client_that_reads_nothing_has_heard_nothing(impatient: Running) -> None:
    await impatient.begin("a")
    async with deaf(impatient, key=None) as socket:
        socket.transport.pause_reading()
        impatient.reply("a", LONG)
        report = await ended(impatient)
        socket.transport.abort()
    assert not report.spoken
    assert report.broken_off


async def test_the_session_goes_on_for_a_client_that_comes_back(impatient: Running) -> None:
    await impatient.begin("a")
    async with deaf(impatient) as socket:
        impatient.reply("a", LONG)
        await ended(impatient)
        socket.transport.abort()
    async with impatient.connect("key-a") as socket:
        impatient.reply("a", "Two words.", turn=2)
        rest = await messages_until(socket, "reply_start")
        rest += await messages_until(socket, "reply_end")
    last: Any = rest[-1]
    assert (last["turn"], last["spoken"]) == (2, "Two words.")


async def test_nobody_who_reads_is_dropped_however_long_a_reply_is(impatient: Running) -> None:
    await impatient.begin("a")
    async with impatient.connect("key-a") as socket:
        impatient.reply("a", LONG)
        messages = await messages_until(socket, "reply_end")
        assert sum(m for m in messages if isinstance(m, float)) == pytest.approx(SECONDS)
        assert (await ended(impatient)).spoken == LONG
        await asyncio.sleep(1.0)
        assert await socket.ping()


async def test_who_plays_before_it_reads_on_is_not_dropped(impatient: Running) -> None:
    """An old client may read the next message only once it has played this one."""
    await impatient.begin("a")
    async with impatient.connect() as socket:
        socket.transport.pause_reading()
        impatient.reply("a", "One two three four five six seven eight nine ten.")
        await asyncio.sleep(1.2)  # a second of sound, and less than half a second more
        socket.transport.resume_reading()
        assert await whole_reply(socket) == pytest.approx(1.0)
        assert (await ended(impatient)).spoken


@pytest.mark.parametrize("reports", [True, False])
async def test_what_a_client_says_it_has_played_counts(impatient: Running, reports: bool) -> None:
    """What goes out ahead of its time is not played yet."""
    await impatient.begin("a")
    impatient.reply("a", LONG)
    async with impatient.connect("key-a") as socket:
        await messages_until(socket, "clause")
        if reports:
            await socket.send(json.dumps({"event": "played", "turn": 1, "seconds": 0.0}))
        await asyncio.sleep(0.3)
        impatient.server.handle(Interruption("a", 1))
        spoken = (await ended(impatient)).spoken
    assert spoken is not None
    assert (len(spoken) < len(LONG) * 0.5 / SECONDS) is reports


async def test_words_that_were_not_read_are_not_heard_where_it_is_interrupted(
    impatient: Running,
) -> None:
    await impatient.begin("a")
    async with deaf(impatient) as socket:
        socket.transport.pause_reading()
        impatient.reply("a", LONG)
        await asyncio.sleep(0.4)
        impatient.server.handle(Interruption("a", 1))
        assert (await ended(impatient)).spoken == ""
        socket.transport.abort()


@given(st.one_of(st.text(), st.binary(), st.recursive(st.floats(), st.lists).map(json.dumps)))
def test_what_a_client_says_is_checked(message: str | bytes) -> None:
    assert parse_played(message) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"event": "played", "turn": 3, "seconds": 1.5}, Played(3, 1.5)),
        ({"event": "played", "turn": 3, "seconds": 2}, Played(3, 2.0)),
        ({"event": "played", "turn": 3, "seconds": -1}, None),
        ({"event": "played", "turn": 3, "seconds": float("nan")}, None),
        ({"event": "played", "turn": 3, "seconds": float("inf")}, None),
        ({"event": "played", "turn": "3", "seconds": 1}, None),
        ({"event": "played", "turn": 3}, None),
        ({"event": "other", "turn": 3, "seconds": 1}, None),
        ([], None),
    ],
)
def test_a_report_of_what_was_played(fields: object, expected: Played | None) -> None:
    assert parse_played(json.dumps(fields)) == expected
