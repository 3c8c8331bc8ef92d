"""Whisper on TensorRT-LLM 0.10.0: serves batches of requests with the engines.

The sessions belong to the thread that made them: their CUDA stream is current there alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import torch
from whisper.tokenizer import get_tokenizer

from fusion.audio import SAMPLE_RATE
from fusion.errors import ModelError
from fusion.settings import Settings
from whisper_live.transcribers import guards
from whisper_live.transcribers.base import (
    NOTHING_HEARD,
    Transcript,
    TranscriptionRequest,
)
from whisper_live.transcribers.tensorrt_engines import (
    Engines,
    Row,
    Sessions,
    WhisperLogitsProcessor,
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

    def prepare(self, language: str | None) -> None:
        """Do nothing: it is ready for all its languages."""

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
            hypotheses = self._recognise(self._sessions, [requests[i] for i in audible], cancelled)
        if not cancelled():
            for i, transcript in zip(audible, hypotheses, strict=True):
                found[i] = guards.believed(transcript, requests[i].audio)
        return found

    def _recognise(
        self,
        sessions: Sessions,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool],
    ) -> list[Transcript]:
        encoded = sessions.encode([request.audio for request in requests])
        contexts = [self._context(request.context) for request in requests]
        found = self._decode(requests, encoded, contexts, cancelled)
        # A context is the usual cause of a loop: those rows are recognised again without it.
        again = [i for i, t in enumerate(found) if contexts[i] and guards.may_be_loop(t.text)]
        if again and not cancelled():
            hypotheses = self._decode(
                [requests[i] for i in again], encoded[again], [[]] * len(again), cancelled
            )
            for i, transcript in zip(again, hypotheses, strict=True):
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
            hypotheses = self._decode_group(encoded[group], prompts, rows, cancelled)
            for i, transcript in zip(group, hypotheses, strict=True):
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
        logits_processor = WhisperLogitsProcessor(self._tokenizer, rows, self._device)
        written = self._sessions.decode(
            encoded,
            torch.tensor(prompts, dtype=torch.int32, device=self._device),
            logits_processor,
            max_new_tokens=len(rows[0].header) + max(row.limit for row in rows),
            end_id=self._tokenizer.eot,
            cancelled=cancelled,
        )
        marks = zip(
            written, logits_processor.log_probabilities(), logits_processor.no_speech(), strict=True
        )
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
