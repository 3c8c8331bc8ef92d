"""Speech by Piper (VITS): fast on a CPU, many languages, one small file a voice.

A voice is an ONNX model with its configuration beside it (`NAME.onnx`, `NAME.onnx.json`). The
`piper` package turns text into phonemes with espeak-ng and knows the configuration; the model is
run here, so that its threads can be counted, its work be stopped and its sound come piece by piece.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    RuntimeException,
)
from piper import PiperVoice as Phonemizer
from piper.config import PiperConfig

from fusion.errors import ConfigurationError, ModelError
from fusion.models import lookup
from fusion.models.sources import VOICE
from fusion.settings import Settings
from voices import vits
from voices.spoken_text.amounts import base_language

logger = logging.getLogger(__name__)

Sound = NDArray[np.float32]

SENTENCE_GAP = 0.20
PAUSE_GAP = 0.08
JOINT_GAP = 0.02
"""Seconds of silence after a sentence, a comma, and a cut between two words."""

# Piper itself leaves 30 to 60 ms before a clause and 100 to 230 ms after it (measured with
# en_US-joe-medium): silence that the listener would wait for, and uneven gaps.
_AUDIBLE = 0.003
"""Root mean square of 10 ms that counts as sound, as a share of the voice's peak (-50 dB)."""
_ONSET = 0.01
"""Seconds kept before the first sound."""

_PEAK = 0.8
"""Loudest sample that the voice is scaled to, once, so that all clauses are equally loud."""

# About 15 phonemes are a second of speech: a long sentence is made in parts of three seconds or
# more, cut at its commas, so that its sound need not wait for its end.
_SHORTEST_PART = 45
_SHORTEST_REST = 15

_POLL = 0.02
"""Seconds between two looks at whether a running synthesis was cancelled."""

_ERRORS = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile, RuntimeException)
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*\s*$")
_PAUSE_END = re.compile(r"[,;:–—-][\"'”’»)\]]*\s*$")
_WARM_UP = ("Hello, how can I help you today?", "Yes.", "It was opened in 1883, and it is in use.")

# espeak-ng keeps its voice and its text in globals of the process.
_espeak = threading.Lock()


def load(settings: Settings) -> PiperVoice:
    """Load the voice that the settings name, fetched if need be.

    Raises ConfigurationError when there is no such voice or its files are not one.
    """
    path = lookup.resolve(settings.voice, VOICE, settings.cache_folder)
    # Language model and voice work at the same time: half of the budget is the voice's, and it
    # makes several sentences at once rather than one with several threads, which gains little.
    return PiperVoice(path, max_concurrent=max(1, settings.cpu_threads // 2))


class PiperVoice:
    """One Piper voice, used by several threads at once. See `voices.base.Voice`."""

    def __init__(self, path: Path, *, max_concurrent: int = 1, threads: int = 1) -> None:
        """Load `path`; each of `max_concurrent` syntheses uses `threads` threads."""
        self.name = f"piper: {path.stem}"
        self.max_concurrent = max_concurrent
        self._config = _read_config(path)
        self.sample_rate = int(self._config.sample_rate)
        language = base_language(self._config.espeak_voice)
        self.languages = (language,)
        self.speakers: Mapping[str, str] = dict.fromkeys(
            self._config.speaker_id_map or (), language
        )
        self._acoustic, self._vocoder, self._halves = _open_model(path, threads)
        self._phonemizer = Phonemizer(session=self._acoustic, config=self._config)
        self._peak = _PEAK
        self._workers = concurrent.futures.ThreadPoolExecutor(max_concurrent, "piper")

    def warm_up(self) -> None:
        """Speak a few sentences to nobody, and measure how loud the voice is."""
        sounds = [
            sound
            for text in _WARM_UP
            for part in self._phonemize(text)
            for sound in self._run(self._phonemizer.phonemes_to_ids(part), "", lambda: False)
        ]
        self._peak = max((float(np.abs(sound).max()) for sound in sounds), default=0.0) or _PEAK
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
    ) -> Iterator[Sound]:
        """Yield the sound of one clause while it is made. See `voices.base.Voice`.

        `language` is not used: a Piper voice speaks one. `speaker` names one of a voice that has
        several. A cancel stops the model within about 100 ms.
        """
        parts = self._phonemize(text)
        gain = np.float32(_PEAK / self._peak)
        for index, part in enumerate(parts):
            trimmer = SilenceTrimmer(self.sample_rate, _AUDIBLE * self._peak)
            for samples in self._run(self._phonemizer.phonemes_to_ids(part), speaker, cancelled):
                if len(sound := trimmer.feed(samples)):
                    yield np.clip(sound * gain, -1.0, 1.0)
            if cancelled():
                return
            gap = _gap_after("".join(part), text if index == len(parts) - 1 else "")
            if len(rest := trimmer.finish(gap)):
                yield np.clip(rest * gain, -1.0, 1.0)

    def close(self) -> None:
        """Release the worker threads. Idempotent."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _phonemize(self, text: str) -> list[list[str]]:
        if not any(map(str.isalnum, text)):
            return []
        with _espeak:
            # Piper takes what stands in double brackets for phonemes.
            sentences = self._phonemizer.phonemize(text.replace("[[", "[").replace("]]", "]"))
        return [part for sentence in sentences for part in _parts(sentence)]

    def _run(self, ids: list[int], speaker: str, cancelled: Callable[[], bool]) -> Iterator[Sound]:
        """The samples of some phonemes, piece by piece; ends early when they are cancelled."""
        made = self._infer(self._acoustic, self._inputs(ids, speaker), cancelled)
        if made is None:
            return
        if self._vocoder is None or self._halves is None:
            yield made[0].reshape(-1)
            return
        latent, names = made[0], (self._halves.latent, *self._halves.shared)
        for run, drop, keep in vits.pieces(latent.shape[-1]):
            inputs = dict(zip(names, (latent[..., run], *made[1:]), strict=True))
            sound = self._infer(self._vocoder, inputs, cancelled)
            if sound is None:
                return
            hop = sound[0].size // (run.stop - run.start)
            yield sound[0].reshape(-1)[drop * hop : (drop + keep) * hop]

    def _infer(
        self,
        session: onnxruntime.InferenceSession,
        inputs: dict[str, NDArray[Any]],
        cancelled: Callable[[], bool],
    ) -> list[NDArray[np.float32]] | None:
        """What the model makes of its inputs, or None when that was cancelled."""
        if cancelled():
            return None
        options = onnxruntime.RunOptions()
        future = self._workers.submit(session.run, None, inputs, options)
        while not concurrent.futures.wait((future,), timeout=_POLL).done:
            if cancelled():
                options.terminate = True
        try:
            return [np.asarray(made, dtype=np.float32) for made in future.result(timeout=0)]
        except _ERRORS as error:
            if options.terminate:
                return None
            raise ModelError(f"The voice {self.name} failed: {error}") from error

    def _inputs(self, ids: list[int], speaker: str) -> dict[str, NDArray[Any]]:
        config = self._config
        scales = [config.noise_scale, config.length_scale, config.noise_w_scale]
        inputs: dict[str, NDArray[Any]] = {
            "input": np.array([ids], dtype=np.int64),
            "input_lengths": np.array([len(ids)], dtype=np.int64),
            "scales": np.array(scales, dtype=np.float32),
        }
        if config.num_speakers > 1:
            number = (config.speaker_id_map or {}).get(speaker, config.default_speaker_id or 0)
            inputs["sid"] = np.array([number], dtype=np.int64)
        return inputs


class SilenceTrimmer:
    """Cuts the silence before a sound that comes piece by piece, and makes that after it even.

    `threshold` is the root mean square of 10 ms that counts as sound.
    """

    def __init__(self, sample_rate: int, threshold: float) -> None:
        self._rate = sample_rate
        self._threshold = threshold
        self._held: Sound = np.zeros(0, np.float32)
        self._begun = False

    def feed(self, samples: Sound) -> Sound:
        """Take the next samples; return what can go out, up to the last sound so far."""
        held = np.concatenate((self._held, samples))
        frame = self._rate // 100
        count = len(held) // frame
        power = np.square(held[: count * frame].reshape(count, frame)).mean(axis=1)
        audible = np.flatnonzero(power > self._threshold**2)
        if not len(audible):
            self._held = held
            return held[:0]
        onset = int(audible[0]) * frame - int(_ONSET * self._rate)
        start = 0 if self._begun else max(0, onset)
        end = int(audible[-1] + 1) * frame
        self._begun = True
        self._held = held[end:]
        return held[start:end]

    def finish(self, gap: float) -> Sound:
        """`gap` seconds of silence after the sound; nothing where there was none."""
        if not self._begun:
            return self._held[:0]
        rest = self._held[: int(gap * self._rate)]
        missing = int(gap * self._rate) - len(rest)
        return np.concatenate((rest, np.zeros(missing, np.float32)))


def _read_config(path: Path) -> PiperConfig:
    file = path.with_name(path.name + ".json")
    try:
        return PiperConfig.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"The Piper voice {path} lacks its configuration: put {file.name} beside it."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ConfigurationError(
            f"{file} is no configuration of a Piper voice ({error}): fetch the voice again."
        ) from error


def _open_model(
    path: Path, threads: int
) -> tuple[
    onnxruntime.InferenceSession, onnxruntime.InferenceSession | None, vits.SplitModel | None
]:
    """The voice's two split_model, or the whole of one that cannot be cut."""
    try:
        split_model = vits.split(path)
        if split_model is None:
            return _open_session(path.read_bytes(), threads), None, None
        vocoder = _open_session(split_model.vocoder, threads)
        return _open_session(split_model.acoustic, threads), vocoder, split_model
    except (*_ERRORS, DecodeError, OSError) as error:
        raise ConfigurationError(
            f"{path} is no Piper voice that can be read ({error}): fetch the voice again."
        ) from error


def _open_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait for work by spinning take the cores from the other models.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model, sess_options=options, providers=["CPUExecutionProvider"]
    )


def _parts(phonemes: list[str]) -> Iterator[list[str]]:
    """Cut the phonemes of a long sentence after its commas."""
    start = 0
    for index, phoneme in enumerate(phonemes):
        rest = len(phonemes) - index - 1
        if phoneme in ",;:" and index - start >= _SHORTEST_PART and rest >= _SHORTEST_REST:
            yield phonemes[start : index + 1]
            start = index + 1
    if start < len(phonemes):
        yield phonemes[start:]


def _gap_after(phonemes: str, text: str) -> float:
    """Seconds of silence after a part; `text` is that of the clause which ends with it, or ""."""
    for ending in (phonemes, text):
        if _SENTENCE_END.search(ending):
            return SENTENCE_GAP
        if _PAUSE_END.search(ending):
            return PAUSE_GAP
    return JOINT_GAP if text else SENTENCE_GAP
