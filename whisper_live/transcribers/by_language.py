"""An English model for English, and a multilingual one for every other language.

The English model is smaller and faster; the other one is loaded when the first person asks for
another language, or for detection of theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from fusion.errors import ConfigurationError, ModelError
from fusion.languages import WHISPER_LANGUAGES
from whisper_live.transcribers.base import Transcriber, Transcript, TranscriptionRequest

ENGLISH = "en"


class TranscriberByLanguage:
    """See `whisper_live.transcribers.base.Transcriber`; safe from any number of threads.

    `load` loads and warms up the multilingual model.
    """

    languages = WHISPER_LANGUAGES

    def __init__(self, english: Transcriber, load: Callable[[], Transcriber]) -> None:
        self.name = english.name
        self.max_batch = english.max_batch
        self._english = english
        self._load = load
        self._loading = threading.Lock()
        self._multilingual: Transcriber | None = None

    def warm_up(self) -> None:
        self._english.warm_up()

    def prepare(self, language: str | None) -> None:
        """Load what this language (None: detection) needs, and return when it is there.

        Takes as long as a download, the first time. Raises ModelError when it cannot be had.
        """
        if language != ENGLISH:
            self._model(language)

    def transcribe(
        self,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Transcript]:
        found: dict[int, Transcript] = {}
        for model, places in self._by_model(requests).items():
            transcripts = model.transcribe([requests[i] for i in places], cancelled)
            found.update(zip(places, transcripts, strict=True))
        return [found[i] for i in range(len(requests))]

    def close(self) -> None:
        for model in filter(None, (self._english, self._multilingual)):
            model.close()

    def _by_model(self, requests: Sequence[TranscriptionRequest]) -> dict[Transcriber, list[int]]:
        groups: dict[Transcriber, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(self._model(request.language), []).append(place)
        return groups

    def _model(self, language: str | None) -> Transcriber:
        if language == ENGLISH:
            return self._english
        with self._loading:
            if self._multilingual is None:
                try:
                    self._multilingual = self._load()
                except ConfigurationError as error:
                    raise ModelError(f"Only English is understood for now: {error}") from error
            return self._multilingual
