"""Sounds that nobody says: what a microphone picks up in a room where nobody speaks. Synthetic.

Each is float32 mono at 16 kHz of the length asked for, the same for the same seed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RATE = 16_000

Sound = NDArray[np.float32]


def hum(seconds: float, seed: int = 0) -> Sound:
    """Mains hum with its harmonics, over a faint hiss; -30 dB."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    tones = [np.sin(2 * np.pi * 50 * k * time + random.uniform(0, 6)) / k for k in range(1, 9)]
    return _at_level(sum(tones) + 0.05 * random.normal(size=len(time)), 0.03)


def breath(seconds: float, seed: int = 0) -> Sound:
    """Somebody breathes into the microphone: 1.2 s of rushing air every three seconds; -30 dB."""
    random = np.random.default_rng(seed)
    sound = 0.01 * random.normal(size=int(seconds * RATE))
    swell = np.sin(np.linspace(0, np.pi, int(1.2 * RATE))) ** 2
    for number, start in enumerate(range(0, len(sound) - len(swell), 3 * RATE)):
        low, high = (300, 2500) if number % 2 else (800, 5000)
        sound[start : start + len(swell)] += swell * _band(random, len(swell), low, high)
    return _at_level(sound, 0.03)


def keyboard(seconds: float, seed: int = 0) -> Sound:
    """Typing on a laptop: about six keys a second, each a click and the thud of its return."""
    random = np.random.default_rng(seed)
    sound = 0.001 * random.normal(size=int(seconds * RATE))
    decay = np.exp(-np.arange(800) / 120)
    at = 0.0
    while (at := at + random.exponential(1 / 6)) < seconds - 0.3:
        for delay, loud in ((0.0, 0.3), (random.uniform(0.07, 0.12), 0.12)):
            start = int((at + delay) * RATE)
            click = _band(random, len(decay), random.uniform(400, 1500), 6000)
            sound[start : start + len(decay)] += loud * random.uniform(0.3, 1.0) * decay * click
    return np.clip(sound, -1.0, 1.0).astype(np.float32)


def music(seconds: float, seed: int = 0) -> Sound:
    """Chords and a melody of plucked tones, two notes a second, without a voice; -20 dB."""
    random = np.random.default_rng(seed)
    sound = np.zeros(int(seconds * RATE) + 4 * RATE)
    scale = 220.0 * 2 ** (np.array([0, 2, 3, 5, 7, 8, 10, 12]) / 12)
    for beat in range(int(seconds * 2)):
        notes = [random.choice(scale) * 2]
        if beat % 4 == 0:
            notes += [scale[i] for i in random.choice(len(scale), 3, replace=False)]
        for note in notes:
            start = beat * RATE // 2
            tone = _plucked(note)
            sound[start : start + len(tone)] += tone
    return _at_level(sound[: int(seconds * RATE)], 0.1)


def silence(seconds: float, seed: int = 0) -> Sound:
    """A quiet room: noise at -66 dB."""
    noise = np.random.default_rng(seed).normal(scale=0.0005, size=int(seconds * RATE))
    return noise.astype(np.float32)


def _plucked(frequency: float) -> NDArray[np.float64]:
    time = np.arange(2 * RATE) / RATE
    overtones = [np.sin(2 * np.pi * frequency * k * time) / k**1.5 for k in range(1, 8)]
    return np.asarray(sum(overtones) * np.exp(-3 * time) * np.minimum(time / 0.005, 1.0))


def _band(random: np.random.Generator, count: int, low: float, high: float) -> NDArray[np.float64]:
    """Noise between two frequencies in Hz, with a root mean square of 1."""
    spectrum = np.fft.rfft(random.normal(size=count))
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    spectrum[(frequencies < low) | (frequencies > high)] = 0.0
    noise = np.fft.irfft(spectrum, count)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def _at_level(sound: NDArray[np.float64], level: float) -> Sound:
    return (sound * (level / np.sqrt(np.mean(sound**2)))).astype(np.float32)


SOUNDS: dict[str, Callable[[float, int], Sound]] = {
    each.__name__: each for each in (hum, breath, keyboard, music, silence)
}
