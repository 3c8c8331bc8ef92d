"""Kokoro: the real model, transcribed back by Whisper base."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import ConfigurationError
from fusion.settings import Settings
from tests.voice_contract import VoiceContract, say
from voices import kokoro
from voices.kokoro import DEFAULT_SPEAKERS, KokoroVoice, parts
from whisper_live.transcribers import faster_whisper
from whisper_live.transcribers.base import Transcriber, TranscriptionRequest

SENTENCES = {
    "en": ("The bridge was opened long ago.", {"bridge", "opened", "long", "ago"}),
    "es": ("El puente es muy bonito.", {"puente", "muy", "bonito"}),
    "fr": ("Le pont est très beau.", {"pont", "très", "beau"}),
    "it": ("Il ponte è molto bello.", {"ponte", "molto", "bello"}),
    "pt": ("O livro está na mesa da cozinha.", {"livro", "mesa", "cozinha"}),
}


@pytest.fixture(scope="module")
def voice() -> Iterator[KokoroVoice]:
    voice = kokoro.load(dataclasses.replace(Settings(), threads=4))
    yield voice
    voice.close()


@pytest.fixture(scope="module")
def whisper() -> Iterator[Transcriber]:
    whisper = faster_whisper.load(dataclasses.replace(Settings(), whisper_model="base"))
    yield whisper
    whisper.close()


class TestContract(VoiceContract):
    library = "kokoro"


@pytest.mark.parametrize("language", sorted(SENTENCES))
def test_each_language_is_understood(
    voice: KokoroVoice, whisper: Transcriber, language: str
) -> None:
    sentence, words = SENTENCES[language]
    sound = say(voice, sentence, language=language)
    audio = soxr.resample(sound, voice.sample_rate, 16_000).astype(np.float32)
    text = whisper.transcribe([TranscriptionRequest(audio, language=language)])[0].text
    assert words <= set(text.lower().rstrip(".").replace(",", " ").split()), text


def test_it_has_the_voices_of_its_languages(voice: KokoroVoice) -> None:
    assert set(DEFAULT_SPEAKERS.values()) <= set(voice.speakers)
    assert set(voice.languages) == set(DEFAULT_SPEAKERS)
    assert not any(name[0] in "jz" for name in voice.speakers)


@pytest.mark.parametrize(
    ("wanted", "language", "taken"),
    [
        ("bf_emma", "en", "bf_emma"),
        ("", "es", "ef_dora"),
        ("bf_emma", "es", "ef_dora"),
        ("em_alex", "es", "em_alex"),
        ("", "de", "af_heart"),
        ("", "", "af_heart"),
    ],
)
def test_a_speaker_is_taken_where_it_speaks_the_language(
    voice: KokoroVoice, wanted: str, language: str, taken: str
) -> None:
    assert voice._speaker(wanted, language) == taken


@given(st.text(max_size=400))
def test_the_parts_are_the_text(text: str) -> None:
    assert "".join("".join(parts(text)).split()) == "".join(text.split())
    assert all(part.strip() == part and part for part in parts(text))


def test_a_long_clause_is_made_in_parts() -> None:
    text = "It was opened in the nineteenth century, as the longest of its kind, and it stands."
    assert parts(text) == [
        "It was opened in the nineteenth century, as the longest of its kind,",
        "and it stands.",
    ]


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    (tmp_path / "af_heart.bin").write_bytes(np.zeros((510, 256), np.float32).tobytes())
    with pytest.raises(ConfigurationError, match="delete that folder"):
        KokoroVoice(tmp_path / "model.onnx")
