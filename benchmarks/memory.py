"""Whether memory comes back after what strangers do to it.

    python -m benchmarks.memory [--json FILE] [holes connects visits]

One client sends speech full of short pauses for 20 s, as fast as it is taken; 1,500 clients come
and go; 50 people visit one after another, ask, listen and leave, every second without a word. For
each: the resident memory of every process in MB before, the most meanwhile, and after 30 quiet
seconds. The exit status is 1 where one has grown by more than 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.figures import report
from benchmarks.processes import held, names
from benchmarks.simulated_user import person
from fusion.audio import SAMPLE_RATE
from tests.recordings import load
from tests.running import RunningServer
from whisper_live.client import ReplyText, Samples, Server

MOST = 1.05
QUIET = 30.0
QUESTIONS = ("brooklyn_bridge", "what_time_is_it", "living_room_lamp", "swim_in_the_seine")
FLAGS = (
    *("--max_handshakes_per_minute", "1000000", "--max_connections_per_address", "256"),
    *("--admission", "fixed"),
)
_HOLE, _SPEECH = round(0.1 * SAMPLE_RATE), round(0.3 * SAMPLE_RATE)


def speech_with_holes(seconds: float) -> Samples:
    """Somebody speaking, silenced for a tenth of a second after every 0.3 s."""
    speech = load("jfk")
    pieces = [
        np.pad(speech[first : first + _SPEECH], (0, _HOLE))
        for first in range(0, len(speech) - _SPEECH, _SPEECH)
    ]
    whole = np.concatenate(pieces)
    return np.resize(whole, round(seconds * SAMPLE_RATE))


@dataclass(frozen=True)
class Kept(Server):
    """A server whose connections are kept, to lose them."""

    connections: list[ClientConnection] = field(default_factory=list)

    async def open(self, port: int, **query: str) -> ClientConnection:
        connection = await super().open(port, **query)
        self.connections.append(connection)
        return connection


async def holes(running: RunningServer) -> None:
    """Twenty seconds of sending as much as is taken."""
    audio = (speech_with_holes(60) * 32767).astype("<i2").tobytes()
    async with connect(f"ws://127.0.0.1:{running.transcription_port}", proxy=None) as socket:
        await socket.send(json.dumps({"uid": "holes", "audio_format": "int16", "reply": False}))
        until = time.monotonic() + 20
        with contextlib.suppress(asyncio.TimeoutError, ConnectionClosed):
            while (left := until - time.monotonic()) > 0:
                await asyncio.wait_for(socket.send(audio[: 1 << 20]), left)
        socket.transport.abort()


async def connects(running: RunningServer, count: int = 1500) -> None:
    """Clients that come, say hello and go, four at a time."""
    hello = json.dumps({"uid": "passing by", "stream": True})
    left = iter(range(count))

    async def come_and_go() -> None:
        for _ in left:
            with contextlib.suppress(ConnectionClosed):
                url = f"ws://127.0.0.1:{running.transcription_port}"
                async with connect(url, proxy=None) as socket:
                    await socket.send(hello)
                    await socket.recv()

    await asyncio.gather(*(come_and_go() for _ in range(4)))


async def visits(running: RunningServer, count: int = 50) -> None:
    """People who ask one question, hear the answer and leave."""
    rng = random.Random(1)
    for number in range(count):
        server = Kept("127.0.0.1", running.transcription_port, running.speech_port)
        async with person(server) as someone:
            await someone.say(load(rng.choice(QUESTIONS)))
            await someone.until(ReplyText, lambda reply: reply.final)
            await asyncio.sleep(0.5)
            if number % 2:
                server.connections[-1].transport.abort()


SCENARIOS: dict[str, Callable[[RunningServer], Awaitable[None]]] = {
    "holes": holes,
    "connects": connects,
    "visits": visits,
}


@contextlib.asynccontextmanager
async def most(running: RunningServer) -> AsyncIterator[dict[str, float]]:
    """The most resident memory of each process while the body runs."""
    found: dict[str, float] = {}
    processes = names(running)

    async def watch() -> None:
        while True:
            for name, pid in processes.items():
                found[name] = max(found.get(name, 0.0), held(pid).rss)
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    yield found
    watching.cancel()


def resident(running: RunningServer) -> dict[str, float]:
    return {name: held(pid).rss for name, pid in names(running).items()}


async def measure(scenarios: list[str]) -> list[dict[str, object]]:
    results: list[dict[str, object]] = []
    with RunningServer(FLAGS) as running:
        await asyncio.gather(*(visits(running, 3) for _ in range(3)))  # all that is made once
        await asyncio.sleep(QUIET)
        for name in scenarios:
            before, began = resident(running), time.monotonic()
            async with most(running) as peak:
                await SCENARIOS[name](running)
            took = time.monotonic() - began
            await asyncio.sleep(QUIET)
            after = resident(running)
            results.append(
                {
                    "scenario": name,
                    "seconds": round(took, 1),
                    "MB": {each: [before[each], peak[each], after[each]] for each in before},
                    "grown": max(after[each] / before[each] for each in before),
                }
            )
            print(json.dumps(results[-1]), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", help=", ".join(SCENARIOS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = asyncio.run(measure(arguments.scenarios or list(SCENARIOS)))
    grown = max(float(str(each["grown"])) for each in results)
    report({"grown": round(grown, 3), "most": MOST}, results, arguments.json)
    sys.exit(grown > MOST)


if __name__ == "__main__":
    main()
