"""What the page says and does when something is not as it should be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from fusion.serving.web import WebServer
from fusion.settings import Settings
from fusion.status import Phase, Service, ServiceStatus
from tests.browser.conftest import Open, speech_like
from tests.browser.fake_server import CLAUSES, FakeServer
from tests.browser.look import (
    answer,
    counters,
    notice,
    said,
    state,
    turns,
    type_turn,
    wait_for_sound,
    wait_until,
    wait_until_played,
)
from tests.running import free_ports
from voices.sending import UNSPOKEN

pytestmark = pytest.mark.browser

REPLY = " ".join(CLAUSES)
ELSEWHERE = "--host-resolver-rules=MAP phone.test 127.0.0.1"


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    return speech_like(tmp_path / "speech.wav", [(0.8, False), (1.6, True), (30, False)])


def test_while_models_load_the_page_says_which(
    address: str, status: ServiceStatus, speech: Path, open_page: Open
) -> None:
    status.report(Service.VOICE, Phase.LOADING)
    page = open_page(address, speech)
    expect(state(page)).to_contain_text("loading the voice")
    page.get_by_role("button", name="Talk").click()
    expect(state(page)).to_contain_text("loading the voice")
    expect(page.locator("#talk-hint")).to_contain_text("Not listening yet")
    status.report(Service.VOICE, Phase.READY)
    expect(state(page)).to_have_text("Listening")
    expect(page.locator("#talk-hint")).to_contain_text("Listening")


def test_a_voice_that_fails_leaves_the_answer_to_read(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    fake.voice_fails = True
    page = open_page(address)
    type_turn(page, "How old is it?")
    expect(page.locator(".problem")).to_have_text(UNSPOKEN, timeout=10000)
    wait_until_played(page)
    expect(answer(page).locator(".clause")).to_have_text([REPLY])
    fake.voice_fails = False
    type_turn(page, "And now?")
    expect(answer(page, 1)).to_contain_text(REPLY, timeout=10000)
    expect(page.locator(".problem")).to_have_count(1)


def test_the_server_restarts_under_the_page(
    address: str, fake: FakeServer, status: ServiceStatus, open_page: Open
) -> None:
    page = open_page(address)
    type_turn(page, "First.")
    expect(answer(page)).to_contain_text(REPLY, timeout=10000)
    wait_until_played(page)

    fake.stop()
    expect(state(page)).to_contain_text("No connection")
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    status.report(Service.TRANSCRIPTION, Phase.LOADING)
    expect(state(page)).to_contain_text("loading the transcriber")
    fake.start()
    status.report(Service.TRANSCRIPTION, Phase.READY)
    expect(state(page)).to_have_text("Connected")

    type_turn(page, "Second.")
    expect(answer(page, 1)).to_contain_text(REPLY, timeout=10000)
    expect(said(page, 0)).to_contain_text("First.")
    assert fake.hellos[0]["history"] == []
    assert fake.hellos[-1]["history"] == [
        {"role": "user", "content": "First."},
        {"role": "assistant", "content": REPLY},
    ]


def test_a_restart_in_the_middle_of_an_answer_ends_it_and_says_so(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(address)
    type_turn(page, "First.")
    wait_for_sound(page)
    fake.stop()
    expect(answer(page)).to_contain_text("—")
    wait_until(page, "app.player.audible === null")
    fake.start()
    expect(state(page)).to_have_text("Connected", timeout=10000)
    type_turn(page, "Second.")
    expect(answer(page, 1)).to_contain_text(REPLY, timeout=10000)


def test_a_question_that_the_lost_server_did_not_answer_is_asked_again(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    fake.offers = {"resume_key": "r 1", "resumed": False}
    page = open_page(address)
    type_turn(page, "First.")
    expect(answer(page)).to_contain_text(REPLY, timeout=10000)
    wait_until_played(page)
    fake.silent = True
    type_turn(page, "Second.")
    expect(said(page, 1)).to_contain_text("Second.")
    fake.stop()
    fake.silent = False
    fake.start()
    expect(answer(page, 1)).to_contain_text(REPLY, timeout=10000)
    expect(turns(page)).to_have_count(2)
    assert [command["text"] for command in fake.commands] == ["First.", "Second.", "Second."]
    assert [turn["content"] for turn in fake.hellos[-1]["history"]] == ["First.", REPLY]


def test_only_the_sound_breaks_and_comes_back(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(address)
    type_turn(page, "First.")
    wait_for_sound(page)
    fake.hang_up_sound()
    wait_until(page, "app.connection.soundLost !== null")
    wait_until(page, "app.connection.soundLost === null")
    wait_until(page, "app.conversation.sounding === true")
    wait_until(page, "app.connection.state.name === 'ready'")
    played = counters(page)["played"]
    type_turn(page, "Second.")
    expect(answer(page, 1)).to_contain_text(REPLY, timeout=10000)
    assert counters(page)["played"] > played


def test_a_refused_microphone_is_explained_and_typing_goes_on(
    address: str, speech: Path, open_page: Open
) -> None:
    page = open_page(address, speech, allowed=False)
    page.get_by_role("button", name="Talk").click()
    expect(notice(page)).to_contain_text("does not let this page use the microphone")
    expect(page.get_by_role("button", name="Talk")).to_have_attribute("aria-pressed", "false")
    type_turn(page, "I type.")
    expect(answer(page)).to_contain_text(REPLY, timeout=10000)


def test_a_missing_microphone_is_explained_until_there_is_one(
    address: str, open_page: Open
) -> None:
    page = open_page(address, permissions=["microphone"])
    page.get_by_role("button", name="Talk").click()
    expect(notice(page)).to_contain_text("There is no microphone")
    page.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = async () =>
        new MediaStreamAudioDestinationNode(new AudioContext()).stream; }"""
    )
    page.get_by_role("button", name="Talk").click()
    expect(state(page)).to_have_text("Listening")
    expect(notice(page)).to_be_hidden()


def test_a_server_that_is_away_at_the_first_press_is_no_dead_end(
    fake: FakeServer, status: ServiceStatus, speech: Path, tmp_path: Path, open_page: Open
) -> None:
    settings = dataclasses.replace(
        Settings(),
        host="127.0.0.1",
        web_port=free_ports(1)[0],
        transcription_port=fake.transcription_port,
        speech_port=fake.speech_port,
        cache=str(tmp_path),
    )
    before, after = WebServer(settings, status), WebServer(settings, status)
    before.start()
    page = open_page(f"http://localhost:{settings.web_port}/", speech)
    expect(state(page)).to_have_text("Ready when you are")
    before.stop()
    page.get_by_role("button", name="Talk").click()
    expect(notice(page)).to_contain_text("could not be started")
    expect(page.locator("#talk-hint")).to_have_text("Press to talk")
    after.start()
    page.get_by_role("button", name="Talk").click()
    expect(answer(page)).to_contain_text(CLAUSES[0], timeout=10000)
    wait_for_sound(page)
    after.stop()


def test_an_address_that_may_not_use_the_microphone_is_explained(
    web: WebServer, open_page: Open
) -> None:
    page = open_page(f"http://phone.test:{web.port}/", flags=[ELSEWHERE])
    page.set_viewport_size({"width": 390, "height": 780})
    expect(notice(page)).to_contain_text("--tls")
    page.wait_for_timeout(1000)
    expect(page.get_by_role("link", name="Open this page with https")).to_be_hidden()
    box = page.get_by_label("Type instead of speaking").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 780, "the notice pushes the controls out of the screen"
    type_turn(page, "I type.")
    expect(answer(page)).to_contain_text(REPLY, timeout=10000)


def test_when_every_place_is_taken_the_page_waits_for_one(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    fake.places = 0
    page = open_page(address)
    type_turn(page, "Hello?")
    expect(state(page)).to_contain_text("All places are taken. Next try in")
    expect(notice(page)).to_contain_text("4 minutes")
    fake.places = 1
    page.get_by_role("button", name="Try now").click()
    expect(state(page)).to_have_text("Connected")
    expect(notice(page)).to_be_hidden()
    expect(said(page)).to_contain_text("Hello?")


def test_a_refusal_is_shown_and_a_right_token_mends_it(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    fake.refusal = 'The "token" is missing or wrong.'
    page = open_page(address)
    type_turn(page, "Hello?")
    expect(notice(page)).to_contain_text('The "token" is missing or wrong.')
    fake.refusal = ""
    page.locator("#notice").get_by_label("Access token").fill("secret")
    page.get_by_role("button", name="Connect").click()
    expect(state(page)).to_have_text("Connected")
    assert fake.hellos[-1]["token"] == "secret"


def test_a_token_in_the_invitation_is_taken_and_hidden(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(f"{address}#token=a%20b")
    assert page.url == address
    type_turn(page, "Hello?")
    expect(said(page)).to_contain_text("Hello?")
    assert fake.hellos[0]["token"] == "a b"


def test_at_the_time_limit_who_talks_goes_on_and_who_does_not_is_told(
    address: str, fake: FakeServer, tmp_path: Path, open_page: Open
) -> None:
    page = open_page(address, speech_like(tmp_path / "quiet.wav", [(30, False)]))
    page.get_by_role("button", name="Talk").click()
    expect(state(page)).to_have_text("Listening")
    fake.tell(message="DISCONNECT")
    fake.hang_up()
    wait_until(page, "app.connection.state.name === 'ready'")
    expect(state(page)).to_have_text("Listening")
    assert len(fake.hellos) == 2

    page.get_by_role("button", name="Talk").click()
    fake.tell(message="DISCONNECT")
    fake.hang_up()
    expect(notice(page)).to_contain_text("time limit")
    expect(state(page)).to_have_text("Ready when you are")


def test_a_turn_that_cannot_be_answered_says_why(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(address)
    type_turn(page, "First.")
    expect(said(page)).to_be_visible()
    fake.tell(status="ERROR", turn=1, message="The language model is being restarted.")
    expect(turns(page).locator(".problem")).to_have_text("The language model is being restarted.")


def test_the_conversation_survives_a_reload(address: str, open_page: Open) -> None:
    page = open_page(address)
    type_turn(page, "First.")
    expect(answer(page)).to_contain_text(REPLY, timeout=10000)
    wait_until_played(page)
    page.reload()
    expect(said(page)).to_contain_text("First.")
    expect(answer(page)).to_contain_text(REPLY)


def test_the_ports_can_be_used_directly(fake: FakeServer, web: WebServer, open_page: Open) -> None:
    ports = f"transcription_port={fake.transcription_port}&speech_port={fake.speech_port}"
    page = open_page(f"http://localhost:{web.port}/?ws=127.0.0.1&{ports}")
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    type_turn(page, "Hello.")
    expect(answer(page)).to_contain_text(REPLY, timeout=10000)
    expect(state(page)).to_have_text("Connected · 127.0.0.1")
    assert sockets[0] == f"ws://127.0.0.1:{fake.transcription_port}/"
    assert sockets[1].startswith(f"ws://127.0.0.1:{fake.speech_port}/?key=")


@pytest.fixture
def secure(fake: FakeServer, status: ServiceStatus, tmp_path: Path) -> Iterator[WebServer]:
    settings = dataclasses.replace(
        Settings(), host="127.0.0.1", web_port=0, cache=str(tmp_path / "cache"), tls=True
    )
    fake.secure(settings)
    server = WebServer(
        dataclasses.replace(
            settings,
            transcription_port=fake.transcription_port,
            speech_port=fake.speech_port,
        ),
        status,
    )
    server.start()
    yield server
    server.stop()


def test_over_tls_a_phone_may_talk(secure: WebServer, speech: Path, open_page: Open) -> None:
    page = open_page(
        f"https://phone.test:{secure.port}/", speech, flags=[ELSEWHERE], ignore_https_errors=True
    )
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.get_by_role("button", name="Talk").click()
    expect(answer(page)).to_contain_text(CLAUSES[0], timeout=10000)
    wait_for_sound(page)
    assert all(url.startswith(f"wss://phone.test:{secure.port}/") for url in sockets)
