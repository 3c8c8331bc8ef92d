"""What a client may say, and what becomes of what it may not."""

from __future__ import annotations

import json

import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES

from fusion.errors import ProtocolError
from fusion.languages import _CODES, language_code
from whisper_live.handshake import parse_command, parse_hello

ENGLISH = frozenset({"en"})
_WHISPERS = frozenset(_LANGUAGE_CODES)


def test_half_a_character_harms_no_model() -> None:
    """JSON may hold half of a surrogate pair, as of an emoji that was cut."""
    cut = "Hi \ud83d!"
    fields = {"uid": "me", "system_prompt": cut, "initial_prompt": cut, "voice": cut}
    history = [{"role": "user", "content": cut}, {"role": "assistant", "content": "Hi \U0001f600!"}]
    hello = parse_hello(json.dumps({**fields, "history": history}), ENGLISH)
    assert hello.system_prompt == hello.context == hello.voice == "Hi ?!"
    assert hello.history == (("user", "Hi ?!"), ("assistant", "Hi \U0001f600!"))
    assert parse_command(json.dumps({"command": "say", "text": cut})).text == "Hi ?!"


@pytest.mark.parametrize("text", ["", "  ", 7, "x" * 4001])
def test_what_is_said_is_checked(text: object) -> None:
    with pytest.raises(ProtocolError):
        parse_command(json.dumps({"command": "say", "text": text}))


MULTILINGUAL = frozenset({"en", "de", "fr", "he", "no", "nn", "tl", "zh", "jw", "haw", "pt"})


@pytest.mark.parametrize(
    ("language", "code"),
    [
        *(("en", "en"), ("EN", "en"), ("en-US", "en"), ("English", "en"), ("english ", "en")),
        *(("de_AT", "de"), ("Deutsch", "de"), ("ger", "de"), ("deu", "de"), ("pt-BR", "pt")),
        *(("iw", "he"), ("nb-NO", "no"), ("Nynorsk", "nn"), ("fil", "tl"), ("haw", "haw")),
        *(("zh-Hans-CN", "zh"), ("cmn", "zh"), ("jv", "jw"), ("fr-FR.UTF-8", "fr")),
        *(("auto", None), ("Auto", None), (None, None)),
    ],
)
def test_languages_have_many_names(language: str | None, code: str | None) -> None:
    hello = parse_hello(json.dumps({"uid": "me", "language": language}), MULTILINGUAL)
    assert hello.language == code


def test_an_english_model_detects_nothing() -> None:
    assert parse_hello('{"uid": "me", "language": "auto"}', ENGLISH).language == "en"


@pytest.mark.parametrize("language", ["xx", "Klingon", "", "-", 7, ["en"], "de"])
def test_an_unknown_language_is_refused_with_all_that_are_known(language: object) -> None:
    with pytest.raises(ProtocolError, match=r'"auto".*en, fr') as refusal:
        parse_hello(json.dumps({"uid": "me", "language": language}), MULTILINGUAL - {"de"})
    assert "zh" in str(refusal.value)


def test_every_language_of_whisper_is_known_by_its_english_name() -> None:
    names = {"Afrikaans": "af", "Yiddish": "yi", "Cantonese": "yue", "Haitian Creole": "ht"}
    for name, code in names.items():
        hello = parse_hello(json.dumps({"uid": "me", "language": name}), _WHISPERS)
        assert hello.language == code
    assert {language_code(code, _WHISPERS) for code in _WHISPERS} == _WHISPERS
    assert len([code for code in _WHISPERS if code in _CODES]) == len(_WHISPERS) == 100


def test_of_a_long_history_the_latest_turns_are_kept() -> None:
    history = [{"role": "user", "content": f"{n:04} " + "x" * 3995} for n in range(100)]
    fields = json.dumps({"uid": "me", "history": history})
    kept = parse_hello(fields, {"en"}).history
    assert [content[:4] for _, content in kept] == ["0095", "0096", "0097", "0098", "0099"]


@pytest.mark.parametrize("role", [[], {}, None, 1, True, "system"])
def test_a_role_is_one_of_those_that_there_are(role: object) -> None:
    history = [{"role": role, "content": "Hello."}]
    with pytest.raises(ProtocolError, match="history"):
        parse_hello(json.dumps({"uid": "me", "history": history}), ENGLISH)
