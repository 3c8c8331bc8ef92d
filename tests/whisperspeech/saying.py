"""Ways to let a voice speak in a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

TEXTS = ("Hello there, how are you?", "It was opened in 1883.", "Yes.", "Dzień dobry.", "No, why?")


def say(voice: Any, text: str, seed: int = 0, **options: Any) -> list[np.ndarray]:
    import torch

    torch.manual_seed(seed)
    return list(voice.synthesize(text, **options))


def utterance(text: str, seed: int = 0, **options: Any) -> Any:
    """One with draws of its own, whoever is in the batch beside it."""
    import torch

    from voices.whisperspeech.utterance import Utterance

    return Utterance(text, generator=torch.Generator().manual_seed(seed), **options)


def whole(pieces: list[np.ndarray]) -> np.ndarray:
    """All of a sound; of some sentences random models make none."""
    return np.concatenate([np.zeros(0, np.float32), *pieces])


def spoken(voice: Any, *utterances: Any) -> list[np.ndarray]:
    """The whole sound of each, all begun before any is listened to."""
    for each in utterances:
        voice.engine.speak(each)
    return [whole([*each.sounds()]) for each in utterances]


def note_steps(
    voice: Any, patch: pytest.MonkeyPatch, note: Callable[[str, list[int]], None]
) -> None:
    """Call `note` with the model's name and the rows of every step, before it is taken."""
    for name in ("semantic", "acoustic"):
        stage = getattr(voice.engine, f"_{name}")

        def noting(rows: Any, name: str = name, step: Any = stage.step) -> Any:
            note(name, [row for row, _ in rows])
            return step(rows)

        patch.setattr(stage, "step", noting)
