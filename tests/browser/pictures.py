"""Takes the pictures of the page in docs/images: python -m tests.browser.pictures

The conversation is a real one, with the real program and a recorded question. Look at each picture
before it is committed.
"""

from __future__ import annotations

import dataclasses
import tempfile
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from fusion.serving.web import WebServer
from fusion.settings import Settings
from fusion.status import Phase, Service, ServiceStatus
from tests.browser.chromium import find_chromium
from tests.browser.conftest import DESKTOP, QUIET
from tests.browser.look import answer, notice, state, wait_until
from tests.running import RunningServer

ROOT = Path(__file__).parent.parent.parent
IMAGES = ROOT / "docs" / "images"
QUESTION = ROOT / "tests" / "audio" / "meaning_of_life.wav"
PHONE = {
    "viewport": {"width": 390, "height": 780},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, RunningServer() as server:
        address = f"http://localhost:{server.web_port}/"
        sound = f"--use-file-for-fake-audio-capture={question(Path(folder))}%noloop"
        for name, options in {
            "light": {"color_scheme": "light"},
            "dark": {"color_scheme": "dark"},
            "phone": {"color_scheme": "light", **PHONE},
        }.items():
            with browser([*MICROPHONE, sound]) as chromium:
                page = opened(chromium, address, options)
                page.get_by_role("button", name="Talk").click()
                expect(answer(page).locator(".clause").nth(1)).to_be_visible(timeout=60000)
                taken(page, name)
        with browser([*MICROPHONE[:1], f"{MICROPHONE[1]}=deny"]) as chromium:
            page = opened(chromium, address, {"color_scheme": "light"})
            page.get_by_role("button", name="Talk").click()
            expect(notice(page)).to_be_visible()
            taken(page, "error")
            page = opened(chromium, address, {"color_scheme": "dark"})
            page.get_by_role("button", name="Settings").click()
            expect(page.get_by_role("button", name="Preview")).to_be_enabled(timeout=60000)
            taken(page, "settings")
            page = opened(chromium, address, {"color_scheme": "light", "locale": "es", **PHONE})
            asked(page, ["¿Cuál es la capital de España?", "Cuéntame algo del mar"])
            page.get_by_role("button", name="Conversaciones").click()
            taken(page, "conversations")
    with loading() as address, browser(MICROPHONE) as chromium:
        page = opened(chromium, address, {"color_scheme": "dark", **PHONE})
        expect(state(page)).to_contain_text("loading the voice")
        page.get_by_role("button", name="Talk").click()
        wait_until(page, "app.talk.listening")
        taken(page, "loading")


def asked(page: Page, questions: list[str]) -> None:
    """Ask each in a conversation of its own, in the page's Spanish."""
    for text in questions:
        page.locator("#typed").fill(text)
        page.keyboard.press("Enter")
        expect(answer(page)).to_be_visible(timeout=60000)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Conversación nueva").click()


def question(folder: Path) -> Path:
    """The recording after two seconds, in which the browser's noise suppression settles."""
    path = folder / "question.wav"
    with wave.open(str(QUESTION)) as source, wave.open(str(path), "wb") as out:
        out.setparams(source.getparams())
        out.writeframes(bytes(2 * 2 * source.getframerate()))
        out.writeframes(source.readframes(source.getnframes()))
    return path


@contextmanager
def browser(flags: list[str]) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=find_chromium(), args=[*QUIET, *flags]
        )
        yield chromium
        chromium.close()


@contextmanager
def loading() -> Iterator[str]:
    """The page of a server whose voice is not ready."""
    status = ServiceStatus()
    for service in Service:
        status.start(service)
        status.report(service, Phase.LOADING if service is Service.VOICE else Phase.READY)
    server = WebServer(dataclasses.replace(Settings(), host="127.0.0.1", web_port=0), status)
    server.start()
    yield f"http://localhost:{server.port}/"
    server.stop()


def opened(chromium: Browser, address: str, options: dict[str, Any]) -> Page:
    page = chromium.new_context(**{"viewport": DESKTOP, **options}).new_page()
    page.goto(address)
    return page


def taken(page: Page, name: str) -> None:
    page.wait_for_timeout(500)  # until words and dialogs have faded in
    page.screenshot(path=IMAGES / f"page-{name}.png")


if __name__ == "__main__":
    main()
