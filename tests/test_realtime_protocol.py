"""The Realtime protocol without I/O: whatever a client sends, in whatever order."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.config import Audio, AudioOutput, SessionConfig
from realtime.events import Ids, RealtimeError
from realtime.items import Item, Items
from realtime.session import (
    AppendAudio,
    CancelResponse,
    Configure,
    CreateResponse,
    Output,
    RealtimeSession,
    SetHistory,
)

SOUND = base64.b64encode(bytes(480)).decode()


class Client:
    """Sends events and keeps all outputs; the pipeline is played by hand."""

    def __init__(self) -> None:
        config = SessionConfig(model="mind", audio=Audio(output=AudioOutput(voice="joe")))
        self.session = RealtimeSession(config, Ids(lambda: "t"))
        self.outputs: list[Output] = list(self.session.open())

    def send(self, kind: str, **fields: Any) -> list[Output]:
        return self.take(self.session.receive(json.dumps({"type": kind, **fields})))

    def take(self, outputs: list[Output]) -> list[Output]:
        self.outputs += outputs
        return outputs

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        found = [each for each in self.outputs if isinstance(each, dict)]
        return [each for each in found if not kind or each["type"] == kind]

    def spoken_turn(self, words: str, answer: str) -> str:
        """A person's turn by voice and its spoken answer; the answer's item id."""
        self.send("input_audio_buffer.append", audio=SOUND)
        self.take(self.session.speech_started(100))
        self.take(self.session.turn_ended(900))
        item = self.session.last_item
        assert item is not None
        response, outputs = self.session.response_started()
        self.take(outputs)
        self.take(self.session.transcribed(item, words, 0.8))
        for clause in answer.split("|"):
            self.take(self.session.clause(response, clause))
            self.take(self.session.played(response, bytes(48_000), 1000))
        self.take(self.session.completed(response))
        assert self.session.last_item is not None
        return self.session.last_item


def kinds(outputs: list[Output]) -> list[str]:
    return [each["type"] for each in outputs if isinstance(each, dict)]


def error(outputs: list[Output]) -> dict[str, Any]:
    [told] = [each for each in outputs if isinstance(each, dict)]
    assert told["type"] == "error"
    found: dict[str, Any] = told["error"]
    return found


def test_a_spoken_turn_has_its_events_in_the_order_of_the_original() -> None:
    client = Client()
    client.send(
        "session.update",
        session={"type": "realtime", "audio": {"input": {"transcription": {"model": "w"}}}},
    )
    client.outputs.clear()
    client.spoken_turn("Where is it?", "It is old.| Very old.")
    assert kinds(client.outputs) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    [started] = client.events("input_audio_buffer.speech_started")
    [committed] = client.events("input_audio_buffer.committed")
    assert started["item_id"] == committed["item_id"]
    done = client.events("response.done")[0]["response"]
    assert done["output"][0]["content"][0]["transcript"] == "It is old. Very old."


def test_a_function_call_goes_out_whole_and_its_output_joins_the_conversation() -> None:
    client = Client()
    response, outputs = client.session.response_started()
    client.take(outputs)
    client.outputs.clear()
    client.take(client.session.called(response, "get_time", '{"zone": "UTC"}', "call_1"))
    client.take(client.session.completed(response))
    assert kinds(client.outputs) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    output = {"type": "function_call_output", "call_id": "call_1", "output": "12:00"}
    outputs = client.send("conversation.item.create", item=output)
    [history] = [each for each in outputs if isinstance(each, SetHistory)]
    assert [item["type"] for item in history.items] == ["function_call", "function_call_output"]


def test_truncation_keeps_what_was_heard_cut_at_the_word() -> None:
    client = Client()
    item = client.spoken_turn("Tell me.", "The bridge is old.| It was opened long ago.")
    assert (
        error(
            client.send(
                "conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=2500
            )
        )["param"]
        == "audio_end_ms"
    )
    outputs = client.send(
        "conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=1500
    )
    assert kinds(outputs) == ["conversation.item.truncated"]
    [history] = [each for each in outputs if isinstance(each, SetHistory)]
    said = history.items[-1]["content"][0]["transcript"]
    assert said == "The bridge is old. It was"
    again = client.send(
        "conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=1000
    )
    [history] = [each for each in again if isinstance(each, SetHistory)]
    assert history.items[-1]["content"][0]["transcript"] == "The bridge is old."


@given(
    st.lists(st.from_regex(r"[a-z]{1,8}( [a-z]{1,8}){0,5}", fullmatch=True), max_size=4),
    st.integers(0, 5000),
)
def test_a_cut_is_a_beginning_of_what_was_said(clauses: list[str], end: int) -> None:
    client = Client()
    item_id = client.spoken_turn("Hello.", "|".join(f"{clause} " for clause in clauses) or "x")
    item = client.session._items.get(item_id, "")
    whole = item.words.split()
    outputs = client.send(
        "conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=end
    )
    if kinds(outputs) == ["conversation.item.truncated"]:
        kept = item.words.split()
        assert kept == whole[: len(kept)]
        assert end > 0 or not kept
    else:
        assert end > item.audio_ms


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("nonsense", {}, "invalid_event"),
        ("input_audio_buffer.commit", {}, "input_audio_buffer_commit_empty"),
        ("input_audio_buffer.append", {"audio": "?"}, "invalid_value"),
        ("input_audio_buffer.append", {}, "invalid_value"),
        ("response.cancel", {}, "response_cancel_not_active"),
        ("conversation.item.retrieve", {"item_id": "x"}, "item_retrieve_invalid_item_id"),
        ("conversation.item.delete", {"item_id": "x"}, "item_delete_invalid_item_id"),
        (
            "conversation.item.create",
            {"item": {"type": "message", "role": "robot"}},
            "invalid_value",
        ),
        ("session.update", {"session": {"type": "transcription"}}, "invalid_value"),
        ("session.update", {"session": {"audio": {"output": {"speed": 9}}}}, "invalid_value"),
    ],
)
def test_what_cannot_be_done_is_an_error_that_names_the_clients_event(
    kind: str, fields: dict[str, Any], code: str
) -> None:
    client = Client()
    before = client.session.config
    told = error(client.send(kind, event_id="mine", **fields))
    assert (told["code"], told["event_id"]) == (code, "mine")
    assert client.session.config == before


@pytest.mark.parametrize("message", ["", "[]", "{", '{"type": 1}', "\x00", '"x"', "[" * 100_000])
def test_what_is_no_event_is_an_error(message: str) -> None:
    assert error(Client().take(RealtimeSession(SessionConfig(model="m")).receive(message)))[
        "type"
    ] == ("invalid_request_error")


def test_an_update_is_merged_and_shown_whole() -> None:
    client = Client()
    first = client.send("session.update", session={"instructions": "Be kind.", "tracing": "auto"})
    assert isinstance(first[0], Configure)
    detection = {"type": "semantic_vad", "eagerness": "low"}
    outputs = client.send(
        "session.update", session={"audio": {"input": {"turn_detection": detection}}}
    )
    shown = outputs[1]["session"]
    assert shown["instructions"] == "Be kind."
    assert shown["audio"]["input"]["turn_detection"]["eagerness"] == "low"
    assert shown["audio"]["output"]["voice"] == "joe"
    none = client.send("session.update", session={"audio": {"input": {"turn_detection": None}}})
    assert none[1]["session"]["audio"]["input"]["turn_detection"] is None
    cleared = client.send("session.update", session={"instructions": None, "tools": None})
    assert cleared[1]["session"]["instructions"] == ""
    assert cleared[1]["session"]["tools"] == []


def test_another_name_of_the_model_changes_nothing_and_hinders_nothing() -> None:
    client = Client()
    update = {"model": "gpt-realtime", "instructions": "Be kind."}
    shown = client.send("session.update", session=update)[1]["session"]
    assert (shown["model"], shown["instructions"]) == ("mind", "Be kind.")


def test_the_voice_is_fixed_once_it_was_heard() -> None:
    client = Client()
    assert kinds(client.send("session.update", session={"audio": {"output": {"voice": "amy"}}}))
    client.spoken_turn("Hello.", "Hi.")
    told = error(client.send("session.update", session={"audio": {"output": {"voice": "joe"}}}))
    assert told["code"] == "cannot_update_voice"


def test_a_response_aside_leaves_the_conversation_alone_and_goes_beside_the_active_one() -> None:
    client = Client()
    client.session.response_started()
    busy = error(client.send("response.create"))
    assert busy["code"] == "conversation_already_has_active_response"
    question = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"}]}
    outputs = client.send(
        "response.create",
        response={
            "conversation": "none",
            "input": [question],
            "output_modalities": ["text"],
            "metadata": {"topic": "aside"},
        },
    )
    [created] = [each for each in outputs if isinstance(each, dict)]
    assert created["response"]["metadata"] == {"topic": "aside"}
    assert created["response"]["conversation_id"] is None
    [action] = [each for each in outputs if isinstance(each, CreateResponse)]
    client.outputs.clear()
    client.take(client.session.replied(action.response_id, "Yes."))
    client.take(client.session.completed(action.response_id))
    assert "conversation.item.added" not in kinds(client.outputs)
    assert client.events("response.output_text.done")[0]["text"] == "Yes."


def test_items_are_put_where_the_client_says() -> None:
    items = Items(Ids(lambda: "t"))

    def message(name: str) -> dict[str, Any]:
        content = [{"type": "input_text", "text": name}]
        return {"id": name, "type": "message", "role": "user", "content": content}

    items.insert(message("b"), None)
    items.insert(message("d"), None)
    items.insert(message("a"), "root")
    items.insert(message("c"), "b")
    assert [item.id for item in items] == ["a", "b", "c", "d"]
    with pytest.raises(RealtimeError, match="already"):
        items.insert(message("c"), None)
    with pytest.raises(RealtimeError) as wrong:
        items.insert(message("e"), "nobody")
    assert wrong.value.code == "item_create_invalid_previous_item_id"


def test_a_config_shows_no_field_that_it_refuses_again() -> None:
    config = SessionConfig(model="m")
    assert config.updated(config.shown(), voice_is_fixed=True) == config


# -- any order ------------------------------------------------------------------------------------

Step = Callable[[Client, Callable[[int], int]], None]


def _some_item(client: Client, pick: Callable[[int], int]) -> str:
    known = [item.id for item in client.session._items]
    return known[pick(len(known))] if known else "nobody"


def _some_response(client: Client, pick: Callable[[int], int]) -> str:
    known = [each["response"]["id"] for each in client.events("response.created")]
    return known[pick(len(known))] if known else "nobody"


TEXT = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
STEPS: dict[str, Step] = {
    "append": lambda c, p: void(c.send("input_audio_buffer.append", audio=SOUND)),
    "commit": lambda c, p: void(c.send("input_audio_buffer.commit")),
    "clear": lambda c, p: void(c.send("input_audio_buffer.clear")),
    "speak": lambda c, p: void(c.take(c.session.speech_started(10))),
    "end": lambda c, p: void(c.take(c.session.turn_ended(20))),
    "create": lambda c, p: void(c.send("conversation.item.create", item=TEXT)),
    "delete": lambda c, p: void(c.send("conversation.item.delete", item_id=_some_item(c, p))),
    "truncate": lambda c, p: void(
        c.send(
            "conversation.item.truncate",
            item_id=_some_item(c, p),
            content_index=0,
            audio_end_ms=p(2000),
        )
    ),
    "respond": lambda c, p: void(c.send("response.create")),
    "aside": lambda c, p: void(c.send("response.create", response={"conversation": "none"})),
    "cancel": lambda c, p: void(c.send("response.cancel")),
    "interrupt": lambda c, p: void(c.take(c.session.interrupted())),
    "text": lambda c, p: void(c.send("session.update", session={"output_modalities": ["text"]})),
    "audio": lambda c, p: void(c.send("session.update", session={"output_modalities": ["audio"]})),
    "say": lambda c, p: void(c.take(c.session.replied(_some_response(c, p), "word "))),
    "clause": lambda c, p: void(c.take(c.session.clause(_some_response(c, p), "word "))),
    "play": lambda c, p: void(c.take(c.session.played(_some_response(c, p), bytes(48), 1.0))),
    "call": lambda c, p: void(c.take(c.session.called(_some_response(c, p), "f", "{}", "c"))),
    "whole": lambda c, p: void(c.take(c.session.completed(_some_response(c, p)))),
    "fail": lambda c, p: void(c.take(c.session.failed(_some_response(c, p), "No."))),
}


def void(_: object) -> None:
    pass


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 1000)), max_size=60))
def test_ids_are_unique_and_every_response_ends_once_with_nothing_after(
    steps: list[tuple[str, int]],
) -> None:
    client = Client()
    for name, number in steps:
        STEPS[name](client, lambda count, number=number: number % count if count else 0)
    events = client.events()
    ids = [event["event_id"] for event in events]
    assert len(set(ids)) == len(ids)
    created = [event["response"]["id"] for event in client.events("response.created")]
    done = [event["response"]["id"] for event in client.events("response.done")]
    assert len(set(created)) == len(created)
    assert len(set(done)) == len(done)
    assert set(done) <= set(created)
    ended: set[str] = set()
    open_items: dict[str, str] = {}
    for event in events:
        response = event.get("response_id")
        assert response not in ended, f"{event['type']} after the end of its response"
        if event["type"] == "response.output_item.added":
            open_items[event["item"]["id"]] = str(response)
        elif event["type"] == "response.output_item.done":
            del open_items[event["item"]["id"]]
        elif event["type"] == "response.done":
            ended.add(event["response"]["id"])
            assert event["response"]["id"] not in open_items.values()
            assert event["response"]["status"] != "in_progress"
    order = [event["item"]["id"] for event in client.events("conversation.item.added")]
    assert len(set(order)) == len(order)
    assert as_a_client_keeps_it(events) == [item.id for item in client.session._items]


def as_a_client_keeps_it(events: list[dict[str, Any]]) -> list[str]:
    """The conversation's items in their order, as the events alone tell it."""
    kept: list[str] = []
    for event in events:
        if event["type"] == "conversation.item.added":
            before = event["previous_item_id"]
            kept.insert(0 if before is None else kept.index(before) + 1, event["item"]["id"])
        elif event["type"] == "conversation.item.deleted":
            kept.remove(event["item_id"])
    return kept


def test_what_is_to_be_cancelled_is_told_to_the_pipeline_too() -> None:
    client = Client()
    response, _ = client.session.response_started()
    outputs = client.send("response.cancel")
    assert CancelResponse(response) in outputs
    assert client.session.replied(response, "late") == []


def test_sound_reaches_the_pipeline_as_it_was_sent() -> None:
    assert AppendAudio(bytes(480)) in Client().send("input_audio_buffer.append", audio=SOUND)


def test_an_item_in_progress_is_shown_so() -> None:
    item = Item("a", {"type": "message", "role": "assistant", "content": []}, "in_progress")
    assert item.shown()["status"] == "in_progress"
