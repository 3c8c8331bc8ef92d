"""Logging of a whole process, set up once: text, or JSON lines for a program that collects them.

A line about a session or a turn says so in `extra`, as in `extra=about(session, turn)`. Nothing
that a person said or typed is logged, nor an answer, nor a key or a token.
"""

from __future__ import annotations

import datetime
import json
import logging
import re

from websockets.exceptions import WebSocketException

FORMATS = ("text", "json")

# Libraries that report every connection or request at `info`.
CHATTY = ("websockets", "httpx", "httpcore", "faster_whisper", "uvicorn.access")

# A library's traceback may hold the address that a client asked for.
_SECRET = re.compile(
    r"(\b(?:(?:token|key|audio_key|resume_key)=|(?:whisperfusion-token|openai-insecure-api-key)\.)"
    r"|\bBearer )[^&\s,\"']+",
    re.IGNORECASE,
)

# What is quoted in a sentence for a client may be the client's own words.
_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'|“[^”]*”")


def about(session: str, turn: int | None = None) -> dict[str, object]:
    """The `extra` of a line about a session, or about one of its turns."""
    return {"session": session} if turn is None else {"session": session, "turn": turn}


def without_quotes(sentence: str) -> str:
    """A sentence for a client as it may be logged: without what it quotes."""
    return _QUOTED.sub("…", sentence)


def configure(level: str, process: str = "main", form: str = "text") -> None:
    """Log to stderr from `level` on, each line with the name of the process."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(process) if form == "json" else TextLines(process))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("websockets.server").addFilter(_is_our_fault)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Whether a handshake failed by an error of ours: strangers always send junk."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, AssertionError) and _raised_in(error) == "send_eof":
        return False  # websockets 16.1, where a client hangs up before it has its HTTP answer
    return not isinstance(error, WebSocketException | ConnectionError | EOFError)


def _raised_in(error: BaseException) -> str:
    """The name of the function that raised it."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last.tb_frame.f_code.co_name if last is not None else ""


class TextLines(logging.Formatter):
    """One line a message, for a person."""

    def __init__(self, process: str) -> None:
        super().__init__(
            f"%(asctime)s.%(msecs)03d {process}: %(levelname)s %(about)s%(line)s", "%H:%M:%S"
        )

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        names = [f"{name} {value}" for name, value in _about(record).items()]
        record.about = f"[{' '.join(names)}] " if names else ""
        record.line = _one_line(record.getMessage())
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return _SECRET.sub(r"\1…", super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, process, logger, message, and what it is about."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        fields: dict[str, object] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": _SECRET.sub(r"\1…", record.getMessage()),
            **_about(record),
        }
        if record.exc_info:
            fields["traceback"] = _SECRET.sub(r"\1…", self.formatException(record.exc_info))
        return json.dumps(fields, ensure_ascii=False)


def _about(record: logging.LogRecord) -> dict[str, object]:
    return {name: record.__dict__[name] for name in ("session", "turn") if name in record.__dict__}


def _one_line(message: str) -> str:
    """What a client wrote cannot begin a line of its own."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
