"""WhisperSpeech with its real code: small random models in its own file formats, on the CPU.

Such models babble, so the tests look at what goes in, how it is stopped and how much comes out.
Nothing here imports PyTorch before a test runs: without the marker the file costs nothing.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.errors import ConfigurationError, ModelError
from fusion.settings import Settings
from tests.whisperspeech_files import MICRO, go_offline, save_models

pytestmark = pytest.mark.torch

LONGEST = MICRO.tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Hugging Face cache and a torch.hub folder with random models, and nothing else online."""
    folder = tmp_path_factory.mktemp("whisperspeech")
    with pytest.MonkeyPatch.context() as patch:
        _allow_torchaudio_without_cuda(folder, patch)
        import torch

        go_offline(folder, patch)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        save_models(folder, MICRO)
        yield folder
        torch.set_num_threads(threads)


def _allow_torchaudio_without_cuda(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """PyPI's torchaudio holds a library that needs CUDA's; the rest of it works without both."""
    import torch

    if torch.version.cuda is not None:
        return
    found = [Path(path, "torchaudio") for path in sys.path if Path(path, "torchaudio").is_dir()]
    python_only = folder / "python" / "torchaudio"
    python_only.mkdir(parents=True)
    for entry in found[0].iterdir():
        if entry.name != "lib":
            (python_only / entry.name).symlink_to(entry)
    patch.syspath_prepend(str(python_only.parent))


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    return Settings(
        whisperspeech_t2s=str(folder / "t2s.model"), whisperspeech_s2a=str(folder / "s2a.model")
    )


@pytest.fixture(scope="module")
def voice(settings: Settings) -> Iterator[Any]:
    from voices import whisperspeech

    loaded = whisperspeech.load(settings)
    yield loaded
    loaded.close()


def pipeline_of(voice: Any, number: int = 0) -> Any:
    return voice._instances[number]._pipeline


def say(voice: Any, text: str, seed: int = 0, **options: Any) -> list[np.ndarray]:
    import torch

    torch.manual_seed(seed)
    return list(voice.synthesize(text, **options))


def test_the_sound_is_the_librarys_own(voice: Any) -> None:
    import torch

    text = "Hello there, how are you?"
    (sound,) = say(voice, text)
    torch.manual_seed(0)
    pipeline = pipeline_of(voice)
    tokens = pipeline.generate_atoks(text, lang="en", cps=15).clamp(max=1023)
    expected = pipeline.vocoder.decode(tokens)[0].numpy()
    np.testing.assert_allclose(sound, np.clip(expected, -1, 1), atol=1e-5)
    assert sound.dtype == np.float32
    assert 320 <= len(sound) <= 3 * LONGEST * 320
    assert voice.sample_rate == 24_000


def test_models_by_name_come_from_the_hub(settings: Settings, voice: Any) -> None:
    from voices import whisperspeech

    by_name = whisperspeech.load(
        dataclasses.replace(settings, whisperspeech_t2s="someone/voices:t2s-micro.model")
    )
    np.testing.assert_array_equal(say(by_name, "Hello.")[0], say(voice, "Hello.")[0])
    by_name.close()


def test_warm_up_runs_three_times_and_says_so(
    voice: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fastprogress

    texts = spy_on_texts(voice, monkeypatch)
    bars: list[int] = []
    monkeypatch.setattr(
        fastprogress, "progress_bar", lambda runs: bars.append(len(runs)) or iter(runs)
    )
    with caplog.at_level(logging.INFO):
        voice.warm_up()
    assert len(texts) == 3
    assert bars == [3]
    assert [record.message for record in caplog.records] == [
        "Warming up torch compile model",
        "Warmed up Whisper Speech",
    ]


def spy_on_texts(voice: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Note text and language of every generation."""
    t2s = pipeline_of(voice).t2s
    generate = t2s.generate
    seen: list[tuple[str, str]] = []

    def noting(text: str, **options: Any) -> Any:
        seen.append((text, options["lang"]))
        return generate(text, **options)

    monkeypatch.setattr(t2s, "generate", noting)
    return seen


@pytest.mark.parametrize(
    ("asked", "spoken"), [("en", "en"), ("pl", "pl"), ("pl-PL", "pl"), ("xx", "en"), ("", "en")]
)
def test_language(voice: Any, monkeypatch: pytest.MonkeyPatch, asked: str, spoken: str) -> None:
    seen = spy_on_texts(voice, monkeypatch)
    say(voice, "Dzień dobry.\nTak.", language=asked)
    assert seen == [("Dzień dobry. Tak.", spoken)]


def test_long_texts_are_spoken_in_pieces(voice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spy_on_texts(voice, monkeypatch)
    text = "It was opened in 1883, and it is still in use. " * 10
    assert len(say(voice, text)) == 2
    assert " ".join(piece for piece, _ in seen) == text.strip()
    assert all(piece.endswith(".") for piece, _ in seen)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_nothing_to_say_is_no_sound(voice: Any, text: str) -> None:
    assert say(voice, text) == []


@pytest.mark.parametrize("letter", ["a", "ß", "京", "😊", "a b, c. "])
@pytest.mark.parametrize("length", [1, 399, 400, 401, 2_000])
def test_pieces_keep_to_the_limits(letter: str, length: int) -> None:
    from voices.whisperspeech import split_text

    text = (letter * length)[:length]
    pieces = list(split_text(text))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= 400 and len(piece.encode()) <= 549 for piece in pieces)


def slow_steps(
    voice: Any, monkeypatch: pytest.MonkeyPatch, stage: str, note: Callable[[], None]
) -> None:
    """Call `note` at every token of a stage, before the voice's own callback."""
    model = getattr(pipeline_of(voice), stage)
    generate = model.generate

    def slowly(*arguments: Any, step: Callable[[], None], **options: Any) -> Any:
        def noting() -> None:
            note()
            step()

        return generate(*arguments, step=noting, **options)

    monkeypatch.setattr(model, "generate", slowly)


@pytest.mark.parametrize("stage", ["t2s", "s2a"])
def test_a_cancel_stops_within_a_token(
    voice: Any, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    before = say(voice, "Hello.", seed=5)
    cancel, seen = threading.Event(), threading.Event()
    tokens: list[int] = []

    def note() -> None:
        tokens.append(1)
        if len(tokens) == 3:
            cancel.set()
            assert seen.wait(timeout=10)
            # `cancelled` said so; the voice passes it on at once.
            threading.Event().wait(0.2)

    def cancelled() -> bool:
        if cancel.is_set():
            seen.set()
        return cancel.is_set()

    with monkeypatch.context() as patch:
        slow_steps(voice, patch, stage, note)
        assert say(voice, "Hello.", seed=5, cancelled=cancelled) == []
    assert len(tokens) == 3
    # The instance is free again, and nothing of the broken generation is left in it.
    np.testing.assert_array_equal(say(voice, "Hello.", seed=5)[0], before[0])


def test_a_cancel_ends_the_wait_for_an_instance(voice: Any) -> None:
    taken = voice._free.get(timeout=1)
    answers = iter([False, False, True])
    try:
        assert say(voice, "Hello.", cancelled=lambda: next(answers)) == []
    finally:
        voice._free.put(taken)


@pytest.mark.parametrize("count", [1, 2])
def test_as_many_speak_at_once_as_there_are_instances(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    from voices import whisperspeech

    voice = whisperspeech.load(dataclasses.replace(settings, whisperspeech_instances=count))
    assert voice.max_concurrent == count
    running: set[int] = set()
    most = []
    both = threading.Barrier(count)
    for number in range(count):
        t2s = pipeline_of(voice, number).t2s

        def noting(
            *arguments: Any, original: Any = t2s.generate, me: int = number, **options: Any
        ) -> Any:
            running.add(me)
            both.wait(timeout=30)
            most.append(len(running))
            result = original(*arguments, **options)
            running.discard(me)
            return result

        monkeypatch.setattr(t2s, "generate", noting)
    sounds: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: sounds.extend(voice.synthesize("Hello."))) for _ in "1234"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(sounds) == 4
    assert max(most) == count
    voice.close()
    voice.close()


def test_the_speaker_of_the_settings_speaks(
    settings: Settings, voice: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    from voices import whisperspeech

    file = tmp_path / "ann.pt"
    torch.save(torch.arange(192.0).reshape(1, 192), file)
    ann = whisperspeech.load(dataclasses.replace(settings, whisperspeech_speaker=str(file)))
    assert speaker_heard(ann, monkeypatch) == list(range(192))
    usual = pipeline_of(voice).default_speaker
    assert speaker_heard(voice, monkeypatch) == usual.tolist()
    ann.close()


def speaker_heard(voice: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The embedding that a generation is given."""
    s2a = pipeline_of(voice).s2a
    generate = s2a.generate
    heard: list[list[float]] = []

    def noting(tokens: Any, speakers: Any, **options: Any) -> Any:
        heard.extend(speakers.tolist())
        return generate(tokens, speakers, **options)

    with monkeypatch.context() as patch:
        patch.setattr(s2a, "generate", noting)
        assert say(voice, "Hello.")
    (embedding,) = heard
    return embedding


def test_tokens_that_the_next_model_does_not_know_are_replaced(
    voice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    pipeline = pipeline_of(voice)
    heard: list[list[int]] = []

    def acoustic(tokens: Any, *_: Any, **__: Any) -> Any:
        heard.append(tokens.tolist())
        return torch.full((1, 4, 5), 1025)

    monkeypatch.setattr(pipeline.t2s, "generate", lambda *_, **__: torch.full((1, 5), 513))
    monkeypatch.setattr(pipeline.s2a, "generate", acoustic)
    decoded = note_calls(monkeypatch, pipeline.vocoder, "decode")
    (sound,) = say(voice, "Hello.")
    assert len(sound) == 5 * 320
    assert heard == [[512] * 5]
    assert int(decoded[0].max()) == 1023


def note_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """The first argument of every call of a method, which still does its work."""
    original = getattr(owner, name)
    calls: list[Any] = []

    def noting(argument: Any) -> Any:
        calls.append(argument)
        return original(argument)

    monkeypatch.setattr(owner, name, noting)
    return calls


def test_a_failure_of_the_model_is_a_model_error(
    voice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def fail(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline_of(voice).vocoder, "decode", fail)
        with pytest.raises(ModelError, match="out of memory"):
            say(voice, "Hello.")
        patch.setattr(
            pipeline_of(voice).vocoder, "decode", lambda _: torch.tensor([[float("nan")]])
        )
        with pytest.raises(ModelError, match="no sound"):
            say(voice, "Hello.")
    assert say(voice, "Hello.")  # the instance came back


@pytest.mark.parametrize("name", ["t2s", "s2a"])
def test_a_missing_model_is_named_with_its_reason(settings: Settings, name: str) -> None:
    from voices import whisperspeech

    flag = f"whisperspeech_{name}"
    with pytest.raises(ConfigurationError, match=rf"/nowhere\.model .*FileNotFound.*--{flag}"):
        whisperspeech.load(dataclasses.replace(settings, **{flag: "/nowhere.model"}))


def test_a_missing_vocoder_is_one_clear_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    from voices import whisperspeech

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigurationError, match="vocoder"):
        whisperspeech.load(settings)


def test_a_missing_package_is_one_clear_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voices import whisperspeech

    monkeypatch.setitem(sys.modules, "whisperspeech.pipeline", None)
    with pytest.raises(ConfigurationError, match=r"requirements-torch\.txt"):
        whisperspeech.load(settings)


@pytest.mark.parametrize("content", [None, b"", b"no tensor", "short"])
def test_a_wrong_speaker_file_is_one_clear_error(
    settings: Settings, tmp_path: Path, content: bytes | str | None
) -> None:
    import torch

    from voices import whisperspeech

    file = tmp_path / "ann.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        torch.save(torch.zeros(5), file)
    with pytest.raises(ConfigurationError, match="--whisperspeech_speaker"):
        whisperspeech.load(dataclasses.replace(settings, whisperspeech_speaker=str(file)))


def test_compiling_is_for_the_gpu(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU nothing is compiled; on a GPU both models are, in half precision."""
    import torch
    from whisperspeech.s2a_delar_mup_wds_mlang import SADelARTransformer
    from whisperspeech.t2s_up_wds_mlang_enclm import TSARTransformer

    from voices import whisperspeech

    asked: list[dict[str, Any]] = []
    for model in (TSARTransformer, SADelARTransformer):
        monkeypatch.setattr(model, "optimize", lambda _, **options: asked.append(options))
    whisperspeech.load(settings).close()
    assert asked == [{"dtype": torch.float32, "torch_compile": False}] * 2
