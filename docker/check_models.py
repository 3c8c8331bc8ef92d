"""Runs one model as the server would and says what it does: a step of check-gpu.sh.

    python3 -m docker.check_models {transcription,language_model,voice} [flags of main.py]

Ends with status 0 and one line of facts, or with status 1 and one line that says what is wrong.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soxr
from numpy.typing import NDArray

from fusion.audio import SAMPLE_RATE
from fusion.command_line import parse
from fusion.errors import FusionError, ModelError
from fusion.selection import (
    LANGUAGE_MODELS,
    TRANSCRIBERS,
    VOICES,
    Choice,
    choose,
    module,
    survey,
)
from fusion.settings import Settings
from language_models.base import Cancellation, ChatMessage, GenerationRequest, LanguageModel
from voices.base import Voice
from whisper_live.transcribers.base import (
    Transcriber,
    TranscriptionRequest,
)

SENTENCE = "The little boat came back to the harbour before it was dark."
QUESTION = "Name three colours of the rainbow."
TOGETHER = 4
LONGEST_STOP = 1.0
"""Seconds that a cancelled generation may still take."""

REST = 6.0
"""Seconds after which a model has said in the log if a cancellation was never answered."""


def main(arguments: Sequence[str]) -> int:
    """Check the model that is named first; the rest are the settings."""
    part, *flags = arguments
    checks = {
        "transcription": _transcription,
        "language_model": _language_model,
        "voice": _voice,
    }
    try:
        settings = parse(flags)
        choice = choose(settings, survey(settings))
        print("; ".join(checks[part](settings, choice)))
    except FusionError as error:
        print(error)
        return 1
    return 0


def _transcription(settings: Settings, choice: Choice) -> Iterator[str]:
    transcriber: Transcriber = module(TRANSCRIBERS, choice.transcription).load(settings)
    voice: Voice = module(VOICES, choice.voice).load(settings)
    transcriber.warm_up()
    yield from check_transcription(transcriber, spoken(voice, SENTENCE), spoken(voice, QUESTION))
    transcriber.close()
    voice.close()


def _language_model(settings: Settings, choice: Choice) -> Iterator[str]:
    model: LanguageModel = module(LANGUAGE_MODELS, choice.language_model).load(settings)
    model.warm_up()
    yield from check_language_model(model)
    time.sleep(REST)
    model.close()


def _voice(settings: Settings, choice: Choice) -> Iterator[str]:
    voice: Voice = module(VOICES, choice.voice).load(settings)
    voice.warm_up()
    yield from check_voice(voice)
    voice.close()


def check_transcription(
    transcriber: Transcriber, sentence: NDArray[np.float32], question: NDArray[np.float32]
) -> Iterator[str]:
    """SENTENCE and QUESTION, spoken, at 16 kHz. Raises ModelError for what is not as it should."""
    requests = [TranscriptionRequest(audio) for audio in (sentence, question)]
    begun = time.monotonic()
    alone = [transcriber.transcribe([request])[0].text for request in requests]
    yield f"{transcriber.name}: two sentences one by one in {_since(begun)}"
    share = len(_words(SENTENCE) & _words(alone[0])) / len(_words(SENTENCE))
    if share < 0.7:
        raise ModelError(f"{transcriber.name} wrote {alone[0]!r} for {SENTENCE!r}.")
    # In turns, so that a text that comes back to the wrong client is seen.
    turns = [number % len(requests) for number in range(transcriber.max_batch)]
    begun = time.monotonic()
    together = transcriber.transcribe([requests[turn] for turn in turns])
    yield f"{transcriber.max_batch} windows together in {_since(begun)}"
    for turn, transcript in zip(turns, together, strict=True):
        if transcript.text != alone[turn]:
            raise ModelError(f"{transcriber.name} wrote {transcript.text!r} in a batch.")
    begun = time.monotonic()
    transcriber.transcribe(requests[:1], lambda: True)
    _stopped_soon(transcriber.name, begun)


def check_language_model(model: LanguageModel) -> Iterator[str]:
    """Replies alone and together, and a cancelled one. Raises ModelError."""
    request = GenerationRequest((ChatMessage("user", QUESTION),), max_tokens=60)
    begun = time.monotonic()
    stream = model.stream(request, Cancellation())
    first = next(stream, "")
    yield f"{model.name}: first words after {_since(begun)}"
    alone = first + "".join(stream)
    yield f"{len(alone)} characters in {_since(begun)}"
    if len(alone.split()) < 3 or "<|" in alone:
        raise ModelError(f"{model.name} answered {alone!r}.")
    count = min(TOGETHER, model.max_concurrent)
    begun = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        replies = list(
            pool.map(lambda _: "".join(model.stream(request, Cancellation())), range(count))
        )
    yield f"{count} replies together in {_since(begun)}"
    if not all(reply.strip() for reply in replies):
        raise ModelError(f"{model.name} left one of {count} replies empty when they ran together.")
    yield from _cancelled_reply(model, request)


def _cancelled_reply(model: LanguageModel, request: GenerationRequest) -> Iterator[str]:
    cancellation = Cancellation()
    stream = model.stream(request, cancellation)
    next(stream, "")
    threading.Timer(0.05, cancellation.request).start()
    begun = time.monotonic()
    for _ in stream:
        pass
    _stopped_soon(model.name, begun)
    yield f"a cancelled reply ended after {_since(begun)}"
    if not "".join(model.stream(request, Cancellation())).strip():
        raise ModelError(f"{model.name} did not answer any more after a cancelled reply.")


def check_voice(voice: Voice) -> Iterator[str]:
    """A sentence, its length and loudness, and a cancelled one. Raises ModelError."""
    begun = time.monotonic()
    sound = np.concatenate(list(voice.synthesize(SENTENCE)))
    seconds = len(sound) / voice.sample_rate
    yield f"{voice.name}: {seconds:.1f} s of sound in {_since(begun)}"
    loudness = float(np.sqrt(np.mean(sound**2)))
    if not 2.0 < seconds < 12.0 or not 0.005 < loudness < 0.7:
        raise ModelError(
            f"{voice.name} made {seconds:.1f} s of sound with a level of {loudness:.3f} "
            f"for {SENTENCE!r}."
        )
    begun = time.monotonic()
    for _ in voice.synthesize(SENTENCE, cancelled=lambda: True):
        pass
    _stopped_soon(voice.name, begun)


def spoken(voice: Voice, text: str) -> NDArray[np.float32]:
    """The voice saying `text`, as the transcriber takes it."""
    sound = np.concatenate(list(voice.synthesize(text)))
    resampled: NDArray[np.float32] = soxr.resample(sound, voice.sample_rate, SAMPLE_RATE)
    return resampled.astype(np.float32)


def _stopped_soon(name: str, begun: float) -> None:
    if time.monotonic() - begun > LONGEST_STOP:
        raise ModelError(f"{name} took {_since(begun)} to stop when it was cancelled.")


def _since(begun: float) -> str:
    return f"{time.monotonic() - begun:.2f} s"


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
