"""What every port tells a monitor over HTTP: `/healthz` and `/metrics`."""

from __future__ import annotations

import http
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from fusion.capacity import people
from fusion.metrics import AllProcesses
from fusion.status import Service, ServiceStatus

RETRY_AFTER = 2  # seconds; models take from two seconds to some minutes to load


@dataclass(frozen=True)
class Answer:
    """An HTTP answer whose body is text."""

    status: http.HTTPStatus
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Health:
    """Answers a monitor's requests from the service status, and with figures of all processes.

    Those named `process_` and `python_` are of the process that answers.
    """

    def __init__(self, status: ServiceStatus) -> None:
        self._status = status
        self._registry = CollectorRegistry(auto_describe=False)
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self._registry.register(collector)
        self._registry.register(_StatusMetrics(status))
        self._registry.register(AllProcesses())

    def answer(self, path: str) -> Answer | None:
        """The answer to a GET of `path`, or None where the path is not a monitor's."""
        if path == "/healthz":
            return self._health()
        if path == "/metrics":
            text = generate_latest(self._registry).decode()
            return Answer(http.HTTPStatus.OK, text, {"Content-Type": CONTENT_TYPE_LATEST})
        return None

    def _health(self) -> Answer:
        reason = self._status.not_ready()
        if reason is None:
            capacity = self._status.capacity
            found = "" if capacity is None else f"{people(capacity)} can be served well\n"
            return Answer(http.HTTPStatus.OK, f"ok\n{found}")
        headers = {"Retry-After": str(RETRY_AFTER)}
        return Answer(http.HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n", headers)


class _StatusMetrics(Collector):
    """What the service status knows, in the form of Prometheus."""

    def __init__(self, status: ServiceStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        ready = self._status.not_ready() is None
        yield GaugeMetricFamily(
            "whisperfusion_ready", "1 when the whole pipeline can answer.", value=float(ready)
        )
        capacity = self._status.capacity
        if capacity is not None:
            yield GaugeMetricFamily(
                "whisperfusion_capacity", "People who can be served well.", value=capacity
            )
        restarts = CounterMetricFamily(
            "whisperfusion_restarts", "Times that a service was started again.", labels=["service"]
        )
        for service in Service:
            again = self._status.restart_count(service)
            restarts.add_metric([service.name.lower()], again)
        yield restarts
