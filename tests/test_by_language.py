"""Models by language: which is asked, when the other is loaded, what if it cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray

from fusion.audio import SPEECH_RATE
from fusion.errors import ConfigurationError, ModelError
from voices.by_language import VoiceByLanguage
from voices.spoken_text import SpokenText
from whisper_live.transcribers.base import Transcript, TranscriptionRequest
from whisper_live.transcribers.by_language import TranscriberByLanguage

SILENCE = np.zeros(1600, np.float32)


class PlayedTranscriber:
    name = "played"
    max_batch = 4

    def __init__(self, *languages: str) -> None:
        self.languages = frozenset(languages)
        self.calls: list[list[str | None]] = []
        self.closed = False

    def warm_up(self) -> None:
        pass

    def prepare(self, language: str | None) -> None:
        pass

    def transcribe(
        self,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Transcript]:
        self.calls.append([request.language for request in requests])
        return [Transcript(f"{len(self.languages)} {r.language}", "") for r in requests]

    def close(self) -> None:
        self.closed = True


class PlayedVoice:
    max_concurrent = 1
    speakers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, name: str, rate: int, *languages: str) -> None:
        self.name, self.sample_rate, self.languages = name, rate, languages
        self.said: list[tuple[str, str]] = []
        self.closed = False

    def warm_up(self) -> None:
        pass

    def prepare(self, language: str) -> None:
        pass

    def synthesize(
        self,
        text: str,
        *,
        language: str = "en",
        speaker: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[NDArray[np.float32]]:
        self.said.append((text, language))
        for _ in range(4):
            yield np.full(self.sample_rate // 4, 0.5, np.float32)

    def close(self) -> None:
        self.closed = True


def requests(*languages: str | None) -> list[TranscriptionRequest]:
    return [TranscriptionRequest(SILENCE, language=language) for language in languages]


def test_english_alone_never_loads_the_other_model() -> None:
    english = PlayedTranscriber("en")

    def load() -> PlayedTranscriber:
        raise AssertionError("nobody asked for it")

    both = TranscriberByLanguage(english, load)
    both.prepare("en")
    assert both.transcribe(requests("en", "en"))[1].text == "1 en"
    both.close()
    assert english.closed


def test_a_mixed_batch_goes_to_both_and_comes_back_in_order() -> None:
    english, other = PlayedTranscriber("en"), PlayedTranscriber("en", "de", "es")
    loads: list[int] = []

    def load() -> PlayedTranscriber:
        loads.append(1)
        return other

    both = TranscriberByLanguage(english, load)
    both.prepare("de")
    found = both.transcribe(requests("de", "en", None, "es"))
    assert [each.text for each in found] == ["3 de", "1 en", "3 None", "3 es"]
    assert (len(loads), english.calls, other.calls) == (1, [["en"]], [["de", None, "es"]])
    assert {"de", "ja", "sw"} <= both.languages
    both.close()
    assert other.closed


def test_a_model_that_cannot_be_had_is_said_and_tried_again() -> None:
    failures = [ConfigurationError("no network.")]

    def load() -> PlayedTranscriber:
        if failures:
            raise failures.pop()
        return PlayedTranscriber("en", "de")

    both = TranscriberByLanguage(PlayedTranscriber("en"), load)
    with pytest.raises(ModelError, match=r"Only English is understood for now: no network\."):
        both.prepare("de")
    both.prepare("de")


def test_each_voice_speaks_its_own_languages_at_one_rate() -> None:
    first, other = PlayedVoice("piper", 22_050, "en"), PlayedVoice("kokoro", 24_000, "en", "es")
    both = VoiceByLanguage(first, lambda: other, {"af": "en", "ef": "es"})
    assert both.speakers == {"ef": "es"}, "the first voice keeps its own language"
    assert both.languages == ("en", "es")
    english = np.concatenate(list(both.synthesize("Hi.", language="en")))
    spanish = np.concatenate(list(both.synthesize("Hola.", language="es")))
    assert both.sample_rate == SPEECH_RATE
    assert abs(len(english) - SPEECH_RATE) < 50
    assert len(spanish) == SPEECH_RATE
    assert (first.said, other.said) == ([("Hi.", "en")], [("Hola.", "es")])
    both.close()
    assert first.closed
    assert other.closed


def test_a_voice_that_cannot_be_had_fails_its_clause_and_is_tried_again() -> None:
    other = PlayedVoice("kokoro", 24_000, "es")
    failures = [ConfigurationError("no network.")]

    def load() -> PlayedVoice:
        if failures:
            raise failures.pop()
        return other

    both = VoiceByLanguage(PlayedVoice("piper", 22_050, "en"), load, {"ef": "es"})
    both.prepare("es")  # is logged, and no more
    assert not failures
    failures.append(ConfigurationError("no network."))
    with pytest.raises(ModelError, match="There is no voice for this language: no network"):
        list(both.synthesize("Hola.", language="es"))
    assert len(list(both.synthesize("Hola.", language="es"))) == 4


@pytest.mark.parametrize(
    ("language", "words", "left_out"),
    [
        ("en", "Hello.", ()),
        ("", "Hello.", ()),
        ("es", "Hello.", ()),
        ("de", "", ("German",)),
        ("ja", "", ("Japanese",)),
    ],
)
def test_a_language_without_a_voice_is_shown_and_not_spelled(
    language: str, words: str, left_out: tuple[str, ...]
) -> None:
    spoken = SpokenText(language, ("en", "es")).read("Hello.")
    assert (spoken.words, spoken.left_out) == (words, left_out)
