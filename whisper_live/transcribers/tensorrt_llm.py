"""Whisper as TensorRT-LLM 0.10.0 engines.

The encoder always takes whole windows of 30 s, so the windows of several clients go through it
together. The decoder writes one batch at a time; it is prompted with `<|startoftranscript|>` alone,
and language, task and the absence of timestamps are forced upon its first steps row by row. So
requests of different languages share a batch, an unknown language is detected on the way, and the
same step gives the probability that nobody speaks.

The sessions belong to the thread that made them: their CUDA stream is current there alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from tensorrt_llm import Mapping
from tensorrt_llm._utils import str_dtype_to_torch, str_dtype_to_trt, trt_dtype_to_torch
from tensorrt_llm.runtime import GenerationSession, ModelConfig, SamplingConfig
from tensorrt_llm.runtime.session import Session, TensorInfo
from whisper.audio import N_SAMPLES, log_mel_spectrogram
from whisper.tokenizer import get_tokenizer

from fusion.errors import ConfigurationError, ModelError
from fusion.settings import Settings
from whisper_live.transcribers import guards
from whisper_live.transcribers.base import (
    NOTHING_HEARD,
    SAMPLE_RATE,
    Transcript,
    TranscriptionRequest,
)

logger = logging.getLogger(__name__)

LOAD_TIMEOUT = 120.0
CALL_TIMEOUT = 30.0
CLOSE_TIMEOUT = 5.0
"""Seconds that the owning thread has to make the sessions, to transcribe a batch and to let go."""

MULTILINGUAL_VOCABULARY = 51865
"""Tokens; an English-only model has one fewer."""

LONGEST_CONTEXT = 223
"""Tokens of context that Whisper was trained with: half of its 448 positions, less one."""

MARKS_AROUND_CONTEXT = 2
"""Tokens: `<|startofprev|>` before it and `<|startoftranscript|>` after it."""


@dataclass(frozen=True)
class Engines:
    """The engine folder that `examples/whisper/build.py` writes, and its limits."""

    folder: Path
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    plugins: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Engines:
        """Raises ConfigurationError when the folder is not such a one."""
        advice = (
            "build it with docker/scripts/build-whisper.sh "
            "or name its folder with --whisper_tensorrt_path"
        )
        if (folder / "encoder").is_dir():
            raise ConfigurationError(
                f"The Whisper engines in {folder} were built by TensorRT-LLM 0.11 or newer, "
                f"and 0.10 runs only its own; {advice}."
            )
        try:
            encoder = json.loads((folder / "encoder_config.json").read_text())
            decoder = json.loads((folder / "decoder_config.json").read_text())
            return cls(
                folder,
                encoder["builder_config"],
                decoder["builder_config"],
                decoder["plugin_config"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"There are no Whisper TensorRT-LLM engines in {folder} ({error!r}); {advice}."
            ) from error

    def load(self, part: str) -> bytes:
        """The serialised engine of "encoder" or "decoder"."""
        name = f"whisper_{part}_{self.encoder['precision']}_tp1_rank0.engine"
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"The Whisper engine {self.folder / name} cannot be read ({error}); "
                "build it with docker/scripts/build-whisper.sh."
            ) from error

    @property
    def max_batch(self) -> int:
        return min(int(self.encoder["max_batch_size"]), int(self.decoder["max_batch_size"]))


@dataclass(frozen=True)
class Row:
    """One request as the decoder sees it. `header` is forced upon it; None is to be detected."""

    header: tuple[int | None, ...]
    limit: int


class Steering:
    """Says at each step what every row of a batch may write, and remembers how sure it was.

    A `LogitsProcessor`. It changes the logits in place: the runtime has given the address of its
    own buffer to the next step already. The rules are those of Whisper's decoding.py
    (SuppressBlank, SuppressTokens, detect_language).
    """

    def __init__(self, tokenizer: Any, rows: Sequence[Row], device: str) -> None:
        self._tokenizer = tokenizer
        self._rows = rows
        self._header_steps = len(rows[0].header)
        self._index = torch.arange(len(rows), device=device)
        self._limits = torch.tensor([row.limit for row in rows], device=device)
        self._languages = torch.tensor(sorted(tokenizer.all_language_tokens), device=device)
        self._blank = torch.tensor([*tokenizer.encode(" "), tokenizer.eot], device=device)
        self._not_speech = torch.tensor(tokenizer.non_speech_tokens, device=device)
        self._no_speech = torch.zeros(len(rows), device=device)
        self._log_probabilities: list[torch.Tensor] = []

    def __call__(self, step: int, input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        scores = logits.view(len(self._rows), -1)
        if step == 0:
            self._no_speech = scores.float().softmax(-1)[:, self._tokenizer.no_speech]
        if step < self._header_steps:
            self._allow_only(scores, self._header_tokens(scores, step))
        else:
            self._allow_speech(scores, step - self._header_steps)
            # Greedy: the token written is the most probable one.
            certain = scores.float()
            self._log_probabilities.append(certain.amax(-1) - certain.logsumexp(-1))
        return logits

    def no_speech(self) -> list[float]:
        """For each row the probability that nobody speaks."""
        found: list[float] = self._no_speech.tolist()
        return found

    def log_probabilities(self) -> list[list[float]]:
        """For each row the log probability of each token after the header."""
        if not self._log_probabilities:
            return [[] for _ in self._rows]
        found: list[list[float]] = torch.stack(self._log_probabilities, -1).tolist()
        return found

    def _header_tokens(self, scores: torch.Tensor, step: int) -> torch.Tensor:
        likeliest = self._languages[scores[:, self._languages].argmax(-1)]
        given = [row.header[step] for row in self._rows]
        tokens = torch.tensor([-1 if t is None else t for t in given], device=scores.device)
        return torch.where(tokens < 0, likeliest, tokens)

    def _allow_speech(self, scores: torch.Tensor, position: int) -> None:
        lowest = torch.finfo(scores.dtype).min
        end = self._tokenizer.eot
        scores[:, end + 1 :] = lowest
        scores[:, self._not_speech] = lowest
        if position == 0:
            scores[:, self._blank] = lowest
        finished = (self._limits <= position).unsqueeze(1)
        scores.masked_fill_(finished, lowest)
        scores[:, end].masked_fill_(finished.squeeze(1), 0.0)

    def _allow_only(self, scores: torch.Tensor, tokens: torch.Tensor) -> None:
        scores.fill_(torch.finfo(scores.dtype).min)
        scores[self._index, tokens] = 0.0


class Sessions:
    """Encoder and decoder on the GPU. Used by the thread that made it."""

    def __init__(self, engines: Engines, device: str) -> None:
        self._device = device
        self._precision = engines.encoder["precision"]
        self._n_mels = int(engines.encoder["n_mels"])
        try:
            self._encoder = Session.from_serialized_engine(engines.load("encoder"))
            self._decoder = GenerationSession(
                _model_config(engines), engines.load("decoder"), Mapping(world_size=1, rank=0)
            )
        except RuntimeError as error:
            raise ConfigurationError(
                f"The Whisper engines in {engines.folder} do not open on this GPU; "
                f"build them again on this machine ({error})."
            ) from error

    def encode(self, windows: Sequence[np.ndarray[Any, Any]]) -> torch.Tensor:
        """Audio of up to 30 s each to encoder states [batch, 1500, width]."""
        mel = torch.stack([self._mel(audio) for audio in windows])
        lengths = torch.full((len(windows),), mel.shape[2] // 2, device=self._device).int()
        shapes = self._encoder.infer_shapes(
            [
                TensorInfo("x", str_dtype_to_trt(self._precision), mel.shape),
                TensorInfo("input_lengths", str_dtype_to_trt("int32"), lengths.shape),
            ]
        )
        outputs = {
            info.name: torch.empty(
                tuple(info.shape), dtype=trt_dtype_to_torch(info.dtype), device=self._device
            )
            for info in shapes
        }
        stream = torch.cuda.current_stream()
        if not self._encoder.run({"x": mel, "input_lengths": lengths}, outputs, stream.cuda_stream):
            raise ModelError("The Whisper encoder engine refused to run.")
        return outputs["output"]

    def decode(
        self,
        encoded: torch.Tensor,
        prompt: torch.Tensor,
        steering: Steering,
        max_new_tokens: int,
        end_id: int,
        cancelled: Callable[[], bool],
    ) -> list[list[int]]:
        """Token ids after the prompts. `prompt` is int32 [batch, length], all of one length."""
        batch, positions = encoded.shape[:2]
        length = prompt.shape[1]
        self._decoder.setup(
            batch, length, max_new_tokens, beam_width=1, encoder_max_input_length=positions
        )
        ids = self._decoder.decode(
            prompt,
            torch.full((batch,), length, device=self._device).int(),
            SamplingConfig(end_id=end_id, pad_id=end_id, num_beams=1),
            encoder_output=encoded,
            encoder_input_lengths=torch.full((batch,), positions, device=self._device).int(),
            stopping_criteria=lambda step, input_ids, scores: cancelled(),
            logits_processor=steering,
            cross_attention_mask=torch.ones((batch, 1, positions), device=self._device).int(),
        )
        written: list[list[int]] = ids[:, 0, length:].tolist()
        return written

    def _mel(self, audio: np.ndarray[Any, Any]) -> torch.Tensor:
        """Log-mel [n_mels, 3000]. One by one: it is scaled by the loudest sound of its window."""
        samples = torch.tensor(audio, dtype=torch.float32)[:N_SAMPLES]
        mel: torch.Tensor = log_mel_spectrogram(
            samples, self._n_mels, padding=N_SAMPLES - len(samples), device=self._device
        )
        return mel.to(str_dtype_to_torch(self._precision))


class TensorRTWhisper:
    """A `Transcriber` over one engine folder; safe to call from several threads."""

    name = "tensorrt_llm"

    def __init__(self, engines: Engines, device: str = "cuda") -> None:
        self.max_batch = engines.max_batch
        self._device = device
        self._multilingual = engines.decoder["vocab_size"] >= MULTILINGUAL_VOCABULARY
        self._tokenizer = get_tokenizer(
            self._multilingual, num_languages=engines.encoder["num_languages"]
        )
        self._language_tokens = dict(
            zip(
                self._tokenizer.all_language_codes, self._tokenizer.all_language_tokens, strict=True
            )
        )
        self._language_codes = {token: code for code, token in self._language_tokens.items()}
        self.languages = frozenset(self._language_tokens if self._multilingual else ("en",))
        self._room_for_prompt = int(engines.decoder["max_input_len"])
        self._room_for_text = int(engines.decoder["max_output_len"])
        self._positions = int(engines.decoder["max_position_embeddings"])
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="tensorrt_llm whisper")
        self._closed = False
        self._sessions: Sessions | None = self._opened(engines, device)

    def warm_up(self) -> None:
        """Transcribe faint noise in the smallest and the largest batch."""
        noise = np.random.default_rng(0).normal(scale=0.01, size=SAMPLE_RATE)
        request = TranscriptionRequest(noise.astype(np.float32))
        self.transcribe([request])
        self.transcribe([request] * self.max_batch)

    def transcribe(
        self,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Transcript]:
        """See `Transcriber.transcribe`. `cancelled` is asked at every token."""
        if self._closed:
            raise ModelError("The speech recogniser is closed.")
        if not requests:
            return []
        abandoned = Event()
        work = self._owner.submit(
            self._transcribe, requests, lambda: abandoned.is_set() or cancelled()
        )
        try:
            return work.result(timeout=CALL_TIMEOUT)
        except FutureTimeoutError:
            abandoned.set()
            raise ModelError(
                f"The speech recogniser did not answer within {CALL_TIMEOUT:g} s."
            ) from None

    def close(self) -> None:
        """See `Transcriber.close`."""
        if self._closed:
            return
        self._closed = True
        try:
            self._owner.submit(self._release).result(timeout=CLOSE_TIMEOUT)
        except FutureTimeoutError:
            logger.warning("The Whisper engines were still busy after %g s", CLOSE_TIMEOUT)
        self._owner.shutdown(wait=False, cancel_futures=True)

    def _opened(self, engines: Engines, device: str) -> Sessions:
        try:
            return self._owner.submit(Sessions, engines, device).result(timeout=LOAD_TIMEOUT)
        except FutureTimeoutError:
            raise ModelError(
                f"The Whisper engines in {engines.folder} did not load within {LOAD_TIMEOUT:g} s."
            ) from None

    def _release(self) -> None:
        self._sessions = None

    # What follows runs in the owning thread.

    def _transcribe(
        self, requests: Sequence[TranscriptionRequest], cancelled: Callable[[], bool]
    ) -> list[Transcript]:
        found = [NOTHING_HEARD] * len(requests)
        audible = [i for i, request in enumerate(requests) if guards.is_audible(request.audio)]
        if self._sessions is None or not audible or cancelled():
            return found
        with _model_errors():
            heard = self._hear(self._sessions, [requests[i] for i in audible], cancelled)
        if not cancelled():
            for i, transcript in zip(audible, heard, strict=True):
                found[i] = _believed(transcript, len(requests[i].audio) / SAMPLE_RATE)
        return found

    def _hear(
        self,
        sessions: Sessions,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool],
    ) -> list[Transcript]:
        encoded = sessions.encode([request.audio for request in requests])
        contexts = [self._context(request.context) for request in requests]
        found = self._decode(requests, encoded, contexts, cancelled)
        # A context is the usual cause of a loop: those rows are heard again without it.
        again = [i for i, t in enumerate(found) if contexts[i] and _loops(t.text)]
        if again and not cancelled():
            heard = self._decode(
                [requests[i] for i in again], encoded[again], [[]] * len(again), cancelled
            )
            for i, transcript in zip(again, heard, strict=True):
                found[i] = transcript
        return found

    def _decode(
        self,
        requests: Sequence[TranscriptionRequest],
        encoded: torch.Tensor,
        contexts: Sequence[list[int]],
        cancelled: Callable[[], bool],
    ) -> list[Transcript]:
        """Decode in groups: the prompts of one batch are of one length."""
        found = [NOTHING_HEARD] * len(requests)
        for length in sorted({len(context) for context in contexts}):
            group = [i for i, context in enumerate(contexts) if len(context) == length]
            prompts = [[*contexts[i], self._tokenizer.sot] for i in group]
            rows = [self._row(requests[i], length + 1) for i in group]
            heard = self._decode_group(encoded[group], prompts, rows, cancelled)
            for i, transcript in zip(group, heard, strict=True):
                found[i] = transcript
        return found

    def _decode_group(
        self,
        encoded: torch.Tensor,
        prompts: Sequence[list[int]],
        rows: Sequence[Row],
        cancelled: Callable[[], bool],
    ) -> list[Transcript]:
        assert self._sessions is not None
        steering = Steering(self._tokenizer, rows, self._device)
        written = self._sessions.decode(
            encoded,
            torch.tensor(prompts, dtype=torch.int32, device=self._device),
            steering,
            max_new_tokens=len(rows[0].header) + max(row.limit for row in rows),
            end_id=self._tokenizer.eot,
            cancelled=cancelled,
        )
        marks = zip(written, steering.log_probabilities(), steering.no_speech(), strict=True)
        return [self._transcript(len(rows[0].header), *mark) for mark in marks]

    def _row(self, request: TranscriptionRequest, prompt_length: int) -> Row:
        tokenizer = self._tokenizer
        header: tuple[int | None, ...] = (tokenizer.no_timestamps,)
        if self._multilingual:
            task = tokenizer.translate if request.task == "translate" else tokenizer.transcribe
            header = (self._language_tokens.get(request.language or ""), task, *header)
        room = min(self._room_for_text, self._positions - prompt_length) - len(header)
        return Row(header, min(room, guards.max_tokens(len(request.audio) / SAMPLE_RATE)))

    def _context(self, text: str) -> list[int]:
        """The end of the context as text that came before, as much as the engine has room for."""
        room = min(LONGEST_CONTEXT, self._room_for_prompt - MARKS_AROUND_CONTEXT)
        if not text.strip() or room <= 0:
            return []
        # A special token in it is text like any other; the tokenizer would refuse all of it.
        ids = self._tokenizer.encode(" " + text.strip(), disallowed_special=())
        return [self._tokenizer.sot_prev, *ids[-room:]]

    def _transcript(
        self, header: int, ids: list[int], log_probabilities: list[float], no_speech: float
    ) -> Transcript:
        text = ids[header:]
        if self._tokenizer.eot in text:
            text = text[: text.index(self._tokenizer.eot)]
        # As Whisper counts: the end of the text is one of its tokens.
        counted = log_probabilities[: len(text) + 1]
        return Transcript(
            text=self._tokenizer.decode(text).strip(),
            language=self._language_codes.get(ids[0], "") if self._multilingual else "en",
            confidence=sum(counted) / len(counted) if counted else 0.0,
            no_speech=no_speech,
        )


def load(settings: Settings) -> TensorRTWhisper:
    """Load the engines in `--whisper_tensorrt_path`. Raises ConfigurationError."""
    engines = Engines.read(Path(settings.whisper_tensorrt_path))
    transcriber = TensorRTWhisper(engines)
    logger.info("Loaded Whisper TensorRT Engine")
    return transcriber


def _model_config(engines: Engines) -> Any:
    decoder, plugins = engines.decoder, engines.plugins
    return ModelConfig(
        max_batch_size=decoder["max_batch_size"],
        max_beam_width=decoder["max_beam_width"],
        vocab_size=decoder["vocab_size"],
        num_layers=decoder["num_layers"],
        num_heads=decoder["num_heads"],
        num_kv_heads=decoder["num_heads"],
        hidden_size=decoder["hidden_size"],
        gpt_attention_plugin=plugins["gpt_attention_plugin"],
        remove_input_padding=plugins["remove_input_padding"],
        cross_attention=decoder["cross_attention"],
        has_position_embedding=decoder["has_position_embedding"],
        has_token_type_embedding=decoder["has_token_type_embedding"],
    )


def _loops(text: str) -> bool:
    return guards.is_repetitive(text) or guards.is_said_again(text)


def _believed(transcript: Transcript, seconds: float) -> Transcript:
    """The transcript, or NOTHING_HEARD where the model wrote what nobody said.

    A phrase that it repeats faster than anybody speaks was said once.
    """
    text = guards.said_once(transcript.text, seconds) or transcript.text
    no_speech, confidence = transcript.no_speech, transcript.confidence
    invented = (
        guards.is_silence(no_speech, confidence)
        or guards.is_phantom(text, no_speech, confidence)
        or guards.is_repetitive(text)
    )
    return NOTHING_HEARD if invented else replace(transcript, text=text)


@contextmanager
def _model_errors() -> Iterator[None]:
    """The runtime and PyTorch tell of every failure by RuntimeError or ValueError.

    After some, as an illegal access to memory, CUDA is lost to this process. The next call says so
    with an error that nobody catches, and the process ends and is started anew.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        torch.cuda.synchronize()
        raise ModelError(f"The speech recogniser failed: {error}") from error
