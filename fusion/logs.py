"""Logging of a whole process, set up once."""

from __future__ import annotations

import logging

# Libraries that report every connection or request at `info`.
CHATTY = ("websockets", "httpx", "httpcore", "faster_whisper", "uvicorn.access")


def configure(level: str, process: str = "main") -> None:
    """Log to stderr from `level` on, each line with the name of the process."""
    formatter = logging.Formatter(
        f"%(asctime)s.%(msecs)03d {process}: %(levelname)s %(message)s", "%H:%M:%S"
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
