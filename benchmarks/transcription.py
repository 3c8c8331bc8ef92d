"""How well and how fast the speech recogniser hears: word error rate and time, clip by clip.

    python -m benchmarks.transcription [--audio FOLDER] [--streamed | --compare] [--json FILE]

FOLDER holds WAV files at 16 kHz, mono, 16 bit, and a `manifest.json`: a list of objects with
`file` and `text` (what is said; empty where nobody speaks). Each clip is transcribed whole, so the
voice activity detector plays no part. Clips of more than 30 s are cut into pieces of 30 s, which
may split a word.

With `--compare` each clip is also transcribed by plain faster-whisper, right after: Whisper's whole
window of 30 s for every text. Seconds are then of CPU time, which other programs disturb less; the
first answer, which a turn is worked on with, and the last, which is committed, are told apart.

With `--streamed` the real program is started and each clip is spoken into its port in real time, as
a client does; the time is then from the end of the clip to the last transcript.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from numpy.typing import NDArray

from benchmarks.figures import median, p95, report
from fusion.audio import SAMPLE_RATE
from fusion.models.lookup import resolve
from fusion.settings import Settings
from tests.running import RunningServer
from whisper_live.client import Server, Transcript, talk
from whisper_live.client.sound_files import read_wav
from whisper_live.transcribers import faster_whisper
from whisper_live.transcribers.base import (
    WINDOW_SECONDS,
    Transcriber,
    TranscriptionRequest,
)

RECORDINGS = Path(__file__).parent.parent / "tests" / "audio"

# fmt: off
UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]
TENS = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
]
# fmt: on


@dataclass(frozen=True)
class Clip:
    """What was made of one recording. `errors` counts words; `rate` is errors a word said."""

    file: str
    seconds: float
    words: int
    errors: int
    rate: float
    transcript: str


@dataclass(frozen=True)
class Comparison:
    """One recording, transcribed by this project and from Whisper's whole window.

    `first` and `last` are the seconds of CPU until our first and our last answer, `whole_seconds`
    those of the whole window.
    """

    file: str
    words: int
    errors: int
    whole_errors: int
    first: float
    last: float
    whole_seconds: float


def spoken_words(text: str) -> list[str]:
    """The words of a text, without case and punctuation, numbers below 100 spelled out."""
    words = re.findall(r"[a-z]+(?:'[a-z]+)*|\d+", text.lower().replace("’", "'"))
    return [part for word in words for part in _spelled(word)]


def _spelled(word: str) -> list[str]:
    if not word.isdigit() or int(word) >= 100:
        return [word]
    tens, units = divmod(int(word), 10)
    if tens < 2:
        return [UNITS[int(word)]]
    return [TENS[tens]] + ([UNITS[units]] if units else [])


def word_errors(said: Sequence[str], transcript: Sequence[str]) -> int:
    """The fewest words to replace, add or leave out to turn one into the other (Levenshtein)."""
    row = list(range(len(transcript) + 1))
    for i, left in enumerate(said, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(transcript, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def written(recogniser: Transcriber, audio: NDArray[np.float32], *, quick: bool = False) -> str:
    """The text of a recording of any length, window by window."""
    window = int(WINDOW_SECONDS * SAMPLE_RATE)
    pieces = [audio[start : start + window] for start in range(0, len(audio), window)]
    requests = [TranscriptionRequest(piece, quick=quick) for piece in pieces]
    texts = [recogniser.transcribe([request])[0].text for request in requests]
    return " ".join(text for text in texts if text)


def transcribe(recogniser: Transcriber, audio: NDArray[np.float32]) -> tuple[str, float]:
    """The text of a recording; seconds it took."""
    began = time.perf_counter()
    return written(recogniser, audio), time.perf_counter() - began


def compare(model: str, threads: int, folder: Path) -> list[Comparison]:
    """Transcribe every clip both ways, one right after the other."""
    settings = Settings(whisper_model=model, threads=threads)
    ours = faster_whisper.load(settings)
    ours.warm_up()
    path = resolve(model, "whisper", settings.cache_folder)
    plain = WhisperModel(str(path), "cpu", compute_type="int8", cpu_threads=1)
    clips = []
    for entry in read_manifest(folder):
        audio = read_wav(folder / entry["file"], SAMPLE_RATE)
        said = spoken_words(entry["text"])
        _, first = in_cpu_time(lambda: written(ours, audio, quick=True))  # noqa: B023
        text, last = in_cpu_time(lambda: written(ours, audio))  # noqa: B023
        whole, seconds = in_cpu_time(lambda: written_plainly(plain, audio))  # noqa: B023
        errors = [word_errors(said, spoken_words(each)) for each in (text, whole)]
        clip = Comparison(entry["file"], len(said), *errors, first, last, seconds)
        print(
            f"{errors[0]:3} {errors[1]:3} errors {first:6.2f} {last:6.2f} {seconds:6.2f} s  "
            f"{clip.file:36} {text}" + (f" | {whole}" if errors[0] != errors[1] else ""),
            flush=True,
        )
        clips.append(clip)
    return clips


def in_cpu_time(work: Callable[[], str]) -> tuple[str, float]:
    began = time.process_time()
    text = work()
    return text, round(time.process_time() - began, 3)


def written_plainly(model: WhisperModel, audio: NDArray[np.float32]) -> str:
    segments, _ = model.transcribe(audio, language="en")
    return " ".join(segment.text.strip() for segment in segments)


def stream(running: RunningServer, audio: NDArray[np.float32]) -> tuple[str, float]:
    """What a client reads that speaks a recording in real time; seconds after its end."""
    server = Server("127.0.0.1", running.transcription_port, running.speech_port)

    async def speak() -> tuple[str, float]:
        async with talk(server, reply=False) as conversation:
            await conversation.stream(audio)
            ended = time.perf_counter()
            await conversation.end_of_audio()
            texts = []
            seconds = 0.0
            async for event in conversation.events():
                if isinstance(event, Transcript) and event.final:
                    texts.append(event.text.strip())
                    seconds = time.perf_counter() - ended
            return " ".join(texts), max(seconds, 0.0)

    return asyncio.run(speak())


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    manifest: list[dict[str, Any]] = json.loads((folder / "manifest.json").read_text("utf-8"))
    return manifest


def measure(hear: Callable[[NDArray[np.float32]], tuple[str, float]], folder: Path) -> list[Clip]:
    """Have every clip of the folder's manifest transcript: its text, and the seconds it took."""
    clips = []
    for entry in read_manifest(folder):
        transcript, seconds = hear(read_wav(folder / entry["file"], SAMPLE_RATE))
        said = spoken_words(entry["text"])
        errors = word_errors(said, spoken_words(transcript))
        rate = errors / max(len(said), 1)
        clip = Clip(entry["file"], round(seconds, 3), len(said), errors, round(rate, 3), transcript)
        print(f"{clip.seconds:6.2f} s {clip.rate:6.1%}  {clip.file:36} {transcript}", flush=True)
        clips.append(clip)
    return clips


def in_summary(clips: Sequence[Comparison]) -> dict[str, Any]:
    return {
        "clips": len(clips),
        "words": sum(clip.words for clip in clips),
        "errors": sum(clip.errors for clip in clips),
        "whole_errors": sum(clip.whole_errors for clip in clips),
        "clips_with_errors": sum(clip.errors > 0 for clip in clips),
        "whole_clips_with_errors": sum(clip.whole_errors > 0 for clip in clips),
        "cpu_first_median": median([clip.first for clip in clips]),
        "cpu_last_median": median([clip.last for clip in clips]),
        "cpu_last_p95": p95([clip.last for clip in clips]),
        "cpu_whole_median": median([clip.whole_seconds for clip in clips]),
        "cpu_whole_p95": p95([clip.whole_seconds for clip in clips]),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Word error rate and time of each recording.")
    parser.add_argument("--audio", type=Path, default=RECORDINGS, help="folder with manifest.json")
    parser.add_argument("--model", default=Settings().whisper_model, help="as --whisper_model")
    parser.add_argument("--streamed", action="store_true", help="through the program's port")
    parser.add_argument("--compare", action="store_true", help="with Whisper's whole window")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes every core")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    if options.compare:
        comparisons = compare(options.model, options.threads, options.audio)
        report(in_summary(comparisons), [asdict(each) for each in comparisons], options.json)
        return
    settings = Settings(whisper_model=options.model, threads=options.threads)
    if options.streamed:
        flags = ("--whisper_model", options.model, "--threads", str(options.threads))
        with RunningServer(flags) as running:
            clips = measure(partial(stream, running), options.audio)
    else:
        recogniser = faster_whisper.load(settings)
        recogniser.warm_up()
        clips = measure(partial(transcribe, recogniser), options.audio)
    times = [clip.seconds for clip in clips]
    summary = {
        "model": options.model,
        "threads": settings.cpu_threads,
        "streamed": options.streamed,
        "word_error_rate": sum(clip.errors for clip in clips) / sum(clip.words for clip in clips),
        "clips_without_error": sum(clip.errors == 0 for clip in clips),
        "clips": len(clips),
        "seconds_median": median(times),
        "seconds_p95": p95(times),
        "seconds_longest": max(times),
    }
    report(summary, [asdict(clip) for clip in clips], options.json)


if __name__ == "__main__":
    main()
