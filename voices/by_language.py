"""One voice for its own languages, and another one for those that it does not speak.

The other one is loaded when the first person asks for one of its languages.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import soxr
from numpy.typing import NDArray

from fusion.audio import SPEECH_RATE
from fusion.errors import ConfigurationError, ModelError
from voices.base import Voice

logger = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds that a clause waits for the other voice. One in the cache is loaded by then; while it is
downloaded, everybody else is spoken to."""


class VoiceByLanguage:
    """See `voices.base.Voice`; safe from any number of threads.

    `load` loads and warms up the other voice, which speaks with `other_speakers`, each in its own
    language. Only those of languages that `first` does not speak are used.
    """

    sample_rate = SPEECH_RATE

    def __init__(
        self, first: Voice, load: Callable[[], Voice], other_speakers: Mapping[str, str]
    ) -> None:
        self.name = first.name
        self.max_concurrent = first.max_concurrent
        added = {
            name: language
            for name, language in other_speakers.items()
            if language not in first.languages
        }
        self.speakers: Mapping[str, str] = {**first.speakers, **added}
        others = tuple(dict.fromkeys(added.values()))
        self.languages = (*first.languages, *others)
        self._first = first
        self._others = frozenset(others)
        self._load = load
        self._loading = threading.Lock()
        self._other: Voice | None = None

    def warm_up(self) -> None:
        self._first.warm_up()

    def prepare(self, language: str) -> None:
        """Load what this language needs; takes as long as a download, the first time."""
        if language in self._others:
            try:
                self._voice(language)
            except ModelError as error:
                logger.warning("no voice for %s: %s", language, error)

    def synthesize(
        self,
        text: str,
        *,
        language: str = "en",
        speaker: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[NDArray[np.float32]]:
        voice = self._voice(language, _PATIENCE)
        sounds = voice.synthesize(text, language=language, speaker=speaker, cancelled=cancelled)
        if voice.sample_rate == SPEECH_RATE:
            yield from sounds
            return
        stream = soxr.ResampleStream(voice.sample_rate, SPEECH_RATE, 1, dtype="float32")
        for sound in sounds:
            if len(resampled := stream.resample_chunk(sound)):
                yield resampled
        if len(rest := stream.resample_chunk(np.zeros(0, np.float32), last=True)):
            yield rest

    def close(self) -> None:
        for voice in filter(None, (self._first, self._other)):
            voice.close()

    def _voice(self, language: str, patience: float = -1) -> Voice:
        """Raises ModelError when the other voice cannot be had, or not yet; the next call tries
        again. `patience` is seconds, -1 for all that it takes."""
        if language not in self._others:
            return self._first
        if not self._loading.acquire(timeout=patience):
            raise ModelError("The voice for this language is still being fetched.")
        try:
            if self._other is None:
                self._other = self._load()
            return self._other
        except ConfigurationError as error:
            raise ModelError(f"There is no voice for this language: {error}") from error
        finally:
            self._loading.release()
