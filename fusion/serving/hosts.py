"""What the setting `host` means: every address of the machine, this machine alone, or one of it."""

from __future__ import annotations

EVERYWHERE = ("", "0.0.0.0", "::")
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def is_everywhere(host: str) -> bool:
    """Whether a port that listens on `host` is reached by every address of the machine."""
    return host in EVERYWHERE


def loopback_host(host: str) -> str:
    """Where this machine reaches a port that listens on `host`."""
    if host in ("", "0.0.0.0"):
        return "127.0.0.1"
    return "::1" if host == "::" else host
