"""Who is in which row of a batch, and which of the two models takes the next step. Pure."""

from __future__ import annotations

import enum
from collections import deque

from voices.whisperspeech.utterance import Utterance
from voices.whisperspeech.windows import FRAMES_PER_TOKEN


class Step(enum.Enum):
    """What is done next."""

    SEMANTIC = enum.auto()
    ACOUSTIC = enum.auto()


def next_step(semantic: bool, acoustic: bool, hurry: bool, run: int) -> Step | None:
    """Which model takes the next step.

    Semantic tokens first, as nobody of those hears anything yet; while an utterance of the acoustic
    model is in a hurry, three of its steps to each of the other, which is the same length of sound.

    Args:
        semantic, acoustic: has the model anything to do?
        hurry: is any of the acoustic model's utterances in a hurry?
        run: how many acoustic steps were taken since the last semantic one.
    """
    if not semantic:
        return Step.ACOUSTIC if acoustic else None
    if acoustic and hurry and run < FRAMES_PER_TOKEN:
        return Step.ACOUSTIC
    return Step.SEMANTIC


class Slots:
    """Who is in which row of a batch. The lowest free row is taken, which keeps batches small."""

    def __init__(self, count: int) -> None:
        self._rows: list[Utterance | None] = [None] * count

    def taken(self) -> list[tuple[int, Utterance]]:
        """All rows that are taken, each with its utterance."""
        return [(row, each) for row, each in enumerate(self._rows) if each is not None]

    def holds(self, row: int, utterance: Utterance) -> bool:
        return self._rows[row] is utterance

    def seat(self, waiting: deque[Utterance]) -> list[tuple[int, Utterance]]:
        """Give who waits a row, first come, first served; returns who got one."""
        seated: list[tuple[int, Utterance]] = []
        while waiting and None in self._rows:
            row = self._rows.index(None)
            utterance = self._rows[row] = waiting.popleft()
            seated.append((row, utterance))
        return seated

    def free(self, row: int) -> None:
        self._rows[row] = None

    def clear(self) -> None:
        self._rows = [None] * len(self._rows)
