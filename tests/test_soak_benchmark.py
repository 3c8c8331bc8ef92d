"""What the measurements of memory and floods make of what they see."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.flood import FLOODS, QUESTIONS, end_of_speech
from benchmarks.memory import speech_with_holes
from benchmarks.processes import Held, held
from benchmarks.soak import grown
from fusion.audio import SAMPLE_RATE

BEFORE = Held(rss=300.0, descriptors=30, threads=10, tasks=8)


@pytest.mark.parametrize(
    ("after", "complaints"),
    [
        (BEFORE, 0),
        (replace(BEFORE, rss=314.9), 0),
        (replace(BEFORE, rss=315.1), 1),
        (replace(BEFORE, rss=200.0), 0),
        (replace(BEFORE, threads=11), 0),
        (replace(BEFORE, threads=12), 1),
        (replace(BEFORE, descriptors=40, tasks=10), 2),
        (replace(BEFORE, tasks=None), 1),
    ],
)
def test_what_has_grown(after: Held, complaints: int) -> None:
    assert len(grown({"voice": BEFORE}, {"voice": after})) == complaints


def test_a_process_that_is_gone_is_told() -> None:
    assert grown({"voice": BEFORE}, {}) == ["voice: gone"]


def test_what_this_process_holds() -> None:
    before = held(os.getpid())
    reading, writing = os.pipe()
    kept = np.ones(25_000_000, np.float32)
    after = held(os.getpid())
    assert after.descriptors == before.descriptors + 2
    assert after.rss > before.rss + 80
    assert len(kept)
    os.close(reading)
    os.close(writing)


def test_speech_with_holes_has_a_pause_after_every_word() -> None:
    speech = speech_with_holes(2.0)
    assert len(speech) == 2 * SAMPLE_RATE
    silent = speech.reshape(-1, SAMPLE_RATE // 10).any(axis=1)
    assert silent.tolist() == [True, True, True, False] * 5


def test_every_flood_says_what_it_is() -> None:
    assert len(FLOODS) == 6
    assert all(flood.__doc__ for flood in FLOODS.values())
    assert all(1.0 < end_of_speech(name) < 5.0 for name in QUESTIONS)
