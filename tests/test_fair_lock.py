"""Taking turns at what only one thread may use: one at a time, in order, nobody starves."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fusion.errors import ModelError
from voices import fair_lock as module
from voices.fair_lock import FairLock


def test_threads_alternate_and_are_never_two_at_once() -> None:
    turns = FairLock()
    inside: list[int] = []
    order: list[int] = []
    all_here = threading.Barrier(3)

    def work(name: int) -> None:
        all_here.wait(5)
        with turns:
            for _ in range(50):
                inside.append(name)
                order.append(name)
                assert inside == [name]
                inside.remove(name)
                turns.pass_on()

    with turns:
        threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
        for thread in threads:
            thread.start()
        while len(turns._queue) < 4:
            threading.Event().wait(0.001)
    for thread in threads:
        thread.join(10)
    assert len(order) == 150
    assert all(len(set(order[at : at + 3])) == 3 for at in range(148))


def test_an_error_passes_the_turn_on() -> None:
    turns = FairLock()
    with pytest.raises(ZeroDivisionError), turns:
        _ = 1 / 0
    with turns:
        turns.pass_on()


def test_a_turn_that_never_comes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.05)
    turns = FairLock()
    with ThreadPoolExecutor(1) as others, turns, pytest.raises(ModelError, match="stuck"):
        others.submit(turns.__enter__).result(5)
    with turns:  # whoever gave up is not waited for
        pass
