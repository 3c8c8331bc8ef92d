"""Settings, keeping the conversation, and use without a mouse or without eyes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from fusion.status import Phase, Service, ServiceStatus
from tests.browser.conftest import Open, speech_like
from tests.browser.fake_server import CLAUSES, FakeServer
from tests.browser.look import (
    APP,
    answer,
    choose,
    notice,
    said,
    state,
    type_turn,
    violations,
    wait_for_silence,
    wait_for_sound,
    wait_until_played,
)

pytestmark = pytest.mark.browser

REPLY = " ".join(CLAUSES)
PHONE = {"width": 390, "height": 844}


def test_settings_reach_the_server_and_are_kept(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    speakers = [{"name": "ann", "language": "en"}, {"name": "thorsten", "language": "de"}]
    fake.voices = {"voices": ["ann", "thorsten"], "languages": ["en", "de"], "speakers": speakers}
    page = open_page(address)
    type_turn(page, "Hello.")
    wait_for_sound(page)
    page.get_by_role("button", name="Settings").click()
    expect(page.locator("#voice option")).to_have_text(["The server’s own", "ann"])
    page.locator("#language").select_option("German")
    expect(page.locator("#voice option")).to_have_text(["The server’s own", "thorsten"])
    page.locator("#voice").select_option("thorsten")
    page.get_by_label("What it is told").fill("Be brief.")
    page.get_by_label("Volume").fill("0.5")
    page.get_by_role("button", name="Done").click()
    page.reload()
    type_turn(page, "Hello again.")
    expect(said(page, 1)).to_be_visible()
    hello = fake.hellos[-1]
    assert (hello["language"], hello["multilingual"]) == ("de", True)
    assert (hello["voice"], hello["system_prompt"]) == ("thorsten", "Be brief.")
    wait_for_sound(page)
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("Volume")).to_have_value("0.5")
    expect(page.locator("#language")).to_have_value("de")


def test_settings_hold_before_anything_else_can_be_pressed(address: str, open_page: Open) -> None:
    page = open_page(address)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Hold the button").check()
    assert page.evaluate(
        f"""async () => {{ {APP}
        document.querySelector("#settings button[type=submit]").click();
        return app.settings.hold; }}"""
    )


def test_a_change_takes_effect_at_once_and_keeps_the_conversation(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(address)
    type_turn(page, "First.")
    expect(answer(page)).to_contain_text(REPLY, timeout=10000)
    wait_until_played(page)
    fake.offers = {"languages": ["de", "en"]}
    choose(page, "Transcribe only")
    expect(state(page)).to_have_text("Connected")
    expect(page.locator("#language option")).to_have_text(["Detect", "English", "German"])
    type_turn(page, "Second.")
    expect(said(page, 1)).to_contain_text("Second.")
    page.wait_for_timeout(300)
    expect(answer(page, 1)).to_have_count(0)
    expect(page.locator(".thinking")).to_have_count(0)
    assert fake.hellos[-1]["reply"] is False
    assert len(fake.hellos[-1]["history"]) == 2


def test_the_volume_is_heard_in_the_graph(address: str, open_page: Open) -> None:
    page = open_page(address)
    type_turn(page, "First.")
    wait_for_sound(page)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Volume").fill("0")
    page.wait_for_timeout(300)
    module = "(await import('./app.js')).app"
    assert page.evaluate(f"async () => {module}.player.gain.gain.value") < 0.01


def test_the_conversation_can_be_copied_and_saved(
    address: str, tmp_path: Path, open_page: Open
) -> None:
    page = open_page(address, permissions=["clipboard-read", "clipboard-write"])
    keep = page.get_by_role("button", name="Keep the conversation")
    keep.click()
    expect(page.locator("#kept")).to_have_text("Nothing has been said yet.")
    page.get_by_role("button", name="Close").click()
    type_turn(page, "First.")
    expect(answer(page)).to_contain_text(REPLY, timeout=10000)
    wait_until_played(page)
    type_turn(page, "Second.")
    wait_for_sound(page)
    page.keyboard.press("Escape")
    expect(answer(page, 1)).to_contain_text("—")

    keep.click()
    page.get_by_role("button", name="Copy as text").click()
    expect(page.locator("#kept")).to_have_text("Copied.")
    copied = page.evaluate("() => navigator.clipboard.readText()")
    time = r"\[\d\d:\d\d:\d\d\]"
    expected = (
        rf"{time} You: First.\n{time} WhisperFusion: {re.escape(REPLY)}\n"
        rf"{time} You: Second.\n{time} WhisperFusion: {re.escape(CLAUSES[0])} —\n"
    )
    assert re.fullmatch(expected, copied)
    assert saved(page, "Save as text", tmp_path) == copied

    srt = saved(page, "Save as SRT", tmp_path)
    assert srt.startswith("1\n00:00:00,000 --> 00:00:00,800\nYou: First.\n\n2\n")
    starts = [seconds(stamp) for stamp in re.findall(r"^(\S+) --> .*\nWhisperFusion", srt, re.M)]
    assert len(starts) == len(CLAUSES) + 1
    # Each clause of the scripted server lasts a second: its time is when it was played.
    assert starts[1] - starts[0] == pytest.approx(1, abs=0.25)
    assert starts[2] - starts[1] == pytest.approx(1, abs=0.25)
    vtt = saved(page, "Save as WebVTT", tmp_path)
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> ")
    assert "<v WhisperFusion>so it is &lt;b&gt;old&lt;/b&gt;." in vtt

    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator("#conversation .turn")).to_have_count(0)
    expect(page.locator("#introduction")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(said(page)).to_contain_text("First.")
    expect(said(page, 1)).to_contain_text("Second.")


def saved(page: Page, button: str, folder: Path) -> str:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path.read_text(encoding="utf-8")


def seconds(stamp: str) -> float:
    hours, minutes, rest = stamp.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def test_everything_can_be_done_by_keyboard(
    address: str, fake: FakeServer, tmp_path: Path, open_page: Open
) -> None:
    sound = speech_like(tmp_path / "speech.wav", [(0.8, False), (1.6, True), (60, False)])
    page = open_page(address, sound)
    expect(state(page)).to_have_text("Ready when you are")
    order = []
    for _ in range(10):
        page.keyboard.press("Tab")
        order.append(
            page.evaluate(
                "() => document.activeElement.id || document.activeElement.ariaLabel || ''"
            )
        )
    assert order[:6] == ["open-history", "open-keep", "open-settings", "main", "", ""]
    assert order[6:] == ["", "talk", "typed", "Send"]

    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(answer(page)).to_contain_text(CLAUSES[0], timeout=10000)
    wait_for_sound(page)
    page.keyboard.press("Escape")
    wait_for_silence(page)
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Talk")).to_have_attribute("aria-pressed", "false")

    page.keyboard.press("Tab")
    page.keyboard.type("By keyboard.")
    page.keyboard.press("Enter")
    expect(said(page, 1)).to_contain_text("By keyboard.")
    page.keyboard.press("Escape")

    hellos = len(fake.hellos)
    page.locator("#open-settings").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Settings")).to_be_hidden()
    assert page.evaluate("() => document.activeElement.id") == "talk"
    while len(fake.hellos) == hellos:  # the page says "Connected" until it begins anew
        page.wait_for_timeout(50)
    assert fake.hellos[-1]["reply"] is False, "the arrow key chose to transcribe only"


def test_a_screen_reader_hears_what_settles_and_not_what_is_spoken_aloud(
    address: str, status: ServiceStatus, tmp_path: Path, open_page: Open
) -> None:
    sound = speech_like(tmp_path / "speech.wav", [(3.5, False), (1.6, True), (30, False)])
    page = open_page(address, sound)
    page.evaluate(
        """() => { window.told = [];
        new MutationObserver(() => told.push(announcer.textContent))
          .observe(announcer, { childList: true, characterData: true, subtree: true }); }"""
    )
    status.report(Service.VOICE, Phase.LOADING)
    page.get_by_role("button", name="Talk").click()
    page.wait_for_timeout(2500)
    status.report(Service.VOICE, Phase.READY)
    expect(answer(page)).to_contain_text("1883", timeout=15000)
    page.wait_for_timeout(300)
    told = page.evaluate("() => told")
    assert told.count("One moment: loading the voice…") == 1
    assert "You: How old is the Brooklyn Bridge?" in told
    assert not any("1883" in text for text in told)
    assert len([text for text in told if text.startswith("You:")]) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_axe_finds_no_fault(
    address: str,
    fake: FakeServer,
    status: ServiceStatus,
    axe: Path,
    scheme: str,
    size: str,
    open_page: Open,
) -> None:
    page = open_page(address, color_scheme=scheme, bypass_csp=True)
    if size == "phone":
        page.set_viewport_size(PHONE)
    page.add_script_tag(path=axe)
    faults = {"introduction": violations(page)}

    type_turn(page, "First.")
    wait_for_sound(page)
    faults["speaking"] = violations(page)
    fake.tell(status="ERROR", turn=1, message="The language model is being restarted.")
    fake.tell(status="ERROR", message="Something went wrong.")
    expect(notice(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(answer(page)).to_contain_text("—")
    faults["answered, with errors"] = violations(page)

    page.get_by_role("button", name="Settings").click()
    faults["settings"] = violations(page)
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Keep the conversation").click()
    faults["keep"] = violations(page)
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Conversations").click()
    expect(page.locator("#found li")).to_have_count(1)
    faults["conversations"] = violations(page)
    page.get_by_role("button", name="Delete: First.").click()
    faults["deleted"] = violations(page)
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Open on another device").click()
    expect(page.get_by_role("dialog", name="Open on another device")).to_be_visible()
    faults["elsewhere"] = violations(page)
    page.get_by_role("button", name="Close").click()

    status.report(Service.VOICE, Phase.LOADING)
    fake.stop()
    expect(state(page)).to_contain_text("loading the voice")
    type_turn(page, "Second.")
    faults["loading"] = violations(page)
    assert faults == {part: [] for part in faults}


SCREENS = [(320, 568), (390, 844), (768, 640), (1400, 640), (740, 360), (320, 256)]


def test_nothing_sticks_out_of_the_screen(address: str, tmp_path: Path, open_page: Open) -> None:
    page = open_page(address, speech_like(tmp_path / "quiet.wav", [(60, False)]))
    page.get_by_role("button", name="Talk").click()
    type_turn(page, "A word as long as " + "x" * 300)
    wait_for_sound(page)
    for width, height in SCREENS:
        page.set_viewport_size({"width": width, "height": height})
        for control in ("#talk", "#typed", "#open-settings", "#stop", "#talk-hint"):
            box = page.locator(control).bounding_box()
            assert box is not None, f"{control} is not there at {width}x{height}"
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width, f"{control} at {width}x{height}"
            assert box["y"] + box["height"] <= height, f"{control} at {width}x{height}"
        if width == PHONE["width"]:
            name, last = (page.locator(one).bounding_box() for one in ("h1", "#open-settings"))
            assert name is not None
            assert last is not None
            assert abs(name["y"] - last["y"]) < 20, "name and buttons share a row"
        box = page.locator("main").bounding_box()
        assert box is not None
        assert box["height"] >= 96, f"no room to read at {width}x{height}"
        widest = page.evaluate("() => document.documentElement.scrollWidth")
        assert widest <= width
