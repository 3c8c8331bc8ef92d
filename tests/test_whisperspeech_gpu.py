"""WhisperSpeech on a GPU: half precision and torch.compile, with small random models."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fusion.settings import Settings
from tests.whisperspeech_files import MICRO, go_offline, save_models

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("whisperspeech")
    with pytest.MonkeyPatch.context() as patch:
        go_offline(folder, patch)
        save_models(folder, MICRO)
        yield Settings(
            whisperspeech_t2s=str(folder / "t2s.model"),
            whisperspeech_s2a=str(folder / "s2a.model"),
            whisperspeech_instances=2,
        )


def test_two_compiled_instances_speak_at_once(settings: Settings) -> None:
    from voices import whisperspeech

    voice = whisperspeech.load(settings)
    voice.warm_up()
    sounds: list[np.ndarray] = []
    texts = ("It was opened in 1883.", "Yes.", "How can I help you?", "Good night.")
    speakers = [
        threading.Thread(target=lambda text=text: sounds.extend(voice.synthesize(text)))
        for text in texts
    ]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join(timeout=60)
    voice.close()
    assert len(sounds) == len(texts)
    assert all(sound.dtype == np.float32 and np.abs(sound).max() > 0 for sound in sounds)


def test_a_cancel_on_the_gpu_ends_the_sentence_and_frees_the_instance(settings: Settings) -> None:
    from voices import whisperspeech

    voice = whisperspeech.load(settings)
    asked = iter([False])
    assert (
        list(voice.synthesize("It was opened in 1883.", cancelled=lambda: next(asked, True))) == []
    )
    assert len(list(voice.synthesize("Yes."))) == 1
    voice.close()
