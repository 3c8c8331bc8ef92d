"""Kills, segmentation faults and stops of all three processes while people talk.

    python -m benchmarks.chaos --faults 200 --people 6 --seed 1 [--prompts] [--json FILE]

Each person speaks recordings and types questions, now and then over the answer, and loses the
connection now and then. Every turn that a client saw committed has to end in exactly one reply or
one error, also where the client had to come back; the exit status is 1 otherwise.

`--prompts` puts a model server behind the language model's process that shows what it is asked:
whether the conversation before the faults is in the prompt, and no question twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults import Injector
from benchmarks.figures import median, p95, report
from benchmarks.ledger import Turn
from benchmarks.scripted_model import ScriptedModel
from benchmarks.talkers import ANSWER_PATIENCE, Talker, disturb, talking, until
from tests.running import RunningServer
from whisper_live.client import ReplyText

NAMES = ("Heron", "Badger", "Otter", "Falcon", "Lynx", "Marten", "Raven", "Beaver")
PROMPT = "You talk with {name}. Answer in one short sentence."

_SETTLE = 0.5  # seconds before a prompt within which an answer may not have reached it


async def suffer(
    running: RunningServer, options: argparse.Namespace
) -> tuple[list[Talker], Injector]:
    """Let people talk until all faults have happened and every turn has ended, or has not."""
    injector = Injector(running, options.seed, options.interval)
    stop = asyncio.Event()
    names = NAMES[: options.people]
    async with talking(
        running, Talker, names, PROMPT, seed=options.seed, spoken=options.spoken
    ) as talkers:
        conversations = [asyncio.create_task(talker.converse(stop)) for talker in talkers]
        network = asyncio.create_task(disturb(talkers, 5 * options.interval, options.seed))
        progress = asyncio.create_task(tell(talkers, injector))
        await injector.run(options.faults)
        for task in (network, progress):
            task.cancel()
        stop.set()
        await asyncio.gather(*conversations)
        await until(lambda: not any(talker.ledger.open for talker in talkers), ANSWER_PATIENCE)
    return talkers, injector


async def tell(talkers: Sequence[Talker], injector: Injector) -> None:
    """Say now and then how far it is."""
    while True:
        await asyncio.sleep(30)
        turns = [turn for talker in talkers for turn in talker.ledger.turns]
        ended = sum(bool(turn.ends) for turn in turns)
        print(f"{len(injector.times)} faults, {len(turns)} turns, {ended} ended", flush=True)


def next_answers(turns: Sequence[Turn], faults: Sequence[float]) -> list[float]:
    """Seconds from each fault to the next complete answer that anybody got. Pure."""
    answers = sorted(end.at for turn in turns for end in turn.ends if isinstance(end, ReplyText))
    after = [next((at - fault for at in answers if at > fault), None) for fault in faults]
    return [seconds for seconds in after if seconds is not None]


Prompts = Sequence[tuple[float, Sequence[dict[str, str]]]]


def forgotten(talker: Talker, prompts: Prompts) -> tuple[list[str], list[str]]:
    """Questions that a prompt lacks though they were answered shortly before, and those that stand
    twice in one. Pure."""
    lacking, twice = [], []
    for at, messages in prompts:
        if PROMPT.format(name=talker.name) not in messages[0]["content"]:
            continue
        said = "\n".join(m["content"] for m in messages if m["role"] == "user")
        answered = [t for t in talker.ledger.turns if t.reply and t.reply.at < at - _SETTLE]
        lacking += [turn.question for turn in answered[-3:] if turn.question not in said]
        typed = {t.question for t in talker.ledger.turns if t.question.startswith(talker.name)}
        twice += [question for question in typed if said.count(question) > 1]
    return lacking, twice


def summary(
    talkers: Sequence[Talker], injector: Injector, options: argparse.Namespace, minutes: float
) -> dict[str, object]:
    """What came of it."""
    turns = [turn for talker in talkers for turn in talker.ledger.turns]
    waits = next_answers(turns, injector.times)
    replies = [turn for turn in turns if turn.reply]
    ends = [turn.ends[0] for turn in turns if turn.ends]
    errors = [end.message for end in ends if not isinstance(end, ReplyText)]
    again = [turn for turn in turns if turn.asked_again]
    return {
        "seed": options.seed,
        "people": options.people,
        "minutes": round(minutes, 1),
        "faults": len(injector.times),
        "of these": dict(sorted(injector.done.items())),
        "connections": sum(len(talker.server.connections) for talker in talkers),
        "committed turns": len(turns),
        "replies": len(replies),
        "interrupted": sum(isinstance(end, ReplyText) and end.interrupted for end in ends),
        "errors": {message: errors.count(message) for message in sorted(set(errors))},
        "asked again by the client": len(again),
        "replies without sound": sum(not (turn.sounded or turn.cut) for turn in replies),
        "lost before the commit": sum(talker.unheard for talker in talkers),
        "seconds to the next answer": {
            "median": median(waits),
            "p95": p95(waits),
            "longest": max(waits, default=None),
        },
        "unanswered": [turn.question for turn in turns if not turn.ends],
        "twice": [turn.question for talker in talkers for turn in talker.ledger.twice],
        "twice on the wire": sum(talker.server.wire.twice for talker in talkers),
        "answers to nothing": sum(len(talker.ledger.strays) for talker in talkers),
        "conversations that ended": [talker.ended for talker in talkers if talker.ended],
    }


FAULTS = (
    *("unanswered", "twice", "twice on the wire", "answers to nothing"),
    *("conversations that ended", "lacking in a prompt", "twice in a prompt"),
)
"""What has to be nothing."""


def run(options: argparse.Namespace) -> dict[str, object]:
    flags = ["--max_clients", str(options.people), *options.flags.split()]
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(ScriptedModel()) if options.prompts else None
        if model is not None:
            flags += ["--llm_backend", "openai_api", "--openai_url", model.url]
        running = stack.enter_context(RunningServer(tuple(flags)))
        began = time.monotonic()
        talkers, injector = asyncio.run(suffer(running, options))
        found = summary(talkers, injector, options, (time.monotonic() - began) / 60)
        if model is not None:
            checked = [forgotten(talker, model.prompts) for talker in talkers]
            found["prompts"] = len(model.prompts)
            found["lacking in a prompt"] = [text for lacking, _ in checked for text in lacking]
            found["twice in a prompt"] = [text for _, twice in checked for text in twice]
        if options.log:
            options.log.write_text(running.log, encoding="utf-8")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--people", type=int, default=6, choices=range(1, len(NAMES) + 1))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--interval", type=float, default=5.0, help="seconds between two, on average"
    )
    parser.add_argument("--spoken", type=float, default=0.5, help="share of spoken questions")
    parser.add_argument("--prompts", action="store_true", help="see what the model is asked")
    parser.add_argument("--flags", default="", help="more flags for the server")
    parser.add_argument("--log", type=Path, help="file for the server's log")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    found = run(options)
    report(found, [], options.json)
    return 1 if any(found.get(name) for name in FAULTS) else 0


if __name__ == "__main__":
    sys.exit(main())
