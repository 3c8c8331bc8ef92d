"""How soon the machine falls silent when somebody speaks over it.

    python -m benchmarks.barge_in --audio FOLDER [--echo 0.1] [--json FILE]

Asks the real program something that takes long to answer, and speaks each recording of the
folder's manifest over the answer. The time is from the first sample of speech, as the manifest has
it, to the `flush` at the client. `--echo` is the gain at which the microphone hears the machine
(0.1 is -20 dB).
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.figures import median, p95, report
from benchmarks.simulated_user import person
from benchmarks.voice_to_voice import address
from fusion.errors import FusionError
from tests.recordings import FOLDER, load
from tests.running import RunningServer
from whisper_live.client import SAMPLE_RATE, Notice, Sound
from whisper_live.client.sound_files import read_wav

_QUESTION = "meaning_of_life"  # its answer takes some twenty seconds
_LISTENED = 2.0
_PATIENCE = 10.0


@dataclass(frozen=True)
class Interruption:
    """One recording spoken over an answer: milliseconds until silence, None if there was none."""

    file: str
    silent_after: int | None


async def interrupt(running: RunningServer, file: Path, start: float, echo: float) -> Interruption:
    """Speak a recording, whose speech starts after so many seconds, over an answer."""
    async with person(address(running), echo=echo) as someone:
        await someone.say(load(_QUESTION))
        await someone.until(Sound)
        await someone.listen(_LISTENED)
        began = await someone.say(read_wav(file, SAMPLE_RATE))
        try:
            flush = await someone.until(Notice, lambda n: n.name == "flush", timeout=_PATIENCE)
        except FusionError:
            return Interruption(file.name, None)
        return Interruption(file.name, round(1000 * (flush.at - began - start)))


async def measure(running: RunningServer, folder: Path, echo: float) -> list[Interruption]:
    """Interrupt with every recording of one person saying one thing."""
    found = []
    for entry in json.loads((folder / "manifest.json").read_text(encoding="utf-8")):
        if entry["category"] == "speech":
            start = entry["start_of_speech"]
            each = await interrupt(running, folder / entry["file"], start, echo)
            print(f"{each.silent_after!s:>6} ms  {each.file}", flush=True)
            found.append(each)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--audio", type=Path, default=FOLDER, help="folder with manifest.json")
    parser.add_argument("--echo", type=float, default=0.0, help="gain of the machine's own voice")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    with RunningServer() as running:
        found = asyncio.run(measure(running, options.audio, options.echo))
    times = [each.silent_after for each in found if each.silent_after is not None]
    summary = {
        "echo": options.echo,
        "spoken over": len(found),
        "fell silent": len(times),
        "median": median(times),
        "p95": p95(times),
    }
    report(summary, [asdict(each) for each in found], options.json)


if __name__ == "__main__":
    main()
