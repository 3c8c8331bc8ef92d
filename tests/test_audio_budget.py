"""How fast a client's audio is taken, in simulated time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_live.audio_budget import AudioBudget


def seconds_to_send(audio: float, part: float = 0.5) -> float:
    """How long it takes to be listened to when it comes at once."""
    budget = AudioBudget(burst=30.0, rate=4.0, most=1e6)
    now = 0.0
    for _ in range(round(audio / part)):
        now += budget.take(part, now)
    return now


@pytest.mark.parametrize(("audio", "takes"), [(5, 0.0), (30, 0.0), (70, 10.0), (430, 100.0)])
def test_a_file_is_taken_at_once_and_a_long_one_at_four_times_real_time(
    audio: float, takes: float
) -> None:
    assert seconds_to_send(audio) == pytest.approx(takes)


def test_a_microphone_never_waits() -> None:
    budget = AudioBudget(burst=0.5, rate=4.0, most=1e6)
    assert all(budget.take(0.1, n / 10) == 0.0 for n in range(1000))


def test_a_pause_fills_the_burst_again() -> None:
    budget = AudioBudget(burst=2.0, rate=4.0, most=1e6)
    assert budget.take(3.0, 0.0) == pytest.approx(0.25)
    assert budget.take(2.0, 10.0) == 0.0


def test_all_of_it_is_limited() -> None:
    budget = AudioBudget(burst=2.0, rate=4.0, most=10.0)
    budget.take(9.9, 0.0)
    assert not budget.spent
    budget.take(0.2, 100.0)
    assert budget.spent


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 5)), min_size=1))
def test_nobody_is_listened_to_faster_than_the_rate(parts: list[tuple[float, float]]) -> None:
    """Whoever waits as told has had the burst, the last part, and the rate over the time."""
    budget = AudioBudget(burst=30.0, rate=4.0, most=1e6)
    now = 0.0
    for seconds, idle in parts:
        now += budget.take(seconds, now) + idle
        assert budget.taken <= 30.0 + 4.0 * now + 1e-6
