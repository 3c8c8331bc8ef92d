"""The status board: what it tells people, and that other processes see it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from fusion import board as board_module
from fusion.board import Board, Phase, Service


@pytest.fixture
def board() -> Board:
    result = Board()
    for service in Service:
        result.start(service)
    return result


def all_ready(board: Board) -> None:
    for service in Service:
        board.report(service, Phase.READY)


def test_ready_when_all_are(board: Board) -> None:
    assert board.not_ready() == "starting the voice"
    board.report(Service.VOICE, Phase.LOADING)
    assert board.not_ready() == "loading the voice"
    board.report(Service.VOICE, Phase.READY)
    board.report(Service.TRANSCRIPTION, Phase.WAITING)
    assert board.not_ready() == "preparing the transcriber"
    board.report(Service.TRANSCRIPTION, Phase.READY)
    assert board.not_ready() == "starting the language model"
    board.report(Service.LANGUAGE_MODEL, Phase.READY)
    assert board.not_ready() is None


def test_a_second_generation_is_a_restart(board: Board) -> None:
    all_ready(board)
    board.start(Service.LANGUAGE_MODEL)
    assert board.generation(Service.LANGUAGE_MODEL) == 2
    for phase in (Phase.STARTING, Phase.LOADING, Phase.STOPPED):
        board.report(Service.LANGUAGE_MODEL, phase)
        assert board.not_ready() == "the language model is being restarted"


def test_a_missing_heartbeat_counts_as_not_ready(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_ready(board)
    monkeypatch.setattr(board_module, "FRESH", 0.05)
    time.sleep(0.1)
    board.beat(Service.TRANSCRIPTION)
    board.beat(Service.LANGUAGE_MODEL)
    assert board.not_ready() == "the voice does not answer"
    board.beat(Service.VOICE)
    assert board.not_ready() is None


def test_stopping_and_stopped(board: Board) -> None:
    all_ready(board)
    board.report(Service.VOICE, Phase.STOPPED)
    assert board.not_ready() == "the voice stopped"
    board.stopping = True
    assert board.stopping
    assert board.not_ready() == "the server is stopping"
    assert not board.wait_for(Service.VOICE, 60.0)  # returns at once


def become_ready_and_die(board: Board) -> None:
    board.report(Service.VOICE, Phase.READY)
    os.kill(os.getpid(), signal.SIGKILL)


def test_other_processes_share_it_and_may_be_killed(board: Board) -> None:
    assert not board.wait_for(Service.VOICE, 0.01)
    process = multiprocessing.get_context("spawn").Process(
        target=become_ready_and_die, args=(board,)
    )
    process.start()
    assert board.wait_for(Service.VOICE, 30.0)
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    board.report(Service.VOICE, Phase.STOPPED)  # nothing was left locked
    assert board.phase(Service.VOICE) == Phase.STOPPED
