"""A second, longer look at a doubtful text, while the silence is waited out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.messages import Speculation, Withdrawal
from fusion.settings import Settings
from tests.session_world import World


def doubtful(first: str, correction: str | None, longer_look: float = 0.15) -> World:
    world = World()
    world.doubts, world.correction, world.longer_look = True, correction, longer_look
    world.speak(1.2, first)
    world.silence(3.0)
    return world


def speculated(world: World) -> list[str]:
    return [message.text for message in world.to_model if isinstance(message, Speculation)]


def withdrawn(world: World) -> list[int]:
    assert [m for m in world.to_model if isinstance(m, Withdrawal)] == [
        m for m in world.to_voice if isinstance(m, Withdrawal)
    ]
    return [message.revision for message in world.to_model if isinstance(message, Withdrawal)]


@pytest.mark.parametrize("longer_look", [0.05, 0.2])
def test_other_words_withdraw_what_was_made_of_the_first(longer_look: float) -> None:
    world = doubtful("a light rose", "a light roast", longer_look)
    assert speculated(world) == ["a light rose", "a light roast"]
    assert withdrawn(world) == [1]
    assert [(c.revision, c.text) for c in world.commits()] == [(2, "a light roast")]
    assert [f["llm_output"] for f in world.endings()[1]] == [["answer 1.2"]]
    assert "rose" not in str(world.finals())
    assert len(world.events("speech_stopped")) == 1


@pytest.mark.parametrize("correction", ["what time is it", None])
def test_the_same_words_or_a_failure_change_nothing(correction: str | None) -> None:
    world = doubtful("what time is it", correction)
    assert speculated(world) == ["what time is it"]
    assert withdrawn(world) == []
    assert [(c.revision, c.text) for c in world.commits()] == [(1, "what time is it")]
    assert world.timeline()["commit"] < 1000 * Settings().wait_done + 50


def test_a_look_that_takes_long_is_not_waited_for() -> None:
    world = doubtful("a light rose", "a light roast", longer_look=1.0)
    assert [(c.revision, c.text) for c in world.commits()] == [(1, "a light rose")]
    latest = 1000 * (Settings().wait_done + 0.1) + 50
    assert 1000 * Settings().wait_done < world.timeline()["commit"] < latest
    assert withdrawn(world) == []
    assert len(world.endings()[1]) == 1


def test_who_goes_on_speaking_is_not_corrected_by_what_came_before() -> None:
    world = World(done=0.1)
    world.doubts, world.correction, world.longer_look = True, "can i halve", 0.5
    world.speak(1.0, "can i have")
    world.silence(0.3)
    world.doubts = False
    world.speak(0.8, "can i have a coffee")
    world.done = 0.95
    world.silence(3.0)
    assert withdrawn(world) == [1]
    assert [c.text for c in world.commits()] == ["can i have a coffee"]


def test_a_turn_that_the_client_ends_waits_for_it_too() -> None:
    world = World()
    world.doubts, world.correction, world.longer_look = True, "a light roast", 0.3
    world.speak(1.0, "a light rose")
    world.take(world.session.end_turn(world.now))
    world.silence(2.0)
    assert [c.text for c in world.commits()] == ["a light roast"]
    assert len(world.endings()[1]) == 1


def test_words_that_were_none_are_no_turn() -> None:
    world = doubtful("thanks for watching this", "")
    assert world.commits() == []
    assert withdrawn(world) == [1]


@given(st.floats(0.01, 2.0), st.sampled_from(["a rose", "a roast", "", None]))
def test_every_turn_is_committed_once_with_its_last_words(
    longer_look: float, correction: str | None
) -> None:
    world = doubtful("a rose", correction, longer_look)
    expected = "a rose" if correction is None else correction
    said = [c.text for c in world.commits()]
    if longer_look < 0.25:  # in time for the commit
        assert said == ([expected] if expected else [])
    elif longer_look > 0.6:
        assert said == ["a rose"]
    else:
        assert said in ([expected] if expected else [], ["a rose"])
    assert [len(ends) for ends in world.endings().values()] == [1] * len(said)
