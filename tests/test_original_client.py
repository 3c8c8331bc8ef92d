"""Clients of the original WhisperFusion work unchanged, with the real program and models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fusion.serving.web import PAGE
from tests.nginx import Nginx
from tests.original_client import original_client
from tests.recordings import load
from tests.running import RunningServer

pytestmark = pytest.mark.e2e

# What the original server's messages held.
ORIGINAL_FIELDS = {"uid", "segments", "eos", "latency", "llm_output"}


@pytest.fixture
def nginx(server: RunningServer, tmp_path: Path) -> Iterator[Nginx]:
    proxy = Nginx(
        tmp_path / "nginx",
        PAGE,
        transcription_port=server.transcription_port,
        speech_port=server.speech_port,
    )
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.mark.nginx
async def test_each_reply_is_one_message_and_nobody_else_hears_it(
    server: RunningServer, nginx: Nginx
) -> None:
    """The original's page as nginx serves it, and an older client elsewhere at the ports."""
    ports = [f"ws://127.0.0.1:{p}/" for p in (server.transcription_port, server.speech_port)]
    paths = [f"ws://127.0.0.1:{nginx.port}/{path}" for path in ("transcription", "audio")]
    page = {"Origin": f"http://127.0.0.1:{nginx.port}"}
    async with (
        original_client(*ports, headers={"X-Forwarded-For": "198.51.100.1"}) as older_and_silent,
        original_client(*paths, headers=page) as speaker,
    ):
        await speaker.speak(load("brooklyn_bridge"))
        await speaker.until_heard(1)
        await speaker.speak(load("what_time_is_it"))
        await speaker.until_heard(2)
        await asyncio.sleep(1.0)  # for a message that should not come

    assert speaker.questions == ["How old is the Brooklyn Bridge?", "What time is it?"]
    assert len(speaker.replies) == 2
    assert all(reply.strip() for reply in speaker.replies)
    assert len(speaker.sounds) == 2
    for sound in speaker.sounds:
        assert isinstance(sound, bytes), "an original client knows no text here"
        samples = np.frombuffer(sound, "<f4")
        assert len(samples) > 12_000
        assert np.isfinite(samples).all()
        assert 0.02 < np.abs(samples).max() <= 1.0
    assert all(set(message) <= ORIGINAL_FIELDS for message in speaker.messages[1:])
    assert all(message["uid"] == speaker.uid for message in speaker.messages)

    assert older_and_silent.sounds == []
    assert len(older_and_silent.messages) == 1
