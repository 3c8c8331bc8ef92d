"""Nothing leaves the machine, and nothing that was said reaches the log."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusion import logs
from fusion.messages import Commit, ReplyFailed, ReplyText
from tests.test_transcription_server import World, greet, limits, message, say, world

__all__ = ["limits", "world"]

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "modules", ["tts_service, voices.piper", "whisper_live.server, whisper_live.smart_turn"]
)
def test_onnxruntime_prepares_no_telemetry(modules: str, tmp_path: Path) -> None:
    """It makes a device id and a database beside the caches where it means to send anything."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    subprocess.run(
        [sys.executable, "-c", f"import {modules}"],
        cwd=ROOT,
        env={**told, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        timeout=60,
        check=True,
    )
    assert list(tmp_path.iterdir()) == []


async def test_the_log_says_what_happens_and_never_what_was_said(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for name in logs.CHATTY:  # as `logs.configure` does
        caplog.set_level(logging.WARNING, logger=name)
    caplog.set_level(logging.DEBUG)
    async with world.connect() as socket:
        ready = await greet(socket)
        await say(socket, "My password is artichoke.")
        await message(socket, lambda m: m.get("eos") is True and "segments" in m)
        commit = world.language_model.told[-1]
        assert isinstance(commit, Commit)
        key = commit.session, commit.turn, commit.revision
        world.server.handle(ReplyText(*key, "An artichoke it is.", 0.0))
        world.server.handle(ReplyFailed(*key, 'The model broke at "artichoke".'))
        await message(socket, lambda m: m.get("status") == "ERROR")
        await socket.send('{"command": "artichoke"}')
        await message(socket, lambda m: m.get("status") == "ERROR" and "turn" not in m)
    form = logs.JsonLines("transcriber")
    lines = [form.format(record) for record in caplog.records]
    told = [json.loads(line) for line in lines]
    about = {(each["message"], each.get("session"), each.get("turn")) for each in told}
    assert ("a client connects", commit.session, None) in about
    assert ("committed", commit.session, 1) in about
    assert ("the client is told: The model broke at ….", commit.session, 1) in about
    for secret in ("artichoke", ready["audio_key"], ready["resume_key"]):
        assert not [line for line in lines if secret in line]
