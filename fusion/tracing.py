"""Traces for an operator who asks for them by OpenTelemetry's own variables; without, nothing.

A trace tells of one turn, through all three processes. A span's *context* is its W3C
`traceparent`, a text that messages carry to the next process; it is empty where nothing is traced,
and whoever gets an empty one makes no span. A span holds times, numbers and names of ours: never
what was said or answered, nor a key.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fusion import __version__, tasks

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as LibrarySpan

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTER, DISABLED, SERVICE = "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME"
HTTP = "http/protobuf"

Attribute = str | int | float | bool

_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")

_PATIENCE = 2.0  # seconds that a process which ends has to send its last spans

_provider: TracerProvider | None = None


def asked_by(environment: Mapping[str, str]) -> str:
    """The variable that asks for traces; "" where none does, or another forbids them."""
    if environment.get(DISABLED, "").strip().lower() == "true":
        return ""
    exporter = environment.get(EXPORTER, "").strip().lower()
    if exporter:
        return "" if exporter == "none" else EXPORTER
    return next((name for name in ENDPOINTS if environment.get(name, "").strip()), "")


def trouble(environment: Mapping[str, str]) -> str:
    """Why the traces that are asked for cannot be made, in a sentence; "" where they can."""
    name = asked_by(environment)
    exporter = environment.get(EXPORTER, "").strip().lower() or "otlp"
    protocol = next((environment[each] for each in PROTOCOLS if environment.get(each)), HTTP)
    if not name:
        return ""
    if exporter != "otlp":
        return f"There will be no traces: {EXPORTER} may be otlp or none, and is {exporter}."
    if protocol != HTTP:
        return f"There will be no traces: they are sent by {HTTP} only, not by {protocol}."
    if not is_installed():
        return (
            f"There will be no traces: {name} asks for them, and OpenTelemetry is not installed: "
            "install it with `pip install 'whisperfusion[tracing]'`."
        )
    return ""


def is_installed() -> bool:
    """Whether OpenTelemetry's SDK and its exporter can be imported. Imports neither."""
    try:
        return all(importlib.util.find_spec(name) for name in _PACKAGES)
    except ModuleNotFoundError:  # of a parent package
        return False


def start(process: str, environment: Mapping[str, str]) -> None:
    """Make traces in this process from now on, if they are asked for and can be made."""
    global _provider
    if not asked_by(environment) or trouble(environment):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    names = {} if environment.get(SERVICE) else {"service.name": "whisperfusion"}
    resource = Resource.create(
        {**names, "service.version": __version__, "service.instance.id": process}
    )
    _provider = TracerProvider(resource=resource)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))


def stop() -> None:
    """Send what is left, for a moment at most: a collector may be gone."""
    global _provider
    provider, _provider = _provider, None
    if provider is not None:
        sending = tasks.thread("traces", provider.shutdown)
        sending.start()
        sending.join(_PATIENCE)


def is_on() -> bool:
    """Whether this process makes traces."""
    return _provider is not None


class Span:
    """A stretch of time that an operator sees. `context` is what spans within it are begun with."""

    def __init__(self, span: LibrarySpan | None = None) -> None:
        self._span = span
        self.context = "" if span is None else _context_of(span)

    def note(self, **attributes: Attribute) -> None:
        """Write something down beside it: numbers and names, nothing that was said."""
        if self._span is not None:
            self._span.set_attributes(attributes)

    def end(self, at: float, **attributes: Attribute) -> None:
        """It ended at `at` (monotonic seconds). What comes later is ignored."""
        self.note(**attributes)
        if self._span is not None:
            self._span.end(_wall_clock(at))


def begin(name: str, at: float, parent: str | None) -> Span:
    """A span that began at `at` (monotonic seconds); whoever begins it ends it.

    `parent` is the context of the span that it is part of; None begins a trace. With an empty one,
    or where this process makes no traces, the span is nothing. From any thread.
    """
    if _provider is None or parent == "":
        return Span()
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    around = Context()
    if parent is not None:
        around = TraceContextTextMapPropagator().extract({"traceparent": parent}, around)
    tracer = _provider.get_tracer("whisperfusion", __version__)
    return Span(tracer.start_span(name, around, start_time=_wall_clock(at)))


def span(name: str, began: float, ended: float, parent: str, **attributes: Attribute) -> None:
    """A span of which all is known. Likewise."""
    if parent:
        begin(name, began, parent).end(ended, **attributes)


def _context_of(span: LibrarySpan) -> str:
    """Its `traceparent`; empty for one that the sampler left out, so that nothing follows it."""
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    if span.is_recording():
        TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent", "")


def _wall_clock(at: float) -> int:
    """Nanoseconds since 1970 of a monotonic time."""
    return time.time_ns() - round((time.monotonic() - at) * 1e9)
