"""A person talks with the page: the scripted server hears, answers and is interrupted."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from fusion.serving.web import WebServer
from tests.browser import fake_server
from tests.browser.conftest import Open, speech_like
from tests.browser.fake_server import CLAUSES, TONE, WORDS, FakeServer
from tests.browser.look import (
    answer,
    choose,
    counters,
    entries,
    said,
    sound_now,
    state,
    turns,
    type_turn,
    wait_for_silence,
    wait_for_sound,
    wait_until,
    wait_until_played,
)
from tests.nginx import Nginx

pytestmark = pytest.mark.browser

REPLY = " ".join(CLAUSES)
AT_ONCE = 0.5  # seconds; with what the test itself takes on a busy machine. The reply lasts 3 s.


@pytest.fixture
def question(tmp_path: Path) -> Path:
    return speech_like(tmp_path / "question.wav", [(0.8, False), (1.6, True), (30, False)])


@pytest.fixture
def interruption(tmp_path: Path) -> Path:
    """A question, then speech over its answer."""
    pattern = [(0.8, False), (1.6, True), (1.6, False), (1.5, True), (30, False)]
    return speech_like(tmp_path / "interruption.wav", pattern)


@pytest.fixture(params=["main", pytest.param("nginx", marks=pytest.mark.nginx)])
def origin(request: pytest.FixtureRequest) -> str:
    """The page as main.py serves it, and as nginx does."""
    if request.param == "main":
        web: WebServer = request.getfixturevalue("web")
        return f"http://localhost:{web.port}/"
    nginx: Nginx = request.getfixturevalue("nginx")
    return f"http://localhost:{nginx.port}/"


def test_a_spoken_question_is_heard_and_answered_aloud(
    origin: str, fake: FakeServer, question: Path, open_page: Open
) -> None:
    page = open_page(origin, question)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(
        """() => { window.faded = []; document.addEventListener("animationstart", ({ target }) => {
        if (target.className === "clause") faded.push(target.textContent); }); }"""
    )
    expect(state(page)).to_have_text("Ready when you are")
    page.get_by_role("button", name="Talk").click()
    expect(state(page)).to_have_text("Listening")

    expect(said(page).locator(".interim")).to_contain_text("How old")
    expect(said(page)).to_have_text(f"You{WORDS[-1]} ")
    expect(said(page).locator(".interim")).to_have_count(0)

    expect(answer(page)).to_contain_text(CLAUSES[0])
    wait_for_sound(page)
    now = sound_now(page)
    assert now["state"] == "running"
    assert now["strength"] > 0.1
    assert abs(now["pitch"] - TONE) < 50, "it is the sound that the server sent"
    assert CLAUSES[-1] not in answer(page).inner_text(), "words do not run ahead of the voice"

    expect(answer(page)).to_contain_text(REPLY, timeout=10000)
    wait_until_played(page)
    played = counters(page)
    rate = page.evaluate("new AudioContext().sampleRate")
    assert abs(played["played"] - len(CLAUSES) * rate) < 0.01 * rate
    assert (played["underruns"], played["dropped"], played["waiting"]) == (0, 0, 0)
    expect(turns(page).locator(".timeline summary")).to_have_text("0.5 s")
    turns(page).locator(".timeline summary").click()
    expect(turns(page).locator(".timeline")).to_contain_text("first sound")
    assert page.evaluate("() => faded") == CLAUSES, "what is there does not fade in again"
    assert all(url.startswith((origin, origin.replace("http", "ws"))) for url in asked)

    hello = fake.hellos[0]
    assert (hello["audio_format"], hello["sample_rate"], hello["stream"]) == ("int16", 16000, True)


def test_what_the_model_says_is_text_and_never_markup(
    web: WebServer, address: str, open_page: Open
) -> None:
    page = open_page(address)
    type_turn(page, "<img src=x onerror=alert(1)>")
    expect(answer(page)).to_contain_text("<b>old</b>", timeout=10000)
    expect(page.locator("#conversation b, #conversation img")).to_have_count(0)


def test_markdown_is_shown_with_its_looks_and_a_silent_part_with_its_reason(
    fake: FakeServer, address: str, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_server, "CLAUSES", ["It is **very", "old** and `new`.", "東京"])
    fake.left_out = "This voice cannot say Chinese writing."
    page = open_page(address)
    type_turn(page, "What is it?")
    expect(turns(page).locator(".left-out")).to_have_text(fake.left_out, timeout=10000)
    expect(answer(page)).to_contain_text("It is very old and new. 東京", timeout=10000)
    expect(answer(page).locator("strong")).to_have_text(["very", "old"])
    expect(answer(page).locator("code")).to_have_text(["new"])


def test_speaking_over_the_answer_stops_it_at_once(
    origin: str, interruption: Path, open_page: Open
) -> None:
    page = open_page(origin, interruption)
    page.get_by_role("button", name="Talk").click()
    wait_for_sound(page)
    wait_for_silence(page)
    played = counters(page)["played"]
    expect(answer(page)).to_contain_text("—")
    assert CLAUSES[-1] not in answer(page).inner_text()
    expect(answer(page, 1)).to_contain_text(REPLY, timeout=15000)
    first, second = entries(page)
    assert first["reply"]["cut"]
    assert not second["reply"]["cut"]
    rate = page.evaluate("new AudioContext().sampleRate")
    assert played < 2.6 * rate, "the first answer was not played to its end"


def test_escape_and_the_stop_button_silence_the_voice_here_and_there(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(address)
    for turn, stop in enumerate(("key", "button")):
        type_turn(page, "Tell me.")
        wait_for_sound(page)
        if stop == "key":
            page.keyboard.press("Escape")
        else:
            page.get_by_role("button", name="Stop").click()
        began = time.monotonic()
        wait_for_silence(page)
        assert time.monotonic() - began < AT_ONCE
        expect(answer(page, turn)).to_contain_text("—")
        expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    assert [command["command"] for command in fake.commands].count("interrupt") == 2


def test_the_server_s_flush_alone_stops_the_voice(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(address)
    type_turn(page, "Tell me.")
    wait_for_sound(page)
    client = fake.clients[-1]
    assert client.reply is not None
    fake.interrupt()
    began = time.monotonic()
    wait_for_silence(page)
    assert time.monotonic() - began < AT_ONCE
    expect(answer(page)).to_contain_text("—")


def test_hold_to_talk_sends_sound_only_while_held(
    address: str, fake: FakeServer, tmp_path: Path, open_page: Open
) -> None:
    steady = speech_like(tmp_path / "steady.wav", [(60, True)])
    page = open_page(address, steady)
    choose(page, "Hold the button")
    button = page.get_by_role("button", name="Talk")
    expect(page.locator("#talk-hint")).to_have_text("Hold to talk")

    box = button.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(state(page)).to_have_text("Listening")
    expect(said(page)).to_contain_text("How old")
    page.mouse.up()
    expect(state(page)).to_have_text("Connected")
    expect(page.get_by_role("meter")).to_have_attribute("aria-valuenow", "0")
    expect(said(page)).to_contain_text(WORDS[-1])
    assert {"command": "end_turn"} in fake.commands
    sent = fake.clients[-1].samples
    page.wait_for_timeout(700)
    assert fake.clients[-1].samples == sent, "nothing is sent once the button is up"

    wait_for_sound(page)
    page.locator("main").focus()
    page.keyboard.down(" ")
    wait_for_silence(page)  # who begins to talk wants no answer any more
    expect(said(page, 1)).to_contain_text("How old")
    page.keyboard.up(" ")
    expect(said(page, 1)).to_contain_text(WORDS[-1])


def test_what_was_said_and_done_before_the_server_was_there_is_a_turn(
    address: str, fake: FakeServer, tmp_path: Path, open_page: Open
) -> None:
    page = open_page(address, speech_like(tmp_path / "steady.wav", [(60, True)]))
    choose(page, "Hold the button")
    fake.stop()
    page.locator("main").focus()
    page.keyboard.down(" ")
    wait_until(page, "app.talk.waiting.length > 20")
    page.keyboard.up(" ")
    type_turn(page, "Typed meanwhile.")
    expect(page.locator("#waiting")).to_contain_text("Typed meanwhile.")
    fake.start()
    expect(said(page)).to_contain_text(WORDS[-1])
    expect(said(page, 1)).to_contain_text("Typed meanwhile.")
    expect(page.locator("#waiting")).to_be_empty()


def test_a_space_that_is_typed_does_not_open_the_microphone(
    address: str, fake: FakeServer, question: Path, open_page: Open
) -> None:
    page = open_page(address, question)
    choose(page, "Hold the button")
    field = page.get_by_label("Type instead of speaking")
    field.click()
    page.keyboard.type("two words")
    expect(field).to_have_value("two words")
    expect(page.get_by_role("button", name="Talk")).to_have_attribute("aria-pressed", "false")
    assert not any(client.samples for client in fake.clients)


def test_the_level_meter_follows_the_voice(address: str, question: Path, open_page: Open) -> None:
    page = open_page(address, question)
    meter = page.get_by_role("meter", name="Microphone level")
    expect(meter).to_have_attribute("aria-valuenow", "0")
    page.get_by_role("button", name="Talk").click()
    page.wait_for_function("() => Number(document.getElementById('level').ariaValueNow) > 40")
    page.wait_for_function("() => Number(document.getElementById('level').ariaValueNow) < 20")


def test_the_button_again_ends_the_turn_and_lets_the_microphone_go(
    address: str, fake: FakeServer, tmp_path: Path, open_page: Open
) -> None:
    page = open_page(address, speech_like(tmp_path / "steady.wav", [(60, True)]))
    button = page.get_by_role("button", name="Talk")
    button.dblclick()  # as once
    expect(said(page)).to_contain_text("How old")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Volume").fill("0.5")
    page.get_by_role("button", name="Done").click()
    expect(state(page)).to_have_text("Listening")
    button.click()
    expect(said(page)).to_contain_text(WORDS[-1])
    expect(state(page)).to_have_text("Connected")
    expect(button).to_have_attribute("aria-pressed", "false")
    sent = fake.clients[-1].samples
    page.wait_for_timeout(500)
    assert fake.clients[-1].samples == sent
