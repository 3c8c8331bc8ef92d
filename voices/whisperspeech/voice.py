"""WhisperSpeech as a `voices.base.Voice`."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import torch

from fusion.settings import Settings
from voices.whisperspeech import operations
from voices.whisperspeech.checkpoints import Models, load_models
from voices.whisperspeech.engine import Engine
from voices.whisperspeech.graphs import Graphs
from voices.whisperspeech.kernel_check import fastest_operations
from voices.whisperspeech.stages import AcousticStage, SemanticStage
from voices.whisperspeech.texts import split_text
from voices.whisperspeech.utterance import Sound, Utterance
from voices.whisperspeech.vocoding import WindowVocoder

logger = logging.getLogger(__name__)

SAMPLE_RATE = 24_000

_WARM_UP_RUNS = 3
_WARM_UP_TEXT = "Hello, how can I help you today?"


def load(settings: Settings) -> WhisperSpeechVoice:
    """Load the models that the settings name, for as many people at once as they say.

    Raises ConfigurationError when a package, a model or the speaker's file is missing or broken.
    """
    slots = settings.whisperspeech_instances or settings.max_clients
    models = load_models(settings)
    return WhisperSpeechVoice(_engine(models, slots, settings.torch_compile), slots)


class WhisperSpeechVoice:
    """WhisperSpeech, used by several threads at once. See `voices.base.Voice`."""

    name = "whisperspeech"
    sample_rate = SAMPLE_RATE
    speakers: Mapping[str, str] = MappingProxyType({})
    languages = ("en", "pl")

    def __init__(self, engine: Engine, slots: int) -> None:
        self.max_concurrent = slots
        self.engine = engine

    def warm_up(self) -> None:
        """Record the CUDA graphs and speak to nobody three times; it compiles, which takes long."""
        progress_bar = importlib.import_module("fastprogress").progress_bar
        logger.info("Warming up torch compile model")
        for run in progress_bar(range(_WARM_UP_RUNS)):
            if run == 0:
                self.engine.warm_up()
            for _ in self.synthesize(_WARM_UP_TEXT):
                pass
        logger.info("Warmed up Whisper Speech")

    def prepare(self, language: str) -> None:
        """Do nothing: it is ready for all its languages."""

    def synthesize(
        self,
        text: str,
        *,
        language: str = "en",
        speaker: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[Sound]:
        """Yield the sound of one clause while the rest of it is made.

        See `voices.base.Voice`. `language` is a code such as "en" or "pl"; one that the library
        does not know is spoken as English. `speaker` is not used: there is the one of the
        settings. A cancel takes effect at the next step; `cancelled` is called in another thread.
        """
        for piece in split_text(text):
            if cancelled():
                return
            yield from self._speak(piece, language, cancelled)

    def _speak(self, text: str, language: str, cancelled: Callable[[], bool]) -> Iterator[Sound]:
        left = threading.Event()  # whoever wanted the sound may go before it is all made
        utterance = Utterance(text, language, lambda: left.is_set() or cancelled())
        self.engine.speak(utterance)
        try:
            yield from utterance.sounds()
        finally:
            left.set()

    def close(self) -> None:
        """Release the models and their memory. Idempotent."""
        self.engine.close()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _engine(models: Models, slots: int, compiled: bool) -> Engine:
    on_gpu = compiled and models.device.type == "cuda"
    graphs = Graphs(recorded=on_gpu)
    with torch.no_grad():
        do = fastest_operations(models.device) if on_gpu else operations
        semantic = SemanticStage(models.t2s, slots, graphs, do)
        acoustic = AcousticStage(models.s2a, models.speaker, slots, graphs, do)
        vocoder = WindowVocoder(models.vocoder, acoustic.record, graphs)
    return Engine(semantic, acoustic, vocoder, models.device)
