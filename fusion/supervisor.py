"""Starts the three services, watches over them, and ends them together."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from fusion.errors import EXIT_CONFIGURATION, ConfigurationError
from fusion.links import Links
from fusion.selection import Choice
from fusion.settings import Settings
from fusion.status import PIPELINE, Phase, Service, ServiceStatus

logger = logging.getLogger(__name__)

HUNG_AFTER = 60.0  # seconds without a heartbeat from a service that was ready
CHECK_INTERVAL = 1.0
STARTING_INTERVAL = 0.1  # the same until all services are ready, which somebody waits for
COUNTED_WITHIN = 0.3  # a turn that has just begun is under way for the status by then
STOP_GRACE = 4.0  # seconds between SIGTERM and SIGKILL; all is over within 5 s


class Restarts:
    """How long to wait before a service that died is started again. Pure: times are given."""

    DELAYS = (0.0, 0.5, 2.0, 5.0)
    WINDOW = 60.0  # seconds in which deaths count together

    def __init__(self) -> None:
        self._deaths: deque[float] = deque()

    def died(self, now: float) -> float | None:
        """Seconds to wait after a death at `now`, or None when there were too many: give up."""
        while self._deaths and now - self._deaths[0] > self.WINDOW:
            self._deaths.popleft()
        self._deaths.append(now)
        return None if len(self._deaths) > len(self.DELAYS) else self.DELAYS[len(self._deaths) - 1]


class Awake:
    """How long the machine is awake since it last slept, or this process was stopped. Pure."""

    def __init__(self, now: float) -> None:
        self._since = self._latest = now

    def look(self, now: float) -> float:
        """Seconds awake at `now`; looks that are further apart than ten intervals part two days."""
        if now - self._latest > 10 * CHECK_INTERVAL:
            self._since = now
        self._latest = now
        return now - self._since


class Supervisor:
    """Runs `services`, module-level functions `run(settings, links)`, in a process each.

    A service that dies is started again with fresh state while the others go on; one that ends
    with `EXIT_CONFIGURATION` has said why starting again will not help, and ends the program. One
    of the pipeline that keeps dying ends it as well. The page server does neither once it has run:
    what strangers do to it must not end the conversations of others.
    """

    def __init__(
        self,
        settings: Settings,
        choice: Choice,
        services: Mapping[Service, Callable[[Settings, Links], None]],
    ) -> None:
        self._settings = settings
        self._services = services
        self._context = multiprocessing.get_context("spawn")
        # numpy's OpenBLAS keeps every core busy for 60 ms after a matrix product of 1 ms, waiting
        # for the next one. It reads this when a service first imports numpy.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self._folder = _run_folder()
        self.links = Links(
            self._folder.name,
            os.urandom(32),
            _service_status(settings.cpu_threads),
            choice,
            settings.log_level,
            settings.log_format,
        )
        self._processes: dict[Service, SpawnProcess] = {}
        self._restarts = {service: Restarts() for service in services}
        self._due: dict[Service, float] = {}
        self._awake = Awake(time.monotonic())
        self._reserve = _Reserve()

    def run(self, on_look: Callable[[], None] = lambda: None) -> int:
        """Serve until SIGTERM or SIGINT (returns 0) or until a service cannot be kept alive
        (returns the program's exit code). Only the main thread may call it.

        `on_look` is called each time that it looks at the services: at least once a second, and
        ten times a second while one of them is not ready.
        """
        with (
            self._folder,
            _metrics_in(self._folder.name),
            self._reserve,
            _termination_signals() as asked,
        ):
            try:
                for service in sorted(self._services):
                    self._start(service)
                return self._watch(asked, on_look)
            finally:
                self._stop()

    def _watch(self, asked: int, on_look: Callable[[], None]) -> int:
        while True:
            on_look()
            sentinels = {service: p.sentinel for service, p in self._processes.items()}
            ready = wait([asked, *sentinels.values()], self._until_next_look())
            if asked in ready:
                os.read(asked, 1)
                self._drain(asked)
                return 0
            for service in [service for service, s in sentinels.items() if s in ready]:
                code = self._reap(service)
                if code is not None:
                    return code
            self._start_due()
            self._kill_hung()

    def _drain(self, asked: int) -> None:
        """Let nobody in, and let turns under way finish; no longer than until asked again."""
        status = self.links.status
        status.stopping = True
        server = self._processes.get(Service.TRANSCRIPTION)
        now = time.monotonic()
        deadline, counted = now + self._settings.drain_time, now + COUNTED_WITHIN
        if status.turns_under_way:
            logger.info("ends once what is said is answered; a second signal ends it at once")
        while server is not None and server.is_alive():
            now = time.monotonic()
            if now > deadline or not (status.turns_under_way or now < counted):
                return
            if wait([asked], STARTING_INTERVAL):
                return

    def _start(self, service: Service) -> None:
        process = self._context.Process(
            target=self._services[service],
            args=(self._settings, self.links),
            name=service.name.lower(),
        )
        self.links.status.start(service)
        resource_tracker.ensure_running()  # starting it later would unblock the signal
        # The child inherits the blocked signal, and unblocks it once it knows how to treat Ctrl-C.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with self._reserve.lent():
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self._processes[service] = process

    def _reap(self, service: Service) -> int | None:
        """Take note of a death. The program's exit code if it has to end, else None."""
        process = self._processes.pop(service)
        process.join(CHECK_INTERVAL)
        needed = service in PIPELINE
        first_time = self.links.status.restart_count(service) == 0
        if process.exitcode == EXIT_CONFIGURATION and (needed or first_time):
            return EXIT_CONFIGURATION  # the service has said why
        now = time.monotonic()
        delay = self._restarts[service].died(now)
        if delay is None and not needed:
            delay = Restarts.DELAYS[-1]
        if delay is None:
            print(
                f"{service.label.capitalize()} died {len(Restarts.DELAYS) + 1} times within "
                f"{Restarts.WINDOW:.0f} s and is given up; the log above says what it died of.",
                file=sys.stderr,
            )
            return 1
        logger.error(
            "%s died (%s); started again in %.1f s", service.label, _cause(process.exitcode), delay
        )
        self.links.status.report(service, Phase.STOPPED)
        self._due[service] = now + delay
        return None

    def _until_next_look(self) -> float:
        now = time.monotonic()
        interval = STARTING_INTERVAL if self.links.status.not_ready() else CHECK_INTERVAL
        return max(0.0, min([interval, *(due - now for due in self._due.values())]))

    def _start_due(self) -> None:
        now = time.monotonic()
        for service in [service for service, due in self._due.items() if due <= now]:
            del self._due[service]
            try:
                self._start(service)
            except OSError as error:  # no descriptor, process or memory is free just now
                logger.error("%s cannot be started (%s)", service.label, error.strerror)
                self._due[service] = now + Restarts.DELAYS[-1]

    def _kill_hung(self) -> None:
        status = self.links.status
        awake = self._awake.look(time.monotonic())
        for service, process in self._processes.items():
            silence = min(status.silence(service), awake)
            if status.phase(service) == Phase.READY and silence > HUNG_AFTER:
                logger.error("%s hangs: no sign of life for %.0f s", service.label, HUNG_AFTER)
                process.kill()

    def _stop(self) -> None:
        self.links.status.stopping = True
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_GRACE
        for process in self._processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
        for service, process in self._processes.items():
            if process.is_alive():
                logger.warning("%s did not stop and is killed", service.label)
                process.kill()
                process.join(CHECK_INTERVAL)


# What a Unix socket's address holds on Linux, less the longest name that `Links` gives one.
_LONGEST_FOLDER = 107 - len("/transcription_queue")


def _run_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for the channels' sockets. Raises ConfigurationError."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="whisperfusion-")
    except OSError as error:
        raise ConfigurationError(
            f"No folder for temporary files can be written ({error.strerror}): name one in the "
            "environment variable TMPDIR."
        ) from error
    if len(os.fsencode(folder.name)) > _LONGEST_FOLDER:
        folder.cleanup()
        raise ConfigurationError(
            f"The folder for temporary files, {tempfile.gettempdir()}, has too long a path for the "
            "sockets in it: name a shorter one in the environment variable TMPDIR."
        )
    return folder


def _service_status(cores: int) -> ServiceStatus:
    """Shared memory for the status. Raises ConfigurationError."""
    try:
        return ServiceStatus(cores)
    except OSError as error:
        raise ConfigurationError(
            f"Shared memory cannot be had ({error.strerror}): make /dev/shm writable, or give it "
            "room."
        ) from error


class _Reserve(contextlib.ExitStack):
    """Descriptors kept for starting a service when all others are taken."""

    _SIZE = 16  # a start takes two pipes and what the resource tracker needs

    def __enter__(self) -> _Reserve:
        for _ in range(self._SIZE):
            self.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return self

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Let the descriptors be used within; what cannot be had back is done without."""
        self.close()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self.__enter__()


@contextlib.contextmanager
def _metrics_in(folder: str) -> Iterator[None]:
    """Let the services that are started within keep their metrics in a folder: `metrics.py`."""
    name = "PROMETHEUS_MULTIPROC_DIR"
    before = os.environ.get(name)
    os.environ[name] = folder
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


@contextlib.contextmanager
def _termination_signals() -> Iterator[int]:
    """A file descriptor that becomes readable when the program is asked to end."""
    asked, ask = os.pipe()
    os.set_blocking(ask, False)
    before = {
        each: signal.signal(each, lambda *_: os.write(ask, b"\0"))
        for each in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        os.close(asked)
        os.close(ask)


def _cause(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        with contextlib.suppress(ValueError):  # the real-time signals have no names
            return signal.Signals(-exitcode).name
        return f"signal {-exitcode}"
    return f"exit code {exitcode}"
