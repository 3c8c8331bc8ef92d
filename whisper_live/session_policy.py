"""What one session is to do: how it listens, whether it answers, and how it may be interrupted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fusion.settings import Settings
from whisper_live.handshake import Changes
from whisper_live.listener import ListeningPolicy


@dataclass(frozen=True)
class SessionPolicy:
    """What one session is to do: its client's wishes and the server's settings."""

    listening: ListeningPolicy
    stream: bool
    reply: bool
    speculative_generation: bool
    barge_in: bool
    barge_in_speech: float
    reply_timeout: float
    runs_ahead: bool = False
    """Whether sound is sent faster than it is played, so that a reply may be interrupted after its
    last sound went out."""
    respond: bool = True
    speak: bool = True
    """Whether turns are answered by themselves, and aloud."""
    push_to_talk: bool = False
    """Whether the client alone says what a turn is: then all speech is meant for the machine."""

    @classmethod
    def from_settings(
        cls, settings: Settings, *, stream: bool, reply: bool, runs_ahead: bool = False
    ) -> SessionPolicy:
        return cls(
            listening=ListeningPolicy.from_settings(settings),
            stream=stream,
            reply=reply,
            speculative_generation=settings.speculative_generation,
            barge_in=settings.barge_in,
            barge_in_speech=settings.barge_in_speech,
            reply_timeout=settings.reply_timeout,
            runs_ahead=runs_ahead,
        )

    def changed(self, changes: Changes, server: SessionPolicy) -> SessionPolicy:
        """The same as a client configures it; `server` is what the settings say."""
        listening = self.listening
        if changes.turn_detection is not None:
            base = server.listening.endpoint
            endpoint = base.ended_by(changes.turn_detection, changes.wait or base.longest)
            listening = replace(listening, endpoint=endpoint)
        if changes.vad_threshold is not None:
            listening = replace(listening, threshold=changes.vad_threshold)
        manual = changes.turn_detection == "none" if changes.turn_detection else self.push_to_talk
        return replace(
            self,
            listening=listening,
            push_to_talk=manual,
            respond=self.respond if changes.respond is None else changes.respond,
            barge_in=self.barge_in if changes.barge_in is None else changes.barge_in,
            speak=self.speak if changes.speak is None else changes.speak,
        )
