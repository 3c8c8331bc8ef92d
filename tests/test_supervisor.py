"""The supervisor, with real processes: restarts, endings, and nothing left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusion import metrics, supervisor
from fusion.errors import EXIT_CONFIGURATION, ConfigurationError
from fusion.selection import Choice, Pick
from fusion.settings import Settings
from fusion.status import ServiceStatus
from fusion.supervisor import Restarts, Supervisor

ROOT = Path(__file__).parent.parent
Start = Callable[..., "Program"]


class Program:
    """A supervised program that is running."""

    def __init__(self, folder: Path, services: tuple[str, ...]) -> None:
        self.folder = folder
        self.tmp = Path(tempfile.mkdtemp())  # pytest's folder has too long a name for sockets
        self.errors = (folder / "errors").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.supervised", str(folder), *services],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self.tmp)},
            stderr=self.errors,
            start_new_session=True,
        )

    def pid(self, name: str, timeout: float = 30.0) -> int:
        """Process id of a service by its restart count, as VOICE.0, once it runs."""
        wait_until((self.folder / name).exists, timeout, f"{name} to start")
        return int((self.folder / name).read_text())

    def pids(self) -> list[int]:
        return [self.pid(f"{name}.0") for name in ("VOICE", "TRANSCRIPTION", "LANGUAGE_MODEL")]

    def finish(self, timeout: float = 10.0) -> tuple[int, str]:
        return self.process.wait(timeout), self.errors_so_far()

    def errors_so_far(self) -> str:
        return (self.folder / "errors").read_text()


def alive(pid: int) -> bool:
    """Whether a process runs. A zombie, which its new parent has yet to collect, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    programs: list[Program] = []

    def run(*services: str) -> Program:
        programs.append(Program(tmp_path, services or ("good", "good", "good")))
        return programs[-1]

    yield run
    for program in programs:
        # Its own session: this reaches children that a failed test left behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.process.pid, signal.SIGKILL)
        program.process.wait(10)
        program.errors.close()
        shutil.rmtree(program.tmp)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_soon(start: Start, number: signal.Signals) -> None:
    program = start()
    pids = program.pids()
    asked = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(program.process.pid, number)  # as a terminal does
    else:
        program.process.send_signal(number)
    code, errors = program.finish()
    assert time.monotonic() - asked < 5.0
    assert code == 0
    assert "Traceback" not in errors
    assert not any(map(alive, pids))
    assert len(list(program.folder.glob("*.ended"))) == 3, "a service was cut off"
    assert not list(program.tmp.iterdir()), "the run folder was left behind"


@pytest.mark.parametrize("kind", ["stubborn", "deaf"])
def test_a_service_that_will_not_stop_is_killed(start: Start, kind: str) -> None:
    program = start(kind, "good", "good")
    pids = program.pids()
    asked = time.monotonic()
    program.process.terminate()
    assert program.finish()[0] == 0
    assert time.monotonic() - asked < 5.5
    assert not any(map(alive, pids))


@pytest.mark.parametrize("victim", ["VOICE", "TRANSCRIPTION", "LANGUAGE_MODEL"])
def test_a_killed_service_is_restarted_alone(start: Start, victim: str) -> None:
    program = start()
    pids = program.pids()
    killed = program.pid(f"{victim}.0")
    os.kill(killed, signal.SIGKILL)
    successor = program.pid(f"{victim}.1")
    assert successor != killed
    assert all(alive(pid) for pid in [successor, *pids] if pid != killed)
    program.process.terminate()
    code, errors = program.finish()
    assert code == 0
    assert "died (SIGKILL)" in errors
    assert not alive(successor)


@pytest.mark.parametrize("kind", ["good", "deaf"])
def test_children_do_not_outlive_a_killed_parent(start: Start, kind: str) -> None:
    program = start("good", kind, "good")
    pids = program.pids()
    program.process.kill()
    wait_until(lambda: not any(map(alive, pids)), 6.0, "the children to end")


def test_a_configuration_error_is_one_sentence(start: Start) -> None:
    code, errors = start("good", "misconfigured", "good").finish(30.0)
    assert code == EXIT_CONFIGURATION
    assert errors == "Port 6006 is taken; choose another with --transcription_port.\n"


def test_a_service_that_keeps_dying_is_given_up(start: Start) -> None:
    code, errors = start("dying", "good", "good").finish(60.0)
    assert code == 1
    assert errors.count("The model does not answer; look at its memory.\n") == 5
    assert errors.endswith(
        "The voice died 5 times within 60 s and is given up; the log above says what it died of.\n"
    )
    assert "Traceback" not in errors


@pytest.mark.parametrize("kind", ["dying", "short_of_descriptors"])
def test_the_page_server_never_ends_the_program(start: Start, kind: str) -> None:
    program = start("good", "good", "good", kind)
    pids = program.pids()
    again = "The model does not answer" if kind == "dying" else "the page server died"
    wait_until(lambda: program.errors_so_far().count(again) > 6, 60.0, "six deaths")
    assert all(map(alive, pids))
    program.process.terminate()
    assert program.finish()[0] == 0


def test_a_death_by_a_signal_without_a_name_is_told(start: Start) -> None:
    program = start()
    os.kill(program.pid("VOICE.0"), 35)
    assert alive(program.pid("VOICE.1"))
    program.process.terminate()
    code, errors = program.finish()
    assert code == 0
    assert "the voice died (signal 35)" in errors


def test_a_process_that_cannot_be_started_is_started_later(start: Start) -> None:
    """All descriptors are taken, those of the reserve as well."""
    program = start()
    pids = program.pids()
    resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, (3, 256))
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: "cannot be started" in program.errors_so_far(), 10.0, "the complaint")
    resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, (256, 256))
    wait_until(lambda: bool(list(program.folder.glob("VOICE.[1-9]"))), 30.0, "the next life")
    assert all(map(alive, pids[1:]))


def test_the_reserve_is_enough_to_start_a_process(start: Start) -> None:
    program = start()
    pids = program.pids()
    taken = len(list(Path(f"/proc/{program.process.pid}/fd").iterdir()))
    resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, (taken, 256))
    os.kill(pids[0], signal.SIGKILL)
    assert alive(program.pid("VOICE.1"))
    assert "cannot be started" not in program.errors_so_far()


def test_an_error_in_a_thread_restarts_its_service(start: Start) -> None:
    program = start("good", "good", "fragile")
    assert alive(program.pid("LANGUAGE_MODEL.1"))
    program.process.terminate()
    code, errors = program.finish()
    assert code == 0
    assert "ended by an error in its worker" in errors
    assert "IndexError" in errors


def test_a_service_that_hangs_is_restarted(start: Start) -> None:
    program = start("good", "good", "hanging")
    hung = program.pid("LANGUAGE_MODEL.0")
    assert alive(program.pid("LANGUAGE_MODEL.1"))
    assert not alive(hung)
    program.process.terminate()
    code, errors = program.finish()
    assert code == 0
    assert "the language model hangs: no sign of life" in errors
    assert errors.count("hangs") == 1


def test_delays_grow_and_old_deaths_are_forgotten() -> None:
    restarts = Restarts()
    assert [restarts.died(t) for t in (0, 1, 2, 3)] == list(Restarts.DELAYS)
    assert restarts.died(4) is None
    restarts = Restarts()
    assert [restarts.died(t * 61.0) for t in range(20)] == [0.0] * 20


NOTHING = Choice(*[Pick("none", "nothing is loaded")] * 3)


def test_a_folder_too_long_for_sockets_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(ConfigurationError, match=r"too long a path.*TMPDIR"):
        Supervisor(Settings(), NOTHING, {})
    assert not list(long.iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match=r"No folder for temporary files.*TMPDIR"):
        Supervisor(Settings(), NOTHING, {})


def test_shared_memory_that_cannot_be_had_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read_only(cores: int) -> ServiceStatus:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(supervisor, "ServiceStatus", read_only)
    with pytest.raises(ConfigurationError, match=r"Read-only.*/dev/shm"):
        Supervisor(Settings(), NOTHING, {})
    assert metrics.FOLDER not in os.environ, "and nothing is left for whoever starts next"


def test_turns_under_way_finish_before_it_ends(start: Start) -> None:
    program = start("good", "answering", "good")
    program.pids()
    program.process.terminate()
    assert program.finish()[0] == 0
    assert (program.folder / "answered").exists()


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    program = start("good", "answering", "good")
    program.pids()
    program.process.terminate()
    wait_until(lambda: "a second signal" in program.errors_so_far(), 5.0, "it to drain")
    program.process.terminate()
    assert program.finish()[0] == 0
    assert not (program.folder / "answered").exists()
