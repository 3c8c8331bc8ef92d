"""When is the person done speaking? Pure: what is known in, the silence to wait for out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fusion.settings import Settings

# A pause after one of these is a pause for thought: English function words that need another
# word after them. Other languages rely on the voice alone.
_LEADS_ON = frozenset(
    (
        *("a", "an", "and", "as", "at", "because", "but", "by", "for", "from", "if", "in", "into"),
        *("like", "my", "no", "of", "on", "or", "our", "per", "so", "than", "that", "the", "their"),
        *("then", "to", "um", "uh", "unless", "until", "very", "when", "where", "which", "while"),
        *("who", "whose", "with", "without", "your", "i'm", "it's", "i'd", "he's", "she's"),
        *("they're", "we're", "you're"),
    )
)

_FULL_STOPS = (".", "!", "?", "。", "！", "？", "…", "؟", "।")


@dataclass(frozen=True)
class EndpointPolicy:
    """The waits, in seconds of silence. See `Settings` for their meaning."""

    smart_turn: bool
    done: float
    unsure: float
    unfinished: float
    longest: float

    @classmethod
    def from_settings(cls, settings: Settings) -> EndpointPolicy:
        return cls(
            smart_turn=settings.smart_turn,
            done=settings.wait_done,
            unsure=settings.wait_unsure,
            unfinished=settings.wait_unfinished,
            longest=settings.wait_longest,
        )

    def ended_by(self, turn_detection: str, wait: float) -> EndpointPolicy:
        """The same where a client chose what ends a turn; `wait` is the longest silence, seconds.

        "semantic" waits so long where more will come, "silence" always, and "none" for ever.
        """
        if turn_detection == "semantic":
            return replace(self, unfinished=wait, longest=wait)
        silence = math.inf if turn_detection == "none" else wait
        return replace(self, smart_turn=False, unsure=silence, longest=silence)

    def required_silence(self, probability: float | None, text: str | None) -> float:
        """Seconds of silence that end the turn, never more than `longest`.

        `probability` is the turn detector's (0..1) that the person is done, `text` the transcript;
        None where it is not known yet. Until the turn detector has answered, the words alone can
        say that more will come; else the turn ends as if it were unsure, so that a verdict that
        comes late on a busy machine holds nobody up.
        """
        wait = self._wait(probability, text) if self.smart_turn else self.unsure
        return min(wait, self.longest)

    def _wait(self, probability: float | None, text: str | None) -> float:
        if text == "":
            return self.unfinished  # nobody waits for an answer to no words, and some may follow
        reads_done = text is None or reads_finished(text)
        if probability is None:
            return self.unsure if reads_done else self.unfinished
        if sounds_done(probability) and reads_done:
            return self.done
        if sounds_done(probability) or reads_done:
            return self.unsure
        return self.unfinished


def sounds_done(probability: float | None) -> bool:
    """Whether the turn detector believes that the person is done."""
    return probability is not None and probability >= 0.5


def reads_finished(text: str) -> bool:
    """Whether a transcript could be all that the person wants to say."""
    text = text.strip()
    if not text or text.endswith(("...", "…", ",", "-", "–", "—", ":")):
        return False
    words = text.rstrip("".join(_FULL_STOPS)).split()
    return bool(words) and words[-1].strip("\"'").lower() not in _LEADS_ON
