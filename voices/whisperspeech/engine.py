"""The loop that speaks: many utterances in one batch, each joining and leaving at any step."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch

from fusion import tasks
from fusion.errors import ModelError
from voices.whisperspeech.in_flight import InFlight
from voices.whisperspeech.schedule import Slots, Step, next_step
from voices.whisperspeech.stages import AcousticStage, SemanticStage
from voices.whisperspeech.utterance import Utterance
from voices.whisperspeech.vocoding import WindowVocoder
from voices.whisperspeech.windows import Window, next_window

_UNDER_WAY = 1
"""Results that the GPU may work on while the next step is prepared."""
_ACOUSTIC_UNDER_WAY = 4
"""Steps of the acoustic model, whose end is known beforehand, may go further ahead."""
_CLOSING = 5.0
"""Seconds to wait for the thread's last step."""


class Engine:
    """Speaks utterances in a thread of its own, which alone touches the models."""

    def __init__(
        self, semantic: SemanticStage, acoustic: AcousticStage, vocoder: WindowVocoder, device: Any
    ) -> None:
        self._semantic = semantic
        self._acoustic = acoustic
        self._vocoder = vocoder
        self._device = device
        self._in_flight = InFlight(device)
        self._open: set[Utterance] = set()
        self._texts: deque[Utterance] = deque()
        self._tokens: deque[Utterance] = deque()
        """Who waits for a row of the semantic, and who of the acoustic model."""
        self._speaking = Slots(semantic.slots)
        self._sounding = Slots(acoustic.slots)
        self._acoustic_run = 0
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Utterance | Future[None] | None] = queue.SimpleQueue()
        self._ended: Exception | None = None
        self._thread = tasks.thread("whisperspeech", self._serve)
        self._thread.start()

    def speak(self, utterance: Utterance) -> None:
        """Begin an utterance at the next step; its `sounds` are what comes of it. Thread-safe."""
        with self._lock:
            if self._ended is None:
                self._inbox.put(utterance)
            else:
                utterance.finish(self._ended)

    def warm_up(self) -> None:
        """Record the CUDA graphs, before anybody speaks. Raises what the models raise."""
        done: Future[None] = Future()
        with self._lock:
            if self._ended is not None:
                raise self._ended
            self._inbox.put(done)
        done.result()

    def close(self) -> None:
        """End the thread; what it speaks ends in an error. Idempotent."""
        self._inbox.put(None)
        self._thread.join(_CLOSING)

    # -- in the engine's thread -----------------------------------------------------------------

    def _serve(self) -> None:
        end: Exception = ModelError("The voice was closed.")
        try:
            with torch.no_grad():
                while self._take_newcomers():
                    self._round()
        except Exception as error:
            end = error
            raise
        finally:
            with self._lock:
                self._ended = end
            self._fail(end)
            while not self._inbox.empty():
                item = self._inbox.get()
                if isinstance(item, Utterance):
                    item.finish(end)
                elif item is not None:
                    item.set_exception(end)
            del self._semantic, self._acoustic, self._vocoder  # and the memory of the models

    def _take_newcomers(self) -> bool:
        """Take what came in, and wait for it where there is nothing to do; False at the end."""
        wait = not self._open and not len(self._in_flight)
        while wait or not self._inbox.empty():
            item = self._inbox.get()
            wait = False
            if item is None:
                return False
            if isinstance(item, Utterance):
                self._open.add(item)
                self._texts.append(item)
            else:
                self._warm_up(item)
        return True

    def _warm_up(self, done: Future[None]) -> None:
        try:
            self._semantic.warm_up()
            self._acoustic.warm_up()
            self._vocoder.warm_up()
        except Exception as error:
            done.set_exception(error)
            raise
        done.set_result(None)

    def _round(self) -> None:
        """One step of one of the models, with all that belongs to it."""
        try:
            self._drop_cancelled()
            self._admit()
            speaking, sounding = self._speaking.taken(), self._sounding.taken()
            now = time.monotonic()
            hurry = any(each.hurries(now) for _, each in sounding)
            step = next_step(bool(speaking), bool(sounding), hurry, self._acoustic_run)
            if step is Step.SEMANTIC:
                self._take_semantic_step(speaking)
            elif step is Step.ACOUSTIC:
                self._take_acoustic_step(sounding, now)
            else:
                self._in_flight.settle(0)
        except (RuntimeError, IndexError, ValueError) as error:  # CUDA's are RuntimeErrors
            if self._device.type == "cuda":
                torch.cuda.synchronize()  # if CUDA is lost to this process, it must end
            failure = ModelError(f"WhisperSpeech failed: {error}")
            failure.__cause__ = error
            self._fail(failure)
            self._semantic.reset()
            self._acoustic.reset()

    def _drop_cancelled(self) -> None:
        for utterance in self._open:
            if not utterance.over and utterance.cancelled():
                utterance.finish()
        gone = [each for each in self._open if each.over]
        if not gone:
            return
        self._open.difference_update(gone)
        for waiting in (self._texts, self._tokens):
            for utterance in [each for each in waiting if each.over]:
                waiting.remove(utterance)
        for slots, stage in ((self._speaking, self._semantic), (self._sounding, self._acoustic)):
            for row, utterance in slots.taken():
                if utterance.over:
                    slots.free(row)
                    stage.release(row)

    def _admit(self) -> None:
        texts = self._speaking.seat(self._texts)
        if texts:
            self._semantic.admit([(row, each.text, each.language) for row, each in texts])
        tokens = self._sounding.seat(self._tokens)
        if tokens:
            self._acoustic.admit([(row, each.tokens) for row, each in tokens])

    def _take_semantic_step(self, rows: list[tuple[int, Utterance]]) -> None:
        self._acoustic_run = 0
        count = self._semantic.step([(row, each.generator) for row, each in rows])

        def deliver(tokens: Any) -> None:
            drawn = tokens.tolist()
            for row, utterance in rows:
                self._take_token(row, utterance, drawn[row])

        self._in_flight.add(self._semantic.tokens[:count, 0], deliver)
        self._in_flight.settle(_UNDER_WAY)

    def _take_token(self, row: int, utterance: Utterance, token: int) -> None:
        """A semantic token has come; by now its utterance may be done or gone."""
        if not self._speaking.holds(row, utterance):
            return
        # The library does not look whether the first token is the end, and keeps it.
        if token != self._semantic.end or not utterance.tokens:
            utterance.tokens.append(token)
            if len(utterance.tokens) < (utterance.longest or self._semantic.longest):
                return
        self._speaking.free(row)
        self._semantic.release(row)
        del utterance.tokens[self._acoustic.longest :]
        if utterance.frames:
            self._tokens.append(utterance)
        else:
            utterance.finish()

    def _take_acoustic_step(self, rows: list[tuple[int, Utterance]], now: float) -> None:
        self._acoustic_run += 1
        self._acoustic.step([(row, each.generator) for row, each in rows])
        self._in_flight.mark()
        ready: list[tuple[int, Utterance, Window]] = []
        for row, utterance in rows:
            utterance.steps += 1
            window = next_window(utterance.handed, utterance.final, utterance.frames)
            if window is not None:
                ready.append((row, utterance, window))
        self._decode(ready, now)
        self._in_flight.settle(_ACOUSTIC_UNDER_WAY)

    def _decode(self, ready: list[tuple[int, Utterance, Window]], now: float) -> None:
        """Send windows to the vocoder, those of one length together."""
        for row, utterance, window in ready:
            utterance.handed_at = utterance.handed_at if utterance.handed else now
            utterance.handed = window.end
            if window.end == utterance.frames:
                self._sounding.free(row)
                self._acoustic.release(row)
        for _, same in groupby(sorted(ready, key=_length), _length):
            windows = list(same)
            for first in range(0, len(windows), self._vocoder.most):
                part = windows[first : first + self._vocoder.most]
                sounds = self._vocoder.decode([(row, window) for row, _, window in part])
                self._in_flight.add(sounds, partial(_deliver, part))

    def _fail(self, error: Exception) -> None:
        """End everything that is being spoken."""
        for utterance in self._open:
            utterance.finish(error)
        self._open.clear()
        self._texts.clear()
        self._tokens.clear()
        self._speaking.clear()
        self._sounding.clear()
        self._in_flight.clear()


def _length(ready: tuple[int, Utterance, Window]) -> int:
    window = ready[2]
    return window.last - window.first


def _deliver(windows: list[tuple[int, Utterance, Window]], sounds: Any) -> None:
    """Give each utterance the sound of its window."""
    for sound, (_, utterance, window) in zip(sounds.numpy(), windows, strict=True):
        if utterance.over:
            continue
        samples = sound[window.samples]
        if not np.isfinite(samples).all():
            utterance.finish(
                ModelError("WhisperSpeech made values that are no sound: check its model files.")
            )
            continue
        utterance.put(np.clip(samples, -1.0, 1.0))
        if window.end == utterance.frames:
            utterance.finish()
