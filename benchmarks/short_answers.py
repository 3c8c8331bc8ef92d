"""Whether a short answer right after the machine's last sound is a turn, and its echo is none.

    python -m benchmarks.short_answers

Asks the real program something, says each word so many seconds after the last sound of its reply,
and counts the turns; then lets replies that end in "okay?" or a statement come back through the
microphone at -20 and -10 dB. The words are spoken by the program's own voice.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence

import numpy as np
import soxr

from benchmarks.figures import report
from benchmarks.simulated_user import SimulatedUser, person
from benchmarks.voice_to_voice import address
from fusion.selection import choose, survey
from fusion.settings import Settings
from tests.running import RunningServer
from tts_service import load
from voices.base import Voice
from whisper_live.client import SAMPLE_RATE, Notice, Samples

_WORDS = ("Yes.", "Okay.", "Sure.", "Right.", "Of course.", "Exactly.")
_AFTER = (0.05, 0.6)
_ECHOED = (
    'Repeat exactly: "I will open the window now. Is that okay?"',
    "Tell me about the Brooklyn Bridge.",
    "Why is the sky blue?",
)
_ECHOES = (0.1, 0.3)
_PATIENCE = 90.0
_UNTIL_COMMITTED = 4.0


def spoken(voice: Voice, text: str) -> Samples:
    """A text as its voice says it, float32 at 16 kHz."""
    sound = np.concatenate(list(voice.synthesize(text)))
    return soxr.resample(sound, voice.sample_rate, SAMPLE_RATE).astype(np.float32)


async def until_silent(someone: SimulatedUser, question: str, after: float) -> None:
    """Ask something, and wait until so many seconds after the last sound of the reply."""
    await someone.conversation.command("say", text=question)
    await someone.until(Notice, lambda n: n.name == "reply_end", timeout=_PATIENCE)
    await someone.listen(max(0.0, someone.playback.until - time.monotonic()) + after)


async def answer(running: RunningServer, word: Samples, after: float) -> bool:
    """Say a word after a reply; whether it became a turn."""
    async with person(address(running)) as someone:
        await until_silent(someone, "Hello.", after)
        await someone.say(word)
        await someone.listen(_UNTIL_COMMITTED)
        return len(someone.committed()) == 2


async def echo(running: RunningServer, question: str, gain: float) -> bool:
    """Let a reply come back through the microphone; whether it became a turn."""
    async with person(address(running), echo=gain) as someone:
        await until_silent(someone, question, _UNTIL_COMMITTED)
        return len(someone.committed()) > 1


async def measure(running: RunningServer, words: dict[str, Samples]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for word, sound in words.items():
        for after in _AFTER:
            turn = await answer(running, sound, after)
            found.append({"said": word, "after": after, "turn": turn})
            print(f"{word:12} {after:4} s after the last sound: {'a turn' if turn else 'NO TURN'}")
    for question in _ECHOED:
        for gain in _ECHOES:
            turn = await echo(running, question, gain)
            found.append({"echo of": question, "gain": gain, "turn": turn})
            print(f"echo at {gain}: {'A TURN' if turn else 'no turn'}   {question}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args(arguments)
    settings = Settings()
    voice = load(settings, choose(settings, survey(settings)).voice)
    words = {word: spoken(voice, word) for word in _WORDS}
    with RunningServer() as running:
        found = asyncio.run(measure(running, words))
    answers = [each["turn"] for each in found if "said" in each]
    echoes = [each["turn"] for each in found if "said" not in each]
    summary = {
        "short answers": len(answers),
        "became turns": sum(map(bool, answers)),
        "echoes": len(echoes),
        "echoes that became turns": sum(map(bool, echoes)),
    }
    report(summary, found, None)


if __name__ == "__main__":
    main()
