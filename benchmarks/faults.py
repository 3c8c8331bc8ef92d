"""Faults for the real program: kills, segmentation faults, stops. What comes when is a seed's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fusion.supervisor import Restarts
from tests.running import RunningServer

SERVICES = ("voice", "transcription", "language_model")
_KINDS = (("kill", signal.SIGKILL), ("segfault", signal.SIGSEGV), ("stop", signal.SIGSTOP))

_PATIENT = 0.75  # share of the faults that let people be answered in between
_RESTART = 60.0  # seconds that a restart may take

# A service that dies more often than this in its window is given up, and the program ends.
_MOST_DEATHS = len(Restarts.DELAYS)
_WINDOW = Restarts.WINDOW + 5.0


@dataclass(frozen=True)
class Fault:
    """`wait` seconds after the last one; a stopped process goes on after `seconds`.

    With `patient`, the wait begins once everything that the last one ended is back.
    """

    wait: float
    patient: bool
    kind: str
    signal: signal.Signals
    services: tuple[str, ...]
    """The first of them that may die now is meant."""
    seconds: float


def plan(seed: int, interval: float) -> Iterator[Fault]:
    """Faults without end, `interval` seconds apart on average and at no particular moment. Pure."""
    rng = random.Random(seed)
    while True:
        kind, number = rng.choice(_KINDS)
        order = tuple(rng.sample(SERVICES, len(SERVICES)))
        wait = min(rng.expovariate(1 / interval), 4 * interval)
        patient = rng.random() < _PATIENT
        yield Fault(wait, patient, kind, number, order, rng.uniform(0.2, 6.0))


class Deaths:
    """Which service may die without being given up. Pure: times are given."""

    def __init__(self) -> None:
        self._at: dict[str, list[float]] = {service: [] for service in SERVICES}

    def may_die(self, service: str, now: float) -> bool:
        recent = [at for at in self._at[service] if now - at < _WINDOW]
        self._at[service] = recent
        return len(recent) < _MOST_DEATHS

    def died(self, service: str, now: float) -> None:
        self._at[service].append(now)


@dataclass
class Injector:
    """Lets a server suffer. `done` counts what happened, by service and kind."""

    running: RunningServer
    seed: int
    interval: float
    done: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    _deaths: Deaths = field(default_factory=Deaths)

    async def run(self, count: int, until: float = float("inf")) -> None:
        """Inject so many faults, or as many as there are until a moment (monotonic)."""
        faults = plan(self.seed, self.interval)
        while len(self.times) < count and time.monotonic() < until:
            fault = next(faults)
            if fault.patient:
                await self._ready()
            await asyncio.sleep(fault.wait)
            await self._inject(fault)

    async def _ready(self) -> None:
        deadline = time.monotonic() + _RESTART
        while time.monotonic() < deadline:
            status, _ = await asyncio.to_thread(self.running.health)
            if status == 200:
                return
            await asyncio.sleep(0.2)

    async def _inject(self, fault: Fault) -> None:
        now = time.monotonic()
        deadly = fault.kind != "stop"
        services = [s for s in fault.services if not deadly or self._deaths.may_die(s, now)]
        for service in services:
            with contextlib.suppress(AssertionError, ProcessLookupError, FileNotFoundError):
                # One that has just died has no process yet.
                os.kill(pid := self.running.service_pid(service), fault.signal)
                break
        else:
            return
        self.times.append(now)
        self.done[f"{fault.kind} {service}"] += 1
        if deadly:
            self._deaths.died(service, now)
            return
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
