"""The live transcript of an utterance: when to ask for it, and which of its words stay. Pure."""

from __future__ import annotations

from whisper_live.events import Priority, Transcribe
from whisper_live.utterance import Utterance


class LiveTranscript:
    """What is transcribed of a turn while the person speaks.

    `interval` is seconds between two transcriptions, `attentive_speech` seconds of speech before
    the first where it decides whether the machine is interrupted.
    """

    def __init__(self, turn: int, interval: float, attentive_speech: float, now: float) -> None:
        self.requested_at = now
        """When the latest transcription was asked for, monotonic seconds."""
        self._turn = turn
        self._interval = interval
        self._attentive_speech = attentive_speech
        self._pending: Transcribe | None = None
        self._words: list[str] = []
        self._stable = 0

    def ask(
        self, utterance: Utterance, now: float, *, attentive: bool, speech: float
    ) -> Transcribe | None:
        """Ask for the next transcription if it is due. `speech` is seconds of it so far."""
        if self._pending is not None or not self._due(now, attentive, speech):
            return None
        priority = Priority.OVERLAPPING if attentive else Priority.LIVE
        self._pending = Transcribe(self._turn, utterance.audio(), priority)
        self.requested_at = now
        return self._pending

    def _due(self, now: float, attentive: bool, speech: float) -> bool:
        elapsed = now - self.requested_at
        if not attentive:
            return elapsed >= self._interval
        soon = elapsed >= self._interval / 2 or not self._words
        return speech >= self._attentive_speech and soon

    def dropped(self, job: Transcribe) -> None:
        """The transcription was given up: ask again."""
        if self._pending is job:
            self._pending = None

    def answered(self, job: Transcribe) -> bool:
        """Whether this is the transcription that was asked for; another may be asked for then."""
        wanted = self._pending is job
        self.dropped(job)
        return wanted

    def grow(self, transcript: str) -> str:
        """Take the transcript so far; return its stable first words if there are more of them."""
        words = transcript.split()
        stable = _agreed(self._words, words)
        self._words = words
        if stable <= self._stable:
            return ""
        self._stable = stable
        return " ".join(words[:stable])


def _agreed(before: list[str], now: list[str]) -> int:
    """Count the first words that two hypotheses in a row agree on, less the last.

    The last may still grow. Local agreement, as in Macháček et al. 2023, "Turning Whisper into
    Real-Time Transcription System".
    """
    count = 0
    for old, new in zip(before, now, strict=False):
        if old != new:
            break
        count += 1
    return min(count, len(now) - 1, len(before) - 1) if count else 0
