"""WhisperSpeech is loaded from the library's own files, and says what is wrong with them."""

from __future__ import annotations

import dataclasses
import logging
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.errors import ConfigurationError
from fusion.settings import Settings
from tests.whisperspeech.saying import TEXTS, say, whole

pytestmark = pytest.mark.torch


def test_models_by_name_come_from_the_hub(settings: Settings, voice: Any) -> None:
    from voices import whisperspeech

    by_name = whisperspeech.load(
        dataclasses.replace(settings, whisperspeech_t2s="someone/voices:t2s-micro.model")
    )
    np.testing.assert_array_equal(say(by_name, "Hello.")[0], say(voice, "Hello.")[0])
    by_name.close()


def test_as_many_rows_as_clients_are_let_in(settings: Settings) -> None:
    from voices import whisperspeech

    voice = whisperspeech.load(
        dataclasses.replace(settings, whisperspeech_instances=0, max_clients=5)
    )
    assert voice.max_concurrent == 5
    voice.close()


def test_warm_up_runs_three_times_and_says_so(
    voice: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fastprogress

    texts: list[str] = []
    speak = voice.engine.speak
    bars: list[int] = []
    monkeypatch.setattr(voice.engine, "speak", lambda each: (texts.append(each.text), speak(each)))
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


def test_the_warm_up_keeps_within_what_there_is_room_for(
    voice: Any, monkeypatch: pytest.MonkeyPatch, long: int
) -> None:
    """On a GPU every size is recorded beforehand; an index out of bounds would end the process."""
    graphs = voice.engine._semantic._graphs
    ran: list[tuple[int, ...]] = []
    run = graphs.run
    monkeypatch.setattr(graphs, "sizes", lambda most: sorted({1, most}))
    monkeypatch.setattr(graphs, "run", lambda work, *sizes: (ran.append(sizes), run(work, *sizes)))
    before = say(voice, TEXTS[0], long)
    ran.clear()
    voice.engine.warm_up()
    assert {sizes[0] for sizes in ran} == {1, 3}
    assert max(length for _, length in (sizes for sizes in ran if len(sizes) == 2)) >= 170
    np.testing.assert_array_equal(whole(say(voice, TEXTS[0], long)), whole(before))


@pytest.mark.parametrize("name", ["t2s", "s2a"])
def test_a_missing_model_is_named_with_its_reason(settings: Settings, name: str) -> None:
    from voices import whisperspeech

    flag = f"whisperspeech_{name}"
    with pytest.raises(ConfigurationError, match=rf"/nowhere\.model .*FileNotFound.*--{flag}"):
        whisperspeech.load(dataclasses.replace(settings, **{flag: "/nowhere.model"}))


@pytest.mark.parametrize("name", ["t2s", "s2a"])
@pytest.mark.parametrize("content", ["bytes", "nothing", "a list", "another model", "half"])
def test_a_broken_model_is_one_clear_error(
    settings: Settings, folder: Path, tmp_path: Path, name: str, content: str
) -> None:
    import torch

    from voices import whisperspeech

    file = tmp_path / "bad.model"
    whole = (folder / f"{name}.model").read_bytes()
    if content == "a list":
        torch.save([1, 2], file)
    elif content == "another model":
        other = {"t2s": "s2a", "s2a": "t2s"}[name]
        file.write_bytes((folder / f"{other}.model").read_bytes())
    else:
        file.write_bytes({"bytes": b"no model", "nothing": b"", "half": whole[: 2**14]}[content])
    flag = f"whisperspeech_{name}"
    with pytest.raises(ConfigurationError, match=rf"bad\.model cannot be loaded .*--{flag}"):
        whisperspeech.load(dataclasses.replace(settings, **{flag: str(file)}))


def test_a_model_that_is_more_than_weights_is_named_in_the_log(
    settings: Settings, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from voices import whisperspeech

    checkpoint = torch.load(folder / "t2s.model", weights_only=True)
    file = tmp_path / "old.model"
    torch.save({**checkpoint, "made_in": Path("/somewhere")}, file, pickle_module=pickle)
    whisperspeech.load(dataclasses.replace(settings, whisperspeech_t2s=str(file))).close()
    (record,) = (each for each in caplog.records if "only weights" in each.message)
    assert str(file) in record.message
    caplog.clear()
    whisperspeech.load(settings).close()
    assert not caplog.records


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
