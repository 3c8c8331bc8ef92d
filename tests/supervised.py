"""A supervised program of small services, for the tests of the supervisor.

`python -m tests.supervised FOLDER SERVICE SERVICE SERVICE [SERVICE]` runs the named functions as
the voice, the transcriber, the language model and the page server. Each leaves its process id in
FOLDER.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

from fusion import logs, supervisor
from fusion.child_process import child_process
from fusion.errors import ConfigurationError, ModelError
from fusion.links import Links
from fusion.selection import Choice, Pick
from fusion.settings import Settings
from fusion.status import Phase, Service
from fusion.supervisor import Supervisor


def _announce(service: Service, settings: Settings, links: Links) -> None:
    links.status.report(service, Phase.READY)
    name = f"{service.name}.{links.status.restart_count(service)}"
    Path(settings.cache, f"{name}.tmp").write_text(str(os.getpid()))
    Path(settings.cache, f"{name}.tmp").rename(Path(settings.cache, name))


def _service(links: Links) -> Service:
    """Which of the three this process is: the supervisor names processes after their service."""
    return Service[multiprocessing.current_process().name.upper()]


def good(settings: Settings, links: Links) -> None:
    """Works until it is asked to stop."""
    with child_process(_service(links), links) as stop:
        _announce(_service(links), settings, links)
        while not stop.wait(0.2):
            links.status.beat(_service(links))
        Path(settings.cache, f"{_service(links).name}.ended").touch()


def answering(settings: Settings, links: Links) -> None:
    """Somebody is answered for two seconds after it began to stop."""
    with child_process(_service(links), links) as stop:
        links.status.turns_under_way = 1
        _announce(_service(links), settings, links)
        while not links.status.stopping:
            links.status.beat(_service(links))
            time.sleep(0.05)
        stop.wait(2.0)
        if not stop.is_set():
            Path(settings.cache, "answered").touch()
        links.status.turns_under_way = 0
        stop.wait()


def stubborn(settings: Settings, links: Links) -> None:
    """Neither stops when asked nor lets its thread end it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _announce(_service(links), settings, links)
    while True:
        time.sleep(1)


def deaf(settings: Settings, links: Links) -> None:
    """Does not look at its stop event."""
    with child_process(_service(links), links):
        _announce(_service(links), settings, links)
        while True:
            time.sleep(0.2)
            links.status.beat(_service(links))


def misconfigured(settings: Settings, links: Links) -> None:
    with child_process(_service(links), links):
        raise ConfigurationError("Port 6006 is taken; choose another with --transcription_port.")


def dying(settings: Settings, links: Links) -> None:
    with child_process(_service(links), links):
        raise ModelError("The model does not answer; look at its memory.")


def hanging(settings: Settings, links: Links) -> None:
    """Is ready and then gives no sign of life, in its first life."""
    with child_process(_service(links), links) as stop:
        _announce(_service(links), settings, links)
        while not stop.wait(0.2):
            if links.status.restart_count(_service(links)) > 0:
                links.status.beat(_service(links))


def fragile(settings: Settings, links: Links) -> None:
    """One of its threads fails in its first life."""
    with child_process(_service(links), links) as stop:
        _announce(_service(links), settings, links)
        if links.status.restart_count(_service(links)) == 0:
            threading.Thread(target=lambda: [][0], name="worker").start()
        while not stop.wait(0.2):
            links.status.beat(_service(links))


def short_of_descriptors(settings: Settings, links: Links) -> None:
    """Ends with what it takes for the fault of a setting, once it has run."""
    with child_process(_service(links), links):
        if links.status.restart_count(_service(links)) == 0:
            raise ModelError("Something else is wrong at first.")
        raise ConfigurationError("Port 8000 for the web page cannot be opened.")


def main() -> int:
    folder, *names = sys.argv[1:]
    supervisor.HUNG_AFTER = 2.0
    supervisor.Restarts.DELAYS = (0.0, 0.1, 0.2, 0.3)
    logs.configure("info")
    services = {service: globals()[name] for service, name in zip(Service, names, strict=False)}
    nothing = Pick("none", "as these services load no model")
    choice = Choice(nothing, nothing, nothing)
    return Supervisor(Settings(cache=folder), choice, services).run()


if __name__ == "__main__":
    sys.exit(main())
