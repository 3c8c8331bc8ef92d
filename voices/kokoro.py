"""Kokoro: one small model with voices in eight languages, on the CPU by ONNX Runtime.

Clause by clause, as its sound comes all at once: it is for machines that make it at least twice as
fast as it plays, and for languages that no other voice here speaks.
"""

from __future__ import annotations

import logging
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from kokoro_onnx import Kokoro
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidProtobuf,
    NoSuchFile,
    RuntimeException,
)

from fusion.errors import ConfigurationError, ModelError
from fusion.models import lookup
from fusion.models.kokoro import KOKORO, LANGUAGES
from fusion.settings import Settings

logger = logging.getLogger(__name__)

# What a voice's name begins with: its language, as ISO 639-1 and as espeak-ng calls it.
_ACCENTS = {
    "a": ("en", "en-us"),
    "b": ("en", "en-gb"),
    "e": ("es", "es"),
    "f": ("fr", "fr-fr"),
    "h": ("hi", "hi"),
    "i": ("it", "it"),
    "p": ("pt", "pt-br"),
}
DEFAULT_SPEAKERS = {
    "en": "af_heart",
    "es": "ef_dora",
    "fr": "ff_siwis",
    "hi": "hf_alpha",
    "it": "if_sara",
    "pt": "pf_dora",
}
"""The best voice of each language, by the grades of its makers where they give some.

Japanese and Chinese voices are there too, but not what turns their writing into phonemes: espeak-ng
spells both. They are left out.
"""

_PART = re.compile(r".+?(?:[.!?…;:,]+(?=\s)|$)", re.DOTALL)
_SHORTEST_PART = 60
"""Letters, some four seconds: a long clause is made in parts, so that its sound comes sooner."""

_ERRORS = (Fail, InvalidArgument, InvalidProtobuf, NoSuchFile, RuntimeException, ValueError)


def load(settings: Settings) -> KokoroVoice:
    """Load the model, fetched if need be.

    Raises ConfigurationError when it cannot be had or its files are not what they should be.
    """
    path = lookup.fetch(KOKORO.name, settings.cache_folder)
    return KokoroVoice(path, max_concurrent=max(1, settings.cpu_threads // 2))


class KokoroVoice:
    """Kokoro's voices. See `voices.base.Voice`; `synthesize` is safe from several threads."""

    sample_rate = 24_000

    def __init__(self, path: Path, *, max_concurrent: int = 1, threads: int = 1) -> None:
        """Load the model at `path`, with the voices beside it. A synthesis uses `threads`."""
        self.name = f"kokoro: {path.stem}"
        self.max_concurrent = max_concurrent
        styles = {file.stem: file for file in path.parent.glob("*.bin")}
        self.speakers: Mapping[str, str] = {
            name: _ACCENTS[name[0]][0] for name in sorted(styles) if name[0] in _ACCENTS
        }
        self.languages = LANGUAGES
        try:
            self._styles = {name: _style(styles[name]) for name in self.speakers}
            self._model = _open(path, self._styles, threads)
        except (*_ERRORS, OSError) as error:
            raise ConfigurationError(
                f"Kokoro's files in {path.parent} are damaged or missing ({error}): delete that "
                "folder to have them fetched again."
            ) from error
        self._closed = threading.Event()

    def warm_up(self) -> None:
        """Speak a sentence to nobody."""
        for _ in self.synthesize("Hello, how can I help you today?"):
            pass
        logger.info("%s is ready", self.name)

    def prepare(self, language: str) -> None:
        """Do nothing: it is ready for all its languages."""

    def synthesize(
        self,
        text: str,
        *,
        language: str = "en",
        speaker: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the sound of one clause, part by part. See `voices.base.Voice`.

        A speaker of another language than the clause's gives way to that language's own. A cancel
        is seen between two parts.
        """
        name = self._speaker(speaker, language)
        _, accent = _ACCENTS[name[0]]
        for part in parts(text):
            if cancelled() or self._closed.is_set():
                return
            try:
                if not self._model.tokenizer.phonemize(part, accent):
                    continue  # nothing of it has a sound
                sound, _ = self._model.create(part, voice=self._styles[name], lang=accent)
            except _ERRORS as error:
                logger.warning("Kokoro failed: %s", error)
                raise ModelError("The voice failed.") from error
            yield np.asarray(sound, np.float32).clip(-1.0, 1.0)

    def close(self) -> None:
        """Release the model. Idempotent."""
        self._closed.set()

    def _speaker(self, wanted: str, language: str) -> str:
        if wanted in self._styles and _ACCENTS[wanted[0]][0] == language:
            return wanted
        return DEFAULT_SPEAKERS.get(language, DEFAULT_SPEAKERS["en"])


def parts(text: str) -> list[str]:
    """Cut a text after its punctuation into parts of four seconds or more, the last one aside."""
    result: list[str] = []
    grown = ""
    for piece in _PART.findall(text):
        grown += piece
        if len(grown.strip()) >= _SHORTEST_PART:
            result.append(grown.strip())
            grown = ""
    if grown.strip():
        result.append(grown.strip())
    return result


def _style(file: Path) -> NDArray[np.float32]:
    """A voice: a style vector for each length of text, [510, 1, 256] float32."""
    return np.fromfile(file, dtype="<f4").reshape(-1, 1, 256)


def _open(path: Path, styles: dict[str, NDArray[np.float32]], threads: int) -> Kokoro:
    """The library wants its voices in one file; a temporary one does, as each style is given."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    with tempfile.NamedTemporaryFile(suffix=".npz") as voices:
        np.savez(voices, next(iter(styles.values())))
        voices.flush()
        model: Kokoro = Kokoro.from_session(session, voices.name)
        return model
