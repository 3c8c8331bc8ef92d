"""How many connections a port takes, from where, and how often. Pure: times are given.

A connection waits until its client has asked for a WebSocket. Those that wait give way to newer
ones, so that clients who open connections and say nothing keep nobody out.
"""

from __future__ import annotations

import http
import resource
from collections import Counter
from dataclasses import dataclass, field

from fusion import metrics
from fusion.settings import Settings

Peer = tuple[str, int]
"""Address and port of the other end of a TCP connection, by which it is known."""

MOST_WAITING = 64
"""Connections of a port whose client has not asked for a WebSocket yet."""

BACKLOG = 32
"""Connections that the event loop accepts before it looks at any of them."""

OWN_DESCRIPTORS = 64
"""What a process needs for its models, log, channels and event loop."""

_MINUTE = 60.0


@dataclass(frozen=True)
class Refusal:
    """Why a client is refused over HTTP."""

    status: http.HTTPStatus
    sentence: str
    reason: str
    """The same in a few words, for a monitor."""


FULL = Refusal(
    http.HTTPStatus.SERVICE_UNAVAILABLE,
    "The server has no room for another connection.\n",
    "no room",
)
TOO_MANY = Refusal(
    http.HTTPStatus.TOO_MANY_REQUESTS,
    "Your address has too many connections open already.\n",
    "too many of an address",
)
TOO_OFTEN = Refusal(
    http.HTTPStatus.TOO_MANY_REQUESTS,
    "Your address connects too often; try again in a minute.\n",
    "too often from an address",
)


@dataclass
class _Allowance:
    """Handshakes that an address has left: as many as a minute allows, and filling up again."""

    left: float
    at: float


@dataclass
class Connections:
    """The connections of one port. Not thread-safe.

    `most` is how many WebSockets it has at once, `per_address` how many of them one client's
    address may have, `per_minute` how many that address may open in a minute.
    """

    most: int
    per_address: int
    per_minute: int
    _waiting: dict[Peer, None] = field(default_factory=dict)  # those that came first come first
    _open: dict[Peer, str | None] = field(default_factory=dict)
    _allowances: dict[str, _Allowance] = field(default_factory=dict)

    @classmethod
    def of_port(cls, settings: Settings, descriptors: int = 1) -> Connections:
        """The limits in the settings, or fewer: a WebSocket takes so many `descriptors`."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = limit - OWN_DESCRIPTORS - MOST_WAITING - BACKLOG
        most = min(settings.max_connections, max(free // descriptors, 1))
        return cls(most, settings.max_connections_per_address, settings.max_handshakes_per_minute)

    def opened(self, peer: Peer) -> Peer | None:
        """Take note of a new connection. Returns the one that has to be closed for it, if any:
        the oldest of the address that has the most waiting."""
        self._waiting[peer] = None
        if len(self._waiting) <= MOST_WAITING:
            return None
        [(address, _)] = Counter(address for address, _ in self._waiting).most_common(1)
        metrics.REFUSALS.labels("said nothing").inc()
        oldest = next(each for each in self._waiting if each[0] == address)
        del self._waiting[oldest]
        return oldest

    def establish(self, peer: Peer, address: str | None, now: float) -> Refusal | None:
        """Let a client at `address` have a WebSocket, or say why not.

        With None it is not known who the client is, and somebody else looks at that.
        """
        refusal = self._refusal(address, now)
        if refusal is not None:
            metrics.REFUSALS.labels(refusal.reason).inc()
            return refusal
        self._waiting.pop(peer, None)
        self._open[peer] = address
        return None

    def _refusal(self, address: str | None, now: float) -> Refusal | None:
        if len(self._open) >= self.most:
            return FULL
        if address is not None:
            if sum(other == address for other in self._open.values()) >= self.per_address:
                return TOO_MANY
            if not self._allow(address, now):
                return TOO_OFTEN
        return None

    def closed(self, peer: Peer) -> None:
        """A connection is gone."""
        self._waiting.pop(peer, None)
        self._open.pop(peer, None)

    def _allow(self, address: str, now: float) -> bool:
        rate = self.per_minute / _MINUTE
        allowance = self._allowances.pop(address, None) or _Allowance(self.per_minute, now)
        left = min(self.per_minute, allowance.left + rate * (now - allowance.at))
        allowed = left >= 1
        self._allowances[address] = _Allowance(left - allowed, now)
        while self._allowances and next(iter(self._allowances.values())).at < now - _MINUTE:
            del self._allowances[next(iter(self._allowances))]  # full again
        return allowed
