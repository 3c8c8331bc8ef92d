"""How many people are let in: from what each service measured of itself."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.capacity import CYCLE, LOAD, TurnCost, capacity, cost_of, people
from fusion.serving.banner import StartupReport
from fusion.serving.health import Health
from fusion.settings import Settings
from fusion.status import PIPELINE, Phase, Service, ServiceStatus
from whisper_live.places import Places

MACHINE = LOAD * CYCLE  # seconds of one core that may be used in a cycle

costs = st.builds(
    TurnCost,
    st.floats(0.001, 100),
    st.floats(0.001, 100),
    st.integers(1, 16),
)


@pytest.mark.parametrize(
    ("found", "cores", "served"),
    [
        ([TurnCost(MACHINE / 3, 0.0)], 1, 3),  # the processor is what all of them share
        ([TurnCost(MACHINE / 3, 0.0)], 4, 12),
        ([TurnCost(MACHINE / 6, 0.0), TurnCost(MACHINE / 6, 0.0)], 1, 3),
        ([TurnCost(0.0, MACHINE / 3)], 1, 3),  # a GPU, or another thread, that does one at a time
        ([TurnCost(0.0, MACHINE / 3)], 16, 3),
        ([TurnCost(0.0, MACHINE / 3, at_once=4)], 1, 12),
        ([TurnCost(0.0, MACHINE / 3, at_once=4), TurnCost(0.0, MACHINE / 5)], 1, 5),
        ([TurnCost(100.0, 100.0)], 2, 1),  # who came to talk alone may, slow as it is
    ],
)
def test_the_busiest_part_decides(found: list[TurnCost], cores: int, served: int) -> None:
    assert (
        capacity([TurnCost(c.processor * 0.999, c.alone * 0.999, c.at_once) for c in found], cores)
        == served
    )


def test_what_costs_nothing_bounds_nobody() -> None:
    assert capacity([TurnCost(0.0, 0.0)] * 3, 2) > 1000


@given(st.lists(costs, min_size=1, max_size=4), st.integers(1, 64), st.floats(1.0, 4.0))
def test_more_cores_or_less_work_serve_no_fewer(
    found: list[TurnCost], cores: int, factor: float
) -> None:
    served = capacity(found, cores)
    assert served >= 1
    assert capacity(found, cores + 1) >= served
    assert capacity([cost.times(1 / factor) for cost in found], cores) >= served
    assert capacity([*found, found[0]], cores) <= served


def test_work_is_measured_in_all_its_threads() -> None:
    def spin() -> None:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass

    def work() -> None:
        threads = [threading.Thread(target=spin) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    cost = cost_of(work, at_once=2)
    assert cost.processor >= 0.1
    assert cost.alone > 0
    twice = cost.times(2).and_also(TurnCost(1.0, 1.0))
    assert twice == TurnCost(2 * cost.processor + 1.0, 2 * cost.alone + 1.0, 2)


def measured(cost: TurnCost) -> ServiceStatus:
    status = ServiceStatus(cores=2)
    for service in Service:
        status.report(service, Phase.READY)
    for service in PIPELINE:
        assert status.capacity is None
        status.report_cost(service, cost)
    return status


def test_a_place_is_given_only_to_whom_the_machine_can_serve() -> None:
    status = measured(TurnCost(MACHINE / 3.1, 0.0))  # three services on two cores
    assert status.capacity == 2
    places = Places(4, 600.0, status.capacity)
    assert [places.take(number, 0.0) for number in range(3)] == [True, True, False]
    places.leave(0)
    assert places.take(3, 1.0)
    assert not places.take(4, 1.0)
    places.capacity = None  # where nothing was measured, all places are given
    assert [places.take(number, 1.0) for number in range(4, 7)] == [True, True, False]
    few = Places(1, 600.0, status.capacity)
    assert [few.take(number, 0.0) for number in range(2)] == [True, False]


def test_a_monitor_and_the_terminal_learn_it(capsys: pytest.CaptureFixture[str]) -> None:
    status = measured(TurnCost(MACHINE / 3.1, 0.0))
    health = Health(status)
    answers = [health.answer(path) for path in ("/healthz", "/metrics")]
    texts = [answer.text for answer in answers if answer is not None]
    assert texts[0] == "ok\n2 people can be served well\n"
    assert "\nwhisperfusion_capacity 2.0\n" in texts[1]
    StartupReport(Settings(), status, 0).update()
    assert "Up to 2 people at once, as this machine was measured" in capsys.readouterr().out
    StartupReport(Settings(max_clients=1), status, 0).update()
    assert (
        "Up to 1 person at once (--max_clients); this machine would serve 2 well."
        in capsys.readouterr().out
    )
    StartupReport(Settings(), ServiceStatus(), 0).update()
    assert "at once" not in capsys.readouterr().out
    assert people(0) == "0 people"
