"""Each speculation that begins is used or wasted once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fusion.messages import Commit, Message, Prefill, Speculation, Withdrawal
from whisper_live.speculation_count import BEGUN, USED, WASTED, SpeculationCount


def test_a_speculation_is_used_by_its_own_commit_alone() -> None:
    count = SpeculationCount()
    assert count.follow(Prefill("s", 1, "How")) == []
    assert count.follow(Speculation("s", 1, 1, "How old?")) == [BEGUN]
    assert count.follow(Speculation("s", 1, 2, "How old is it?")) == [WASTED, BEGUN]
    assert count.follow(Withdrawal("s", 1, 1)) == []  # of one that was replaced
    assert count.follow(Commit("s", 1, 2, "How old is it?")) == [USED]
    assert count.follow(Commit("s", 1, 2, "How old is it?")) == []  # asked again
    assert count.follow(Speculation("s", 2, 1, "And")) == [BEGUN]
    assert count.follow(Withdrawal("s", 2, 1)) == [WASTED]
    assert count.follow(Speculation("s", 3, 1, "And")) == [BEGUN]
    assert count.follow(Commit("s", 3, 2, "And you?")) == [WASTED]
    assert count.follow(Speculation("s", 4, 1, "Bye")) == [BEGUN]
    assert count.end() == [WASTED]
    assert count.end() == []


NUMBERS = st.integers(1, 3)
MESSAGES = st.one_of(
    st.builds(Speculation, st.just("s"), NUMBERS, NUMBERS, st.just("")),
    st.builds(Withdrawal, st.just("s"), NUMBERS, NUMBERS),
    st.builds(Commit, st.just("s"), NUMBERS, NUMBERS, st.just("")),
)


@given(st.lists(MESSAGES))
def test_what_began_has_one_end(messages: list[Message]) -> None:
    count = SpeculationCount()
    fates = [fate for message in messages for fate in count.follow(message)] + count.end()
    assert fates.count(BEGUN) == fates.count(USED) + fates.count(WASTED)
    assert fates.count(BEGUN) == sum(isinstance(message, Speculation) for message in messages)
