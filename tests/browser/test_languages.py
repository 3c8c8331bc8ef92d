"""The page in each of its languages."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from fusion.status import Phase, Service, ServiceStatus
from tests.browser.conftest import Open
from tests.browser.fake_server import FakeServer
from tests.browser.look import said, state, violations, wait_for_sound

pytestmark = pytest.mark.browser

PHONE = {"width": 320, "height": 568}
WORDS = {
    "de": ("Bereit, wenn du es bist", "Was kannst du?", "Einstellungen"),
    "es": ("Listo cuando quieras", "¿Qué sabes hacer?", "Ajustes"),
    "fr": ("Prêt quand vous l’êtes", "Que savez-vous faire ?", "Réglages"),
    "pt": ("Pronto quando você estiver", "O que você sabe fazer?", "Configurações"),
    "zh": ("随时可以开始", "你会做什么？", "设置"),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("code", WORDS)
def test_the_page_speaks_the_browser_s_language_and_axe_finds_no_fault(
    address: str, fake: FakeServer, axe: Path, code: str, scheme: str, open_page: Open
) -> None:
    fake.voices["languages"] = []
    ready, question, settings = WORDS[code]
    page = open_page(address, locale=code, color_scheme=scheme, bypass_csp=True)
    page.add_script_tag(path=axe)
    expect(state(page)).to_have_text(ready)
    assert page.evaluate("() => document.documentElement.lang") == code
    faults = {"introduction": violations(page)}
    page.get_by_role("button", name=question).click()
    expect(said(page)).to_contain_text(question)
    assert fake.hellos[-1]["language"] == code
    wait_for_sound(page)
    page.keyboard.press("Escape")
    faults["answered"] = violations(page)
    for opener, dialog in (
        ("open-settings", "settings"),
        ("open-keep", "keep"),
        ("open-history", "history"),
    ):
        page.locator(f"#{opener}").click()
        expect(page.locator(f"#{dialog}")).to_be_visible()
        faults[dialog] = violations(page)
        page.keyboard.press("Escape")
        expect(page.locator(f"#{dialog}")).to_be_hidden()
    assert faults == {part: [] for part in faults}
    expect(page.get_by_role("button", name=settings)).to_be_visible()


@pytest.mark.parametrize("code", WORDS)
def test_no_word_of_any_language_sticks_out_of_a_small_screen(
    address: str, code: str, open_page: Open
) -> None:
    page = open_page(address, locale=code)
    page.set_viewport_size(PHONE)
    page.locator("#starters button").first.click()
    wait_for_sound(page)
    for opener in (None, "open-settings", "open-keep", "open-history"):
        if opener:
            page.locator(f"#{opener}").click()
        wide = page.evaluate(
            """() => [...document.querySelectorAll("header *, footer *, dialog[open] *")]
              .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
              .map((one) => one.outerHTML.slice(0, 80))"""
        )
        assert wide == [], f"{opener} in {code}"
        assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
        page.keyboard.press("Escape")


def test_the_language_of_the_page_can_be_chosen_and_stays(
    address: str, status: ServiceStatus, open_page: Open
) -> None:
    page = open_page(address)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Language of this page").select_option("Español")
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name="Ajustes")).to_be_visible()
    expect(page.get_by_label("Escribir en vez de hablar")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Ajustes")).to_be_visible()
    status.report(Service.VOICE, Phase.LOADING)
    page.reload()
    expect(state(page)).to_have_text("Un momento: se carga la voz…")
    page.get_by_role("button", name="Ajustes").click()
    page.get_by_label("Idioma de esta página").select_option("El del navegador")
    page.get_by_role("button", name="Listo").click()
    expect(page.get_by_role("button", name="Settings")).to_be_visible()


def test_a_language_without_a_file_is_english(address: str, open_page: Open) -> None:
    page = open_page(address, locale="pl-PL")
    expect(state(page)).to_have_text("Ready when you are")
    assert page.evaluate("() => document.documentElement.lang") == "en"
