"""Samples of voices, with a real socket and a voice that hums."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed

from fusion.audio import SPEECH_RATE
from tests.test_speech_server import Running, messages_until, running
from voices.previews import FAILED, SAMPLES, sample_text

__all__ = ["running"]


async def sample(running: Running, query: str) -> tuple[float, int, str]:
    """Seconds of sound, close code and reason of a sample."""
    sound: list[NDArray[np.float32]] = []
    async with running.connect(query) as socket:
        try:
            while True:
                message = await asyncio.wait_for(socket.recv(), 5)
                assert isinstance(message, bytes)
                sound.append(np.frombuffer(message, "<f4"))
        except ConnectionClosed:
            assert socket.close_code is not None
            seconds = sum(map(len, sound)) / SPEECH_RATE
            return seconds, socket.close_code, socket.close_reason or ""


async def test_a_sample_is_a_sentence_of_the_voice_s_language(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.voice, "speakers", {"ann": "en", "bea": "es"})
    monkeypatch.setattr(running.voice, "languages", ("en", "es"))
    await running.begin("a")
    for query, language in (
        ("key-a&preview=1&voice=bea", "es"),
        ("key-a&preview=1&voice=bea&language=en", "es"),
        ("key-a&preview=1", "en"),
        ("key-a&preview=1&language=es", "es"),
        ("key-a&preview=1&voice=nobody", "en"),
    ):
        seconds, code, _ = await sample(running, query)
        assert running.voice.asked[-1] == SAMPLES[language]
        assert seconds == pytest.approx(0.1 * len(SAMPLES[language].split()))
        assert code == 1000


async def test_nobody_gets_a_sample_without_a_session(running: Running) -> None:
    seconds, code, _ = await sample(running, "guess&preview=1")
    assert (seconds, code) == (0, 1008)
    assert running.voice.asked == []


async def test_a_language_that_is_not_spoken_has_no_sample(running: Running) -> None:
    await running.begin("a")
    seconds, code, reason = await sample(running, "key-a&preview=1&language=xx")
    assert (seconds, code, reason) == (0, 1011, FAILED)


async def test_a_voice_that_fails_says_so_and_speaks_the_next_reply(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAMPLES, "en", "I crash.")
    await running.begin("a")
    async with running.connect("key-a") as socket:
        _, code, reason = await sample(running, "key-a&preview=1")
        assert (code, reason) == (1011, FAILED)
        running.reply("a", "One.")
        assert (await messages_until(socket, "reply_end"))[-1]


async def test_a_reply_is_spoken_before_a_sample(running: Running) -> None:
    await running.begin("a")
    await running.begin("b")
    async with running.connect("key-a") as socket:
        running.reply("a", "One. Two. Three.")
        seconds, _, _ = await sample(running, "key-b&preview=1")
        await messages_until(socket, "reply_end")
    assert seconds > 0
    assert running.voice.asked.index(SAMPLES["en"]) >= 1


@pytest.mark.parametrize(
    ("language", "text"), [("sv", "svenska"), ("xx", "xx"), ("", ""), ("de", SAMPLES["de"])]
)
def test_every_language_has_something_to_say(language: str, text: str) -> None:
    assert sample_text(language) == text
