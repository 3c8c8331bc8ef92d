"""Killing expectations: whatever breaks in whichever task or thread, somebody answers for it.

An error that nobody expected ends its process, which is started again and answers; an expected one
reaches the client, and ends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from fusion.audio import SAMPLE_RATE
from fusion.errors import FusionError
from fusion.status import Service
from tests.running import RunningServer
from tests.tiny_program import EXPECTED, FAULTS_OF
from whisper_live.client import Closed, Conversation, Event, Failure, ReplyText, Server, Sound, talk

SPEECH = np.tile(np.array([0.5, -0.5], np.float32), SAMPLE_RATE * 3 // 5)
SILENCE = np.zeros(SAMPLE_RATE, np.float32)


# What has no task or thread of its own ends where its result is looked at.
ENDS_IN = {"load": "main thread", "turn detector": "turn-detector", "voice": "event loop"}


class Program:
    """The tiny program, and the file that lets it meet its fault."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, service: Service | None
    ) -> None:
        self.file = folder / "now"
        self.folder = folder
        monkeypatch.setenv("FAULT_FILE", str(self.file))
        if service is not None:
            monkeypatch.setenv("FAULTS", service.name)
        monkeypatch.setenv("TMPDIR", str(self.folder))
        command = (sys.executable, "-m", "tests.tiny_program")
        self.running = RunningServer(("--reply_timeout", "2"), command=command)
        self.server = Server("127.0.0.1", self.running.transcription_port, self.running.speech_port)

    def poke(self) -> None:
        """Connect to every inbox, which then waits for the next connection."""
        for address in self.folder.glob("whisperfusion-*/*_queue"):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(address))

    async def logs(self, line: str, times: int, timeout: float) -> bool:
        """Whether a line comes to be in the log so many times."""
        deadline = time.monotonic() + timeout
        while self.running.log.count(line) < times:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Program]:
    # Not `tmp_path`: the name of a Unix socket holds 107 characters.
    with tempfile.TemporaryDirectory() as folder:
        result = Program(Path(folder), monkeypatch, request.param)
        yield result
        result.running.stop()


async def converse(conversation: Conversation, *, aloud: bool) -> list[Event]:
    """Say something, and hear what comes of it until the turn is over, the sound included."""
    if aloud:
        await conversation.stream(np.concatenate([SPEECH, SILENCE]))
    else:
        await conversation.command("say", text="Hello.")
    came: list[Event] = []

    async def listen() -> None:
        async for event in conversation.events():
            came.append(event)
            complete = any(isinstance(e, ReplyText) and e.final for e in came)
            if isinstance(event, Failure | Closed) or (complete and sounded(came)):
                break

    try:
        await asyncio.wait_for(listen(), 10)
    except asyncio.TimeoutError:
        raise AssertionError(f"only {came}") from None
    return came


def sounded(came: list[Event]) -> bool:
    return any(isinstance(event, Sound) for event in came)


async def is_answered(program: Program) -> None:
    async with talk(program.server, ready_timeout=20) as conversation:
        came = await converse(conversation, aloud=False)
    assert sounded(came), came


async def provoke(program: Program, place: str, line: str, times: int) -> None:
    """Do all that a client can do, until the fault is met; again on a machine that is busy."""
    while not await program.logs(line, times, 0):
        program.file.write_text(place)
        with contextlib.suppress(ConnectionClosed, FusionError, asyncio.TimeoutError):
            async with talk(program.server, ready_timeout=5) as conversation:
                program.poke()
                if place != "inbox":
                    aloud = place in ("transcribe-1", "transcribe-2", "turn detector")
                    await asyncio.wait_for(converse(conversation, aloud=aloud), 5)
                    if place == "closing":
                        await conversation.end_of_audio()
                await program.logs(line, times, 5)


@pytest.mark.parametrize("program", list(FAULTS_OF), indirect=True, ids=lambda s: s.name.lower())
@pytest.mark.timeout(300)
async def test_what_nobody_expected_ends_the_process_which_comes_back(program: Program) -> None:
    service = Service[os.environ["FAULTS"]]
    program.running.start(60)
    for life, place in enumerate(FAULTS_OF[service]):
        if place not in ("load", "watch", "memory"):
            program.running.wait_until_ready()
            await is_answered(program)
            await provoke(program, place, f"{service.label} died", life + 1)
        assert await program.logs(f"{service.label} died", life + 1, 30), program.running.log
    program.running.wait_until_ready()
    await is_answered(program)
    log = program.running.log
    assert log.count("KeyError: 'planted'") == len(FAULTS_OF[service]) == log.count(" died (")
    ends = re.findall("ended by an error in its (.*)", log)
    assert ends == [ENDS_IN.get(place, place) for place in FAULTS_OF[service]]


@pytest.mark.parametrize("program", [None], indirect=True, ids=["all"])
async def test_what_hangs_is_ended_and_answers_after_its_restart(program: Program) -> None:
    program.running.start(60)
    async with talk(program.server, ready_timeout=20) as conversation:
        program.file.write_text("hang of voice")
        # Its process is ended in the middle of the turn, which is said all the same.
        assert sounded(await converse(conversation, aloud=False))
    assert program.running.log.count("the voice hangs: no progress for 1 s") == 1
    program.file.write_text("hang of transcribe-1")
    with contextlib.suppress(ConnectionClosed, FusionError, AssertionError):
        async with talk(program.server, ready_timeout=20) as conversation:
            await converse(conversation, aloud=True)
    assert await program.logs("the transcriber hangs", 1, 30), program.running.log
    program.running.wait_until_ready()
    await is_answered(program)
    assert program.running.log.count(" died (exit code 1)") == 2


@pytest.mark.parametrize("program", [None], indirect=True, ids=["all"])
async def test_what_was_expected_reaches_the_client_and_ends_nothing(program: Program) -> None:
    program.running.start(60)
    async with talk(program.server, ready_timeout=20) as conversation:
        for place in EXPECTED:
            program.file.write_text(place)
            aloud = place in ("transcribe-1", "turn detector")
            came = await converse(conversation, aloud=aloud)
            program.file.unlink()
            if place in ("turn detector", "channel of VOICE"):
                # The turn ends a little later; and what the voice says of itself is not needed.
                assert sounded(came)
            else:
                assert isinstance(came[-1], Failure), (place, came)
                assert came[-1].turn is not None
        came = await converse(conversation, aloud=True)
        assert sounded(came)
    assert " died (" not in program.running.log
    assert "Traceback" not in program.running.log
