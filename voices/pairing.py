"""Which session an audio connection hears that names no key. Pure: times are given.

Clients of the original open both of their connections at once, and say nothing on this one. What
they share is where they come from and when: whoever else is at the same address, behind one router,
must not be taken for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from voices.sending import PATIENCE, SpeechSession

NEAR = 10.0
"""Seconds between an old client's two connections; each waits for the other as long."""

AT_ONCE = 1.0
"""Seconds between them where both are opened at once, as they always were."""


@dataclass
class KeylessConnection:
    """An audio connection: where from, when it came, and the sessions that it played."""

    address: str
    came_at: float
    played: set[str] = field(default_factory=set)


def choose(
    connection: KeylessConnection, sessions: Iterable[SpeechSession], now: float
) -> SpeechSession | None:
    """The session that the connection hears from now on; None while there is none for it.

    That is the one whose handshake came nearest to it. One that has had its session keeps it when
    a connection with a key took it for a while, and may hear its client's next one.
    """
    free = [
        session
        for session in sessions
        if session.connection is None
        and session.started.address == connection.address
        and not session.started.knows_keys
    ]
    for session in free:
        if session.session in connection.played and now - session.free_since >= PATIENCE:
            return session  # who named the key is gone
    free = [each for each in free if not each.keyed]
    if connection.played:
        # Whoever comes together with a handshake goes first.
        free = [each for each in free if now - each.free_since >= AT_ONCE]
        return min(free, key=lambda each: each.free_since, default=None)
    nearest = min(free, key=lambda each: abs(each.free_since - connection.came_at), default=None)
    if nearest is None:
        return None
    apart = abs(nearest.free_since - connection.came_at)
    if apart > NEAR or (apart > AT_ONCE and now - connection.came_at < AT_ONCE):
        return None  # its own may still come
    return nearest
