"""Work that hangs is noticed; work that goes on, and a process that slept, are not."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.settings import Settings
from fusion.supervisor import Awake
from fusion.watchdog import TICK, Watchdog
from language_models import llama_cpp

ROOT = Path(__file__).parent.parent


@pytest.fixture
def watchdog() -> Watchdog:
    """Its own clock never ends anything here: the tests let time pass."""
    return Watchdog(lambda sentence: None)


def test_a_call_without_progress_is_overdue(watchdog: Watchdog) -> None:
    with watchdog.watched("the transcriber", 5.0):
        assert watchdog.look(4.0) is None
        assert watchdog.look(2.0) == "the transcriber hangs: no progress for 5 s"
    assert watchdog.look(100.0) is None


def test_progress_begins_its_time_anew(watchdog: Watchdog) -> None:
    with watchdog.watched("the voice", 5.0) as call:
        for _ in range(10):
            assert watchdog.look(4.0) is None
            call.progress()


def test_a_call_that_fails_is_over(watchdog: Watchdog) -> None:
    with pytest.raises(ValueError, match="no"), watchdog.watched("the voice", 1.0):
        raise ValueError("no")
    assert watchdog.look(10.0) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(1, 60)), min_size=1, max_size=8))
def test_of_several_the_one_that_is_most_overdue_is_named(calls: list[tuple[str, float]]) -> None:
    watchdog = Watchdog(lambda sentence: None)
    contexts = [watchdog.watched(name, patience) for name, patience in calls]
    for context in contexts:
        context.__enter__()
    sentence = watchdog.look(61.0)
    shortest = min(patience for _, patience in calls)
    assert sentence is not None
    assert sentence.endswith(f"no progress for {shortest:.0f} s")
    for context in contexts:
        context.__exit__(None, None, None)


def test_its_thread_ends_what_hangs_and_counts_no_gap() -> None:
    ended = threading.Event()
    said: list[str] = []

    def end(sentence: str) -> None:
        said.append(sentence)
        ended.set()

    with Watchdog(end).watched("the voice", 2 * TICK):
        assert ended.wait(20)
    assert said == [f"the voice hangs: no progress for {2 * TICK:.0f} s"]


STOPPED = """
import os, signal, subprocess, sys, time
from fusion.watchdog import watched
# Another process continues this one after it was stopped for longer than its patience.
waker = f"sleep 3; kill -CONT {os.getpid()}"
subprocess.Popen(["sh", "-c", waker])
with watched("a call", 2.0):
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.5)
print("slept well", flush=True)
with watched("another call", 0.5):
    time.sleep(60)
"""


def test_a_process_that_slept_is_not_ended_and_one_that_hangs_is() -> None:
    result = subprocess.run(
        [sys.executable, "-c", STOPPED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout == "slept well\n"
    assert result.returncode == 1
    assert "another call hangs" in result.stderr


def test_a_machine_that_slept_is_awake_anew() -> None:
    awake = Awake(100.0)
    assert awake.look(101.0) == 1.0
    assert awake.look(102.0) == 2.0
    assert awake.look(167.0) == 0.0  # nobody looked for 65 s: nobody ran
    assert awake.look(168.0) == 1.0


def test_llama_cpp_is_watched_and_each_chunk_is_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = Watchdog(lambda sentence: None)
    monkeypatch.setattr(llama_cpp, "watched", watchdog.watched)
    model = object.__new__(llama_cpp.LlamaCpp)
    model._settings = Settings()
    looks: list[str | None] = []

    def handle(request: dict[str, Any], receive: Callable[[Mapping[str, Any]], bool]) -> None:
        looks.append(watchdog.look(20.0))
        receive({})
        looks.append(watchdog.look(20.0))
        looks.append(watchdog.look(20.0))

    model._call(handle, {}, lambda chunk: False)
    assert looks == [None, None, "the language model hangs: no progress for 24 s"]
