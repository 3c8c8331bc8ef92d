"""Which generation runs next."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from language_models.generations import HEAD_START, Generation, Generations, Priority


def generation(session: str, priority: Priority, turn: int = 1, revision: int = 1) -> Generation:
    return Generation(session, turn, revision, "?", priority)


COMMITTED, SPECULATIVE, PREFILL = Priority.COMMITTED, Priority.SPECULATIVE, Priority.PREFILL


def test_committed_turns_go_first_in_the_order_in_which_they_came() -> None:
    generations = Generations(1)
    order = [("a", PREFILL), ("b", SPECULATIVE), ("c", COMMITTED), ("d", COMMITTED)]
    for session, priority in order:
        generations.add(generation(session, priority))
    started = []
    while (running := generations.next()) is not None:
        started.append(running.session)
        generations.finished(running)
    assert started == ["c", "d", "b", "a"]


def test_a_committed_turn_stops_the_least_of_what_runs_ahead_of_time() -> None:
    generations = Generations(2)
    ahead, prefill = generation("a", SPECULATIVE), generation("b", PREFILL)
    for each in (ahead, prefill):
        generations.add(each)
        assert generations.next() is each
    generations.add(generation("c", COMMITTED))
    assert generations.next() is None
    assert (ahead.cancellation.requested, prefill.cancellation.requested) == (False, True)
    generations.finished(prefill)
    found = generations.next()
    assert found is not None
    assert found.session == "c"


def test_speculation_waits_until_who_is_awaited_has_a_head_start() -> None:
    generations = Generations(2)
    awaited, ahead = generation("a", COMMITTED), generation("b", SPECULATIVE)
    generations.add(awaited)
    assert generations.next() is awaited
    generations.add(ahead)
    assert generations.next() is None
    awaited.pieces = HEAD_START
    assert generations.next() is ahead


def test_one_committed_turn_a_session_at_a_time() -> None:
    generations = Generations(2)
    first, second = generation("a", COMMITTED, 1), generation("a", COMMITTED, 2)
    for each in (first, second):
        generations.add(each)
    assert generations.next() is first
    assert generations.next() is None
    generations.finished(first)
    assert generations.next() is second


def test_newer_work_ahead_of_time_replaces_older_of_its_session_alone() -> None:
    generations = Generations(4)
    other, older = generation("b", SPECULATIVE), generation("a", SPECULATIVE)
    prefill, committed = generation("a", PREFILL), generation("a", COMMITTED)
    for each in (committed, other, older, prefill):
        generations.add(each)
    newer = generation("a", SPECULATIVE, revision=2)
    generations.add(newer)
    stopped = [g for g in (committed, other, older, prefill) if g.cancellation.requested]
    assert stopped == [older, prefill]
    assert generations.find("a", 1, 2) is newer


def test_prefill_is_no_generation_of_a_revision() -> None:
    generations = Generations(1)
    generations.add(generation("a", PREFILL, revision=0))
    assert generations.find("a", 1, 0) is None


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from(["add", "next", "end", "stop"]), st.integers(0, 20)), max_size=60
    ),
)
def test_never_too_many_and_all_that_is_wanted_is_done(
    most: int, steps: list[tuple[str, int]]
) -> None:
    """Whatever comes in which order: the limit holds, and nothing that was not stopped is lost."""
    generations = Generations(most)
    added: list[Generation] = []
    done: list[Generation] = []
    turns = itertools.count(1)

    def end(running: Generation) -> None:
        generations.finished(running)
        done.append(running)

    for step, number in steps:
        if step == "add":
            priority = Priority(number % 3)
            added.append(Generation("abc"[number % 3], next(turns), 1, "?", priority))
            generations.add(added[-1])
        elif step == "next":
            generations.next()
        elif step == "end" and generations.running:
            end(generations.running[number % len(generations.running)])
        elif step == "stop" and added:
            generations.stop(added[number % len(added)])
        assert len(generations.running) <= most
    for _ in range(2 * len(added) + 1):
        while generations.next() is not None:
            pass
        if generations.running:
            end(generations.running[0])
    assert not generations.waiting
    assert all(g in done or g.cancellation.requested for g in added)
