"""What can be known before anything is loaded: a wrong name, address, folder or port is refused."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from fusion.errors import ConfigurationError
from fusion.models import lookup
from fusion.models.cache import is_whole
from fusion.models.llms import LLMS
from fusion.models.sources import LLM, VOICE, WHISPER
from fusion.selection import Choice, model_name
from fusion.serving.ports import PURPOSES, open_listeners
from fusion.settings import AUTO, Settings

KINDS = {"faster_whisper": WHISPER, "llama_cpp": LLM, "piper": VOICE}
"""What the libraries load whose models are in the model table."""


def check(settings: Settings, choice: Choice) -> None:
    """Raise ConfigurationError, with the sentence, for the first thing that cannot work."""
    check_addresses(settings)
    check_models(settings, choice)
    check_ports(settings)


def check_addresses(settings: Settings) -> None:
    """The forms of what others are reached at, or let in by."""
    if settings.openai_url and not _is_address(settings.openai_url, ("http", "https")):
        raise ConfigurationError(
            f"--openai_url {settings.openai_url} is no address: write it as http://host:8000/v1."
        )
    for origin in _listed(settings.allowed_origins):
        path = urlsplit(origin).path
        if origin not in ("*", "null") and (path or not _is_address(origin)):
            raise ConfigurationError(
                f"--allowed_origins {origin} is no origin: write it as https://host, without a "
                "path, or * for any."
            )
    for network in _listed(settings.trusted_proxies):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ConfigurationError(
                f"--trusted_proxies {network} is no address and no network: write it as 10.0.0.1 "
                "or 10.0.0.0/8."
            ) from None


def check_models(settings: Settings, choice: Choice) -> None:
    """The models' names, and that what has to be fetched can be kept."""
    picks = (choice.transcription, choice.language_model, choice.voice)
    asked = [(model_name(pick, settings), KINDS.get(pick.library)) for pick in picks]
    # The automatic choice begins with the smallest.
    named = [(LLMS[0].name if name == AUTO else name, kind) for name, kind in asked if kind]
    wanted = [lookup.find(name, kind) for name, kind in named]
    cache = settings.cache_folder
    missing = [model for model in wanted if model and not is_whole(model, cache)]
    if missing and not _can_be_written(cache):
        raise ConfigurationError(
            f"The model {missing[0].name} cannot be kept in {cache}, which cannot be written: name "
            "another folder with --cache."
        )


def check_ports(settings: Settings) -> None:
    """That the ports are three, and free."""
    numbers = {f"{purpose}_port": getattr(settings, f"{purpose}_port") for purpose in PURPOSES}
    numbers = {name: number for name, number in numbers.items() if number}
    for name, number in numbers.items():
        others = [other for other in numbers if other != name and numbers[other] == number]
        if others:
            raise ConfigurationError(
                f"--{name} and --{others[0]} are both {number}: give each a port of its own."
            )
    for name in numbers:
        for listener in open_listeners(settings, name.removesuffix("_port")):
            listener.close()


def _listed(text: str) -> Iterator[str]:
    return filter(None, map(str.strip, text.split(",")))


def _is_address(text: str, schemes: tuple[str, ...] = ()) -> bool:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  raises for one that is no number
    except ValueError:
        return False
    return bool(parts.hostname and parts.scheme and parts.scheme in (schemes or (parts.scheme,)))


def _can_be_written(folder: Path) -> bool:
    """Whether a folder, or what has to be made for it, can be written."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
