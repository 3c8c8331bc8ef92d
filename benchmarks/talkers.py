"""People who talk with the real program while it suffers: typed and spoken, losing connections."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from benchmarks.ledger import Ledger, Wire
from benchmarks.simulated_user import SimulatedUser, person
from tests.recordings import load
from tests.running import RunningServer
from whisper_live.client import Closed, Event, Playback, Server

RECORDINGS = (
    *("brooklyn_bridge", "what_time_is_it", "living_room_lamp", "meaning_of_life"),
    *("swim_in_the_seine", "jfk", "order_mocha_cream"),
)
QUESTIONS = (
    *("What is a river?", "Who was Mozart?", "What do bees make?", "Why is the sky blue?"),
    *("How do I boil an egg?", "What is a good name for a cat?", "Where do penguins live?"),
)

COMMIT_PATIENCE = 15.0
ANSWER_PATIENCE = 75.0  # a restart of everything, a reply timeout and a client's return


@dataclass(frozen=True)
class Tapped(Server):
    """A server whose connections are kept, and what they bring."""

    wire: Wire = field(default_factory=Wire)
    connections: list[ClientConnection] = field(default_factory=list)

    async def open(self, port: int, **query: str) -> ClientConnection:
        connection = await super().open(port, **query)
        if port == self.port:
            self.connections.append(connection)
            self.wire.connected()
            receive = connection.recv

            async def tapped() -> str | bytes:
                message = await receive()
                if isinstance(message, str):
                    self.wire.take(message)
                return message

            connection.recv = tapped  # type: ignore[assignment]
        return connection

    def lose(self) -> None:
        """The latest connection is gone without a word."""
        if self.connections:
            self.connections[-1].transport.abort()


@dataclass
class Talker:
    """One person in a conversation, and what became of each turn."""

    name: str
    server: Tapped
    someone: SimulatedUser
    rng: random.Random
    spoken: float
    ledger: Ledger = field(default_factory=Ledger)
    unheard: int = 0
    """Questions that were lost before they were committed."""
    asked: int = 0
    ended: str = ""
    closed: str = ""
    """Why the client gave the conversation up, if it did."""

    async def converse(self, stop: asyncio.Event) -> None:
        """Ask one question after another."""
        try:
            while not (stop.is_set() or self.closed):
                await self._ask()
                await asyncio.sleep(self.rng.uniform(0.2, 2.0))
        except ConnectionClosed as error:
            self.ended = str(error)
        self.ended = self.ended or self.closed

    async def _ask(self) -> None:
        before = len(self.ledger.turns)
        self.asked += 1
        if self.rng.random() < self.spoken:
            await self.someone.say(load(self.rng.choice(RECORDINGS)))
        else:
            await self.someone.conversation.command("say", text=self.question())
        if not await until(lambda: len(self.ledger.turns) > before, COMMIT_PATIENCE):
            self.unheard += 1
        elif self.rng.random() < 0.15:
            await asyncio.sleep(self.rng.uniform(0.0, 1.5))  # and speak over the answer
        else:
            await until(lambda: not self.ledger.open, ANSWER_PATIENCE)

    def question(self) -> str:
        """What is typed next; no question comes twice."""
        return f"{self.name} asks number {self.asked}: {self.rng.choice(QUESTIONS)}"

    def take(self, event: Event) -> None:
        """Write down what comes."""
        self.ledger.take(event)
        if isinstance(event, Closed):
            self.closed = f"{event.code} {event.reason}"

    async def follow(self) -> None:
        """Take whatever comes, until cancelled."""
        while True:
            for event in self.someone.events:
                self.take(event)
            self.someone.events.clear()
            self.someone.playback = Playback()
            await asyncio.sleep(0.02)


async def until(happened: Callable[[], bool], timeout: float) -> bool:
    """Wait for something; False when it does not happen in time."""
    deadline = time.monotonic() + timeout
    while not happened():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


T = TypeVar("T", bound=Talker)


@contextlib.asynccontextmanager
async def talking(
    running: RunningServer,
    kind: type[T],
    names: Sequence[str],
    prompt: str,
    *,
    seed: int,
    spoken: float,
) -> AsyncIterator[list[T]]:
    """People in conversations, each over connections of its own; `prompt` may hold {name}."""
    async with contextlib.AsyncExitStack() as stack:
        talkers = []
        for name in names:
            server = Tapped("127.0.0.1", running.transcription_port, running.speech_port)
            told = prompt.format(name=name)
            someone = await stack.enter_async_context(person(server, system_prompt=told))
            talkers.append(kind(name, server, someone, random.Random(f"{seed} {name}"), spoken))
        following = [asyncio.create_task(talker.follow()) for talker in talkers]
        try:
            yield talkers
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)


async def disturb(talkers: Sequence[Talker], interval: float, seed: int) -> None:
    """Take the network from one of them now and then."""
    rng = random.Random(f"{seed} network")
    while True:
        await asyncio.sleep(rng.expovariate(1 / interval))
        rng.choice(talkers).server.lose()
