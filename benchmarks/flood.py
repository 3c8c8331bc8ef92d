"""How a bystander fares while others flood the server.

    python -m benchmarks.flood [--turns 8] [--json FILE] [flood …]

Somebody asks spoken questions and listens to the answers. For each flood, calm and flooded blocks
of questions take turns in one run, so that a change in the machine's speed meets both alike: quote
the ratio of the medians. `/healthz` is asked all the while. The exit status is 1 if a ratio is
above 2.

Clients that come in numbers name other addresses, as a proxy on this machine does for its clients:
one address is held back by the limits of docs/reliability.md. Nobody but the bystander asks
anything in words, so what is measured is what floods cost, not another speaker's turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from benchmarks.figures import median, report
from benchmarks.memory import speech_with_holes
from benchmarks.simulated_user import SimulatedUser, person
from benchmarks.voice_to_voice import address, first_sound
from fusion.errors import FusionError
from tests.recordings import FOLDER, load
from tests.running import RunningServer

MOST = 2.0
CLIENTS = 3
FLAGS = (*("--max_clients", "6"), *("--admission", "fixed"))
QUESTIONS = ("brooklyn_bridge", "what_time_is_it", "living_room_lamp", "swim_in_the_seine")
_BLOCK = 2  # questions
_BEGINS, _PAUSE = 4.0, 2.0  # seconds until a flood is there, and after it
_PROMPT = "You are a friendly voice assistant. Answer in one short sentence."


@dataclass(frozen=True)
class Ports:
    """Where the server is, for a process of its own."""

    transcription_port: int
    speech_port: int
    web_port: int


Flood = Callable[[Ports], Awaitable[None]]


async def _again(work: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again, whatever becomes of it."""
    while True:
        with contextlib.suppress(OSError, WebSocketException, asyncio.TimeoutError, EOFError):
            await work()
        await asyncio.sleep(0.001)


async def _together(count: int, work: Callable[[], Awaitable[None]]) -> None:
    await asyncio.gather(*(_again(work) for _ in range(count)))


_numbers = itertools.count(1)


def _elsewhere() -> dict[str, str]:
    """A header of somebody at an address that nobody has had."""
    number = next(_numbers)
    return {"X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}


def _url(ports: Ports) -> str:
    return f"ws://127.0.0.1:{ports.transcription_port}"


async def _send_audio(ports: Ports, message: bytes, audio_format: str, sample_rate: int) -> None:
    hello = {"audio_format": audio_format, "sample_rate": sample_rate, "reply": False}
    async with connect(_url(ports), additional_headers=_elsewhere(), proxy=None) as socket:
        await socket.send(json.dumps({"uid": "flood", **hello}))
        while True:
            await socket.send(message)


async def big_messages(ports: Ports) -> None:
    """1 MiB messages of 8 kHz int16: a minute of speech in each."""
    audio = np.resize(load("jfk")[::2], 1 << 19)
    message = (audio * 32767).astype("<i2").tobytes()
    await _together(CLIENTS, lambda: _send_audio(ports, message, "int16", 8000))


async def fast_audio(ports: Ports) -> None:
    """Speech full of short pauses, in small messages, as fast as it is taken."""
    message = speech_with_holes(60)[:4096].astype("<f4").tobytes()
    await _together(CLIENTS, lambda: _send_audio(ports, message, "float32", 16000))


async def unfinished_requests(ports: Ports) -> None:
    """Three hundred connections to the page's port that never finish their headers."""

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", ports.web_port)
        with contextlib.closing(writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            while True:
                await asyncio.sleep(1.0)
                writer.write(b"X-More: 1\r\n")
                if reader.at_eof():
                    return

    await _together(300, ask)


async def connects(ports: Ports) -> None:
    """Clients that come, say hello and go."""

    async def come_and_go() -> None:
        async with connect(_url(ports), additional_headers=_elsewhere(), proxy=None) as socket:
            await socket.send('{"uid": "passing by"}')
            await socket.recv()

    await _together(CLIENTS, come_and_go)


async def history(ports: Ports) -> None:
    """Clients that hand over 400 kB of a conversation, and go."""
    texts = ("What is it? " * 300, "It is what it is. " * 200)
    turns = [
        {"role": role, "content": text}
        for _ in range(55)
        for role, text in zip(("user", "assistant"), texts, strict=True)
    ]
    hello = json.dumps({"uid": "remembering", "history": turns})
    assert len(hello) > 400_000

    async def remember() -> None:
        async with connect(_url(ports), additional_headers=_elsewhere(), proxy=None) as socket:
            await socket.send(hello)
            await socket.recv()

    await _together(CLIENTS, remember)


async def deaf(ports: Ports) -> None:
    """Clients that ask in writing and read neither text nor sound."""

    async def never_read() -> None:
        async with connect(_url(ports), additional_headers=_elsewhere(), proxy=None) as socket:
            await socket.send(json.dumps({"uid": "deaf", "stream": True}))
            key = json.loads(await socket.recv())["audio_key"]
            url = f"ws://127.0.0.1:{ports.speech_port}/?key={key}"
            async with connect(url, additional_headers=_elsewhere(), proxy=None) as sound:
                for each in (socket, sound):
                    each.transport.pause_reading()
                while True:
                    await socket.send('{"command": "say", "text": "Count from one to a hundred."}')
                    await asyncio.sleep(5.0)

    await _together(CLIENTS, never_read)


FLOODS: dict[str, Flood] = {
    each.__name__.replace("_", " "): each
    for each in (big_messages, fast_audio, unfinished_requests, connects, history, deaf)
}


def flood(name: str, ports: Ports) -> None:
    """Flood until killed, with what processor time the server leaves: strangers have their own."""
    os.nice(10)
    asyncio.run(FLOODS[name](ports))


@contextlib.asynccontextmanager
async def under(name: str, ports: Ports) -> AsyncIterator[None]:
    """Let a flood run in a process of its own while the body does; with no name, none."""
    if not name:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=flood, args=(name, ports))
    process.start()
    await asyncio.sleep(_BEGINS)
    try:
        yield
        assert process.is_alive(), f"the flood of {name} has ended"
    finally:
        process.kill()
        process.join()
        await asyncio.sleep(_PAUSE)


@dataclass
class Waits:
    """Seconds that the bystander waited: for first sounds, and for `/healthz`."""

    sounds: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    unanswered: int = 0


async def ask(someone: SimulatedUser, name: str, waits: Waits) -> None:
    """Ask one question, listen a little, and ask for silence."""
    someone.events.clear()
    ended = await someone.say(load(name)) + end_of_speech(name)
    try:
        waits.sounds.append((await first_sound(someone, ended)).at - ended)
    except FusionError:
        waits.unanswered += 1
    await someone.listen(0.5)
    await someone.conversation.command("interrupt")
    await someone.listen(0.5)


def end_of_speech(name: str) -> float:
    """When the last word of a recording ends, in seconds."""
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    return next(float(each["end_of_speech"]) for each in manifest if each["file"] == f"{name}.wav")


async def look_at_health(ports: Ports, waits: Waits) -> None:
    """Ask a port every quarter of a second whether all is well."""

    def get() -> None:
        url = f"http://127.0.0.1:{ports.transcription_port}/healthz"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30):
            pass

    while True:
        began = time.monotonic()
        await asyncio.to_thread(get)
        waits.health.append(time.monotonic() - began)
        await asyncio.sleep(0.25)


async def measure(running: RunningServer, name: str, turns: int) -> dict[str, object]:
    """Calm and flooded blocks of two questions in turn."""
    ports = Ports(running.transcription_port, running.speech_port, running.web_port)
    waits = {"": Waits(), name: Waits()}
    questions = itertools.cycle(QUESTIONS)
    async with person(address(running), system_prompt=_PROMPT) as someone:
        await ask(someone, next(questions), Waits())
        for _ in range(turns // _BLOCK):
            block = [next(questions) for _ in range(_BLOCK)]
            for which, results in waits.items():
                async with under(which, ports):
                    looking = asyncio.ensure_future(look_at_health(ports, results))
                    for question in block:
                        await ask(someone, question, results)
                    looking.cancel()
    calm, flooded = waits[""], waits[name]
    slow, quick = median(flooded.sounds), median(calm.sounds)
    return {
        "flood": name,
        "questions": turns,
        "calm": _figures(calm),
        "flooded": _figures(flooded),
        "ratio": round(slow / quick, 2) if slow and quick else None,
    }


def _figures(waits: Waits) -> dict[str, object]:
    return {
        "median": round(median(waits.sounds) or 0.0, 3),
        "most": round(max(waits.sounds, default=0.0), 3),
        "unanswered": waits.unanswered,
        "healthz, most": round(max(waits.health, default=0.0), 3),
    }


async def measure_all(running: RunningServer, names: list[str], turns: int) -> list[dict[str, Any]]:
    rows = []
    for name in names:
        rows.append(await measure(running, name, turns))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("floods", nargs="*", help=", ".join(FLOODS))
    parser.add_argument("--turns", type=int, default=8, help="questions in calm and under each")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    with RunningServer(FLAGS) as running:
        rows = asyncio.run(measure_all(running, options.floods or list(FLOODS), options.turns))
    ratios = {row["flood"]: row["ratio"] for row in rows}
    report({"ratios": ratios, "most": MOST}, rows, options.json)
    return int(any(ratio is None or ratio > MOST for ratio in ratios.values()))


if __name__ == "__main__":
    sys.exit(main())
