"""Who is served: as many clients as there are places, and as the machine can serve. Pure: times are
given."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass
class Places:
    """The places of the server, each for `seconds` at most.

    `capacity` is how many people the machine can serve, None where that was not measured.
    """

    most: int
    seconds: float
    capacity: int | None = None
    _taken: dict[Hashable, float] = field(default_factory=dict)  # connection: when it came

    def take(self, connection: Hashable, now: float) -> bool:
        """Give a connection a place, if one is free."""
        if len(self._taken) >= min(self.most, self.capacity or self.most):
            return False
        self._taken[connection] = now
        return True

    def leave(self, connection: Hashable) -> None:
        """A connection needs its place no longer."""
        self._taken.pop(connection, None)

    def minutes_to_wait(self, now: float) -> float:
        """Until the connection that came first has used up its time."""
        left = self.seconds - (now - min(self._taken.values(), default=now))
        return round(max(left, 0.0) / 60, 2)
