"""The frame that each of the three services runs in."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait

from fusion import logs, memory, tasks, tracing
from fusion.errors import FusionError
from fusion.links import Links
from fusion.status import PIPELINE, Phase, Service

logger = logging.getLogger(__name__)

GRACE = 4.0  # seconds that a service has to end after it was asked to


@contextmanager
def child_process(service: Service, links: Links) -> Iterator[threading.Event]:
    """Run a service's body in this process; the event it yields is set when the service must end.

    It is set by SIGTERM and by the death of the parent; a body that then takes longer than `GRACE`
    is cut off, so that nothing is left behind. SIGINT is ignored: Ctrl-C reaches every process of
    the terminal, and the supervisor alone decides. A FusionError ends the process with its one
    sentence and its `exit_status`. An error that nobody expected, in any thread, ends it too: a
    restart is better than half a service.
    """
    threading.excepthook = tasks.end_process_for_thread
    logs.configure(links.log_level, service.label.removeprefix("the "), links.log_format)
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked while it was started
    asked, ask = os.pipe()
    # A handler may interrupt the main thread inside the event's own lock, so it only writes a byte.
    signal.signal(signal.SIGTERM, lambda *_: os.write(ask, b"\0"))
    tasks.thread("watch", _watch, asked, stop).start()
    tasks.thread("memory", memory.keep_low).start()
    if service in PIPELINE:
        tracing.start(service.name.lower(), os.environ)
    try:
        yield stop
    except FusionError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(error.exit_status)
    except Exception as error:  # noqa: BLE001 - else Python first waits for every thread
        tasks.end_process(error, "main thread")
    finally:
        tracing.stop()
        links.status.report(service, Phase.STOPPED)


def _watch(asked: int, stop: threading.Event) -> None:
    """Set `stop` when a byte comes or the parent is dead."""
    parent = parent_process()
    # No timeout: the parent dies one day, and its sentinel says so however it died.
    wait([asked] if parent is None else [asked, parent.sentinel])
    stop.set()
    time.sleep(GRACE)
    logger.warning("did not end within %.0f s and is cut off", GRACE)
    os._exit(1)
