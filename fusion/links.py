"""What the three services and their parent share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fusion.selection import Choice
from fusion.status import ServiceStatus


@dataclass(frozen=True)
class Links:
    """Travels to a spawned process as an argument.

    `authkey` is what the processes know one another by. `choice` says which library each service
    loads: the parent decided, once for all.
    """

    run_folder: str
    authkey: bytes = field(repr=False)
    status: ServiceStatus
    choice: Choice
    log_level: str = "info"
    log_format: str = "text"

    @property
    def transcription_queue(self) -> str:
        """Inbox of the language model."""
        return str(Path(self.run_folder, "transcription_queue"))

    @property
    def audio_queue(self) -> str:
        """Inbox of the voice."""
        return str(Path(self.run_folder, "audio_queue"))

    @property
    def llm_queue(self) -> str:
        """Inbox of the transcription server."""
        return str(Path(self.run_folder, "llm_queue"))
