"""One response: the events of its life, in their order, ended exactly once. Pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from realtime.events import ServerEvent
from realtime.items import Clause, Item


@dataclass
class Response:
    """A response in the making.

    `spoken` is whether it is to be played; `in_conversation` whether its items join the
    conversation. Each method returns events for the client, and none once the response is over.
    """

    id: str
    conversation_id: str | None
    spoken: bool
    voice: str = ""
    audio_format: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] | None = None
    max_output_tokens: int | str = "inf"
    status: str = "in_progress"
    status_details: dict[str, Any] | None = None
    output: list[Item] = field(default_factory=list)
    said: str = ""
    _message: Item | None = None

    @property
    def over(self) -> bool:
        return self.status != "in_progress"

    def shown(self) -> dict[str, Any]:
        """The response as the client sees it."""
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": self.status,
            "status_details": self.status_details,
            "output": [item.shown() for item in self.output],
            "conversation_id": self.conversation_id,
            "output_modalities": ["audio" if self.spoken else "text"],
            "max_output_tokens": self.max_output_tokens,
            "audio": {"output": {"format": self.audio_format, "voice": self.voice}},
            "usage": self._usage() if self.over else None,
            "metadata": self.metadata,
        }

    def created(self) -> ServerEvent:
        return {"type": "response.created", "response": self.shown()}

    # -- a message: text or audio --------------------------------------------------------------

    def begin_message(self, item: Item) -> list[ServerEvent]:
        """The response has a message from here on: `item`, empty and in progress."""
        self._message = item
        self.output.append(item)
        part = {"type": "audio", "transcript": ""} if self.spoken else {"type": "text", "text": ""}
        return [
            self._event("response.output_item.added", item, item=item.shown()),
            self._event("response.content_part.added", item, content_index=0, part=part),
        ]

    @property
    def message(self) -> Item | None:
        """The message that is being made, if there is one."""
        return self._message

    def say(self, words: str) -> list[ServerEvent]:
        """More text: a delta of the text, or of the transcript of what is played."""
        assert self._message is not None
        self.said += words
        kind = "output_audio_transcript" if self.spoken else "output_text"
        return [self._event(f"response.{kind}.delta", self._message, content_index=0, delta=words)]

    def clause(self, words: str) -> list[ServerEvent]:
        """A clause of which the sound comes next: its words join the transcript."""
        assert self._message is not None
        start = self._message.audio_ms
        if not self._message.truncated:
            self._message.clauses.append(Clause(words, start, start))
        return self.say(words)

    def play(self, sound: bytes, milliseconds: float) -> list[ServerEvent]:
        """More sound, in the format of the session."""
        assert self._message is not None
        if not self._message.truncated:
            self._message.audio_ms += milliseconds
            if self._message.clauses:
                self._message.clauses[-1].end = self._message.audio_ms
        delta = base64.b64encode(sound).decode("ascii")
        return [
            self._event("response.output_audio.delta", self._message, content_index=0, delta=delta)
        ]

    def end_message(self, status: str) -> list[ServerEvent]:
        """The message is over, whole or not."""
        item, self._message = self._message, None
        if item is None:
            return []
        item.status = status
        events: list[ServerEvent] = []
        if self.spoken:
            if not item.truncated:
                item.fields["content"] = [{"type": "output_audio", "transcript": self.said.strip()}]
            events += [
                self._event("response.output_audio.done", item, content_index=0),
                self._event(
                    "response.output_audio_transcript.done",
                    item,
                    content_index=0,
                    transcript=self.said.strip(),
                ),
            ]
            part = {"type": "audio", "transcript": self.said.strip()}
        else:
            item.fields["content"] = [{"type": "output_text", "text": self.said}]
            events.append(
                self._event("response.output_text.done", item, content_index=0, text=self.said)
            )
            part = {"type": "text", "text": self.said}
        return [
            *events,
            self._event("response.content_part.done", item, content_index=0, part=part),
            self._event("response.output_item.done", item, item=item.shown()),
        ]

    # -- a function call -----------------------------------------------------------------------

    def call(self, item: Item) -> list[ServerEvent]:
        """The model calls a function: `item` is the whole call."""
        self.output.append(item)
        call_id, arguments = item.fields["call_id"], item.fields["arguments"]
        begun = {**item.shown(), "status": "in_progress", "arguments": ""}
        return [
            self._event("response.output_item.added", item, item=begun),
            self._event(
                "response.function_call_arguments.delta", item, call_id=call_id, delta=arguments
            ),
            self._event(
                "response.function_call_arguments.done",
                item,
                call_id=call_id,
                name=item.fields["name"],
                arguments=arguments,
            ),
            self._event("response.output_item.done", item, item=item.shown()),
        ]

    # -- its end -------------------------------------------------------------------------------

    def end(self, status: str, details: dict[str, Any] | None = None) -> list[ServerEvent]:
        """End it: completed, cancelled, incomplete or failed. Nothing is said of it afterwards."""
        if self.over:
            return []
        events = self.end_message("completed" if status == "completed" else "incomplete")
        self.status = status
        self.status_details = {"type": status, **details} if details else None
        return [*events, {"type": "response.done", "response": self.shown()}]

    def _usage(self) -> dict[str, Any]:
        """Tokens as far as they are known here: about four letters each, and no caching."""
        made = -(-len(self.said) // 4)
        return {
            "total_tokens": made,
            "input_tokens": 0,
            "output_tokens": made,
            "input_token_details": {"text_tokens": 0, "audio_tokens": 0, "cached_tokens": 0},
            "output_token_details": {"text_tokens": made, "audio_tokens": 0},
        }

    def _event(self, kind: str, of: Item, /, **fields: Any) -> ServerEvent:
        return {
            "type": kind,
            "response_id": self.id,
            "item_id": of.id,
            "output_index": self.output.index(of),
            **fields,
        }
