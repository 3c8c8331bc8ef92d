"""Makes the README's moving picture: python -m tests.browser.moving_picture

A real question to the real program on this machine, at its real pace: the page as it was, many
times a second. The page's own words are the captions; a line above them says what happens.
"""

from __future__ import annotations

import io
import itertools
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from tests.browser.look import wait_until
from tests.browser.pictures import IMAGES, MICROPHONE, browser, opened, question
from tests.running import RunningServer

SIZE = {"width": 560, "height": 440}
SETTLE = 2.5  # seconds that the picture stands still at its end
LONGEST = 14.0
INTERVAL = 0.12  # seconds


def main() -> None:
    flags = ("--llm", sys.argv[1]) if len(sys.argv) > 1 else ()
    with tempfile.TemporaryDirectory() as folder, RunningServer(*flags) as server:
        address = f"http://localhost:{server.web_port}/"
        sound = f"--use-file-for-fake-audio-capture={question(Path(folder))}%noloop"
        with browser([*MICROPHONE, sound]) as chromium:
            options = {"color_scheme": "light", "viewport": SIZE}
            page = opened(chromium, address, options)
            wait_until(page, "app.connection.state.name === 'idle'", 60)
            page.get_by_role("button", name="Talk").click()
            write(frames(page), IMAGES / "talking.webp")


def frames(page: Page) -> list[tuple[float, Image.Image]]:
    """Pictures with the second at which each was taken, from the first word to the last sound."""
    wait_until(page, "app.conversation.entries.length > 0", 60)
    taken: list[tuple[float, Image.Image]] = []
    began = time.monotonic()
    over = False
    while not over and time.monotonic() - began < LONGEST:
        at = time.monotonic() - began
        picture = page.screenshot(type="png", scale="css")
        taken.append((at, Image.open(io.BytesIO(picture)).convert("RGB")))
        page.wait_for_timeout(max(0.0, 1000 * (at + INTERVAL - (time.monotonic() - began))))
        over = page.locator(".below .link").count() > 0 and page.locator("#stop").is_hidden()
    return taken


def write(taken: list[tuple[float, Image.Image]], path: Path) -> None:
    starts = [at for at, _ in taken]
    lengths = [round(1000 * (b - a)) for a, b in itertools.pairwise(starts)]
    first, *rest = [picture for _, picture in taken]
    durations = [*lengths, round(1000 * SETTLE)]
    first.save(
        path, save_all=True, append_images=rest, duration=durations, loop=0, quality=45, method=4
    )
    print(f"{path.name}: {len(taken)} pictures, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
