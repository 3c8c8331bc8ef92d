"""Smart Turn v3: from the sound of a voice, whether the person is done.

The model (pipecat-ai/smart-turn, BSD-2-Clause) is Whisper tiny's encoder with a classifier on top,
as ONNX. It takes the log-mel of the last 8 s of a turn, the silence after it included, and hears
intonation and speed rather than words.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

from fusion import metrics
from fusion.audio import SAMPLE_RATE
from fusion.errors import ModelError
from fusion.models.lookup import resolve
from fusion.settings import Settings
from fusion.watchdog import watched

MODEL = "smart-turn-v3.2"
SECONDS = 8

_GPU = "CUDAExecutionProvider"
_GPU_BATCH = 32
_CORES_A_WORKER = 4
"""The other three are for Whisper, the voice and what else waits."""

_PATIENCE = 30.0
"""Seconds for a prediction that takes a tenth of one."""

# onnxruntime's errors have no base of their own.
_LOAD_ERRORS = (
    onnx_errors.Fail,
    onnx_errors.InvalidGraph,
    onnx_errors.InvalidProtobuf,
    onnx_errors.NoSuchFile,
    onnx_errors.NotImplemented,
)
_RUN_ERRORS = (onnx_errors.Fail, onnx_errors.InvalidArgument, onnx_errors.RuntimeException)


def load(settings: Settings) -> SmartTurn:
    """Load the model, fetched when it is missing. Raises ConfigurationError or ModelError."""
    return SmartTurn(resolve(MODEL, "turn", settings.cache_folder))


class SmartTurn:
    """The loaded model; safe to call from several threads.

    A GPU judges `max_batch` at once; on a CPU a batch is no faster than one after the other (27 ms
    of one core for one, 30 ms each in a batch of eight), and `workers` threads judge one each.
    """

    def __init__(self, path: Path) -> None:
        """Load the ONNX file. Raises ModelError when it cannot be read."""
        on_gpu = _GPU in onnxruntime.get_available_providers()
        self.max_batch = _GPU_BATCH if on_gpu else 1
        self.workers = 1 if on_gpu else max(1, (os.cpu_count() or 1) // _CORES_A_WORKER)
        options = onnxruntime.SessionOptions()
        # It runs beside the transcription, which needs the other cores; two threads gained nothing.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        providers = [*([_GPU] if on_gpu else []), "CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except _LOAD_ERRORS as error:
            raise ModelError(
                f"The turn detector {path} cannot be loaded ({error}): "
                "delete the file so that it is fetched again, or start with --no-smart_turn."
            ) from error

    def warm_up(self) -> None:
        """Judge silence, alone and in the largest batch, so that every buffer is allocated."""
        silence = np.zeros(SAMPLE_RATE, np.float32)
        for count in {1, self.max_batch}:
            self.probabilities([silence] * count)

    def probability(self, audio: NDArray[np.float32]) -> float:
        """`probabilities` of one."""
        return self.probabilities([audio])[0]

    def probabilities(self, audios: Sequence[NDArray[np.float32]]) -> list[float]:
        """How likely each person is done, 0 to 1, from their turn's audio up to now.

        Each is float32 mono at 16 kHz; its last 8 s count. Raises ModelError.
        """
        features = np.stack([log_mel(last_seconds(audio)) for audio in audios])
        try:
            with (
                watched("the turn detector", _PATIENCE),
                metrics.model_call("turn detection", SECONDS, ("onnxruntime", "smart-turn")),
            ):
                [output] = self._session.run(None, {"input_features": features})
        except _RUN_ERRORS as error:
            raise ModelError(f"The turn detector failed: {error}") from error
        return [float(each) for each in output.ravel()]


def last_seconds(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The last 8 s, with silence before them when there are fewer; float32 [128000]."""
    kept = audio[-SECONDS * SAMPLE_RATE :]
    window = np.zeros(SECONDS * SAMPLE_RATE, np.float32)
    window[len(window) - len(kept) :] = kept
    return window


def log_mel(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whisper's log-mel of audio brought to zero mean and unit variance; float32 [80, frames].

    As transformers' WhisperFeatureExtractor with do_normalize computes it, which the model was
    trained with.
    """
    normal = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-7)
    features: NDArray[np.float32] = _EXTRACTOR(normal, padding=0)
    return features


_EXTRACTOR = FeatureExtractor(feature_size=80)
