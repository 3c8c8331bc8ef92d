"""Tells the other processes which language model answers."""

from __future__ import annotations

from collections.abc import Callable

from fusion.messages import Message, ModelStatus


class ModelAnnouncer:
    """Tells the transcription server which model talks, and again when that was restarted.

    `put` takes the message; it may be called from any thread.
    """

    def __init__(self, put: Callable[[Message], object]) -> None:
        self._put = put
        self._latest = ModelStatus("", "", "", "")

    def announce(self, name: str, coming: str, detail: str) -> None:
        """Say what is new; see `ModelStatus`."""
        self._latest = ModelStatus("", name, coming, detail)
        self._put(self._latest)

    def repeat(self) -> None:
        self._put(self._latest)
