"""Who hears a session: the connection that names its key, or an old client's that names none."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from fusion.messages import SessionStarted
from tests.test_speech_server import Running, messages_until, nothing_more, running, whole_reply

__all__ = ["running"]


async def test_an_old_client_gets_one_message_a_reply(running: Running) -> None:
    async with running.connect() as socket:
        await running.begin("a")
        running.reply("a", "One two three. Four five six.")
        assert await whole_reply(socket) == pytest.approx(0.6)
        await nothing_more(socket)


async def test_an_old_client_hears_its_next_session_too(running: Running) -> None:
    await running.begin("a")
    async with running.connect() as socket:
        running.reply("a", "One.")
        assert await whole_reply(socket) == pytest.approx(0.1)
        running.end("a")
        await asyncio.sleep(0.1)
        await running.begin("b")
        running.reply("b", "One two.")
        assert await whole_reply(socket) == pytest.approx(0.2)


async def test_a_key_takes_a_session_from_an_old_client(running: Running) -> None:
    await running.begin("a")
    async with running.connect() as old:
        await asyncio.sleep(0.1)
        async with running.connect("key-a") as keyed:
            await asyncio.sleep(0.1)
            running.reply("a", "One.")
            await messages_until(keyed, "reply_end")
        await running.begin("b")
        running.reply("b", "One two.")
        assert await whole_reply(old) == pytest.approx(0.2)


async def test_an_old_client_never_hears_a_session_with_a_key(running: Running) -> None:
    await running.begin("a")
    async with running.connect("key-a"):
        pass
    async with running.connect() as old:
        await asyncio.sleep(0.1)
        running.reply("a", "One.")
        await nothing_more(old)


async def test_an_old_client_hears_nothing_from_elsewhere(running: Running) -> None:
    await running.begin("a", address="192.0.2.7")
    async with running.connect() as old:
        running.reply("a", "One.")
        await nothing_more(old)


async def test_a_second_connection_with_the_key_takes_the_first_ones_place(
    running: Running,
) -> None:
    await running.begin("a")
    async with running.connect("key-a") as first, running.connect("key-a") as second:
        with pytest.raises(ConnectionClosed):
            await messages_until(first, "nothing but the end")
        assert first.close_code == 1001
        running.reply("a", "One.")
        await messages_until(second, "reply_end")
        running.end("a")
        with pytest.raises(ConnectionClosed):
            await messages_until(second, "nothing but the end")
        assert second.close_code == 1000


async def test_a_session_whose_client_knows_keys_is_never_given_to_one_without(
    running: Running,
) -> None:
    """Not in the moment before its own audio connection comes, either."""
    async with running.connect() as stranger:
        started = SessionStarted("a", "key-a", "localhost", "en", "", "", knows_keys=True)
        running.server.handle(started)
        await running.begin("b")
        running.reply("a", "Secret.")
        running.reply("b", "Public.")
        await asyncio.wait_for(stranger.recv(), 5)
        async with running.connect("key-a") as own:
            await messages_until(own, "reply_end")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stranger.recv(), 0.5)


async def test_a_key_opens_one_connection(running: Running) -> None:
    await running.begin("a")
    async with running.connect("key-a") as first:
        running.reply("a", "One.")
        await messages_until(first, "reply_end")
        async with connect(f"ws://127.0.0.1:{running.port}/?key=key-a", proxy=None) as thief:
            with pytest.raises(ConnectionClosed):
                await messages_until(thief, "nothing but the end")
            assert thief.close_code == 1008
        running.reply("a", "Two.", turn=2)
        await messages_until(first, "reply_end")
    assert running.key("a") != "key-a"


async def test_an_old_client_hears_its_session_again_once_who_named_the_key_is_gone(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voices.pairing.PATIENCE", 0.3)
    await running.begin("a")
    async with running.connect() as old:
        await asyncio.sleep(0.1)
        async with running.connect("key-a") as keyed:
            running.reply("a", "One.")
            await messages_until(keyed, "reply_end")
            await asyncio.sleep(0.3)  # all of it is played
        await asyncio.sleep(1)
        running.reply("a", "One two.", turn=2)
        assert await whole_reply(old) == pytest.approx(0.2)


async def test_who_comes_later_does_not_hear_a_session_of_the_same_address(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voices.pairing.NEAR", 0.5)
    monkeypatch.setattr("tts_service.NEAR", 0.5)
    await running.begin("a")
    await asyncio.sleep(0.6)
    async with running.connect() as stranger:
        running.reply("a", "Secret.")
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(stranger.recv(), 5)
        assert stranger.close_code == 1008
