"""Whether anybody gets what is another's, while processes are killed and connections are lost.

    python -m benchmarks.isolation --minutes 10 --seed 1 [--json FILE]

Eight people talk at once, each with a pass-phrase that it alone names and its own model is told.
What each of them reads and hears may hold its own and nobody else's: transcripts, replies, the
clauses that the speech port names, and the sound that came from there, which a recogniser hears
back. The exit status is 1 if there is a leak, or if too few pass-phrases came back to tell.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soxr

from benchmarks.faults import Injector
from benchmarks.figures import report
from benchmarks.talkers import ANSWER_PATIENCE, Talker, disturb, talking, until
from benchmarks.transcription import spoken_words, written
from fusion.settings import Settings
from tests.running import RunningServer
from whisper_live.client import (
    SAMPLE_RATE,
    SPEECH_RATE,
    Event,
    Notice,
    ReplyText,
    Samples,
    Sound,
    Transcript,
)
from whisper_live.transcribers import faster_whisper

WORDS = (
    *("pineapple", "elephant", "umbrella", "kangaroo"),
    *("trombone", "volcano", "dinosaur", "helicopter"),
)
PROMPT = "You are a friendly voice assistant. Answer in one short sentence. The password is {name}."
QUESTIONS = (
    *("Please say the word {name}.", "Say the word {name} in a short sentence."),
    *("What does the word {name} mean?", "I like the word {name}. Which word do I like?"),
)

_ENOUGH = 0.5
"""The share of replies that name their own pass-phrase below which a leak might go unseen."""


@dataclass
class Listener(Talker):
    """Keeps all that it reads and hears, by where it came from."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    sounds: list[list[Samples]] = field(default_factory=list)
    _sounding: tuple[int, int | None] = (0, None)

    def question(self) -> str:
        return self.rng.choice(QUESTIONS).format(name=self.name)

    def take(self, event: Event) -> None:
        super().take(event)
        if isinstance(event, Transcript):
            self.texts.append(("transcript", event.text))
        elif isinstance(event, ReplyText):
            self.texts.append(("reply", event.text))
            if event.final:
                self.replies.append(event.text)
        elif isinstance(event, Notice):
            self.texts.append((event.name, str(dict(event.fields))))
        elif isinstance(event, Sound):
            place = (len(self.server.connections), event.turn)
            if place != self._sounding:
                self._sounding = place
                self.sounds.append([])
            self.sounds[-1].append(event.samples)


def named(text: str, words: Sequence[str] = WORDS) -> set[str]:
    """The pass-phrases that a text holds, in the singular or the plural. Pure."""
    said = spoken_words(text)
    return {word for word in words if {word, f"{word}s", f"{word}es"} & set(said)}


def leaks(own: str, texts: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """What names somebody else's pass-phrase. Pure."""
    return [
        {"whose": own, "where": where, "text": text} for where, text in texts if named(text) - {own}
    ]


def heard_back(listeners: Sequence[Listener]) -> Iterator[tuple[Listener, str]]:
    """What a recogniser hears in the sound of each reply."""
    recogniser = faster_whisper.load(Settings())
    for listener in listeners:
        for sound in listener.sounds:
            audio = soxr.resample(np.concatenate(sound), SPEECH_RATE, SAMPLE_RATE)
            yield listener, written(recogniser, audio.astype(np.float32))


async def suffer(
    running: RunningServer, options: argparse.Namespace
) -> tuple[list[Listener], Injector]:
    """Let them talk for so many minutes."""
    injector = Injector(running, options.seed, options.interval)
    stop = asyncio.Event()
    names = WORDS[: options.people]
    async with talking(running, Listener, names, PROMPT, seed=options.seed, spoken=0.3) as people:
        conversations = [asyncio.create_task(each.converse(stop)) for each in people]
        network = asyncio.create_task(disturb(people, options.interval / 2, options.seed))
        await injector.run(1 << 30, until=time.monotonic() + 60 * options.minutes)
        network.cancel()
        stop.set()
        await asyncio.gather(*conversations)
        await until(lambda: not any(each.ledger.open for each in people), ANSWER_PATIENCE)
    return people, injector


def summary(
    people: Sequence[Listener], injector: Injector, options: argparse.Namespace
) -> dict[str, object]:
    """What came of it."""
    recognised = [(listener, text) for listener, text in heard_back(people) if text]
    found = [leak for each in people for leak in leaks(each.name, each.texts)]
    found += [leak for each, text in recognised for leak in leaks(each.name, [("sound", text)])]
    replies = [(each, text) for each in people for text in each.replies]
    return {
        "seed": options.seed,
        "people": len(people),
        "minutes": options.minutes,
        "faults": dict(sorted(injector.done.items())),
        "connections": sum(len(each.server.connections) for each in people),
        "messages read": sum(len(each.texts) for each in people),
        "replies": len(replies),
        "of these with their pass-phrase": sum(e.name in named(text) for e, text in replies),
        "seconds of sound": round(
            sum(len(part) for each in people for sound in each.sounds for part in sound)
            / SPEECH_RATE
        ),
        "replies transcribed": len(recognised),
        "pass-phrases among them": sum(e.name in named(text) for e, text in recognised),
        "unanswered": sum(len(each.ledger.open) for each in people),
        "twice": sum(len(e.ledger.twice) + e.server.wire.twice for e in people),
        "leaks": found,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--people", type=int, default=8, choices=range(2, len(WORDS) + 1))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--interval", type=float, default=15.0, help="seconds between two faults")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    with RunningServer(("--max_clients", str(options.people), "--max_new_tokens", "40")) as running:
        people, injector = asyncio.run(suffer(running, options))
    found = summary(people, injector, options)
    report(found, [], options.json)
    replies, with_phrase = found["replies"], found["of these with their pass-phrase"]
    assert isinstance(replies, int)
    assert isinstance(with_phrase, int)
    told = with_phrase >= _ENOUGH * max(replies, 1)
    return 0 if told and not (found["leaks"] or found["unanswered"] or found["twice"]) else 1


if __name__ == "__main__":
    sys.exit(main())
