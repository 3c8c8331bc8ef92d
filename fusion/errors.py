"""The errors that a person can act on.

The text of each is one sentence that says what is wrong and what to do. A command prints it
without a traceback and exits non-zero; a client receives it as a JSON error.
"""

from __future__ import annotations

# sysexits.h EX_CONFIG: a service that ends with it failed for a reason that a restart cannot mend.
EXIT_CONFIGURATION = 78


class FusionError(Exception):
    """Base of every error whose text is meant for a person."""

    exit_status = 1
    """What a command that ends with it exits with."""


class ConfigurationError(FusionError):
    """A setting, path, port or model that starting again will not mend."""

    exit_status = EXIT_CONFIGURATION


class ModelError(FusionError):
    """A model could not be loaded or failed while it worked."""


class ProtocolError(FusionError):
    """A client sent something that the protocol does not allow."""

    closing = "the handshake is wrong"
    """Why its connection is closed, where it has no session yet."""


class TokenError(ProtocolError):
    """A client shows no token that lets it in."""

    closing = "the token is missing or wrong"


class ChannelFullError(FusionError):
    """A neighbouring process has stopped taking messages."""
