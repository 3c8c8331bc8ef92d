"""Everybody's first clause, then the rest."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from language_models import pacing
from language_models.generations import HEAD_START
from language_models.pacing import Pacing


def test_alone_nobody_pauses() -> None:
    pace = Pacing()
    pace.enter("a")
    assert not any(pace.advance("a") for _ in range(10 * HEAD_START))


def test_who_has_a_head_start_waits_for_who_has_none() -> None:
    pace = Pacing()
    pace.enter("a")
    for _ in range(HEAD_START + 3):
        pace.advance("a")
    pace.enter("b")
    assert pace.advance("a")
    assert not any(pace.advance("b") for _ in range(HEAD_START))
    assert not pace.advance("a")


@pytest.mark.parametrize("how", ["has its head start", "is over", "was stopped"])
def test_a_pause_ends_when_the_other(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LONGEST_PAUSE", 60.0)
    pace = Pacing()
    pace.enter("a")
    pace.enter("b")
    for _ in range(HEAD_START):
        pace.advance("a")
    stopped, over = threading.Event(), threading.Event()

    def pause() -> None:
        pace.pause("a", stopped.is_set)
        over.set()

    threading.Thread(target=pause, daemon=True).start()
    assert not over.wait(0.05)
    if how == "is over":
        pace.leave("b")
    elif how == "was stopped":
        stopped.set()
        pace.wake()
    else:
        for _ in range(HEAD_START):
            pace.advance("b")
    assert over.wait(20)


def test_nobody_pauses_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LONGEST_PAUSE", 0.01)
    pace = Pacing()
    pace.enter("a")
    pace.enter("b")
    for _ in range(HEAD_START):
        pace.advance("a")
    pace.pause("a", lambda: False)
    # It is granted another clause before it has to look around again.
    assert [pace.advance("a") for _ in range(HEAD_START)] == [False] * (HEAD_START - 1) + [True]


def first_clause_at(starts: list[int], lengths: list[int], paced: bool) -> list[int]:
    """When each reply has its first clause, in steps of a model that makes one token in each.

    Whoever may go takes turns; a reply of so many tokens begins in that step.
    """
    pace, made, found = Pacing(), [0] * len(starts), [0] * len(starts)
    paused = [False] * len(starts)
    step = last = 0
    while not all(made[n] >= lengths[n] for n in range(len(starts))):
        for n, start in enumerate(starts):
            if start == step:
                pace.enter(n)
        live = [n for n, start in enumerate(starts) if start <= step and made[n] < lengths[n]]
        behind = [n for n in live if made[n] < HEAD_START]
        ready = [n for n in live if not (paced and paused[n] and behind)] or live
        if ready:
            n = next((n for n in ready if n > last), ready[0])
            last, made[n] = n, made[n] + 1
            paused[n] = pace.advance(n)
            found[n] = found[n] or (step + 1 if made[n] in (HEAD_START, lengths[n]) else 0)
            if made[n] == lengths[n]:
                pace.leave(n)
        step += 1
    return [at - start for at, start in zip(found, starts, strict=True)]


def test_two_who_answer_at_once_in_simulated_time() -> None:
    starts, lengths = [0, HEAD_START + 2], [100, 100]
    first, second = first_clause_at(starts, lengths, paced=False)
    assert first == HEAD_START
    assert second >= 2 * HEAD_START - 1
    together = first_clause_at(starts, lengths, paced=True)
    assert together[0] == HEAD_START
    assert together[1] <= HEAD_START + 2


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(1, 90)), min_size=1, max_size=4))
def test_pacing_makes_nobodys_first_clause_much_later(replies: list[tuple[int, int]]) -> None:
    """The last of the first clauses is never later than without, but for a token a person."""
    starts, lengths = [start for start, _ in replies], [length for _, length in replies]
    paced, free = (first_clause_at(starts, lengths, paced=how) for how in (True, False))
    assert sum(paced) <= sum(free) + len(replies)
