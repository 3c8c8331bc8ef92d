"""What the tests ask of an open page."""

from __future__ import annotations

import time
from typing import Any

from playwright.sync_api import Locator, Page

# The page's own objects: a module that is imported twice is the same one.
APP = "const { app } = await import(new URL('app.js', location).href);"


def state(page: Page) -> Locator:
    return page.locator("#state-text")


def turns(page: Page) -> Locator:
    return page.locator("#conversation .turn")


def said(page: Page, turn: int = 0) -> Locator:
    return turns(page).nth(turn).locator(".said")


def answer(page: Page, turn: int = 0) -> Locator:
    return turns(page).nth(turn).locator(".answer")


def notice(page: Page) -> Locator:
    return page.locator("#notice")


def type_turn(page: Page, text: str) -> None:
    page.get_by_label("Type instead of speaking").fill(text)
    page.keyboard.press("Enter")


def counters(page: Page) -> dict[str, int]:
    """What the worklet on the audio thread has really played, in samples."""
    found: dict[str, int] = page.evaluate(f"async () => {{ {APP} return app.player.counters; }}")
    return found


def sound_now(page: Page) -> dict[str, float]:
    """Strength (root mean square) and strongest pitch (Hz) of what the graph puts out now."""
    measured: dict[str, float] = page.evaluate(
        f"""async () => {{ {APP}
        const {{ analyser, context }} = app.player;
        const samples = new Float32Array(analyser.fftSize);
        analyser.getFloatTimeDomainData(samples);
        const bins = new Float32Array(analyser.frequencyBinCount);
        analyser.getFloatFrequencyData(bins);
        const loudest = bins.indexOf(Math.max(...bins));
        return {{
          strength: Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length),
          pitch: loudest * context.sampleRate / analyser.fftSize,
          state: context.state,
        }}; }}"""
    )
    return measured


def wait_until(page: Page, condition: str, timeout: float = 15.0) -> None:
    """Until an expression over the page's `app` is true. Asked from here: the page's
    Content-Security-Policy lets nobody in it evaluate text."""
    deadline = time.monotonic() + timeout
    while not page.evaluate(f"async () => {{ {APP} return Boolean({condition}); }}"):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {condition}")
        page.wait_for_timeout(20)


def wait_for_sound(page: Page, timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while page.evaluate("async () => { " + APP + " return !app.player; }") or (
        sound_now(page)["strength"] < 0.1
    ):
        assert time.monotonic() < deadline, f"no sound within {timeout:g} s"
        page.wait_for_timeout(20)


def wait_for_silence(page: Page) -> None:
    deadline = time.monotonic() + 5
    while sound_now(page)["strength"] > 0.001:
        assert time.monotonic() < deadline, "the sound goes on for 5 s"
        page.wait_for_timeout(20)


def wait_until_played(page: Page) -> None:
    """Until the reply was played to its end, and the worklet's counters say so."""
    wait_until(page, "app.player.audible === null && app.player.counters.waiting === 0")
    page.wait_for_timeout(250)


def choose(page: Page, label: str) -> None:
    """Open the settings and pick one of the radio buttons."""
    page.get_by_role("button", name="Settings").click()
    page.get_by_label(label).check()
    page.get_by_role("button", name="Done").click()


def entries(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate(
        f"async () => {{ {APP} return app.conversation.entries; }}"
    )
    return found


def violations(page: Page) -> list[str]:
    """What axe finds, whose script was added to the page."""
    page.wait_for_timeout(400)  # words fade in; a half-faded word has too little contrast
    found = page.evaluate(
        """async () => (await axe.run(document, {
          runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
        })).violations"""
    )
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]
