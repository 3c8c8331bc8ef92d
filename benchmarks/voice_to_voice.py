"""Voice to voice: from the last sample of a person's speech to the first sample of the reply.

    python -m benchmarks.voice_to_voice --audio FOLDER --people 1 2 4 --repeats 2

Plays recordings at real-time pace through both sockets of the real program. Every variant runs as
a server of its own beside the others, and each recording goes to all of them in turn, so that a
change in the machine's speed meets all alike; quote the ratios. Prints tables, writes JSON and,
with `--picture`, draws the timeline of the median turn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.figures import median, p95
from benchmarks.simulated_user import SimulatedUser, person
from benchmarks.transcription import spoken_words, word_errors
from fusion.errors import FusionError
from tests.running import RunningServer
from whisper_live.client import SAMPLE_RATE, Notice, Server, Sound
from whisper_live.client.sound_files import read_wav

VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "no speculation": ("--no-speculative_generation",),
    "no smart turn": ("--no-smart_turn",),
    "neither": ("--no-speculative_generation", "--no-smart_turn"),
}

OWNERS = ("provisional_transcript", "commit", "first_token", "first_clause", "first_sound")

_ANSWER_TIMEOUT = 30.0
_AFTERTHOUGHT = 0.7
_IDLE_SECONDS = 20.0


@dataclass
class Turn:
    """One recording said and answered. Times in milliseconds since the end of speech."""

    file: str
    variant: str
    people: int
    voice_to_voice: float | None = None
    commits: int = 0
    transcript: str = ""
    words: int = 0
    word_errors: int = 0
    speculative: bool | None = None
    timeline: dict[str, int | None] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Recording:
    """A line of the manifest: what is said, and when that ends, in seconds."""

    file: Path
    end: float
    text: str


def recordings(folder: Path, categories: Iterable[str]) -> list[Recording]:
    """The recordings of a folder's manifest in which one person says one thing."""
    manifest = json.loads((folder / "manifest.json").read_text())
    wanted = [entry for entry in manifest if entry["category"] in set(categories)]
    return [
        Recording(folder / entry["file"], entry["end_of_speech"], entry["text"]) for entry in wanted
    ]


def cpu_seconds(running: RunningServer) -> float:
    """CPU time that a server's processes have used so far."""
    ticks = 0
    pids = [running.pid, *_children(running.pid)]
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def address(running: RunningServer) -> Server:
    return Server("127.0.0.1", running.transcription_port, running.speech_port)


async def say(running: RunningServer, recording: Recording, turn: Turn, delay: float) -> None:
    """Say one recording to a fresh session and fill in what came of it."""
    await asyncio.sleep(delay)
    samples = read_wav(recording.file, SAMPLE_RATE)
    try:
        async with person(address(running)) as someone:
            ended = await someone.say(samples) + recording.end
            sound = await first_sound(someone, ended)
            await someone.listen(_AFTERTHOUGHT)
            turn.voice_to_voice = 1000 * (sound.at - ended)
            committed = someone.committed()
            turn.commits = len(committed)
            turn.transcript = " ".join(transcript.text.strip() for transcript in committed)
            said = spoken_words(recording.text)
            turn.words = len(said)
            turn.word_errors = word_errors(said, spoken_words(turn.transcript))
            _read_timeline(turn, someone.notices("timeline"), sound.turn)
    except FusionError as error:
        turn.error = str(error)


async def first_sound(someone: SimulatedUser, ended: float) -> Sound:
    """The first sound of the last turn, once that turn covers all that was said."""
    deadline = time.monotonic() + _ANSWER_TIMEOUT
    while time.monotonic() < deadline:
        committed = someone.committed()
        if committed:
            last = committed[-1].turn
            sounds = someone.of(Sound, lambda s, last=last: s.turn == last and s.at > ended)
            if sounds:
                return sounds[0]
        await asyncio.sleep(0.02)
    raise FusionError(f"There was no reply within {_ANSWER_TIMEOUT:.0f} s.")


def _read_timeline(turn: Turn, timelines: Sequence[Notice], number: int | None) -> None:
    for notice in timelines:
        if notice.turn == number:
            turn.timeline = dict(notice.fields["milliseconds"])
            turn.speculative = bool(notice.fields["used_ahead"])


async def measure(
    servers: dict[str, RunningServer], clips: list[Recording], people: int, repeats: int
) -> tuple[list[Turn], dict[str, float]]:
    """Every recording to every variant, `people` at a time; and CPU seconds a turn."""
    order = random.Random(1)
    turns: list[Turn] = []
    cpu = dict.fromkeys(servers, 0.0)
    for _ in range(repeats):
        shuffled = order.sample(clips, len(clips))
        for first in range(0, len(shuffled), people):
            group = shuffled[first : first + people]
            for variant, running in servers.items():
                batch = [Turn(clip.file.name, variant, people) for clip in group]
                before = cpu_seconds(running)
                await asyncio.gather(
                    *(
                        say(running, clip, turn, delay=order.random() if people > 1 else 0.0)
                        for clip, turn in zip(group, batch, strict=True)
                    )
                )
                cpu[variant] += cpu_seconds(running) - before
                turns += batch
                print(".", end="", flush=True)
    print()
    count = len(clips) * repeats
    return turns, {variant: seconds / count for variant, seconds in cpu.items()}


async def idle_cost(running: RunningServer, clients: int) -> float:
    """Share of one core that silent clients with open microphones cost."""
    async with contextlib.AsyncExitStack() as sitting:
        for _ in range(clients):
            await sitting.enter_async_context(person(address(running)))
        await asyncio.sleep(1.0)
        before, began = cpu_seconds(running), time.monotonic()
        await asyncio.sleep(_IDLE_SECONDS)
        return (cpu_seconds(running) - before) / (time.monotonic() - began)


def summary(turns: list[Turn], cpu: float) -> dict[str, float | None]:
    """Medians over the turns of one variant."""
    times = [turn.voice_to_voice for turn in turns if turn.voice_to_voice is not None]
    parts = {
        owner: [at for turn in turns if (at := turn.timeline.get(owner)) is not None]
        for owner in OWNERS
    }
    answered = [turn for turn in turns if not turn.error]
    return {
        "turns": len(turns),
        "failed": len(turns) - len(answered),
        "median": median(times),
        "p95": p95(times),
        "cut in two": sum(turn.commits > 1 for turn in answered) / max(len(answered), 1),
        "word errors": sum(t.word_errors for t in answered)
        / max(sum(t.words for t in answered), 1),
        "speculation used": sum(bool(turn.speculative) for turn in answered)
        / max(len(answered), 1),
        "cpu seconds a turn": cpu,
        **{name: median(marks) for name, marks in parts.items()},
    }


def show(people: int, results: dict[str, dict[str, float | None]]) -> None:
    """Print one table: a row a variant, times in ms."""
    print(f"\n{people} at once; ms since the end of speech as the manifest has it, medians")
    shares = ["speculation used", "cut in two", "word errors"]
    columns = ["median", "p95", *OWNERS, *shares, "cpu seconds a turn", "failed"]
    print(f"{'':16}" + "".join(f"{name.replace('_', ' ')[:14]:>16}" for name in columns))
    base = next(iter(results.values()))["median"]
    for variant, values in results.items():
        cells = [_cell(name, values[name]) for name in columns]
        middle = values["median"]
        ratio = f"  {middle / base:.2f} x" if middle and base else ""
        print(f"{variant:16}" + "".join(f"{cell:>16}" for cell in cells) + ratio)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name in ("speculation used", "cut in two", "word errors"):
        return f"{100 * value:.1f} %"
    return f"{value:.2f}" if name.startswith("cpu") else f"{value:.0f}"


def draw(turns: list[Turn], path: Path) -> None:
    """The timeline of the median turn of the first variant, one bar an owner."""
    from matplotlib import pyplot

    timed = [t for t in turns if t.voice_to_voice is not None and all(t.timeline.values())]
    turn = sorted(timed, key=lambda t: t.voice_to_voice or 0.0)[len(timed) // 2]
    marks = {name: turn.timeline[name] or 0 for name in OWNERS}
    spans = [
        ("short silence, then transcription", 0, marks["provisional_transcript"]),
        ("endpointing", 0, marks["commit"]),
        ("first token", marks["provisional_transcript"], marks["first_token"]),
        ("first clause, synthesised", marks["first_token"], marks["first_clause"]),
        ("waiting for the commit, sending", marks["first_clause"], marks["first_sound"]),
    ]
    figure, axes = pyplot.subplots(figsize=(8, 2.6), layout="constrained")
    for row, (label, begin, end) in enumerate(spans):
        axes.barh(row, max(end - begin, 3), left=begin, height=0.6, color=f"C{row}")
        axes.text(max(end, begin) + 8, row, f"{label}: {end - begin} ms", va="center", fontsize=8)
    axes.axvline(marks["first_sound"], color="black", linewidth=1)
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.7 * marks["first_sound"])
    axes.set_xlabel(f"ms since the end of speech was detected ({turn.file})")
    figure.savefig(path, dpi=120)
    print(f"drew {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--audio", type=Path, default=Path("tests/audio"))
    parser.add_argument("--categories", nargs="+", default=["speech"])
    parser.add_argument("--people", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS)[:2])
    parser.add_argument("--idle", action="store_true", help="also the cost of 4 silent clients")
    parser.add_argument("--json", type=Path, default=Path("voice_to_voice.json"))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    clips = recordings(arguments.audio, arguments.categories)
    servers = {variant: RunningServer(VARIANTS[variant]) for variant in arguments.variants}
    report: dict[str, object] = {"machine": platform.processor(), "cores": os.cpu_count()}
    everything: list[Turn] = []
    try:
        for running in servers.values():
            running.start()
        if arguments.idle:
            cost = asyncio.run(idle_cost(servers[arguments.variants[0]], clients=4))
            report["idle share of a core, 4 clients"] = cost
            print(f"4 silent clients: {100 * cost:.1f} % of one core")
        for people in arguments.people:
            turns, cpu = asyncio.run(measure(servers, clips, people, arguments.repeats))
            everything += turns
            results = {
                variant: summary([t for t in turns if t.variant == variant], cpu[variant])
                for variant in servers
            }
            show(people, results)
            report[f"{people} at once"] = results
    finally:
        for running in servers.values():
            running.stop()
    report["turns"] = [asdict(turn) for turn in everything]
    arguments.json.write_text(json.dumps(report, indent=1))
    print(f"wrote {arguments.json}")
    if arguments.picture:
        first = arguments.variants[0]
        alone = [t for t in everything if t.variant == first and t.people == arguments.people[0]]
        draw(alone, arguments.picture)


if __name__ == "__main__":
    main()
