"""What can be known before anything is loaded: a wrong name, address, folder or port is refused."""

from __future__ import annotations

import ipaddress
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from fusion.errors import ConfigurationError
from fusion.models import lookup
from fusion.models.cache import is_whole
from fusion.models.llms import LLMS
from fusion.models.sources import LLM, VOICE, WHISPER
from fusion.selection import Choice, is_installed, model_name
from fusion.serving.ports import PURPOSES, open_listeners
from fusion.serving.tokens import Tokens
from fusion.setting_field import AUTO
from fusion.settings import Settings

KINDS = {"faster_whisper": WHISPER, "llama_cpp": LLM, "piper": VOICE}
"""What the libraries load whose models are in the model table."""

LLAMA_CPP_SLOTS = 256
"""Conversations that llama.cpp can hold at once (LLAMA_MAX_SEQ in its llama-cparams.h)."""


def check(settings: Settings, choice: Choice) -> None:
    """Raise ConfigurationError, with the sentence, for the first thing that cannot work."""
    check_addresses(settings, choice)
    check_clients(settings, choice)
    Tokens(settings)
    check_mcp_servers(settings)
    check_models(settings, choice)
    check_recording(settings)
    check_ports(settings)


def check_addresses(settings: Settings, choice: Choice) -> None:
    """The forms of what others are reached at, or let in by."""
    url = settings.openai_url
    if choice.language_model.library == "openai_api" and not url:
        raise ConfigurationError(
            "--llm_backend openai_api needs --openai_url, as http://host:8000/v1."
        )
    if url and not _is_address(url, ("http", "https")):
        raise ConfigurationError(
            f"--openai_url {url} is no address: write it as http://host:8000/v1."
        )
    if settings.openai_model and choice.language_model.library != "openai_api":
        raise ConfigurationError(
            f"--openai_model {settings.openai_model} is the model of a server, and there is none: "
            "start Ollama, LM Studio, llama.cpp or vLLM here, or name another by --openai_url."
        )
    if (settings.tls_certificate or settings.tls_key) and not settings.tls:
        raise ConfigurationError(
            "--tls_certificate and --tls_key do nothing without --tls: add it."
        )
    for origin in _listed(settings.allowed_origins):
        if origin not in ("*", "null") and not (_is_address(origin) and not urlsplit(origin).path):
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


def check_clients(settings: Settings, choice: Choice) -> None:
    """That the libraries can serve so many people."""
    if choice.language_model.library == "llama_cpp" and settings.max_clients > LLAMA_CPP_SLOTS:
        raise ConfigurationError(
            f"--max_clients {settings.max_clients} is more than llama.cpp can talk with, which is "
            f"{LLAMA_CPP_SLOTS}: lower it, or let a server do it with --openai_url."
        )


def check_models(settings: Settings, choice: Choice) -> None:
    """The models' names and paths, and that what has to be fetched can be kept."""
    picks = (choice.transcription, choice.language_model, choice.voice)
    asked = [(model_name(pick, settings), KINDS.get(pick.library)) for pick in picks]
    # The automatic choice begins with the smallest.
    named = [(LLMS[0].name if name == AUTO else name, kind) for name, kind in asked if kind]
    cache = settings.cache_folder
    missing = []
    for name, kind in named:
        model, path = lookup.find(name, kind), Path(name).expanduser()
        if model is None and path.exists():
            _check_path(path, kind)
        elif model is not None and not is_whole(model, cache):
            missing.append(model)
    if missing and not _can_be_written(cache):
        raise ConfigurationError(
            f"The model {missing[0].name} cannot be kept in {cache}, which cannot be written: name "
            "another folder with --cache."
        )


def _check_path(path: Path, kind: str) -> None:
    """That a path is what a model of its kind looks like, as far as can be seen at a glance."""
    if kind == LLM:
        try:
            with path.open("rb") as file:
                reason = "" if file.read(4) == b"GGUF" else "is no GGUF file"
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
    else:
        beside = path.with_name(f"{path.name}.json") if kind == VOICE else path / "model.bin"
        reason = "" if beside.is_file() else f"lacks {beside}"
    if reason:
        raise ConfigurationError(
            f"The {kind} model {path} {reason}: name another path, or one of "
            f"{lookup.known_names(kind)}."
        )


def check_recording(settings: Settings) -> None:
    """That the folder of the recordings can be written, where there is to be one."""
    if settings.record and not _can_be_written(Path(settings.record).expanduser()):
        raise ConfigurationError(
            f"Sessions cannot be recorded in {settings.record}, which cannot be written: name "
            "another folder with --record."
        )


def check_mcp_servers(settings: Settings) -> None:
    """That each is an address, or a command whose program is there."""
    for server in settings.mcp_server_list:
        if not is_installed("mcp"):
            raise ConfigurationError(
                "--mcp_servers needs the package mcp: pip install 'whisperfusion[mcp]', or "
                "pip install -r requirements-mcp.txt in a checkout."
            )
        if "://" in server:
            if not _is_address(server, ("http", "https")):
                raise ConfigurationError(
                    f"--mcp_servers {server} is no address: write it as https://host/mcp."
                )
            continue
        try:
            words = shlex.split(server)
        except ValueError as error:
            raise ConfigurationError(
                f"--mcp_servers {server} is no command line ({error})."
            ) from error
        if shutil.which(words[0]) is None:
            raise ConfigurationError(
                f"--mcp_servers {server}: there is no program {words[0]}; give an address "
                "(https://host/mcp) or the command that starts a server."
            )


def check_ports(settings: Settings) -> None:
    """That no two ports are the same, that they are free, and that what serves them is there."""
    if settings.wyoming_port and not settings.web_port:
        raise ConfigurationError(
            "--wyoming_port is served by the process of the web page: give --web_port a port too."
        )
    if settings.wyoming_port and not is_installed("wyoming"):
        raise ConfigurationError(
            "--wyoming_port needs the package wyoming: pip install 'whisperfusion[wyoming]', or "
            "pip install -r requirements-wyoming.txt in a checkout."
        )
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
