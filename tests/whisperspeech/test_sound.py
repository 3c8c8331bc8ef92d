"""WhisperSpeech's sound is the library's own: small random models, its own formats, on the CPU.

Such models babble; that ours and the library's babble the same is what is looked at.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.settings import Settings
from tests.whisperspeech.files import MICRO, Library
from tests.whisperspeech.saying import TEXTS, note_steps, say, spoken, utterance, whole

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("seed", range(6))
def test_the_sound_is_the_librarys_own(voice: Any, library: Library, seed: int) -> None:
    text = TEXTS[seed % len(TEXTS)]
    sound = whole(say(voice, text, seed))
    np.testing.assert_allclose(sound, library.sound(text, seed), atol=1e-5)
    assert sound.dtype == np.float32
    assert not sound.size or sound.std() > 0.01
    assert voice.sample_rate == 24_000


def test_the_sound_is_the_librarys_own_in_a_batch_of_mixed_lengths(
    voice: Any, library: Library
) -> None:
    """More utterances than rows, so that they also join and leave in each other's middle."""
    limits = (None, 7, 25, None, 2, 40, None, 13)
    jobs = [(TEXTS[n % len(TEXTS)], 30 + n, limit) for n, limit in enumerate(limits)]
    sounds = spoken(voice, *(utterance(text, seed, longest=most) for text, seed, most in jobs))
    assert len({len(sound) for sound in sounds}) > 4
    for sound, (text, seed, most) in zip(sounds, jobs, strict=True):
        np.testing.assert_allclose(sound, library.sound(text, seed, longest=most), atol=1e-5)


def test_streamed_windows_are_the_whole_decode(voice: Any, library: Library, long: int) -> None:
    """No click where they join: each sample is what one decode of all frames gives."""
    pieces = say(voice, TEXTS[0], long)
    assert len(pieces) >= 3
    expected = library.sound(TEXTS[0], long)
    np.testing.assert_allclose(whole(pieces), expected, atol=1e-5)
    joints = np.cumsum([len(piece) for piece in pieces])[:-1]
    steps = np.abs(np.diff(whole(pieces)))
    assert steps[joints - 1].max() <= np.abs(np.diff(expected)).max() + 1e-5


def test_sound_starts_while_the_rest_is_made(
    voice: Any, monkeypatch: pytest.MonkeyPatch, long: int
) -> None:
    steps: list[str] = []
    passed_on: list[int] = []
    note_steps(voice, monkeypatch, lambda name, _: steps.append(name))
    one = utterance(TEXTS[0], long)
    put = one.put
    one.put = lambda sound: (passed_on.append(steps.count("acoustic")), put(sound))
    (sound,) = spoken(voice, one)
    frames = len(sound) // 320
    # 0.2 s as soon as the frames that the vocoder looks at beside them are there
    assert passed_on[0] == 15 + 29 + 3
    assert steps.count("acoustic") == frames + 3
    assert passed_on == sorted(passed_on)
    assert len(passed_on) >= 3


@pytest.mark.parametrize(
    ("asked", "spoken_as"),
    [("en", "en"), ("pl", "pl"), ("pl-PL", "pl"), ("xx", "en"), ("", "en")],
)
def test_language(voice: Any, library: Library, asked: str, spoken_as: str) -> None:
    sound = whole(say(voice, "Dzień dobry.\nTak.", 3, language=asked))
    own = library.sound("Dzień dobry. Tak.", 3, language=spoken_as)
    np.testing.assert_allclose(sound, own, atol=1e-5)
    other = library.sound("Dzień dobry. Tak.", 3, language="pl" if spoken_as == "en" else "en")
    assert other.shape != own.shape or np.abs(other - own).max() > 0.01


def test_the_speaker_of_the_settings_speaks(
    settings: Settings, library: Library, tmp_path: Path
) -> None:
    import torch

    from voices import whisperspeech

    file = tmp_path / "ann.pt"
    torch.save(torch.arange(192.0).reshape(1, 192), file)
    ann = whisperspeech.load(dataclasses.replace(settings, whisperspeech_speaker=str(file)))
    sound = whole(say(ann, TEXTS[1], 2))
    ann.close()
    own = library.sound(TEXTS[1], 2, speaker=torch.arange(192.0))
    np.testing.assert_allclose(sound, own, atol=1e-5)
    usual = library.sound(TEXTS[1], 2)
    assert usual.shape != own.shape or np.abs(usual - own).max() > 0.01


def test_a_conditioned_model_is_spoken_as_the_library_does(
    settings: Settings, folder: Path, tmp_path: Path
) -> None:
    """Later acoustic models take language, noise and echo as conditions beside the speaker."""
    import torch
    from whisperspeech.s2a_delar_mup_wds_mlang_cond import SADelARTransformer, Tunables

    checkpoint = torch.load(folder / "s2a.model", weights_only=True)
    config = checkpoint["config"]
    model = SADelARTransformer(**config, tunables=Tunables(**checkpoint["tunables"]))
    torch.save({**checkpoint, "state_dict": model.state_dict()}, tmp_path / "s2a.model")
    (tmp_path / "t2s.model").symlink_to(folder / "t2s.model")
    library = Library.load(tmp_path, dtype=torch.float32, torch_compile=False)

    from voices import whisperspeech

    voice = whisperspeech.load(
        dataclasses.replace(settings, whisperspeech_s2a=str(tmp_path / "s2a.model"))
    )
    sound = whole(say(voice, "Hello.", 4))
    voice.close()
    np.testing.assert_allclose(sound, library.sound("Hello.", 4), atol=1e-5)


def test_long_texts_are_spoken_in_pieces(voice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    speak = voice.engine.speak
    monkeypatch.setattr(voice.engine, "speak", lambda each: (seen.append(each.text), speak(each)))
    text = "It was opened in 1883, and it is still in use. " * 10
    assert say(voice, text)
    assert len(seen) == 2
    assert " ".join(seen) == text.strip()


@pytest.mark.parametrize("text", ["", "  \n"])
def test_nothing_to_say_is_no_sound(voice: Any, text: str) -> None:
    assert say(voice, text) == []


def test_a_sentence_of_one_token_is_no_sound(voice: Any) -> None:
    """The library makes a frame of its own marks of it."""
    one = utterance("Hello.", longest=1)
    voice.engine.speak(one)
    assert list(one.sounds()) == []


def test_no_utterance_goes_beyond_the_models_limits(voice: Any) -> None:
    most = 3 * (MICRO.tokens - 1) - 4
    sounds = spoken(voice, *(utterance(TEXTS[0], seed) for seed in range(20)))
    assert max(len(sound) for sound in sounds) == most * 320


def test_tokens_that_the_next_model_does_not_know_are_replaced(
    voice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    engine = voice.engine
    passed_on: list[Any] = []
    decoded: list[Any] = []
    admit, decode = engine._acoustic.admit, engine._vocoder._vocos.codes_to_features

    def drawing_too_high(*arguments: Any, draw: Any = engine._semantic._operations.draw) -> None:
        draw(*arguments)
        tokens = arguments[3]
        if tokens.shape[1] == 1:
            tokens.fill_(513)
        else:
            record = arguments[5]
            record.fill_(1025)

    def admitting(newcomers: Any) -> None:
        admit(newcomers)
        passed_on.append(engine._acoustic._sources[0, :5].tolist())

    operations = _with(engine._semantic._operations, draw=drawing_too_high)
    monkeypatch.setattr(engine._semantic, "_operations", operations)
    monkeypatch.setattr(engine._acoustic, "_operations", operations)
    monkeypatch.setattr(engine._acoustic, "admit", admitting)
    monkeypatch.setattr(
        engine._vocoder._vocos,
        "codes_to_features",
        lambda codes: (decoded.append(torch.max(codes)), decode(codes))[1],
    )
    (sound,) = spoken(voice, utterance("Hello.", longest=4))
    assert len(sound) == 8 * 320
    assert passed_on == [[512] * 5]
    assert max(decoded) == 1023


def _with(module: Any, **functions: Any) -> Any:
    """A module with some of its functions replaced."""
    import types

    return types.SimpleNamespace(**{**vars(module), **functions})
