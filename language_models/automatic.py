"""`--llm auto`: the best language model that this machine runs fast enough for speech.

The smallest one talks at once. It is measured at its first start, which tells what the others would
be like; if a better one fits, that is fetched and loaded in the background and takes over between
two turns. Speeds are remembered, so that the next start begins with the better one; one that was
measured on a busy machine is found out at the next starts.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fusion.errors import ConfigurationError, ModelError
from fusion.models import cache, lookup
from fusion.models.llms import LLMS, SPEECH_TOKENS, Llm, LlmChoice, Speed, choose_llm
from fusion.setting_field import AUTO
from fusion.settings import Settings
from language_models.base import LanguageModel
from language_models.speed import SpeedRecord, SpeedWatch, free_memory, measure

logger = logging.getLogger(__name__)

Load = Callable[[Settings], LanguageModel]
"""Loads the model that `settings.llm` names, and warms it up."""

Tell = Callable[[str, str, str], None]
"""Says which model talks, which one is coming ("" for none), and how far that is or why."""


@dataclass(frozen=True)
class Started:
    """A model that talks and why it was chosen; the one that will follow it, or that might."""

    model: LanguageModel
    name: str
    reason: str
    coming: Llm | None = None
    better: Llm | None = None

    def sentence(self) -> str:
        """Say in one line which was taken and why, and what else there is."""
        if self.coming is not None:
            return f"{self.name} for a start; {self.coming.name} is on its way"
        line = f"{self.name} ({self.reason})"
        if self.better is not None:
            line += f"; the next larger one is --llm {self.better.name}"
        return line


class AutomaticModel:
    """Choose among `llms`: `start` first, then `improve` in a thread of its own."""

    def __init__(self, settings: Settings, load: Load, llms: Sequence[Llm] = LLMS) -> None:
        self._settings = settings
        self._load = load
        self._llms = llms
        self._record = SpeedRecord(settings.cache_folder, settings.language_model_threads)
        self._measured_now: dict[str, Speed] = {}

    def watch(self, started: Started) -> SpeedWatch:
        """What compares this model's replies with its measurement."""
        return SpeedWatch(self._record, started.name)

    def start(self) -> Started:
        """Load what talks now. Raises ConfigurationError when not even the smallest can be had."""
        smallest = self._llms[0]
        doubtful = smallest.name not in self._believed()
        if not doubtful:
            choice = self._choose()
            doubtful = self._is_doubtful(choice)
            here = cache.is_whole(choice.llm.model, self._settings.cache_folder)
            if here and not doubtful and not self._to_be_measured(choice.llm):
                return self._started(self._load_named(choice.llm), choice)
        model = self._load_named(smallest)
        if doubtful:
            self._measure(smallest, model)
        choice = self._choose()
        if choice.llm is smallest:
            return self._started(model, choice)
        return dataclasses.replace(
            self._started(model, choice), name=smallest.name, coming=choice.llm
        )

    def improve(self, started: Started, tell: Tell) -> Started | None:
        """Fetch, load and measure the better model. None, with the reason told, if it cannot be.

        Takes as long as its download. A model that turns out to be too slow is let go, and the next
        smaller one is tried.
        """
        coming, reason = started.coming, started.reason
        while coming is not None:
            try:
                model = self._bring(coming, functools.partial(tell, started.name, coming.name))
            except (ConfigurationError, ModelError) as error:
                reason = str(error)
                break
            speed = self._believed().get(coming.name)
            if speed is None or speed.generation >= SPEECH_TOKENS:
                # Not chosen anew: with both of them loaded there is less memory than there will be.
                return Started(model, coming.name, reason, better=self._next_after(coming))
            model.close()
            choice = self._choose()
            coming, reason = (None if choice.llm is self._llms[0] else choice.llm), choice.reason
        logger.warning("%s stays: %s", started.name, reason)
        tell(started.name, "", reason)
        return None

    def _bring(self, llm: Llm, tell: Callable[[str], None]) -> LanguageModel:
        def progress(line: str) -> None:
            logger.info("%s", line)
            tell(line.removeprefix(f"{llm.name}: "))

        lookup.fetch(llm.name, self._settings.cache_folder, progress)
        progress(f"{llm.name}: loading")
        model = self._load_named(llm)
        self._measure(llm, model)
        return model

    def _next_after(self, llm: Llm) -> Llm | None:
        return next(iter(self._llms[self._llms.index(llm) + 1 :]), None)

    @staticmethod
    def _started(model: LanguageModel, choice: LlmChoice) -> Started:
        return Started(model, choice.llm.name, choice.reason, better=choice.better)

    def _believed(self) -> dict[str, Speed]:
        """The speeds to go by: one that rules a model out must be sure, or of this start."""
        believed = {
            name: known.speed
            for name, known in self._record.read().items()
            if known.is_sure(time.time()) or (known.times and known.speed.suffices)
        }
        return {**believed, **self._measured_now}

    def _to_be_measured(self, llm: Llm) -> bool:
        """Whether what is known of its speed is not believed."""
        return llm.name in self._record.read() and llm.name not in self._believed()

    def _is_doubtful(self, choice: LlmChoice) -> bool:
        """Whether a model is ruled out by a guess from a speed that is not sure yet."""
        ruled_out, smallest = choice.too_slow, self._record.read().get(self._llms[0].name)
        if ruled_out is None or ruled_out.name in self._believed():
            return False
        return smallest is None or not smallest.is_sure(time.time())

    def _choose(self) -> LlmChoice:
        measured = self._believed()
        smallest = measured.get(self._llms[0].name, Speed(0.0, 0.0))
        return choose_llm(self._llms, smallest, free_memory(), measured)

    def _load_named(self, llm: Llm) -> LanguageModel:
        return self._load(dataclasses.replace(self._settings, llm=llm.name))

    def _measure(self, llm: Llm, model: LanguageModel) -> None:
        try:
            speed = measure(model)
        except ModelError as error:
            logger.warning("the speed of %s is not known: %s", llm.name, error)
            return
        logger.info(
            "%s: %.0f tokens a second read, %.1f written", llm.name, speed.prompt, speed.generation
        )
        self._measured_now[llm.name] = speed
        try:
            self._measured_now[llm.name] = self._record.write(llm.name, speed).speed
        except OSError as error:
            logger.warning("the speed of %s cannot be remembered: %s", llm.name, error)


def is_automatic(settings: Settings, library: str) -> bool:
    """Whether the language model is to be chosen from the table."""
    return library == "llama_cpp" and settings.llm == AUTO
