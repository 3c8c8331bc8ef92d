"""Chromium with a recording for a microphone, in front of the real page server."""

from __future__ import annotations

import dataclasses
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, sync_playwright

from fusion.serving.web import PAGE, WebServer
from fusion.settings import Settings
from fusion.status import Phase, Service, ServiceStatus
from tests.browser.chromium import find_chromium
from tests.browser.fake_server import FakeServer
from tests.nginx import Nginx

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=user-gesture-required",
]

DESKTOP = {"width": 1100, "height": 720}

Launch = Callable[..., Browser]
Open = Callable[..., Page]


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """Ends with the browser tests: its event loop runs in this thread, where others need theirs."""
    with sync_playwright() as running:
        yield running


@pytest.fixture
def launch(playwright: Playwright) -> Iterator[Launch]:
    """Start Chromium. `sound` is what its microphone hears once; None: there is no microphone."""
    with ExitStack() as stack:

        def start(
            sound: Path | None = None, *, allowed: bool = True, flags: Sequence[str] = ()
        ) -> Browser:
            given = [*QUIET, *flags]
            if sound is not None:
                given += [
                    "--use-fake-device-for-media-stream",
                    f"--use-file-for-fake-audio-capture={sound}%noloop",
                    "--use-fake-ui-for-media-stream" + ("" if allowed else "=deny"),
                ]
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=given)
            stack.callback(browser.close)
            return browser

        yield start


@pytest.fixture
def open_page(launch: Launch) -> Iterator[Open]:
    """Open a page in a browser of its own; an error in the page's script fails the test."""
    faults: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            faults.append(message.text)

    def start(
        address: str,
        sound: Path | None = None,
        *,
        allowed: bool = True,
        flags: Sequence[str] = (),
        **context: Any,
    ) -> Page:
        browser = launch(sound, allowed=allowed, flags=flags)
        page = browser.new_context(viewport=DESKTOP, **context).new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", note)
        page.set_default_timeout(15000)
        page.goto(address)
        return page

    yield start
    assert faults == []


@pytest.fixture(scope="session")
def axe() -> Path:
    """The accessibility checker, at the version that the lock file names."""
    script = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
    assert script.is_file(), "axe-core is not installed: run `make test`, which gets it"
    return script


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def status() -> ServiceStatus:
    """A pipeline that is ready."""
    status = ServiceStatus()
    for service in Service:
        status.start(service)
        status.report(service, Phase.READY)
    return status


@pytest.fixture
def web(fake: FakeServer, status: ServiceStatus, tmp_path: Path) -> Iterator[WebServer]:
    """The real page server in front of the scripted ports."""
    settings = dataclasses.replace(
        Settings(),
        host="127.0.0.1",
        web_port=0,
        transcription_port=fake.transcription_port,
        speech_port=fake.speech_port,
        cache=str(tmp_path),
    )
    server = WebServer(settings, status)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def nginx(fake: FakeServer, tmp_path: Path) -> Iterator[Nginx]:
    server = Nginx(
        tmp_path / "nginx",
        PAGE,
        transcription_port=fake.transcription_port,
        speech_port=fake.speech_port,
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def address(web: WebServer) -> str:
    return f"http://localhost:{web.port}/"


def speech_like(path: Path, pattern: list[tuple[float, bool]], rate: int = 48000) -> Path:
    """A WAV of (seconds, loud?) stretches. The loud ones swell like syllables, lest the browser's
    noise suppression takes them for noise."""
    stretches = []
    for seconds, loud in pattern:
        times = np.arange(int(seconds * rate)) / rate
        chord = sum(np.sin(2 * np.pi * pitch * times) for pitch in (220, 470, 910))
        tremolo = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * times)
        stretches.append(0.25 * chord * tremolo * loud)
    samples = (np.concatenate(stretches) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path
