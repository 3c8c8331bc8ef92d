"""What WhisperSpeech's loop decides without a model: texts, windows, rows and turns."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voices.whisperspeech.schedule import Slots, Step, next_step
from voices.whisperspeech.texts import split_text
from voices.whisperspeech.utterance import LEAD, Utterance
from voices.whisperspeech.windows import (
    CONTEXT,
    LENGTHS,
    LONGEST_WINDOW,
    SAMPLES_PER_FRAME,
    Window,
    final_frames,
    frames_of,
    next_window,
)


@pytest.mark.parametrize("letter", ["a", "ß", "京", "😊", "a b, c. "])
@pytest.mark.parametrize("length", [1, 399, 400, 401, 2_000])
def test_pieces_keep_to_the_limits(letter: str, length: int) -> None:
    text = (letter * length)[:length]
    pieces = list(split_text(text))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= 400 and len(piece.encode()) <= 549 for piece in pieces)


def test_a_long_text_is_cut_after_a_sentence() -> None:
    pieces = list(split_text("It was opened in 1883, and it is still in use. " * 10))
    assert len(pieces) == 2
    assert all(piece.endswith(".") for piece in pieces)


@given(tokens=st.integers(1, 749), pace=st.integers(1, 90))
def test_windows_join_and_have_what_the_vocoder_needs(tokens: int, pace: int) -> None:
    frames = frames_of(tokens)
    windows: list[Window] = []
    for steps in range(1, 3 * tokens):
        if steps % pace and steps < 3 * tokens - 1:
            continue  # nobody looked
        final = final_frames(steps, frames)
        while window := next_window(windows[-1].end if windows else 0, final, frames):
            assert window.last <= final
            windows.append(window)
    joined = [frame for window in windows for frame in range(window.start, window.end)]
    assert joined == list(range(frames))
    for window in windows:
        assert window.first <= max(0, window.start - CONTEXT)
        assert window.last - window.first in LENGTHS
        assert window.last == min(frames, window.end + CONTEXT)
        assert window.end - window.start <= LONGEST_WINDOW + CONTEXT
        assert window.samples.start == (window.start - window.first) * SAMPLES_PER_FRAME


@pytest.mark.parametrize(
    ("handed", "final", "frames", "end"),
    [
        (0, 43, 400, None),
        (0, 44, 400, 15),  # the first as soon as its context is there
        (15, 88, 400, None),
        (15, 89, 400, 60),
        (60, 208, 400, None),
        (60, 209, 400, 180),
        (240, 389, 500, 360),
        (0, 20, 20, 20),  # short: all at once, as soon as it is all there
        (0, 19, 20, None),
        (15, 89, 89, 89),  # no crumb is left over at the end
        (20, 20, 20, None),
    ],
)
def test_when_the_next_window_is_ready(
    handed: int, final: int, frames: int, end: int | None
) -> None:
    window = next_window(handed, final, frames)
    assert (window and window.end) == end


def test_frames_of_tokens() -> None:
    assert [frames_of(tokens) for tokens in (0, 1, 2, 10, 749)] == [0, 0, 2, 26, 2243]
    assert [final_frames(steps, 26) for steps in (0, 3, 4, 5, 29, 40)] == [0, 0, 1, 2, 26, 26]


@pytest.mark.parametrize(
    ("semantic", "acoustic", "hurry", "run", "step"),
    [
        (False, False, False, 0, None),
        (True, False, False, 0, Step.SEMANTIC),
        (False, True, False, 9, Step.ACOUSTIC),
        (True, True, False, 0, Step.SEMANTIC),  # nobody waits for sound: the newcomers first
        (True, True, True, 0, Step.ACOUSTIC),
        (True, True, True, 2, Step.ACOUSTIC),
        (True, True, True, 3, Step.SEMANTIC),  # and the newcomers come on all the same
    ],
)
def test_whose_step_is_next(
    semantic: bool, acoustic: bool, hurry: bool, run: int, step: Step | None
) -> None:
    assert next_step(semantic, acoustic, hurry, run) is step


def test_an_utterance_hurries_until_its_listener_has_a_lead() -> None:
    utterance = Utterance("Hello.")
    assert utterance.hurries(100.0)
    utterance.handed, utterance.handed_at = 75, 100.0  # one second of sound
    assert not utterance.hurries(100.0)
    assert not utterance.hurries(101.0 - LEAD - 0.01)
    assert utterance.hurries(101.0 - LEAD + 0.01)


def test_the_first_come_gets_the_lowest_free_row() -> None:
    ann, ben, cem, dora = (Utterance(name) for name in ("ann", "ben", "cem", "dora"))
    slots = Slots(3)
    assert slots.seat(deque([ann, ben])) == [(0, ann), (1, ben)]
    slots.free(0)
    waiting = deque([cem, dora])
    assert slots.seat(waiting) == [(0, cem), (2, dora)]
    assert slots.taken() == [(0, cem), (1, ben), (2, dora)]
    assert slots.holds(0, cem)
    assert not slots.holds(0, ann)
    waiting.append(ann)
    assert slots.seat(waiting) == []
    assert list(waiting) == [ann]
    slots.clear()
    assert slots.taken() == []


def test_an_utterance_ends_once() -> None:
    utterance = Utterance("Hello.")
    utterance.finish()
    utterance.finish(ValueError("too late"))
    assert list(utterance.sounds()) == []
