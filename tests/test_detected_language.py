"""Where the language is detected, the answer and the voice follow the person, turn by turn."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fusion.errors import ModelError
from fusion.messages import Commit, Message, ReplyEnded, ReplyText, SessionStarted, Speculation
from fusion.settings import Settings
from llm_service import LanguageModelService
from tests.session_world import World
from tests.test_automatic import PlayedModel
from tests.test_by_language import PlayedVoice
from voices import by_language
from voices.by_language import VoiceByLanguage
from voices.speech import Speeches
from voices.spoken_text import SpokenText
from whisper_live.transcribers.faster_whisper import spoken_language


@pytest.mark.parametrize(
    ("shares", "expected", "language"),
    [
        ({"es": 0.97, "en": 0.01}, "en", "es"),
        ({"pt": 0.4, "es": 0.3, "en": 0.05}, "es", "es"),
        ({"pt": 0.4, "es": 0.3, "en": 0.05}, "en", "pt"),
        ({"de": 0.9}, "", "de"),
        ({"de": 0.9}, "xx", "de"),
    ],
)
def test_a_short_word_is_of_the_language_spoken_before(
    shares: dict[str, float], expected: str, language: str
) -> None:
    ranking = [(f"<|{code}|>", share) for code, share in shares.items()]
    assert spoken_language(ranking, expected) == language


def languages(messages: list[Message], kind: type) -> list[str]:
    return [message.language for message in messages if isinstance(message, kind)]


def test_each_turn_says_in_which_language_it_is() -> None:
    world = World()
    for language, words in (("es", "qué hora es"), ("en", "what time is it")):
        world.language = language
        world.speak(1.5, words)
        world.silence(2.0)
        world.silence_after_reply(1.0)
        assert world.session.language == language
    world.take(world.session.say("typed", world.now))  # as it was spoken before
    world.run(1.0)
    assert languages(world.to_model, Speculation) == ["es", "en"]
    assert languages(world.to_model, Commit) == ["es", "en", "en"]
    assert languages(world.to_voice, Commit) == ["es", "en", "en"]
    finals = [fields for fields in world.told if fields.get("eos") and "segments" in fields]
    assert [fields["language"] for fields in finals] == ["es", "en", "en"]


def test_the_language_models_text_carries_the_language() -> None:
    sent: list[Message] = []
    answered = threading.Event()

    def send(message: Message) -> None:
        sent.append(message)
        if isinstance(message, ReplyEnded):
            answered.set()

    service = LanguageModelService(PlayedModel("model"), Settings(), send)
    service.handle(SessionStarted("s", "key", "here", "", "", ""))
    service.handle(Commit("s", 1, 1, "¿Qué hora es?", language="es"))
    assert answered.wait(10)
    assert set(languages(sent, ReplyText)) == {"es"}
    service.close()


def test_a_text_is_read_in_its_own_language() -> None:
    speeches = Speeches(SpokenText("", ("en", "es")))
    for turn, language, read in (
        (1, "es", "5 por ciento"),
        (2, "", "5 por ciento"),
        (3, "en", "5 percent"),
    ):
        speech = speeches.get(turn, 1, language)
        assert speech is not None
        speech.feed("5 %. ")
        speech.complete()
        assert speech.clauses[0].words.removesuffix(".") == read
        assert speech.is_spoken


def test_a_language_without_a_voice_is_not_spelled() -> None:
    speeches = Speeches(SpokenText("", ("en", "es")))
    speeches.commit(1, 1, "de")
    speech = speeches.get(1, 1, "de")
    assert speech is not None
    speech.feed("Guten Tag, wie geht es Ihnen? ")
    speech.complete()
    assert not speech.is_spoken
    assert [(clause.words, clause.left_out) for clause in speech.clauses] == [("", ("German",))]
    again = speeches.get(2, 1, "es")
    assert again is not None
    assert again.is_spoken


def test_nobody_waits_long_for_a_voice_that_is_being_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(by_language, "_PATIENCE", 0.05)
    here, go_on = threading.Event(), threading.Event()
    other = PlayedVoice("other", 24_000, "es")

    def load() -> PlayedVoice:
        here.set()
        assert go_on.wait(10)
        return other

    voice = VoiceByLanguage(PlayedVoice("first", 24_000, "en"), load, {"dora": "es"})
    fetching = threading.Thread(target=voice.prepare, args=("es",))
    fetching.start()
    assert here.wait(10)
    with pytest.raises(ModelError, match="is still being fetched"):
        next(voice.synthesize("Hola.", language="es"))
    assert len(next(voice.synthesize("Hello.", language="en")))
    go_on.set()
    fetching.join(10)
    assert isinstance(next(voice.synthesize("Hola.", language="es")), np.ndarray)
    assert other.said == [("Hola.", "es")]
