"""The file of a recording, what it may hold, and how two runs are compared."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.messages import Message
from fusion.settings import Settings
from whisper_live.flight_recorder import live, values
from whisper_live.flight_recorder.comparison import (
    Turn,
    differing_turn,
    first_difference,
    turns,
)
from whisper_live.flight_recorder.format import (
    Entry,
    Recording,
    RecordingError,
    decode,
    encode,
    header,
    read,
)
from whisper_live.flight_recorder.recorder import recorded_settings
from whisper_live.flight_recorder.replay import replay
from whisper_live.followed_session import INPUTS
from whisper_live.handshake import parse_command, parse_hello

HELLO = parse_hello('{"uid": "me", "stream": true, "token": "artichoke"}', {"en"})

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
entries = st.builds(
    Entry,
    st.dictionaries(st.text().filter(lambda name: name != "bytes"), plain_values),
    st.binary(max_size=64),
)


# -- the file --------------------------------------------------------------------------------------


@given(st.lists(entries))
def test_entries_come_back_as_they_were(written: list[Entry]) -> None:
    file = io.BytesIO(b"".join(map(encode, written)))
    assert list(decode(file)) == written


@given(st.lists(entries, min_size=1), st.data())
def test_what_is_cut_off_takes_nothing_before_it_along(
    written: list[Entry], data: st.DataObject
) -> None:
    whole = b"".join(map(encode, written))
    cut = data.draw(st.integers(0, len(whole) - 1))
    kept = list(decode(io.BytesIO(whole[:cut])))
    assert kept == written[: len(kept)]
    assert len(b"".join(map(encode, written[: len(kept) + 1]))) > cut


@given(st.binary(max_size=400), st.lists(entries, max_size=3))
def test_rubbish_ends_a_recording_and_raises_nothing_else(
    rubbish: bytes, written: list[Entry]
) -> None:
    start = b"".join(map(encode, [header(), *written]))
    recording = read(io.BytesIO(start + rubbish))
    assert recording.entries[: len(written)] == written
    with contextlib.suppress(RecordingError):
        read(io.BytesIO(rubbish))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no recording"),
        (b"RIFF\n", "no recording"),
        (b'{"format": "another"}\n', "no recording"),
        (b'{"format": "whisperfusion recording", "version": 2}\n', "of version 2"),
    ],
)
def test_another_file_is_refused_in_a_sentence(content: bytes, words: str) -> None:
    with pytest.raises(RecordingError, match=words):
        read(io.BytesIO(content))


# -- what comes from elsewhere ---------------------------------------------------------------------


def header_fields() -> dict[str, Any]:
    hello = {k: values.plain(v) for k, v in vars(HELLO).items() if k not in ("token", "resume")}
    fields = {"session": "s", "hello": hello, "settings": recorded_settings(Settings())}
    as_read: dict[str, Any] = json.loads(json.dumps(fields))
    return as_read


@pytest.mark.parametrize(
    "fields",
    [
        {"in": "__init__", "at": 1.0},
        {"in": "history", "at": 1.0},
        {"in": ["hear"], "at": 1.0},
        {"in": "tick"},
        {"in": "tick", "at": "now"},
        {"in": "hear", "at": 1.0, "given": {"probability": 0.5}},
        {"in": "say", "at": 1.0, "given": {"text": 5}},
        {"in": "say", "at": 1.0, "given": {"text": "x", "shell": "rm"}},
        {"in": "say", "at": 1.0},
        {"in": "say", "at": 1.0, "given": []},
        {"in": "received", "at": 1.0, "given": {"message": {"is": "Popen", "args": "rm"}}},
        {"in": "received", "at": 1.0, "given": {"message": {"is": "ReplyEnded", "turn": 1}}},
        {"in": "received", "at": 1.0, "given": {"message": {"is": "Commit"}}},
        {"in": "configure", "at": 1.0, "given": {"changes": {"is": "Changes", "wait": "x"}}},
        {"in": "transcribed", "at": 1.0, "given": {"job": {}, "text": "x"}},
    ],
)
def test_a_recording_makes_nothing_but_what_a_session_is_told(fields: dict[str, Any]) -> None:
    with pytest.raises(RecordingError):
        replay(Recording(header_fields(), [Entry(fields)]))


made_up_events = st.lists(
    st.fixed_dictionaries(
        {"is": st.sampled_from(["Tell", "ToLanguageModel", "TurnTimeline"])},
        optional={
            "message": st.fixed_dictionaries({"is": st.sampled_from(list(values._KINDS))}),
            "fields": plain_values,
            "turn": plain_values,
        },
    )
)


@given(
    st.lists(
        st.builds(
            lambda name, at, given: Entry({"in": name, "at": at, "given": given}),
            st.sampled_from(INPUTS) | plain_values,
            st.floats(allow_nan=False) | plain_values,
            st.dictionaries(
                st.sampled_from(["text", "message", "job", "revision", "wanted", "changes"]),
                plain_values | st.fixed_dictionaries({"is": st.sampled_from(list(values._KINDS))}),
            )
            | plain_values,
        )
        | st.builds(lambda out: Entry({"out": out}), plain_values | made_up_events)
        | st.builds(
            lambda message: Entry({"note": "", "at": 1.0, "message": message}), plain_values
        ),
        max_size=4,
    )
)
def test_whatever_it_holds_is_refused_in_a_sentence(made_up: list[Entry]) -> None:
    for run in (lambda: replay(Recording(header_fields(), made_up)), lambda: turns(made_up)):
        try:
            run()
        except RecordingError as error:
            assert str(error)


def test_an_answer_to_what_was_never_asked_is_a_difference() -> None:
    fields = {"in": "transcribed", "at": 1.0, "given": {"job": "text of 1.1", "text": "x"}}
    first = replay(Recording(header_fields(), [Entry(fields)])).first
    assert first is not None
    assert "'text of 1.1' was not asked for" in first.now


def test_every_message_can_be_named() -> None:
    assert {kind.__name__ for kind in get_args(Message)} <= values._KINDS.keys()


# -- comparing -------------------------------------------------------------------------------------


@given(st.lists(st.integers()), st.lists(st.integers()))
def test_the_first_difference_is_found(recorded: list[int], now: list[int]) -> None:
    found = first_difference(1.5, "tick", recorded, now)
    assert (found is None) == (recorded == now)
    if found is not None:
        pairs = itertools.takewhile(lambda p: p[0] == p[1], zip(recorded, now, strict=False))
        same = len(list(pairs))
        expected = [str(each[same]) if same < len(each) else "nothing" for each in (recorded, now)]
        assert [found.recorded, found.now] == expected


def test_turns_are_compared_by_words_and_not_by_times() -> None:
    one = Turn(1, "How old?", "Very.", "complete", 2.0, 500)
    late = Turn(1, "How old?", "Very.", "complete", 3.0, 900)
    other = Turn(1, "How old?", "Young.", "complete", 2.0, 500)
    assert differing_turn([one], [late]) is None
    found = differing_turn([one], [other])
    assert found is not None
    assert (found.at, found.where) == (2.0, "turn 1")
    assert "Very." in found.recorded
    assert "Young." in found.now
    missing = differing_turn([one], [])
    assert missing is not None
    assert missing.now == "no such turn"


def test_a_client_says_again_what_was_recorded() -> None:
    """The messages of a recording's client, as the server reads them."""
    said = '{"command": "say", "text": "Hello."}'
    assert parse_command(live.command("say", {"text": "Hello."})) == parse_command(said)
    aloud = parse_command('{"command": "read_aloud", "id": "x", "text": "Once.", "last": false}')
    words = {"words": values.plain(aloud.own_words)}
    assert parse_command(live.command("read_aloud", words)) == aloud
    assert live.command("interrupt", {"turn": 3}) == '{"command": "interrupt", "turn": 3}'
    assert live.command("end_of_audio", {}) == "END_OF_AUDIO"
    assert live.command("tick", {}) == live.command("received", {"message": {}}) == ""
    for message in (
        '{"command": "respond", "id": "x", "aside": true, "max_tokens": 9, "speak": false,'
        ' "system_prompt": "Be brief.", "history": [{"role": "user", "content": "Hi."}]}',
        '{"command": "respond", "id": "y"}',
        '{"command": "configure", "wait": 0.3, "voice": "joe", "barge_in": false,'
        ' "tools": [{"name": "lamp", "parameters": {"type": "object", "properties": {}}}],'
        ' "history": [{"role": "user", "content": "Hi."}]}',
    ):
        command = parse_command(message)
        given = {"changes": values.plain(command.changes), "wanted": values.plain(command.wanted)}
        again = parse_command(live.command(command.name, given))
        assert again.wanted == command.wanted
        if command.name == "configure":
            assert again.changes == command.changes


def test_the_handshake_is_said_again() -> None:
    hello = parse_hello(json.dumps(live.handshake(Recording(header_fields()))), {"en"})
    assert hello == parse_hello('{"uid": "me", "stream": true}', {"en"})
