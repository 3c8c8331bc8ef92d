"""The page's own tools: offered by a setting, carried out, and told about where one fails."""

from __future__ import annotations

import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.fake_server import FakeServer
from tests.browser.look import APP, notice, state, type_turn, wait_for_sound

pytestmark = pytest.mark.browser


def allow_tools(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Let it tell the time").check()
    page.get_by_role("button", name="Done").click()


def call(fake: FakeServer, name: str, *, by_server: bool = False, **arguments: Any) -> None:
    what = {"id": f"call-{name}", "name": name, "arguments": arguments, "by_server": by_server}
    fake.tell(event="tool_call", turn=1, **what)


def result(fake: FakeServer) -> dict[str, Any]:
    """The last `tool_result`, once it came."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        results = [each for each in fake.commands if each["command"] == "tool_result"]
        if results:
            return results[-1]
        time.sleep(0.02)
    raise AssertionError("no tool_result came")


def test_they_are_offered_where_the_setting_is_on_and_carried_out(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(address)
    type_turn(page, "Hello.")
    wait_for_sound(page)
    assert "tools" not in fake.hellos[-1]
    allow_tools(page)
    page.reload()
    type_turn(page, "What time is it?")
    wait_for_sound(page)
    names = [tool["name"] for tool in fake.hellos[-1]["tools"]]
    assert names == ["get_time", "set_timer", "end_conversation"]
    call(fake, "server_time", by_server=True)
    call(fake, "get_time")
    told = result(fake)
    assert told["id"] == "call-get_time"
    assert str(time.localtime().tm_year) in told["output"]


def test_a_timer_rings(address: str, fake: FakeServer, open_page: Open) -> None:
    page = open_page(address)
    type_turn(page, "Ring in a second.")
    wait_for_sound(page)
    page.evaluate(
        f"""async () => {{ {APP}
        app.context.createdOscillators = 0;
        const start = OscillatorNode.prototype.start;
        OscillatorNode.prototype.start = function (...when) {{
          app.context.createdOscillators += 1;
          return start.apply(this, when);
        }}; }}"""
    )
    call(fake, "set_timer", seconds=1, label="the eggs")
    assert "failed" not in result(fake)
    expect(notice(page)).to_contain_text("The timer is up: the eggs")
    assert page.evaluate(f"async () => {{ {APP} return app.context.createdOscillators; }}") == 1


def test_the_conversation_ends_after_the_goodbye(
    address: str, fake: FakeServer, open_page: Open
) -> None:
    page = open_page(address)
    type_turn(page, "Goodbye.")
    wait_for_sound(page)
    call(fake, "end_conversation")
    assert "goodbye" in result(fake)["output"]
    expect(notice(page)).to_contain_text("The conversation has ended.")
    expect(state(page)).not_to_contain_text("Listening")


def test_a_tool_that_fails_is_told(address: str, fake: FakeServer, open_page: Open) -> None:
    page = open_page(address)
    type_turn(page, "Hello.")
    wait_for_sound(page)
    what = {"id": "x", "name": "weather", "failed": True, "message": "no answer within 20 s"}
    fake.tell(event="tool_ended", turn=1, **what)
    expect(notice(page)).to_contain_text("A tool failed: no answer within 20 s")
