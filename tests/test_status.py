"""The service status: what it tells people, and that other processes see it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from fusion import status as status_module
from fusion.status import Phase, Service, ServiceStatus


@pytest.fixture
def status() -> ServiceStatus:
    result = ServiceStatus()
    for service in Service:
        result.start(service)
    return result


def all_ready(status: ServiceStatus) -> None:
    for service in Service:
        status.report(service, Phase.READY)


def test_ready_when_all_are(status: ServiceStatus) -> None:
    assert status.not_ready() == "starting the voice"
    status.report(Service.VOICE, Phase.LOADING)
    assert status.not_ready() == "loading the voice"
    status.report(Service.VOICE, Phase.READY)
    status.report(Service.TRANSCRIPTION, Phase.WAITING)
    assert status.not_ready() == "preparing the transcriber"
    status.report(Service.TRANSCRIPTION, Phase.READY)
    assert status.not_ready() == "starting the language model"
    status.report(Service.LANGUAGE_MODEL, Phase.READY)
    assert status.not_ready() is None


def test_a_second_start_is_a_restart(status: ServiceStatus) -> None:
    all_ready(status)
    status.start(Service.LANGUAGE_MODEL)
    assert status.restart_count(Service.LANGUAGE_MODEL) == 1
    for phase in (Phase.STARTING, Phase.LOADING, Phase.STOPPED):
        status.report(Service.LANGUAGE_MODEL, phase)
        assert status.not_ready() == "the language model is being restarted"


def test_a_missing_heartbeat_counts_as_not_ready(
    status: ServiceStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_ready(status)
    monkeypatch.setattr(status_module, "FRESH", 0.05)
    time.sleep(0.1)
    status.beat(Service.TRANSCRIPTION)
    status.beat(Service.LANGUAGE_MODEL)
    assert status.not_ready() == "the voice does not answer"
    status.beat(Service.VOICE)
    assert status.not_ready() is None


def test_stopping_and_stopped(status: ServiceStatus) -> None:
    all_ready(status)
    status.report(Service.VOICE, Phase.STOPPED)
    assert status.not_ready() == "the voice stopped"
    status.stopping = True
    assert status.stopping
    assert status.not_ready() == "the server is stopping"


def become_ready_and_die(status: ServiceStatus) -> None:
    status.report(Service.VOICE, Phase.READY)
    os.kill(os.getpid(), signal.SIGKILL)


def test_other_processes_share_it_and_may_be_killed(status: ServiceStatus) -> None:
    assert status.phase(Service.VOICE) != Phase.READY
    process = multiprocessing.get_context("spawn").Process(
        target=become_ready_and_die, args=(status,)
    )
    process.start()
    process.join(30)
    assert status.phase(Service.VOICE) == Phase.READY
    assert process.exitcode == -signal.SIGKILL
    status.report(Service.VOICE, Phase.STOPPED)  # nothing was left locked
    assert status.phase(Service.VOICE) == Phase.STOPPED
