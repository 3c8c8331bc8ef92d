"""Process 4: the web page with both sockets, `/v1/realtime`, and Wyoming where it is asked for.

Strangers reach it, so it shares no process with what watches over the others. To the pipeline, each
client of it is one of ports 6006 and 8888.
"""

from __future__ import annotations

from fusion.links import Links
from fusion.serving import web
from fusion.settings import Settings
from realtime.endpoint import RealtimeEndpoint


def run(settings: Settings, links: Links) -> None:
    """The body of the process, until asked to stop."""
    beside: web.Beside | None = None
    if settings.wyoming_port:
        # An optional package, imported only where it is used.
        from wyoming_server.port import WyomingPort

        beside = WyomingPort(settings, links).serving
    web.run(settings, links, RealtimeEndpoint(settings, links).routes, beside)
