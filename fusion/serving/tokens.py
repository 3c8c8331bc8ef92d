"""The secrets that let clients in, each with a name, and where in a request a client shows its own.

In `--token_file` each line is a token, with its name before it where it has one; a line that
begins with `#` is a remark. The file is read again when it has changed, so that a token can be
given out or taken back without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, unquote

from websockets.datastructures import Headers

from fusion.errors import ConfigurationError
from fusion.serving.file_changes import FileChanges
from fusion.settings import Settings

logger = logging.getLogger(__name__)

SUBPROTOCOL = "whisperfusion"
"""What the server answers to a client that offers it; a browser wants one of its own answered."""

TOKEN_PROTOCOL = "whisperfusion-token."
"""A subprotocol of this name holds the token, percent-encoded: a page can send no header."""

_NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)


class Tokens:
    """The tokens of the settings. Raises ConfigurationError when the file cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self._own = [("", settings.token)] if settings.token else []
        self._path = Path(settings.token_file).expanduser() if settings.token_file else None
        self._changes = FileChanges([self._path] if self._path else [])
        self._named = self._read()

    def __bool__(self) -> bool:
        """Whether clients need one."""
        return bool(self._named)

    def name_of(self, shown: Iterable[str]) -> str | None:
        """The name of the first token that one of those shown is; None if none of them is one.

        A token without a name has the name "", and so have all clients where none is needed.
        """
        self._look()
        if not self._named:
            return ""
        digests = [_digest(token) for token in shown]
        found = None
        for name, secret in self._named:  # to the end: how long it takes tells nothing
            known = _digest(secret)
            matches = [hmac.compare_digest(known, digest) for digest in digests]
            if any(matches) and found is None:
                found = name
        return found

    def any(self) -> str:
        """A token for this program's own clients; "" where none is needed."""
        self._look()
        return self._named[0][1] if self._named else ""

    def _look(self) -> None:
        if not self._changes.look():
            return
        try:
            self._named = self._read()
            logger.info("the tokens were read again: %d", len(self._named))
        except ConfigurationError as error:
            logger.error("%s The tokens read before stay valid.", error)

    def _read(self) -> list[tuple[str, str]]:
        return [*self._own, *(read_tokens(self._path) if self._path else ())]


def read_tokens(path: Path) -> list[tuple[str, str]]:
    """Names and tokens of a file, in its order. Raises ConfigurationError."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(
            f"The token file {path} cannot be read ({error.strerror}): check --token_file."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"The token file {path} is no UTF-8 text.") from error
    tokens: dict[str, str] = {}  # by token: a second name for one would be confusing
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name = words[0] if len(words) > 1 else ""
        if len(words) > 2 or (name and not _NAME.fullmatch(name)) or words[-1] in tokens:
            raise ConfigurationError(
                f"The token file {path} cannot be used: line {number} is no token of its own, with "
                "a name of letters and digits before it where it has one."
            )
        tokens[words[-1]] = name
    if not tokens:
        raise ConfigurationError(f"The token file {path} holds no token: write one in each line.")
    return [(name, token) for token, name in tokens.items()]


def shown_in(headers: Headers, query: str) -> list[str]:
    """The tokens that a request shows: as Authorization, as a subprotocol, in its address."""
    shown = []
    for value in headers.get_all("Authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            shown.append(token.strip())
    for name in offered_protocols(headers):
        if name.startswith(TOKEN_PROTOCOL):
            shown.append(unquote(name.removeprefix(TOKEN_PROTOCOL), errors="replace"))
    return shown + parse_qs(query, errors="replace").get("token", [])


def offered_protocols(headers: Headers) -> list[str]:
    """The subprotocols that a client offers."""
    lines = headers.get_all("Sec-WebSocket-Protocol")
    return [name.strip() for line in lines for name in line.split(",") if name.strip()]


def _digest(token: str) -> bytes:
    """Of one length for all, so that comparing tells nothing of a token's own."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
