"""WhisperSpeech: how soon and how fast it speaks, beside the library's own compiled `generate`.

Models of the published sizes with random weights, which would babble for half a minute: each text
is stopped at the length that it would have, at 15 characters a second.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu.timing import Figures, seconds
from fusion.settings import Settings
from tests.whisperspeech.files import PUBLISHED, Library, go_offline, save_models
from voices import whisperspeech
from voices.whisperspeech.checkpoints import load_models
from voices.whisperspeech.graphs import Graphs
from voices.whisperspeech.kernel_check import fastest_operations
from voices.whisperspeech.stages import AcousticStage, SemanticStage, Stage
from voices.whisperspeech.utterance import Utterance

_PEOPLE = (1, 4, 16, 64)
_TEXTS = (
    "It was opened in 1883.",
    "The capital of France is Paris, and it lies on the Seine.",
    "Yes, of course I can help you with that.",
    "There are three things that you should know before you go.",
)
"""Clauses as a language model writes them: 1.5 to 4 s of speech."""
_RUNS = 8
_STEPS = 50
_TOKENS_A_SECOND = 25


class _Timed(Utterance):
    """Notes when each piece of its sound came, and how long that is."""

    def begin(self, engine: Any) -> None:
        self.pieces: list[tuple[float, float]] = []
        self.began = time.monotonic()
        engine.speak(self)

    def put(self, sound: Any) -> None:
        self.pieces.append((time.monotonic(), len(sound) / 24_000))
        super().put(sound)

    @property
    def seconds(self) -> float:
        return sum(length for _, length in self.pieces)

    @property
    def late(self) -> int:
        """How many pieces came after what was there before them had been played."""
        late, dry_at = 0, self.pieces[0][0]
        for came, length in self.pieces:
            late += came > dry_at
            dry_at = max(came, dry_at) + length
        return late


def measure(_: argparse.Namespace) -> Figures:
    """Milliseconds to the first sound and seconds of work a second of sound, for some people."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        go_offline(folder, patch)
        save_models(folder, PUBLISHED)
        figures = {f"ours, {name}": figure for name, figure in _measure_ours(folder).items()}
        figures |= _measure_steps(folder)
        for name, figure in _measure_library(folder).items():
            figures[f"library, {name}"] = figure
    factor = figures["library, seconds of work a second of sound"]
    for people in _PEOPLE:
        ours = figures[f"ours, {people} at once: seconds of work a second of sound"]
        figures[f"{people} at once: times the library's speed"] = factor / ours
    return figures


def _settings(folder: Path) -> Settings:
    return Settings(
        whisperspeech_t2s=str(folder / "t2s.model"),
        whisperspeech_s2a=str(folder / "s2a.model"),
        whisperspeech_instances=max(_PEOPLE),
    )


def _measure_ours(folder: Path) -> Figures:
    voice: Any = whisperspeech.load(_settings(folder))
    figures = {"s to compile": seconds(voice.warm_up, repeats=1)}
    for people in _PEOPLE:
        for name, figure in _speak(voice.engine, people).items():
            figures[f"{people} at once: {name}"] = figure
    figures["GB of GPU memory"] = torch.cuda.max_memory_reserved() / 1e9
    voice.close()
    return figures


def _measure_steps(folder: Path) -> Figures:
    """Milliseconds a step of each model takes, alone, after the first fifty."""
    models = load_models(_settings(folder))
    operations = fastest_operations(models.device)
    graphs = Graphs(recorded=True)
    figures: Figures = {}
    with torch.no_grad():
        semantic = SemanticStage(models.t2s, max(_PEOPLE), graphs, operations)
        acoustic = AcousticStage(models.s2a, models.speaker, max(_PEOPLE), graphs, operations)
        for people in _PEOPLE:
            semantic.admit([(row, _TEXTS[1], "en") for row in range(people)])
            acoustic.admit([(row, range(100)) for row in range(people)])
            for name, stage in (("semantic", semantic), ("acoustic", acoustic)):
                rows: list[tuple[int, Any]] = [(row, None) for row in range(people)]

                def steps(stage: Stage = stage, rows: list[tuple[int, Any]] = rows) -> None:
                    for _ in range(_STEPS):
                        stage.step(rows)

                steps()
                took = seconds(steps, repeats=1) / _STEPS
                figures[f"{people} at once: ms a step of the {name} model"] = 1000 * took
                stage.reset()
    return figures


def _speak(engine: Any, people: int) -> Figures:
    """So many clauses begun at the same moment, each person's another one in each of some runs."""
    said: list[_Timed] = []
    took = 0.0
    for run in range(1 + _RUNS):
        texts = [_TEXTS[(number + run) % len(_TEXTS)] for number in range(people)]
        spoken = [_Timed(text, longest=_tokens(text)) for text in texts]
        began = time.monotonic()
        for utterance in spoken:
            utterance.begin(engine)
        for utterance in spoken:
            for _ in utterance.sounds():
                pass
        if run:  # the first one warms up
            took += time.monotonic() - began
            said += spoken
    first = [1000 * (each.pieces[0][0] - each.began) for each in said]
    return {
        "ms to the first sound": statistics.median(first),
        "ms to the first sound, p95": float(np.percentile(first, 95)),
        "seconds of work a second of sound": took / sum(each.seconds for each in said),
        "pieces that came too late": sum(each.late for each in said),
    }


def _measure_library(folder: Path) -> Figures:
    """One utterance after another, as it cannot do more; its sound is there when it is whole."""
    library = Library.load(folder, dtype=torch.float16, torch_compile=True)

    def generate(text: str) -> float:
        return len(library.sound(text, 1, longest=_tokens(text))) / 24_000

    figures = {"s to compile": seconds(lambda: [generate(_TEXTS[0]) for _ in range(3)], repeats=1)}
    times, sound = [], 0.0
    for text in _TEXTS:
        sound += generate(text)
        times.append(seconds(lambda text=text: generate(text)))
    figures["ms to the first sound"] = 1000 * statistics.median(times)
    figures["seconds of work a second of sound"] = sum(times) / sound
    return figures


def _tokens(text: str) -> int:
    return math.ceil(len(text) / 15 * _TOKENS_A_SECOND)
