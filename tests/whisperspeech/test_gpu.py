"""WhisperSpeech on a GPU: half precision, our kernels, CUDA graphs, many at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.settings import Settings
from tests.whisperspeech.files import MICRO, PUBLISHED, Library, Sizes, go_offline, save_models

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

TEXTS = ("It was opened in 1883.", "Yes.", "How can I help you?", "Good night.")
STEPS = 60

TOLERANCE = 0.1
"""Largest difference of a logit, as a share of the logits' standard deviation."""


def models_of(
    sizes: Sizes, factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch
) -> tuple[Path, Settings]:
    folder = factory.mktemp("whisperspeech")
    go_offline(folder, patch)
    save_models(folder, sizes)
    return folder, Settings(
        whisperspeech_t2s=str(folder / "t2s.model"),
        whisperspeech_s2a=str(folder / "s2a.model"),
        whisperspeech_instances=6,
    )


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from voices import whisperspeech

    with pytest.MonkeyPatch.context() as patch:
        _, settings = models_of(dataclasses.replace(MICRO, end=-40.0), tmp_path_factory, patch)
        loaded = whisperspeech.load(settings)
        loaded.warm_up()
        yield loaded
        loaded.close()


def test_our_kernels_serve(voice: Any) -> None:
    from voices.whisperspeech import kernels

    assert voice.engine._semantic._operations is kernels
    assert voice.engine._acoustic._operations is kernels


def test_many_speak_at_once(voice: Any) -> None:
    from voices.whisperspeech.utterance import Utterance

    spoken = [Utterance(TEXTS[n % 4], longest=5 + 4 * n) for n in range(12)]
    for each in spoken:
        voice.engine.speak(each)
    sounds = [np.concatenate([*each.sounds()]) for each in spoken]
    for sound, each in zip(sounds, spoken, strict=True):
        assert len(sound) == 320 * (3 * len(each.tokens) - 4)
        assert sound.dtype == np.float32
        assert sound.std() > 0.01


def test_the_codes_become_the_sound_that_one_decode_gives(
    voice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from voices.whisperspeech.utterance import Utterance

    windows: list[Any] = []
    decode = voice.engine._vocoder.decode

    def noting(wanted: Any) -> Any:
        windows.extend(wanted)
        return decode(wanted)

    monkeypatch.setattr(voice.engine._vocoder, "decode", noting)
    one = Utterance(TEXTS[0], longest=50)
    voice.engine.speak(one)
    sound = np.concatenate([*one.sounds()])
    assert len(windows) > 2
    frames = len(sound) // 320
    from voices.whisperspeech.windows import Window

    with torch.no_grad():
        whole = decode([(windows[0][0], Window(0, frames, 0, frames))])[0].cpu().numpy()
    np.testing.assert_allclose(sound, whole.clip(-1, 1), atol=1e-3)


def test_a_cancel_ends_the_sentence_and_frees_the_row(voice: Any) -> None:
    asked = iter([False])
    assert list(voice.synthesize(TEXTS[0], cancelled=lambda: next(asked, True))) == []
    assert list(voice.synthesize(TEXTS[0]))


def test_at_the_published_sizes_the_logits_are_the_librarys(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both models are led along what the library draws, and asked what they would draw next.

    In batches of each kind of kernel: a few rows, and tiles of rows.
    """
    import torch

    from voices.whisperspeech.checkpoints import load_models
    from voices.whisperspeech.graphs import Graphs
    from voices.whisperspeech.kernel_check import fastest_operations
    from voices.whisperspeech.stages import AcousticStage, SemanticStage

    folder, settings = models_of(PUBLISHED, tmp_path_factory, monkeypatch)
    library = Library.load(folder, dtype=torch.float16, torch_compile=False)
    semantic_path, acoustic_path = paths_of(library, monkeypatch)
    tokens = [int(drawn) for _, drawn in semantic_path]
    models = load_models(settings)
    graphs = Graphs(recorded=False)
    for rows in (1, 4, 20):
        led = _Led(fastest_operations(models.device))
        with torch.no_grad():
            semantic = SemanticStage(models.t2s, rows, graphs, led)
            semantic.admit([(row, TEXTS[0], "en") for row in range(rows)])
            off = led.along(semantic_path, semantic, rows)
            acoustic = AcousticStage(models.s2a, models.speaker, rows, graphs, led)
            acoustic.admit([(row, tokens) for row in range(rows)])
            offs = (off, led.along(acoustic_path, acoustic, rows))
        print(f"\n{rows} rows: {offs[0]:.4f}, {offs[1]:.4f} of the standard deviation at most")
        assert max(offs) < TOLERANCE


Steps = list[tuple[Any, Any]]
"""Logits and what was drawn of them, step after step."""


def paths_of(library: Library, monkeypatch: pytest.MonkeyPatch) -> tuple[Steps, Steps]:
    """What the library's two models draw for a text, and of which logits."""
    from whisperspeech import inference

    steps: Steps = []
    sample = inference.sample

    def noting(logits: Any, *options: Any) -> Any:
        drawn = sample(logits, *options)
        steps.append((logits.float().flatten(), drawn.flatten().long()))
        return drawn

    with monkeypatch.context() as patch:
        patch.setattr(inference, "sample", noting)
        library.codes(TEXTS[0], 1, longest=STEPS)
    return steps[:STEPS], steps[STEPS:]


class _Led:
    """Operations that draw what they are told, and note how far off they would have been."""

    def __init__(self, operations: Any) -> None:
        self._operations = operations
        self._step: tuple[Any, Any] | None = None
        self._worst = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operations, name)

    def along(self, path: Steps, stage: Any, rows: int) -> float:
        """The largest difference of any logit, as a share of their standard deviation."""
        self._worst = 0.0
        for step in path:
            self._step = step
            stage.step([(row, None) for row in range(rows)])
        return self._worst

    def draw(
        self,
        logits: Any,
        noise: Any,
        scale: Any,
        tokens: Any,
        positions: Any,
        record: Any,
        blank: int,
    ) -> None:
        import torch

        assert self._step is not None
        expected, drawn = self._step
        factor, divisor, _ = scale
        off = (logits.float() * factor / divisor - expected).abs().max() / expected.std()
        self._worst = max(self._worst, float(off))
        stream = torch.arange(len(drawn), device=drawn.device)
        tokens.copy_(torch.where(positions[:, None] + 1 > stream, drawn, blank))
        positions.add_(1)
