"""What every voice promises, whichever library is behind it.

A test file of a library makes a class of its own from this one, and gives the fixture `voice`:

    class TestContract(VoiceContract):
        library = "piper"

Whether the words can be understood is the business of each file.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from voices.base import Voice

SENTENCE = "The bridge was opened long ago, and it is still in use."


def say(voice: Voice, text: str, **wanted: str) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *voice.synthesize(text, **wanted)])  # type: ignore[arg-type]


class VoiceContract:
    library = ""

    def test_it_says_what_it_is(self, voice: Voice) -> None:
        assert voice.name.startswith(f"{self.library}: ")
        assert 8_000 <= voice.sample_rate <= 48_000
        assert voice.max_concurrent >= 1
        assert all(len(language) == 2 for language in voice.languages)

    def test_it_warms_up_any_number_of_times(self, voice: Voice) -> None:
        voice.warm_up()
        voice.warm_up()

    def test_its_sound_is_float32_within_full_scale_and_lasts_as_long_as_speech(
        self, voice: Voice
    ) -> None:
        parts = list(voice.synthesize(SENTENCE))
        assert all(part.dtype == np.float32 and part.ndim == 1 and len(part) for part in parts)
        sound = np.concatenate(parts)
        assert np.isfinite(sound).all()
        assert 0.02 < np.abs(sound).max() <= 1.0
        assert 1.0 < len(sound) / voice.sample_rate < 8.0

    @pytest.mark.parametrize("text", ["", " ", "...", "—"])
    def test_nothing_to_say_is_said_in_no_time(self, voice: Voice, text: str) -> None:
        assert len(say(voice, text)) < voice.sample_rate

    def test_an_unknown_speaker_falls_back(self, voice: Voice) -> None:
        assert len(say(voice, "Yes.", speaker="nobody"))

    def test_a_cancelled_clause_is_not_said(self, voice: Voice) -> None:
        assert not list(voice.synthesize(SENTENCE, cancelled=lambda: True))

    def test_as_many_threads_as_it_says_speak_at_once(self, voice: Voice) -> None:
        sounds: dict[int, int] = {}

        def speak(number: int) -> None:
            sounds[number] = len(say(voice, "It is still in use."))

        threads = [
            threading.Thread(target=speak, args=(number,)) for number in range(voice.max_concurrent)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(sounds) == voice.max_concurrent
        assert all(sounds.values())
