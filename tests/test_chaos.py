"""How `benchmarks.chaos` counts: its verdict is worth as much as its bookkeeping."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from benchmarks.chaos import PROMPT, forgotten, next_answers
from benchmarks.faults import Deaths, plan
from benchmarks.isolation import leaks, named
from benchmarks.ledger import Ledger, Turn, Wire
from benchmarks.talkers import Talker
from whisper_live.client import Event, Failure, Notice, ReplyText, Segment, Transcript


def said(turn: int, text: str = "How old?", at: float = 0.0) -> Transcript:
    return Transcript(at, turn, (Segment(0.0, 1.0, f" {text}", True),), True, 0.1)


def reply(turn: int, at: float = 1.0, *, interrupted: bool = False) -> ReplyText:
    return ReplyText(at, turn, "Very old.", True, interrupted)


def failed(turn: int) -> Failure:
    return Failure(1.0, turn, "It failed.")


def ready(*, resumed: bool) -> Notice:
    return Notice(0.5, "SERVER_READY", None, {"resumed": resumed})


@pytest.mark.parametrize(
    ("events", "ends", "strays"),
    [
        ([said(1), reply(1)], [1], 0),
        ([said(1), failed(1)], [1], 0),
        ([said(1)], [0], 0),
        ([said(1), reply(1), failed(1)], [2], 0),
        ([reply(1)], [], 1),
        ([said(1), ready(resumed=True), reply(1)], [1], 0),
        ([said(1), ready(resumed=False), reply(1)], [0], 1),
        # Asked again by the client, in a session whose turns count from 1 again:
        ([said(1), reply(1), said(2), ready(resumed=False), said(1), reply(1)], [1, 1], 0),
        ([said(1), *[ready(resumed=False)] * 3, said(1), reply(1)], [1], 0),
        ([said(1), ready(resumed=False), said(1, "Another."), reply(1)], [0, 1], 0),
        # A turn before the last ends in an error, which the client tells of itself:
        ([said(1), said(2), failed(1), ready(resumed=False), said(1), reply(1)], [1, 1], 0),
        ([said(1), said(2), ready(resumed=False), said(1), reply(1)], [0, 1], 0),
        ([said(1), ReplyText(1.0, 1, "Very", False, False)], [0], 0),
    ],
)
def test_each_turn_is_followed_to_its_end(
    events: list[Event], ends: list[int], strays: int
) -> None:
    ledger = Ledger()
    for event in events:
        ledger.take(event)
    assert [len(turn.ends) for turn in ledger.turns] == ends
    assert len(ledger.strays) == strays
    assert len(ledger.open) == ends.count(0)
    assert len(ledger.twice) == ends.count(2)


def test_a_reply_that_was_cut_is_none_without_sound() -> None:
    ledger = Ledger()
    for event in (said(1), reply(1), Notice(2.0, "interrupted", 1, {"spoken": ""}), said(2)):
        ledger.take(event)
    assert [(turn.cut, turn.sounded) for turn in ledger.turns] == [(True, False), (False, False)]


READY = {"message": "SERVER_READY"}
BACK = {**READY, "resumed": True}
END = {"turn": 1, "llm_output": ["Old."], "eos": True}
OTHER = {**END, "llm_output": ["New."]}
ERROR = {"turn": 1, "status": "ERROR", "message": "It failed."}
GROWS = {**END, "eos": False}


@pytest.mark.parametrize(
    ("connections", "twice"),
    [
        ([[READY, GROWS, END]], 0),
        ([[READY, END], [BACK, END]], 0),  # told again, as it may have been lost
        ([[READY, END, END]], 1),
        ([[READY, END], [BACK, OTHER]], 1),
        ([[READY, END], [BACK, ERROR]], 1),
        ([[READY, END], [READY, OTHER]], 0),  # a session of its own
        ([[READY, END, {**END, "turn": 2}]], 0),
    ],
)
def test_the_wire_shows_what_the_client_would_leave_out(
    connections: list[list[dict[str, object]]], twice: int
) -> None:
    wire = Wire()
    for messages in connections:
        wire.connected()
        for message in messages:
            wire.take(json.dumps(message))
    assert wire.twice == twice


def test_a_seed_brings_the_same_faults_and_no_service_dies_too_often() -> None:
    one, other, third = (list(itertools.islice(plan(seed, 5.0), 300)) for seed in (1, 1, 2))
    assert one == other != third
    assert {fault.kind for fault in one} == {"kill", "segfault", "stop"}
    assert 4.0 < sum(fault.wait for fault in one) / 300 < 6.0
    deaths = Deaths()
    for now in (0.0, 1.0, 2.0, 3.0):
        assert deaths.may_die("voice", now)
        deaths.died("voice", now)
    assert not deaths.may_die("voice", 60.0)
    assert deaths.may_die("transcription", 60.0)
    assert deaths.may_die("voice", 65.5)


def test_the_next_answer_is_anybody_s_and_no_error() -> None:
    turns = [
        Turn(0, 1, "A?", 0.0, [reply(1, 5.0)]),
        Turn(0, 2, "B?", 1.0, [failed(2)]),
        Turn(0, 3, "C?", 2.0, [reply(3, 9.0)]),
    ]
    assert next_answers(turns, [1.0, 6.0, 10.0]) == [4.0, 3.0]


def test_what_a_prompt_lacks_and_what_stands_twice_in_it() -> None:
    talker = Talker("Heron", None, None, random.Random(1), 0.0)  # type: ignore[arg-type]
    questions = [f"Heron asks number {n}: Why?" for n in (1, 2)]
    for number, question in enumerate(questions, 1):
        talker.ledger.take(said(number, question))
        talker.ledger.take(reply(number, at=number))

    def prompt(*asked: str, name: str = "Heron") -> list[dict[str, str]]:
        system = {"role": "system", "content": PROMPT.format(name=name)}
        return [system, *({"role": "user", "content": text} for text in asked)]

    now = "Heron asks number 3: Why?"
    talker.ledger.take(said(3, now))
    assert forgotten(talker, [(9.0, prompt(*questions, now))]) == ([], [])
    assert forgotten(talker, [(9.0, prompt(questions[0], now))]) == ([questions[1]], [])
    assert forgotten(talker, [(9.0, prompt(*questions, now, now))]) == ([], [now])
    assert forgotten(talker, [(1.2, prompt(now))]) == ([], [])  # it was answered only just now
    assert forgotten(talker, [(9.0, prompt(name="Otter"))]) == ([], [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("My favorite word is Pineapple!", {"pineapple"}),
        ("Elephants, and a volcano's smoke: volcanoes.", {"elephant", "volcano"}),
        ("An apple. Helicopter", {"helicopter"}),
        ("{'text': ' umbrella', 'at': 0.0}", {"umbrella"}),
        ("Nothing of the kind.", set()),
    ],
)
def test_a_pass_phrase_is_found_where_it_is_said(text: str, found: set[str]) -> None:
    assert named(text) == found
    others = found - {"pineapple"}
    assert bool(leaks("pineapple", [("reply", text)])) == bool(others)
