"""How many people two cores let in, and how those inside fare.

    python -m benchmarks.load --people 1 2 4 8 16 --turns 30 [--admission fixed] [--json FILE]

For each number, so many people want to talk at once with one server: those who are let in ask a
question every twelve seconds or so and listen to the answer. The figures are of their voice to
voice latency; `ratio` is its 95th percentile by that of one who talks alone. All in one run, the
calm one at its beginning and its end: quote the ratios. The exit status is 1 if one is above 1.5.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import median, p95, report
from benchmarks.simulated_user import SimulatedUser, person
from benchmarks.voice_to_voice import address, first_sound
from fusion.capacity import ANSWER_TOKENS, CYCLE
from fusion.errors import FusionError
from tests.recordings import FOLDER, load
from tests.running import RunningServer
from whisper_live.client import Samples, ServerFullError

MOST = 1.5
_PROMPT = "You are a friendly voice assistant. Answer in one short sentence."
_AFTER = 1.0  # seconds that are listened to an answer at least
_MOST_WORDS = 10
_ALONE = 5.0  # seconds from question to question where nobody else is there to be met


def recordings() -> list[tuple[Samples, float]]:
    """Short questions, and when the last word of each ends (seconds)."""
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    return [
        (load(entry["file"].removesuffix(".wav")), entry["end_of_speech"])
        for entry in manifest
        if entry["category"] == "speech" and 3 < len(entry["text"].split()) <= _MOST_WORDS
    ]


async def ask(
    someone: SimulatedUser, rng: random.Random, until: float, cycle: float
) -> list[float | None]:
    """Ask until a moment (monotonic); seconds to each first sound, None where there was none."""
    questions = recordings()
    waits: list[float | None] = []
    await asyncio.sleep(rng.uniform(0, cycle))
    while time.monotonic() < until:
        next_at = time.monotonic() + rng.uniform(0.6, 1.4) * cycle
        samples, end = rng.choice(questions)
        ended = await someone.say(samples) + end
        try:
            waits.append((await first_sound(someone, ended)).at - ended)
        except FusionError:
            waits.append(None)
        await someone.listen(max(_AFTER, next_at - time.monotonic()))
        await someone.conversation.command("interrupt")
        someone.events.clear()
    return waits


@dataclass
class Crowd:
    """People who come at once, and the waits of those who are let in (seconds)."""

    people: int
    inside: int = 0
    refused: int = 0
    answered: list[float] = field(default_factory=list)
    unheard: int = 0

    def summary(self) -> dict[str, object]:
        return {
            "people": self.people,
            "inside": self.inside,
            "told to wait": self.refused,
            "questions": len(self.answered) + self.unheard,
            "without sound": self.unheard,
            "median": median(self.answered),
            "p95": p95(self.answered),
        }

    def ratio(self, calm: float | None) -> float | None:
        """The slowest of twenty answers by the calm one's."""
        slowest = p95(self.answered)
        return round(slowest / calm, 2) if slowest and calm else None


async def gather(running: RunningServer, crowd: Crowd, turns: float, rng: random.Random) -> None:
    """Let them come, and those who are let in ask about so many questions together."""
    async with contextlib.AsyncExitStack() as stack:
        inside = []
        for _ in range(crowd.people):
            try:
                someone = await stack.enter_async_context(
                    person(address(running), system_prompt=_PROMPT)
                )
            except ServerFullError:
                continue
            await someone.conversation.command("configure", max_tokens=ANSWER_TOKENS)
            inside.append(someone)
        crowd.inside, crowd.refused = len(inside), crowd.people - len(inside)
        cycle = CYCLE if crowd.people > 1 else _ALONE
        until = time.monotonic() + turns / max(len(inside), 1) * cycle
        found = await asyncio.gather(
            *(ask(someone, random.Random(rng.random()), until, cycle) for someone in inside)
        )
    waits = [wait for each in found for wait in each]
    crowd.answered += [wait for wait in waits if wait is not None]
    crowd.unheard += waits.count(None)


async def measure(running: RunningServer, options: argparse.Namespace) -> list[Crowd]:
    """One number of people after another, in each round; what came of each number."""
    crowds = {people: Crowd(people) for people in options.people}
    for number in range(options.rounds):
        for people, crowd in crowds.items():
            turns = options.turns / options.rounds
            await gather(running, crowd, turns, random.Random(f"{options.seed} {number} {people}"))
            print(number, json.dumps(crowd.summary()), flush=True)
            await asyncio.sleep(1.0)
    return list(crowds.values())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--people", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--turns", type=float, default=30, help="questions for each number")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--admission", default="measured", choices=("measured", "fixed"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    flags = ("--max_clients", str(max(options.people)), "--admission", options.admission)
    with RunningServer(flags) as running:
        health = running.health()[1].splitlines()
        crowds = asyncio.run(measure(running, options))
    calm = p95(min(crowds, key=lambda crowd: crowd.people).answered)
    rows = [{**crowd.summary(), "ratio": crowd.ratio(calm)} for crowd in crowds]
    summary = {
        "admission": options.admission,
        "measured at start": health[1:],
        "calm p95": calm,
        "by people": rows,
    }
    report(summary, [], options.json)
    ratios = [row["ratio"] for row in rows]
    return 0 if all(isinstance(ratio, float) and ratio <= MOST for ratio in ratios) else 1


if __name__ == "__main__":
    sys.exit(main())
