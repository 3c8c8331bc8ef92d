"""Which session an audio connection hears that names no key."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection

from fusion.messages import SessionStarted
from voices.pairing import AT_ONCE, NEAR, KeylessConnection, choose
from voices.sending import PATIENCE, SpeechSession

HOME, AWAY = "192.0.2.7", "198.51.100.9"


def session(name: str, began: float, address: str = HOME, *, keys: bool = False) -> SpeechSession:
    started = SessionStarted(name, f"key-{name}", address, "en", "", "", knows_keys=keys)
    return SpeechSession(started, free_since=began)


def chosen(sessions: list[SpeechSession], came_at: float, now: float, *played: str) -> str | None:
    found = choose(KeylessConnection(HOME, came_at, set(played)), sessions, now)
    return found.session if found is not None else None


@pytest.mark.parametrize(
    ("came_at", "now", "name"),
    [
        (100.0, 100.0, "a"),  # at once
        (100.5, 100.5, "a"),
        (99.5, 100.0, "a"),  # the connection came first
        (105.0, 105.5, None),  # its own session may still come
        (105.0, 106.0, "a"),
        (100.0 + NEAR + 0.1, 115.0, None),  # somebody else's
        (90.0 - 0.1, 100.0, None),
    ],
)
def test_a_connection_waits_for_the_handshake_of_its_time(
    came_at: float, now: float, name: str | None
) -> None:
    assert chosen([session("a", 100.0)], came_at, now) == name


def test_two_clients_behind_one_router_each_hear_their_own() -> None:
    sessions = [session("a", 100.0), session("b", 104.0)]
    assert chosen(sessions, 104.1, 104.1) == "b"  # the one of `a` has never opened its own
    assert chosen(sessions, 100.1, 104.5) == "a"
    # The connection that came before the handshake of `b` waits for it.
    assert chosen(sessions[:1], 103.9, 103.9) is None
    assert chosen(sessions, 103.9, 104.0) == "b"


def test_no_session_from_elsewhere_or_with_keys() -> None:
    assert chosen([session("a", 100.0, AWAY)], 100.0, 102.0) is None
    assert chosen([session("a", 100.0, keys=True)], 100.0, 102.0) is None
    keyed = session("a", 100.0)
    keyed.keyed = True
    assert chosen([keyed], 100.0, 102.0) is None
    taken = session("a", 100.0)
    taken.connection = cast("ServerConnection", object())
    assert chosen([taken], 100.0, 102.0) is None


def test_the_next_session_of_an_old_client_goes_first_to_who_comes_with_it() -> None:
    sessions = [session("b", 500.0)]
    assert chosen(sessions, 100.0, 500.1, "a") is None
    assert chosen(sessions, 500.1, 500.1) == "b"
    assert chosen(sessions, 100.0, 500.0 + AT_ONCE, "a") == "b"


def test_a_connection_gets_its_session_back_from_one_with_the_key() -> None:
    displaced = session("a", 200.0)
    displaced.keyed = True
    assert chosen([displaced], 100.0, 200.0 + PATIENCE - 0.1, "a") is None  # it may come back
    assert chosen([displaced], 100.0, 200.0 + PATIENCE, "a") == "a"
    assert chosen([displaced], 100.0, 200.0 + PATIENCE, "other") is None


TIMES = st.floats(0, 1000)


@given(st.lists(st.tuples(TIMES, st.sampled_from((HOME, AWAY)), st.booleans())), TIMES, TIMES)
def test_a_stranger_s_session_is_never_heard(
    began: list[tuple[float, str, bool]], came_at: float, waited: float
) -> None:
    sessions = [
        session(str(number), at, address, keys=keys)
        for number, (at, address, keys) in enumerate(began)
    ]
    found = choose(KeylessConnection(HOME, came_at), sessions, came_at + waited)
    if found is not None:
        assert found.started.address == HOME
        assert not found.started.knows_keys
        assert abs(found.free_since - came_at) <= NEAR
        same = [each for each in sessions if each.started.address == HOME]
        own = [abs(each.free_since - came_at) for each in same if not each.started.knows_keys]
        assert abs(found.free_since - came_at) == min(own)
