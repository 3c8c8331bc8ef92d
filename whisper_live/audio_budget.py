"""How fast one client's audio is listened to, and how much of it. Pure: times are given."""

from __future__ import annotations

from dataclasses import dataclass

from fusion.settings import Settings


@dataclass
class AudioBudget:
    """A client's seconds of audio.

    The first `burst` seconds are taken as fast as they come, and more at `rate` times real time,
    so that a file may be sent at once. `most` is all that one session may say.
    """

    burst: float
    rate: float
    most: float
    taken: float = 0.0
    _ahead: float = 0.0  # seconds taken that the rate has not covered yet
    _at: float | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> AudioBudget:
        return cls(settings.audio_burst, settings.audio_rate, settings.max_audio)

    @property
    def spent(self) -> bool:
        return self.taken >= self.most

    def take(self, seconds: float, now: float) -> float:
        """Take some audio. Returns the seconds to wait before more of it is looked at."""
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._ahead = max(0.0, self._ahead - passed * self.rate) + seconds
        self.taken += seconds
        return max(0.0, self._ahead - self.burst) / self.rate
