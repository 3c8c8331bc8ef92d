"""Whisper by CTranslate2: the recogniser of machines without an engine, on CPU or CUDA.

Whisper was trained on windows of 30 s, and on a CPU nearly all its time goes into encoding them. A
spoken question fills two of the thirty seconds, so only the speech and a short margin are encoded
here. The decoder must still see that the speech is over: given a short window alone, tiny.en wrote
the sentence twice for 8 of 42 recordings. What silence looks like once encoded is the same each
time, so it is computed once and put behind the speech; then none of the 42 repeats itself, and the
encoder works a twentieth as long. On CUDA the whole window is cheap and is encoded as it is.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ctranslate2
import faster_whisper
import numpy as np
from faster_whisper.tokenizer import Tokenizer
from numpy.typing import NDArray

from fusion.audio import SAMPLE_RATE
from fusion.errors import ModelError
from fusion.models.lookup import resolve
from fusion.settings import Settings
from whisper_live.transcribers import cuda, guards
from whisper_live.transcribers.base import (
    NOTHING_HEARD,
    WINDOW_SECONDS,
    Transcript,
    TranscriptionRequest,
)

logger = logging.getLogger(__name__)

HOP = 160
"""Samples of a mel frame. The encoder makes one state of two frames."""

WHOLE_WINDOW = int(WINDOW_SECONDS * SAMPLE_RATE) // HOP
HALF_WINDOW = WHOLE_WINDOW // 2
LEAD_IN = 20
"""Mel frames of silence encoded before the speech: an utterance begins almost with its first word,
which Whisper hears badly. Over 126 utterances as the detector cuts them the word error rate was
5.8 % without and 4.5 % with it; anything from 0.1 to 0.3 s does."""

MARGIN = 100
"""Mel frames of silence encoded after the speech, before the prepared silence follows."""

_AFTERGLOW = 5
"""Mel frames until a sound has left the 25 ms that a frame looks at, and one of silence."""

EXPECTED_SHARE = 0.2
"""How probable the language spoken before must be, beside the most probable one, to be kept."""

CUDA_BATCH = 8
WORKERS = 2
"""Calls that run at once: a final transcript never waits for a partial one. Each has its share of
the threads: with tiny.en one thread was as fast as two (0.08 to 0.1 s for three seconds of speech,
0.21 and 0.26 s for ten to twenty) at two thirds of the work."""

LONGEST_CONTEXT = 223
"""Tokens; Whisper keeps half of its decoder's 448 positions for what came before."""


@dataclass(frozen=True)
class Decoding:
    """How the decoder looks for the text: greedily, by beam search or by drawing samples."""

    beam: int = 1
    temperature: float = 0.0

    @property
    def options(self) -> dict[str, Any]:
        """CTranslate2's names for it."""
        if self.temperature == 0.0:
            return {"beam_size": self.beam}
        return {
            "beam_size": 1,
            "num_hypotheses": SAMPLES,
            "sampling_topk": 0,
            "sampling_temperature": self.temperature,
        }


SAMPLES = 5
"""Texts drawn at a temperature above 0; the most probable is taken (Whisper's best_of)."""

FIRST = Decoding()
AGAIN = (Decoding(beam=5), Decoding(temperature=0.4))
"""How a doubtful text is decoded again: the second only where the first was no use either.

Whisper goes on to a temperature of 1.0; over noise that took seconds and found no words.
"""

LIKELY_RIGHT = math.log(0.01)
"""A text less probable than this as a whole is looked at again.

What counts is the text and not the mean of its tokens: a long one has more chances of a wrong word.
On the shared recordings this is every sixth text, and leaves no more wrong words than the whole
window does for all of them."""


@dataclass(frozen=True)
class Hypothesis:
    """What one decoding made of one request, and how probable all of its text is.

    It `ran_on` when it wrote more than can have been said; where it `loops`, what it wrote before
    that is a text. A text that `may_be_loop` repeats itself, but no faster than somebody can have
    said it.
    """

    transcript: Transcript
    log_probability: float
    ran_on: bool = False
    loops: bool = False
    may_be_loop: bool = False

    @property
    def is_doubtful(self) -> bool:
        """Whether a longer look may find other words. Silence stays silence."""
        return self._is_speech and (
            self.ran_on or self.may_be_loop or self.log_probability < LIKELY_RIGHT
        )

    @property
    def is_unsound(self) -> bool:
        """Whether it is no use as it is, so that only another look can make something of it."""
        return self._is_speech and (
            self.ran_on or self.transcript.confidence < guards.CONFIDENCE_LIMIT
        )

    @property
    def rank(self) -> tuple[bool, float]:
        return not self.ran_on, self.transcript.confidence

    @property
    def _is_speech(self) -> bool:
        return not guards.is_silence(self.transcript.no_speech, self.transcript.confidence)


def load(settings: Settings) -> FasterWhisper:
    """Load `settings.whisper_model`. Raises ConfigurationError or ModelError."""
    folder = resolve(settings.whisper_model, "whisper", settings.cache_folder)
    return FasterWhisper(folder, threads=max(1, settings.cpu_threads // WORKERS))


class FasterWhisper:
    """A `Transcriber` (see base.py); safe to call from several threads at once."""

    name = "faster_whisper"

    def __init__(self, folder: Path, *, threads: int, max_batch: int | None = None) -> None:
        """Load the CTranslate2 model in `folder`; `max_batch` None takes what suits the device.

        Raises ModelError when the model cannot be read.
        """
        self._threads = threads
        whisper = self._open(folder, cuda.is_usable())
        self.max_batch = max_batch or (CUDA_BATCH if self._on_cuda else 1)
        self._model = whisper.model
        self._mel = whisper.feature_extractor
        self._words = whisper.hf_tokenizer
        self._words.encode_special_tokens = True  # one in a client's context is text like any other
        self.languages = frozenset(whisper.supported_languages)
        self._suppressed = _suppressed_tokens(Tokenizer(self._words, False))

    def _open(self, folder: Path, on_cuda: bool) -> faster_whisper.WhisperModel:
        """Load the model; on the CPU after all where one encoding shows that the GPU cannot."""
        self._on_cuda = on_cuda
        try:
            whisper = faster_whisper.WhisperModel(
                str(folder),
                device="cuda" if on_cuda else "cpu",
                compute_type=_compute_type(on_cuda),
                cpu_threads=self._threads,
                num_workers=WORKERS,
                local_files_only=True,
            )
            if on_cuda:
                silence = np.zeros((1, whisper.model.n_mels, WHOLE_WINDOW), np.float32)
                np.asarray(whisper.model.encode(_view(silence), to_cpu=True))
        except (RuntimeError, ValueError, OSError) as error:
            if on_cuda:
                logger.warning("the GPU cannot recognise speech (%s): it runs on the CPU", error)
                return self._open(folder, on_cuda=False)
            raise ModelError(
                f"The Whisper model in {folder} cannot be loaded ({error}): "
                "delete the folder so that it is fetched again, or name another --whisper_model."
            ) from error
        return whisper

    def warm_up(self) -> None:
        """Transcribe a second of faint noise, so that every buffer is allocated."""
        noise = np.random.default_rng(0).normal(scale=0.01, size=SAMPLE_RATE)
        self._recognise([TranscriptionRequest(noise.astype(np.float32))], FIRST)

    def prepare(self, language: str | None) -> None:
        """Do nothing: it is ready for all its languages."""

    def transcribe(
        self,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Transcript]:
        """See `Transcriber.transcribe`. `cancelled` is asked between decodings."""
        if self._model is None:
            raise ModelError("The speech recogniser is closed.")
        found = [NOTHING_HEARD] * len(requests)
        audible = [i for i, request in enumerate(requests) if guards.is_audible(request.audio)]
        for group in self._alike(requests, audible):
            if cancelled():
                break
            hypotheses = self._recognise([requests[i] for i in group], FIRST)
            for i, hypothesis in zip(group, hypotheses, strict=True):
                quick = requests[i].quick
                again = hypothesis.is_unsound and not hypothesis.loops
                if again or (hypothesis.is_doubtful and not quick):
                    hypothesis = self._recognise_again(requests[i], hypothesis, cancelled)
                transcript = guards.believed(hypothesis.transcript, requests[i].audio)
                if quick and hypothesis.is_doubtful and transcript is not NOTHING_HEARD:
                    transcript = replace(transcript, doubtful=True)
                found[i] = transcript
        return found

    def close(self) -> None:
        """See `Transcriber.close`. Its memory is free once the last call has returned."""
        self._model = None  # unload_model() keeps it while it believes that a call still runs

    def _alike(
        self, requests: Sequence[TranscriptionRequest], chosen: Sequence[int]
    ) -> list[list[int]]:
        """Group the chosen requests by what one call of the decoder must have in common."""
        groups: dict[int, list[int]] = {}
        for i in chosen:
            groups.setdefault(len(self._context(requests[i])), []).append(i)
        return list(groups.values())

    def _recognise(
        self, requests: Sequence[TranscriptionRequest], decoding: Decoding
    ) -> list[Hypothesis]:
        """Decode all requests at once, encoding no more of their audio than is needed."""
        audio = [request.audio for request in requests]
        encode = self._encode_whole if self._on_cuda else self._encode_speech
        with _model_errors():
            return self._decode(requests, encode(audio), decoding)

    def _recognise_again(
        self, request: TranscriptionRequest, first: Hypothesis, cancelled: Callable[[], bool]
    ) -> Hypothesis:
        """Encode the whole window as Whisper was trained, and decode it with growing freedom."""
        if cancelled():
            return first
        looks: list[Hypothesis] = []
        with _model_errors():
            encoded = self._encode_whole([request.audio])
            for decoding in AGAIN:
                looks += self._decode([request], encoded, decoding)
                if cancelled() or not looks[-1].is_unsound:
                    break
        best = max(looks, key=lambda each: each.rank)
        logger.debug(
            "recognised again, with %s words", "other" if best is not first else "the same"
        )
        return first if best.ran_on and not first.ran_on else best

    def _decode(
        self,
        requests: Sequence[TranscriptionRequest],
        encoded: ctranslate2.StorageView,
        decoding: Decoding,
    ) -> list[Hypothesis]:
        languages = self._languages_of(requests, encoded)
        prompts = [self._prompt(*pair) for pair in zip(requests, languages, strict=True)]
        limits = [guards.max_tokens(len(request.audio) / SAMPLE_RATE) for request in requests]
        results = self._model.generate(
            encoded,
            prompts,
            max_length=len(prompts[0]) + max(limits),
            suppress_tokens=self._suppressed,
            return_scores=True,
            return_no_speech_prob=True,
            **decoding.options,
        )
        return [self._hypothesis(*each) for each in zip(results, languages, requests, strict=True)]

    def _hypothesis(
        self,
        result: ctranslate2.models.WhisperGenerationResult,
        language: str,
        request: TranscriptionRequest,
    ) -> Hypothesis:
        tokens = result.sequences_ids[0]
        text = self._words.decode(tokens, skip_special_tokens=True).strip()
        # The score leaves the end-of-text token out of its mean; Whisper counts it.
        log_probability = result.scores[0] * len(tokens)
        confidence = log_probability / (len(tokens) + 1)
        limit = guards.max_tokens(len(request.audio) / SAMPLE_RATE)
        loops = guards.without_loop(text, request.audio) != text
        return Hypothesis(
            Transcript(text, language, confidence, result.no_speech_prob),
            log_probability,
            loops=loops,
            ran_on=loops or len(tokens) >= limit or guards.is_repetitive(text),
            may_be_loop=guards.may_be_loop(text),
        )

    def _languages_of(
        self, requests: Sequence[TranscriptionRequest], encoded: ctranslate2.StorageView
    ) -> list[str]:
        """Each request's language, the most probable one where it names none."""
        if not self._model.is_multilingual:
            return ["en"] * len(requests)
        if all(request.language for request in requests):
            return [request.language or "" for request in requests]
        detected = self._model.detect_language(encoded)
        return [
            request.language or spoken_language(ranking, request.expected)
            for request, ranking in zip(requests, detected, strict=True)
        ]

    def _prompt(self, request: TranscriptionRequest, language: str) -> list[int]:
        tokenizer = Tokenizer(
            self._words, self._model.is_multilingual, task=request.task, language=language
        )
        return [*self._context(request), *tokenizer.sot_sequence, tokenizer.no_timestamps]

    def _context(self, request: TranscriptionRequest) -> list[int]:
        """The request's context as the decoder reads it: as text that came before."""
        if not request.context.strip():
            return []
        tokens = self._words.encode(" " + request.context.strip(), add_special_tokens=False).ids
        return [self._words.token_to_id("<|startofprev|>"), *tokens[-LONGEST_CONTEXT:]]

    def _encode_whole(self, audio: Sequence[NDArray[np.float32]]) -> ctranslate2.StorageView:
        return self._encode(np.stack([self._mel_frames(each, WHOLE_WINDOW) for each in audio]))

    def _encode_speech(self, audio: Sequence[NDArray[np.float32]]) -> ctranslate2.StorageView:
        """Encode each segment for itself and put the prepared silence behind it."""
        frames = [_frames_to_encode(len(each)) for each in audio]
        window = HALF_WINDOW if max(frames) <= HALF_WINDOW else WHOLE_WINDOW
        padded = []
        for each, count in zip(audio, frames, strict=True):
            mel = self._mel_frames(each, count, lead_in=LEAD_IN)
            speech = np.asarray(self._encode(mel[np.newaxis]))
            padded.append(np.concatenate([speech, self._silence[:, count // 2 : window // 2]], 1))
        return ctranslate2.StorageView.from_array(np.concatenate(padded))

    @functools.cached_property
    def _silence(self) -> NDArray[np.float32]:
        """The states of a window without a sound, float32 [1, 1500, width]. Asked for on the CPU:
        what is encoded on a GPU stays there."""
        return np.array(self._encode_whole([np.zeros(0, np.float32)]))

    def _encode(self, mel: NDArray[np.float32]) -> ctranslate2.StorageView:
        """Mel frames float32 [batch, bands, frames] to states [batch, frames / 2, width]."""
        return self._model.encode(_view(mel))

    def _mel_frames(
        self, audio: NDArray[np.float32], frames: int, lead_in: int = 0
    ) -> NDArray[np.float32]:
        """Log-mel [bands, frames] of the audio, cut or set in silence to fit.

        As much of `lead_in` frames of silence as there is room for come first.
        """
        kept = audio[: frames * HOP]
        first = min(lead_in * HOP, frames * HOP - len(kept))
        # What follows is silence, whose frames are all alike: a few are enough to see them.
        sounding = min(frames, (first + len(kept)) // HOP + _AFTERGLOW)
        padded = np.zeros(sounding * HOP, np.float32)
        padded[first : first + len(kept)] = kept
        mel: NDArray[np.float32] = self._mel(padded, padding=0)
        return np.pad(mel, ((0, 0), (0, frames - sounding)), mode="edge")


def spoken_language(ranking: Sequence[tuple[str, float]], expected: str) -> str:
    """The most probable language of a ranking; the expected one unless it is clearly not that.

    A word or two tell Whisper little: of "Sí." it made Portuguese, Welsh or Japanese.
    """
    shares = {token.strip("<|>"): share for token, share in ranking}
    best = max(shares, key=lambda code: shares[code])
    return expected if shares.get(expected, 0.0) >= EXPECTED_SHARE * shares[best] else best


def _view(mel: NDArray[np.float32]) -> ctranslate2.StorageView:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(mel))


def _compute_type(on_cuda: bool) -> str:
    """8 bits on a CPU; half precision on a GPU, from Volta on, which older ones are slow at."""
    if not on_cuda:
        return "int8"
    return "float16" if "float16" in ctranslate2.get_supported_compute_types("cuda") else "float32"


def _frames_to_encode(samples: int) -> int:
    """How many mel frames to encode: even, as the encoder makes one state of two."""
    frames = LEAD_IN + -(-samples // HOP) + MARGIN
    return min(frames + frames % 2, WHOLE_WINDOW)


def _suppressed_tokens(tokenizer: Tokenizer) -> list[int]:
    """What no speech contains, as Whisper's own decoding.py lists it."""
    special = (
        tokenizer.transcribe,
        tokenizer.translate,
        tokenizer.sot,
        tokenizer.sot_prev,
        tokenizer.sot_lm,
        tokenizer.no_speech,
    )
    return sorted({*tokenizer.non_speech_tokens, *special})


@contextmanager
def _model_errors() -> Iterator[None]:
    """CTranslate2 tells of every failure by RuntimeError or ValueError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"The speech recogniser failed: {error}") from error
