"""Who joins WhisperSpeech's batch, who leaves it, and what goes wrong in it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from fusion.errors import ModelError
from fusion.settings import Settings
from tests.whisperspeech.files import Library
from tests.whisperspeech.saying import TEXTS, note_steps, say, spoken, utterance, whole

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("model", ["semantic", "acoustic"])
def test_a_cancel_stops_within_a_step(
    voice: Any, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    before = say(voice, "Hello.", 5)
    cancel = threading.Event()
    steps: list[str] = []

    def note(name: str, _: list[int]) -> None:
        steps.append(name)
        if steps.count(model) == 3:
            cancel.set()

    with monkeypatch.context() as patch:
        note_steps(voice, patch, note)
        assert say(voice, "Hello.", 5, cancelled=cancel.is_set) == []
    assert steps.count(model) == 3
    # The row is free again, and nothing of the broken utterance is left in it.
    assert not voice.engine._open
    np.testing.assert_array_equal(whole(say(voice, "Hello.", 5)), whole(before))


def test_a_cancel_harms_nobody_beside_it(voice: Any, library: Library, long: int) -> None:
    gone = threading.Event()
    cancelled = utterance(TEXTS[1], 3, cancelled=gone.is_set)
    other = utterance(TEXTS[0], long)
    voice.engine.speak(cancelled)
    voice.engine.speak(other)
    first = next(other.sounds())
    gone.set()
    rest = list(other.sounds())
    np.testing.assert_allclose(
        np.concatenate([first, *rest]), library.sound(TEXTS[0], long), atol=1e-5
    )
    for _ in cancelled.sounds():
        pass  # it ends


def test_who_stops_listening_frees_the_row(voice: Any) -> None:
    listened = voice.synthesize(TEXTS[0])
    next(listened)
    listened.close()
    assert len(spoken(voice, *(utterance("Hello.", seed) for seed in range(3)))) == 3
    assert voice.engine._sounding.taken() == []


def test_a_newcomer_joins_at_the_next_step(
    voice: Any, monkeypatch: pytest.MonkeyPatch, long: int
) -> None:
    steps: list[tuple[str, list[int]]] = []
    late = utterance(TEXTS[1], 3)

    def note(name: str, rows: list[int]) -> None:
        steps.append((name, rows))
        if len(steps) == 5:
            voice.engine.speak(late)

    with monkeypatch.context() as patch:
        note_steps(voice, patch, note)
        early = utterance(TEXTS[0], long)
        voice.engine.speak(early)
        list(early.sounds())
        list(late.sounds())
    assert [rows for _, rows in steps[:7]] == [[0]] * 5 + [[0, 1]] * 2


def test_whom_there_is_no_row_for_waits_in_line(
    voice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert voice.max_concurrent == 3
    most: list[int] = []
    admitted: list[str] = []
    admit = voice.engine._semantic.admit

    def admitting(newcomers: Any) -> None:
        admitted.extend(text for _, text, _ in newcomers)
        admit(newcomers)

    with monkeypatch.context() as patch:
        note_steps(voice, patch, lambda _, rows: most.append(len(rows)))
        patch.setattr(voice.engine._semantic, "admit", admitting)
        waiting = [utterance(f"Number {n}.", n) for n in range(7)]
        assert any(len(sound) for sound in spoken(voice, *waiting))
    assert max(most) == 3
    assert admitted == [f"Number {n}." for n in range(7)]


def test_a_cancel_ends_the_wait_for_a_row(voice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    admitted: list[str] = []
    admit = voice.engine._semantic.admit

    def admitting(newcomers: Any) -> None:
        admitted.extend(text for _, text, _ in newcomers)
        admit(newcomers)

    monkeypatch.setattr(voice.engine._semantic, "admit", admitting)
    others = [utterance(f"Number {n}.", n) for n in range(3)]
    asked = iter([False, False])
    waiting = utterance("Too late.", cancelled=lambda: next(asked, True))
    for each in (*others, waiting):
        voice.engine.speak(each)
    assert list(waiting.sounds()) == []
    for each in others:
        list(each.sounds())  # it ends
    assert "Too late." not in admitted


def test_a_failure_of_the_model_is_a_model_error(
    voice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def fail(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    for owner, name in (
        (voice.engine._semantic, "admit"),
        (voice.engine._semantic, "step"),
        (voice.engine._acoustic, "step"),
        (voice.engine._vocoder, "decode"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(ModelError, match="out of memory"):
                say(voice, "Hello.")
        assert say(voice, "Hello.")  # the next one is spoken


def test_sound_that_is_none_is_a_model_error_of_its_utterance_alone(
    voice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = voice.engine._vocoder.decode

    def broken_once(windows: Any) -> Any:
        sounds = decode(windows).clone()
        if not broken:
            broken.append(1)
            sounds[0] = float("nan")
        return sounds

    broken: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(voice.engine._vocoder, "decode", broken_once)
        bad, good = utterance("Hello.", longest=9), utterance(TEXTS[0], longest=9)
        voice.engine.speak(bad)
        with pytest.raises(ModelError, match="no sound"):
            list(bad.sounds())
        voice.engine.speak(good)
        assert list(good.sounds())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_that_nobody_expected_ends_the_voice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reaches everybody as it is, which ends the process: only a new one can be trusted."""
    from voices import whisperspeech

    voice = whisperspeech.load(settings)

    def fail(*_: Any) -> None:
        raise MemoryError("the GPU is lost")

    monkeypatch.setattr(voice.engine._acoustic, "step", fail)
    for _ in range(2):
        with pytest.raises(MemoryError, match="lost"):
            say(voice, "Hello.")
    with pytest.raises(MemoryError, match="lost"):
        voice.engine.warm_up()


def test_a_closed_voice_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, long: int
) -> None:
    from voices import whisperspeech

    voice: Any = whisperspeech.load(settings)
    closing = threading.Thread(target=voice.close)
    steps: list[str] = []

    def note(name: str, _: list[int]) -> None:
        steps.append(name)
        if steps.count("acoustic") == 60:
            closing.start()
            while voice.engine._inbox.empty():
                pass

    note_steps(voice, monkeypatch, note)
    with pytest.raises(ModelError, match="closed"):
        say(voice, TEXTS[0], long)
    closing.join(timeout=10)
    voice.close()
    with pytest.raises(ModelError, match="closed"):
        say(voice, "Hello.")
