"""An OpenTelemetry collector in the test's own process: OTLP over HTTP, as protobuf."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class CollectedSpan:
    """A span as it arrived; times in seconds since 1970."""

    name: str
    service: str
    process: str
    trace: str
    identity: str
    parent: str
    began: float
    ended: float
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What was sent to `address`: the spans, and everything as it came."""

    address: str = ""
    spans: list[CollectedSpan] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def named(self, name: str) -> list[CollectedSpan]:
        """The spans of a name, in the order in which they began."""
        return sorted((s for s in self.spans if s.name == name), key=lambda span: span.began)

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(of_process.resource.attributes)
            for scope in of_process.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        CollectedSpan(
                            name=span.name,
                            service=resource["service.name"],
                            process=resource["service.instance.id"],
                            trace=span.trace_id.hex(),
                            identity=span.span_id.hex(),
                            parent=span.parent_span_id.hex(),
                            began=span.start_time_unix_nano / 1e9,
                            ended=span.end_time_unix_nano / 1e9,
                            attributes=_attributes(span.attributes),
                        )
                    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens on a free port while the block runs."""
    collected = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            collected.take(self.rfile.read(int(self.headers["Content-Length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collected.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collected
        finally:
            server.shutdown()
            thread.join()
