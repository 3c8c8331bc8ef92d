"""Conversations of all tabs, another device, samples of voices, and the microphone muted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import segno
from playwright.sync_api import Locator, Page, expect

from fusion.serving.web import PAGE
from tests.browser.conftest import Open, speech_like
from tests.browser.fake_server import CLAUSES, TONE, FakeServer
from tests.browser.look import (
    APP,
    answer,
    notice,
    said,
    sound_now,
    state,
    turns,
    type_turn,
    wait_for_silence,
    wait_for_sound,
    wait_until,
)

pytestmark = pytest.mark.browser


def open_history(page: Page) -> None:
    page.get_by_role("button", name="Conversations").click()
    expect(page.get_by_role("dialog", name="Conversations")).to_be_visible()


def found(page: Page) -> Locator:
    return page.locator("#found [data-act=open] span:first-child")


def ask(page: Page, text: str) -> None:
    type_turn(page, text)
    expect(answer(page, turns(page).count() - 1)).to_contain_text(CLAUSES[0], timeout=10000)
    page.keyboard.press("Escape")
    wait_for_silence(page)


def test_conversations_of_all_tabs_are_found_taken_up_and_deleted(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(address)
    open_history(page)
    expect(page.locator("#history-state")).to_have_text("Nothing is kept yet.")
    page.keyboard.press("Escape")
    ask(page, "How high is the Zugspitze?")
    page.get_by_role("button", name="New conversation").click()
    ask(page, "Where is the café?")

    other = page.context.new_page()
    other.goto(address)
    ask(other, "Sing a song.")
    open_history(other)
    expect(found(other)).to_have_text(
        ["Sing a song.", "Where is the café?", "How high is the Zugspitze?"]
    )
    expect(other.locator("[aria-current=true]")).to_contain_text("This one")
    other.get_by_label("Search").fill("CAFE")
    expect(found(other)).to_have_text(["Where is the café?"])
    other.get_by_label("Search").fill("1883 zugspitze")
    expect(found(other)).to_have_text(["How high is the Zugspitze?"])  # in its answer too
    other.get_by_label("Search").fill("nowhere")
    expect(other.locator("#history-state")).to_have_text("Nothing was found.")
    other.get_by_label("Search").fill("zug")
    hellos = len(fake.hellos)
    other.get_by_role("button", name="How high is the Zugspitze?").first.click()
    expect(said(other)).to_contain_text("Zugspitze")
    expect(turns(other)).to_have_count(1)
    while len(fake.hellos) == hellos:
        other.wait_for_timeout(50)
    assert fake.hellos[-1]["history"][0]["content"] == "How high is the Zugspitze?"
    ask(other, "And in feet?")

    open_history(page)
    expect(found(page)).to_have_count(3)
    expect(found(page).first).to_have_text("How high is the Zugspitze?")
    open_history(other)
    other.get_by_role("button", name="Delete: Sing a song.").click()
    expect(other.locator("#history-state")).to_have_text("Deleted: Sing a song.")
    expect(page.locator("#found li")).to_have_count(2)
    other.get_by_role("button", name="Undo").click()
    expect(page.locator("#found li")).to_have_count(3)


def test_what_is_on_the_screen_goes_when_it_is_deleted(address: str, open_page: Open) -> None:
    page = open_page(address)
    ask(page, "A secret.")
    open_history(page)
    page.get_by_role("button", name="Delete all").click()
    expect(page.locator("#found li")).to_have_count(1)
    page.get_by_role("button", name="Delete all: are you sure?").click()
    expect(page.locator("#history-state")).to_have_text("All conversations were deleted.")
    page.get_by_role("button", name="Close").click()
    expect(turns(page)).to_have_count(0)
    page.reload()
    expect(state(page)).to_have_text("Ready when you are")
    page.wait_for_timeout(1500)
    open_history(page)
    expect(found(page)).to_have_text([])
    expect(turns(page)).to_have_count(0)


def test_who_does_not_want_it_keeps_nothing(address: str, open_page: Open) -> None:
    page = open_page(address)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Keep conversations in this browser").uncheck()
    page.get_by_role("button", name="Done").click()
    ask(page, "Forget me.")
    page.wait_for_timeout(1500)
    open_history(page)
    expect(page.locator("#history-state")).to_contain_text("Conversations are not kept")
    page.get_by_role("button", name="Close").click()
    page.reload()
    expect(said(page)).to_contain_text("Forget me.")


def test_the_keyboard_alone_finds_and_deletes_a_conversation(address: str, open_page: Open) -> None:
    page = open_page(address)
    for text in ("First.", "Second."):
        ask(page, text)
        page.locator("#new").focus()
        page.keyboard.press("Enter")
    page.locator("#open-history").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("first")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Conversations")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Delete: First.")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#undelete")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(said(page)).to_contain_text("First.")
    expect(page.get_by_role("dialog", name="Conversations")).to_be_hidden()


def test_a_sample_of_each_voice_can_be_listened_to(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    speakers = [{"name": "ann", "language": "en"}, {"name": "thorsten", "language": "de"}]
    fake.voices = {"voices": ["ann", "thorsten"], "languages": ["en", "de"], "speakers": speakers}
    page = open_page(address)
    page.get_by_role("button", name="Settings").click()
    expect(page.locator("#voice option")).to_have_text(["The server’s own", "ann"])
    page.locator("#voice").select_option("ann")
    page.get_by_role("button", name="Preview").click()
    wait_for_sound(page)
    assert sound_now(page)["pitch"] == pytest.approx(2 * TONE, abs=60)
    wait_for_silence(page)
    page.locator("#language").select_option("German")
    page.locator("#voice").select_option("thorsten")
    page.get_by_role("button", name="Preview").click()
    wait_for_sound(page)
    asked = [(one["voice"], one["language"]) for one in fake.previews]
    assert asked == [("ann", "en"), ("thorsten", "de")]
    page.locator("#language").select_option("French")
    expect(page.get_by_role("button", name="Preview")).to_be_disabled()
    expect(page.locator("#unvoiced")).to_contain_text("no voice for French")
    wait_for_silence(page)
    assert page.evaluate(f"async () => {{ {APP} return app.conversation.entries.length; }}") == 0


def test_muted_means_that_nothing_is_sent(
    address: str, fake: FakeServer, tmp_path: Path, open_page: Open
) -> None:
    page = open_page(address, speech_like(tmp_path / "speech.wav", [(60, True)]))
    expect(page.locator("#mute")).to_be_hidden()
    page.get_by_role("button", name="Talk").click()
    wait_until(page, "app.talk.listening && app.connection.connected")
    mute = page.get_by_role("button", name="Mute the microphone")
    mute.click()
    expect(mute).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#talk-hint")).to_have_text("Muted: nothing is sent")
    page.wait_for_timeout(500)
    enabled = "() => app.talk.device.stream.getTracks().some((track) => track.enabled)"
    assert not page.evaluate(f"async () => {{ {APP} return ({enabled})(); }}")
    before = fake.clients[-1].samples
    page.wait_for_timeout(700)
    assert fake.clients[-1].samples == before
    assert fake.commands[-1]["command"] == "end_turn"
    mute.focus()
    page.keyboard.press(" ")
    expect(mute).to_have_attribute("aria-pressed", "false")
    page.wait_for_timeout(700)
    assert fake.clients[-1].samples > before
    mute.click()
    page.get_by_role("button", name="Talk").click()
    expect(mute).to_be_hidden()
    page.get_by_role("button", name="Talk").click()
    wait_until(page, "app.talk.listening")


def test_the_system_s_keys_reach_the_conversation(
    address: str, tmp_path: Path, open_page: Open
) -> None:
    page = open_page("about:blank", speech_like(tmp_path / "quiet.wav", [(60, False)]))
    page.add_init_script(
        """window.media = {};
        const real = navigator.mediaSession.setActionHandler.bind(navigator.mediaSession);
        navigator.mediaSession.setActionHandler = (action, handler) => {
          real(action, handler);
          window.media[action] = handler;
        };"""
    )
    page.goto(address)
    type_turn(page, "Tell me a story.")
    wait_for_sound(page)
    session = "() => [navigator.mediaSession.metadata.title, navigator.mediaSession.playbackState]"
    page.wait_for_function("() => navigator.mediaSession.playbackState === 'playing'")
    assert page.evaluate(session) == ["Tell me a story.", "playing"]
    page.evaluate("() => media.pause()")
    wait_for_silence(page)
    page.evaluate("() => media.play()")
    wait_until(page, "app.talk.listening")
    assert page.evaluate(session)[1] == "paused"
    page.evaluate("() => media.togglemicrophone()")
    wait_until(page, "app.talk.muted")
    page.evaluate("() => media.hangup()")
    wait_until(page, "app.talk.microphone === 'off'")
    assert page.evaluate(session)[1] == "none"


def test_another_device_gets_the_address_with_the_token(address: str, open_page: Open) -> None:
    page = open_page(
        address + "#token=a%20b%26c", permissions=["clipboard-read", "clipboard-write"]
    )
    page.route("**/addresses", lambda route: route.fulfill(json={"addresses": [OTHER]}))
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Open on another device").click()
    shown = OTHER + "#token=a+b%26c"
    expect(page.locator("#elsewhere-address")).to_have_text(shown)
    expect(page.locator("#elsewhere-text")).to_contain_text("whoever has it may talk here")
    squares = page.locator("#qr path").get_attribute("d") or ""
    assert squares.count("M") == sum(map(sum, qr(shown))), "what the picture shows is that address"
    page.get_by_role("button", name="Copy the address").click()
    expect(page.locator("#elsewhere-state")).to_have_text("Copied.")
    assert page.evaluate("() => navigator.clipboard.readText()") == shown
    page.goto(page.url.split("#")[0] + "#token=a+b%26c")
    wait_until(page, "app.settings.token === 'a b&c'")


def test_where_only_this_machine_is_served_it_says_what_to_do(
    address: str, open_page: Open
) -> None:
    page = open_page(address)
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Open on another device").click()
    expect(page.locator("#elsewhere-text")).to_contain_text("--host 0.0.0.0 --tls")
    expect(page.locator("#qr")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(notice(page)).to_be_hidden()


# As the page's library writes text: as bytes, said to be UTF-8.
BYTES: dict[str, Any] = {"mode": "byte", "boost_error": False, "eci": True, "encoding": "utf-8"}
OTHER = "https://192.168.1.5:8000/"


def qr(text: str) -> list[list[int]]:
    """The modules of the page's QR code, checked against another library's."""
    program = (
        "const { generate } = await import(process.argv[1]);"
        "const code = generate(process.argv[2]); const rows = [];"
        "for (let y = 0; y < code.size; y++) rows.push("
        "Array.from({ length: code.size }, (_, x) => Number(code.get(x, y))));"
        "console.log(JSON.stringify(rows));"
    )
    node = Path(sys.executable).parent / "node"
    library = (PAGE / "vendor" / "lean-qr.js").as_uri()
    command = [node, "--input-type=module", "--eval", program, library, text]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows: list[list[int]] = json.loads(made)
    version = (len(rows) - 17) // 4
    theirs = [
        [
            list(row)
            for row in segno.make(text, version=version, error=level, mask=mask, **BYTES).matrix
        ]
        for level in "LMQH"
        for mask in range(8)
        if fits(text, version, level)
    ]
    assert rows in theirs
    return rows


def fits(text: str, version: int, level: str) -> bool:
    try:
        segno.make(text, version=version, error=level, **BYTES)
    except segno.DataOverflowError:
        return False
    return True
