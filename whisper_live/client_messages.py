"""The JSON messages of the transcription port, as docs/protocol.md describes them. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fusion.messages import ToolCalled, ToolEnded
from whisper_live.activity import FRAME_SECONDS
from whisper_live.events import Tell, TurnTimeline
from whisper_live.utterance import Segment


class ClientMessages:
    """Messages for one client. `stream` is whether it asked for growing replies and events."""

    def __init__(self, *, stream: bool) -> None:
        self.stream = stream

    def transcript(
        self,
        turn: int,
        segments: Sequence[Segment],
        tail: Segment,
        latency: float,
        *,
        eos: bool,
        language: str = "",
    ) -> Tell:
        """The transcript of a turn: finalized segments, the text after them, and its language."""
        spoken = [(segment, True) for segment in segments] + [(tail, eos)]
        fields = {
            "segments": [
                {
                    "start": f"{max(segment.first, 0) * FRAME_SECONDS:.3f}",
                    "end": f"{segment.last * FRAME_SECONDS:.3f}",
                    "text": f" {segment.text.strip()}",
                    "completed": completed,
                }
                for segment, completed in spoken
                if segment.text
            ],
            "eos": eos,
            "latency": round(latency, 3),
        }
        if language and self.stream:
            fields["language"] = language
        return Tell(self._with_turn(fields, turn))

    def no_transcript(self, turn: int) -> list[Tell]:
        """Take back what was shown of a turn; WhisperLive's client fails on an empty list."""
        fields = {"segments": [], "eos": False, "latency": 0.0, "turn": turn}
        return [Tell(fields)] if self.stream else []

    def reply(
        self, turn: int, text: str, latency: float, *, eos: bool, interrupted: bool = False
    ) -> Tell:
        """All of a reply's text so far."""
        fields = {"llm_output": [text.strip()], "eos": eos, "latency": round(latency, 3)}
        if interrupted:
            fields["interrupted"] = True
        return Tell(self._with_turn(fields, turn))

    def error(self, turn: int, sentence: str) -> Tell:
        """What a turn ends in that cannot be answered."""
        return Tell({"status": "ERROR", "message": sentence, "turn": turn})

    def event(self, name: str, turn: int | None, /, **fields: object) -> list[Tell]:
        """An event, for a client that asked for them."""
        return [Tell({"event": name, "turn": turn, **fields})] if self.stream else []

    def tool(self, message: ToolCalled | ToolEnded) -> list[Tell]:
        """A call of a tool begins or is over."""
        call = message.call
        fields: dict[str, object] = {"id": call.id, "name": call.name}
        if isinstance(message, ToolEnded):
            failed = {"failed": bool(message.error), "message": message.error}
            return self.event("tool_ended", message.turn, **fields, **failed)
        fields |= {"arguments": json.loads(call.arguments), "by_server": message.by_server}
        return self.event("tool_call", message.turn, **fields)

    def timeline(self, timeline: TurnTimeline) -> list[Tell]:
        """Where the time of a turn went."""
        return self.event(
            "timeline",
            timeline.turn,
            used_ahead=timeline.speculative,
            milliseconds=timeline.milliseconds,
        )

    def _with_turn(self, fields: dict[str, Any], turn: int) -> dict[str, Any]:
        return {**fields, "turn": turn} if self.stream else fields
