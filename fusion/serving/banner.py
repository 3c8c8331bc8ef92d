"""Where people find the page: the address as text, and as a QR code for a phone's camera."""

from __future__ import annotations

import io
from urllib.parse import quote

import segno

from fusion.serving.hosts import THIS_MACHINE, is_everywhere
from fusion.serving.tls import is_made_here, machine_addresses
from fusion.settings import Settings


def page_address(settings: Settings, host: str, port: int) -> str:
    """The page's address for a browser that knows this machine as `host`.

    The token goes after `#`, which a browser keeps to itself.
    """
    scheme = "https" if settings.tls else "http"
    name = f"[{host}]" if ":" in host else host
    secret = f"#token={quote(settings.token, safe='')}" if settings.token else ""
    return f"{scheme}://{name}:{port}/{secret}"


def startup_banner(settings: Settings, port: int) -> str:
    """Some lines for the terminal; with TLS also a QR code for a phone."""
    everywhere = is_everywhere(settings.host)
    here = page_address(settings, "localhost" if everywhere else settings.host, port)
    lines = [f"The page: {here}"]
    if not settings.tls:
        return "\n".join([*lines, "To talk from a phone on your network, start with --tls."])
    others = machine_addresses() if everywhere else [settings.host]
    if others and others[0] not in THIS_MACHINE:
        address = page_address(settings, others[0], port)
        picture = io.StringIO()
        segno.make(address, error="l").terminal(picture, compact=True, border=2)
        lines += [f"On a phone in your network: {address}", picture.getvalue().rstrip("\n")]
    if is_made_here(settings):
        lines.append("The certificate was made here, so a browser warns once: accept it.")
    return "\n".join(lines)
