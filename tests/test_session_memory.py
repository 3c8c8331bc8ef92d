"""What a session leaves behind once it has ended: nothing, without waiting for a collection."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import TypeVar

import pytest

from fusion.messages import SessionEnded
from tests.test_transcription_server import World, greet, limits, world
from whisper_live.session import Session
from whisper_live.vad import VoiceActivityDetector

__all__ = ["limits", "world"]

T = TypeVar("T")


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive(kind: type[T]) -> list[T]:
    return [each for each in gc.get_objects() if isinstance(each, kind)]


async def ended(world: World, sessions: int) -> None:
    for _ in range(200):
        if world.voice.kinds().count(SessionEnded) >= sessions:
            await asyncio.sleep(0.2)
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the sessions have not ended")


async def test_clients_that_come_and_go_leave_nothing(world: World) -> None:
    before = len(alive(VoiceActivityDetector))
    for _ in range(5):
        async with world.connect() as socket:
            await greet(socket)
    await ended(world, 5)
    assert len(alive(VoiceActivityDetector)) == before


async def test_a_client_that_is_lost_leaves_nothing_once_its_time_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whisper_live.server.RESUME_PATIENCE", 0.1)
    clock = asyncio.create_task(world.server.keep_time())
    before = len(alive(Session))
    async with world.connect() as socket:
        await greet(socket)
        assert len(alive(Session)) == before + 1
        socket.transport.abort()
    await ended(world, 1)
    clock.cancel()
    assert len(alive(Session)) == before
