"""Debian's Chromium with a recording for a microphone, in front of the real page server."""

from __future__ import annotations

import dataclasses
import shutil
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from fusion.board import Board, Phase, Service
from fusion.settings import Settings
from fusion.web import WebServer
from tests.browser.fake_server import FakeServer

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
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

Launch = Callable[..., Browser]
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture
def launch(playwright: Playwright) -> Iterator[Launch]:
    """Start Chromium. `sound` is what its microphone hears once; None: there is no microphone."""
    with ExitStack() as stack:

        def start(sound: Path | None = None, *, allowed: bool = True) -> Browser:
            flags = list(QUIET)
            if sound is not None:
                flags += [
                    "--use-fake-device-for-media-stream",
                    f"--use-file-for-fake-audio-capture={sound}%noloop",
                ]
                flags += ["--use-fake-ui-for-media-stream" + ("" if allowed else "=deny")]
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
            stack.callback(browser.close)
            return browser

        yield start


@pytest.fixture
def open_page(launch: Launch) -> Open:
    """Open a page in a browser of its own; an error in the page's script fails the test."""

    def start(
        address: str, sound: Path | None = None, *, allowed: bool = True, **context: object
    ) -> Page:
        place: BrowserContext = launch(sound, allowed=allowed).new_context(**context)
        page = place.new_page()
        page.goto(address)
        return page

    return start


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def board() -> Board:
    """A pipeline that is ready."""
    board = Board()
    for service in Service:
        board.start(service)
        board.report(service, Phase.READY)
    return board


@pytest.fixture
def web(fake: FakeServer, board: Board, tmp_path: Path) -> Iterator[WebServer]:
    """The real page server in front of the scripted ports."""
    settings = dataclasses.replace(
        Settings(),
        host="127.0.0.1",
        web_port=0,
        transcription_port=fake.transcription_port,
        speech_port=fake.speech_port,
        cache=str(tmp_path),
    )
    server = WebServer(settings, board)
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
