"""What the terminal shows while it starts: what is loaded, where the page is, who may come."""

from __future__ import annotations

import contextlib
import io
import sys
from urllib.parse import quote

import segno

from fusion.capacity import people
from fusion.serving.hosts import THIS_MACHINE, is_everywhere
from fusion.serving.tls import is_made_here, machine_addresses
from fusion.settings import Settings
from fusion.status import PIPELINE, Phase, Service, ServiceStatus

FOR_OTHERS = "Only this machine can reach it: --host 0.0.0.0 opens it to your network."


def page_address(settings: Settings, host: str, port: int, *, with_token: bool = True) -> str:
    """The page's address for a browser that knows this machine as `host`.

    The token goes after `#`, which a browser keeps to itself.
    """
    scheme = "https" if settings.tls else "http"
    name = f"[{host}]" if ":" in host else host
    token = settings.token if with_token else ""
    secret = f"#token={quote(token, safe='')}" if token else ""
    return f"{scheme}://{name}:{port}/{secret}"


def ready_banner(settings: Settings, port: int, *, with_token: bool = True) -> str:
    """Some lines for the terminal, for when all is ready: where to go, and who may come.

    With TLS also a QR code for a phone. `port` is the page's; 0 when it is not served.
    """
    return "\n".join([*_where(settings, port, with_token), *_who(settings), *_wyoming(settings)])


def _where(settings: Settings, port: int, with_token: bool) -> list[str]:
    if not port:
        ports = f"{settings.transcription_port} (audio in) and {settings.speech_port} (speech out)"
        return [f"Ready: listening on ports {ports}."]
    everywhere = is_everywhere(settings.host)
    here = page_address(
        settings, "localhost" if everywhere else settings.host, port, with_token=with_token
    )
    lines = [f"Ready: open {here}"]
    if not settings.tls:
        hint = "A browser elsewhere gives the page a microphone only with --tls."
        return lines if settings.host in THIS_MACHINE else [*lines, hint]
    if settings.host in THIS_MACHINE:
        lines.append(FOR_OTHERS)
    others = machine_addresses() if everywhere else [settings.host]
    if others and others[0] not in THIS_MACHINE:
        address = page_address(settings, others[0], port, with_token=with_token)
        picture = io.StringIO()
        segno.make(address, error="l").terminal(picture, compact=True, border=2)
        lines += [f"On a phone in your network: {address}", picture.getvalue().rstrip("\n")]
    if is_made_here(settings):
        lines.append("The certificate was made here, so a browser warns once: accept it.")
    return lines


def _who(settings: Settings) -> list[str]:
    if settings.token or settings.token_file or settings.host in THIS_MACHINE:
        return []
    return [
        "It listens to everybody who can reach this machine, without a token: --token SECRET asks "
        "for one, --host 127.0.0.1 keeps it to yourself."
    ]


def _wyoming(settings: Settings) -> list[str]:
    if not settings.wyoming_port:
        return []
    line = (
        f"Wyoming: tcp://{settings.wyoming_host}:{settings.wyoming_port}, without authentication: "
        "whoever reaches it may use it, and no token is asked for."
    )
    if settings.wyoming_host in THIS_MACHINE:
        line += " Only this machine can; --wyoming_host 0.0.0.0 opens it to your network."
    return [line]


class StartupReport:
    """Says on stdout what is being loaded, and at last where to go. `update` is called often."""

    def __init__(self, settings: Settings, status: ServiceStatus, port: int) -> None:
        self._settings = settings
        self._status = status
        self._port = port
        self._told: set[Service] = set()
        self._done = False

    def update(self) -> None:
        """Say what is new."""
        if self._done:
            return
        for service in PIPELINE:
            if self._status.phase(service) == Phase.LOADING and service not in self._told:
                self._told.add(service)
                say(f"Loading {service.label} ...")
        served = not self._port or self._status.phase(Service.WEB) == Phase.READY
        if served and self._status.not_ready() is None:
            self._done = True
            # Where nobody looks at it, this is a log, which keeps no secrets.
            lines = ready_banner(self._settings, self._port, with_token=sys.stdout.isatty())
            say("\n".join([lines, *_capacity(self._settings, self._status.capacity)]))


def _capacity(settings: Settings, found: int | None) -> list[str]:
    if found is None:
        return []
    if found >= settings.max_clients:
        most = people(settings.max_clients)
        return [f"Up to {most} at once (--max_clients); this machine would serve {found} well."]
    return [
        f"Up to {people(found)} at once, as this machine was measured to serve well; "
        "--max_clients lets in more."
    ]


def say(text: str) -> None:
    """Print for a person. A terminal that is gone is no reason to end."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
