"""Where other devices find the page: this machine alone knows what it is called in its network."""

from __future__ import annotations

from fusion.serving.banner import page_address
from fusion.serving.hosts import THIS_MACHINE, is_everywhere
from fusion.serving.tls import machine_addresses
from fusion.settings import Settings

_LARGEST = 4


def addresses_elsewhere(settings: Settings, asked_at: str, port: int | None) -> list[str]:
    """The page's addresses for other devices, the likeliest first and without the token.

    Told to who asks at a name of this machine alone: whoever comes from elsewhere knows an address
    already, and need not learn more of them. None where nobody else can reach the page.
    """
    if asked_at not in THIS_MACHINE or settings.host in THIS_MACHINE:
        return []
    hosts = machine_addresses() if is_everywhere(settings.host) else [settings.host]
    web_port = port or (443 if settings.tls else 80)
    found = [page_address(settings, host, web_port, with_token=False) for host in hosts]
    return found[:_LARGEST]
