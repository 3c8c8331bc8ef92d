"""Whether a server ends where it began, after people have talked with it for half an hour.

    python -m benchmarks.soak --minutes 30 --people 3 [--json FILE]

People come, ask a few questions with real models, hear the answers, now and then speak over one,
and leave, every second time without a word; others take their places. Resident memory, descriptors,
threads and tasks of every process are looked at when nobody is there: after a warm-up, and at the
end. The exit status is 1 where one of them is not within 5 % (or one more) of what it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.figures import report
from benchmarks.memory import Kept
from benchmarks.processes import Held, look
from benchmarks.simulated_user import SimulatedUser, person
from fusion.errors import FusionError
from tests.recordings import load
from tests.running import RunningServer
from whisper_live.client import Playback, ReplyText

MOST = 1.05
WARM_UP = 3.0
"""Minutes in which everything that is made once has been made."""

QUIET = 45.0
"""Seconds after which a session is over whose client may have come back."""

RECORDINGS = (
    *("brooklyn_bridge", "what_time_is_it", "living_room_lamp", "meaning_of_life"),
    *("swim_in_the_seine", "jfk", "order_mocha_cream", "pause_mid_sentence"),
)
FLAGS = (
    *("--max_handshakes_per_minute", "100000", "--max_connections_per_address", "256"),
    *("--max_clients", "8", "--admission", "fixed"),
)


async def ask(someone: SimulatedUser, rng: random.Random) -> str:
    """Ask one question and say what became of it."""
    someone.events.clear()
    someone.playback = Playback()
    await someone.say(load(rng.choice(RECORDINGS)))
    try:
        await someone.until(ReplyText, lambda reply: reply.final, timeout=40)
    except FusionError:
        return "unanswered"
    await someone.listen(rng.uniform(0.2, 4.0))  # sometimes they speak over the answer
    return "answered"


async def visit(running: RunningServer, rng: random.Random, done: Counter[str]) -> None:
    """Come, ask a few questions and leave."""
    server = Kept("127.0.0.1", running.transcription_port, running.speech_port)
    done["visits"] += 1
    async with person(server) as someone:
        for _ in range(rng.randint(1, 5)):
            done[await ask(someone, rng)] += 1
        if rng.random() < 0.5:
            server.connections[-1].transport.abort()


async def talk_for(
    running: RunningServer, minutes: float, people: int, rng: random.Random
) -> Counter[str]:
    """Let people come and go for so long; what became of their questions."""
    done: Counter[str] = Counter()
    until = time.monotonic() + 60 * minutes

    async def one_after_another(rng: random.Random) -> None:
        while time.monotonic() < until:
            try:
                await visit(running, rng, done)
            except FusionError as error:
                done[f"turned away: {error}"] += 1
                await asyncio.sleep(1.0)
            await asyncio.sleep(rng.uniform(0.0, 3.0))

    await asyncio.gather(*(one_after_another(random.Random(rng.random())) for _ in range(people)))
    return done


def grown(before: dict[str, Held], after: dict[str, Held]) -> list[str]:
    """What did not come back to where it was. Pure."""
    found = []
    for process, held in before.items():
        if process not in after:
            found.append(f"{process}: gone")
            continue
        now = asdict(after[process])
        for what, count in asdict(held).items():
            most = 0 if count is None else max(count * MOST, count + (what != "rss"))
            if count is not None and (now[what] is None or now[what] > most):
                found.append(f"{process}: {what} {count} -> {now[what]}")
    return found


async def measure(running: RunningServer, options: argparse.Namespace) -> dict[str, object]:
    """Warm up, look, let people talk, look again."""
    rng = random.Random(options.seed)
    await talk_for(running, min(WARM_UP, options.minutes), options.people, rng)
    await asyncio.sleep(QUIET)
    before = look(running)
    print(json.dumps({"before": {name: asdict(each) for name, each in before.items()}}), flush=True)
    done = await talk_for(running, options.minutes, options.people, rng)
    await asyncio.sleep(QUIET)
    after = look(running)
    return {
        "minutes": options.minutes,
        "people at once": options.people,
        **done,
        "before": {name: asdict(each) for name, each in before.items()},
        "after": {name: asdict(each) for name, each in after.items()},
        "grown": grown(before, after),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--people", type=int, default=3, help="how many talk at once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    with RunningServer(FLAGS) as running:
        result = asyncio.run(measure(running, options))
    report(result, [], options.json)
    return 1 if result["grown"] else 0


if __name__ == "__main__":
    sys.exit(main())
