"""What a person meets who uses the page every day."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open, speech_like
from tests.browser.fake_server import CLAUSES, FakeServer
from tests.browser.look import (
    answer,
    choose,
    notice,
    said,
    state,
    type_turn,
    wait_for_silence,
    wait_for_sound,
    wait_until_played,
)

pytestmark = pytest.mark.browser


def test_after_settings_the_space_bar_talks(address: str, tmp_path: Path, open_page: Open) -> None:
    page = open_page(address, speech_like(tmp_path / "quiet.wav", [(30, False)]))
    choose(page, "Hold the button")
    page.keyboard.down(" ")
    expect(page.locator("#talk-hint")).to_contain_text("let go when done")
    page.keyboard.up(" ")
    expect(page.get_by_role("dialog", name="Settings")).to_be_hidden()


def test_it_says_that_it_speaks_and_shows_all_of_an_answer_that_was_stopped(
    address: str, open_page: Open
) -> None:
    page = open_page(address)
    page.get_by_role("button", name="What can you do?").click()
    wait_for_sound(page)
    expect(state(page)).to_have_text("Speaking")
    page.keyboard.press("Escape")
    expect(state(page)).to_have_text("Connected")
    expect(answer(page)).not_to_contain_text("Ask me more")
    page.get_by_role("button", name="Show all").click()
    expect(answer(page)).to_contain_text(" ".join(CLAUSES))
    page.get_by_role("button", name="Show what was played").click()
    expect(answer(page)).not_to_contain_text("Ask me more")


def test_an_answer_can_be_played_again(address: str, open_page: Open) -> None:
    page = open_page(address)
    type_turn(page, "Hello.")
    wait_for_sound(page)
    wait_until_played(page)
    page.get_by_role("button", name="Play again").click()
    wait_for_sound(page)
    expect(state(page)).to_have_text("Speaking")
    page.keyboard.press("Escape")
    wait_for_silence(page)
    expect(answer(page)).to_contain_text(" ".join(CLAUSES))
    expect(answer(page)).not_to_contain_text("—")


def test_the_model_s_name_and_the_one_on_its_way_are_shown(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(address)
    type_turn(page, "Hello.")
    expect(said(page)).to_be_visible()
    fake.tell(event="language_model", name="small", coming="large", detail="40 %")
    expect(page.locator("#mind")).to_have_text("small · on its way: large (40 %)")
    fake.tell(event="language_model", name="large", coming="", detail="")
    expect(page.locator("#mind")).to_have_text("large")
    fake.tell(event="held", turn=1, reason="backchannel", text="mm-hm")
    expect(page.locator("#talk-hint")).to_contain_text("mm-hm")


def test_the_browser_s_language_is_the_first_choice_and_without_a_voice_it_says_so(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(address, locale="uk-UA")
    type_turn(page, "Привіт.")
    expect(notice(page)).to_contain_text("no voice for Ukrainian")
    assert fake.hellos[-1]["language"] == "uk"


def test_a_server_that_knows_english_alone_is_met_in_english(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    fake.refusal = "The language 'de' is not known to this server's model; it knows en."
    page = open_page(address, locale="de-DE")
    page.get_by_label("Tippen statt sprechen").fill("Hallo.")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    assert [hello["language"] for hello in fake.hellos[:2]] == ["de", "en"]


def test_every_icon_has_a_tooltip_and_the_page_can_be_installed(
    address: str, open_page: Open
) -> None:
    page = open_page(address)
    assert page.locator("button.icon:not([title])").count() == 0
    sizes = page.evaluate(
        """async () => {
        const { href } = document.querySelector("[rel=manifest]");
        const { icons } = await (await fetch(href)).json();
        const apple = document.querySelector("[rel=apple-touch-icon]").getAttribute("href");
        return Promise.all([...icons, { src: apple, sizes: "180x180" }].map(async (icon) => {
          const picture = new Image();
          picture.src = icon.src;
          await picture.decode();
          const { naturalWidth: width, naturalHeight: height } = picture;
          return [icon.sizes, `${width}x${height}`, icon.purpose ?? ""];
        })); }"""
    )
    pictures = [(named, real) for named, real, _ in sizes if named != "any"]
    assert [named for named, real in pictures if named != real] == []
    assert {"192x192", "512x512", "180x180"} == {named for named, _ in pictures}
    assert "maskable" in {purpose for *_, purpose in sizes}


def test_the_introduction_is_read_from_its_beginning(address: str, open_page: Open) -> None:
    page = open_page(address)
    page.set_viewport_size({"width": 900, "height": 460})
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_role("button", name="Preview")).to_be_enabled()
    page.get_by_role("button", name="Done").click()
    assert page.evaluate("() => document.getElementById('main').scrollTop") == 0
    expect(page.locator("#latest")).to_be_hidden()
