"""faster-whisper on recordings, in batches and one by one."""

from __future__ import annotations

import argparse

from benchmarks.gpu.timing import Figures, seconds
from fusion.audio import SAMPLE_RATE
from fusion.settings import Settings
from whisper_live.client.sound_files import read_wav
from whisper_live.transcribers.base import WINDOW_SECONDS, TranscriptionRequest


def measure(options: argparse.Namespace) -> Figures:
    """Seconds for eight people's recordings, together and one by one, and whether they agree."""
    from whisper_live.transcribers import faster_whisper

    recogniser = faster_whisper.load(Settings(whisper_model=options.whisper_model))
    recogniser.warm_up()
    clips = [read_wav(file, SAMPLE_RATE) for file in sorted(options.audio.glob("*.wav"))]
    short = [clip for clip in clips if len(clip) <= WINDOW_SECONDS * SAMPLE_RATE]
    requests = [TranscriptionRequest(clip) for clip in short[: recogniser.max_batch]]
    alone = [recogniser.transcribe([request])[0].text for request in requests]
    together = [each.text for each in recogniser.transcribe(requests)]
    for one, other in zip(alone, together, strict=True):
        print(f"  {one!r}" if one == other else f"  {one!r} alone, {other!r} together")
    return {
        "most at once": recogniser.max_batch,
        "texts that differ": sum(a != b for a, b in zip(alone, together, strict=True)),
        "s for one": seconds(lambda: recogniser.transcribe(requests[:1])),
        f"s for {len(requests)} one by one": seconds(
            lambda: [recogniser.transcribe([request]) for request in requests]
        ),
        f"s for {len(requests)} together": seconds(lambda: recogniser.transcribe(requests)),
    }
