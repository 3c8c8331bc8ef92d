"""Speech by WhisperSpeech 0.8.9 on a GPU, one sentence at a time.

Text becomes semantic tokens (T2S), those become acoustic tokens (S2A), and the vocoder makes them
24 kHz sound. A `Pipeline` keeps the cache of its running generation in itself, so it makes one at
a time; `whisperspeech_instances` of them serve that many people at once. Each has a thread of its
own, as the CUDA graphs of torch.compile belong to the thread that recorded them.

Works with torch 2.2 and later. Facts about the library: its 0.8.9 wheel.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import io
import logging
import pickle
import queue
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusion import cuda_graphs
from fusion.errors import ConfigurationError, ModelError
from fusion.selection import first_gpu
from fusion.settings import Settings
from voices.fair_lock import FairLock

logger = logging.getLogger(__name__)

Sound = NDArray[np.float32]

SAMPLE_RATE = 24_000
CHARACTERS_PER_SECOND = 15
SPEAKER_WIDTH = 192

LONGEST_TEXT = 400
"""Characters. The library stops after 30 s, which are 450 characters at the speed above."""
LONGEST_TEXT_BYTES = 540
"""Bytes of UTF-8. The library drops what goes beyond 549 without a word."""

_LAST_CODE = 1023
"""The acoustic model may also draw 1024 and 1025, its marks, which the vocoder does not know.

So may the semantic model draw one more than the acoustic one has. An index too high would end the
process's use of the GPU, not only the sentence."""

_WARM_UP_RUNS = 3
_WARM_UP_TEXT = "Hello, how can I help you today?"
_POLL = 0.02
"""Seconds between two looks at whether a generation was cancelled."""
_PLACES_TO_CUT = tuple(
    re.compile(pattern)
    for pattern in (r"[.!?…]+[\"'”’»)\]]*\s|[。！？]", r"[:;,]\s|[、，；]", r"\s")
)


class _CancelledError(Exception):
    """Raised between two tokens, as the library knows no other way to stop."""


def load(settings: Settings) -> WhisperSpeechVoice:
    """Load the models that the settings name, as often as `whisperspeech_instances` says.

    Raises ConfigurationError when a package, a model or the speaker's file is missing or broken.
    """
    speaker = _read_speaker(settings.whisperspeech_speaker)
    gpu = FairLock()
    instances = [_Instance(settings, speaker, gpu) for _ in range(settings.whisperspeech_instances)]
    return WhisperSpeechVoice(instances)


class WhisperSpeechVoice:
    """WhisperSpeech, used by several threads at once. See `voices.base.Voice`."""

    name = "whisperspeech"
    sample_rate = SAMPLE_RATE
    speakers = ()
    languages = ("en", "pl")

    def __init__(self, instances: list[_Instance]) -> None:
        self.max_concurrent = len(instances)
        self._instances = instances
        self._free: queue.SimpleQueue[_Instance] = queue.SimpleQueue()
        for instance in instances:
            self._free.put(instance)

    def warm_up(self) -> None:
        """Speak to nobody, each instance three times: the first run compiles, which takes long."""
        progress_bar = importlib.import_module("fastprogress").progress_bar
        logger.info("Warming up torch compile model")
        for run in progress_bar(range(_WARM_UP_RUNS * len(self._instances))):
            instance = self._instances[run % len(self._instances)]
            instance.speak(_WARM_UP_TEXT, "en", lambda: False)
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
        """Yield the sound of one clause, in one piece unless it is very long.

        See `voices.base.Voice`. `language` is a code such as "en" or "pl"; one that the library
        does not know is spoken as English. `speaker` is not used: there is the one of the
        settings. A cancel takes effect at the next token.
        """
        for piece in split_text(text):
            instance = self._take_instance(cancelled)
            if instance is None:
                return
            try:
                sound = instance.speak(piece, language, cancelled)
            finally:
                self._free.put(instance)
            if sound is None:
                return
            if sound.size:
                yield sound

    def close(self) -> None:
        """Release the models and their memory. Idempotent."""
        for instance in self._instances:
            instance.close()
        self._instances = []
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _take_instance(self, cancelled: Callable[[], bool]) -> _Instance | None:
        """Wait for an instance that is free; None when cancelled before there was one."""
        while not cancelled():
            with contextlib.suppress(queue.Empty):
                return self._free.get(timeout=_POLL)
        return None


class _Instance:
    """One pipeline and the thread that it runs in.

    Compiled ones share the GPU token by token: CUDA graphs replayed by two threads at once wrote
    over each other's memory (torch 2.11 on an H100: an index out of bounds at the first token).
    """

    def __init__(self, settings: Settings, speaker: torch.Tensor | None, gpu: FairLock) -> None:
        self._pipeline = _load_pipeline(settings)
        self._speaker = self._pipeline.default_speaker if speaker is None else speaker
        compiled = settings.torch_compile and torch.cuda.is_available()
        self._gpu = gpu if compiled else FairLock()
        self._thread = concurrent.futures.ThreadPoolExecutor(
            1, "whisperspeech", cuda_graphs.allow_in_this_thread if compiled else None
        )

    def speak(self, text: str, language: str, cancelled: Callable[[], bool]) -> Sound | None:
        """The sound of a text within the limits, or None when it was cancelled."""
        stop = threading.Event()
        try:
            future = self._thread.submit(self._generate_in_turns, text, language, stop)
            while not concurrent.futures.wait((future,), timeout=_POLL).done:
                if cancelled():
                    stop.set()
            return future.result(timeout=0)
        except _CancelledError:
            return None
        except (RuntimeError, IndexError, ValueError) as error:  # CUDA's are RuntimeErrors
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # if CUDA is lost to this process, it must end
            raise ModelError(f"WhisperSpeech failed: {error}") from error

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._pipeline = None

    def _generate_in_turns(self, text: str, language: str, stop: threading.Event) -> Sound:
        with self._gpu:
            return self._generate(text, language, stop)

    def _generate(self, text: str, language: str, stop: threading.Event) -> Sound:
        """`Pipeline.generate` without its progress bars, which it prints for every sentence."""

        def step() -> None:
            self._gpu.pass_on()
            if stop.is_set():
                raise _CancelledError

        pipeline = self._pipeline
        semantic = pipeline.t2s.generate(
            text.replace("\n", " "),
            cps=CHARACTERS_PER_SECOND,
            lang=_known_language(language),
            step=step,
            show_progress_bar=False,
        )[0].clamp(max=pipeline.s2a.stoks_codes - 1)
        acoustic = pipeline.s2a.generate(
            semantic, self._speaker.unsqueeze(0), step=step, show_progress_bar=False
        )
        if not acoustic.shape[-1]:
            return np.zeros(0, dtype=np.float32)
        sound = pipeline.vocoder.decode(acoustic.clamp(max=_LAST_CODE))[0]
        samples: Sound = sound.float().cpu().numpy()
        if not np.isfinite(samples).all():
            raise ModelError("WhisperSpeech made values that are no sound: check its model files.")
        return np.clip(samples, -1.0, 1.0)


def split_text(text: str) -> Iterator[str]:
    """Cut a text into pieces that the library can say whole, best after a sentence."""
    while text := text.strip():
        end = _fitting(text)
        if end < len(text):
            kinds = ([m.end() for m in p.finditer(text, 0, end)] for p in _PLACES_TO_CUT)
            end = next(filter(None, kinds), [end])[-1]
        yield text[:end].strip()
        text = text[end:]


def _fitting(text: str) -> int:
    """How many leading characters of `text` keep to the limits."""
    start = text[:LONGEST_TEXT].encode("utf-8", "replace")[:LONGEST_TEXT_BYTES]
    return len(start.decode("utf-8", "ignore"))


def _known_language(code: str) -> str:
    languages = importlib.import_module("whisperspeech.languages")
    short = code.partition("-")[0].lower()
    return short if short in languages.LANGUAGES else "en"


def _read_speaker(path: str) -> torch.Tensor | None:
    """A speaker embedding, as `Pipeline.extract_spk_emb` makes it and torch.save stores it."""
    if not path:
        return None
    advice = f"give --whisperspeech_speaker a file of torch.save with {SPEAKER_WIDTH} numbers"
    try:
        embedding = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigurationError(f"The speaker {path} cannot be read: {advice}.") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise ConfigurationError(f"{path} is no speaker embedding: {advice}.") from error
    if not isinstance(embedding, torch.Tensor) or embedding.numel() != SPEAKER_WIDTH:
        raise ConfigurationError(f"{path} is no speaker embedding: {advice}.")
    return embedding.float().reshape(SPEAKER_WIDTH)


def _load_pipeline(settings: Settings) -> Any:
    """A `whisperspeech.pipeline.Pipeline`, optimised for the device that it runs on."""
    library = _import_library()
    gpu = torch.cuda.is_available()
    if not gpu and (unused := first_gpu()):
        logger.warning(
            "no GPU for the voice (PyTorch %s cannot use the %s): it is far too slow on the CPU",
            torch.__version__,
            unused.name,
        )
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            pipeline = library.Pipeline(
                t2s_ref=settings.whisperspeech_t2s,
                s2a_ref=settings.whisperspeech_s2a,
                optimize=False,  # it would take float16 on the CPU too; done below
                device="cuda" if gpu else "cpu",
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"The vocoder of WhisperSpeech cannot be loaded ({error}): connect to the internet "
            "once, or put charactr/vocos-encodec-24khz and EnCodec's weights into their caches."
        ) from error
    for name in ("t2s", "s2a"):
        # The library prints why a model did not load, and goes on without it.
        if not hasattr(pipeline, name):
            raise ConfigurationError(
                f"The WhisperSpeech model {getattr(settings, f'whisperspeech_{name}')} cannot be "
                f"loaded ({_reason(printed.getvalue(), name)}): check --whisperspeech_{name}."
            )
        getattr(pipeline, name).optimize(
            dtype=torch.float16 if gpu else torch.float32,
            torch_compile=settings.torch_compile and gpu,
        )
    return pipeline


def _import_library() -> Any:
    try:
        return importlib.import_module("whisperspeech.pipeline")
    except (ImportError, OSError) as error:  # OSError: a torchaudio that is not this torch's
        raise ConfigurationError(
            f"WhisperSpeech cannot be imported ({error}): install what requirements-torch.txt "
            "names (the extra gpu), and the torchaudio of the installed torch."
        ) from error


def _reason(printed: str, name: str) -> str:
    """The last line of the traceback that the library printed for one of its models."""
    _, _, after = printed.partition(f"Failed to load the {name.upper()} model:")
    lines = after.partition("Failed to load the")[0].strip().splitlines()
    return lines[-1].strip() if lines else "no reason was given"
