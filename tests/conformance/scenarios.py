"""What every Realtime client does with the server: the same scenarios, whatever the library.

Runs in the environment of each client, with nothing of ours. A script beside this one makes a
`Client` of its library and calls `run`: `python SCRIPT.py PORT SOUNDS`, where SOUNDS is a folder of
questions as 16 bits at 24 kHz.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

RATE = 24_000
_PIECE = 2 * RATE // 20  # bytes: 50 ms
_SILENCE = bytes(2 * RATE)
_TIMEOUT = 60.0
_NUMBERS = [
    *["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    *["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"],
    *["eighteen", "nineteen", "twenty"],
]

INSTRUCTIONS = "You are a helpful assistant. Answer in one short sentence."
LAMP = {
    "type": "object",
    "properties": {"room": {"type": "string"}},
    "required": ["room"],
    "additionalProperties": False,
}
"""The parameters of the function `turn_on_lamp`."""
LAMP_SAYS = "Done. The lamp is on now, its colour is orange. Tell the colour."


@dataclass
class Log:
    """What the library told its user."""

    said: list[str] = field(default_factory=list)
    """What the person said, as it was understood."""
    replies: list[str] = field(default_factory=list)
    """Each response that is over, in its words."""
    seconds: float = 0.0
    """Sound of all of them that came."""
    interruptions: int = 0
    calls: list[str] = field(default_factory=list)
    """Rooms whose lamp was to be turned on."""
    errors: list[str] = field(default_factory=list)
    events: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self) -> None:
        """Something of the above is another now."""
        self.changed.set()

    async def until(self, what: str, reached: Callable[[], bool]) -> None:
        """Wait for it. Raises AssertionError after a minute, with everything that is known."""
        deadline = time.monotonic() + _TIMEOUT
        while not reached():
            self.changed.clear()
            left = deadline - time.monotonic()
            try:
                await asyncio.wait_for(self.changed.wait(), max(0.0, left))
            except asyncio.TimeoutError:
                raise AssertionError(f"no {what} within {_TIMEOUT:.0f} s: {self}") from None


class Client(ABC):
    """One conversation by way of a library. `log` is what came of it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.log = Log()

    @abstractmethod
    def connected(
        self, *, listens: bool, tools: bool
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """Be connected while the context lasts. `listens`: the server notices turns by itself;
        `tools`: there is the function `turn_on_lamp`."""

    @abstractmethod
    async def append(self, sound: bytes) -> None:
        """Send some sound of the person's."""

    @abstractmethod
    async def commit(self) -> None:
        """Push to talk: what was sent is a turn; have it answered."""

    @abstractmethod
    async def types(self, text: str) -> None:
        """A typed turn; have it answered."""

    @abstractmethod
    async def blunder(self) -> None:
        """Do something that the server has to refuse."""


class Person:
    """Speaks real sentences at their real pace."""

    def __init__(self, client: Client, sounds: Path) -> None:
        self.client = client
        self.log = client.log
        self._sounds = sounds

    async def says(self, name: str, *, silence: bytes = _SILENCE) -> None:
        """A recording as a microphone brings it, and the silence after it."""
        sound = (self._sounds / f"{name}.raw").read_bytes() + silence
        started = time.monotonic()
        for place in range(0, len(sound), _PIECE):
            due = started + place / (2 * RATE)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.client.append(sound[place : place + _PIECE])

    async def reply_to(self, turn: Awaitable[None]) -> str:
        """What is answered to what is done now; to all of it, where that are several replies."""
        before = len(self.log.replies)
        await turn
        await self.log.until("reply", lambda: len(self.log.replies) > before)
        return " ".join(self.log.replies[before:])


async def spoken_question(person: Person) -> None:
    """A spoken question is answered aloud."""
    reply = await person.reply_to(person.says("question"))
    assert _bridge(person.log), person.log
    assert reply, person.log
    assert person.log.seconds > 1.0, person.log


async def second_turn(person: Person) -> None:
    """A second spoken turn needs the first."""
    await person.reply_to(person.says("question"))
    await asyncio.sleep(person.log.seconds)  # it is listened to, and not interrupted
    reply = await person.reply_to(person.says("follow_up"))
    assert _bridge(person.log) in reply.lower(), person.log
    assert len(person.log.said) == 2, person.log


async def barge_in(person: Person) -> None:
    """Speech stops the reply, and the model knows only as much of it as was played."""
    log = person.log
    counting = asyncio.create_task(
        person.reply_to(
            person.client.types(
                "Count aloud from one to thirty: write each number as a word, with commas."
            )
        )
    )
    await log.until("sound", lambda: log.seconds > 0)
    await asyncio.sleep(2.5)
    before = len(log.replies)
    answered = len(log.said)
    await person.says("interruption")
    await log.until("interruption", lambda: log.interruptions > 0)
    await log.until("words", lambda: len(log.said) > answered)
    await counting
    # A library that saw the counting end before it was interrupted sees one reply from then on.
    await log.until("answer to the interruption", lambda: len(log.replies) > max(before, 1))
    await asyncio.sleep(1.0)
    reply = await person.reply_to(
        person.client.types("Which number did you say last when you counted? Only the number.")
    )
    numbers = _numbers(reply)
    assert numbers, reply
    # In 2.5 s and what the interruption took to be noticed, about ten are said; of thirty.
    assert max(numbers) < 20, f"knows {reply!r}: {log}"


async def function_call(person: Person) -> None:
    """A spoken wish calls a function, whose result is spoken."""
    reply = await person.reply_to(person.says("wish"))
    log = person.log
    await log.until("call", lambda: bool(log.calls))
    await log.until("spoken result", lambda: "orange" in " ".join(log.replies).lower())
    assert log.seconds > 0, (reply, log)
    assert "living" in log.calls[0].lower(), log


async def push_to_talk(person: Person) -> None:
    """Without a detector nothing is answered until the client says so."""
    await person.says("question")
    await asyncio.sleep(1.0)
    assert not person.log.replies, person.log
    await person.reply_to(person.client.commit())
    log = person.log
    await log.until("words", lambda: bool(log.said))
    assert _bridge(log), log
    assert log.seconds > 0, log


async def text_in_audio_out(person: Person) -> None:
    """A typed question is answered aloud."""
    reply = await person.reply_to(person.client.types("What is the capital of France?"))
    assert "Paris" in reply, person.log
    assert person.log.seconds > 0.3, person.log


async def error_leaves_it_open(person: Person) -> None:
    """What is refused is told, and the conversation goes on."""
    log = person.log
    await person.client.blunder()
    await log.until("error", lambda: bool(log.errors))
    log.errors.clear()
    assert await person.reply_to(person.client.types("Say hello.")), log


SCENARIOS = (
    *(spoken_question, second_turn, barge_in, function_call),
    *(push_to_talk, text_in_audio_out, error_leaves_it_open),
)


def _bridge(log: Log) -> str:
    """The bridge as it was understood: on a busy machine the smallest Whisper may miss its name."""
    name = re.match(r"how old is the ([\w' ]+) bridge", log.said[0].lower())
    return name.group(1) if name else ""


def _numbers(text: str) -> list[int]:
    words = re.findall(r"\d+|[a-z]+", text.lower())
    tens = {"twenty": 20, "thirty": 30, "forty": 40}
    digits = [int(word) for word in words if word.isdigit()]
    named = [_NUMBERS.index(word) for word in words if word in _NUMBERS]
    return digits + named + [tens[word] for word in words if word in tens]


async def _all(make: Callable[[int], Client], port: int, sounds: Path, wanted: list[str]) -> int:
    failed, events = 0, 0
    for scenario in SCENARIOS:
        if wanted and scenario.__name__ not in wanted:
            continue
        client = make(port)
        started = time.monotonic()
        listens, tools = scenario is not push_to_talk, scenario is function_call
        try:
            async with client.connected(listens=listens, tools=tools):
                await scenario(Person(client, sounds))
            assert not client.log.errors, client.log
            print(f"  {scenario.__name__}: {time.monotonic() - started:.1f} s", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"  FAILED: {scenario.__name__}: {error}", flush=True)
        events += client.log.events
    print(f"  {events} events", flush=True)
    return failed


def run(name: str, make: Callable[[int], Client]) -> int:
    """Go through all scenarios, or those named on the command line; how many failed."""
    print(name, flush=True)
    port, sounds, *wanted = sys.argv[1:]
    return asyncio.run(_all(make, int(port), Path(sounds), wanted))


@contextlib.asynccontextmanager
async def beside(work: Awaitable[None]) -> AsyncIterator[None]:
    """Run `work` while the context lasts; what it raises comes out at the end."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        if task.done():
            task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
