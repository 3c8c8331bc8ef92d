"""Makes the page's PNG icons from web/icon.svg: python -m tests.browser.icons

Phones take no SVG for a home screen. The maskable one fills its square, as they cut it to a shape
of their own.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import find_chromium

WEB = Path(__file__).parent.parent.parent / "web"
SIZES = (180, 192, 512)
ROUNDED = 'rx="9"'


def main() -> None:
    svg = (WEB / "icon.svg").read_text()
    whole = svg.replace(ROUNDED, "")
    with sync_playwright() as playwright:
        program, flags = find_chromium(), ["--no-sandbox"]
        chromium = playwright.chromium.launch(executable_path=program, args=flags)
        page = chromium.new_page()
        for size in SIZES:
            # An iPhone rounds the corners of its icon itself, and shows transparency as black.
            drawn(page, whole if size == 180 else svg, size, WEB / f"icon-{size}.png")
        drawn(page, whole, 512, WEB / "icon-maskable-512.png", margin=0.1)
        chromium.close()


def drawn(page: Page, svg: str, size: int, path: Path, margin: float = 0.0) -> None:
    """Save the icon as a PNG of so many pixels; `margin` is a part of its side, in its colour."""
    inner = round(size * (1 - 2 * margin))
    sized = svg.replace("<svg ", f'<svg width="{inner}" height="{inner}" ')
    page.set_viewport_size({"width": size, "height": size})
    ground = "#4a55c9" if margin else "transparent"
    page.set_content(
        f'<body style="margin:0;background:{ground}">'
        f'<div style="padding:{(size - inner) // 2}px;line-height:0">{sized}</div>'
    )
    page.screenshot(path=path, omit_background=True)


if __name__ == "__main__":
    main()
