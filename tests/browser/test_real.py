"""The page with the real program and its real models, from microphone to loudspeaker."""

from __future__ import annotations

import re
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from fusion.serving.web import PAGE
from tests.browser.conftest import Open
from tests.browser.look import (
    answer,
    counters,
    entries,
    said,
    sound_now,
    state,
    type_turn,
    wait_for_silence,
    wait_for_sound,
    wait_until,
    wait_until_played,
)
from tests.nginx import Nginx
from tests.running import RunningServer

pytestmark = [pytest.mark.browser, pytest.mark.e2e, pytest.mark.timeout(400)]

AUDIO = Path(__file__).parent.parent / "audio"
PATIENCE = 60000  # ms; a busy machine with two slow cores runs all three models and the browser


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(flags=("--max_new_tokens", "30")) as running:  # each word is played out
        yield running


@pytest.fixture(params=["main", pytest.param("nginx", marks=pytest.mark.nginx)])
def origin(request: pytest.FixtureRequest, server: RunningServer, tmp_path: Path) -> Iterator[str]:
    """The page as main.py serves it, and as nginx does."""
    if request.param == "main":
        yield f"http://localhost:{server.web_port}/"
        return
    nginx = Nginx(
        tmp_path / "nginx",
        PAGE,
        transcription_port=server.transcription_port,
        speech_port=server.speech_port,
    )
    nginx.start()
    yield f"http://localhost:{nginx.port}/"
    nginx.stop()


@pytest.fixture
def question(tmp_path: Path) -> Path:
    """A recorded question after two seconds of quiet: the browser's noise suppression and gain
    control take that long, and people take a breath as well."""
    path = tmp_path / "question.wav"
    with wave.open(str(AUDIO / "meaning_of_life.wav")) as source, wave.open(str(path), "wb") as out:
        out.setparams(source.getparams())
        out.writeframes(bytes(2 * 2 * source.getframerate()))
        out.writeframes(source.readframes(source.getnframes()))
    return path


def test_a_question_is_understood_and_answered_aloud(
    origin: str, question: Path, open_page: Open
) -> None:
    page = open_page(origin, question)
    page.get_by_role("button", name="Talk").click()
    expect(said(page)).to_contain_text(re.compile("meaning of life", re.I), timeout=PATIENCE)
    expect(answer(page)).to_be_visible(timeout=PATIENCE)
    wait_for_sound(page)
    wait_until(page, "app.conversation.entries[0].reply.complete", timeout=60)
    wait_until(page, "app.player.audible === null", timeout=60)
    wait_until_played(page)
    entry = entries(page)[0]
    played = " ".join(clause["text"] for clause in entry["reply"]["clauses"])
    assert played.split() == entry["reply"]["text"].split(), "every word of the reply was played"
    rate = page.evaluate("() => new AudioContext().sampleRate")
    played = counters(page)["played"] / rate
    length = (entry["reply"]["clauses"][-1]["end"] - entry["reply"]["clauses"][0]["start"]) / 1000
    assert played > 0.5
    assert played == pytest.approx(length, abs=1.0)
    assert entry["timeline"]["first_sound"] > 0


def test_the_voice_stops_when_it_is_told_to(server: RunningServer, open_page: Open) -> None:
    page = open_page(f"http://localhost:{server.web_port}/")
    type_turn(page, "Tell me a long story about a bridge.")
    wait_for_sound(page, timeout=60)
    expect(answer(page)).to_be_visible(timeout=PATIENCE)
    page.wait_for_timeout(700)  # some words of it were played
    page.keyboard.press("Escape")
    wait_for_silence(page)
    expect(answer(page)).to_contain_text("—")
    page.wait_for_timeout(1500)
    assert sound_now(page)["strength"] < 0.001, "what was still on its way is not played"
    type_turn(page, "What is two and two?")
    expect(answer(page, 1)).to_be_visible(timeout=PATIENCE)


def test_a_service_that_is_killed_comes_back_under_the_page(
    server: RunningServer, open_page: Open
) -> None:
    page = open_page(f"http://localhost:{server.web_port}/")
    type_turn(page, "Hello there.")
    expect(answer(page)).to_be_visible(timeout=PATIENCE)
    wait_until(page, "app.player.audible === null", timeout=60)
    server.kill("transcription")
    expect(state(page)).to_contain_text(re.compile("transcriber|No connection"), timeout=PATIENCE)
    expect(state(page)).to_have_text("Connected", timeout=PATIENCE)
    answered(page, "Are you still there?", 1)
    assert "Hello there." in said(page).inner_text()


def test_a_german_page_has_all_comforts(
    server: RunningServer, question: Path, open_page: Open
) -> None:
    page = open_page(f"http://localhost:{server.web_port}/", question, locale="de-DE")
    page.get_by_role("button", name="Einstellungen").click()
    page.locator("#language").select_option("en")
    preview = page.get_by_role("button", name="Anhören")
    expect(preview).to_be_enabled(timeout=PATIENCE)
    preview.click()
    wait_for_sound(page, timeout=60)
    wait_until(page, "app.player.audible === null", timeout=60)
    page.get_by_role("button", name="Fertig").click()

    page.get_by_role("button", name="Sprechen").click()
    expect(said(page)).to_contain_text(re.compile("meaning of life", re.I), timeout=PATIENCE)
    expect(answer(page)).to_be_visible(timeout=PATIENCE)
    mute = page.get_by_role("button", name="Mikrofon stummschalten")
    mute.click()
    expect(page.locator("#talk-hint")).to_have_text("Stumm: nichts wird gesendet")
    wait_until(
        page, "app.player.audible === null && app.conversation.entries[0].reply.complete", 60
    )
    expect(page.locator(".timeline summary")).to_have_text(re.compile(r"^\d+,\d s$"))
    page.get_by_role("button", name="Noch einmal abspielen").click()
    wait_for_sound(page)
    page.keyboard.press("Escape")
    wait_for_silence(page)
    mute.click()
    wait_until(page, "app.talk.listening")
    page.get_by_role("button", name="Sprechen").click()

    page.get_by_role("button", name="Neues Gespräch").click()
    page.get_by_role("button", name="Was kannst du?").click()
    expect(answer(page)).to_be_visible(timeout=PATIENCE)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Gespräche", exact=True).click()
    page.get_by_label("Suchen").fill("meaning")
    page.locator("#found [data-act=open]").click()
    expect(said(page)).to_contain_text(re.compile("meaning of life", re.I))
    wait_until(page, "app.connection.connected", timeout=60)


def answered(page: Page, text: str, turn: int) -> None:
    type_turn(page, text)
    expect(said(page, turn)).to_contain_text(text, timeout=PATIENCE)
    expect(answer(page, turn)).to_be_visible(timeout=PATIENCE)
