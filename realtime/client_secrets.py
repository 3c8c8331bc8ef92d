"""Short-lived keys for browsers, which must not know the server's token. Pure: time is given."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from realtime.config import SessionConfig
from realtime.events import RealtimeError

SHORTEST, USUAL, LONGEST = 10, 600, 7200
"""Seconds that a key may live."""

_MOST = 1000


@dataclass(frozen=True)
class ClientSecret:
    value: str
    expires_at: int
    config: SessionConfig
    token: str = ""
    """The server's, that who made the key had shown."""


class ClientSecrets:
    """The keys that are valid. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[str, ClientSecret] = {}

    def make(
        self, wanted: object, config: SessionConfig, now: float, token: str = ""
    ) -> ClientSecret:
        """A key for one configuration of a session. Raises RealtimeError.

        `wanted` is the body of the request, made by who showed `token`; `now` the time of day,
        seconds since 1970.
        """
        if not isinstance(wanted, dict):
            raise RealtimeError("The body has to be a JSON object.", "invalid_value")
        if (session := wanted.get("session")) is not None:
            config = config.updated(session, voice_is_fixed=False)
        secret = ClientSecret(
            f"ek_{secrets.token_urlsafe(24)}", int(now) + _seconds(wanted), config, token
        )
        self._known = {each.value: each for each in self._known.values() if each.expires_at > now}
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[secret.value] = secret
        return secret

    def find(self, value: str, now: float) -> ClientSecret | None:
        """The key of that value, unless it has expired."""
        secret = self._known.get(value)
        return secret if secret is not None and secret.expires_at > now else None


def _seconds(wanted: dict[str, Any]) -> int:
    expires_after = wanted.get("expires_after") or {}
    seconds: Any = expires_after.get("seconds", USUAL) if isinstance(expires_after, dict) else None
    whole = isinstance(seconds, int) and not isinstance(seconds, bool)
    if not whole or not SHORTEST <= seconds <= LONGEST:
        raise RealtimeError(
            f"expires_after.seconds is a whole number from {SHORTEST} to {LONGEST}.",
            "invalid_value",
            param="expires_after.seconds",
        )
    return int(seconds)
