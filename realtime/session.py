"""A client's Realtime session: its events in, events and actions out. No I/O.

What the client sends goes to `receive`; what the pipeline does, to the other methods. Both return
outputs in order: dictionaries are events for the client, everything else are actions to carry out.
Items and responses live here; the pipeline is told the conversation whenever it became another one
than it can know (`SetHistory`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from realtime.actions import (
    AppendAudio,
    CancelResponse,
    ClearAudio,
    CommitAudio,
    Configure,
    CreateResponse,
    Output,
    SetHistory,
)
from realtime.config import ResponseConfig, SessionConfig, checked
from realtime.events import (
    LARGEST_APPEND,
    Ids,
    RealtimeError,
    ServerEvent,
    number,
    parse,
    text,
)
from realtime.items import Item, Items
from realtime.pipeline_commands import offered
from realtime.response import Response


class RealtimeSession:
    """One client. Methods return what follows; none of them raises for what a client does."""

    def __init__(self, config: SessionConfig, ids: Ids | None = None) -> None:
        self._ids = ids or Ids()
        self.id = self._ids.make("sess")
        self._conversation = self._ids.make("conv")
        self.config = config
        self._items = Items(self._ids)
        self._responses: dict[str, Response] = {}
        self._active: Response | None = None
        self._speaking: Item | None = None
        self._buffered = 0
        self._heard_voice = False
        self._stale = False
        self._receivers: dict[str, Callable[[dict[str, Any]], list[Output]]] = {
            "session.update": self._session_update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.truncate": self._truncate_item,
            "conversation.item.delete": self._delete_item,
            "response.create": self._create_response,
            "response.cancel": self._cancel_response,
        }

    # -- what the client sends -----------------------------------------------------------------

    def open(self) -> list[Output]:
        """The session begins."""
        return self._out([{"type": "session.created", "session": self._shown()}])

    def receive(self, message: str | bytes) -> list[Output]:
        """Take one message of the client; what is wrong with it becomes an `error` event."""
        event_id: object = None
        try:
            event = parse(message)
            event_id = event.get("event_id")
            receiver = self._receivers.get(event["type"])
            if receiver is None:
                raise RealtimeError(
                    f"There is no event of the type {event['type']!r}.",
                    "invalid_event",
                    param="type",
                )
            return self._out(receiver(event))
        except RealtimeError as error:
            return self._out([error.as_event(event_id)])

    def _session_update(self, event: dict[str, Any]) -> list[Output]:
        self.config = self.config.updated(event.get("session"), voice_is_fixed=self._heard_voice)
        shown = {"type": "session.updated", "session": self._shown()}
        return [Configure(self.config), shown]

    def _append(self, event: dict[str, Any]) -> list[Output]:
        audio = text(event, "audio")
        if len(audio) > LARGEST_APPEND:
            raise RealtimeError("audio has at most 15 MiB.", "invalid_value", param="audio")
        try:
            sound = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RealtimeError("audio is not base64.", "invalid_value", param="audio") from error
        self._buffered += len(sound)
        return [AppendAudio(sound)]

    def _commit(self, event: dict[str, Any]) -> list[Output]:
        if not self._buffered:
            raise RealtimeError(
                "The input audio buffer is empty.", "input_audio_buffer_commit_empty"
            )
        reply = self.config.audio.input.turn_detection is not None
        return [*self._committed(), CommitAudio(reply=reply)]

    def _clear(self, event: dict[str, Any]) -> list[Output]:
        self._buffered = 0
        self._speaking = None
        return [ClearAudio(), {"type": "input_audio_buffer.cleared"}]

    def _create_item(self, event: dict[str, Any]) -> list[Output]:
        item = self._items.insert(event.get("item"), event.get("previous_item_id"))
        return [*self._added(item), self._history()]

    def _retrieve_item(self, event: dict[str, Any]) -> list[Output]:
        item = self._items.get(text(event, "item_id"), "item_retrieve_invalid_item_id")
        return [{"type": "conversation.item.retrieved", "item": item.shown()}]

    def _truncate_item(self, event: dict[str, Any]) -> list[Output]:
        item_id = text(event, "item_id")
        index, end = number(event, "content_index"), number(event, "audio_end_ms")
        self._items.truncate(item_id, index, end)
        told = {"item_id": item_id, "content_index": index, "audio_end_ms": end}
        return [{"type": "conversation.item.truncated", **told}, self._history()]

    def _delete_item(self, event: dict[str, Any]) -> list[Output]:
        item_id = text(event, "item_id")
        self._items.delete(item_id)
        return [{"type": "conversation.item.deleted", "item_id": item_id}, self._history()]

    def _create_response(self, event: dict[str, Any]) -> list[Output]:
        config = checked(ResponseConfig, event.get("response") or {}, "response")
        aside = config.conversation == "none"
        if self._active is not None and not aside:
            raise RealtimeError(
                "The conversation has an active response already.",
                "conversation_already_has_active_response",
            )
        given = None
        if config.input is not None:
            given = tuple(self._referred(each) for each in config.input)
        offered(self.config, config)
        response = self._begin(config, aside=aside)
        self._stale = self._stale or (given is not None and not aside)
        return [response.created(), CreateResponse(response.id, config, given)]

    def _referred(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """An item of `response.input`: one of its own, or one of the conversation by its id."""
        if wanted.get("type") == "item_reference":
            return self._items.get(text(wanted, "id"), "invalid_item_reference").shown()
        return self._items.made(wanted).shown()

    def _cancel_response(self, event: dict[str, Any]) -> list[Output]:
        wanted = text(event, "response_id", required=False)
        response = self._responses.get(wanted) if wanted else self._active
        if response is None or response.over:
            raise RealtimeError(
                "Cancellation failed: no active response found.", "response_cancel_not_active"
            )
        return self._end(response, "cancelled", {"reason": "client_cancelled"}, stop=True)

    # -- what the person does ------------------------------------------------------------------

    def speech_started(self, at_ms: int) -> list[Output]:
        """The detector sees speech, from this moment of the appended audio on."""
        self._speaking = Item(self._ids.make("item"), _user_audio(""), "in_progress")
        started = {"audio_start_ms": at_ms, "item_id": self._speaking.id}
        return self._out([{"type": "input_audio_buffer.speech_started", **started}])

    def nothing_said(self, at_ms: int) -> list[Output]:
        """What the detector took for speech had no words: no turn comes of it."""
        if self._speaking is None:
            return []
        stopped = {"audio_end_ms": at_ms, "item_id": self._speaking.id}
        self._speaking = None
        return self._out([{"type": "input_audio_buffer.speech_stopped", **stopped}])

    @property
    def speaking(self) -> bool:
        """Whether the person speaks, as the client was told."""
        return self._speaking is not None

    def played_until(self, item_id: str, milliseconds: float) -> None:
        """An assistant's message fell silent here, as far as is known; clients may correct it."""
        item = self._known(item_id)
        if item is not None and not item.truncated and milliseconds < item.audio_ms:
            item.played_ms = milliseconds

    def history(self) -> tuple[dict[str, Any], ...]:
        """The conversation as the language model is to know it."""
        return tuple(item.told() for item in self._items)

    def interrupted(self) -> list[Output]:
        """Speech ended the active response."""
        if self._active is None:
            return []
        return self._out(self._end(self._active, "cancelled", {"reason": "turn_detected"}))

    def turn_ended(self, at_ms: int) -> list[Output]:
        """The detector ends the person's turn: what was said is committed as an item."""
        item = self._speaking or Item(self._ids.make("item"), _user_audio(""))
        self._speaking = item
        stopped = {"audio_end_ms": at_ms, "item_id": item.id}
        return self._out(
            [{"type": "input_audio_buffer.speech_stopped", **stopped}, *self._committed()]
        )

    def idle(self, start_ms: int, end_ms: int) -> list[Output]:
        """Nothing was said for `idle_timeout_ms` after a response: the silence is a turn."""
        self._speaking = Item(self._ids.make("item"), _user_audio(""))
        span = {"audio_start_ms": start_ms, "audio_end_ms": end_ms, "item_id": self._speaking.id}
        return self._out(
            [{"type": "input_audio_buffer.timeout_triggered", **span}, *self._committed()]
        )

    def transcribed(self, item_id: str, words: str, seconds: float) -> list[Output]:
        """The transcript of a committed item is known; told where the session asked for it."""
        item = self._known(item_id)
        if item is None:
            return []
        item.fields["content"] = [{"type": "input_audio", "transcript": words}]
        if self.config.audio.input.transcription is None:
            return []
        kind = "conversation.item.input_audio_transcription"
        usage = {"type": "duration", "seconds": round(seconds, 3)}
        part = {"item_id": item_id, "content_index": 0}
        return self._out(
            [
                {"type": f"{kind}.delta", **part, "delta": words},
                {"type": f"{kind}.completed", **part, "transcript": words, "usage": usage},
            ]
        )

    def transcription_failed(self, item_id: str, reason: str) -> list[Output]:
        if self._known(item_id) is None or self.config.audio.input.transcription is None:
            return []
        error = {"type": "server_error", "code": "transcription_failed", "message": reason}
        kind = "conversation.item.input_audio_transcription.failed"
        failed = {"item_id": item_id, "content_index": 0, "error": {**error, "param": None}}
        return self._out([{"type": kind, **failed}])

    @property
    def last_item(self) -> str | None:
        """The id of the latest item of the conversation."""
        return self._items.last_id()

    # -- what the machine does -----------------------------------------------------------------

    def message_of(self, response_id: str) -> str | None:
        """The id of the message that a response is making."""
        response = self._live(response_id)
        return response.message.id if response is not None and response.message else None

    def is_spoken(self, response_id: str) -> bool:
        """Whether a response is to be played."""
        response = self._live(response_id)
        return response is not None and response.spoken

    def trouble(self, message: str) -> list[Output]:
        """Something went wrong that is no response's and no item's."""
        error = RealtimeError(message, "server_error", kind="server_error")
        return self._out([error.as_event(None)])

    def response_started(self) -> tuple[str, list[Output]]:
        """The pipeline answers a committed turn by itself: its response's id, and what to tell."""
        response = self._begin(ResponseConfig(), aside=False)
        return response.id, self._out([response.created()])

    def replied(self, response_id: str, words: str) -> list[Output]:
        """More text of a response. A spoken one is told by its clauses instead."""
        response = self._live(response_id)
        if response is None or response.spoken:
            return []
        return self._out([*self._message(response), *response.say(words)])

    def clause(self, response_id: str, words: str) -> list[Output]:
        """The next clause of a spoken response."""
        response = self._live(response_id)
        if response is None or not response.spoken:
            return []
        return self._out([*self._message(response), *response.clause(words)])

    def played(self, response_id: str, sound: bytes, milliseconds: float) -> list[Output]:
        """The next sound of a response, in the session's output format."""
        response = self._live(response_id)
        if response is None or not response.spoken:
            return []
        self._heard_voice = True
        return self._out([*self._message(response), *response.play(sound, milliseconds)])

    def called(self, response_id: str, name: str, arguments: str, call_id: str) -> list[Output]:
        """The model calls a function."""
        response = self._live(response_id)
        if response is None:
            return []
        fields = {"name": name, "arguments": arguments, "call_id": call_id}
        before = self._close_message(response, "completed")
        item = self._new_item(response, {"type": "function_call", **fields}, "completed")
        added = self._added(item) if response.conversation_id else []
        events = response.call(item)
        return self._out([*before, events[0], *added[:1], *events[1:-1], *added[1:], events[-1]])

    def completed(self, response_id: str, *, cut: bool = False) -> list[Output]:
        """A response is whole, or `cut` as it reached its most tokens."""
        response = self._live(response_id)
        if response is None:
            return []
        if cut:
            return self._out(self._end(response, "incomplete", {"reason": "max_output_tokens"}))
        return self._out(self._end(response, "completed"))

    def failed(self, response_id: str, reason: str) -> list[Output]:
        """A response cannot be made; `reason` is a sentence for the client."""
        response = self._live(response_id)
        if response is None:
            return []
        error = {"type": "server_error", "code": "response_failed", "message": reason}
        return self._out(self._end(response, "failed", {"error": error}))

    # -- pieces of the above -------------------------------------------------------------------

    def _begin(self, config: ResponseConfig, *, aside: bool) -> Response:
        modalities = config.output_modalities or self.config.output_modalities
        response = Response(
            id=self._ids.make("resp"),
            conversation_id=None if aside else self._conversation,
            spoken=modalities == ["audio"],
            voice=self.config.audio.output.voice,
            audio_format=self.config.audio.output.format.model_dump(mode="json", exclude_none=True),
            metadata=config.metadata,
            max_output_tokens=config.max_output_tokens or self.config.max_output_tokens,
        )
        self._responses[response.id] = response
        if not aside:
            self._active = response
        return response

    def _live(self, response_id: str) -> Response | None:
        response = self._responses.get(response_id)
        return None if response is None or response.over else response

    def _message(self, response: Response) -> list[ServerEvent]:
        """The events that open the response's message, the first time."""
        if response.message is not None:
            return []
        fields = {"type": "message", "role": "assistant", "content": []}
        item = self._new_item(response, fields, "in_progress")
        events = response.begin_message(item)
        if response.conversation_id is None:
            return events
        return [events[0], self._item_event("added", item), events[1]]

    def _new_item(self, response: Response, fields: dict[str, Any], status: str) -> Item:
        if response.conversation_id is None:
            return Item(self._ids.make("item"), fields, status)
        return self._items.append(fields, status=status)

    def _end(
        self,
        response: Response,
        status: str,
        details: dict[str, Any] | None = None,
        *,
        stop: bool = False,
    ) -> list[Output]:
        message_status = "completed" if status == "completed" else "incomplete"
        events = [*self._close_message(response, message_status), *response.end(status, details)]
        del self._responses[response.id]
        if self._active is response:
            self._active = None
        if stop:
            events.insert(0, CancelResponse(response.id))
        events.append({"type": "rate_limits.updated", "rate_limits": []})
        if self._stale and self._active is None:
            events.append(self._history())
        return events

    def _close_message(self, response: Response, status: str) -> list[Output]:
        """End the response's message, if it is making one."""
        message = response.message
        events: list[Output] = [*response.end_message(status)]
        # The client may have deleted the item that was still being made.
        if message is not None and response.conversation_id and self._known(message.id):
            # Before the item's own end in the response, as the conversation's comes first.
            events.insert(len(events) - 1, self._item_event("done", message))
        return events

    def _committed(self) -> list[Output]:
        """What was said becomes an item at the end of the conversation."""
        speaking, self._speaking, self._buffered = self._speaking, None, 0
        before = self._items.last_id()
        item = self._items.append(_user_audio(""))
        if speaking is not None:
            item.id = speaking.id
        committed = {"item_id": item.id, "previous_item_id": before}
        return [{"type": "input_audio_buffer.committed", **committed}, *self._added(item)]

    def _added(self, item: Item) -> list[ServerEvent]:
        return [self._item_event("added", item), self._item_event("done", item)]

    def _item_event(self, what: str, item: Item) -> ServerEvent:
        return {
            "type": f"conversation.item.{what}",
            "previous_item_id": self._items.before(item),
            "item": item.shown(),
        }

    def _known(self, item_id: str) -> Item | None:
        return next((item for item in self._items if item.id == item_id), None)

    def _history(self) -> SetHistory:
        # Told in the middle of a response, it lacks the rest of that: it is told again at its end.
        self._stale = self._active is not None
        return SetHistory(self.history())

    def _shown(self) -> dict[str, Any]:
        return {"object": "realtime.session", "id": self.id, **self.config.shown()}

    def _out(self, outputs: list[Output]) -> list[Output]:
        return [self._ids.stamp(each) if isinstance(each, dict) else each for each in outputs]


def _user_audio(words: str) -> dict[str, Any]:
    content = [{"type": "input_audio", "transcript": words}]
    return {"type": "message", "role": "user", "content": content}
