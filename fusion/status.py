"""The service status: what each service is doing, for all processes to see.

Shared memory without a lock. Each cell has one writer and is an aligned eight-byte number, which
the processor writes whole; so a process that is killed can leave nothing half done or locked.
"""

from __future__ import annotations

import enum
import multiprocessing
import time

from fusion.capacity import TurnCost, capacity

FRESH = 10.0  # seconds since the heartbeat within which a service counts as alive

_COLUMNS = 6
_PHASE, _HEARTBEAT, _STARTS, _PROCESSOR, _ALONE, _AT_ONCE = range(_COLUMNS)


class Service(enum.IntEnum):
    """The supervised processes, in the order in which they are started.

    The first three are the pipeline. `WEB` serves the page: strangers reach it, so it shares no
    process with anything else, and what it does is no part of whether the pipeline can answer.
    """

    VOICE = 0
    TRANSCRIPTION = 1
    LANGUAGE_MODEL = 2
    WEB = 3

    @property
    def label(self) -> str:
        """What a person calls it."""
        return ("the voice", "the transcriber", "the language model", "the page server")[self]


PIPELINE = (Service.VOICE, Service.TRANSCRIPTION, Service.LANGUAGE_MODEL)
"""What has to be ready for an answer."""


class Phase(enum.IntEnum):
    """What a service is doing. WAITING: for others that have to be first."""

    STARTING = 0
    WAITING = 1
    LOADING = 2
    READY = 3
    STOPPED = 4


class ServiceStatus:
    """Phase, heartbeat and restart count of each service, and whether the program is to stop.

    It travels to a process that is started by `spawn`, as an argument of that process.
    """

    def __init__(self, cores: int = 1) -> None:
        self._cores = cores  # that the services share
        context = multiprocessing.get_context("spawn")
        self._cells = context.RawArray("d", len(Service) * _COLUMNS + 2)

    def start(self, service: Service) -> None:
        """The service is started, or started again. Only the supervisor calls it, once the
        predecessor is dead."""
        self._cells[_cell(service, _STARTS)] += 1
        self.report(service, Phase.STARTING)

    def report(self, service: Service, phase: Phase) -> None:
        self.beat(service)
        self._cells[_cell(service, _PHASE)] = phase

    def beat(self, service: Service) -> None:
        """Say that the service is alive. Its working loop calls this, about once a second."""
        self._cells[_cell(service, _HEARTBEAT)] = time.monotonic()

    def phase(self, service: Service) -> Phase:
        return Phase(int(self._cells[_cell(service, _PHASE)]))

    def restart_count(self, service: Service) -> int:
        """How often the service was started again after its first time."""
        return max(0, int(self._cells[_cell(service, _STARTS)]) - 1)

    def silence(self, service: Service) -> float:
        """Seconds since the service's last heartbeat."""
        return time.monotonic() - float(self._cells[_cell(service, _HEARTBEAT)])

    def report_cost(self, service: Service, cost: TurnCost) -> None:
        """Say what a turn costs the service, as it measured itself."""
        self._cells[_cell(service, _PROCESSOR)] = cost.processor
        self._cells[_cell(service, _ALONE)] = cost.alone
        self._cells[_cell(service, _AT_ONCE)] = cost.at_once

    def cost(self, service: Service) -> TurnCost | None:
        """What a turn costs the service; None until that was measured."""
        processor, alone, at_once = (
            float(self._cells[_cell(service, column)]) for column in (_PROCESSOR, _ALONE, _AT_ONCE)
        )
        return TurnCost(processor, alone, int(at_once)) if at_once else None

    @property
    def capacity(self) -> int | None:
        """How many people can be served well; None where not all services have measured that."""
        costs = [self.cost(service) for service in PIPELINE]
        known = [cost for cost in costs if cost is not None]
        return capacity(known, self._cores) if len(known) == len(costs) else None

    @property
    def stopping(self) -> bool:
        """Whether the whole program is to end. The supervisor sets it."""
        return bool(self._cells[-1])

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._cells[-1] = value

    @property
    def turns_under_way(self) -> int:
        """How many people speak or are answered just now. The transcription server sets it."""
        return int(self._cells[-2])

    @turns_under_way.setter
    def turns_under_way(self, value: int) -> None:
        self._cells[-2] = value

    def not_ready(self) -> str | None:
        """Why the pipeline cannot answer, for a person to read; None when it can."""
        if self.stopping:
            return "the server is stopping"
        reasons = (self._not_ready(service) for service in PIPELINE)
        return next((reason for reason in reasons if reason), None)

    def _not_ready(self, service: Service) -> str | None:
        phase = self.phase(service)
        if phase == Phase.READY:
            alive = self.silence(service) < FRESH
            return None if alive else f"{service.label} does not answer"
        if self.restart_count(service) > 0:
            return f"{service.label} is being restarted"
        verbs = {Phase.STARTING: "starting", Phase.WAITING: "preparing", Phase.LOADING: "loading"}
        return f"{verbs[phase]} {service.label}" if phase in verbs else f"{service.label} stopped"


def _cell(service: Service, column: int) -> int:
    return service * _COLUMNS + column
